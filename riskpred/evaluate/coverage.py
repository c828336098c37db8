"""Whether intervals hold what they promise: observed incidence in groups of risk, and true risks where known."""

from typing import Final

import numpy as np

from riskpred.evaluate.censoring import Floats, Undefined
from riskpred.model.risk import Z90, jackknife_error

GROUPS: Final = 20
"""Equal groups of people ranked by risk."""


def grouped_coverage(risk: Floats, member: Floats, outcome: Floats, weight: Floats) -> float:
    """Share of 20 equal groups of risk whose observed incidence lies as near to the mean risk as it promises.

    A group is covered when |observed - mean risk| <= 1.645 sqrt(s^2 + SE^2): observed is the weighted mean outcome
    (the Aalen-Johansen estimate), s the jackknife error over members of the group's mean risk, SE^2 =
    sum w^2 r (1 - r) / (sum w)^2, the variance that the observed incidence would have if the risks were true (so that a
    group without an event has one too).

    Shape: risk, outcome, weight (N,); member (M, N), M >= 2.
    Raises: ValueError: shapes differ; Undefined: fewer people than groups, or a group whose outcomes are all unknown.
    """
    if risk.shape != outcome.shape or risk.shape != weight.shape or member.shape[1:] != risk.shape:
        raise ValueError("risk, outcome and weight must be (N,) and member (M, N)")
    if len(risk) < GROUPS:
        raise Undefined(f"fewer than {GROUPS} people")
    covered = 0
    for rows in np.array_split(np.argsort(risk, kind="stable"), GROUPS):
        mass = float(weight[rows].sum())
        if mass <= 0:
            raise Undefined("a group of risk has no known outcome")
        observed = float(np.sum(weight[rows] * outcome[rows])) / mass
        mean = float(risk[rows].mean())
        spread = float(jackknife_error(member[:, rows].mean(axis=1)))
        error2 = float(np.sum(weight[rows] ** 2 * risk[rows] * (1.0 - risk[rows]))) / mass**2
        covered += abs(observed - mean) <= Z90 * np.sqrt(spread**2 + error2)
    return covered / GROUPS


def true_coverage(truth: Floats, low: Floats, high: Floats) -> float:
    """Share of people whose interval holds their true risk. Shape: (N,). Raises: Undefined, without people."""
    if not len(truth):
        raise Undefined("nobody's true risk is known")
    return float(np.mean((low <= truth) & (truth <= high)))


def rank_agreement(risk: Floats, truth: Floats) -> float:
    """Spearman's rank correlation of risk and true risk. Shape: (N,). Raises: Undefined, where one is constant."""
    from scipy.stats import rankdata

    first, second = rankdata(risk), rankdata(truth)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        raise Undefined("all risks are equal")
    return float(np.corrcoef(first, second)[0, 1])
