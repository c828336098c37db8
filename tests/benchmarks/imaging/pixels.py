"""Pixels that a benchmark or test made itself, in the form that a prepared image file has."""

import numpy as np
from numpy.typing import NDArray

from riskpred.imaging.picture import Grid
from riskpred.imaging.prepare import Prepared


def prepared_of(pixels: NDArray[np.float32]) -> Prepared:
    """As they are, one prepared pixel per pixel of the file. Shape: (S, C, H, W), or (1, C, Z, H, W) of a volume."""
    sides = (len(pixels), *pixels.shape[2:]) if pixels.ndim == 4 else pixels.shape[2:]
    unknown = np.full(3, np.nan)
    grid = Grid(np.zeros(3), np.ones(3), unknown, unknown, np.full((3, 3), np.nan), np.array(sides, np.int64))
    slices = tuple(map(float, range(len(pixels)))) if pixels.ndim == 4 else ()
    return Prepared(pixels, grid, slices, ((0, sides[0]), (0, sides[1]), (0, sides[2])))
