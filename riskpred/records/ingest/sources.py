"""Finds the source files of a study and streams their rows as polars frames, in bounded memory."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import polars as pl

from riskpred.config.ingest import ROW, SourceTable
from riskpred.errors import InputError
from riskpred.records.connection import connect_readonly
from riskpred.records.ingest.formats import Reader, reader_of

BATCH = 100_000
_DUCKDB = (".duckdb", ".db")
_CSV = re.compile(r"\.(csv|tsv|txt)(\.gz|\.zst)?$", re.IGNORECASE)
# Quotes are stated: the sniffer would give them up for the whole file because of one broken row.
_CSV_OPTIONS = (
    "all_varchar = true, header = true, quote = '\"', escape = '\"', store_rejects = true, rejects_limit = 0,"
    " sample_size = 20480"
)


@dataclass(frozen=True)
class SourceFile:
    """One file, or one table of a DuckDB file. `name` is how rejects and `ingests` call it.

    rows: all of them, where the format is one that is read whole (formats.py).
    """

    name: str
    path: Path
    table: str | None
    columns: tuple[str, ...]
    rows: pl.DataFrame | None = None

    def batches(self, columns: Sequence[str], broken: list[int] | None = None) -> Iterator[pl.DataFrame]:
        """The columns asked for, in file order, and ROW: the number of the row in its file, 1 below the header.

        Lines of a CSV that are no rows (too few or too many fields, broken encoding) are left out. After the last
        batch `broken` has their row numbers, ascending; the others are numbered as if those lines were not there.

        Raises: InputError, when the file breaks off or is damaged.
        """
        if self.rows is not None:
            yield from self._slices(columns)
            return
        picked = ", ".join(_quoted(column) for column in columns if column != ROW) or "NULL"
        done = 0
        with _reader(self.path, self.table) as (connection, relation):
            try:
                for batch in connection.sql(f"SELECT {picked} FROM {relation}").to_arrow_reader(BATCH):
                    frame = pl.DataFrame(pl.from_arrow(batch))
                    if frame.height:
                        first = done + 1
                        done += frame.height
                        yield frame.with_columns(pl.int_range(first, done + 1, dtype=pl.Int64).alias(ROW))
                if broken is not None and self.table is None and _CSV.search(self.path.name):
                    lines = connection.execute("SELECT DISTINCT line FROM reject_errors ORDER BY line").fetchall()
                    broken[:] = [line - 1 for (line,) in lines]
            except duckdb.Error as error:
                raise InputError(
                    f"{self.name}: breaks off or is damaged after row {done:,} ({type(error).__name__}).",
                    wanted="a file that reads to its end",
                    do="fetch the file again",
                ) from None

    def _slices(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        assert self.rows is not None
        wanted = [column for column in columns if column != ROW]
        frame = self.rows.select(*wanted, pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(ROW))
        for batch in frame.iter_slices(BATCH):
            if batch.height:
                yield batch

    def row_count(self) -> int | None:
        """Rows, where the file itself says so (a CSV does not)."""
        if self.rows is not None:
            return self.rows.height
        if self.table is None and _CSV.search(self.path.name):
            return None
        with _reader(self.path, self.table) as (connection, relation):
            return int(connection.sql(f"SELECT count(*) FROM {relation}").fetchall()[0][0])


def source_files(source: Path, table: SourceTable, needed: Sequence[str]) -> list[SourceFile]:
    """The files of one table of ingest.yaml, in order of their names.

    Args:
        source: folder, or a DuckDB file.
        needed: columns that every file must have.

    Raises: InputError: nothing there, a file missing or unreadable, a column missing; says what is there. Also when
        rows are numbered (ROW) and there are several files.
    """
    needed = [column for column in needed if column != ROW]
    if source.is_file() and source.suffix in _DUCKDB:
        if table.file is not None:
            raise InputError(
                f"{source.name}: is one DuckDB file, but ingest.yaml, tables.{table.name}, names a file.",
                wanted="a folder for tables with `file`",
                do="pass the folder, or give `table` instead of `file`",
            )
        return [_opened(source, table.table or table.name, table.table or table.name, needed)]
    if not source.is_dir():
        raise InputError(
            f"{source}: no such folder or DuckDB file.", wanted="the folder with the study's files", do="check --from"
        )
    if table.file is None:
        raise InputError(
            f"{source}: is a folder, but ingest.yaml, tables.{table.name}, names no file.",
            wanted="a DuckDB file with that table",
            do="pass the DuckDB file, or add `file`",
        )
    paths = sorted(path for path in source.glob(table.file) if path.is_file())
    if not paths:
        there = sorted(path.name for path in source.iterdir())
        raise InputError(
            f"{source}: no file {table.file}.",
            wanted=f"the file of tables.{table.name} (ingest.yaml)",
            got=", ".join(there[:20]) + (f" and {len(there) - 20:,} more" if len(there) > 20 else "") or "nothing",
            do="put the file there, or correct --from",
        )
    read = reader_of(table.format, f"ingest.yaml, tables.{table.name}")
    if read is not None:
        return [_read_whole(source, paths, table, read, needed)]
    if table.subject == ROW and len(paths) > 1:
        raise InputError(
            f"{source}: {len(paths)} files match {table.file}, but their rows are numbered ({ROW}).",
            wanted=f"one file for tables.{table.name} (ingest.yaml), or a column that names the person",
            do="join the files, or name that column as `subject`",
        )
    found = []
    for path in paths:
        name = str(path.relative_to(source))
        inner = (table.table or table.name) if path.suffix in _DUCKDB else None
        found.append(_opened(path, inner, f"{name}:{inner}" if inner else name, needed))
    return found


def _read_whole(
    source: Path, paths: Sequence[Path], table: SourceTable, read: Reader, needed: Sequence[str]
) -> SourceFile:
    name = table.file or table.name
    try:
        rows = read(source, paths)
    except (pl.exceptions.PolarsError, ValueError, KeyError, TypeError, OSError) as error:
        raise InputError(
            f"{name}: not readable as {table.format} ({type(error).__name__}).",
            wanted=f"files in the format {table.format} (ingest.yaml, tables.{table.name})",
            do="fetch the files again, or correct `format`",
        ) from None
    return _with_columns(SourceFile(name, paths[0], None, tuple(rows.columns), rows), needed)


def _opened(path: Path, table: str | None, name: str, needed: Sequence[str]) -> SourceFile:
    try:
        with _reader(path, table) as (connection, relation):
            columns = tuple(connection.sql(f"SELECT * FROM {relation} LIMIT 0").columns)
    except duckdb.Error as error:
        raise InputError(
            f"{name}: not readable ({type(error).__name__}).",
            wanted="CSV, Parquet or DuckDB" if table is None else f"a table {table} in {path.name}",
            do="check the file; a CSV needs a header, and its name must end in .csv, .tsv or .txt (.gz)",
        ) from None
    return _with_columns(SourceFile(name, path, table, columns), needed)


def _with_columns(file: SourceFile, needed: Sequence[str]) -> SourceFile:
    """The file, once it has every column that is needed. Raises: InputError."""
    name, columns = file.name, file.columns
    absent = sorted(set(needed) - set(columns))
    if absent:
        # A file without a header has a person's values where the names should be: those are never shown.
        named = all(re.fullmatch(r"[^\d\s][\w .:/()%#-]*", column) for column in columns)
        raise InputError(
            f"{name}: no column {', '.join(absent)}.",
            wanted=f"the columns that ingest.yaml names: {', '.join(sorted(needed))}",
            got=", ".join(columns) if named else f"{len(columns)} columns; the first line does not look like a header",
            do="correct the file, or the column's name in ingest.yaml",
        )
    return file


@contextmanager
def _reader(path: Path, table: str | None) -> Iterator[tuple[duckdb.DuckDBPyConnection, str]]:
    """A connection of its own, and what to select from in it."""
    if table is not None:
        with connect_readonly(path, "a DuckDB source file") as connection:
            yield connection, _quoted(table)
        return
    with duckdb.connect() as connection:
        for setting in ("autoinstall_known_extensions", "autoload_known_extensions"):
            connection.execute(f"SET {setting} = false")
        literal = str(path).replace("'", "''")
        options = f", {_CSV_OPTIONS}" if _CSV.search(path.name) else ""
        yield connection, f"{'read_csv' if options else 'read_parquet'}('{literal}'{options})"


def _quoted(name: str) -> str:
    escaped = name.replace('"', '""')
    return f'"{escaped}"'
