"""Lesions of a segmented image: connected parts, measured in pixels of the file and millimetres of the patient."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from contourpy import LineType, contour_generator
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from riskpred.config.segmentation import LesionRules, SegmentationStage
from riskpred.imaging.picture import Grid, Picture

_UNKNOWN: Final = float("nan")

_MANY: Final = 8
"""Corners above which a hull is worth its making before distances are taken."""


@dataclass(frozen=True)
class Lesion:
    """One lesion: the columns of schemas/scores/findings.yaml (NaN = unknown), and what draws it.

    lesion: number within the image and stage, from 1, the most certain first.
    confidence: mean probability of its more certain half.
    area_px, area_mm2: of its largest section in one slice; px are pixels of the file.
    volume_mm3: NaN in a picture of two dimensions.
    longest_diameter_mm: the longest line between two points of its surface, which lies between pixels.
    row, col, slice: its centre, pixels of the file.   x_mm, y_mm, z_mm: the same in the patient (LPS); of a file
        without orientation, from its upper left corner along columns, rows and slices.
    mean_intensity: NaN until `with_intensity` reads it from the picture.
    outlines: per prepared slice that it touches, closed lines of (row, col) of prepared pixels.
    corner, mask: the box of prepared pixels (slice, row, col) that holds it, and which of them are it.
    """

    lesion: int
    label: str
    confidence: float
    area_px: float
    area_mm2: float
    volume_mm3: float
    longest_diameter_mm: float
    row: float
    col: float
    slice: float
    x_mm: float
    y_mm: float
    z_mm: float
    mean_intensity: float
    outlines: dict[int, tuple[NDArray[np.float32], ...]]
    corner: tuple[int, int, int]
    mask: NDArray[np.bool_]


def lesions(probabilities: NDArray[np.float32], grid: Grid, stage: SegmentationStage) -> list[Lesion]:
    """The lesions of all labels that the stage's rules keep, the most certain first.

    Shape: probabilities (L, Z, H, W), as `Segmenter.probabilities` gives them, on the prepared grid.
    """
    assert probabilities.ndim == 4
    assert len(probabilities) == len(stage.labels)
    found: list[Lesion] = []
    for label, one in zip(stage.names, probabilities, strict=True):
        kept = [lesion for lesion in _parts(one, label, grid, stage.lesions.threshold) if _kept(lesion, stage.lesions)]
        found += sorted(kept, key=lambda lesion: -lesion.confidence)[: stage.lesions.most]
    found.sort(key=lambda lesion: -lesion.confidence)
    return [replace(lesion, lesion=number) for number, lesion in enumerate(found, 1)]


def with_intensity(found: Sequence[Lesion], picture: Picture, grid: Grid) -> list[Lesion]:
    """The same lesions with the mean of their pixels in the file's units (the first channel), read between voxels."""
    return [
        replace(
            lesion,
            mean_intensity=float(
                ndimage.map_coordinates(
                    picture.array[0],
                    grid.file_index(np.argwhere(lesion.mask) + lesion.corner).T,
                    order=1,
                    mode="nearest",
                ).mean(dtype=np.float64)
            ),
        )
        for lesion in found
    ]


def _kept(lesion: Lesion, rules: LesionRules) -> bool:
    return (
        lesion.confidence >= rules.least_confidence
        and int(lesion.mask.sum()) >= rules.least_px
        and not lesion.longest_diameter_mm < rules.least_diameter_mm  # unknown is not small
    )


def _parts(probability: NDArray[np.float32], label: str, grid: Grid, threshold: float) -> Iterator[Lesion]:
    """Each connected part (corners touch, too) of one label. Shape: (Z, H, W)."""
    parts, _ = ndimage.label(probability >= threshold, np.ones((3, 3, 3)))
    flat, spacing_mm = probability.shape[0] == 1, np.abs(grid.spacing_mm)
    pixel_area = float(abs(grid.scale[1] * grid.scale[2]))
    for number, box in enumerate(ndimage.find_objects(parts), 1):
        mask = parts[box] == number
        corner = (box[0].start, box[1].start, box[2].start)
        inside = probability[box][mask].astype(np.float64)
        index = np.argwhere(mask) + corner
        centre = (index * inside[:, None]).sum(axis=0) / inside.sum()
        at, in_patient = grid.file_index(centre), grid.patient_mm(centre)
        section = float(mask.sum(axis=(1, 2)).max())
        around = _around(probability, mask, corner, threshold)
        yield Lesion(
            lesion=number,
            label=label,
            confidence=float(np.sort(inside)[len(inside) // 2 :].mean()),
            area_px=section * pixel_area,
            area_mm2=section * float(spacing_mm[1] * spacing_mm[2]),
            volume_mm3=_UNKNOWN if flat else len(index) * float(spacing_mm.prod()),
            longest_diameter_mm=_longest_mm(around, threshold, spacing_mm, flat),
            row=float(at[1]),
            col=float(at[2]),
            slice=float(at[0]),
            x_mm=float(in_patient[0]),
            y_mm=float(in_patient[1]),
            z_mm=float(in_patient[2]),
            mean_intensity=_UNKNOWN,
            outlines=dict(_outlines(around, corner, threshold)),
            corner=corner,
            mask=mask,
        )


def _around(
    probability: NDArray[np.float32], mask: NDArray[np.bool_], corner: tuple[int, int, int], threshold: float
) -> NDArray[np.float64]:
    """Probabilities of a lesion's box and one pixel around it, other lesions taken out; beyond the picture nothing.

    What lies beyond the picture mirrors its rim at the threshold, so that a lesion ends at the rim's outer edge.
    """
    low = [max(0, start - 1) for start in corner]
    high = [
        min(side, start + length + 1) for side, start, length in zip(probability.shape, corner, mask.shape, strict=True)
    ]
    here = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    missing = [
        (1 - (start - a), 1 - (b - start - length))
        for a, b, start, length in zip(low, high, corner, mask.shape, strict=True)
    ]
    found = np.pad(probability[here].astype(np.float64), missing, constant_values=-1.0)
    own = np.pad(mask, 1)
    found[~own & (found >= threshold)] = 0.0
    return found


def _longest_mm(around: NDArray[np.float64], threshold: float, spacing_mm: NDArray[np.float64], flat: bool) -> float:
    """Longest distance between points where the probability crosses the threshold between two pixels of one axis."""
    axes = (1, 2) if flat else (0, 1, 2)
    if np.isnan(spacing_mm[list(axes)]).any():
        return _UNKNOWN
    points = np.concatenate([_crossings(around, threshold, axis) for axis in axes])
    points = points[:, list(axes)] * spacing_mm[list(axes)]
    if len(points) > _MANY:
        points = points[ConvexHull(points).vertices]
    return float(pdist(points).max())


def _crossings(around: NDArray[np.float64], threshold: float, axis: int) -> NDArray[np.float64]:
    """Where lines along one axis leave the lesion, between pixel centres. Shape: (N, 3)."""
    swapped = np.moveaxis(around, axis, 0)
    before, after = swapped[:-1], swapped[1:]
    at = np.argwhere((before >= threshold) != (after >= threshold))
    one, other = before[tuple(at.T)], after[tuple(at.T)]
    # Beyond the picture (-1) nothing is known: the lesion ends at the outer edge of its last pixel.
    share = np.where((one < 0) | (other < 0), 0.5, (threshold - one) / np.where(one == other, 1.0, other - one))
    found = at.astype(np.float64)
    found[:, 0] += share
    return found[:, _order(axis)]


def _order(axis: int) -> list[int]:
    """Where the axes (axis, rest in order) stand when in their own order again."""
    moved = [axis, *(other for other in range(3) if other != axis)]
    return [moved.index(own) for own in range(3)]


def _outlines(
    around: NDArray[np.float64], corner: tuple[int, int, int], threshold: float
) -> Iterator[tuple[int, tuple[NDArray[np.float32], ...]]]:
    """Closed lines (row, col) of each slice that the lesion touches."""
    for number, section in enumerate(around[1:-1]):
        if not (section >= threshold).any():
            continue
        level = np.where(section < 0, 0.0, section)
        lines = contour_generator(z=level, line_type=LineType.Separate).lines(threshold)
        shift = (corner[1] - 1, corner[2] - 1)
        yield corner[0] + number, tuple((np.asarray(line)[:, ::-1] + shift).astype(np.float32) for line in lines)
