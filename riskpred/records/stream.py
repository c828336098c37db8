"""Cuts the warehouse's event rows into chunks of subjects: sorted, flat arrays, in memory that does not grow."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from riskpred.records.compiled import compiled

_LAST = np.int32(np.iinfo(np.int32).max)


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

    def only(self, keep: NDArray[np.bool_]) -> "Rows":
        return Rows(
            self.subject[keep],
            self.time[keep],
            self.code[keep],
            self.value[keep],
            self.text.filter(pa.array(keep)),
            self.unit[keep],
        )


class Places:
    """Where the texts of an Arrow column stand in a list: an ENUM's or a dictionary's own indices are translated."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = pa.array(texts, pa.string())
        self._dictionary: pa.Array | None = None
        self._places = np.full(1, -1, dtype=np.int32)

    def of(self, column: pa.Array) -> NDArray[np.int32]:
        """Place of each text; -1 for null, and for a text that is not in the list."""
        index, dictionary = encoded(column)
        if self._dictionary is None or not self._dictionary.equals(dictionary):
            # All batches of an ENUM column come with the same dictionary: it is looked up once.
            found = pc.fill_null(pc.index_in(dictionary.cast(pa.string()), value_set=self._texts), -1)
            self._dictionary = dictionary
            self._places = np.append(found.to_numpy(), np.int32(-1)).astype(np.int32)
        return self._places[index]


def encoded(column: pa.Array) -> tuple[NDArray[np.int32], pa.Array]:
    """Index of each text in an array of the texts there are, -1 for null; and that array."""
    if column.null_count == len(column):
        return np.full(len(column), -1, dtype=np.int32), pa.array([], pa.string())
    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    index = coded.indices
    if index.null_count:
        index = pc.fill_null(index.cast(pa.int32()), -1)
    return index.to_numpy().astype(np.int32, copy=False), coded.dictionary


class Decoder:
    """Turns Arrow columns (subject_id, time in microseconds, code, numeric_value, text_value, unit) into arrays.

    Time has no null: see chunk.STATIC. Codes and units come as text or as dictionary (ENUM).
    """

    def __init__(self, codes: Sequence[str], units: Sequence[str]) -> None:
        self._codes, self._units = Places(codes), Places(units)

    def rows(self, batch: pa.RecordBatch) -> Rows:
        subject, time, code, value, text, unit = batch.columns
        numbers = value.to_numpy(zero_copy_only=False)
        if np.isinf(numbers).any():
            numbers = np.where(np.isinf(numbers), np.nan, numbers)
        return Rows(subject.to_numpy(), time.to_numpy(), self._codes.of(code), numbers, text, self._units.of(unit))


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
    index, found = encoded(text)
    if not len(found):
        return (), index
    names: list[str] = found.to_pylist()
    by = sorted(range(len(names)), key=names.__getitem__)
    place = np.full(len(names) + 1, -1, dtype=np.int32)
    place[by] = np.arange(len(names), dtype=np.int32)
    return tuple(names[i] for i in by), place[index]


def order(rows: Rows, text: NDArray[np.int32]) -> NDArray[np.int64] | None:
    """Permutation that sorts rows by (subject, time, code, numeric_value, text_value, unit), or None if they are.

    Nulls stand first in time and last in the three others, as in DuckDB.
    """
    if _is_sorted(rows.subject, rows.time, rows.code, rows.value, text, rows.unit):
        return None
    value = np.where(np.isnan(rows.value), np.inf, rows.value)  # no infinity is left: see Decoder
    texts = np.where(text < 0, _LAST, text)
    units = np.where(rows.unit < 0, _LAST, rows.unit)
    return np.lexsort((units, texts, value, rows.code, rows.time, rows.subject))


@compiled
def _is_sorted(
    subject: NDArray[np.int64],
    time: NDArray[np.int64],
    code: NDArray[np.int32],
    value: NDArray[np.float64],
    text: NDArray[np.int32],
    unit: NDArray[np.int32],
) -> bool:
    for i in range(1, len(subject)):
        if subject[i] != subject[i - 1]:
            if subject[i] < subject[i - 1]:
                return False
        elif time[i] != time[i - 1]:
            if time[i] < time[i - 1]:
                return False
        elif code[i] != code[i - 1]:
            if code[i] < code[i - 1]:
                return False
        else:
            one = np.inf if np.isnan(value[i - 1]) else value[i - 1]
            two = np.inf if np.isnan(value[i]) else value[i]
            if one != two:
                if two < one:
                    return False
            else:
                # As unsigned numbers, -1 (null) is the largest.
                one_text, two_text = np.uint32(text[i - 1]), np.uint32(text[i])
                if one_text != two_text:
                    if two_text < one_text:
                        return False
                elif np.uint32(unit[i]) < np.uint32(unit[i - 1]):
                    return False
    return True
