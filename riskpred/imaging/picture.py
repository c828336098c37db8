"""A picture or volume as its file holds it, and the grid that says where pixels made from it lie in the patient.

Axes are always slice, row, column; patient coordinates are LPS (x to the left, y to the back, z to the head), as in
DICOM. What a file does not say is NaN, never a guess.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Channels = Literal["grey", "rgb"] | tuple[str, ...]
"""What the channels of a picture are: one of luminance, red-green-blue, or one per file-name pattern of a folder."""

MIDDLE = 0.5
"""From a pixel's corner to its centre, in pixels."""


@dataclass(frozen=True)
class Grid:
    """Where prepared pixels lie: index in the file = offset + scale x index, per axis (slice, row, column).

    offset, scale: (3,); indices are of pixel centres, the file's first voxel is 0, 0, 0.
    spacing_mm: (3,) between prepared pixels, NaN where unknown.
    origin_mm: (3,) LPS of the centre of the file's first voxel.   direction: (3, 3), column k = one step along axis k.
    shape: (3,) slices, rows and columns of the file.
    """

    offset: NDArray[np.float64]
    scale: NDArray[np.float64]
    spacing_mm: NDArray[np.float64]
    origin_mm: NDArray[np.float64]
    direction: NDArray[np.float64]
    shape: NDArray[np.int64]

    @property
    def file_spacing_mm(self) -> NDArray[np.float64]:
        """Shape (3,): mm between voxels of the file, NaN where unknown."""
        return self.spacing_mm / self.scale

    def file_index(self, index: ArrayLike) -> NDArray[np.float64]:
        """Slice, row and column in the file of prepared pixels. Shape: (..., 3) -> (..., 3)."""
        return self.offset + self.scale * np.asarray(index, dtype=np.float64)

    def patient_mm(self, index: ArrayLike) -> NDArray[np.float64]:
        """x, y, z in mm of prepared pixels (slice, row, column). Shape: (..., 3) -> (..., 3).

        Patient coordinates where the file has them. Without orientation: along columns, rows and slices from the
        upper left corner of the file's first pixel. NaN where the spacing needed is unknown.

        Example:
            >>> grid = Picture.flat(np.zeros((4, 6), dtype=np.float32), (0.5, 0.25)).grid
            >>> grid.patient_mm((0, 1, 2))
            array([0.625, 0.75 ,   nan])
        """
        at, spacing = self.file_index(index), self.file_spacing_mm
        if np.isnan(self.direction).any() or np.isnan(self.origin_mm).any():
            return np.asarray(((at + MIDDLE) * spacing)[..., ::-1])
        # The only slice of a file lies where the file says, however thick it is.
        step = np.where((self.shape == 1) & np.isnan(spacing), 0.0, spacing)
        return np.asarray(self.origin_mm + (at * step) @ self.direction.T)


@dataclass(frozen=True)
class Picture:
    """All pixels of one file, series or study, in rescaled units (HU in CT); high is bright.

    array: (C, Z, H, W) float32, finite. Z = 1 in 2D. C = 1 (grey), 3 (red, green, blue), or one per file of a study.
    spacing_mm: (3,) slice, row, column.   origin_mm: (3,) LPS of the centre of voxel 0, 0, 0.
    direction: (3, 3), column k = unit vector in LPS of one step along axis k (slice, row, column).
    image_type: DICOM code (CR DX CT MR US MG OP).   body_part, view, laterality: as the file codes them, or None.
    window: (centre, width) of the display the file asks for, in units of array.
    notes: what a reader of the picture should know (another spacing tag used, slices that are missing).
    """

    array: NDArray[np.float32]
    spacing_mm: NDArray[np.float64]
    origin_mm: NDArray[np.float64]
    direction: NDArray[np.float64]
    image_type: str | None = None
    body_part: str | None = None
    view: str | None = None
    laterality: str | None = None
    window: tuple[float, float] | None = None
    notes: tuple[str, ...] = field(default=())

    @classmethod
    def flat(
        cls,
        array: NDArray[np.float32],
        spacing_mm: tuple[float, float] | None = None,
        image_type: str | None = None,
        notes: tuple[str, ...] = (),
    ) -> "Picture":
        """A picture without a place in the patient. Shape: array (H, W) or (C, H, W); spacing_mm row, column."""
        planes = array[None] if array.ndim == 2 else array
        spacing = np.array([np.nan, *(spacing_mm or (np.nan, np.nan))])
        return cls(planes[:, None], spacing, np.full(3, np.nan), np.full((3, 3), np.nan), image_type, notes=notes)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows and columns."""
        _, slices, rows, columns = self.array.shape
        return slices, rows, columns

    @property
    def grid(self) -> Grid:
        """The grid of the picture itself: prepared pixels that are the file's."""
        return Grid(
            np.zeros(3), np.ones(3), self.spacing_mm, self.origin_mm, self.direction, np.array(self.shape, np.int64)
        )
