"""Lesions of a segmented image: connected parts, measured in pixels of the file and millimetres of the patient."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from riskpred.config.segmentation import SegmentationStage
from riskpred.imaging.picture import Grid, Picture


@dataclass(frozen=True)
class Lesion:
    """One lesion: the columns of schemas/scores/findings.yaml (NaN = unknown), and what draws it.

    lesion: number within the image, from 1, the most certain first (SEGHOUSE numbers over stages anew).
    confidence: mean probability of its more certain half.
    area_px, area_mm2: of its largest section in one slice.   volume_mm3: NaN in a picture of two dimensions.
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


def lesions(
    probabilities: NDArray[np.float32], grid: Grid, stage: SegmentationStage, slices: Sequence[float] = ()
) -> list[Lesion]:
    """The lesions that the stage's rules keep, label by label, the most certain first.

    Args:
        probabilities: (L, Z, H, W) of `Segmenter.probabilities`, on the prepared grid.
        slices: file slice of each of the Z pictures (`Prepared.slices`), where they are not those of the grid.
    """
    raise NotImplementedError


def with_intensity(found: Sequence[Lesion], picture: Picture, grid: Grid) -> list[Lesion]:
    """The same lesions with their mean value in the file's units (first channel)."""
    raise NotImplementedError
