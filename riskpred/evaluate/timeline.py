"""Follow-up of one set of people and ranks of one set of risks, sorted once: a resample then costs no sorting."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from riskpred.evaluate.censoring import CENSORED, MIN_UNCENSORED, OUTCOME, Floats, Undefined


@dataclass(frozen=True)
class Horizon:
    """Who has the outcome by a horizon, and whose answer is known by it.

    Shape: outcome (n,) 0.0 or 1.0; known (n,) bool; place (n,), where min(time, horizon) stands in a level; at: where
    the horizon does.
    """

    outcome: Floats
    known: NDArray[np.bool_]
    place: NDArray[np.int64]
    at: int


@dataclass(frozen=True)
class Timeline:
    """n rows of follow-up with K distinct times.

    Shape: time (K,); place (n,) of each row's time; status (n,); order (n,) of the rows by time; ordered_time and
    ordered_status (n,), ordered_place (n,) in that order.
    """

    time: Floats
    place: NDArray[np.int64]
    status: NDArray[np.int8]
    order: NDArray[np.int64]
    ordered_time: Floats
    ordered_status: NDArray[np.int8]
    ordered_place: NDArray[np.int64]

    @classmethod
    def of(cls, time_days: Floats, status: NDArray[np.int8]) -> "Timeline":
        """Sorted. Raises: ValueError as `censoring.risk_table`."""
        if time_days.ndim != 1 or time_days.shape != status.shape:
            raise ValueError("time_days, status and count must be one-dimensional and of one length")
        if not np.all(time_days >= 0):
            raise ValueError("time_days must be 0 or more everywhere; leave out rows without follow-up")
        if not np.all((status >= 0) & (status <= 2)):
            raise ValueError("status must be 0 (censored), 1 (outcome) or 2 (competing event)")
        time, place = np.unique(time_days, return_inverse=True)
        place = place.reshape(-1).astype(np.int64)
        order = np.argsort(place, kind="stable").astype(np.int64)
        return cls(time, place, status, order, time_days[order], status[order], place[order])

    def staying(self, count: Floats | None) -> Floats:
        """`censoring.observation(...).level` of a resample: P(still observed) before each time, and after the last.

        Shape: count (n,), how often each row counts; default 1. Result (K + 1,).
        """
        weight = np.ones(len(self.place)) if count is None else count
        if weight.shape != self.place.shape:
            raise ValueError("time_days, status and count must be one-dimensional and of one length")
        here = weight * (self.status == CENSORED)
        left, everyone = (
            np.bincount(self.place, weights=one, minlength=len(self.time)).astype(np.float64) for one in (here, weight)
        )
        events = everyone - left
        exposed = everyone[::-1].cumsum()[::-1] - events
        leaving = np.divide(left, exposed, out=np.zeros_like(exposed), where=left > 0)
        return np.concatenate([[1.0], np.cumprod(np.clip(1.0 - leaving, 0.0, 1.0))])

    def at(self, horizon_days: float) -> Horizon:
        """What is known at a horizon, whatever the resample."""
        ended = self.time[self.place]
        happened = (self.status != CENSORED) & (ended <= horizon_days)
        at = int(np.searchsorted(self.time, horizon_days, side="left"))
        outcome = ((self.status == OUTCOME) & happened).astype(np.float64)
        return Horizon(outcome, happened | (ended >= horizon_days), np.minimum(self.place, at), at)


def weights(horizon: Horizon, staying: Floats, count: Floats | None) -> Floats:
    """The weights of `censoring.at_horizon` on a resample. Shape: staying (K + 1,), count and result (n,).

    Raises: Undefined when fewer than MIN_UNCENSORED are observed to the horizon.
    """
    if float(staying[horizon.at]) < MIN_UNCENSORED:
        raise Undefined(f"fewer than {MIN_UNCENSORED:.0%} are followed to the horizon")
    counts = np.ones(len(horizon.place)) if count is None else count
    # A row that a bootstrap left out may lie where nobody drawn is observed any more: G is 0 there, and its weight.
    known = horizon.known & (counts > 0)
    return np.divide(counts, staying[horizon.place], out=np.zeros(len(counts)), where=known)


@dataclass(frozen=True)
class Ranks:
    """Risks and their ranks. Shape: risk, rank (n,); equal risks share one of `levels` ranks from 0."""

    risk: Floats
    rank: NDArray[np.int64]
    levels: int

    @classmethod
    def of(cls, risk: Floats) -> "Ranks":
        """Ranked. Raises: ValueError, for a risk that is not a number, or more than one dimension."""
        if risk.ndim != 1:
            raise ValueError("risks and what they are compared with must be one-dimensional and of one length")
        if not np.all(np.isfinite(risk)):
            raise ValueError("every risk must be a number; leave out rows without one")
        levels, rank = np.unique(risk, return_inverse=True)
        return cls(risk, rank.reshape(-1).astype(np.int64), len(levels))
