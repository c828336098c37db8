"""Steps that move pixels: other spacing, other axes, a larger frame; the grid goes with them."""

from dataclasses import replace
from itertools import permutations
from typing import Final

import numpy as np

from riskpred.config.steps import FlipBreast, Pad, Reorient, Resample, Resize
from riskpred.imaging.foreground import body
from riskpred.imaging.paths import ImageProblem
from riskpred.imaging.staged import Staged

_MOST_VOXELS: Final = 2**28
_LPS: Final = (2, 1, 0)
"""Which of x, y, z slices, rows and columns follow in a volume that is turned: foot to head, front to back, to left."""


def resample(now: Staged, step: Resample) -> Staged:
    """See `config.imaging.Resample`. The middle of the picture stays where it is.

    Raises: ImageProblem: no_spacing; too_many_pixels.
    """
    given = np.array(step.spacing_mm if len(step.spacing_mm) != 1 else step.spacing_mm * 3)
    wanted = np.concatenate([np.full(3 - len(given), np.nan), given])
    old = now.grid.spacing_mm
    size = np.array(now.array.shape[1:])
    moved = np.isfinite(wanted) & (size > 1)  # a single slice or line has no neighbour to go to
    if np.isnan(old[moved]).any():
        raise ImageProblem("no_spacing", "a picture that says how far apart its pixels are")
    scale = np.where(moved, wanted / np.where(moved, old, 1.0), 1.0)
    shape = np.maximum(1, np.round(size / scale)).astype(int)
    if shape.prod() * len(now.array) > _MOST_VOXELS:
        raise ImageProblem("too_many_pixels", f"at most {_MOST_VOXELS:,} pixels at the spacing wanted")
    offset = (size - 1) / 2 - scale * (shape - 1) / 2
    new_shape: list[int] = shape.tolist()
    return now.resampled((new_shape[0], new_shape[1], new_shape[2]), offset, scale, step.nearest)


def reorient(now: Staged, _: Reorient) -> Staged:
    """See `config.imaging.Reorient`."""
    if now.array.shape[1] == 1:
        return now
    grid = now.grid
    direction = grid.direction[:, list(grid.axes)] * np.sign(grid.scale)
    if np.isnan(direction).any():
        return now.noted("orientation unknown: not turned")
    along = np.abs(direction)
    order = max(permutations(range(3)), key=lambda axes: sum(along[_LPS[k], axes[k]] for k in range(3)))
    turned = replace(
        now,
        array=now.array.transpose(0, *(axis + 1 for axis in order)),
        grid=replace(
            grid,
            offset=grid.offset[list(order)],
            scale=grid.scale[list(order)],
            spacing_mm=grid.spacing_mm[list(order)],
            axes=(grid.axes[order[0]], grid.axes[order[1]], grid.axes[order[2]]),
        ),
    )
    for k in range(3):
        if direction[_LPS[k], order[k]] < 0:
            turned = turned.flipped(k)
    return turned


def flip_breast(now: Staged, _: FlipBreast) -> Staged:
    """See `config.imaging.FlipBreast`."""
    columns = body(now.grey()).sum(axis=(0, 1))
    half = len(columns) // 2
    if columns[len(columns) - half :].sum() > columns[:half].sum():
        return now.flipped(2).noted("mirrored: the breast was on the right")
    return now


def pad(now: Staged, step: Pad) -> Staged:
    """See `config.imaging.Pad`."""
    _, slices, rows, columns = now.array.shape
    longer = max(rows, columns) if step.square else 0
    height, width = max(rows, longer, step.least), max(columns, longer, step.least)
    if (height, width) == (rows, columns):
        return now
    value = float(now.array.min()) if step.value is None else step.value
    return now.padded((0, (height - rows) // 2, (width - columns) // 2), (slices, height, width), value)


def resize(now: Staged, step: Resize) -> Staged:
    """See `config.imaging.Resize`."""
    _, slices, rows, columns = now.array.shape
    longest = max(rows, columns)
    if longest == step.longest or (longest < step.longest and not step.grow):
        return now
    height, width = (max(1, round(size * step.longest / longest)) for size in (rows, columns))
    scale = np.array([1.0, rows / height, columns / width])
    return now.resampled((slices, height, width), scale / 2 - 0.5, scale)
