"""The arrays a network reads: B prediction rows, by modality, with what each value was and when it was known."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

NO_USABLE_INPUT: Final = "no_usable_input"
"""Why a row without any modality gets no risk."""


@dataclass(frozen=True)
class TabularInput:
    """values: (B, F) float32, NaN = missing; a category is its index in the plan's vocabulary (unknown = NaN).
    time: (B, F) int64, UTC microseconds of the newest event behind each value; STATIC where none or static.
    """

    values: NDArray[np.float32]
    time: NDArray[np.int64]


@dataclass(frozen=True)
class SeriesInput:
    """Ragged: row b has steps start[b]:start[b + 1], oldest first. T steps in all, C channels (codes).

    time: (T,) int64 UTC microseconds.   values: (T, C) float32, NaN = not measured at that step.
    """

    start: NDArray[np.int64]
    time: NDArray[np.int64]
    values: NDArray[np.float32]


@dataclass(frozen=True)
class EncodedImages:
    """What R members' encoders said of images, and the little else that a night asks of the pixels.

    Shape: sent (B, R, V) float32, each member's V coefficients and embedding, all 0 for a row without an image.
    moments: (B, 2) float64, mean and SD of the pixels.   input_hash: per row, digest of the pixels, "" without one.
    """

    sent: NDArray[np.float32]
    moments: NDArray[np.float64]
    input_hash: tuple[str, ...]


@dataclass(frozen=True)
class ImageInput:
    """pixels: (B, H, W) float32 in 0..1, all 0 for a row without an image; image_id: "" there.
    time: (B,) int64.  spacing_mm: (B, 2) float64 of the prepared pixels (row, column), NaN where unknown.
    encoded: given where the images were encoded as they were read; pixels are (0, H, W) then: nobody keeps them.
    """

    pixels: NDArray[np.float32]
    image_id: tuple[str, ...]
    time: NDArray[np.int64]
    spacing_mm: NDArray[np.float64]
    encoded: EncodedImages | None = None


@dataclass(frozen=True)
class Receipt:
    """What one modality had to work with, per row.

    status: (B,) used | missing | stale | rejected.  n: (B,) visible events or images.
    latest_time: (B,) int64 UTC microseconds, STATIC where none is dated.
    missing_features: per row, names of inputs not there.
    """

    status: tuple[str, ...]
    n: NDArray[np.int64]
    latest_time: NDArray[np.int64]
    missing_features: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class InputReject:
    """An image (or row) that could not be used: becomes a row of `rejects`."""

    source: str
    row_key: str
    subject_id: int
    reason: str
    field: str
    wanted: str


@dataclass(frozen=True)
class FeatureBatch:
    """B prediction rows, in chunk order (subject_id, then prediction_time).

    present: modality -> (B,) bool: the encoder may be used (receipt status is "used").
    """

    subject_id: NDArray[np.int64]
    prediction_time: NDArray[np.int64]
    inputs: dict[str, TabularInput | SeriesInput | ImageInput]
    present: dict[str, NDArray[np.bool_]]
    receipts: dict[str, Receipt]
    rejects: tuple[InputReject, ...]

    def __len__(self) -> int:
        return len(self.subject_id)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Whether any modality is there; without one there is nothing to go by, and no risk. Shape: (B,)."""
        usable: NDArray[np.bool_] = np.logical_or.reduce(list(self.present.values()))
        return usable
