"""Charts as inline SVG: risk by horizon, people in a hundred, bars of reasons, a series over time, an outlined image.

Every function takes plain numbers and returns markup that is safe to put on a page: texts are escaped here, numbers
are formatted here, and nothing refers to anything outside. Colours are classes of templates/style.css; no chart
says with colour alone what it does not also say with form, position or text.
"""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from markupsafe import Markup, escape

from riskpred.report.names import Names
from riskpred.report.words import Words

_STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)


def risk_scale(outcomes: Sequence[dict[str, Any]]) -> float:
    """Upper end of the risk axis, the same for every outcome of a page so that they can be compared by eye."""
    highest = max(
        (max(row["risk_high"], row["reference_risk"]) for one in outcomes for row in one["horizons"]), default=1.0
    )
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

    def line(name: str) -> str:
        places = [(x(0), y(0)), *((x(row["horizon_years"]), y(row[name])) for row in horizons)]
        return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in places)

    back = "L".join(f"{x(r['horizon_years']):.1f} {y(r['risk_low']):.1f}" for r in reversed(horizons))
    parts = [f'<path class="band" d="{line("risk_high")}L{back}Z"/>']
    for share in (0.0, scale / 2, scale):
        parts.append(f'<path class="grid" d="M{left} {y(share):.1f}H{width - right}"/>')
        tick = words.tick(share)
        parts.append(f'<text class="tick" x="{left - 4}" y="{y(share) + 3.5:.1f}" text-anchor="end">{tick}</text>')
    taken = -math.inf
    for row in reversed(horizons):  # the longest horizon keeps its label where two would overlap
        at = x(row["horizon_years"])
        anchor = "end" if row is horizons[-1] else "middle"
        if taken == -math.inf or taken - at > 46:
            text = escape(words.horizon(row["horizon_years"]))
            parts.append(f'<text class="tick" x="{at:.1f}" y="{height - 8}" text-anchor="{anchor}">{text}</text>')
            taken = at if anchor == "middle" else at - 20
    parts.append(f'<path class="reference" d="{line("reference_risk")}"/>')
    parts.append(f'<path class="risk" d="{line("risk")}"/>')
    dots = "".join(f"M{x(r['horizon_years']):.1f} {y(r['risk']):.1f}h0" for r in horizons)
    parts.append(f'<path class="dots" d="{dots}"/>')
    spoken = "; ".join(
        f"{words.within(r['horizon_years'])} {words.percent(r['risk'])} (90 % interval "
        f"{words.percent_range(r['risk_low'], r['risk_high'])}, starting point {words.percent(r['reference_risk'])})"
        for r in horizons
    )
    return _svg("curve", width, height, f"Risk over time, {label}", spoken, parts)


def range_bar(words: Words, row: dict[str, Any], scale: float, label: str) -> Markup:
    """One risk that is known at once: dot, 90 % interval, starting point as a tick."""
    left, right, width, height = 12, 12, 320, 54

    def x(share: float) -> float:
        return left + (width - left - right) * min(share, scale) / scale

    parts = [
        f'<path class="grid" d="M{left} 22H{width - right}"/>',
        f'<path class="span" d="M{x(row["risk_low"]):.1f} 22H{x(row["risk_high"]):.1f}"/>',
        f'<path class="reference" d="M{x(row["reference_risk"]):.1f} 10V34"/>',
        f'<path class="dots" d="M{x(row["risk"]):.1f} 22h0"/>',
    ]
    for share, anchor in ((0.0, "start"), (scale / 2, "middle"), (scale, "end")):
        parts.append(f'<text class="tick" x="{x(share):.1f}" y="48" text-anchor="{anchor}">{words.tick(share)}</text>')
    spoken = (
        f"{words.percent(row['risk'])} (90 % interval {words.percent_range(row['risk_low'], row['risk_high'])}, "
        f"starting point {words.percent(row['reference_risk'])})"
    )
    return _svg("curve", width, height, f"Risk now, {label}", spoken, parts)


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
    text = f"{with_event} of {denominator} people drawn solid, {denominator - with_event} in outline"
    return _svg("people", columns * step, rows * 1.35 * step, f"People like this one, {label}", text, parts)


def step_bar(start: float, end: float, low: float, high: float) -> Markup:
    """One step of the sum, from `start` to `end` on an axis `low` to `high`; decorative: the row has the numbers."""
    span = (high - low) or 1.0
    a, b = 100 * (start - low) / span, 100 * (end - low) / span
    kind = "up" if end > start else "down"
    return Markup(
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="{kind}" x="{min(a, b):.2f}" y="1" width="{max(abs(b - a), 0.6):.2f}" height="8"/></svg>'
    )


def whole_bar(at: float, low: float, high: float) -> Markup:
    """Where the sum starts or ends, on the same axis as `step_bar`."""
    span = (high - low) or 1.0
    return Markup(
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="level" x="0" y="3" width="{max(100 * (at - low) / span, 0.6):.2f}" height="4"/></svg>'
    )


def signed_bar(contribution: float, largest: float) -> Markup:
    """A reason's size: length against the largest of its outcome; decorative: the row has the number."""
    width = 100 * abs(contribution) / (largest or 1.0)
    kind = "up" if contribution > 0 else "down"
    return Markup(
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="{kind}" x="0" y="1" width="{max(width, 0.6):.2f}" height="8"/></svg>'
    )


def series(names: Names, one: dict[str, Any], until: str) -> Markup:
    """One series over time: dots joined by a line, the latest one larger.

    Args:
        one: code, unit, points (time as ISO text, value), oldest first, at least one point.
        until: prediction_time; the right edge of the drawing.
    """
    left, right, top, bottom, width, height = 42, 8, 8, 22, 260, 84
    words, name = names.words, names.code(one["code"])
    unit = f" {one['unit']}" if one["unit"] else ""
    stamps = [_seconds(point["time"]) for point in one["points"]]
    values = [float(point["value"]) for point in one["points"]]
    first, last = min(stamps), max([*stamps, _seconds(until)])
    low, high = min(values), max(values)
    middle, half = (low + high) / 2, max((high - low) / 2, abs(high) * 0.02, 1e-9)

    def x(stamp: float) -> float:
        return left + (width - left - right) * ((stamp - first) / (last - first) if last > first else 1.0)

    def y(value: float) -> float:
        return (height + top - bottom) / 2 - (height - top - bottom) / 2 * (value - middle) / half

    places = [(x(stamp), y(value)) for stamp, value in zip(stamps, values, strict=True)]
    parts = [f'<path class="grid" d="M{left} {height - bottom + 4}H{width - right}"/>']
    for value in sorted({low, high}):
        parts.append(
            f'<text class="tick" x="{left - 6}" y="{y(value) + 3.5:.1f}" text-anchor="end">{words.figure(value)}</text>'
        )
    parts.append(f'<path class="line" d="M{"L".join(f"{a:.1f} {b:.1f}" for a, b in places)}"/>')
    parts.append(f'<path class="marks" d="{"".join(f"M{a:.1f} {b:.1f}h0" for a, b in places)}"/>')
    parts.append(f'<path class="dots" d="M{places[-1][0]:.1f} {places[-1][1]:.1f}h0"/>')
    start, end = (words.date(_iso(stamp)) for stamp in (first, last))
    parts.append(f'<text class="tick" x="{left}" y="{height - 3}">{start}</text>')
    if start != end:
        parts.append(f'<text class="tick" x="{width - right}" y="{height - 3}" text-anchor="end">{end}</text>')
    spoken = (
        f"{len(values)} values from {words.date(one['points'][0]['time'])} to {words.date(one['points'][-1]['time'])}, "
        f"lowest {words.figure(low)}, highest {words.figure(high)}, latest {words.figure(values[-1])}{unit}"
    )
    return _svg("series", width, height, f"{name} over time", spoken, parts)


def outlined(words: Words, image: dict[str, Any]) -> Markup:
    """The stored picture with its outline, if any, drawn twice (dark under light) so that it shows on any picture."""
    width, height = image["width"], image["height"]
    parts = [
        f'<image href="data:image/png;base64,{escape(image["png_base64"])}" width="{width}" height="{height}" '
        'preserveAspectRatio="none"/>'
    ]
    text = f"The image of {words.date(image['time'])} as the model saw it."
    if image["outline"]:
        corners = " ".join(f"{col:.2f},{row:.2f}" for row, col in image["outline"])
        thick = max(width, height) / 90
        parts.append(f'<polygon class="outline-dark" stroke-width="{2.4 * thick:.2f}" points="{corners}"/>')
        parts.append(f'<polygon class="outline-light" stroke-width="{thick:.2f}" points="{corners}"/>')
        text += f" An outline marks the region that mattered most, {_where(image)}."
    return _svg("picture", width, height, "Image", text, parts)


def _where(image: dict[str, Any]) -> str:
    """Place of the outline's centre in words, as seen on the page."""
    rows, cols = ([corner[axis] for corner in image["outline"]] for axis in (0, 1))
    down, across = sum(rows) / len(rows) / image["height"], sum(cols) / len(cols) / image["width"]
    vertical = "upper" if down < 1 / 3 else "lower" if down > 2 / 3 else "middle"
    horizontal = "left" if across < 1 / 3 else "right" if across > 2 / 3 else "centre"
    return f"in the {vertical} {horizontal} of the picture as shown here"


def _svg(kind: str, width: float, height: float, title: str, text: str, parts: Sequence[str]) -> Markup:
    """One SVG element with its alternative text."""
    return Markup(
        f'<svg class="{kind}" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(f"{title}: {text}")}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def _seconds(iso: str) -> float:
    return (datetime.fromisoformat(iso.removesuffix("Z")) - datetime(1970, 1, 1)).total_seconds()


def _iso(seconds: float) -> str:
    return datetime.fromordinal(719163 + int(seconds // 86400)).strftime("%Y-%m-%dT00:00:00Z")
