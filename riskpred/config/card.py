"""The items of a model card, and card.yaml: what only those responsible for a model can say of it.

TRIPOD_AI: the 27 items of the TRIPOD+AI checklist with their parts, 52 in all. Source: Collins et al. 2024, BMJ
385:e078378, table 2.
HTI_1: the 31 source attributes of a predictive decision support intervention. Source: 45 CFR 170.315(b)(11)(iv)(B),
89 FR 1192 (9 January 2024). Titles in short, in our words: riskpred/report/card_items.py.

A study's card.yaml has a text by item; an item that riskpred fills from what it measured then shows both:

    tripod_ai: {funding: "Nobody paid for this.", ethical_approval: "Board of X, 2026/17."}
    hti_1: {developer: "Risk team, risk@hospital.example"}
"""

import difflib
from typing import Final

from pydantic import Field, field_validator

from riskpred.config.model import Strict, load
from riskpred.config.study import study_folder

TRIPOD_AI: Final[dict[str, str]] = {
    "title": "1",
    "abstract": "2",
    "context": "3a",
    "target_population": "3b",
    "inequalities": "3c",
    "objectives": "4",
    "data_sources": "5a",
    "dates": "5b",
    "setting": "6a",
    "eligibility": "6b",
    "treatments": "6c",
    "data_preparation": "7",
    "outcome_definition": "8a",
    "outcome_assessors": "8b",
    "outcome_blinding": "8c",
    "predictor_choice": "9a",
    "predictor_definitions": "9b",
    "predictor_assessors": "9c",
    "sample_size": "10",
    "missing_data": "11",
    "data_use": "12a",
    "predictor_handling": "12b",
    "model_building": "12c",
    "clusters": "12d",
    "performance_measures": "12e",
    "updating_method": "12f",
    "predictions_made": "12g",
    "class_imbalance": "13",
    "fairness": "14",
    "model_output": "15",
    "training_versus_evaluation": "16",
    "ethical_approval": "17",
    "funding": "18a",
    "conflicts": "18b",
    "protocol": "18c",
    "registration": "18d",
    "data_sharing": "18e",
    "code_sharing": "18f",
    "patient_involvement": "19",
    "flow": "20a",
    "characteristics": "20b",
    "comparison": "20c",
    "numbers": "21",
    "specification": "22",
    "performance": "23a",
    "heterogeneity": "23b",
    "updating_results": "24",
    "interpretation": "25",
    "limitations": "26",
    "poor_inputs": "27a",
    "user_interaction": "27b",
    "next_steps": "27c",
}
"""Item -> its number in the checklist."""

HTI_1: Final[dict[str, str]] = {
    "developer": "(1)(i)",
    "funding": "(1)(ii)",
    "output_value": "(1)(iii)",
    "output_type": "(1)(iv)",
    "intended_use": "(2)(i)",
    "intended_population": "(2)(ii)",
    "intended_users": "(2)(iii)",
    "decision_role": "(2)(iv)",
    "cautioned_use": "(3)(i)",
    "known_risks": "(3)(ii)",
    "training_criteria": "(4)(i)",
    "demographic_inputs": "(4)(ii)",
    "training_representativeness": "(4)(iii)",
    "training_relevance": "(4)(iv)",
    "fairness_approach": "(5)(i)",
    "bias_management": "(5)(ii)",
    "external_source": "(6)(i)",
    "external_party": "(6)(ii)",
    "external_representativeness": "(6)(iii)",
    "external_process": "(6)(iv)",
    "internal_validity": "(7)(i)",
    "internal_fairness": "(7)(ii)",
    "external_validity": "(7)(iii)",
    "external_fairness": "(7)(iv)",
    "outcome_evaluations": "(7)(v)",
    "validity_monitoring": "(8)(i)",
    "local_validity": "(8)(ii)",
    "fairness_monitoring": "(8)(iii)",
    "local_fairness": "(8)(iv)",
    "update_process": "(9)(i)",
    "correction_frequency": "(9)(ii)",
}
"""Attribute -> its place in (b)(11)(iv)(B)."""


class CardTexts(Strict):
    """card.yaml: a text by item; both may be empty."""

    tripod_ai: dict[str, str] = Field(default_factory=dict, description="keys of TRIPOD_AI")
    hti_1: dict[str, str] = Field(default_factory=dict, description="keys of HTI_1")

    @field_validator("tripod_ai")
    @classmethod
    def _known_tripod_ai(cls, texts: dict[str, str]) -> dict[str, str]:
        return _checked(texts, TRIPOD_AI)

    @field_validator("hti_1")
    @classmethod
    def _known_hti_1(cls, texts: dict[str, str]) -> dict[str, str]:
        return _checked(texts, HTI_1)


def _checked(texts: dict[str, str], items: dict[str, str]) -> dict[str, str]:
    unknown = [
        name + (f" ({near[0]}?)" if (near := difflib.get_close_matches(name, items, 1)) else "")
        for name in texts
        if name not in items
    ]
    if unknown:
        raise ValueError(f"no item of the card: {', '.join(unknown)}; items: {', '.join(items)}")
    empty = [name for name, text in texts.items() if not text.strip()]
    if empty:
        raise ValueError(f"no text: {', '.join(empty)}; leave out what is not known")
    return texts


def load_card_texts(study: str) -> CardTexts:
    """card.yaml of a study; nothing where there is none. Raises: ConfigError."""
    path = study_folder(study) / "card.yaml"
    return load(CardTexts, path) if path.is_file() else CardTexts()
