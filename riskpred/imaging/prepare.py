"""A picture becomes the pixels that an encoder reads, the same for the same input: brought to size, scaled, centred."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from riskpred.imaging.paths import ImageProblem
from riskpred.imaging.picture import Grid
from riskpred.imaging.read import Pixels

MARGIN = 2
"""A picture is decoded with at least this many times the pixels a side that are wanted of it."""

LOW_PERCENT, HIGH_PERCENT = 0.5, 99.5
"""Percentiles of the resized picture that become 0 and 1: burnt-in letters and dead pixels do not set the scale."""

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""First and one past the last index along slices, rows, columns."""


@dataclass(frozen=True)
class Prepared:
    """One file as pixels, 0 around the picture.

    pixels: (S, C, H, W) float32 in 0..1, S = 1 but for `volume: slices`; (1, C, Z, H, W) of a whole volume.
    grid: where they lie in the file; along the slices of S pictures, index s is picture s.
    slices: file slice of each of the S pictures; () of a whole volume.
    box: place of the picture in H x W (and Z); what lies outside is padding.
    notes: sentences on what was found and done otherwise than asked; never a value of the file.
    """

    pixels: NDArray[np.float32]
    grid: Grid
    slices: tuple[float, ...]
    box: Box
    notes: tuple[str, ...] = ()

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """(2,) of these pixels (row, column), NaN where unknown."""
        return self.grid.spacing_mm[1:]


def prepare(pixels: Pixels, size: int | tuple[int, int]) -> Prepared:
    """The quick way of a grey picture without steps: resized to fit (aspect kept, area averages; bilinear where it
    grows), scaled to 0..1, padded with 0.

    Args:
        pixels: (rows, columns), finite; reduced or not, the same place of the picture in the frame.
        size: pixels of the frame: rows and columns, one number for a square.

    Raises: ImageProblem (no_contrast), when all of the resized picture has one value.
    """
    frame = (size, size) if isinstance(size, int) else size
    rows, columns = pixels.shape
    height, width = fitted((rows, columns), frame)
    values = _scaled(_resized(pixels, height, width))
    top, left = (frame[0] - height) // 2, (frame[1] - width) // 2
    square = np.zeros((1, 1, *frame), dtype=np.float32)
    square[0, 0, top : top + height, left : left + width] = values
    spacing = np.full(3, np.nan)
    if pixels.spacing_mm is not None:
        spacing[1:] = pixels.spacing_mm[0] * rows / height, pixels.spacing_mm[1] * columns / width
    scale = np.array([1.0, rows / height, columns / width])
    grid = Grid(
        offset=np.array([0.0, (0.5 - top) * scale[1] - 0.5, (0.5 - left) * scale[2] - 0.5]),
        scale=scale,
        spacing_mm=spacing,
        origin_mm=np.full(3, np.nan),
        direction=np.full((3, 3), np.nan),
        shape=np.array([1, rows, columns]),
    )
    return Prepared(square, grid, (0.0,), ((0, 1), (top, top + height), (left, left + width)), pixels.notes)


def fitted(shape: Sequence[int], frame: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of a picture that just fits a frame, aspect kept.

    Example:
        >>> fitted((40, 20), (16, 16)), fitted((20, 40), (16, 64))
        ((16, 8), (16, 32))
    """
    (rows, columns), (height, width) = shape, frame
    if rows * width >= columns * height:
        return height, max(1, round(columns * height / rows))
    return max(1, round(rows * width / columns)), width


def _scaled(resized: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = np.percentile(resized, (LOW_PERCENT, HIGH_PERCENT))
    if not high > low:
        # One bright spot may be less than the percentiles see: only a picture without any difference is refused.
        low, high = float(resized.min()), float(resized.max())
    if not high > low:
        raise ImageProblem("no_contrast", "pixels that differ from one another")
    scaled: NDArray[np.float64] = np.clip((resized - low) / (high - low), 0.0, 1.0)
    return scaled


def _resized(pixels: Pixels, height: int, width: int) -> NDArray[np.float64]:
    (rows, columns), array = pixels.shape, pixels.array
    if (rows, columns) == (height, width):
        return array.astype(np.float64)
    if pixels.factor > 1:
        # Pillow's box takes a pixel whole or not at all: too rough where only a few are left.
        down, across = (_shares(*axis, pixels.factor) for axis in ((rows, height), (columns, width)))
        return np.asarray(down @ array @ across.T, dtype=np.float64)
    how = Image.Resampling.BOX if height <= rows and width <= columns else Image.Resampling.BILINEAR
    picture = Image.fromarray(np.ascontiguousarray(array, dtype=np.float32)).resize((width, height), how)
    return np.asarray(picture, dtype=np.float64)


@lru_cache(maxsize=64)
def _shares(pixels: int, wanted: int, factor: int) -> NDArray[np.float64]:
    """Share of each block of `factor` pixels (the last may be smaller) in each of `wanted` equal parts of all pixels.

    Shape: (wanted, blocks); rows sum to 1.
    Example:
        >>> _shares(6, 2, 2)
        array([[0.66666667, 0.33333333, 0.        ],
               [0.        , 0.33333333, 0.66666667]])
    """
    edges = np.minimum(np.arange(-(-pixels // factor) + 1) * factor, pixels)
    parts = np.arange(wanted + 1) * (pixels / wanted)
    overlap = np.minimum(parts[1:, None], edges[None, 1:]) - np.maximum(parts[:-1, None], edges[None, :-1])
    overlap = np.maximum(overlap, 0.0)
    shares: NDArray[np.float64] = overlap / overlap.sum(axis=1, keepdims=True)
    return shares
