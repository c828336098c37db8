"""Grey pixels of any size become the square that an encoder reads, the same for the same input."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from riskpred.imaging.paths import ImageProblem
from riskpred.imaging.read import Pixels

MARGIN = 2
"""A picture is decoded with at least this many times the pixels a side that are wanted of it."""

LOW_PERCENT, HIGH_PERCENT = 0.5, 99.5
"""Percentiles of the resized picture that become 0 and 1: burnt-in letters and dead pixels do not set the scale."""


@dataclass(frozen=True)
class Prepared:
    """pixels: (size, size) float32 in 0..1, the picture in the middle, 0 around it.   spacing_mm: (2,) float64 of these
    pixels (row, column), NaN where unknown.   top, left, height, width: place of the picture in the square.
    """

    pixels: NDArray[np.float32]
    spacing_mm: NDArray[np.float64]
    top: int
    left: int
    height: int
    width: int


def prepare(pixels: Pixels, size: int) -> Prepared:
    """Resize to fit size x size (aspect kept, area averages; bilinear where it grows), scale to 0..1, pad with 0.

    Args:
        pixels: (rows, columns), finite; reduced or not, the same place of the picture in the square.
        size: of the square, pixels.

    Raises: ImageProblem (no_contrast), when all of the resized picture has one value.
    """
    rows, columns = pixels.shape
    longest = max(rows, columns)
    height, width = max(1, round(rows * size / longest)), max(1, round(columns * size / longest))
    resized = _resized(pixels, height, width)
    low, high = np.percentile(resized, (LOW_PERCENT, HIGH_PERCENT))
    if not high > low:
        # One bright spot may be less than the percentiles see: only a picture without any difference is refused.
        low, high = float(resized.min()), float(resized.max())
    if not high > low:
        raise ImageProblem("no_contrast", "pixels that differ from one another")
    square = np.zeros((size, size), dtype=np.float32)
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = np.clip((resized - low) / (high - low), 0.0, 1.0)
    spacing = np.full(2, np.nan)
    if pixels.spacing_mm is not None:
        spacing[:] = pixels.spacing_mm[0] * rows / height, pixels.spacing_mm[1] * columns / width
    return Prepared(square, spacing, top, left, height, width)


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
