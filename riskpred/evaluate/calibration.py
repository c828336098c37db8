"""Whether a risk of 10 % means 10 in 100: calibration in the large, slope, ICI with its floor, reliability curve."""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from riskpred.evaluate.censoring import CENSORED, COMPETING, OUTCOME, Floats, Undefined, at_horizon, observation

Link = Literal["cloglog", "logit"]
"""Scale of slope and citl: cloglog for a risk by a horizon (the scale of log-rates), logit for one known at once."""

BANDWIDTH: Final = 0.08
"""Standard deviation of the smoothing kernel, as a share of people ranked by risk."""

SIMULATIONS: Final = 20
"""Simulated samples behind the floor of the ICI."""

_BINS: Final = 500
_EDGE: Final = 1e-9  # risks of exactly 0 and 1 are infinite on either scale
_STEPS: Final = 50


def citl(risk: Floats, outcome: Floats, weight: Floats, link: Link = "cloglog") -> float:
    """Calibration in the large: the a of link(P) = a + link(risk), by weighted maximum likelihood.

    0 is perfect; below 0 risks are too high, above 0 too low. For small risks exp(a) is observed over expected.

    Shape: risk (0 to 1), outcome (0 or 1), weight (of `at_horizon`, or 1) (N,).
    Raises: ValueError: shapes differ or a risk outside 0..1; Undefined: one class only, or no finite solution.
    Source: Cox 1958, Biometrika 45:562-565; Steyerberg 2019, Clinical Prediction Models, 2nd ed., ch. 15.
    """
    score = _scale(risk, outcome, weight, link)
    return float(_regress(np.ones((len(risk), 1)), score, outcome, weight, link)[0])


def slope(risk: Floats, outcome: Floats, weight: Floats, link: Link = "cloglog") -> float:
    """Calibration slope: the b of link(P) = a + b link(risk), by weighted maximum likelihood.

    1 is perfect; below 1 risks are too extreme, above 1 too timid.
    Shape, Raises, Source: as `citl`; Undefined also when all risks are equal.
    """
    return intercept_and_slope(risk, outcome, weight, link)[1]


def intercept_and_slope(risk: Floats, outcome: Floats, weight: Floats, link: Link = "cloglog") -> tuple[float, float]:
    """(a, b) of link(P) = a + b link(risk). Shape, Raises, Source: as `citl` and `slope`."""
    score = _scale(risk, outcome, weight, link)
    used = score[weight > 0]
    if not len(used) or float(np.ptp(used)) < 1e-9:
        raise Undefined("all risks are equal")
    centre = float(np.average(score, weights=weight))
    a, b = _regress(np.column_stack([np.ones(len(risk)), score - centre]), np.zeros(len(risk)), outcome, weight, link)
    return float(a - b * centre), float(b)


@dataclass(frozen=True)
class Reliability:
    """Smoothed picture: people ranked by risk; risk, observed (smoothed alike) and people, each (P,)."""

    risk: Floats
    observed: Floats
    people: Floats


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
    if float(weight.sum()) <= 0:
        raise Undefined("nobody's outcome is known")
    place = _rank_bins(risk, np.ones(len(risk)) if count is None else count)
    sums = [np.bincount(place, weights=values, minlength=_BINS) for values in (weight, weight * outcome, weight * risk)]
    held = sums[0] > 0
    mass, events, expected = (_KERNEL @ np.stack(sums, axis=1))[held].T
    return Reliability(expected / mass, events / mass, sums[0][held].astype(np.float64))


def ici(risk: Floats, outcome: Floats, weight: Floats, count: Floats | None = None) -> float:
    """Integrated calibration index: weighted mean of |smoothed (outcome - risk)| along the rank of risk.

    Never 0 in a finite sample: compare with `ici_floor`.
    Shape, Raises: as `reliability`.
    Source: Austin & Steyerberg 2019, Stat Med 38:4051-4065 (there with loess; here the kernel of `reliability`).
    """
    curve = reliability(risk, outcome, weight, count)
    return float(np.average(np.abs(curve.observed - curve.risk), weights=curve.people))


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
    size = len(risk)
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
        values[number] = ici(risk, *at_horizon(drawn_time, drawn_status, horizon_days))
    return values


def ici_floor_now(risk: Floats, seed: int = 1, simulations: int = SIMULATIONS) -> Floats:
    """`ici_floor` for an outcome known at once: outcomes drawn with probability `risk`, nobody censored.

    Shape: risk (N,); the result (simulations,).
    """
    generator = np.random.default_rng(seed)
    ones = np.ones(len(risk))
    return np.array(
        [ici(risk, (generator.random(len(risk)) < risk).astype(np.float64), ones) for _ in range(simulations)]
    )


def _kernel() -> Floats:
    centre = (np.arange(_BINS) + 0.5) / _BINS
    return np.asarray(np.exp(-0.5 * ((centre[:, None] - centre[None, :]) / BANDWIDTH) ** 2), dtype=np.float64)


_KERNEL: Final = _kernel()


def _rank_bins(risk: Floats, count: Floats) -> NDArray[np.int64]:
    _, place = np.unique(risk, return_inverse=True)
    people = np.bincount(place, weights=count)
    middle = (np.cumsum(people) - 0.5 * people) / people.sum()
    bins: NDArray[np.int64] = np.minimum(middle[place] * _BINS, _BINS - 1).astype(np.int64)
    return bins


def _scale(risk: Floats, outcome: Floats, weight: Floats, link: Link) -> Floats:
    if risk.ndim != 1 or risk.shape != outcome.shape or risk.shape != weight.shape:
        raise ValueError("risk, outcome and weight must be one-dimensional and of one length")
    if not np.all((risk >= 0) & (risk <= 1)):
        raise ValueError("every risk must lie between 0 and 1")
    events, everyone = float(np.sum(weight * outcome)), float(np.sum(weight))
    if not 0.0 < events < everyone:
        raise Undefined("only one class is there")
    inside = np.clip(risk, _EDGE, 1.0 - _EDGE)
    with_without = np.log(inside), np.log1p(-inside)
    return with_without[0] - with_without[1] if link == "logit" else np.log(-with_without[1])


def _regress(design: Floats, offset: Floats, outcome: Floats, weight: Floats, link: Link) -> Floats:
    """Fisher scoring with step halving for link(P) = offset + design @ beta. Raises: Undefined, when none converges."""
    beta = np.zeros(design.shape[1])
    if np.all(offset == 0):  # the intercept alone starts at the mean, so that the first step is never wild
        mean = float(np.average(outcome, weights=weight))
        beta[0] = np.log(mean / (1 - mean)) if link == "logit" else np.log(-np.log1p(-mean))
    value, score, information = _likelihood(design, offset, beta, outcome, weight, link)
    for _ in range(_STEPS):
        try:
            step = np.linalg.solve(information, score)
        except np.linalg.LinAlgError:
            raise Undefined("the calibration regression has no single solution") from None
        if float(np.abs(step).max()) < 1e-8:
            return beta
        for _halving in range(30):
            trial = _likelihood(design, offset, beta + step, outcome, weight, link)
            if trial[0] >= value - 1e-12 * abs(value):
                break
            step = 0.5 * step
        else:
            return beta
        beta = beta + step
        value, score, information = trial
        if float(np.abs(beta).max()) > 50:
            break
    raise Undefined("the calibration regression has no finite solution")


def _likelihood(
    design: Floats, offset: Floats, beta: Floats, outcome: Floats, weight: Floats, link: Link
) -> tuple[float, Floats, Floats]:
    eta = np.clip(offset + design @ beta, -30.0, 30.0 if link == "logit" else 3.5)
    if link == "logit":
        chance = 1.0 / (1.0 + np.exp(-eta))
        log_not = -np.logaddexp(0.0, eta)
        change = chance * (1.0 - chance)
    else:
        rate = np.exp(eta)
        chance, log_not = -np.expm1(-rate), -rate
        change = rate * np.exp(-rate)
    value = float(np.sum(weight * (outcome * np.log(chance) + (1.0 - outcome) * log_not)))
    spread = chance * np.exp(log_not)
    score = design.T @ (weight * (outcome - chance) * change / spread)
    information = (design * (weight * change**2 / spread)[:, None]).T @ design
    return value, score, information
