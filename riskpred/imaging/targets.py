"""What people marked in an image (masks, spheres, boxes, polygons) as labels of its prepared pixels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from riskpred.config.segmentation import SegmentationStage
from riskpred.imaging.paths import ImageProblem, inside
from riskpred.imaging.picture import Grid
from riskpred.imaging.prepare import Prepared
from riskpred.imaging.read import read_picture
from riskpred.records.annotations import NONE, Annotation
from riskpred.records.image_path import folder_and_names

_LEAST_RISE_MM: Final = 0.05
"""Slices that rise less in the patient do not lie one above another: z tells them not apart."""


def is_marked(stage: SegmentationStage, marks: Sequence[Annotation]) -> bool:
    """Whether anyone looked at the image for what the stage looks for: lesions of its labels are marked, or none."""
    return any(mark.kind == NONE or mark.label in stage.names for mark in marks)


def target_of(
    stage: SegmentationStage, marks: Sequence[Annotation], prepared: Prepared, image_root: Path
) -> NDArray[np.uint8]:
    """Value of the stage's label that each prepared pixel belongs to, 0 = none; a later lesion covers an earlier one.

    A pixel belongs to what its centre lies in; a mark so small that it holds no centre is the pixel it lies in, else
    an image with a lesion would train, and be judged, as one without. What preparation cut away stays away.

    Shape: (Z, H, W).
    Raises: ImageProblem: a mask that cannot be read (its reason) or is of another size (mask_size); a mark that lacks
        what its kind needs, or a sphere in a file without a place in the patient (mark_incomplete).
    """
    value = {name: number for number, name in stage.labels.items()}
    pixels = prepared.pixels
    shape = pixels.shape[2:] if pixels.ndim == 5 else (len(pixels), *pixels.shape[2:])
    target = np.zeros(shape, np.uint8)
    own = np.moveaxis(np.indices(shape, dtype=np.float64), 0, -1)
    at = prepared.grid.file_index(own)
    for mark in marks:
        if mark.kind != NONE and mark.label in value:
            target[_inside(mark, prepared, own, at, image_root)] = value[mark.label]
    return target


def _inside(
    mark: Annotation, prepared: Prepared, own: NDArray[np.float64], at: NDArray[np.float64], image_root: Path
) -> NDArray[np.bool_]:
    """Which prepared pixels a mark holds.

    Shape: own, at: (Z, H, W, 3), each pixel's index in the prepared pixels and in the file.
    """
    if mark.kind == "mask":
        return _of_mask(mark, prepared, at, image_root)
    if mark.kind == "sphere":
        centre = np.array(_all(mark, "x_mm", "y_mm", "z_mm"))
        (diameter,) = _all(mark, "diameter_mm")
        where = prepared.grid.patient_mm(own)
        if np.isnan(where).any():
            raise ImageProblem("mark_incomplete", "a file that says where its voxels lie, for a sphere")
        held = np.asarray(((where - centre) ** 2).sum(axis=-1) <= (diameter / 2) ** 2)
        direction = prepared.grid.direction
        from_it = (where - centre)[..., ::-1] if np.isnan(direction).any() else (where - centre) @ direction
        return _or_nearest(held, from_it / (prepared.grid.file_spacing_mm * _steps(prepared.grid)))
    if mark.kind == "box":
        top, left, height, width = _all(mark, "row", "col", "height_px", "width_px")
        rows, cols = at[..., 1], at[..., 2]
        within = (rows >= top - 0.5) & (rows < top + height - 0.5)
        within &= (cols >= left - 0.5) & (cols < left + width - 0.5)
        return _on_its_slice(mark, prepared, at, within, (top + (height - 1) / 2, left + (width - 1) / 2))
    if mark.kind == "polygon":
        if len(mark.points) < 3:
            raise ImageProblem("mark_incomplete", "3 corners or more, for a polygon")
        _, height_px, width_px = (int(side) for side in prepared.grid.shape)
        drawn = Image.new("1", (width_px, height_px))
        ImageDraw.Draw(drawn).polygon([(col, row) for row, col in mark.points], fill=1)
        within = _sampled(np.asarray(drawn)[None], at * (0, 1, 1))
        return _on_its_slice(mark, prepared, at, within, np.mean(mark.points, axis=0))
    raise ImageProblem("mark_incomplete", "mask, sphere, box, polygon or none as kind")


def _of_mask(mark: Annotation, prepared: Prepared, at: NDArray[np.float64], image_root: Path) -> NDArray[np.bool_]:
    if mark.path is None:
        raise ImageProblem("mark_incomplete", "a path, for a mask")
    path, names = folder_and_names(mark.path)
    values = read_picture(inside(image_root, path, folders=True), series=names).array[0]
    if values.shape != tuple(prepared.grid.shape):
        raise ImageProblem("mask_size", "a mask with as many slices, rows and columns as its image")
    marked = values != 0 if mark.mask_value is None else values == mark.mask_value
    held = _sampled(marked, at)
    if held.any() or not marked.any():
        return held
    return _or_nearest(held, (at - np.argwhere(marked).mean(axis=0)) / _steps(prepared.grid))


def _or_nearest(held: NDArray[np.bool_], away: NDArray[np.float64]) -> NDArray[np.bool_]:
    """`held`, or where nothing is the pixel that the mark's middle lies in.

    Shape: (Z, H, W); away, in prepared pixels from the middle: (Z, H, W, axes).
    """
    return held if held.any() else np.asarray((np.abs(away) <= 0.5).all(axis=-1))


def _steps(grid: Grid) -> NDArray[np.float64]:
    """Voxels of the file from one prepared pixel to the next, in the order of the file's axes. Shape: (3,)."""
    steps = np.empty(3)
    steps[list(grid.axes)] = np.abs(grid.scale)
    return steps


def _on_its_slice(
    mark: Annotation,
    prepared: Prepared,
    at: NDArray[np.float64],
    within: NDArray[np.bool_],
    middle: Sequence[float] | NDArray[np.float64],
) -> NDArray[np.bool_]:
    """What lies within a flat mark on its slice. Shape: within: (Z, H, W); middle: row, column in the file."""
    here = _on_slice(mark, prepared, at)
    away = (at[..., 1:] - middle) / _steps(prepared.grid)[1:]
    return _or_nearest(within & here, np.where(here[..., None], away, np.inf))


def _on_slice(mark: Annotation, prepared: Prepared, at: NDArray[np.float64]) -> NDArray[np.bool_]:
    slice_ = mark.slice
    if slice_ is None and mark.kind == "polygon" and mark.z_mm is not None:
        slice_ = _slice_at(mark.z_mm, prepared.grid)
    if slice_ is None:
        if int(prepared.grid.shape[0]) > 1:
            raise ImageProblem("mark_incomplete", "a slice, for a box or polygon in a volume")
        return np.ones(at.shape[:-1], np.bool_)
    # The prepared slice that lies nearest, whichever axis it is along.
    here = at[..., 0]
    steps = [np.abs(np.diff(here, axis=axis)).max() for axis in range(3) if here.shape[axis] > 1]
    return np.asarray(np.abs(here - slice_) <= max(1.0, *steps) / 2)


def _slice_at(z_mm: float, grid: Grid) -> float:
    """Slice of the file whose first voxel lies at this z in the patient."""
    rise = float(grid.direction[2, 0] * grid.file_spacing_mm[0])
    found = (z_mm - float(grid.origin_mm[2])) / rise if np.isfinite(rise) and abs(rise) > _LEAST_RISE_MM else np.nan
    if not np.isfinite(found):
        raise ImageProblem("mark_incomplete", "slices that lie one above another in the patient, for a polygon at z_mm")
    return float(found)


def _sampled(mask: NDArray[np.bool_], at: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The mask's voxel nearest to each place; outside of it False. Shape: (Z, H, W), (..., 3) -> (...)."""
    index = np.rint(at).astype(np.int64)
    there = ((index >= 0) & (index < mask.shape)).all(axis=-1)
    place = np.clip(index, 0, np.array(mask.shape) - 1)
    return np.asarray(mask[place[..., 0], place[..., 1], place[..., 2]] & there)


def _all(mark: Annotation, *names: str) -> list[float]:
    found = [getattr(mark, name) for name in names]
    if any(one is None or not np.isfinite(one) for one in found):
        raise ImageProblem("mark_incomplete", f"{', '.join(names)}, for a {mark.kind}")
    return [float(one) for one in found]
