"""Metrics of one outcome on test rows, weighted by the censoring that the training rows of the same fold show."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from riskpred.evaluate.brier import brier, ibs
from riskpred.evaluate.censoring import CENSORED, DAYS_PER_YEAR, OUTCOME, Floats, Observation, Undefined, observation
from riskpred.evaluate.discrimination import auc, concordance
from riskpred.evaluate.timeline import Ranks, Timeline
from tests.benchmarks.accuracy.rows import View

_LEAST_OBSERVED: Final = 0.01
"""G is kept above this: a test row beyond the last training row would have no weight at all."""


@dataclass(frozen=True)
class Weighted:
    """Who has the outcome by one horizon, with what weight. Shape: (n,) each; weight 0 = unknown."""

    outcome: Floats
    weight: Floats


def observed(view: View) -> Observation | None:
    """How likely training rows are still under observation; None where the outcome is known at once.

    Rows that are not at risk do not count. Competing events are not censoring.
    """
    if view.known_at_once:
        return None
    inside = view.status >= 0
    return observation(view.time_days[inside], view.status[inside])


def weighted(view: View, horizon_years: float, seen: Observation | None) -> Weighted:
    """`riskpred.evaluate.censoring.at_horizon` with G from elsewhere; rows not at risk weigh 0."""
    status, time = view.status, view.time_days
    if seen is None:
        return Weighted((status == OUTCOME).astype(np.float64), (status >= 0).astype(np.float64))
    days = horizon_years * DAYS_PER_YEAR
    happened = (status > CENSORED) & (time <= days)
    free = (status >= CENSORED) & (time >= days) & ~happened
    chance = np.maximum(seen.before(np.minimum(time, days)), _LEAST_OBSERVED)
    weight = np.where(happened | free, 1.0 / chance, 0.0)
    return Weighted(((status == OUTCOME) & happened).astype(np.float64), weight)


def uno_c(risk: Floats, view: View, horizon_years: float, seen: Observation) -> float:
    """Uno's C truncated at the horizon, with G from elsewhere. Raises: Undefined: no comparable pair."""
    inside = view.status >= 0
    timeline = Timeline.of(view.time_days[inside], view.status[inside])
    staying = np.maximum(seen.before(np.append(timeline.time, np.inf)), _LEAST_OBSERVED)
    return concordance(Ranks.of(risk[inside]), timeline, horizon_years * DAYS_PER_YEAR, staying, None)


def rank_score(risk: Floats, view: View, seen: Observation | None) -> float:
    """Uno's C at the last horizon; AUC where known at once. Shape: risk (n, H). Raises: Undefined."""
    if seen is None:
        one = weighted(view, 0.0, None)
        inside = one.weight > 0
        return auc(risk[inside, -1], one.outcome[inside], one.weight[inside])
    return uno_c(risk[:, -1], view, view.horizons_years[-1], seen)


def briers(risk: Floats, view: View, seen: Observation | None) -> Floats:
    """Brier score at each horizon. Shape: risk (n, H), result (H,). Raises: Undefined."""
    found = []
    for h, years in enumerate(view.horizons_years):
        one = weighted(view, years, seen)
        inside = one.weight > 0
        found.append(brier(risk[inside, h], one.outcome[inside], one.weight[inside]))
    return np.array(found)


def error_score(risk: Floats, view: View, seen: Observation | None) -> float:
    """Integrated Brier score over the horizons; the Brier score where known at once. Raises: Undefined."""
    found = briers(risk, view, seen)
    return float(found[0]) if seen is None else ibs(found, np.array(view.horizons_years))


def fold_scores(risk: Floats, view: View, seen: Observation | None) -> dict[str, float]:
    """rank, error, and at each horizon auc@H and brier@H; what is undefined is left out.

    Args:
        view: of the test rows. seen: `observed` of the training rows.
    Shape: risk (n, H), columns as view.horizons_years.
    """
    found: dict[str, float] = {}
    for name, score in (("rank", rank_score), ("error", error_score)):
        try:
            found[name] = score(risk, view, seen)
        except Undefined:
            continue
    for h, years in enumerate(view.horizons_years):
        one = weighted(view, years, seen)
        inside = one.weight > 0
        given = risk[inside, h], one.outcome[inside], one.weight[inside]
        try:
            found[f"brier@{years:g}"] = brier(*given)
            found[f"auc@{years:g}"] = auc(*given)
        except Undefined:
            continue
    return found


def rising(risk: Floats) -> Floats:
    """Risks kept inside 0 to 1 and never falling with the horizon. Shape: (n, H) -> the same."""
    return np.maximum.accumulate(np.clip(risk, 0.0, 1.0), axis=-1)


def by_row(fold: NDArray[np.int64], view: View, years: float) -> Weighted:
    """Outcome and weight of every tested row, each weighted by the training rows of its own fold. Shape: (N,)."""
    outcome, weight = np.zeros(len(fold)), np.zeros(len(fold))
    for one in np.unique(fold[fold >= 0]):
        test = fold == one
        found = weighted(view.take(test), years, observed(view.take(~test)))
        outcome[test], weight[test] = found.outcome, found.weight
    return Weighted(outcome, weight)
