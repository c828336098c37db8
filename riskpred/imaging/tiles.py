"""Draws a picture at one stage of its preparation: pixels as PNG data, the histogram of its values as SVG."""

from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from riskpred.imaging.prepare import Prepared
from riskpred.imaging.recipe import scaled_by_percentiles
from riskpred.imaging.staged import Staged

SIDE: Final = 184
"""Pixels of a tile's longer side, whatever the picture's: a small one grows, so that its pixels can be seen."""

_BINS: Final = 46
_HEIGHT: Final = 34
_MOST_SLICES: Final = 6
_MOST_VALUES: Final = 400_000


@dataclass(frozen=True)
class Tile:
    """png: data URI.   bars: SVG path of the histogram, in a box of 184 x 34.   The rest are words under it."""

    title: str
    settings: str
    png: str
    width: int
    height: int
    bars: str
    low: str
    high: str
    size: str
    spacing: str
    shown: str


def stage_tile(now: Staged, title: str, settings: str) -> Tile:
    """A picture on its way: the middle slice, values as they are or between their percentiles .5 and 99.5."""
    _, slices, rows, columns = now.array.shape
    middle = (slices - 1) // 2
    planes = [_display(now.array[part, middle], now.scaled) for part in now.parts()]
    shape = (slices, rows, columns)
    return _tile(title, settings, planes, now.array, now.grid.spacing_mm, shape, _slice(middle, slices))


def prepared_tile(prepared: Prepared, colour: bool) -> Tile:
    """What the encoder reads: every picture of a few, of a whole volume the middle slice."""
    pixels = prepared.pixels
    if pixels.ndim == 5:
        slices = pixels.shape[2]
        shown, text = [pixels[0, :, (slices - 1) // 2]], _slice((slices - 1) // 2, slices)
        shape = (slices, *pixels.shape[3:])
    else:
        places = np.unique(np.linspace(0, len(pixels) - 1, min(len(pixels), _MOST_SLICES)).round().astype(int))
        shown = [pixels[place] for place in places]
        named = [f"{prepared.slices[place] + 1:g}" for place in places]
        text = f"slices {', '.join(named)} of the file" if prepared.grid.shape[0] > 1 else ""
        shape = (len(pixels), *pixels.shape[2:])
    planes = [plane for one in shown for plane in ([one] if colour else [one[c : c + 1] for c in range(len(one))])]
    return _tile("ready", "", planes, pixels, prepared.grid.spacing_mm, shape, text)


def _display(plane: NDArray[np.float32], scaled: bool) -> NDArray[np.float32]:
    if scaled:
        return np.clip(plane, 0.0, 1.0)
    found = scaled_by_percentiles(plane)
    return np.zeros_like(plane) if found is None else found


def _tile(
    title: str,
    settings: str,
    planes: list[NDArray[np.float32]],
    values: NDArray[np.float32],
    spacing_mm: NDArray[np.float64],
    shape: tuple[int, ...],
    shown: str,
) -> Tile:
    picture = _side_by_side([_picture(plane) for plane in planes])
    stream = BytesIO()
    picture.save(stream, "PNG", optimize=True)
    bars, low, high = _histogram(values)
    size = " × ".join(str(size) for size in (shape if shape[0] > 1 else shape[1:]))
    known = [f"{mm:.3g}" for mm in (spacing_mm if shape[0] > 1 else spacing_mm[1:]) if np.isfinite(mm)]
    return Tile(
        title,
        settings,
        "data:image/png;base64," + b64encode(stream.getvalue()).decode("ascii"),
        picture.width,
        picture.height,
        bars,
        f"{low:.4g}",
        f"{high:.4g}",
        size,
        f"{' × '.join(known)} mm" if known else "spacing unknown",
        shown,
    )


def _picture(plane: NDArray[np.float32]) -> Image.Image:
    """(C, H, W) of 0 to 1: three channels as a colour, else the first."""
    bytes_ = np.round(plane * 255).astype(np.uint8)
    made = Image.fromarray(np.moveaxis(bytes_, 0, -1)) if len(bytes_) == 3 else Image.fromarray(bytes_[0])
    longest = max(made.size)
    how = Image.Resampling.BOX if longest > SIDE else Image.Resampling.NEAREST
    width, height = (max(1, round(side * SIDE / longest)) for side in made.size)
    return made.resize((width, height), how)


def _side_by_side(pictures: list[Image.Image]) -> Image.Image:
    if len(pictures) == 1:
        return pictures[0]
    width = sum(one.width for one in pictures) + 2 * (len(pictures) - 1)
    frame = Image.new(pictures[0].mode, (width, max(one.height for one in pictures)))
    left = 0
    for one in pictures:
        frame.paste(one, (left, 0))
        left += one.width + 2
    return frame


def _histogram(values: NDArray[np.float32]) -> tuple[str, float, float]:
    """Bars as one SVG path, heights by the square root of the count, and the values at both ends."""
    flat = values.ravel()
    seen = flat[:: max(1, flat.size // _MOST_VALUES)]
    low, high = float(flat.min()), float(flat.max())
    counts, _ = np.histogram(seen, bins=_BINS, range=(low, high if high > low else low + 1))
    heights = np.sqrt(counts / counts.max()) * _HEIGHT
    step = SIDE / _BINS
    path = "".join(
        f"M{place * step:.1f} {_HEIGHT}v{-height:.1f}h{step - 1:.1f}v{height:.1f}z"
        for place, height in enumerate(heights)
        if height > 0.05
    )
    return path, low, high


def _slice(place: int, slices: int) -> str:
    return f"slice {place + 1} of {slices}" if slices > 1 else ""
