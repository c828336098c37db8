"""What follow-up says when some people leave early: Kaplan-Meier of leaving, its weights, Aalen-Johansen.

Everywhere in this room `status` is 0 = censored (left, or follow-up ended), 1 = the outcome, 2 = a competing event
(death, or another outcome of the competing set). A competing event is not censoring: it never counts as leaving, and
whoever had one is known for ever not to have the outcome first. At equal times events come before leaving.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CENSORED: Final = 0
OUTCOME: Final = 1
COMPETING: Final = 2

DAYS_PER_YEAR: Final = 365.25

MIN_UNCENSORED: Final = 0.05
"""Share that must still be under observation at a horizon: below it a weight passes 20 and a few people decide."""


class Undefined(ValueError):
    """A metric has no value on these data (one class, no pairs, constant risks); the text says why."""


@dataclass(frozen=True)
class RiskTable:
    """Counts at each distinct time. time, at_risk, outcome, competing, censored: (K,), times ascending."""

    time: Floats
    at_risk: Floats
    outcome: Floats
    competing: Floats
    censored: Floats


def risk_table(time_days: Floats, status: NDArray[np.int8], count: Floats | None = None) -> RiskTable:
    """Counts at risk and leaving at each distinct time.

    Args:
        time_days: follow-up, 0 or more. status: 0, 1 or 2. count: how often each row counts (a bootstrap); default 1.

    Shape: all (N,).
    Raises: ValueError: shapes differ; a time that is negative or not a number; a status other than 0, 1, 2.
    """
    if time_days.ndim != 1 or time_days.shape != status.shape or (count is not None and count.shape != status.shape):
        raise ValueError("time_days, status and count must be one-dimensional and of one length")
    if not np.all(time_days >= 0):
        raise ValueError("time_days must be 0 or more everywhere; leave out rows without follow-up")
    if not np.all((status >= 0) & (status <= 2)):
        raise ValueError("status must be 0 (censored), 1 (outcome) or 2 (competing event)")
    weight = np.ones(len(time_days)) if count is None else count
    time, place = np.unique(time_days, return_inverse=True)
    counted = np.bincount(place * 3 + status, weights=weight, minlength=3 * len(time))
    left = np.asarray(counted, dtype=np.float64).reshape(-1, 3)
    at_risk = left.sum(axis=1)[::-1].cumsum()[::-1]
    return RiskTable(time, at_risk, left[:, OUTCOME], left[:, COMPETING], left[:, CENSORED])


@dataclass(frozen=True)
class Observation:
    """G, the Kaplan-Meier probability of still being under observation. time: (K,); level: (K + 1,), level[0] = 1."""

    time: Floats
    level: Floats

    def before(self, time_days: Floats | float) -> Floats:
        """G(t-) = P(leaving at t or later), of the same shape as `time_days`."""
        return np.asarray(self.level[np.searchsorted(self.time, time_days, side="left")], dtype=np.float64)


def observation(time_days: Floats, status: NDArray[np.int8], count: Floats | None = None) -> Observation:
    """Kaplan-Meier estimate of staying under observation: leaving (status 0) is the event.

    Outcomes and competing events leave the risk set without counting as leaving; at equal times they go first, so the
    denominator at t is those at risk less those with an event at t.
    Shape and Raises: as `risk_table`.
    Source: Kaplan & Meier 1958, J Am Stat Assoc 53:457-481; Graf et al. 1999, Stat Med 18:2529-2545 (as a weight).
    """
    table = risk_table(time_days, status, count)
    exposed = table.at_risk - table.outcome - table.competing
    # Subtraction leaves crumbs of 1e-12 where nobody is exposed; nobody leaves there either.
    leaving = np.divide(table.censored, exposed, out=np.zeros_like(exposed), where=table.censored > 0)
    level = np.concatenate([[1.0], np.cumprod(np.clip(1.0 - leaving, 0.0, 1.0))])
    return Observation(table.time, level)


def at_horizon(
    time_days: Floats, status: NDArray[np.int8], horizon_days: float, count: Floats | None = None
) -> tuple[Floats, Floats]:
    """Who has the outcome by the horizon, and the weight that makes those with a known answer stand for everyone.

    weight = count / G(T-) for an outcome or competing event at T <= horizon, count / G(horizon-) for those free and
    followed to the horizon, 0 for those who left before. The weights sum to the sum of counts, and the weighted mean
    of the first array is the Aalen-Johansen estimate.

    Shape: time_days, status and both results (N,): outcome 0.0 or 1.0, weight 0 or more.
    Raises: ValueError as `risk_table`; Undefined when fewer than 5 % (MIN_UNCENSORED) are observed to the horizon.
    Source: Graf et al. 1999, Stat Med 18:2529-2545; Schoop et al. 2011, Biom J 53:88-112 (competing events).
    Example:
        >>> at_horizon(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1, 0, 2, 0], dtype=np.int8), 3.5)
        (array([1., 0., 0., 0.]), array([1. , 0. , 1.5, 1.5]))
    """
    seen = observation(time_days, status, count)
    if float(seen.before(horizon_days)) < MIN_UNCENSORED:
        raise Undefined(f"fewer than {MIN_UNCENSORED:.0%} are followed to the horizon")
    counts = np.ones(len(time_days)) if count is None else count
    happened = (status != CENSORED) & (time_days <= horizon_days)
    free = (time_days >= horizon_days) & ~happened
    outcome = ((status == OUTCOME) & happened).astype(np.float64)
    last = np.minimum(time_days, horizon_days)
    # A row that a bootstrap left out may lie where nobody drawn is observed any more: G is 0 there, and its weight.
    known = (happened | free) & (counts > 0)
    weight = np.divide(counts, seen.before(last), out=np.zeros(len(counts)), where=known)
    return outcome, weight


def aalen_johansen(
    time_days: Floats, status: NDArray[np.int8], at_days: Floats, count: Floats | None = None, cause: int = OUTCOME
) -> Floats:
    """Crude cumulative incidence of a cause by each time, with the other cause competing.

    Sum over event times t <= at of S(t-) d_cause(t) / n(t), where S is the Kaplan-Meier survival from any event.

    Shape: time_days, status (N,); at_days and the result (A,).
    Raises: ValueError as `risk_table`. Beyond the last follow-up the last level is kept.
    Source: Aalen & Johansen 1978, Scand J Stat 5:141-150.
    Example:
        >>> aalen_johansen(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1, 0, 2, 0], dtype=np.int8), np.array([3.5]))
        array([0.25])
    """
    table = risk_table(time_days, status, count)
    inside = np.maximum(table.at_risk, 1e-300)
    survival = np.cumprod(np.clip(1.0 - (table.outcome + table.competing) / inside, 0.0, 1.0))
    before = np.concatenate([[1.0], survival[:-1]])
    events = table.outcome if cause == OUTCOME else table.competing
    level = np.concatenate([[0.0], np.cumsum(before * events / inside)])
    return np.asarray(level[np.searchsorted(table.time, at_days, side="right")], dtype=np.float64)
