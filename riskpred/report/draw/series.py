"""A series over time: its values, its usual range shaded, and the moments that moved a risk marked."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from riskpred.report.draw.svg import dots, iso, line, seconds, svg, tick
from riskpred.report.names import Names

_LEFT, _RIGHT, _TOP, _BOTTOM, _WIDTH, _HEIGHT = 42, 8, 12, 22, 260, 92
_MARK = 4.5
_LABEL = 11.0
"""Height that a label of the value axis takes."""


def series(names: Names, one: dict[str, Any], until: str, marks: Sequence[dict[str, Any]] = ()) -> Markup:
    """Dots joined by a line, the latest one larger; the usual range as a band; marked moments as triangles.

    Args:
        one: code, unit, usual, points (time as ISO text, value), oldest first, at least one point.
        until: prediction_time; the right edge of the drawing.
        marks: moments with time, value, contribution: a triangle up where it raises the risk, down where it lowers it.
    """
    words, name = names.words, names.code(one["code"])
    stamps = [seconds(point["time"]) for point in one["points"]]
    values = [float(point["value"]) for point in one["points"]]
    first, last = min(stamps), max([*stamps, seconds(until)])
    low, high = _axis(values, one["usual"])

    def x(stamp: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * ((stamp - first) / (last - first) if last > first else 1.0)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (value - low) / (high - low)

    places = [(x(stamp), y(value)) for stamp, value in zip(stamps, values, strict=True)]
    parts = []
    if one["usual"]:
        top, bottom = one["usual"]["high"], one["usual"]["low"]
        above = _TOP - 6.0 if top is None else max(_TOP - 6.0, min(y(top), _HEIGHT - _BOTTOM + 4.0))
        below = _HEIGHT - _BOTTOM + 4.0 if bottom is None else max(_TOP - 6.0, min(y(bottom), _HEIGHT - _BOTTOM + 4.0))
        if below - above > 0.5:
            wide = _WIDTH - _LEFT - _RIGHT
            parts.append(
                f'<rect class="usual" x="{_LEFT}" y="{above:.1f}" width="{wide}" height="{below - above:.1f}"/>'
            )
    parts.append(f'<path class="grid" d="M{_LEFT} {_HEIGHT - _BOTTOM + 4}H{_WIDTH - _RIGHT}"/>')
    lowest, highest = min(values), max(values)
    apart = max(0.0, _LABEL - (y(lowest) - y(highest))) / 2 if lowest < highest else 0.0
    for value in sorted({lowest, highest}):
        # Beside its value, unless the two labels would then lie over each other.
        place = y(value) + 3.5 + (apart if value == lowest else -apart)
        parts.append(tick(_LEFT - 6, place, words.figure(value), "end"))
    parts.append(f'<path class="line" d="{line(places)}"/><path class="marks" d="{dots(places)}"/>')
    parts.append(f'<path class="dots" d="{dots(places[-1:])}"/>')
    for mark in marks:
        kind = "mark-up" if mark["contribution"] > 0 else "mark-down"
        across, at = x(seconds(mark["time"])), y(float(mark["value"]))
        parts.append(f'<path class="{kind}" d="{_triangle(across, at, mark["contribution"] > 0)}"/>')
    start, end = (words.date(iso(stamp)) for stamp in (first, last))
    parts.append(tick(_LEFT, _HEIGHT - 3, start))
    if start != end:
        parts.append(tick(_WIDTH - _RIGHT, _HEIGHT - 3, end, "end"))
    spoken = words.say_count(
        "%(n)s value from %(first)s to %(last)s, lowest %(low)s, highest %(high)s, latest %(latest)s",
        "%(n)s values from %(first)s to %(last)s, lowest %(low)s, highest %(high)s, latest %(latest)s",
        len(values),
        first=words.date(one["points"][0]["time"]),
        last=words.date(one["points"][-1]["time"]),
        low=words.figure(min(values)),
        high=words.figure(max(values)),
        latest=names.measured(values[-1], one["unit"], one["code"]),
    )
    return svg("series", _WIDTH, _HEIGHT, words.say("%(name)s over time", name=name), spoken, parts)


def _axis(values: Sequence[float], usual: dict[str, float | None] | None) -> tuple[float, float]:
    """Ends of the value axis: those of the values, and an end of the usual range that is not far from them."""
    low, high = min(values), max(values)
    reach = max(high - low, abs(high) * 0.25)
    ends = [end for end in (usual or {}).values() if end is not None and low - reach <= end <= high + reach]
    low, high = min([low, *ends]), max([high, *ends])
    half = max((high - low) / 2, abs(high) * 0.02, 1e-9)
    return (low + high) / 2 - half, (low + high) / 2 + half


def _triangle(x: float, y: float, up: bool) -> str:
    """A triangle above (pointing up) or below (pointing down) a value."""
    away = -1 if up else 1
    foot, tip = y + away * _MARK, y + away * 2.6 * _MARK
    return f"M{x - _MARK:.1f} {foot:.1f}L{x + _MARK:.1f} {foot:.1f}L{x:.1f} {tip:.1f}Z"
