"""Cuts the warehouse's event rows into chunks of subjects: sorted, flat arrays, in memory that does not grow."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from riskpred.records.chunk import STATIC

_LAST = np.iinfo(np.int32).max


@dataclass(frozen=True)
class Rows:
    """Event rows of some subjects: equally long arrays; `text` is an Arrow string array, null where there is none.

    `value` has NaN for null and for anything that is no finite number; `unit` is -1 for null.
    """

    subject: NDArray[np.int64]
    time: NDArray[np.int64]
    code: NDArray[np.int32]
    value: NDArray[np.float64]
    text: pa.Array
    unit: NDArray[np.int32]

    def cut(self, start: int, stop: int | None = None) -> "Rows":
        end = len(self.subject) if stop is None else stop
        return Rows(
            self.subject[start:end],
            self.time[start:end],
            self.code[start:end],
            self.value[start:end],
            self.text.slice(start, end - start),
            self.unit[start:end],
        )


def decoded(batch: pa.RecordBatch, codes: pa.Array, units: pa.Array) -> Rows:
    """Arrow columns (subject_id, time in microseconds, code, numeric_value, text_value, unit) -> arrays."""
    subject, time, code, value, text, unit = batch.columns
    numbers = value.to_numpy(zero_copy_only=False)
    if not (finite := np.isfinite(numbers)).all():
        numbers = np.where(finite, numbers, np.nan)
    return Rows(
        subject.to_numpy(),
        pc.fill_null(time, int(STATIC)).to_numpy(),
        pc.index_in(code, value_set=codes).to_numpy(),
        numbers,
        text,
        pc.fill_null(pc.index_in(unit, value_set=units), -1).to_numpy(),
    )


class RowFeed:
    """Hands out rows of ascending subjects up to a stated subject, keeping at most one batch beyond it."""

    def __init__(self, batches: Iterator[Rows]) -> None:
        self._batches = batches
        self._left: Rows | None = None

    def upto(self, subject: int) -> list[Rows]:
        """All rows not yet handed out whose subject_id is at most `subject`."""
        taken: list[Rows] = []
        while True:
            rows = self._left if self._left is not None else next(self._batches, None)
            self._left = None
            if rows is None:
                return taken
            end = int(np.searchsorted(rows.subject, subject, side="right"))
            if end:
                taken.append(rows.cut(0, end))
            if end < len(rows.subject):
                self._left = rows.cut(end)
                return taken


def joined(parts: list[Rows]) -> Rows:
    """Several runs of rows as one."""
    if len(parts) == 1:
        return parts[0]
    return Rows(
        np.concatenate([p.subject for p in parts]) if parts else np.empty(0, np.int64),
        np.concatenate([p.time for p in parts]) if parts else np.empty(0, np.int64),
        np.concatenate([p.code for p in parts]) if parts else np.empty(0, np.int32),
        np.concatenate([p.value for p in parts]) if parts else np.empty(0, np.float64),
        pa.concat_arrays([p.text for p in parts]) if parts else pa.array([], pa.string()),
        np.concatenate([p.unit for p in parts]) if parts else np.empty(0, np.int32),
    )


def text_index(text: pa.Array) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """Texts of a chunk in sorted order, and each row's index into them, -1 for null."""
    if text.null_count == len(text):
        return (), np.full(len(text), -1, dtype=np.int32)
    texts = sorted(pc.unique(text.drop_null()).to_pylist())
    index = pc.index_in(text, value_set=pa.array(texts, text.type))
    return tuple(texts), pc.fill_null(index, -1).to_numpy().astype(np.int32)


def order(rows: Rows, text: NDArray[np.int32]) -> NDArray[np.int64] | None:
    """Permutation that sorts rows by (subject, time, code, numeric_value, text_value, unit), or None if they are.

    Nulls stand first in time and last in the three others, as in DuckDB.
    """
    value = np.where(np.isnan(rows.value), np.inf, rows.value)  # no infinity is left: see decoded()
    texts = np.where(text < 0, _LAST, text)
    units = np.where(rows.unit < 0, _LAST, rows.unit)
    keys = (rows.subject, rows.time, rows.code, value, texts, units)
    fine = np.ones(max(len(value) - 1, 0), dtype=bool)
    for key in reversed(keys):
        fine = (key[1:] > key[:-1]) | ((key[1:] == key[:-1]) & fine)
    return None if fine.all() else np.lexsort(tuple(reversed(keys)))
