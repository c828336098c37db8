"""Keeps an evaluation with the bundle it judged, where it is one that may let the bundle publish risks."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from riskpred.config.night import PromotionRules
from riskpred.errors import RiskpredError
from riskpred.evaluate.censoring import DAYS_PER_YEAR, OUTCOME, Floats, Undefined, at_horizon
from riskpred.evaluate.gather import MODEL, Evaluated
from riskpred.evaluate.intervals import interval, resampled_counts, resamples_for
from riskpred.evaluate.measure import People
from riskpred.evaluate.metrics import Metric, people_of
from riskpred.evaluate.subgroups import WITH, partitions
from riskpred.model.bundle import Bundle
from riskpred.model.evaluation import (
    EVALUATION,
    Evaluation,
    Figure,
    GroupFigures,
    OutcomeFigures,
    keep_evaluation,
    shortcomings,
)

TRAINING_SPLITS: Final = ("train", "tuning")
"""Never recorded, at no site: where such names stand for people to fit on, they are no proof of a fit."""

KEPT_FIGURES: Final = ("uno_c", "auc", "brier", "ipa", "ici", "ici_floor", "citl", "slope")

OBSERVED: Final = "observed"
EXPECTED: Final = "expected"
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
    """The figures at the study's own blanking window: each outcome at its longest horizon, by which a bundle is
    promoted; everyone at every horizon, and sexes and age bands at the longest, for those who read a risk."""
    from riskpred import __version__

    outcomes = list(dict.fromkeys(name for name, _ in alone.targets))
    groups = [group for outcome in outcomes for group in _groups(alone, rows, outcome, seed)]
    return Evaluation(
        bundle_sha256=bundle.sha256,
        riskpred_version=__version__,
        evaluated_at=datetime.now(UTC).replace(microsecond=0).isoformat(),
        site=site,
        split=alone.split,
        rows=len(alone),
        outcomes=tuple(_outcome(alone, outcome, groups) for outcome in outcomes),
        groups=tuple(groups),
    )


def _people(alone: Evaluated, outcome: str, inside: NDArray[np.bool_] | None = None) -> tuple[People, Floats]:
    """Those judged for an outcome, and their risks. Shape: inside (N,), default everyone; the second result (n, H)."""
    _, people, risks = people_of(alone, outcome, np.ones(len(alone), dtype=np.bool_) if inside is None else inside)
    return people, risks[MODEL][0]


def _ours(
    alone: Evaluated, rows: Sequence[Metric], outcome: str, years: float, subgroup: str | None = None
) -> list[Metric]:
    """Our rows of everyone, or of a subgroup, at one horizon and the study's own window."""
    return [
        row
        for row in rows
        if (row["model"], row["outcome"], row["horizon_years"], row["subgroup"]) == (MODEL, outcome, years, subgroup)
        and row["blanking_days"] == alone.blanking_days.get(outcome, 0)
    ]


def _outcome(alone: Evaluated, outcome: str, groups: Sequence[GroupFigures]) -> OutcomeFigures:
    """Everyone at the longest horizon."""
    longest = [one for one in groups if one.outcome == outcome and one.subgroup is None][-1]
    people, _ = _people(alone, outcome)
    years = longest.horizon_years
    figures = {name: figure for name, figure in longest.figures.items() if name not in (OBSERVED, EXPECTED)}
    return OutcomeFigures(
        outcome=outcome, horizon_years=years, n=len(people), events=people.events(years), figures=figures
    )


def _groups(alone: Evaluated, rows: Sequence[Metric], outcome: str, seed: int) -> list[GroupFigures]:
    """Everyone at every horizon, ascending; then each sex and age band at the longest. Small cells stay hidden."""
    people, risk = _people(alone, outcome)
    horizons = sorted(people.horizons_years)
    found = [_group(alone, rows, outcome, years, None, (people, risk), seed) for years in horizons]
    for partition in partitions(alone.pattern, alone.age_years, alone.sex):
        for label in partition.labels:
            if not label.startswith(WITH):
                members = _people(alone, outcome, partition.of == label)
                found.append(_group(alone, rows, outcome, horizons[-1], label, members, seed))
    return found


def _group(
    alone: Evaluated,
    rows: Sequence[Metric],
    outcome: str,
    years: float,
    subgroup: str | None,
    members: tuple[People, Floats],
    seed: int,
) -> GroupFigures:
    people, risk = members
    ours = _ours(alone, rows, outcome, years, subgroup)
    figures = {
        row["metric"]: Figure(value=row["value"], low=row["low"], high=row["high"], reason=row["reason"])
        for row in ours
        if row["metric"] in KEPT_FIGURES
    }
    n, events = (ours[0]["n"], ours[0]["events"]) if ours else (len(people), people.events(years))
    if events is None:  # hidden, and so is all that tells how many
        hidden = Figure(reason=next((row["reason"] for row in ours if row["reason"]), "not shown"))
        figures |= dict.fromkeys((OBSERVED, EXPECTED, OBSERVED_OVER_EXPECTED), hidden)
    else:
        figures |= observed_and_expected(people, risk[:, people.horizons_years.index(years)], years, seed)
    return GroupFigures(outcome=outcome, horizon_years=years, subgroup=subgroup, n=n, events=events, figures=figures)


def observed_and_expected(people: People, risk: Floats, horizon_years: float, seed: int = 1) -> dict[str, Figure]:
    """Aalen-Johansen incidence by the horizon, the mean risk, and the first over the second.

    The first and third with a 90 % bootstrap interval by subject. A ratio of 1 is perfect; above 1 risks are too low.
    Shape: risk (n,), at the horizon.
    Source: Debray et al. 2017, BMJ 356:i6460 (the total O:E ratio).
    """
    reason = people.too_few(horizon_years)
    if reason:
        return dict.fromkeys((OBSERVED, EXPECTED, OBSERVED_OVER_EXPECTED), Figure(reason=reason))

    def both(count: Floats) -> tuple[float, float]:
        if people.known_at_once:
            happened, weight = (people.status == OUTCOME).astype(np.float64), count
        else:
            happened, weight = at_horizon(people.time_days, people.status, horizon_years * DAYS_PER_YEAR, count)
        return float(np.average(happened, weights=weight)), float(np.average(risk, weights=count))

    def drawn(count: Floats) -> tuple[float, float]:
        try:
            return both(count)
        except Undefined:
            return np.nan, np.nan

    expected = Figure(value=float(risk.mean()))
    try:
        observed, mean_risk = both(np.ones(len(people)))
    except Undefined as undefined:
        nothing = Figure(reason=str(undefined))
        return {OBSERVED: nothing, EXPECTED: expected, OBSERVED_OVER_EXPECTED: nothing}
    counts = resampled_counts(people.subject_id, resamples_for(len(people)), seed)
    draws = np.array([drawn(count) for count in counts])
    incidence, ratio = interval(draws[:, 0]) or (None, None), interval(draws[:, 0] / draws[:, 1]) or (None, None)
    return {
        OBSERVED: Figure(value=observed, low=incidence[0], high=incidence[1]),
        EXPECTED: expected,
        OBSERVED_OVER_EXPECTED: Figure(value=observed / mean_risk, low=ratio[0], high=ratio[1]),
    }
