"""The model card: every item stands there, filled from what was measured, given by people, or said not to be."""

import json
from typing import Any

import pytest

from riskpred.config.card import HTI_1, TRIPOD_AI
from riskpred.evaluate import metrics
from riskpred.report import card_items
from riskpred.report.model_card import card_page, describe

ABOUT = {"version": "1", "sha256": "a" * 64, "promotion": "passed"}
FIGURES = {
    "uno_c": {"value": 0.7712, "low": 0.7, "high": 0.84},
    "observed": {"value": 0.092, "low": 0.08, "high": 0.104},
    "expected": {"value": 0.089, "low": None, "high": None},
    "observed_over_expected": {"value": 1.034, "low": 0.9, "high": 1.17},
    "slope": {"value": 0.98, "low": 0.8, "high": 1.2},
    "citl": {"value": -0.001, "low": -0.2, "high": 0.2},
    "ici": {"value": 0.0055, "low": 0.003, "high": 0.008},
    "ici_floor": {"value": 0.0035, "low": 0.001, "high": 0.006},
}
HIDDEN = {"slope": {"value": None, "low": None, "high": None, "reason": "too few: not shown"}}


def _evaluation(site: str = "hospital") -> dict[str, Any]:
    row = {"horizon_years": 10.0, "n": 431, "events": 41, "figures": FIGURES}
    groups = [
        {"subgroup": "age 60-69", "age_from": 60, "age_below": 70, **row},
        {"subgroup": "sex female", "sex": "female", **row},
        {"subgroup": "age 80 or over", "age_from": 80, "age_below": None, **row, "events": None, "figures": HIDDEN},
    ]
    return {
        "evaluated_at": "2026-11-27T01:02:03+00:00",
        "riskpred_version": "1",
        "site": site,
        "split": "held_out",
        "rows": 431,
        "outcomes": {"cancer": {"horizons": [{**row, "horizon_years": 1.0}, row], "subgroups": groups}},
    }


def _card(**more: Any) -> dict[str, Any]:
    return {
        "name": "hospital",
        "created_at": "2026-11-01T09:30:00+00:00",
        "riskpred_version": "1.0",
        "outcomes": {"cancer": "Cancer"},
        "targets": [["cancer", 1.0], ["cancer", 10.0]],
        "modalities": {"tabular": "tabular"},
        "trained_on": {"site": "hospital", "outcomes": {"cancer": {"events": 113, "subjects": 1529}}},
        "method": "Rates.",
        "intended_use": "To inform people who know the patient. It does not diagnose.",
        "limits": ["A missing modality counts as an absent term, not as a normal finding."],
        "period": {"prediction_times": ["2015-01", "2015-01"], "followed_until": "2024-12"},
        "outcome_definitions": {
            "entry_codes": ["ENTRY"],
            "horizons_years": [1.0, 10.0],
            "age_years": [40.0, None],
            "outcomes": {"cancer": {"rule": {"codes": ["DX//cancer//*"]}}},
        },
        "participants": {
            "age": {"mean": 59.5, "sd": 14.3},
            "sex": {"F": 0.51, "M": 0.49},
            "features": [
                {"modality": "tabular", "name": "age_years", "display": "Age", "unit": "years", "missing": 0.0},
                {"modality": "tabular", "name": "LAB//HDL:last", "display": "HDL", "unit": "mmol/L", "missing": 0.217},
            ],
        },
        **more,
    }


def test_every_item_stands_there_with_a_title() -> None:
    for lang in ("en", "zh"):
        shown = describe(_card(), [_evaluation()], ABOUT, lang)
        assert list(shown["tripod_ai"]) == list(TRIPOD_AI)
        assert list(shown["hti_1"]) == list(HTI_1)
        for which in ("tripod_ai", "hti_1"):
            assert all(one["title"] and one["section"] for one in shown[which].values())
            provided = sum(bool(one["text"] or one["given"]) for one in shown[which].values())
            assert shown["provided"][which]["with_text"] == provided
    assert card_items.TRIPOD_AI.keys() == TRIPOD_AI.keys()


def test_measured_results_fill_their_items() -> None:
    shown = describe(_card(), [_evaluation()], ABOUT, "en")
    tripod, hti = ({key: one["text"] or "" for key, one in shown[which].items()} for which in ("tripod_ai", "hti_1"))
    figures = tripod["performance"].replace("\u00a0", " ")
    assert "C 0.771 (0.700 to 0.840)" in figures
    assert "observed 9.2 % (8.0 % to 10.4 %), expected 8.9 %" in figures
    assert "ICI 0.0055 (0.0030 to 0.0080); floor 0.0035" in figures
    assert "calibration in the large 0.00 (−0.20 to 0.20)" in figures, "no minus before nothing"
    assert "women: C 0.771" in figures
    assert "people aged 60 to 69: C 0.771" in figures
    assert hti["internal_validity"]
    assert hti["internal_fairness"]
    assert hti["local_validity"]
    assert hti["external_validity"] == "None was made."
    assert tripod["numbers"].startswith("Made from: Cancer in 113 of 1,529 people. Evaluated: 27")
    assert tripod["dates"] == "Predictions from 2015-01 to 2015-01; followed until 2024-12."
    assert tripod["eligibility"].endswith("Ages 40 to ….")
    assert "DX//cancer//*" in tripod["outcome_definition"]
    assert "HDL cholesterol" in tripod["missing_data"]
    assert "21.7" in tripod["missing_data"]
    assert hti["demographic_inputs"].startswith("Sex: no. Date of birth, as age: yes.")
    for unknown in ("funding", "conflicts", "ethical_approval", "patient_involvement", "registration", "protocol"):
        assert shown["tripod_ai"][unknown]["text"] is None, "nobody told us"


def test_people_of_another_site_are_an_external_validation() -> None:
    shown = describe(_card(), [_evaluation(), _evaluation("elsewhere")], ABOUT, "en")
    hti = {key: one["text"] or "" for key, one in shown["hti_1"].items()}
    assert "elsewhere, held_out" in hti["external_source"]
    assert "C 0.771" in hti["external_validity"]
    assert "another site" in shown["tripod_ai"]["training_versus_evaluation"]["text"]


def test_a_model_nobody_evaluated_says_so() -> None:
    shown = describe(_card(), [], ABOUT, "en")
    assert shown["tripod_ai"]["performance"]["text"] is None
    assert shown["hti_1"]["external_validity"]["text"] is None, "not even that none was made is known"
    page = card_page(shown, _card(), "en", index=False)
    assert "This model was not evaluated on people it never saw." in page


def test_why_there_is_no_figure_is_told_in_the_language() -> None:
    """The reasons are those that `evaluate` writes, whose words the card only translates."""
    reasons = [metrics._SMALL, metrics._SECOND, "7 with the outcome, at least 10 needed"]
    for reason in reasons:
        evaluation = _evaluation()
        hidden = {"slope": {"value": None, "low": None, "high": None, "reason": reason}}
        evaluation["outcomes"]["cancer"]["horizons"] = [
            {"horizon_years": 1.0, "n": 431, "events": 7, "figures": hidden}
        ]
        pages = {}
        for lang in ("en", "zh"):
            shown = describe(_card(), [evaluation], ABOUT, lang)
            pages[lang] = card_page(shown, _card(), lang, index=False)
        assert reason in pages["en"]
        assert reason not in pages["zh"]
    assert "发生结局者 7 人，至少需要 10 人" in pages["zh"]


def test_texts_of_those_responsible_stand_as_given() -> None:
    texts = {"tripod_ai": {"funding": "<b>Nobody</b> & co", "limitations": "More."}, "hti_1": {"developer": "Team"}}
    card = _card(texts=texts)
    shown = describe(card, [_evaluation()], ABOUT, "zh")
    assert shown["tripod_ai"]["funding"]["given"] == "<b>Nobody</b> & co"
    assert shown["hti_1"]["funding"]["given"] == "<b>Nobody</b> & co", "said once, shown in both"
    assert shown["tripod_ai"]["limitations"]["text"]
    page = card_page(shown, card, "zh", index=True)
    assert "&lt;b&gt;Nobody&lt;/b&gt; &amp; co" in page
    assert '<a href="index.html">' in page


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_page_has_every_item_and_every_figure(lang: str, read_page: Any) -> None:
    card = _card()
    shown = describe(card, [_evaluation()], ABOUT, lang)
    page = read_page(card_page(shown, card, lang, index=True))
    names = [name.removeprefix("") for name, value in page.texts if name == "data-test-item"]
    assert len(names) == 52 + 31
    absent = "not provided" if lang == "en" else "未提供"
    for which in ("tripod_ai", "hti_1"):
        for key, one in shown[which].items():
            text = page.texts["data-test-item", f"{which}.{key}"]
            assert (one["text"] or absent) in text
    assert page.text.count("0.771") >= 4
    assert "too few: not shown" in page.text
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown


@pytest.mark.parametrize("entry", [None, 3, "x", [], {"cancer": 1}, [[1]], {"outcomes": {"cancer": []}}])
def test_a_card_of_any_shape_gives_a_page(entry: Any) -> None:
    for key in _card():
        card = _card(**{key: entry})
        shown = describe(card, [_evaluation() | {"outcomes": entry}], ABOUT, "en")
        assert card_page(shown, card, "en", index=True)
    assert card_page(describe({}, [], ABOUT, "en"), {}, "en", index=True)
