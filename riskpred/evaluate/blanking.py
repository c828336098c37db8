"""A window after prediction_time in which nothing counts: what a model is worth once work-up under way is left out."""

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from riskpred.evaluate.calibration import along_rank
from riskpred.evaluate.censoring import COMPETING, DAYS_PER_YEAR, Floats
from riskpred.evaluate.measure import People
from riskpred.evaluate.timeline import Ranks, Timeline, weights

WINDOWS: Final = (0, 90, 365)
"""Windows, in days, with which everyone is judged, beside that of outcomes.yaml."""


def beyond(people: People, window_days: float) -> NDArray[np.int64]:
    """Rows still free of the outcome, alive and observed after the window; all when it is 0. Shape: (kept,)."""
    if window_days <= 0:
        return np.arange(len(people), dtype=np.int64)
    return np.flatnonzero(people.time_days > window_days)


def people_at(people: People, rows: NDArray[np.int64], window_days: float) -> People:
    """The given rows as people who are followed from the window's end; times still count from prediction_time."""
    return replace(
        people,
        subject_id=people.subject_id[rows],
        time_days=people.time_days[rows],
        status=people.status[rows],
        from_days=float(window_days),
    )


def conditional_risk(people: People, risk: Floats, window_days: float) -> Floats:
    """Risk of the outcome by each horizon, for one who is free of it, alive and observed when the window ends.

    (F(h) - F(w)) / (1 - F(w) - D(w)): F is the model's risk. F(w) lies on the line from 0 (at prediction_time, or at
    the end of the window that the model was made with: people.from_days) through the horizons on the scale of the
    cumulated hazard, -log(1 - F). D(w) is the risk of death or another competing event by then. A table of risks does
    not hold it: D(w) = (1 - F(w)) q, with q the share who had one among those without the outcome, as observed along
    the rank of the model's risk (kernel of `reliability`).

    Args:
        people: everyone at risk, at from_days.   window_days: later than from_days; else the risk is returned.

    Shape: risk and result (n, H); horizons within the window get NaN.
    Raises: Undefined: too few are followed to the window's end.
    Source: van Houwelingen 2007, Scand J Stat 34:70-85 (landmarks); Nicolaie et al. 2013, Stat Med 32:2031-2047
    (competing risks).
    """
    if window_days <= people.from_days:
        return risk
    days = np.array(people.horizons_years) * DAYS_PER_YEAR
    hazard = -np.log1p(-np.clip(risk, 0.0, 1.0 - 1e-12))
    knots, levels = np.r_[people.from_days, days], np.c_[np.zeros(len(risk)), hazard]
    right = int(np.clip(np.searchsorted(knots, window_days), 1, len(knots) - 1))
    share = min(1.0, (window_days - knots[right - 1]) / (knots[right] - knots[right - 1]))
    by_window = -np.expm1(-(levels[:, right - 1] + share * (levels[:, right] - levels[:, right - 1])))
    timeline = Timeline.of(people.time_days, people.status)
    window = timeline.at(window_days)
    weight = weights(window, timeline.staying(None), None)
    competing = ((people.status == COMPETING) & (people.time_days <= window_days)).astype(np.float64)
    found = np.full(risk.shape, np.nan)
    for h in np.flatnonzero(days > window_days):
        gone = along_rank(Ranks.of(risk[:, h]), competing, weight * (1.0 - window.outcome))
        left = (1.0 - by_window) * np.maximum(1.0 - gone, 1e-9)
        found[:, h] = np.clip((risk[:, h] - by_window) / left, 0.0, 1.0)
    return found
