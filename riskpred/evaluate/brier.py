"""How far risks lie from what happened: Brier score, its integral over horizons, and the gain over one risk for all."""

import numpy as np

from riskpred.evaluate.censoring import Floats, Undefined


def brier(risk: Floats, outcome: Floats, weight: Floats) -> float:
    """Weighted mean of (outcome - risk)^2; with the weights of `at_horizon` the IPCW Brier score at that horizon.

    Shape: risk (0 to 1), outcome (0 or 1), weight (N,).
    Raises: ValueError: shapes differ or a risk outside 0..1; Undefined: no row has weight.
    Source: Graf et al. 1999, Stat Med 18:2529-2545; Schoop et al. 2011, Biom J 53:88-112 (competing events).
    """
    if risk.ndim != 1 or risk.shape != outcome.shape or risk.shape != weight.shape:
        raise ValueError("risk, outcome and weight must be one-dimensional and of one length")
    if not np.all((risk >= 0) & (risk <= 1)):
        raise ValueError("every risk must lie between 0 and 1")
    total = float(weight.sum())
    if total <= 0:
        raise Undefined("nobody's outcome is known")
    return float(np.sum(weight * (outcome - risk) ** 2)) / total


def ipa(risk: Floats, outcome: Floats, weight: Floats) -> float:
    """Index of prediction accuracy: 1 - Brier(risk) / Brier(the same risk for everyone).

    The risk for everyone is the weighted mean outcome of these rows (their Aalen-Johansen estimate). 0 = no better
    than that, below 0 = worse.

    Shape, Raises: as `brier`; Undefined also when everyone or no one has the outcome.
    Source: Kattan & Gerds 2018, Diagn Progn Res 2:7.
    """
    own = brier(risk, outcome, weight)
    mean = float(np.sum(weight * outcome)) / float(weight.sum())
    if not 0.0 < mean < 1.0:
        raise Undefined("only one class is there")
    return 1.0 - own / (mean * (1.0 - mean))


def ibs(briers: Floats, horizons_years: Floats) -> float:
    """Integrated Brier score from 0 to the last horizon, by the trapezoid rule over the horizons, divided by it.

    The score at time 0 is 0: nobody has the outcome and every risk is 0. Bundles and peers give risks at the horizons
    only, so these are the grid; an integral over a finer grid (as in published tables) differs a little.

    Shape: briers, horizons_years (H,), horizons rising and above 0.
    Raises: ValueError: shapes differ, or horizons that do not rise from above 0.
    Source: Graf et al. 1999, Stat Med 18:2529-2545.
    Example:
        >>> round(ibs(np.array([0.02, 0.04]), np.array([1.0, 3.0])), 6)
        0.023333
    """
    if briers.ndim != 1 or briers.shape != horizons_years.shape or not len(briers):
        raise ValueError("one Brier score per horizon is needed")
    grid = np.concatenate([[0.0], horizons_years])
    if not np.all(np.diff(grid) > 0):
        raise ValueError("horizons must rise from above 0")
    values = np.concatenate([[0.0], briers])
    return float(np.sum(np.diff(grid) * 0.5 * (values[1:] + values[:-1])) / grid[-1])
