"""Bars beside the rows of reasons: a step of the sum, a size. Decorative: the row itself has the number."""

from collections.abc import Sequence

from markupsafe import Markup

_OPEN = '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'


def step_bar(start: float, end: float, low: float, high: float) -> Markup:
    """One step of the sum, from `start` to `end` on an axis `low` to `high`."""
    span = (high - low) or 1.0
    a, b = 100 * (start - low) / span, 100 * (end - low) / span
    kind = "up" if end > start else "down"
    width = max(abs(b - a), 0.6)
    return Markup(f'{_OPEN}<rect class="{kind}" x="{min(a, b):.2f}" y="1" width="{width:.2f}" height="8"/></svg>')


def whole_bar(at: float, low: float, high: float) -> Markup:
    """Where the sum starts or ends, on the same axis as `step_bar`."""
    span = (high - low) or 1.0
    width = max(100 * (at - low) / span, 0.6)
    return Markup(f'{_OPEN}<rect class="level" x="0" y="3" width="{width:.2f}" height="4"/></svg>')


def stacked_bar(shares: Sequence[float]) -> Markup:
    """Parts of one whole side by side, darker from part to part; the first stays empty."""
    left, drawn, whole = 0.0, [], sum(shares) or 1.0
    for number, share in enumerate(shares):
        width = 100 * share / whole
        opacity = number / max(len(shares) - 1, 1)
        drawn.append(
            f'<rect class="level" x="{left:.2f}" y="1" width="{width:.2f}" height="8" fill-opacity="{opacity:.2f}"/>'
        )
        left += width
    frame = '<rect x="0" y="1" width="100" height="8" fill="none" stroke="#69747e" stroke-width=".4"/>'
    return Markup(f"{_OPEN}{''.join(drawn)}{frame}</svg>")


def signed_bar(contribution: float, largest: float) -> Markup:
    """A reason's size: length against the largest of its outcome."""
    width = max(100 * abs(contribution) / (largest or 1.0), 0.6)
    kind = "up" if contribution > 0 else "down"
    return Markup(f'{_OPEN}<rect class="{kind}" x="0" y="1" width="{width:.2f}" height="8"/></svg>')
