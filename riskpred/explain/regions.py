"""Disjoint regions of a picture on its attribution map: found, outlined along their pixels, measured."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

REGIONS: Final = 3
"""Regions of a picture at most."""

LEAST_POINTS: Final = 0.1
"""A region whose pixels add up to less than this many risk points, up or down, is not worth an outline."""

_BLUR: Final = 1 / 32  # of the image's side: single pixels do not make a region
_SUMMITS: Final = 12
"""Regions looked at: those of the highest summits."""

_NORTH, _EAST, _SOUTH, _WEST = (-1, 0), (0, 1), (1, 0), (0, -1)
_TURNED_RIGHT: Final = {_NORTH: _EAST, _EAST: _SOUTH, _SOUTH: _WEST, _WEST: _NORTH}


def regions_of(attribution: NDArray[np.float64]) -> list[NDArray[np.bool_]]:
    """Up to three disjoint regions that raise or lower the risk most, the one with the largest sum first.

    The map is blurred. From each of its summits, the highest (or deepest) first, a region is what is connected, of one
    sign and at least half as high. A lower summit within it is part of it; one outside has a region of its own, which
    takes nothing of the slopes of a summit before it.

    Shape: attribution (H, W); result (H, W) each.
    """
    blurred = ndimage.gaussian_filter(attribution, sigma=_BLUR * max(attribution.shape))
    size, owner = np.abs(blurred), _summits(blurred)
    summits = np.unique(owner)
    summits = summits[np.argsort(-size.flat[summits], kind="stable")]
    taken = np.zeros(size.size, dtype=np.bool_)  # by place of a summit
    found: list[tuple[float, NDArray[np.bool_]]] = []
    looked_at = 0
    for summit in summits.tolist():
        if taken[summit]:
            continue
        height = size.flat[summit]
        if looked_at == _SUMMITS or height == 0:
            break
        looked_at += 1
        sign = np.sign(blurred.flat[summit])
        parts, _ = ndimage.label((np.sign(blurred) == sign) & (size >= height / 2) & ~taken[owner])
        region = parts == parts.flat[summit]
        taken[owner[region]] = True
        total = float(attribution[region].sum())
        if abs(total) >= LEAST_POINTS:
            found.append((abs(total), region))
    found.sort(key=lambda one: -one[0])
    return [region for _, region in found[:REGIONS]]


def _summits(blurred: NDArray[np.float64]) -> NDArray[np.int64]:
    """Place (in the flattened picture) of the summit that each pixel leads up to, steepest first; its sign is kept."""
    rows, columns = blurred.shape
    padded, size = np.pad(np.sign(blurred), 1, constant_values=2), np.pad(np.abs(blurred), 1)
    steps = [(0, 0), *((dr, dc) for dr in (-1, 0, 1) for dc in (-1, 0, 1) if (dr, dc) != (0, 0))]
    around = np.stack(
        [
            np.where(
                padded[1 + dr : 1 + dr + rows, 1 + dc : 1 + dc + columns] == np.sign(blurred),
                size[1 + dr : 1 + dr + rows, 1 + dc : 1 + dc + columns],
                -1.0,
            )
            for dr, dc in steps
        ]
    )
    move = np.array([dr * columns + dc for dr, dc in steps])
    leads = np.arange(rows * columns) + move[around.argmax(axis=0)].ravel()
    while True:
        further = leads[leads]
        if np.array_equal(further, leads):
            return np.asarray(leads.reshape(rows, columns), dtype=np.int64)
        leads = further


def outline(region: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The outer border of a region along the edges of its pixels, clockwise; holes are not cut out.

    Shape: region (H, W), connected by edges; result (P, 2) corners as row, column.
    """
    padded = np.pad(region, 1)
    leaves: dict[tuple[int, int], list[tuple[int, int]]] = {}
    # Each edge of a pixel whose other side is outside, with the region to its right.
    for step, (dr, dc), (fr, fc) in (
        (_EAST, (-1, 0), (0, 0)),
        (_SOUTH, (0, 1), (0, 1)),
        (_WEST, (1, 0), (1, 1)),
        (_NORTH, (0, -1), (1, 0)),
    ):
        other = padded[1 + dr : 1 + dr + region.shape[0], 1 + dc : 1 + dc + region.shape[1]]
        for r, c in np.argwhere(region & ~other).tolist():
            leaves.setdefault((r + fr, c + fc), []).append(step)
    r, c = (int(axis[0]) for axis in np.nonzero(region))
    first, step, corners = (r, c), _EAST, [(r, c)]
    at = (r, c + 1)
    while at != first:
        # Where two pixels touch at a corner only, the border stays with the one that it is following.
        following = _TURNED_RIGHT[step] if _TURNED_RIGHT[step] in leaves[at] else leaves[at][0]
        if following != step:
            corners.append(at)
        at, step = (at[0] + following[0], at[1] + following[1]), following
    return np.array(corners, dtype=np.float64)


def measured(
    name: str, region: NDArray[np.bool_], factor: float, spacing_mm: tuple[float, float] | None
) -> dict[str, Any]:
    """Position and size of a region, in pixels of the picture drawn and, where the spacing is known, in mm.

    Args:
        factor: pixels of the picture drawn per pixel of the region.
        spacing_mm: (row, column) between pixels of the picture drawn; None = not known.
    Offsets are those of the centre from the upper left corner of the picture.
    """
    corners = outline(region) * factor
    hull = corners[ConvexHull(corners).vertices]
    row, column = ((np.argwhere(region) + 0.5).mean(axis=0) * factor).tolist()
    area = float(region.sum()) * factor**2
    found: dict[str, Any] = {
        "region": name,
        "row": round(row, 2),
        "col": round(column, 2),
        "area_px": round(area, 2),
        "longest_diameter_px": round(float(pdist(hull).max()), 2),
    }
    if spacing_mm is None:
        return found | dict.fromkeys(("x_mm", "y_mm", "area_mm2", "longest_diameter_mm"))
    down, across = spacing_mm
    return found | {
        "x_mm": round(column * across, 2),
        "y_mm": round(row * down, 2),
        "area_mm2": round(area * down * across, 2),
        "longest_diameter_mm": round(float(pdist(hull * (down, across)).max()), 2),
    }
