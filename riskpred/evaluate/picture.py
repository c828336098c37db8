"""Geometry of the page's pictures, in the pixels of an inline SVG: reliability, histogram of risks, decision curve."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from riskpred.evaluate.calibration import reliability, smoothed
from riskpred.evaluate.censoring import DAYS_PER_YEAR, OUTCOME, Floats, Undefined, at_horizon
from riskpred.evaluate.decision import TREAT_ALL, TREAT_NONE, decisions
from riskpred.evaluate.gather import MODEL, Evaluated
from riskpred.evaluate.intervals import LEVEL, resampled_counts, resamples_for
from riskpred.evaluate.measure import MIN_EVENTS, ONLY, People
from riskpred.evaluate.metrics import TRUTH, people_of
from riskpred.evaluate.timeline import Ranks, Timeline, weights
from riskpred.model.risk import Z90

SIZE: Final = 300
"""Side of the square plot, pixels."""

BARS: Final = 30
GROUPS: Final = 10
POINTS: Final = 120
THRESHOLDS: Final = 60


def pictures(
    evaluated: Evaluated, outcome: str, *, seed: int = 1, resamples: int | None = None
) -> list[dict[str, Any] | None]:
    """For each horizon of an outcome what its pictures draw; None where there are too few events.

    Each: limit (the risk at the far end of both axes), ticks, curves (model, points), band (points: the 90 % bootstrap
    band around the first curve), groups (x, y, low, high: ten equal groups of risk with the 90 % interval of what was
    observed), bars (x, width, height), text that says it, and decision (see `_decision`). Repeats of a
    cross-validation are averaged first.
    """
    _, people, risks = people_of(evaluated, outcome, np.ones(len(evaluated), dtype=np.bool_))
    shown = {model: risk.mean(axis=0) for model, risk in risks.items() if model != TRUTH and not model.endswith(ONLY)}
    if MODEL not in shown:
        return [None] * len(people.horizons_years)
    shown = {MODEL: shown.pop(MODEL), **shown}
    draws = resamples or resamples_for(len(people))
    return [_picture(people, shown, h, draws, seed) for h in range(len(people.horizons_years))]


def _picture(people: People, risks: Mapping[str, Floats], h: int, draws: int, seed: int) -> dict[str, Any] | None:
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
    limit = _round_up(max(float(np.quantile(own, 0.98)), *(group["high"] for group in groups)))
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
        "band": _band(people, own, h, limit, draws, seed),
        "groups": drawn,
        "bars": bars,
        "text": f"Ten equal groups by risk, lowest first: {said}.",
        "decision": _decision(people, risks, h, draws, seed),
    }


def _band(people: People, risk: Floats, h: int, limit: float, draws: int, seed: int) -> str:
    """Outline of the middle 90 % of the reliability curve over resamples, along the curve's own risks."""
    ranks = Ranks.of(risk)
    outcome, base = (people.status == OUTCOME).astype(np.float64), np.ones(len(people))
    timeline = None if people.known_at_once else Timeline.of(people.time_days, people.status)
    horizon = None
    if timeline is not None:
        horizon = timeline.at(people.horizons_years[h] * DAYS_PER_YEAR)
        outcome, base = horizon.outcome, weights(horizon, timeline.staying(None), None)
    middle = smoothed(ranks, outcome, base)
    off = []
    for count in resampled_counts(people.subject_id, draws, seed):
        try:
            weight = count if timeline is None or horizon is None else weights(horizon, timeline.staying(count), count)
            curve = smoothed(ranks, outcome, weight, count)
        except Undefined:
            continue
        off.append(np.interp(middle.rank, curve.rank, curve.observed - curve.risk))
    if not off:
        return ""
    low, high = (middle.risk + bound for bound in np.quantile(off, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0))
    step = np.unique(np.linspace(0, len(low) - 1, POINTS).astype(int))
    step = step[middle.risk[step] <= limit]
    there = [f"{_x(middle.risk[i], limit)},{_y(float(np.clip(high[i], 0.0, limit)), limit)}" for i in step]
    back = [f"{_x(middle.risk[i], limit)},{_y(float(np.clip(low[i], 0.0, limit)), limit)}" for i in step[::-1]]
    return " ".join([*there, *back])


def _decision(people: People, risks: Mapping[str, Floats], h: int, draws: int, seed: int) -> dict[str, Any] | None:
    """The decision curve: curves (model, points) and band of net benefit over thresholds; None where it has no value.

    ticks_x and ticks_y: at, text; zero: where a net benefit of 0 lies; text says it. Net benefit is per 1,000 people.
    """
    limit = min(0.6, _round_up(float(np.quantile(risks[MODEL][:, h], 0.98))))
    thresholds = np.linspace(limit / THRESHOLDS, limit, THRESHOLDS)
    try:
        found = decisions(
            people, {name: risk[None] for name, risk in risks.items()}, h, thresholds.tolist(), draws, seed
        )
    except Undefined:
        return None
    own = found.pop(MODEL)
    everyone = [measured.value or 0.0 for measured in found.pop(TREAT_ALL)]
    del found[TREAT_NONE]  # the line at 0
    share = everyone[0] + (1.0 - everyone[0]) * thresholds[0]  # near the incidence, where every curve begins
    top = _round_up(1.08 * max(share, *(measured.high or 0.0 for measured in own)))
    bottom = -0.25 * top

    def points(values: Sequence[float]) -> str:
        return " ".join(f"{x},{y}" for x, y in _clipped(thresholds, values, limit, top, bottom))

    def y(value: float) -> float:
        return _height(value, top, bottom)

    band = [(_x(t, limit), y(m.high)) for t, m in zip(thresholds, own, strict=True) if m.high is not None]
    back = [(_x(t, limit), y(m.low)) for t, m in zip(thresholds, own, strict=True) if m.low is not None]
    curves = [{"model": MODEL, "points": points([measured.value or 0.0 for measured in own])}]
    curves += [{"model": name, "points": points([one.value or 0.0 for one in each])} for name, each in found.items()]
    said = "; ".join(
        f"{thresholds[i]:.1%}: {1000 * (own[i].value or 0.0):.1f}, treating all {1000 * everyone[i]:.1f}"
        for i in range(THRESHOLDS // 6 - 1, THRESHOLDS, THRESHOLDS // 6)
    )
    return {
        "curves": curves,
        "all": points(everyone),
        "band": " ".join(f"{x},{at}" for x, at in [*band, *reversed(back)]),
        "zero": y(0.0),
        "ticks_x": [{"at": round(SIZE * part, 1), "text": f"{100 * limit * part:g} %"} for part in (0.0, 0.5, 1.0)],
        "ticks_y": [{"at": y(top * part), "text": f"{1000 * top * part:g}"} for part in (0.0, 0.5, 1.0)],
        "text": f"Net benefit per 1,000 people at thresholds of {said}; treating no one 0.",
    }


def curve_picture(title: str, better: str, curves: Mapping[str, Floats]) -> dict[str, Any]:
    """Mean distance from a person's own risk as features go or come back, one line a model.

    Keys: title, better, curves (model, points), ticks_x, ticks_y (at, text), text that says it.
    Shape: curves: model -> (B, points).
    """
    means = {model: curve.mean(axis=0) for model, curve in curves.items()}
    top = max(float(mean.max()) for mean in means.values()) or 1.0
    share = np.linspace(0.0, 1.0, len(next(iter(means.values()))))

    def points(mean: Floats) -> str:
        return " ".join(
            f"{round(SIZE * x, 1)},{round(SIZE * (1 - y / top), 1)}" for x, y in zip(share, mean, strict=True)
        )

    half = len(share) // 2
    return {
        "title": title,
        "better": better,
        "curves": [{"model": model, "points": points(mean)} for model, mean in means.items()],
        "ticks_x": [{"at": round(SIZE * part, 1), "text": f"{100 * part:g} %"} for part in (0.0, 0.5, 1.0)],
        "ticks_y": [
            {"at": round(SIZE * (1 - part), 1), "text": f"{top * part:.2g}" if part else "0"}
            for part in (0.0, 0.5, 1.0)
        ],
        "text": "At half of the features, in risk points: "
        + "; ".join(f"{model} {mean[half]:.2f}" for model, mean in means.items()),
    }


def _clipped(
    thresholds: Floats, values: Sequence[float], limit: float, top: float, bottom: float
) -> list[tuple[float, float]]:
    """Points of a curve down to the picture's lower edge, which it meets exactly."""
    found: list[tuple[float, float]] = []
    for i, value in enumerate(values):
        if value < bottom:
            if i and values[i - 1] > bottom:
                part = (values[i - 1] - bottom) / (values[i - 1] - value)
                threshold = thresholds[i - 1] + part * (thresholds[i] - thresholds[i - 1])
                found.append((_x(float(threshold), limit), float(SIZE)))
            break
        found.append((_x(float(thresholds[i]), limit), _height(value, top, bottom)))
    return found


def _height(value: float, top: float, bottom: float) -> float:
    return round(SIZE * (top - min(max(value, bottom), top)) / (top - bottom), 1)


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
