"""Finds the body in a picture: the largest connected bright part, at a resolution where that is quick."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from riskpred.imaging.sampling import sampled

_COARSE_2D: Final = 256
_COARSE_3D: Final = 128
"""Pixels along an axis at which shapes are looked for; larger pictures are averaged down to it by whole factors."""

_BINS: Final = 256

Mask = NDArray[np.bool_]
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def otsu(values: NDArray[np.float32]) -> float:
    """The threshold that parts values into two groups as different as can be; all equal: that value.

    Source: Otsu 1979, IEEE Trans SMC 9:62-66.
    """
    counts, edges = np.histogram(values, bins=_BINS)
    centres = (edges[:-1] + edges[1:]) / 2
    below, above = np.cumsum(counts), np.cumsum(counts[::-1])[::-1]
    mean_below = np.cumsum(counts * centres) / np.maximum(below, 1)
    mean_above = (np.cumsum((counts * centres)[::-1]) / np.maximum(np.cumsum(counts[::-1]), 1))[::-1]
    between = below[:-1] * above[1:].astype(np.float64) * (mean_below[:-1] - mean_above[1:]) ** 2
    return float(centres[int(np.argmax(between))])


def lower_otsu(values: NDArray[np.float32]) -> float:
    """The lower of the two thresholds that part values into three groups as different as can be.

    Between air and everything else: of two groups, dark tissue often goes to the air's.
    Source: Liao, Chen & Chung 2001, J Inf Sci Eng 17:713-727.
    """
    counts, edges = np.histogram(values, bins=_BINS)
    centres = (edges[:-1] + edges[1:]) / 2
    weight = np.concatenate([[0.0], np.cumsum(counts)])
    moment = np.concatenate([[0.0], np.cumsum(counts * centres)])
    # spread[a, b]: what the group of bins a to b - 1 gives to the variance between groups.
    inside = weight[None, :] - weight[:, None]
    spread = np.where(inside > 0, (moment[None, :] - moment[:, None]) ** 2 / np.maximum(inside, 1), 0.0)
    first, second = np.triu_indices(_BINS - 1, 1)
    total = spread[0, first + 1] + spread[first + 1, second + 1] + spread[second + 1, _BINS]
    return float(centres[first[int(np.argmax(total))]])


def coarse(grey: NDArray[np.float32]) -> tuple[NDArray[np.float32], tuple[int, int, int]]:
    """A picture (Z, H, W) averaged down for finding shapes, and how many pixels are behind one, along each axis."""
    limit = _COARSE_2D if grey.shape[0] == 1 else _COARSE_3D
    factors = [max(1, -(-size // limit)) for size in grey.shape]
    shape = [-(-size // factor) for size, factor in zip(grey.shape, factors, strict=True)]
    if shape == list(grey.shape):
        return grey, (1, 1, 1)
    scale = np.array(factors, dtype=np.float64)
    found = sampled(grey, shape, scale / 2 - 0.5, scale)
    return np.asarray(found, dtype=np.float32), (factors[0], factors[1], factors[2])


def fine(mask: Mask, factors: tuple[int, int, int], shape: tuple[int, ...]) -> Mask:
    """A coarse mask at the size of the picture again."""
    for axis, factor in enumerate(factors):
        mask = np.repeat(mask, factor, axis) if factor > 1 else mask
    return mask[tuple(slice(size) for size in shape)]


def largest_parts(mask: Mask, count: int = 1, share: float = 0.0) -> Mask:
    """The `count` largest connected parts of a mask, those below `share` of the largest left out; none: all False."""
    labels, found = ndimage.label(mask)
    if not found:
        return np.zeros_like(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    order = np.argsort(-sizes, kind="stable")[:count]
    kept = [int(part) for part in order if sizes[part] > 0 and sizes[part] >= share * sizes[order[0]]]
    return np.isin(labels, kept)


def body(grey: NDArray[np.float32], above: float | None = None) -> Mask:
    """The largest connected part above a threshold (None: `lower_otsu`), its holes filled slice by slice; (Z, H, W).

    Thin bridges, a table's edge or a wire, are cut first. A picture without any such part is all body.
    """
    small, factors = coarse(grey)
    mask = small > (lower_otsu(small) if above is None else above)
    cross = _cross(small.shape)
    opened = ndimage.binary_opening(mask, cross)
    # Grown by one pixel again, so that corners and edges which the cut took come back.
    mask &= ndimage.binary_dilation(largest_parts(opened if opened.any() else mask), cross)
    for z in range(len(mask)):
        mask[z] = ndimage.binary_fill_holes(mask[z])
    return fine(mask, factors, grey.shape) if mask.any() else np.ones(grey.shape, dtype=bool)


def box_of(mask: Mask, margin: NDArray[np.float64] | float = 0.0) -> Box:
    """The box around a mask (Z, H, W) that is not empty, `margin` pixels wider along each axis, inside the picture."""
    wide = np.broadcast_to(np.ceil(margin), 3)
    ends = []
    for axis in range(3):
        there = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        first, last = int(there[0] - wide[axis]), int(there[-1] + 1 + wide[axis])
        ends.append((max(0, first), min(mask.shape[axis], last)))
    return ends[0], ends[1], ends[2]


def margin_pixels(margin_mm: float, spacing_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """A margin in pixels along each axis; millimetres count as pixels where the spacing is unknown."""
    return margin_mm / np.where(np.isfinite(spacing_mm), spacing_mm, 1.0)


def _cross(shape: tuple[int, ...]) -> Any:
    """Neighbours within a slice; thin pictures are not opened away."""
    structure = np.zeros((1, 3, 3), dtype=bool)
    structure[0, 1, :], structure[0, :, 1] = True, True
    return structure if min(shape[1:]) >= 16 else np.ones((1, 1, 1), dtype=bool)
