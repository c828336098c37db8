"""What a warehouse knows of its own events without reading them: digests, codes, order; kept by ingest, or made anew.

`subject_digests`, `code_dictionary` and `contents` hold while the file is in the state that `contents` names.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from riskpred.errors import InputError
from riskpred.records.connection import Tables, tables_of
from riskpred.records.digest import DIGEST_VERSION, Lanes, events_digests, hex_texts, lanes_of, row_sums, text_lanes
from riskpred.records.event_table import CodeRow, EventTable
from riskpred.records.file_state import next_state
from riskpred.records.image_table import ImageTable
from riskpred.records.schema import check_columns, table_schema
from riskpred.records.stream import Rows, encoded

KEPT = ("contents", "code_dictionary", "subject_digests")
_PENDING = 4_000_000
_BATCH = 65_536


@dataclass(frozen=True)
class Contents:
    """The row of `contents` of a file whose state is still the one it names."""

    clustered: bool
    latest_time: int | None


@dataclass(frozen=True)
class EventsDigests:
    """Events digest of everyone with an event or a row of images. Shape: subject_id (S,) ascending, lanes (S, 2)."""

    subject_id: NDArray[np.int64]
    lanes: Lanes
    clustered: bool


def kept_contents(connection: duckdb.DuckDBPyConnection, tables: Tables, state: str | None) -> Contents | None:
    """What ingest kept, or None where it kept nothing, or for another state of the file, or by an older rule."""
    if not has_contents(tables):
        return None
    sql = "SELECT file_state, digest_version, clustered, epoch_us(latest_time) FROM contents"
    rows = connection.cursor().execute(sql).fetchall()
    if len(rows) != 1 or state is None or rows[0][:2] != (state, DIGEST_VERSION):
        return None
    return Contents(rows[0][2], rows[0][3])


def has_contents(tables: Tables) -> bool:
    """Whether there are tables of this name and shape at all; those of another tool may be something else."""
    try:
        for name in KEPT:
            check_columns(table_schema("warehouse", name), tables.get(name, {}), name)
    except InputError:
        return False
    return True


def kept_codes(connection: duckdb.DuckDBPyConnection) -> list[CodeRow]:
    """Rows of code_dictionary, in its order."""
    sql = "SELECT code, unit, events, numeric_values, non_finite FROM code_dictionary ORDER BY code, unit NULLS FIRST"
    return [CodeRow(*row) for row in connection.cursor().execute(sql).fetchall()]


def kept_digests(connection: duckdb.DuckDBPyConnection, clustered: bool) -> EventsDigests:
    """Rows of subject_digests."""
    cursor = connection.cursor()
    count = cursor.execute("SELECT count(*) FROM subject_digests").fetchall()[0][0]
    subject, lanes, done = np.empty(count, dtype=np.int64), np.empty((count, 2), dtype=np.uint64), 0
    for batch in cursor.sql("SELECT subject_id, events_digest FROM subject_digests").to_arrow_reader(_BATCH):
        part = slice(done, done + batch.num_rows)
        subject[part], lanes[part] = batch.column(0).to_numpy(), lanes_of(batch.column(1))
        done += batch.num_rows
    if (subject[1:] <= subject[:-1]).any():
        by = np.argsort(subject)
        subject, lanes = subject[by], lanes[by]
    return EventsDigests(subject, lanes, clustered)


def made_digests(events: EventTable, codes: Sequence[CodeRow], image_subjects: NDArray[np.int64]) -> EventsDigests:
    """The same by one pass over all events, in whatever order they lie.

    Args:
        codes: `events.code_rows()`.   image_subjects: everyone with a row of images.
    """
    names, units = code_names(codes), unit_names(codes)
    subject, sums, clustered = _summed(events.all_rows(names, units), text_lanes(names), text_lanes(units))
    everyone = np.union1d(subject, image_subjects)
    if len(everyone) > len(subject):
        whole = np.zeros((len(everyone), 2), dtype=np.uint64)
        whole[np.searchsorted(everyone, subject)] = sums
        sums = whole
    return EventsDigests(everyone, events_digests(sums), clustered)


def code_names(codes: Sequence[CodeRow]) -> tuple[str, ...]:
    """Codes, each once, sorted by text."""
    return tuple(sorted({row.code for row in codes}))


def unit_names(codes: Sequence[CodeRow]) -> tuple[str, ...]:
    """Units, each once, sorted by text."""
    return tuple(sorted({row.unit for row in codes if row.unit is not None}))


def write_contents(connection: duckdb.DuckDBPyConnection, state: str | None = None) -> None:
    """Make the three tables in a new file whose other tables are all written; one more CHECKPOINT must follow.

    What follows it must be nothing: any later change makes another state, and the tables are then not used.

    Args:
        state: of the folder of shards that the tables are for; default: of the connection's own file.
    """
    tables = tables_of(connection)
    events = EventTable(connection, tables["events"])
    codes = events.code_rows()
    digests = made_digests(events, codes, ImageTable(connection, tables["images"], Path()).subjects())
    _write(
        connection,
        "code_dictionary",
        {
            "code": [row.code for row in codes],
            "unit": pa.array([row.unit for row in codes], pa.string()),
            "events": [row.events for row in codes],
            "numeric_values": [row.numeric_values for row in codes],
            "non_finite": [row.non_finite for row in codes],
        },
    )
    _write(connection, "subject_digests", {"subject_id": digests.subject_id, "events_digest": hex_texts(digests.lanes)})
    connection.execute(table_schema("warehouse", "contents").ddl())
    if state is None:
        connection.execute("CHECKPOINT")
        sql = "SELECT path FROM duckdb_databases() WHERE database_name = current_database()"
        state = next_state(Path(connection.execute(sql).fetchall()[0][0]))
    connection.execute(
        "INSERT INTO contents VALUES (?, ?, ?, make_timestamp(?))",
        [state, DIGEST_VERSION, digests.clustered, events.latest_time()],
    )


def _write(connection: duckdb.DuckDBPyConnection, table: str, columns: dict[str, object]) -> None:
    connection.execute(table_schema("warehouse", table).ddl())
    connection.register("incoming", pa.table(columns))
    connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming")
    connection.unregister("incoming")


def _summed(batches: Iterable[Rows], codes: Lanes, units: Lanes) -> tuple[NDArray[np.int64], Lanes, bool]:
    """Ascending subjects, the sum of their rows' hashes, and whether they came in this order."""
    subjects: list[NDArray[np.int64]] = []
    sums: list[Lanes] = []
    clustered, last, pending = True, np.iinfo(np.int64).min, 0
    for rows in batches:
        if not len(rows.subject):
            continue
        start = np.concatenate([[0], np.flatnonzero(np.diff(rows.subject)) + 1, [len(rows.subject)]]).astype(np.int64)
        people = rows.subject[start[:-1]]
        clustered = clustered and bool(people[0] >= last and (people[1:] > people[:-1]).all())
        last = people[-1]
        text, texts = encoded(rows.text)
        tables = (codes, text_lanes(texts), units)
        subjects.append(people)
        sums.append(row_sums(start, rows.time, rows.code, rows.value, text, rows.unit, tables))
        pending += len(people)
        if not clustered and pending > _PENDING:
            # Rows that lie in no order leave almost one part a row: added up before they fill the memory.
            one, total = _added(subjects, sums)
            subjects, sums, pending = [one], [total], 0
    subject, total = _added(subjects, sums)
    return subject, total, clustered


def _added(subjects: list[NDArray[np.int64]], sums: list[Lanes]) -> tuple[NDArray[np.int64], Lanes]:
    if not subjects:
        return np.zeros(0, np.int64), np.zeros((0, 2), np.uint64)
    subject, parts = np.concatenate(subjects), np.concatenate(sums)
    if (subject[1:] < subject[:-1]).any():
        by = np.argsort(subject, kind="stable")
        subject, parts = subject[by], parts[by]
    first = np.concatenate([[True], subject[1:] != subject[:-1]])
    return subject[first], np.add.reduceat(parts, np.flatnonzero(first), axis=0)
