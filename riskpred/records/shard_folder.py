"""Opens a folder of MEDS Parquet shards as a warehouse: views over its files, in a database that is only in memory."""

from collections.abc import Sequence
from pathlib import Path

import duckdb

from riskpred.errors import InputError
from riskpred.records.connection import without_extensions
from riskpred.records.schema import table_schema, tables
from riskpred.records.shards import Shard, data_files, read_manifest, state_found, table_file

ALL_EVENTS = "all_events"
"""View over the events of every shard, whichever are opened."""


class ShardFolder:
    """A folder about to be opened; `shard` restricts it to one or some of its shards, by number.

    Raises: InputError: no events there, no such shard, or shards asked for in a folder that ingest did not write
        (where nothing says which shard a subject without events belongs to).
    """

    def __init__(self, path: Path, shard: int | Sequence[int] | None = None) -> None:
        self._path = path
        manifest = read_manifest(path)
        self._sums = manifest[1] if manifest else None
        self.shards: tuple[Shard, ...] = manifest[0] if manifest else ()
        self._files = data_files(path)
        if not self._files:
            raise InputError(
                f"{path}: is a folder without events.",
                wanted="a DuckDB file, or a folder with data/*.parquet (MEDS)",
                do="check the path, or `riskpred ingest --into` it",
            )
        self._opened = self._picked(shard)

    def connect(self) -> duckdb.DuckDBPyConnection:
        """A connection with the tables of a warehouse as views; `images` is empty where the folder has none."""
        connection = duckdb.connect()
        try:
            without_extensions(connection)
            self._make_views(connection)
        except duckdb.Error as error:
            connection.close()
            raise InputError(
                f"{self._path}: a file of it is not readable as Parquet ({type(error).__name__}).",
                wanted="MEDS Parquet shards written by `riskpred ingest`",
                do="ingest again, or fetch the folder again",
            ) from None
        return connection

    def state(self) -> str | None:
        """The state of the events, see shards.state_found; None where ingest wrote no manifest."""
        if self._sums is None:
            return None
        opened = [f"data/{file.relative_to(self._path / 'data').as_posix()}" for file in self._opened_files()]
        return state_found(self._path, opened, self._sums)

    def close(self) -> None:
        """Nothing is held: a folder is replaced whole, and files that are open stay readable."""

    def _picked(self, shard: int | Sequence[int] | None) -> tuple[Shard, ...] | None:
        if shard is None:
            return None
        numbers = sorted({shard} if isinstance(shard, int) else set(shard))
        if not self.shards:
            raise InputError(
                f"{self._path}: has no list of shards.",
                wanted="a folder written by `riskpred ingest`",
                do="ingest again",
            )
        if not numbers or numbers[0] < 0 or numbers[-1] >= len(self.shards):
            raise InputError(
                f"{self._path}: no such shard.",
                wanted=f"numbers from 0 to {len(self.shards) - 1}",
                got=", ".join(map(str, numbers)) or "none",
                do="correct the number",
            )
        return tuple(self.shards[number] for number in numbers)

    def _opened_files(self) -> list[Path]:
        return self._files if self._opened is None else [self._path / shard.name for shard in self._opened]

    def _make_views(self, connection: duckdb.DuckDBPyConnection) -> None:
        _view(connection, ALL_EVENTS, self._files)
        _view(connection, "events", self._opened_files())
        for name in tables("warehouse"):
            path = self._path / table_file(name)
            if name == "events":
                continue
            if path.is_file():
                _view(connection, name, [path], self._range() if name in ("images", "subject_digests") else "")
            elif name == "images":
                connection.execute(table_schema("warehouse", name).ddl())  # MEDS itself knows no images

    def _range(self) -> str:
        if self._opened is None:
            return ""
        parts = (f"subject_id BETWEEN {shard.first_subject} AND {shard.last_subject}" for shard in self._opened)
        return " WHERE " + " OR ".join(parts)


def _view(connection: duckdb.DuckDBPyConnection, name: str, files: Sequence[Path], where: str = "") -> None:
    listed = ", ".join("'" + str(file).replace("'", "''") + "'" for file in files)
    connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet([{listed}], union_by_name = true){where}")
