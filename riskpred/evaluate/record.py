"""Keeps an evaluation with the bundle it judged, where it is one that may let the bundle publish risks."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import numpy as np

from riskpred.config.night import PromotionRules
from riskpred.errors import RiskpredError
from riskpred.evaluate.censoring import DAYS_PER_YEAR, OUTCOME, Floats, Undefined, at_horizon
from riskpred.evaluate.gather import MODEL, Evaluated
from riskpred.evaluate.intervals import interval, resampled_counts, resamples_for
from riskpred.evaluate.measure import People
from riskpred.evaluate.metrics import Metric, people_of
from riskpred.model.bundle import Bundle
from riskpred.model.evaluation import EVALUATION, Evaluation, Figure, OutcomeFigures, keep_evaluation, shortcomings

TRAINING_SPLITS: Final = ("train", "tuning")
"""Never recorded, at no site: where such names stand for people to fit on, they are no proof of a fit."""

KEPT_FIGURES: Final = ("uno_c", "auc", "brier", "ipa", "ici", "ici_floor", "citl", "slope")

OBSERVED_OVER_EXPECTED: Final = "observed_over_expected"


def record(bundle: Bundle, gathered: Evaluated, rows: Sequence[Metric], site: str, seed: int = 1) -> str:
    """Keep the evaluation in BUNDLE/evaluation.json; returns what became of it, in one sentence for the operator.

    Not kept, and said: the bundle's own predictions (cross-validation judges other fits than the one that would score),
    a split named train or tuning, rows left out because another model gave them no risk, a folder that cannot be
    written. People that trained the bundle never come here: `gather` refuses them.

    Args:
        gathered: what `gather` gave, before other models were added.   rows: its metrics, by `measured` or `metrics`.
    """
    alone = replace(gathered, risks={MODEL: gathered.risks[MODEL]}, truth=None)
    why = _why_not(alone, rows)
    if why:
        return f"{bundle.path}: evaluation not kept with the bundle: {why}."
    evaluation = evaluation_of(bundle, alone, rows, site, seed)
    try:
        keep_evaluation(bundle.path, evaluation)
    except RiskpredError as error:
        return error.message
    lacking = shortcomings(evaluation, list(bundle.config.outcomes.outcomes), PromotionRules())
    passes = f"does not pass the default rules of night.yaml: {'; '.join(lacking)}" if lacking else "passes"
    return f"{bundle.path / EVALUATION}: kept; for publishing risks the bundle {passes}."


def _why_not(alone: Evaluated, rows: Sequence[Metric]) -> str | None:
    if alone.prediction_time is None:
        return "a bundle's own predictions are of other fits than the one that would score"
    if alone.split in TRAINING_SPLITS:
        return f"the split {alone.split} is for fitting; use held_out, or everyone of another site"
    for outcome, years in alone.targets:
        whole = len(_people(alone, outcome)[0])
        judged = {row["n"] for row in _ours(alone, rows, outcome, years)}
        if judged and judged != {whole}:
            return f"not all of {whole:,} rows were judged, because another model lacks some; leave out --against"
    return None


def evaluation_of(bundle: Bundle, alone: Evaluated, rows: Sequence[Metric], site: str, seed: int = 1) -> Evaluation:
    """The figures of everyone, each outcome at its longest horizon and the study's own blanking window."""
    from riskpred import __version__

    return Evaluation(
        bundle_sha256=bundle.sha256,
        riskpred_version=__version__,
        evaluated_at=datetime.now(UTC).replace(microsecond=0).isoformat(),
        site=site,
        split=alone.split,
        rows=len(alone),
        outcomes=tuple(
            _outcome(alone, rows, outcome, seed) for outcome in dict.fromkeys(name for name, _ in alone.targets)
        ),
    )


def _people(alone: Evaluated, outcome: str) -> tuple[People, Floats]:
    """Everyone judged for an outcome, and their risks. Shape: the second (n, H)."""
    _, people, risks = people_of(alone, outcome, np.ones(len(alone), dtype=np.bool_))
    return people, risks[MODEL][0]


def _ours(alone: Evaluated, rows: Sequence[Metric], outcome: str, years: float) -> list[Metric]:
    """Our rows of everyone at one horizon and the study's own window."""
    return [
        row
        for row in rows
        if (row["model"], row["outcome"], row["horizon_years"], row["subgroup"]) == (MODEL, outcome, years, None)
        and row["blanking_days"] == alone.blanking_days.get(outcome, 0)
    ]


def _outcome(alone: Evaluated, rows: Sequence[Metric], outcome: str, seed: int) -> OutcomeFigures:
    people, risk = _people(alone, outcome)
    years = max(people.horizons_years)
    figures = {
        row["metric"]: Figure(value=row["value"], low=row["low"], high=row["high"], reason=row["reason"])
        for row in _ours(alone, rows, outcome, years)
        if row["metric"] in KEPT_FIGURES
    }
    at_longest = risk[:, people.horizons_years.index(years)]
    figures[OBSERVED_OVER_EXPECTED] = observed_over_expected(people, at_longest, years, seed)
    return OutcomeFigures(
        outcome=outcome, horizon_years=years, n=len(people), events=people.events(years), figures=figures
    )


def observed_over_expected(people: People, risk: Floats, horizon_years: float, seed: int = 1) -> Figure:
    """Aalen-Johansen incidence by the horizon over the mean risk, with a 90 % bootstrap interval by subject.

    1 is perfect; above 1 risks are too low.
    Shape: risk (n,), at the horizon.
    Source: Debray et al. 2017, BMJ 356:i6460 (the total O:E ratio).
    """
    reason = people.too_few(horizon_years)
    if reason:
        return Figure(reason=reason)

    def ratio(count: Floats) -> float:
        if people.known_at_once:
            happened, weight = (people.status == OUTCOME).astype(np.float64), count
        else:
            happened, weight = at_horizon(people.time_days, people.status, horizon_years * DAYS_PER_YEAR, count)
        return float(np.average(happened, weights=weight) / np.average(risk, weights=count))

    def drawn(count: Floats) -> float:
        try:
            return ratio(count)
        except Undefined:
            return np.nan

    try:
        value = ratio(np.ones(len(people)))
    except Undefined as undefined:
        return Figure(reason=str(undefined))
    counts = resampled_counts(people.subject_id, resamples_for(len(people)), seed)
    ends = interval(np.array([drawn(count) for count in counts])) or (None, None)
    return Figure(value=value, low=ends[0], high=ends[1])
