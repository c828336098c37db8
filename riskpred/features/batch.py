"""The arrays a network reads: B prediction rows, by modality, with what each value was and when it was known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Final

import numpy as np
from numpy.typing import NDArray

from riskpred.records.chunk import STATIC

NO_USABLE_INPUT: Final = "no_usable_input"
"""Why a row without any modality gets no risk."""

USED, MISSING, STALE, REJECTED = 0, 1, 2, 3
STATUSES: Final = ("used", "missing", "stale", "rejected")
"""What a modality can be for a row; a receipt's code is the place here."""


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
    """What R members' encoders said of T pictures, and the little else that a night asks of the pixels.

    Shape: sent (T, R, V) float32: each member's coefficients, embedding and, last, attention logit of each picture.
    moments: (T, 2) float64, mean and SD of the pixels.   input_hash: T digests of the pixels.
    """

    sent: NDArray[np.float32]
    moments: NDArray[np.float64]
    input_hash: tuple[str, ...]


@dataclass(frozen=True)
class ImageInput:
    """Ragged: row b has pictures start[b]:start[b + 1], oldest first, undated ones before all. T pictures, C channels.

    A picture is an image, or one slice of a volume that is read as slices: these have one image_id.

    Shape:
        start: (B + 1,) int64.
        pixels: (T, C, H, W) float32 in 0..1; (T, C, Z, H, W) of volumes.
        image_id: T texts.   time: (T,) int64 UTC microseconds, STATIC = undated.
        spacing_mm: (T, 3) float64 of the prepared pixels (slice, row, column), NaN where unknown.
        slices: (T, 2) float64, the file's slice that a picture's first one is, and how many of the file's lie from one
            of its slices to the next; NaN where unknown (encoded images do not say).
    encoded: given where the images were encoded as they were read; there are no pixels then (T = 0 there): nobody
        keeps them.
    """

    start: NDArray[np.int64]
    pixels: NDArray[np.float32]
    image_id: tuple[str, ...]
    time: NDArray[np.int64]
    spacing_mm: NDArray[np.float64]
    slices: NDArray[np.float64]
    encoded: EncodedImages | None = None

    @property
    def count(self) -> NDArray[np.int64]:
        """Pictures of each row. Shape: (B,)."""
        return np.diff(self.start)

    @property
    def row(self) -> NDArray[np.int64]:
        """The row of each picture. Shape: (T,)."""
        return np.repeat(np.arange(len(self.start) - 1), self.count)

    @property
    def image_number(self) -> NDArray[np.int64]:
        """A number for each row's images, ascending: pictures of one image follow one another. Shape: (T,)."""
        row, name = self.row, np.array(self.image_id, dtype=np.str_)
        return np.cumsum(np.append([True], (np.diff(row) > 0) | (name[1:] != name[:-1]))[: len(row)])

    @property
    def latest_time(self) -> NDArray[np.int64]:
        """Time of each row's latest picture, STATIC where it has none or none is dated. Shape: (B,)."""
        found = np.full(len(self.start) - 1, STATIC, dtype=np.int64)
        here = self.count > 0
        found[here] = self.time[self.start[1:][here] - 1]
        return found


@dataclass(frozen=True)
class Receipt:
    """What one modality had to work with, per row.

    Shape and meaning:
        code: (B,) int8, place in STATUSES.   n: (B,) visible events or images.
        latest_time: (B,) int64 UTC microseconds, STATIC where none is dated.
        missing: (B, F) bool, which of the F inputs named in `names` were not there.
        notes: place of a row -> what else was wrong with its inputs; few rows have any.
    """

    code: NDArray[np.int8]
    n: NDArray[np.int64]
    latest_time: NDArray[np.int64]
    missing: NDArray[np.bool_]
    names: tuple[str, ...]
    notes: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    @property
    def status(self) -> tuple[str, ...]:
        """(B,) used | missing | stale | rejected."""
        return tuple(STATUSES[code] for code in self.code.tolist())

    @property
    def missing_features(self) -> tuple[tuple[str, ...], ...]:
        """Per row, names of inputs not there, then its notes."""
        rows = map(bytes, np.ascontiguousarray(self.missing).view(np.uint8))
        return tuple((*compress(self.names, row), *self.notes.get(b, ())) for b, row in enumerate(rows))

    def take(self, index: NDArray[np.int64]) -> "Receipt":
        """The given rows, in the given order."""
        noted = [] if not self.notes else [(b, self.notes.get(row)) for b, row in enumerate(index.tolist())]
        return Receipt(
            self.code[index],
            self.n[index],
            self.latest_time[index],
            self.missing[index],
            self.names,
            {b: notes for b, notes in noted if notes is not None},
        )

    @classmethod
    def joined(cls, receipts: Sequence["Receipt"]) -> "Receipt":
        """Receipts of one modality, one after the other."""
        first = np.cumsum([0, *(len(one.code) for one in receipts)]).tolist()
        return cls(
            np.concatenate([one.code for one in receipts]),
            np.concatenate([one.n for one in receipts]),
            np.concatenate([one.latest_time for one in receipts]),
            np.concatenate([one.missing for one in receipts]),
            receipts[0].names,
            {first[i] + row: notes for i, one in enumerate(receipts) for row, notes in one.notes.items()},
        )


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
    group: (B,) place in records.reference_group.GROUPS, the people a row is explained against; None = everyone.
    """

    subject_id: NDArray[np.int64]
    prediction_time: NDArray[np.int64]
    inputs: dict[str, TabularInput | SeriesInput | ImageInput]
    present: dict[str, NDArray[np.bool_]]
    receipts: dict[str, Receipt]
    rejects: tuple[InputReject, ...]
    group: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.subject_id)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Whether any modality is there; without one there is nothing to go by, and no risk. Shape: (B,)."""
        usable: NDArray[np.bool_] = np.logical_or.reduce(list(self.present.values()))
        return usable
