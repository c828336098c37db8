"""Whether acting on the risks does more good than treating everyone or no one: net benefit and the decision curve."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from riskpred.evaluate.censoring import DAYS_PER_YEAR, OUTCOME, Floats, Undefined
from riskpred.evaluate.intervals import interval, resampled_counts
from riskpred.evaluate.measure import Measured, People
from riskpred.evaluate.timeline import Timeline, weights

THRESHOLDS: Final = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
"""Risks at which one might act; those within the range of a model's risks are given."""

TREAT_ALL: Final = "treat all"
TREAT_NONE: Final = "treat none"
"""`model` of the two policies that need no model."""


def net_benefit(risk: Floats, outcome: Floats, weight: Floats, thresholds: Floats) -> Floats:
    """Share of true positives less that of false positives at the exchange rate of the threshold.

    NB(p) = TP / n - FP / n x p / (1 - p), where positive means risk >= p, and TP, FP and n are sums of weights. With
    the weights of `at_horizon` people lost before the horizon are met by inverse probability of censoring, and whoever
    had a competing event first is a false positive when treated. Treating everyone is a risk of 1 for all; treating no
    one has a net benefit of 0.

    Shape: risk (0 to 1), outcome (0 or 1), weight (N,); thresholds (T,) above 0 and below 1; result (T,).
    Raises: ValueError: shapes differ, a risk outside 0..1 or a threshold not between; Undefined: no row has weight.
    Source: Vickers & Elkin 2006, Med Decis Making 26:565-574; Vickers et al. 2008, BMC Med Inform Decis Mak 8:53
    (censoring and competing events).
    Example:
        >>> one_in_four = np.array([1.0, 0.0, 0.0, 0.0])
        >>> net_benefit(np.array([0.3, 0.3, 0.1, 0.1]), one_in_four, np.ones(4), np.array([0.2]))
        array([0.1875])
    """
    if risk.ndim != 1 or risk.shape != outcome.shape or risk.shape != weight.shape:
        raise ValueError("risk, outcome and weight must be one-dimensional and of one length")
    if not np.all((risk >= 0) & (risk <= 1)):
        raise ValueError("every risk must lie between 0 and 1")
    if not np.all((thresholds > 0) & (thresholds < 1)):
        raise ValueError("every threshold must lie between 0 and 1")
    order = np.argsort(thresholds, kind="stable")
    result = np.empty(len(thresholds))
    result[order] = _benefit(np.searchsorted(thresholds[order], risk, side="right"), outcome, weight, thresholds[order])
    return result


def _benefit(reached: NDArray[np.int64], outcome: Floats, weight: Floats, thresholds: Floats) -> Floats:
    """Net benefit at rising thresholds, from how many of them each risk reaches. Shape: as `net_benefit`."""
    total = float(weight.sum())
    if total <= 0:
        raise Undefined("nobody's outcome is known")
    size = len(thresholds) + 1
    cases = np.bincount(reached, weights=weight * outcome, minlength=size)
    everyone = np.bincount(reached, weights=weight, minlength=size)
    # Positive at threshold t: those who reach more than t thresholds.
    true = cases[::-1].cumsum()[::-1][1:]
    treated = everyone[::-1].cumsum()[::-1][1:]
    return np.asarray((true - (treated - true) * thresholds / (1.0 - thresholds)) / total, dtype=np.float64)


def thresholds_within(risk: Floats) -> tuple[float, ...]:
    """Those of THRESHOLDS that some risks reach and some do not. Shape: risk of any."""
    low, high = float(risk.min()), float(risk.max())
    return tuple(threshold for threshold in THRESHOLDS if low < threshold <= high)


def decisions(
    people: People, risks: Mapping[str, Floats], h: int, thresholds: Sequence[float], resamples: int, seed: int
) -> dict[str, list[Measured]]:
    """Net benefit of each model, of treating all and of treating none at one horizon, with 90 % intervals.

    Args:
        risks: model -> (R, n, H); with R repeats the mean of each.
        thresholds: rising, T of them.

    The resamples are those of `measure` with the same seed. Shape: each list has T entries.
    Raises: Undefined: too few are followed to the horizon.
    """
    given = np.asarray(thresholds, dtype=np.float64)
    policies = {name: [np.searchsorted(given, one[:, h], side="right") for one in risk] for name, risk in risks.items()}
    policies[TREAT_ALL] = [np.full(len(people), len(given))]
    timeline = None if people.known_at_once else Timeline.of(people.time_days, people.status)
    horizon = None if timeline is None else timeline.at(people.horizons_years[h] * DAYS_PER_YEAR)
    known = (people.status == OUTCOME).astype(np.float64)

    def values(count: Floats | None) -> Floats:
        if timeline is None or horizon is None:
            outcome, weight = known, np.ones(len(people)) if count is None else count
        else:
            outcome, weight = horizon.outcome, weights(horizon, timeline.staying(count), count)
        return np.stack(
            [
                np.mean([_benefit(reached, outcome, weight, given) for reached in repeats], axis=0)
                for repeats in policies.values()
            ]
        )

    point = values(None)
    drawn = np.full((resamples, *point.shape), np.nan)
    for number, count in enumerate(resampled_counts(people.subject_id, resamples, seed)):
        try:
            drawn[number] = values(count)
        except Undefined:
            continue
    found = {
        name: [_measured(float(point[m, t]), drawn[:, m, t]) for t in range(len(given))]
        for m, name in enumerate(policies)
    }
    found[TREAT_NONE] = [Measured(0.0, 0.0, 0.0) for _ in given]
    return found


def _measured(value: float, drawn: Floats) -> Measured:
    bounds = interval(drawn)
    return Measured(value, *bounds) if bounds else Measured(value)
