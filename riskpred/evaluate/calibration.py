"""Whether a risk of 10 % means 10 in 100: calibration in the large, slope, ICI with its floor, reliability curve."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from riskpred.evaluate.censoring import CENSORED, COMPETING, OUTCOME, Floats, Undefined, at_horizon, observation
from riskpred.evaluate.regression import Link, Scaled
from riskpred.evaluate.timeline import Ranks

BANDWIDTH: Final = 0.08
"""Standard deviation of the smoothing kernel, as a share of people ranked by risk."""

SIMULATIONS: Final = 20
"""Simulated samples behind the floor of the ICI."""

_BINS: Final = 500


def citl(risk: Floats, outcome: Floats, weight: Floats, link: Link = "cloglog") -> float:
    """Calibration in the large: the a of link(P) = a + link(risk), by weighted maximum likelihood.

    0 is perfect; below 0 risks are too high, above 0 too low. For small risks exp(a) is observed over expected.

    Shape: risk (0 to 1), outcome (0 or 1), weight (of `at_horizon`, or 1) (N,).
    Raises: ValueError: shapes differ or a risk outside 0..1; Undefined: one class only, or no finite solution.
    Source: Cox 1958, Biometrika 45:562-565; Steyerberg 2019, Clinical Prediction Models, 2nd ed., ch. 15.
    """
    return Scaled.of(risk, link).intercept(outcome, weight)


def slope(risk: Floats, outcome: Floats, weight: Floats, link: Link = "cloglog") -> float:
    """Calibration slope: the b of link(P) = a + b link(risk), by weighted maximum likelihood.

    1 is perfect; below 1 risks are too extreme, above 1 too timid.
    Shape, Raises, Source: as `citl`; Undefined also when all risks are equal.
    """
    return intercept_and_slope(risk, outcome, weight, link)[1]


def intercept_and_slope(risk: Floats, outcome: Floats, weight: Floats, link: Link = "cloglog") -> tuple[float, float]:
    """(a, b) of link(P) = a + b link(risk). Shape, Raises, Source: as `citl` and `slope`."""
    return Scaled.of(risk, link).both(outcome, weight)


@dataclass(frozen=True)
class Reliability:
    """Smoothed picture: people ranked by risk; risk, observed (smoothed alike), people and rank (0 to 1), each (P,)."""

    risk: Floats
    observed: Floats
    people: Floats
    rank: Floats

    @property
    def gap(self) -> float:
        """Mean distance of observed and risk over people: the ICI."""
        return float(np.average(np.abs(self.observed - self.risk), weights=self.people))


def reliability(risk: Floats, outcome: Floats, weight: Floats, count: Floats | None = None) -> Reliability:
    """Smoothed risk and smoothed outcome along the rank of risk: equal where the model is right.

    Gaussian kernel over the rank of risk (as a share of all people, tied risks at their middle rank), standard
    deviation BANDWIDTH; ranks are kept to a five-hundredth.

    Args: as `brier`; `count` says how often each row counts in the ranking (a bootstrap); default 1.
    Shape: inputs (N,); the curve has one point per five-hundredth of rank that holds anyone.
    Raises: ValueError: shapes differ; Undefined: nobody's outcome is known.
    """
    if risk.ndim != 1 or risk.shape != outcome.shape or risk.shape != weight.shape:
        raise ValueError("risk, outcome and weight must be one-dimensional and of one length")
    return smoothed(Ranks.of(risk), outcome, weight, count)


def smoothed(ranks: Ranks, outcome: Floats, weight: Floats, count: Floats | None = None) -> Reliability:
    """`reliability` of risks already ranked. Raises: Undefined: nobody's outcome is known."""
    if float(weight.sum()) <= 0:
        raise Undefined("nobody's outcome is known")
    place = _rank_bins(ranks, np.ones(len(outcome)) if count is None else count)
    sums = [
        np.bincount(place, weights=values, minlength=_BINS)
        for values in (weight, weight * outcome, weight * ranks.risk)
    ]
    held = sums[0] > 0
    mass, events, expected = (_KERNEL @ np.stack(sums, axis=1))[held].T
    return Reliability(expected / mass, events / mass, sums[0][held].astype(np.float64), _CENTRES[held])


def along_rank(ranks: Ranks, outcome: Floats, weight: Floats) -> Floats:
    """Smoothed outcome at the rank of each row's risk, as in `reliability`. Shape: all (N,). Raises: as `smoothed`."""
    curve = smoothed(ranks, outcome, weight)
    people = np.bincount(ranks.rank)
    middle = (np.cumsum(people) - 0.5 * people) / people.sum()
    return np.asarray(np.interp(middle, curve.rank, curve.observed)[ranks.rank], dtype=np.float64)


def ici(risk: Floats, outcome: Floats, weight: Floats, count: Floats | None = None) -> float:
    """Integrated calibration index: weighted mean of |smoothed (outcome - risk)| along the rank of risk.

    Never 0 in a finite sample: compare with `ici_floor`.
    Shape, Raises: as `reliability`.
    Source: Austin & Steyerberg 2019, Stat Med 38:4051-4065 (there with loess; here the kernel of `reliability`).
    """
    return reliability(risk, outcome, weight, count).gap


def ici_floor(
    risk: Floats,
    time_days: Floats,
    status: NDArray[np.int8],
    horizon_days: float,
    seed: int = 1,
    simulations: int = SIMULATIONS,
) -> Floats:
    """ICI of samples in which these very risks are exactly true: what no model can beat at this size.

    Each simulated person has the outcome by the horizon with probability `risk`; its time is drawn from the observed
    times of outcomes (weighted by 1 / G). Of the others, the observed share has a competing event first, at a time
    drawn likewise; leaving times are drawn from the Kaplan-Meier curve of leaving, for everyone alike, and weights are
    estimated anew. So censoring is mimicked, but not its dependence on risk.

    Shape: risk, time_days, status (N,); the result (simulations,). The floor is its mean.
    Raises: ValueError as `at_horizon`; Undefined: no outcome by the horizon, or too few followed to it.
    """
    known, weight = at_horizon(time_days, status, horizon_days)
    seen = observation(time_days, status)
    inside = time_days <= horizon_days
    outcomes, competing = inside & (status == OUTCOME), inside & (status == COMPETING)
    if not outcomes.any():
        raise Undefined("no outcome by the horizon")
    others = float(np.sum(weight * (1.0 - known)))
    competing_share = float(np.sum(weight[competing])) / others if others > 0 else 0.0
    leaving = -np.diff(seen.level)
    leaving_times = np.append(seen.time, np.inf)
    leaving_chance = np.append(leaving, max(0.0, 1.0 - float(leaving.sum())))
    generator = np.random.default_rng(seed)
    size, ranks = len(risk), Ranks.of(risk)
    values = np.empty(simulations)
    for number in range(simulations):
        drawn_status = np.where(generator.random(size) < risk, OUTCOME, CENSORED).astype(np.int8)
        rest = (drawn_status == CENSORED) & (generator.random(size) < competing_share)
        drawn_status[rest] = COMPETING
        drawn_time = np.full(size, np.inf)
        for cause, donors in ((OUTCOME, outcomes), (COMPETING, competing)):
            mine = drawn_status == cause
            if mine.any():
                chance = weight[donors] / weight[donors].sum()
                drawn_time[mine] = generator.choice(time_days[donors], size=int(mine.sum()), p=chance)
        leaves = generator.choice(leaving_times, size=size, p=leaving_chance / leaving_chance.sum())
        left = leaves < drawn_time
        drawn_status[left] = CENSORED
        drawn_time = np.minimum(np.where(left, leaves, drawn_time), horizon_days + 1.0)
        values[number] = smoothed(ranks, *at_horizon(drawn_time, drawn_status, horizon_days)).gap
    return values


def ici_floor_now(risk: Floats, seed: int = 1, simulations: int = SIMULATIONS) -> Floats:
    """`ici_floor` for an outcome known at once: outcomes drawn with probability `risk`, nobody censored.

    Shape: risk (N,); the result (simulations,).
    """
    generator = np.random.default_rng(seed)
    ones, ranks = np.ones(len(risk)), Ranks.of(risk)
    return np.array(
        [smoothed(ranks, (generator.random(len(risk)) < risk).astype(np.float64), ones).gap for _ in range(simulations)]
    )


_CENTRES: Final = (np.arange(_BINS) + 0.5) / _BINS
_KERNEL: Final = np.exp(-0.5 * ((_CENTRES[:, None] - _CENTRES[None, :]) / BANDWIDTH) ** 2)


def _rank_bins(ranks: Ranks, count: Floats) -> NDArray[np.int64]:
    people = np.bincount(ranks.rank, weights=count)
    middle = (np.cumsum(people) - 0.5 * people) / people.sum()
    bins: NDArray[np.int64] = np.minimum(middle * _BINS, _BINS - 1).astype(np.int64)[ranks.rank]
    return bins
