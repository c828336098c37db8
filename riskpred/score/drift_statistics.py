"""How far two populations lie apart, when that matters, and when it is more than chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import asin, sqrt
from typing import Final, Literal

import numpy as np
from scipy.special import chdtri, ndtri

Flag = Literal["watch", "alarm"]

LEAST_SHARE: Final = 1e-4
"""An empty cell counts as this share, as in `evaluate`: the index would be infinite."""


@dataclass(frozen=True)
class DriftLimits:
    """From where on a difference is flagged, provided that chance alone exceeds it less often than `chance`.

    psi_watch, psi_alarm: below .1 no shift, from .25 on a major one.   Source: Siddiqi 2006, Credit Risk Scorecards.
    rate_watch, rate_alarm: Cohen's h of two rates, .2 small and .5 medium; 50 against 60 % or 0 against 1 % is .2, 50
        against 74 % is .5.   Source: Cohen 1988, Statistical Power Analysis for the Behavioral Sciences, ch. 6.
    """

    psi_watch: float = 0.1
    psi_alarm: float = 0.25
    rate_watch: float = 0.2
    rate_alarm: float = 0.5
    chance: float = 0.001


def psi(reference: Sequence[float], tonight: Sequence[float]) -> float | None:
    """Population stability index of two lists of counts, sum of (q - p) ln(q / p); None where one is empty.

    Half a person is added to every cell, else a few people who happen to leave a cell empty would look like a shift.

    Source: Siddiqi 2006, Credit Risk Scorecards, ch. 7.
    Example:
        >>> round(psi([500, 500], [750, 250]), 3)
        0.274
    """
    counts = np.array([reference, tonight], dtype=np.float64)
    if not counts.size or (counts.sum(axis=1) <= 0).any():
        return None
    counts = counts[:, counts.any(axis=0)] + 0.5
    before, after = np.maximum(counts / counts.sum(axis=1, keepdims=True), LEAST_SHARE)
    return float(np.sum((after - before) * np.log(after / before)))


def psi_flag(value: float | None, cells: int, n_reference: float, n_tonight: float, limits: DriftLimits) -> Flag | None:
    """Flag of an index over so many cells that are not empty on both sides.

    Without any shift the index times 1 / (1/n + 1/m) is about chi-squared with cells - 1 degrees of freedom.
    Source: Yurdakul & Naranjo 2020, Statistical properties of the population stability index, J Risk Model Valid 14(4).
    """
    if value is None or cells < 2:
        return None
    by_chance = (1.0 / n_reference + 1.0 / n_tonight) * float(chdtri(cells - 1, limits.chance))
    return _flag(value, limits.psi_watch, limits.psi_alarm) if value > by_chance else None


def rate_flag(
    reference: float | None, n_reference: float | None, tonight: float | None, n_tonight: float, limits: DriftLimits
) -> Flag | None:
    """Flag of two rates, up or down: by Cohen's h = 2 asin sqrt p - 2 asin sqrt q, whose variance is 1/n + 1/m."""
    if reference is None or tonight is None or not n_reference or not n_tonight:
        return None
    h = abs(2.0 * asin(sqrt(min(max(reference, 0.0), 1.0))) - 2.0 * asin(sqrt(min(max(tonight, 0.0), 1.0))))
    by_chance = -float(ndtri(limits.chance / 2.0)) * sqrt(1.0 / n_reference + 1.0 / n_tonight)
    return _flag(h, limits.rate_watch, limits.rate_alarm) if h > by_chance else None


def _flag(value: float, watch: float, alarm: float) -> Flag | None:
    if value >= alarm:
        return "alarm"
    return "watch" if value >= watch else None
