"""Opens a warehouse read-only and reads it in subject order, one chunk of subjects at a time."""

import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from riskpred.errors import InputError
from riskpred.records.chunk import STATIC, ImageRow, SubjectChunk
from riskpred.records.digest import combined, subject_digests
from riskpred.records.image_path import image_file
from riskpred.records.schema import check_columns, table_schema
from riskpred.records.stream import RowFeed, Rows, decoded, joined, order, text_index

REQUIRED = ("events", "images", "subject_splits")
SPLITS = ("train", "tuning", "held_out")
_NEVER_NULL = {"events": ("subject_id", "code"), "subject_splits": ("subject_id", "split")}
_OF_AN_IMAGE = ("image_id", "subject_id", "image_type", "path")
COMPLETE_IMAGE = " AND ".join(f"{name} IS NOT NULL" for name in _OF_AN_IMAGE)
"""SQL condition on `images`: the rows that are read. The others cost themselves alone: see `incomplete_images`."""
_BATCH = 131_072


@dataclass(frozen=True)
class _Code:
    count: int
    units: tuple[str | None, ...]


class Warehouse:
    """A DuckDB file with MEDS events, images and splits, open read-only; use as a context manager.

    A value that is no finite number is read as null; `problems` counts those and whatever else is wrong.
    """

    def __init__(self, path: Path, connection: duckdb.DuckDBPyConnection, image_root: Path | None) -> None:
        self.path = path
        self._connection = connection
        self._tables = _tables(connection)
        self._spill: tempfile.TemporaryDirectory[str] | None = None
        self._check_schema()
        ingest = self._ingest()
        self.study: str | None = ingest["study"]
        self.site: str = ingest["site"] or ingest["study"] or path.stem
        self.as_of: int | None = ingest["as_of"]
        self._data_until: int | None = ingest["data_until"]
        self.image_root = image_root or Path(ingest["image_root"] or path.resolve().parent)

    @classmethod
    def open(cls, path: Path, image_root: Path | None = None) -> "Warehouse":
        """Open a warehouse.

        Args:
            path: DuckDB file with at least events, images, subject_splits (schemas/warehouse/).
            image_root: folder that image paths are relative to; default: the one ingested, else the file's folder.

        Raises: InputError: no such file, locked by a writer, not a DuckDB file, a table missing or of another shape.
        """
        if image_root is not None and not image_root.is_dir():
            raise InputError(f"{image_root}: no such folder.", wanted="the image root", do="correct --image-root")
        connection = connect_readonly(path, "a warehouse written by `riskpred ingest`")
        try:
            return cls(path, connection, image_root)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        self._connection.close()
        if self._spill:
            self._spill.cleanup()

    def __enter__(self) -> "Warehouse":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @cached_property
    def _dictionary(self) -> dict[str, _Code]:
        found: dict[str, tuple[int, set[str | None]]] = {}
        self._non_finite = 0
        sql = (
            f"SELECT code, {self._unit}, count(*), count(numeric_value),"
            " count(*) FILTER (NOT isfinite(numeric_value)) FROM events GROUP BY ALL"
        )
        for code, unit, count, numbers, odd in self._rows(sql):
            before, units = found.get(code, (0, set()))
            found[code] = (before + count, units | ({unit} if numbers else set()))
            self._non_finite += odd
        return {
            code: _Code(count, tuple(sorted(units, key=lambda unit: (unit is not None, unit or ""))))
            for code, (count, units) in sorted(found.items())
        }

    @cached_property
    def codes(self) -> tuple[str, ...]:
        """Codes of the events, sorted by text: what SubjectChunk.code indexes."""
        return tuple(self._dictionary)

    @cached_property
    def code_counts(self) -> dict[str, int]:
        return {code: entry.count for code, entry in self._dictionary.items()}

    @cached_property
    def code_units(self) -> dict[str, tuple[str | None, ...]]:
        """Distinct units of each code's numeric values; None stands for values without a unit."""
        return {code: entry.units for code, entry in self._dictionary.items()}

    @cached_property
    def subject_ids(self) -> NDArray[np.int64]:
        """Ascending ids of everyone with an event or a row of images, be it incomplete. Shape: (S,)."""
        sql = (
            "SELECT DISTINCT subject_id::BIGINT FROM (SELECT subject_id FROM events UNION ALL"
            " SELECT subject_id FROM images WHERE subject_id IS NOT NULL)"
        )
        column = self._connection.sql(sql).to_arrow_table().column(0)
        # A null would turn every id into a float, and large ids into other people's.
        assert not column.null_count, "_check_schema refuses events without a subject_id"
        return np.sort(column.to_numpy())

    @property
    def subject_count(self) -> int:
        return len(self.subject_ids)

    @property
    def event_count(self) -> int:
        return sum(self.code_counts.values())

    @cached_property
    def data_until(self) -> int:
        """End of follow-up, UTC microseconds: of the ingest, else the latest event; STATIC if no event is dated."""
        if self._data_until is not None:
            return self._data_until
        latest = self._rows("SELECT epoch_us(max(time)) FROM events")[0][0]
        return int(STATIC) if latest is None else int(latest)

    @cached_property
    def clustered(self) -> bool:
        """Whether events lie in ascending subject order; if not, every pass sorts first (slower, not wrong)."""
        last = np.iinfo(np.int64).min
        for batch in self._connection.cursor().sql("SELECT subject_id FROM events").to_arrow_reader(1_000_000):
            subject = batch.column(0).to_numpy()
            if len(subject) and (subject[0] < last or (subject[1:] < subject[:-1]).any()):
                return False
            last = subject[-1] if len(subject) else last
        return True

    @cached_property
    def problems(self) -> dict[str, int]:
        """What is wrong but does not stop reading: name -> how many, only where there are any.

        non_finite_values are read as null. images_incomplete: rows of images left out, see `incomplete_images`.
        duplicate_image_ids, subjects_without_split, unknown_splits: as named.
        events_unsorted: 1 where every pass has to sort.
        """
        self._dictionary  # noqa: B018  (counts the non-finite values)
        names = ", ".join(f"'{name}'" for name in SPLITS)
        found = {
            "non_finite_values": self._non_finite,
            "images_incomplete": self._one(f"SELECT count(*) FROM images WHERE NOT ({COMPLETE_IMAGE})"),
            "duplicate_image_ids": self._one("SELECT count(image_id) - count(DISTINCT image_id) FROM images"),
            "subjects_without_split": len(set(self.subject_ids.tolist()) - self.splits().keys()),
            "unknown_splits": self._one(f"SELECT count(*) FROM subject_splits WHERE split NOT IN ({names})"),
            "events_unsorted": int(not self.clustered),
        }
        return {name: count for name, count in found.items() if count}

    def incomplete_images(self) -> list[tuple[str, int | None, str]]:
        """Rows of images that are left out because a column is null, in the table's order.

        Returns: (row_key, subject_id or None, field) of each; row_key: the image_id, or where that is null the number
            of the row, the first being 1; field: the column that is null, or several with commas between.
        """
        rows = self._rows(
            f"SELECT number, {', '.join(_OF_AN_IMAGE)} FROM (SELECT *, row_number() OVER () AS number FROM images)"
            f" WHERE NOT ({COMPLETE_IMAGE}) ORDER BY number"
        )
        return [
            (
                str(number if values[0] is None else values[0]),
                values[1],
                ", ".join(name for name, value in zip(_OF_AN_IMAGE, values, strict=True) if value is None),
            )
            for number, *values in rows
        ]

    def splits(self) -> dict[int, str]:
        """Split of each subject: train, tuning, held_out; {} where the table is empty.

        Raises: InputError, when a subject stands twice.
        """
        rows = self._rows("SELECT subject_id, split FROM subject_splits ORDER BY subject_id")
        splits = dict(rows)
        if len(splits) < len(rows):
            raise InputError(
                f"{self.path}: {len(rows) - len(splits):,} subjects stand twice in subject_splits.",
                wanted="one row per subject: else a subject could be trained on and tested on",
                do="correct the tool that wrote subject_splits",
            )
        return splits

    def groups(self) -> dict[int, int]:
        """Group of each subject that has one (matched set, household); {} without the table subject_groups."""
        if not self.columns("subject_groups"):
            return {}
        return dict(self._rows("SELECT subject_id, group_id FROM subject_groups"))

    def chunks(self, size: int = 2048, subjects: NDArray[np.int64] | None = None) -> Iterator[SubjectChunk]:
        """Events and images of `size` subjects at a time, by ascending subject_id.

        Args:
            size: subjects in a chunk; changes nothing in what a subject gets.
            subjects: restricts to these; ids that the warehouse does not hold are left out.
        """
        assert size > 0, "a chunk holds at least one subject"
        wanted = self.subject_ids
        if subjects is not None:
            wanted = np.intersect1d(wanted, np.asarray(subjects, dtype=np.int64))
        if not len(wanted):
            return
        events = RowFeed(self._event_rows(wanted))
        images = self._image_rows(wanted)
        ahead = next(images, None)
        for first in range(0, len(wanted), size):
            ids = wanted[first : first + size]
            near: list[ImageRow] = []
            while ahead is not None and ahead.subject_id <= ids[-1]:
                near.append(ahead)
                ahead = next(images, None)
            yield self._chunk(ids, joined(events.upto(int(ids[-1]))), near)

    def digest(self) -> str:
        """Digest over the content of events and images: 32 hex characters, whatever the order of rows."""
        running = hashlib.blake2b(digest_size=16)
        for chunk in self.chunks(8192):
            combined(chunk.subject_id, subject_digests(chunk), running)
        return running.hexdigest()

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a read-only query, for reports on the warehouse itself."""
        return self._rows(sql)

    def columns(self, table: str) -> tuple[str, ...]:
        """Columns of a table; () where the file has no such table."""
        return tuple(self._tables.get(table, ()))

    def _chunk(self, ids: NDArray[np.int64], rows: Rows, images: list[ImageRow]) -> SubjectChunk:
        keep = np.isin(rows.subject, ids)
        if not keep.all():
            rows = Rows(
                rows.subject[keep],
                rows.time[keep],
                rows.code[keep],
                rows.value[keep],
                rows.text.filter(pa.array(keep)),
                rows.unit[keep],
            )
        texts, text = text_index(rows.text)
        by = order(rows, text)
        pick = slice(None) if by is None else by
        seen: dict[int, list[ImageRow]] = {int(subject): [] for subject in ids}
        for image in images:
            if image.subject_id in seen:
                seen[image.subject_id].append(image)
        return SubjectChunk(
            subject_id=ids,
            start=np.searchsorted(rows.subject[pick], np.append(ids, np.iinfo(np.int64).max)).astype(np.int64),
            time=rows.time[pick],
            code=rows.code[pick],
            numeric_value=rows.value[pick],
            text=text[pick],
            codes=self.codes,
            texts=texts,
            units=self._single_units,
            images=tuple(tuple(found) for found in seen.values()),
            unit=rows.unit[pick],
            unit_texts=self._unit_texts,
        )

    @cached_property
    def _unit_texts(self) -> tuple[str, ...]:
        rows = self._rows(f"SELECT DISTINCT {self._unit} FROM events")
        return tuple(sorted(unit for (unit,) in rows if unit is not None))

    @cached_property
    def _single_units(self) -> tuple[str | None, ...]:
        return tuple(entry.units[0] if len(entry.units) == 1 else None for entry in self._dictionary.values())

    @property
    def _unit(self) -> str:
        return "unit" if "unit" in self._tables["events"] else "NULL::VARCHAR"

    def _event_rows(self, wanted: NDArray[np.int64]) -> Iterator[Rows]:
        text = "text_value" if "text_value" in self._tables["events"] else "NULL::VARCHAR"
        number = "numeric_value" if "numeric_value" in self._tables["events"] else "NULL::FLOAT"
        # A join with the wanted subjects would lose the order; the range alone is skipped by DuckDB's zone maps.
        sql = (
            f"SELECT subject_id::BIGINT, epoch_us(time), code::VARCHAR, {number}::DOUBLE, {text}, {self._unit}"
            f" FROM events WHERE subject_id BETWEEN {wanted[0]} AND {wanted[-1]}"
        )
        if not self.clustered:
            self._spill_to_disk()
            sql += " ORDER BY subject_id"
        codes = pa.array(self.codes, pa.string())
        units = pa.array(self._unit_texts, pa.string())
        for batch in self._connection.cursor().sql(sql).to_arrow_reader(_BATCH):
            yield decoded(batch, codes, units)

    def _image_rows(self, wanted: NDArray[np.int64]) -> Iterator[ImageRow]:
        sha256 = "sha256" if "sha256" in self._tables["images"] else "NULL::VARCHAR"
        sql = (
            f"SELECT image_id, subject_id::BIGINT, epoch_us(time), image_type, path, {sha256} FROM images"
            f" WHERE subject_id BETWEEN {wanted[0]} AND {wanted[-1]} AND {COMPLETE_IMAGE}"
            " ORDER BY subject_id, time NULLS FIRST, image_id, path, image_type"
        )
        batches = self._connection.cursor().sql(sql).to_arrow_reader(_BATCH)
        for row in chain.from_iterable(zip(*(c.to_pylist() for c in b.columns), strict=True) for b in batches):
            image_id, subject, time, kind, path, digest = row
            stamp = None if digest else self._stamp(path)
            yield ImageRow(image_id, subject, int(STATIC) if time is None else time, kind, path, digest, stamp)

    def _stamp(self, path: str) -> str:
        found = image_file(self.image_root, path)
        if isinstance(found, str):
            return found
        state = found.stat()
        return f"{state.st_size} {state.st_mtime_ns}"

    def _check_schema(self) -> None:
        absent = [name for name in REQUIRED if name not in self._tables]
        if absent:
            empty = "; ".join(table_schema("warehouse", name).ddl() for name in absent)
            raise InputError(
                f"{self.path}: no table {', '.join(absent)}.",
                wanted=f"the tables {', '.join(REQUIRED)}",
                got=", ".join(sorted(self._tables)) or "no table at all",
                do="ingest again" + ("" if "events" in absent else f", or make an empty one: {empty}"),
            )
        for name in (*REQUIRED, "ingests"):
            if name in self._tables:
                check_columns(table_schema("warehouse", name), self._tables[name], str(self.path))
        for table, names in _NEVER_NULL.items():
            self._refuse_rows(table, {f"without {name}": f"{name} IS NULL" for name in names})
        self._refuse_rows("events", {"with an infinite time": "isinf(time)"})

    def _refuse_rows(self, table: str, conditions: dict[str, str]) -> None:
        """Raises: InputError, when one of the SQL conditions holds for a row; the keys say it in words."""
        counts = {words: self._one(f"SELECT count(*) FROM {table} WHERE {sql}") for words, sql in conditions.items()}
        if any(counts.values()):
            raise InputError(
                f"{self.path}: rows of {table} cannot be used.",
                wanted=f"a {' and a '.join(_NEVER_NULL[table])} in every row"
                + (", and a time that is finite or null" if "time" in self._tables[table] else ""),
                got=", ".join(f"{count:,} rows {words}" for words, count in counts.items() if count),
                do="ingest again, or correct the tool that wrote the table",
            )

    def _ingest(self) -> dict[str, Any]:
        names = ("study", "site", "as_of", "data_until", "image_root")
        if "ingests" not in self._tables:
            return dict.fromkeys(names)
        sql = "SELECT DISTINCT study, site, epoch_us(as_of), epoch_us(data_until), image_root FROM ingests"
        rows = self._rows(sql)
        if len(rows) > 1:
            raise InputError(
                f"{self.path}: the rows of ingests contradict each other in {', '.join(names)}.",
                wanted="one ingest per warehouse",
                do="ingest again",
            )
        return dict(zip(names, rows[0], strict=True)) if rows else dict.fromkeys(names)

    def _spill_to_disk(self) -> None:
        if self._spill is None:
            # Beside a read-only file there may be no room or no right to write.
            self._spill = tempfile.TemporaryDirectory(prefix="riskpred-")
            self._connection.execute("SET temp_directory = ?", [self._spill.name])

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self._connection.cursor().execute(sql).fetchall()

    def _one(self, sql: str) -> int:
        return int(self._rows(sql)[0][0])


def connect_readonly(path: Path, what: str) -> duckdb.DuckDBPyConnection:
    """Open a DuckDB file read-only, without extensions. `what` names it in errors.

    Raises: InputError: missing, locked by a writer, not a DuckDB file.
    """
    if not path.is_file():
        got = "a folder" if path.is_dir() else None
        raise InputError(f"{path}: no such file.", wanted=what, got=got, do="check the path")
    try:
        connection = duckdb.connect(str(path), read_only=True)
    except duckdb.Error as error:
        # The text decides which of our sentences is said; it is never shown: it may hold data.
        if "lock" in str(error).lower() or isinstance(error, duckdb.ConnectionException):
            raise InputError(
                f"{path}: locked: another program has it open for writing.",
                wanted=what,
                do="wait for that program or close it, then run again",
            ) from None
        raise InputError(
            f"{path}: not readable as a DuckDB file ({type(error).__name__}).", wanted=what, do="check the path"
        ) from None
    for setting in ("autoinstall_known_extensions", "autoload_known_extensions"):
        connection.execute(f"SET {setting} = false")
    return connection


def _tables(connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, str]]:
    sql = (
        "SELECT table_name, column_name, data_type FROM duckdb_columns()"
        " WHERE NOT internal AND database_name = current_database() ORDER BY ALL"
    )
    tables: dict[str, dict[str, str]] = {}
    for table, column, kind in connection.execute(sql).fetchall():
        tables.setdefault(table, {})[column] = kind
    return tables
