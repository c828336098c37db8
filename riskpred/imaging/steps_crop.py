"""Steps that cut a picture to what it is about: the body, the lungs, the disc of an eye."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from riskpred.config.steps import CropBody, CropCircle, CropLung
from riskpred.imaging.foreground import Mask, body, box_of, coarse, fine, largest_parts, margin_pixels, otsu
from riskpred.imaging.staged import Staged

_LEAST_LUNG_CT: Final = 0.02
"""Of the body's volume: less air than this is bowel gas or a windpipe, no lung."""

_LEAST_LUNG_2D: Final = 0.02
_MOST_LUNG_2D: Final = 0.45
"""Of a radiograph, each field: less is no lung, more is the film around the body."""

_RIM: Final = 0.08
"""A fundus is brighter than this share of its bright pixels' value; the film around it is darker."""


_LEAST_DISC, _MOST_DISC = 0.1, 0.98
"""Of a fundus photograph: less is a spot, more has no rim."""


def crop_body(now: Staged, step: CropBody) -> Staged:
    """See `config.imaging.CropBody`."""
    mask = body(now.grey(), step.above)
    if step.blank:
        now = now.with_values(np.where(mask, now.array, now.array.min()))
    return now.cropped(box_of(mask, margin_pixels(step.margin_mm, now.grid.spacing_mm)))


def crop_lung(now: Staged, step: CropLung) -> Staged:
    """See `config.imaging.CropLung`."""
    grey = now.grey()
    ct = now.picture.image_type == "CT" or (now.picture.image_type is None and grey.shape[0] > 1)
    lungs = _air_in_body(grey, step.air_below) if ct else dark_fields(grey)
    if lungs is None:
        return now.noted("no lungs found: not cropped")
    return now.cropped(box_of(lungs, margin_pixels(step.margin_mm, now.grid.spacing_mm)))


def _air_in_body(grey: NDArray[np.float32], air_below: float) -> Mask | None:
    small, factors = coarse(grey)
    inside = body(small, air_below)
    air = ndimage.binary_opening(inside & (small < air_below), np.ones((1, 3, 3), dtype=bool))
    lungs = largest_parts(air, 2, 0.1)
    return fine(lungs, factors, grey.shape) if lungs.sum() > _LEAST_LUNG_CT * inside.sum() else None


def dark_fields(grey: NDArray[np.float32]) -> Mask | None:
    """The two dark fields of a chest film (1, H, W), one on each side of the middle, away from the upper and side
    edges; None where there are not two. A guess by brightness: consolidated or drained lungs are missed.
    """
    small, factors = coarse(grey)
    plane = ndimage.gaussian_filter(small[0], max(small.shape) / 64)
    rows, columns = plane.shape
    inner = plane[rows // 10 : rows - rows // 10, columns // 10 : columns - columns // 10]
    dark = plane < otsu(inner)
    labels, _ = ndimage.label(ndimage.binary_opening(dark, iterations=2))
    edge = np.unique(np.concatenate([labels[0], labels[:, 0], labels[:, -1]]))
    labels[np.isin(labels, edge)] = 0
    fields = np.zeros_like(dark)
    for side in (slice(0, columns // 2), slice(columns // 2, columns)):
        part = np.zeros_like(dark)
        part[:, side] = labels[:, side] > 0
        part = largest_parts(part)
        if not _LEAST_LUNG_2D < part.mean() < _MOST_LUNG_2D:
            return None
        fields |= part
    return fine(fields[None], factors, grey.shape)


def crop_circle(now: Staged, step: CropCircle) -> Staged:
    """See `config.imaging.CropCircle`. A disc cut off above and below keeps its width as the diameter.

    The result is as wide as high; where the disc reaches beyond the picture its least value stands.
    """
    small, factors = coarse(now.grey())
    plane = small[0]
    low, high = np.percentile(plane, (1, 99))
    disc = ndimage.binary_fill_holes(largest_parts(plane > low + _RIM * (high - low)))
    if disc is None or not _LEAST_DISC < disc.mean() < _MOST_DISC:
        return now.noted("no disc with a dark rim: not cropped")
    (_, _), (top, bottom), (left, right) = box_of(fine(disc[None], factors, now.grey().shape))
    row, column = (top + bottom) / 2, (left + right) / 2
    radius = max(bottom - top, right - left) / 2
    half = max(1, round(radius * (1 + step.margin)))
    least = float(now.array.min())
    first_row, first_column = round(row) - half, round(column) - half
    if step.blank:
        rows, columns = (np.arange(size) + 0.5 for size in now.array.shape[2:])
        outside = (rows[:, None] - row) ** 2 + (columns - column) ** 2 > (radius * (1 + step.margin)) ** 2
        now = now.with_values(np.where(outside, np.float32(least), now.array))
    return _framed(now, first_row, first_column, 2 * half, least)


def _framed(now: Staged, first_row: int, first_column: int, side: int, value: float) -> Staged:
    """A square that may reach beyond the picture."""
    _, slices, rows, columns = now.array.shape
    r0, c0 = max(0, first_row), max(0, first_column)
    r1, c1 = min(rows, first_row + side), min(columns, first_column + side)
    cut = now.cropped(((0, slices), (r0, r1), (c0, c1)))
    if cut.array.shape[2:] == (side, side):
        return cut
    return cut.padded((0, r0 - first_row, c0 - first_column), (slices, side, side), value)
