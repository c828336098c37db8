"""Opens a warehouse read-only and reads it in subject order, one chunk of subjects at a time."""

import tempfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from riskpred.errors import InputError
from riskpred.records.chunk import STATIC, ImageRow, SubjectChunk
from riskpred.records.connection import connect_readonly, tables_of
from riskpred.records.contents import (
    EventsDigests,
    code_names,
    has_contents,
    kept_codes,
    kept_contents,
    kept_digests,
    made_digests,
    unit_names,
)
from riskpred.records.digest import Lanes, hex_texts, joined_digests, whole_digest
from riskpred.records.event_table import CodeRow, EventTable
from riskpred.records.file_state import HeldFile
from riskpred.records.image_table import COMPLETE_IMAGE, ImageTable
from riskpred.records.readable import check_tables, ingest_of
from riskpred.records.shard_folder import ALL_EVENTS, ShardFolder
from riskpred.records.shards import Shard
from riskpred.records.stream import Decoder, RowFeed, Rows, joined, order, text_index

_WHAT = "a warehouse written by `riskpred ingest`"
SPLITS = ("train", "tuning", "held_out")


class Warehouse:
    """A DuckDB file, or folder of shards, with MEDS events, images and splits, read-only; use as a context manager.

    A value that is no finite number is read as null; `problems` counts those and whatever else is wrong.
    state: another text once anything in it has changed; None where that cannot be told.
    """

    def __init__(
        self,
        path: Path,
        connection: duckdb.DuckDBPyConnection,
        image_root: Path | None,
        held: HeldFile | ShardFolder,
    ) -> None:
        self.path = path
        self._connection = connection
        self._held: HeldFile | ShardFolder | None = held
        self._shards = held.shards if isinstance(held, ShardFolder) else ()
        self._tables = tables_of(connection)
        self.state = held.state()
        self._kept = kept_contents(connection, self._tables, self.state)
        check_tables(path, connection, self._tables, events_known=self._kept is not None)
        ingest = ingest_of(path, connection, self._tables)
        self.study: str | None = ingest["study"]
        self.site: str = ingest["site"] or ingest["study"] or path.stem
        self.as_of: int | None = ingest["as_of"]
        self._data_until: int | None = ingest["data_until"]
        self.image_root = image_root or Path(ingest["image_root"] or path.resolve().parent)
        self._events = EventTable(
            connection, self._tables["events"], ALL_EVENTS if ALL_EVENTS in self._tables else "events"
        )
        self._images = ImageTable(connection, self._tables["images"], self.image_root)
        self.finder: object | None = None
        """Who looks at the images of every chunk (features.findings.FindingSource); None = nobody."""
        self._spill = tempfile.TemporaryDirectory(prefix="riskpred-")  # last: from here on close() removes it
        self._limit_memory()

    @classmethod
    def open(cls, path: Path, image_root: Path | None = None, shard: int | Sequence[int] | None = None) -> "Warehouse":
        """Open a warehouse.

        Args:
            path: DuckDB file with at least events, images, subject_splits (schemas/warehouse/), or a folder of MEDS
                Parquet shards.
            image_root: folder that image paths are relative to; default: the one ingested, else the file's folder.
            shard: of a folder, read these shards alone, by number. Subjects, chunks and digests are then theirs; codes,
                counts, units, data_until and splits are those of the whole folder.

        Raises: InputError: no such file, locked by a writer, not a DuckDB file, a table missing or of another shape.
        """
        if image_root is not None and not image_root.is_dir():
            raise InputError(f"{image_root}: no such folder.", wanted="the image root", do="correct --image-root")
        if path.is_dir():
            folder = ShardFolder(path, shard)
            return cls._opened(path, folder.connect(), image_root, folder)
        if shard is not None:
            raise InputError(f"{path}: has no shards.", wanted="a folder of MEDS Parquet shards", do="ingest into one")
        if not path.is_file():
            connect_readonly(path, _WHAT)  # says what is wrong
        held = HeldFile(path)
        try:
            connection = connect_readonly(path, _WHAT)
        except BaseException:
            held.close()
            raise
        return cls._opened(path, connection, image_root, held)

    @classmethod
    def _opened(
        cls,
        path: Path,
        connection: duckdb.DuckDBPyConnection,
        image_root: Path | None,
        held: HeldFile | ShardFolder,
    ) -> "Warehouse":
        try:
            return cls(path, connection, image_root, held)
        except BaseException:
            connection.close()
            held.close()
            raise

    def close(self) -> None:
        # DuckDB first: closing the descriptor of HeldFile ends its lock.
        self._connection.close()
        held, self._held = self._held, None
        if held is not None:
            held.close()
        self._spill.cleanup()

    @property
    def shards(self) -> tuple[Shard, ...]:
        """Shards of the folder, whichever are opened; () for a DuckDB file, and for a folder of another tool."""
        return self._shards

    def __enter__(self) -> "Warehouse":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @property
    def contents(self) -> Literal["kept", "stale", "absent"]:
        """Where digests, codes and order come from: kept by ingest, or read anew from the events.

        kept: the file is as ingest left it.   stale: it was changed since (or has a write-ahead log, or an older
        release made it), so what ingest kept is not believed.   absent: another tool made it and kept nothing.
        """
        if self._kept is not None:
            return "kept"
        return "stale" if has_contents(self._tables) else "absent"

    @cached_property
    def _code_rows(self) -> list[CodeRow]:
        return kept_codes(self._connection) if self._kept else self._events.code_rows()

    @cached_property
    def codes(self) -> tuple[str, ...]:
        """Codes of the events, sorted by text: what SubjectChunk.code indexes."""
        return code_names(self._code_rows)

    @cached_property
    def code_counts(self) -> dict[str, int]:
        counts = dict.fromkeys(self.codes, 0)
        for row in self._code_rows:
            counts[row.code] += row.events
        return counts

    @cached_property
    def code_units(self) -> dict[str, tuple[str | None, ...]]:
        """Distinct units of each code's numeric values; None stands for values without a unit."""
        units: dict[str, tuple[str | None, ...]] = dict.fromkeys(self.codes, ())
        for row in self._code_rows:
            if row.numeric_values:
                units[row.code] += (row.unit,)
        return units

    @cached_property
    def _digests(self) -> EventsDigests:
        if self._kept:
            return kept_digests(self._connection, self._kept.clustered)
        return made_digests(self._events, self._code_rows, self._images.subjects())

    @cached_property
    def subject_ids(self) -> NDArray[np.int64]:
        """Ascending ids of everyone with an event or a row of images, be it incomplete. Shape: (S,)."""
        if self._kept or "_digests" in self.__dict__:
            return self._digests.subject_id
        sql = (
            "SELECT DISTINCT subject_id::BIGINT FROM (SELECT subject_id FROM events UNION ALL"
            " SELECT subject_id FROM images WHERE subject_id IS NOT NULL)"
        )
        column = self._connection.cursor().sql(sql).to_arrow_table().column(0)
        # A null would turn every id into a float, and large ids into other people's.
        assert not column.null_count, "check_tables refuses events without a subject_id"
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
        latest = self._kept.latest_time if self._kept else self._events.latest_time()
        return int(STATIC) if latest is None else latest

    @cached_property
    def clustered(self) -> bool:
        """Whether events lie in ascending subject order; if not, every pass sorts first (slower, not wrong)."""
        if self._kept:
            return self._kept.clustered
        return self._digests.clustered if "_digests" in self.__dict__ else self._events.is_clustered()

    @property
    def digests_stale(self) -> bool:
        """Whether the digests that ingest kept could not be used, so that all events were read to make them anew."""
        return self.contents == "stale"

    @cached_property
    def problems(self) -> dict[str, int]:
        """What is wrong but does not stop reading: name -> how many, only where there are any.

        non_finite_values are read as null. images_incomplete: rows of images left out, see `incomplete_images`.
        duplicate_image_ids, subjects_without_split, unknown_splits: as named.
        duplicate_events: rows equal to one before.   events_unsorted: 1 where every pass has to sort.
        digests_stale: 1 where `contents` is stale.
        """
        names = ", ".join(f"'{name}'" for name in SPLITS)
        found = {
            "non_finite_values": sum(row.non_finite for row in self._code_rows),
            "images_incomplete": self._one(f"SELECT count(*) FROM images WHERE NOT ({COMPLETE_IMAGE})"),
            "duplicate_image_ids": self._one("SELECT count(image_id) - count(DISTINCT image_id) FROM images"),
            "subjects_without_split": len(set(self.subject_ids.tolist()) - self.splits().keys()),
            "unknown_splits": self._one(f"SELECT count(*) FROM subject_splits WHERE split NOT IN ({names})"),
            # Ingest keeps a repeated fact once: only another tool's table can hold one twice.
            "duplicate_events": 0 if self.contents == "kept" else self._duplicates(),
            "events_unsorted": int(not self.clustered),
            "digests_stale": int(self.digests_stale),
        }
        return {name: count for name, count in found.items() if count}

    def incomplete_images(self) -> list[tuple[str, int | None, str]]:
        """Rows of images that are left out because a column is null, in the table's order.

        Returns: (row_key, subject_id or None, field) of each; row_key: the image_id, or where that is null the number
            of the row, the first being 1; field: the column that is null, or several with commas between.
        """
        return self._images.incomplete()

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
            wanted = _held(wanted, np.asarray(subjects, dtype=np.int64))
        if not len(wanted):
            return
        decoder = Decoder(self.codes, self._unit_texts)
        events = RowFeed(self._events.rows(wanted, self.subject_ids, self.clustered, decoder))
        images = self._images.rows(wanted)
        ahead = next(images, None)
        for first in range(0, len(wanted), size):
            ids = wanted[first : first + size]
            near: list[ImageRow] = []
            while ahead is not None and ahead.subject_id <= ids[-1]:
                near.append(ahead)
                ahead = next(images, None)
            yield self._chunk(ids, joined(events.upto(int(ids[-1]))), near)

    def subject_digests(self) -> tuple[NDArray[np.int64], pa.Array]:
        """Digest of everyone's events and images, without reading events where `contents` is kept.

        Returns: subject_id, shape (S,), ascending; S strings of 32 hex characters, the same as
            digest.subject_digests gives for the subjects' chunks.
        """
        return self._digests.subject_id, hex_texts(self._subject_lanes)

    def digest(self) -> str:
        """Digest over the content of events and images: 32 hex characters, whatever the order of rows."""
        return whole_digest(self._digests.subject_id, self._subject_lanes)

    @cached_property
    def _subject_lanes(self) -> Lanes:
        return joined_digests(self._digests.lanes, self._images.digest_sums(self._digests.subject_id))

    def hold_little(self, megabytes: int) -> None:
        """Bound what DuckDB keeps of the file, with one thread; blocks above it are let go now."""
        self._connection.execute("SET threads = 1")
        self._connection.execute("SET memory_limit = ?", [f"{megabytes}MiB"])

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a read-only query, for reports on the warehouse itself."""
        return self._rows(sql)

    def columns(self, table: str) -> tuple[str, ...]:
        """Columns of a table; () where the file has no such table."""
        return tuple(self._tables.get(table, ()))

    def _chunk(self, ids: NDArray[np.int64], rows: Rows, images: list[ImageRow]) -> SubjectChunk:
        begin = np.searchsorted(rows.subject, ids, side="left")
        end = np.searchsorted(rows.subject, ids, side="right")
        if (end - begin).sum() < len(rows.subject):
            # Others stand between the wanted.
            edges = np.zeros(len(rows.subject) + 1, dtype=np.int8)
            edges[begin] += 1
            np.subtract.at(edges, end, 1)
            rows = rows.only(np.cumsum(edges[:-1]) > 0)
        texts, text = text_index(rows.text)
        by = order(rows, text)
        pick = slice(None) if by is None else by
        of_subject = {subject: tuple(found) for subject, found in groupby(images, attrgetter("subject_id"))}
        return SubjectChunk(
            subject_id=ids,
            start=np.concatenate([[0], np.cumsum(end - begin)]).astype(np.int64),
            time=rows.time[pick],
            code=rows.code[pick],
            numeric_value=rows.value[pick],
            text=text[pick],
            codes=self.codes,
            texts=texts,
            units=self._single_units,
            images=tuple(of_subject.get(subject, ()) for subject in ids.tolist()) if images else ((),) * len(ids),
            unit=rows.unit[pick],
            unit_texts=self._unit_texts,
            finder=self.finder,
        )

    @cached_property
    def _unit_texts(self) -> tuple[str, ...]:
        return unit_names(self._code_rows)

    @cached_property
    def _single_units(self) -> tuple[str | None, ...]:
        return tuple(units[0] if len(units) == 1 else None for units in self.code_units.values())

    def _duplicates(self) -> int:
        fields = ("subject_id", "time", "code", "numeric_value", "text_value", "unit")
        names = ", ".join(f'"{name}"' for name in fields if name in self.columns("events"))
        return self._one(f"SELECT count(*) - count(DISTINCT hash({names})) FROM events")

    def _limit_memory(self) -> None:
        """What does not fit goes to disk, and not beside a read-only file: there may be no room or right to write."""
        self._connection.execute("SET temp_directory = ?", [self._spill.name])
        if self._kept and self._kept.clustered:
            # Nothing large is sorted. Left alone, DuckDB would keep every block of the file that was read once.
            threads = self._one("SELECT current_setting('threads')")
            self._connection.execute("SET memory_limit = ?", [f"{64 * (threads + 1)}MiB"])

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self._connection.cursor().execute(sql).fetchall()

    def _one(self, sql: str) -> int:
        return int(self._rows(sql)[0][0])


def _held(everyone: NDArray[np.int64], asked: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of the asked ids that are among everyone's (ascending), ascending and once.

    np.intersect1d would sort or hash everyone for a handful.
    """
    if (asked[1:] <= asked[:-1]).any():
        asked = np.unique(asked)
    place = np.searchsorted(everyone, asked)
    there = place < len(everyone)
    there[there] = everyone[place[there]] == asked[there]
    return asked[there]
