"""Geometry of the reliability picture and the histogram of risks, in the pixels of an inline SVG."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from riskpred.evaluate.calibration import reliability
from riskpred.evaluate.censoring import DAYS_PER_YEAR, OUTCOME, Floats, Undefined, at_horizon
from riskpred.evaluate.gather import MODEL, Evaluated
from riskpred.evaluate.measure import MIN_EVENTS, ONLY, People
from riskpred.evaluate.metrics import TRUTH, people_of
from riskpred.model.risk import Z90

SIZE: Final = 300
"""Side of the square plot, pixels."""

BARS: Final = 30
GROUPS: Final = 10
POINTS: Final = 120


def pictures(evaluated: Evaluated, outcome: str) -> list[dict[str, Any] | None]:
    """For each horizon of an outcome what its picture draws; None where there are too few events.

    Each: limit (the risk at the far end of both axes), ticks, curves (model, points), groups (x, y, low, high: ten
    equal groups of risk with the 90 % interval of what was observed), bars (x, width, height), and text that says it.
    Repeats of a cross-validation are averaged first.
    """
    _, people, risks = people_of(evaluated, outcome, np.ones(len(evaluated), dtype=np.bool_))
    shown = {model: risk.mean(axis=0) for model, risk in risks.items() if model != TRUTH and not model.endswith(ONLY)}
    return [_picture(people, shown, h) if MODEL in shown else None for h in range(len(people.horizons_years))]


def _picture(people: People, risks: Mapping[str, Floats], h: int) -> dict[str, Any] | None:
    years = people.horizons_years[h]
    if people.too_few(years) is not None:
        return None
    if people.known_at_once:
        outcome, weight = (people.status == OUTCOME).astype(np.float64), np.ones(len(people))
    else:
        try:
            outcome, weight = at_horizon(people.time_days, people.status, years * DAYS_PER_YEAR)
        except Undefined:  # the table beside the picture's place gives the reason
            return None
    own = risks[MODEL][:, h]
    groups = _groups(own, outcome, weight)
    limit = _round_up(max(float(np.quantile(own, 0.995)), *(group["high"] for group in groups)))
    curves = []
    for model, risk in risks.items():
        curve = reliability(risk[:, h], outcome, weight)
        step = np.unique(np.linspace(0, len(curve.risk) - 1, POINTS).astype(int))
        inside = [i for i in step if curve.risk[i] <= limit and curve.observed[i] <= limit]
        points = " ".join(f"{_x(curve.risk[i], limit)},{_y(curve.observed[i], limit)}" for i in inside)
        curves.append({"model": model, "points": points})
    drawn = [
        {
            "x": _x(group["risk"], limit),
            "y": _y(group["observed"], limit),
            "low": _y(group["low"], limit),
            "high": _y(group["high"], limit),
        }
        for group in groups
        if group["risk"] <= limit
    ]
    heights = np.histogram(np.minimum(own, limit), bins=BARS, range=(0.0, limit))[0]
    width = SIZE / BARS
    bars = [
        {"x": round(i * width, 1), "width": round(width - 1, 1), "height": round(60.0 * n / heights.max(), 1)}
        for i, n in enumerate(heights)
        if n
    ]
    said = "; ".join(f"{group['risk']:.1%} predicted, {group['observed']:.1%} observed" for group in groups)
    return {
        "limit": limit,
        "ticks": [{"at": round(SIZE * share, 1), "text": f"{100 * limit * share:g} %"} for share in (0.0, 0.5, 1.0)],
        "curves": curves,
        "groups": drawn,
        "bars": bars,
        "text": f"Ten equal groups by risk, lowest first: {said}.",
    }


def _groups(risk: Floats, outcome: Floats, weight: Floats) -> list[dict[str, float]]:
    """Mean risk, observed incidence and its 90 % interval in equal groups of risk (fewer where people are few)."""
    found = []
    order = np.argsort(risk, kind="stable")
    for rows in np.array_split(order, min(GROUPS, max(2, len(risk) // MIN_EVENTS))):
        mass = float(weight[rows].sum())
        if mass <= 0:
            continue
        observed = float(np.sum(weight[rows] * outcome[rows])) / mass
        error = float(np.sqrt(np.sum((weight[rows] * (outcome[rows] - observed)) ** 2))) / mass
        found.append(
            {
                "risk": float(np.average(risk[rows], weights=weight[rows])),
                "observed": observed,
                "low": max(0.0, observed - Z90 * error),
                "high": min(1.0, observed + Z90 * error),
            }
        )
    return found


def _x(risk: float, limit: float) -> float:
    return round(SIZE * risk / limit, 1)


def _y(risk: float, limit: float) -> float:
    return round(SIZE * (1.0 - risk / limit), 1)


def _round_up(value: float) -> float:
    """The next round number at or above a value; at most 1."""
    return min(
        step
        for step in (0.001, 0.002, 0.004, 0.01, 0.02, 0.03, 0.04, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
        if step >= min(value, 1.0)
    )
