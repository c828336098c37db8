"""What all charts share: the element with its alternative text, and the arithmetic of time axes."""

from collections.abc import Sequence
from datetime import datetime

from markupsafe import Markup, escape

_EPOCH = datetime(1970, 1, 1)


def svg(kind: str, width: float, height: float, title: str, text: str, parts: Sequence[str]) -> Markup:
    """One SVG element with its alternative text: a title, then what the chart shows in words."""
    return Markup(
        f'<svg class="{kind}" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(f"{title}: {text}")}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def tick(x: float, y: float, shown: str, anchor: str = "start") -> str:
    """A small text of an axis."""
    end = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text class="tick" x="{x:.1f}" y="{y:.1f}"{end}>{escape(shown)}</text>'


def dots(places: Sequence[tuple[float, float]]) -> str:
    """Path data of round dots: lines of no length with round ends."""
    return "".join(f"M{a:.1f} {b:.1f}h0" for a, b in places)


def line(places: Sequence[tuple[float, float]]) -> str:
    """Path data of a line through the places."""
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in places)


def seconds(iso: str) -> float:
    """ISO 8601 UTC text -> seconds since 1970."""
    return (datetime.fromisoformat(iso.removesuffix("Z")) - _EPOCH).total_seconds()


def iso(stamp: float) -> str:
    """The day of `seconds` as ISO 8601 text; years before 1 do not exist."""
    return datetime.fromordinal(max(1, 719163 + int(stamp // 86400))).strftime("%Y-%m-%dT00:00:00Z")
