"""Reads the table `events` of an open warehouse: all of it in stored order, some subjects, or counted by code."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from riskpred.records.chunk import STATIC
from riskpred.records.stream import Decoder, Rows

_BATCH = 131_072
_SPARSE = 8
"""Below one wanted subject in so many, a join and a sort of what it leaves beat reading every row and leaving most out
(1 M subjects x 50 events on one core: 10,000 wanted 0.3 s against 1.1 s, 100,000 wanted 1.1 s against 1.0 s)."""
_BAND = 32_768
"""Wanted subjects joined at once: the sort then holds some tens of megabytes, however many are wanted."""


@dataclass(frozen=True)
class CodeRow:
    """One row of code_dictionary: events with this code and unit, see schemas/warehouse/."""

    code: str
    unit: str | None
    events: int
    numeric_values: int
    non_finite: int


class EventTable:
    """`events`, whose columns may be those of another tool: no unit, text or value; code as VARCHAR or ENUM.

    Args:
        columns: column -> DuckDB type.
        whole: the table that codes are counted in and the latest time is looked for; another than `events` where only
            some shards are opened: what is known of one shard must not depend on which others are.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, columns: dict[str, str], whole: str = "events") -> None:
        self._connection, self._whole = connection, whole
        self._row_order = "rowid" if whole == "events" else "subject_id"  # a view has no rowid
        self._unit = "unit" if "unit" in columns else "NULL::VARCHAR"
        text = "text_value" if "text_value" in columns else "NULL::VARCHAR"
        self._number = "numeric_value" if "numeric_value" in columns else "NULL::FLOAT"
        self._select = (
            f"SELECT subject_id::BIGINT, coalesce(epoch_us(time), {STATIC}), code, {self._number}::DOUBLE,"
            f" {text}::VARCHAR, {self._unit} FROM events"
        )

    def code_rows(self) -> list[CodeRow]:
        """Every code and unit there is, sorted, counted by one pass over three columns."""
        sql = (
            f"SELECT code::VARCHAR, {self._unit}::VARCHAR, count(*), count({self._number}),"
            f" count(*) FILTER (NOT isfinite({self._number})) FROM {self._whole} GROUP BY code, {self._unit}"
        )
        rows = [CodeRow(*row) for row in self._connection.cursor().execute(sql).fetchall()]
        return sorted(rows, key=lambda row: (row.code, row.unit is not None, row.unit or ""))

    def latest_time(self) -> int | None:
        """UTC microseconds of the latest event; None if no event is dated."""
        sql = f"SELECT epoch_us(max(time)) FROM {self._whole}"
        found: int | None = self._connection.cursor().execute(sql).fetchall()[0][0]
        return found

    def is_clustered(self) -> bool:
        """Whether events lie in ascending subject order."""
        last = np.iinfo(np.int64).min
        sql = "SELECT subject_id::BIGINT FROM events"
        for batch in self._connection.cursor().sql(sql).to_arrow_reader(1_000_000):
            subject = batch.column(0).to_numpy()
            if len(subject) and (subject[0] < last or (subject[1:] < subject[:-1]).any()):
                return False
            last = subject[-1] if len(subject) else last
        return True

    def all_rows(self, codes: Sequence[str], units: Sequence[str]) -> Iterator[Rows]:
        """Every row, as stored."""
        return self._read(self._connection.cursor(), self._select, Decoder(codes, units))

    def rows(
        self, wanted: NDArray[np.int64], subjects: NDArray[np.int64], clustered: bool, decoder: Decoder
    ) -> Iterator[Rows]:
        """Rows by ascending subject: of the wanted subjects, and perhaps of others between them.

        Args:
            wanted: ascending, not empty.   subjects: everyone in the warehouse, ascending.
            clustered: whether the rows are stored in this order; if not, they are sorted.
        """
        between = np.searchsorted(subjects, wanted[-1], side="right") - np.searchsorted(subjects, wanted[0])
        if len(wanted) * _SPARSE < between:
            yield from self._joined(wanted, clustered, decoder)
            return
        # The range alone is skipped to by DuckDB's zone maps; a join would lose the order.
        sql = f"{self._select} WHERE subject_id BETWEEN {wanted[0]} AND {wanted[-1]}"
        if not clustered:
            sql += " ORDER BY subject_id"
        yield from self._read(self._connection.cursor(), sql, decoder)

    def _joined(self, wanted: NDArray[np.int64], clustered: bool, decoder: Decoder) -> Iterator[Rows]:
        order = self._row_order if clustered else "subject_id"
        for first in range(0, len(wanted), _BAND):
            band = wanted[first : first + _BAND]
            cursor = self._connection.cursor()
            cursor.register("wanted", pa.table({"subject_id": band}))
            sql = (
                f"{self._select} WHERE subject_id BETWEEN {band[0]} AND {band[-1]}"
                f" AND subject_id IN (SELECT subject_id FROM wanted) ORDER BY {order}"
            )
            yield from self._read(cursor, sql, decoder)

    def _read(self, cursor: duckdb.DuckDBPyConnection, sql: str, decoder: Decoder) -> Iterator[Rows]:
        for batch in cursor.sql(sql).to_arrow_reader(_BATCH):
            yield decoder.rows(batch)
