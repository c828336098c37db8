"""Where the frames of DICOM files lie: spacing, position and orientation of each, and the stack that they make."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from riskpred.imaging.dicom import group, number, numbers_of
from riskpred.imaging.paths import ImageProblem

SAME_PLACE_MM: Final = 0.01
SAME_DIRECTION: Final = 1e-3
_GAP: Final = 1.5
"""A distance of so many usual ones is a slice that is missing."""

_UNEVEN: Final = 0.02
_TILT_DEGREES: Final = 0.5
_CENTIMETRES: Final = 3
"""Of PhysicalUnitsXDirection and its twin."""


@dataclass(frozen=True)
class Place:
    """Of one frame. position: (3,) LPS of the centre of its first pixel.   axes: (2, 3) unit steps to the next row and
    to the next column.   spacing_mm: between rows, between columns.   thick_mm: to the next slice, as far as it says.
    """

    position: NDArray[np.float64] | None
    axes: NDArray[np.float64] | None
    spacing_mm: tuple[float, float] | None
    thick_mm: float | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stack:
    """Frames as slices. order: place in the input of each slice.   thick_mm: between slices, NaN unknown.
    origin_mm (3,) and direction (3, 3) as Picture's.
    """

    order: NDArray[np.int64]
    thick_mm: float
    origin_mm: NDArray[np.float64] = field(default_factory=lambda: np.full(3, np.nan))
    direction: NDArray[np.float64] = field(default_factory=lambda: np.full((3, 3), np.nan))
    notes: tuple[str, ...] = ()


def place(dataset: Dataset, frame: int) -> Place:
    """Of one frame, from its functional groups or from the elements of a file of one frame."""
    measures = group(dataset, frame, "PixelMeasuresSequence")
    spacing, notes = pixel_spacing(dataset, measures)
    thick = next(
        (mm for name in ("SpacingBetweenSlices", "SliceThickness") if (mm := abs(number(measures, name) or 0)) > 0),
        None,
    )
    position = numbers_of(group(dataset, frame, "PlanePositionSequence"), "ImagePositionPatient", 3)
    cosines = numbers_of(group(dataset, frame, "PlaneOrientationSequence"), "ImageOrientationPatient", 6)
    axes = None if cosines is None else np.array([cosines[3:], cosines[:3]])
    if axes is not None and not np.allclose(axes @ axes.T, np.eye(2), atol=1e-2):
        axes, notes = None, (*notes, "orientation of no use: its axes are not at right angles")
    if axes is not None:
        axes = axes / np.linalg.norm(axes, axis=1, keepdims=True)
    return Place(None if position is None else np.array(position), axes, spacing, thick, notes)


def pixel_spacing(dataset: Dataset, measures: Dataset) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    """(row, column) in mm in the body, as near to it as the file says, and a note where it is not quite that."""
    if (found := _pair(measures, "PixelSpacing")) is not None:
        return found, ()
    if (region := _ultrasound(dataset)) is not None:
        return region
    if (found := _pair(dataset, "ImagerPixelSpacing")) is not None:
        factor = number(dataset, "EstimatedRadiographicMagnificationFactor")
        if factor is not None and 1 <= factor < 10:
            return (found[0] / factor, found[1] / factor), (
                f"spacing from the detector's and a magnification of {factor:g}",
            )
        return found, ("spacing is that of the detector, not of the body",)
    if (found := _pair(dataset, "NominalScannedPixelSpacing")) is not None:
        return found, ("spacing is that of the scanned film, not of the body",)
    return None, ()


def _pair(dataset: Dataset, name: str) -> tuple[float, float] | None:
    pair = numbers_of(dataset, name, 2)
    return (pair[0], pair[1]) if pair is not None and min(pair) > 0 else None


def _ultrasound(dataset: Dataset) -> tuple[tuple[float, float], tuple[str, ...]] | None:
    """Spacing of the largest region that shows tissue; regions of curves and of time say nothing of it."""
    found = []
    for region in dataset.get("SequenceOfUltrasoundRegions") or ():
        units = number(region, "PhysicalUnitsXDirection"), number(region, "PhysicalUnitsYDirection")
        row, column = abs(number(region, "PhysicalDeltaY") or 0) * 10, abs(number(region, "PhysicalDeltaX") or 0) * 10
        if units != (_CENTIMETRES, _CENTIMETRES) or not (row > 0 and column > 0):
            continue
        corners = [number(region, f"RegionLocation{name}") or 0 for name in ("MinX0", "MaxX1", "MinY0", "MaxY1")]
        found.append(((corners[1] - corners[0]) * (corners[3] - corners[2]), (row, column)))
    if not found:
        return None
    _, spacing = max(found)
    alike = all(np.allclose(spacing, other, rtol=1e-2) for _, other in found)
    return spacing, () if alike else ("regions of different spacing: that of the largest",)


def stack(places: Sequence[Place], one_file: bool) -> Stack:
    """Slices in order along their normal, and where they lie.

    Args:
        one_file: the frames of one file, which may be moments or repeats (the first at each position is kept, with a
            note); of a series of files neither is taken.

    Raises: ImageProblem: mixed_orientations, several_at_a_position, missing_slices.
    """
    count, first = len(places), places[0]
    notes = tuple(dict.fromkeys(note for one in places for note in one.notes))
    unknown = Stack(np.arange(count), first.thick_mm or np.nan if count == 1 else np.nan, notes=notes)
    axes = first.axes
    if axes is None or first.position is None:
        return unknown if count == 1 else _noted(unknown, "positions unknown: in the order of the frames, not a volume")
    if any(one.axes is None or one.position is None for one in places):
        return _noted(unknown, "positions of some frames unknown: in the order of the frames, not a volume")
    if any(np.abs(one.axes - axes).max() > SAME_DIRECTION for one in places if one.axes is not None):
        raise ImageProblem("mixed_orientations", "slices that are parallel")
    normal = np.cross(axes[1], axes[0])
    normal /= np.linalg.norm(normal)
    positions = np.array([one.position for one in places])
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    new = np.append(True, np.diff(along[order]) > SAME_PLACE_MM)
    if not new.all():
        if not one_file:
            raise ImageProblem("several_at_a_position", "one slice at each position")
        if not new[1:].any():
            still = Stack(np.arange(count), np.nan, positions[0], _direction(normal, axes), notes)
            return _noted(still, f"{count} frames at one position: in the order of the frames, not a volume")
        kept = int(new.sum())
        notes = (*notes, f"{count} frames at {kept} positions: the first at each")
        order = order[new]
    if len(order) == 1:
        return Stack(order, first.thick_mm or np.nan, positions[0], _direction(normal, axes), notes)
    thick, step, more = _steps(positions[order], along[order], normal)
    return Stack(order, thick, positions[order[0]], _direction(step, axes), (*notes, *more))


def _steps(
    positions: NDArray[np.float64], along: NDArray[np.float64], normal: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64], tuple[str, ...]]:
    """mm from slice to slice, its direction, and what is uneven. Raises: ImageProblem, where slices are missing."""
    distances, notes = np.diff(along), list[str]()
    usual = float(np.median(distances))
    gaps = distances > _GAP * usual
    if gaps.any():
        missing = int(np.round(distances[gaps] / usual).sum()) - int(gaps.sum())
        raise ImageProblem(
            "missing_slices", f"slices without gaps ({max(1, missing)} missing at {int(gaps.sum())} places)"
        )
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    thick = float(np.linalg.norm(step))
    if np.abs(distances - usual).max() > max(_UNEVEN * usual, SAME_PLACE_MM):
        notes.append(f"slices {distances.min():.3g} to {distances.max():.3g} mm apart: placed as if evenly")
    tilt = float(np.degrees(np.arccos(np.clip(step @ normal / thick, -1, 1))))
    if tilt > _TILT_DEGREES:
        notes.append(f"each slice shifted against the one before, as of a gantry tilted by {tilt:.1f} degrees")
    return thick, step / thick, tuple(notes)


def _direction(step: NDArray[np.float64], axes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([step, axes[0], axes[1]])


def _noted(made: Stack, note: str) -> Stack:
    return Stack(made.order, made.thick_mm, made.origin_mm, made.direction, (*made.notes, note))
