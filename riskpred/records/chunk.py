"""The form in which records travel through the product: consecutive subjects as flat, sorted arrays."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

STATIC: Final = np.iinfo(np.int64).min
"""`time` of a MEDS static event (null time): sorts before every dated event and is always visible."""

DAY_US: Final = 86_400_000_000
"""Microseconds in a day."""


@dataclass(frozen=True)
class ImageRow:
    """One row of `images`. `time` is UTC microseconds, STATIC for null; `path` is relative to the image root.

    stamp: what stands for the file's content where sha256 is null: its size and mtime, or why it cannot be read.
    series: which series of a folder that holds several; None = all of `path`.
    """

    image_id: str
    subject_id: int
    time: int
    image_type: str
    path: str
    sha256: str | None
    stamp: str | None = None
    series: str | None = None


@dataclass(frozen=True)
class SubjectChunk:
    """Events and images of S consecutive subjects, E events in all.

    Shape:
        subject_id: (S,) int64, ascending.           start: (S + 1,) int64; subject s has rows start[s]:start[s + 1].
        time: (E,) int64 UTC microseconds, STATIC = null.
        code: (E,) int32, index into `codes`.        numeric_value: (E,) float64, NaN = null.
        text: (E,) int32, index into `texts`, -1 = null.
        images: per subject, sorted by (time, image_id).
        unit: (E,) int32, index into `unit_texts`, -1 = null; None where the maker of the chunk knows only `units`.
        finder: who looks at the images for what they show (features.findings.FindingSource); None = nobody, or done.
    Events of a subject are sorted by (time, code, numeric_value, text_value, unit), STATIC first.
    `codes` is the same tuple for every chunk of one warehouse; `texts` belongs to the chunk. `units` gives each code's
    unit where it has a single one, else None.
    """

    subject_id: NDArray[np.int64]
    start: NDArray[np.int64]
    time: NDArray[np.int64]
    code: NDArray[np.int32]
    numeric_value: NDArray[np.float64]
    text: NDArray[np.int32]
    codes: tuple[str, ...]
    texts: tuple[str, ...]
    units: tuple[str | None, ...]
    images: tuple[tuple[ImageRow, ...], ...]
    unit: NDArray[np.int32] | None = None
    unit_texts: tuple[str, ...] = ()
    finder: object | None = None

    def __len__(self) -> int:
        return len(self.subject_id)

    def until(self, moment: NDArray[np.int64]) -> "SubjectChunk":
        """The chunk without what is later than each subject's moment. Shape: (S,) UTC microseconds."""
        subject = np.repeat(np.arange(len(self)), np.diff(self.start))
        keep = self.time <= moment[subject]
        counts = np.bincount(subject[keep], minlength=len(self))
        return replace(
            self,
            start=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            time=self.time[keep],
            code=self.code[keep],
            numeric_value=self.numeric_value[keep],
            text=self.text[keep],
            images=tuple(
                tuple(row for row in rows if row.time <= last)
                for rows, last in zip(self.images, moment.tolist(), strict=True)
            ),
            unit=None if self.unit is None else self.unit[keep],
        )
