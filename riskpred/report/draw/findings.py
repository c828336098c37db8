"""The stored picture of an image with the lesions found in it, outlined and numbered as in the table beside it."""

from typing import Any

from markupsafe import Markup, escape

from riskpred.report.draw.svg import svg
from riskpred.report.words import Words


def found(words: Words, image: dict[str, Any]) -> Markup:
    """The picture; every outline is drawn twice (dark under light) so that it shows on any picture.

    Args: image: png_base64, width, height, time, outlines (lesion, polygon), as `report.findings` has them.
    """
    width, height = image["width"], image["height"]
    parts = [
        f'<image href="data:image/png;base64,{escape(image["png_base64"])}" width="{width}" height="{height}" '
        'preserveAspectRatio="none"/>'
    ]
    thick = max(width, height) / 160
    named: set[int] = set()
    for one in image["outlines"]:
        corners = " ".join(f"{col:.2f},{row:.2f}" for row, col in one["polygon"])
        parts.append(f'<polygon class="outline-dark" stroke-width="{2.4 * thick:.2f}" points="{corners}"/>')
        parts.append(f'<polygon class="outline-light" stroke-width="{thick:.2f}" points="{corners}"/>')
        if one["lesion"] not in named:  # a lesion may have several outlines on a slice
            named.add(one["lesion"])
            parts.append(_number(image, one))
    spoken = words.say("The image of %(date)s with what was found in it.", date=words.date(image["time"]))
    return svg("picture", width, height, words.say("Image"), spoken, parts)


def _number(image: dict[str, Any], one: dict[str, Any]) -> str:
    """The lesion's number beside its outline, inside the picture."""
    size = max(image["width"], image["height"]) / 13
    rows, cols = ([corner[axis] for corner in one["polygon"]] for axis in (0, 1))
    x = min(max(max(cols) + size * 0.2, 0), image["width"] - size * 0.9)
    y = min(max(min(rows) + size * 0.3, size), image["height"] - size * 0.2)
    at = f'x="{x:.1f}" y="{y:.1f}" style="font-size:{size:.1f}px"'
    return (
        f'<text class="number-dark" {at}>{one["lesion"]}</text><text class="number-light" {at}>{one["lesion"]}</text>'
    )
