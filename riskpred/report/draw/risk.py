"""Risks drawn: by horizon as a curve, known at once as a bar, as people in a hundred, and over past runs."""

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from riskpred.report.draw.svg import dots, line, seconds, svg, tick
from riskpred.report.words import Words

_STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)


def risk_scale(outcomes: Sequence[dict[str, Any]]) -> float:
    """Upper end of the risk axis, the same for every outcome of a page so that they can be compared by eye."""
    rows = [row for one in outcomes for row in one["horizons"]]
    past = [row for one in outcomes for row in one["past"]["risks"]]
    shown = [row[name] for row in rows for name in ("risk_high", "reference_risk")] + [row["risk_high"] for row in past]
    highest = max(shown, default=1.0)
    return next((step for step in _STEPS if step >= highest), 1.0)


def curve(words: Words, horizons: Sequence[dict[str, Any]], scale: float, label: str) -> Markup:
    """Risk (line, dots) with its 90 % interval (band) and the starting point (dashed) by horizon.

    Args:
        horizons: rows with horizon_years, risk, risk_low, risk_high, reference_risk; rising; not only "now".
        scale: upper end of the risk axis (share).
        label: what the risk is of, for the alternative text.
    """
    left, right, top, bottom, width, height = 36, 12, 8, 22, 320, 128
    longest: float = max(row["horizon_years"] for row in horizons)

    def x(years: float) -> float:
        return left + (width - left - right) * years / longest

    def y(share: float) -> float:
        return height - bottom - (height - top - bottom) * min(share, scale) / scale

    def places(name: str) -> list[tuple[float, float]]:
        return [(x(0), y(0)), *((x(row["horizon_years"]), y(row[name])) for row in horizons)]

    back = "L".join(f"{x(r['horizon_years']):.1f} {y(r['risk_low']):.1f}" for r in reversed(horizons))
    parts = [f'<path class="band" d="{line(places("risk_high"))}L{back}Z"/>']
    for share in (0.0, scale / 2, scale):
        parts.append(f'<path class="grid" d="M{left} {y(share):.1f}H{width - right}"/>')
        parts.append(tick(left - 4, y(share) + 3.5, words.tick(share), "end"))
    taken = -math.inf
    for row in reversed(horizons):  # the longest horizon keeps its label where two would overlap
        at = x(row["horizon_years"])
        anchor = "end" if row is horizons[-1] else "middle"
        if taken == -math.inf or taken - at > 46:
            parts.append(tick(at, height - 8, words.horizon(row["horizon_years"]), anchor))
            taken = at if anchor == "middle" else at - 20
    parts.append(f'<path class="reference" d="{line(places("reference_risk"))}"/>')
    parts.append(f'<path class="risk" d="{line(places("risk"))}"/>')
    parts.append(f'<path class="dots" d="{dots(places("risk")[1:])}"/>')
    spoken = "; ".join(
        words.say(
            "%(within)s %(risk)s (90 %% interval %(interval)s, starting point %(reference)s)",
            within=words.within(row["horizon_years"]),
            **_said(words, row),
        )
        for row in horizons
    )
    return svg("curve", width, height, words.say("Risk over time, %(label)s", label=label), spoken, parts)


def range_bar(words: Words, row: dict[str, Any], scale: float, label: str) -> Markup:
    """One risk that is known at once: dot, 90 % interval, starting point as a tick."""
    left, right, width, height = 12, 12, 320, 54

    def x(share: float) -> float:
        return left + (width - left - right) * min(share, scale) / scale

    parts = [
        f'<path class="grid" d="M{left} 22H{width - right}"/>',
        f'<path class="span" d="M{x(row["risk_low"]):.1f} 22H{x(row["risk_high"]):.1f}"/>',
        f'<path class="reference" d="M{x(row["reference_risk"]):.1f} 10V34"/>',
        f'<path class="dots" d="{dots([(x(row["risk"]), 22)])}"/>',
    ]
    for share, anchor in ((0.0, "start"), (scale / 2, "middle"), (scale, "end")):
        parts.append(tick(x(share), 48, words.tick(share), anchor))
    spoken = words.say("%(risk)s (90 %% interval %(interval)s, starting point %(reference)s)", **_said(words, row))
    return svg("curve", width, height, words.say("Risk now, %(label)s", label=label), spoken, parts)


def _said(words: Words, row: dict[str, Any]) -> dict[str, str]:
    return {
        "risk": words.percent(row["risk"]),
        "interval": words.percent_range(row["risk_low"], row["risk_high"]),
        "reference": words.percent(row["reference_risk"]),
    }


def people(words: Words, with_event: int, denominator: int, label: str) -> Markup:
    """`denominator` people, those with the event drawn solid and first, the others in outline."""
    columns = 25 if denominator <= 100 else 50
    step = 16 if denominator <= 100 else 6.4
    rows = math.ceil(denominator / columns)
    size = 1.0 if denominator <= 100 else 0.4

    def figures(first: int, last: int) -> str:
        drawn = []
        for index in range(first, last):
            row, column = divmod(index, columns)
            cx, cy = (column + 0.5) * step, (row * 1.35 + 0.3) * step
            drawn.append(f"M{cx:.4g} {cy:.4g}h0M{cx:.4g} {cy + 7.4 * size:.4g}v{4.2 * size:.4g}")
        return "".join(drawn)

    others, those = figures(with_event, denominator), figures(0, with_event)
    thin = f'stroke-width="{7 * size:g}"'
    thinner = f'stroke-width="{5 * size:g}"'
    parts = [
        f'<path class="without" {thin} d="{others}"/><path class="hollow" {thinner} d="{others}"/>' if others else "",
        f'<path class="with" {thin} d="{those}"/>' if those else "",
    ]
    text = words.say(
        "%(with)s of %(all)s people drawn solid, %(without)s in outline",
        **{"with": with_event, "all": denominator, "without": denominator - with_event},
    )
    title = words.say("People like this one, %(label)s", label=label)
    return svg("people", columns * step, rows * 1.35 * step, title, text, parts)


def history(words: Words, past: Sequence[dict[str, Any]], now: dict[str, Any], scale: float, label: str) -> Markup:
    """Risk at one horizon as it was computed over time; solid dots are this model's, hollow ones another's.

    Args:
        past: earlier risks, oldest first, at least one: prediction_time, risk, risk_low, risk_high, same_model.
        now: the latest one, likewise.
        scale: upper end of the risk axis (share).
    """
    left, right, top, bottom, width, height = 36, 12, 7, 18, 320, 66
    rows = [*past, now]
    stamps = [seconds(row["prediction_time"]) for row in rows]
    first, last = min(stamps), max(stamps)

    def x(stamp: float) -> float:
        return left + (width - left - right) * ((stamp - first) / (last - first) if last > first else 1.0)

    def y(share: float) -> float:
        return height - bottom - (height - top - bottom) * min(share, scale) / scale

    places = [(x(stamp), y(row["risk"])) for stamp, row in zip(stamps, rows, strict=True)]
    parts = []
    for share in (0.0, scale):
        parts.append(f'<path class="grid" d="M{left} {y(share):.1f}H{width - right}"/>')
        parts.append(tick(left - 4, y(share) + 3.5, words.tick(share), "end"))
    whiskers = "".join(
        f"M{a:.1f} {y(row['risk_low']):.1f}V{y(row['risk_high']):.1f}" for (a, _), row in zip(places, rows, strict=True)
    )
    parts.append(f'<path class="whisker" d="{whiskers}"/><path class="line" d="{line(places)}"/>')
    same = [place for place, row in zip(places, rows, strict=True) if row["same_model"]]
    other = [place for place, row in zip(places, rows, strict=True) if not row["same_model"]]
    parts.append(f'<path class="dots" d="{dots(same)}"/>')
    if other:
        parts.append(f'<path class="dots" d="{dots(other)}"/><path class="holes" d="{dots(other)}"/>')
    start, end = words.date(rows[0]["prediction_time"]), words.date(rows[-1]["prediction_time"])
    parts.append(tick(left, height - 4, start))
    if start != end:
        parts.append(tick(width - right, height - 4, end, "end"))
    spoken = "; ".join(f"{words.date(row['prediction_time'])} {words.percent(row['risk'])}" for row in rows)
    return svg("history", width, height, words.say("Risk in past runs, %(label)s", label=label), spoken, parts)
