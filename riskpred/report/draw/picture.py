"""The stored picture with its regions outlined and numbered: a full line raises the risk, a dashed one lowers it."""

from typing import Any

from markupsafe import Markup, escape

from riskpred.report.draw.svg import svg
from riskpred.report.language import text
from riskpred.report.words import Words

_PLACES = (
    (text("upper left"), text("upper centre"), text("upper right")),
    (text("middle left"), text("centre"), text("middle right")),
    (text("lower left"), text("lower centre"), text("lower right")),
)


def outlined(words: Words, image: dict[str, Any]) -> Markup:
    """The picture; every outline is drawn twice (dark under light) so that it shows on any picture.

    Args: image: png_base64, width, height, time, regions (number, polygon, contributions) and outcomes, as `record` has
        them; which way a region moves the risk is told for the first outcome.
    """
    width, height = image["width"], image["height"]
    parts = [
        f'<image href="data:image/png;base64,{escape(image["png_base64"])}" width="{width}" height="{height}" '
        'preserveAspectRatio="none"/>'
    ]
    spoken = [words.say("The image of %(date)s as the model saw it.", date=words.date(image["time"]))]
    thick = max(width, height) / 110
    for region in image["regions"]:
        corners = " ".join(f"{col:.2f},{row:.2f}" for row, col in region["polygon"])
        contribution = region["contributions"].get(image["outcomes"][0]["outcome"]) if image["outcomes"] else None
        lowers = contribution is not None and contribution < 0
        dashes = f' stroke-dasharray="{3 * thick:.2f} {2.2 * thick:.2f}"' if lowers else ""
        shape = f'stroke-width="{{}}"{dashes} points="{corners}"'
        parts.append(f'<polygon class="outline-dark" {shape.format(f"{2.4 * thick:.2f}")}/>')
        parts.append(f'<polygon class="outline-light" {shape.format(f"{thick:.2f}")}/>')
        parts.append(_label(image, region, lowers, contribution))
        spoken.append(
            words.say("Outline %(number)s: %(place)s.", number=region["number"], place=place(words, image, region))
        )
    return svg("picture", width, height, words.say("Image"), " ".join(spoken), parts)


def _label(image: dict[str, Any], region: dict[str, Any], lowers: bool, contribution: float | None) -> str:
    """Number and sign beside an outline, inside the picture."""
    size = max(image["width"], image["height"]) / 11
    rows, cols = ([corner[axis] for corner in region["polygon"]] for axis in (0, 1))
    x = min(max(max(cols) + size * 0.2, 0), image["width"] - size * 1.6)
    y = min(max(min(rows) + size * 0.3, size), image["height"] - size * 0.2)
    shown = f"{region['number']}{'' if not contribution else '▼' if lowers else '▲'}"
    at = f'x="{x:.1f}" y="{y:.1f}" style="font-size:{size:.1f}px"'
    return f'<text class="number-dark" {at}>{shown}</text><text class="number-light" {at}>{shown}</text>'


def place(words: Words, image: dict[str, Any], region: dict[str, Any]) -> str:
    """Where the middle of a region's outline lies, as seen on the page: "upper left"."""
    rows, cols = ([corner[axis] for corner in region["polygon"]] for axis in (0, 1))
    down, across = sum(rows) / len(rows) / image["height"], sum(cols) / len(cols) / image["width"]
    return words.say(_PLACES[_third(down)][_third(across)])


def _third(share: float) -> int:
    return 0 if share < 1 / 3 else 2 if share > 2 / 3 else 1
