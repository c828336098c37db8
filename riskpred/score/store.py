"""The scores file while it is being written: its tables, what is kept of earlier nights, Arrow rows appended."""

from contextlib import suppress
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa
from duckdb import DuckDBPyConnection

from riskpred.errors import InputError, OutputError
from riskpred.records.schema import check_columns, table_schema, tables

EARLIER: Final = "earlier"
"""Name under which the published file is attached, read-only, to the staging file."""

_MAGIC = b"DUCK"  # at byte 8 of every DuckDB file


def attach_earlier(connection: DuckDBPyConnection, scores: Path) -> bool:
    """Attach the published scores file where there is one; False where there is none.

    Raises: OutputError, when it is locked by another process, is no scores file, or has other columns than schemas/.
    """
    if not scores.exists():
        return False
    with scores.open("rb") as stream:
        if stream.read(12)[8:] != _MAGIC:
            raise OutputError(
                f"{scores}: the file is there and is no DuckDB file.",
                wanted="a scores file written by riskpred, or no file",
                do="give another --into; riskpred does not overwrite files that are not its own",
            )
    try:
        connection.execute(f"ATTACH '{str(scores).replace(chr(39), chr(39) * 2)}' AS {EARLIER} (READ_ONLY)")
    except duckdb.Error as error:
        raise OutputError(
            f"{scores}: the file cannot be opened ({type(error).__name__}).",
            wanted="a scores file that no other process holds open for writing",
            do="close the other process (readers may stay: they keep their snapshot)",
        ) from None
    _refuse_foreign(connection, scores)
    return True


def _refuse_foreign(connection: DuckDBPyConnection, scores: Path) -> None:
    found: dict[str, dict[str, str]] = {}
    for table, column, kind in connection.execute(
        "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE database_name = ?", [EARLIER]
    ).fetchall():
        found.setdefault(table, {})[column] = kind
    absent = [table for table in tables("scores") if table not in found]
    if absent:
        raise OutputError(
            f"{scores}: a DuckDB file, but not a scores file of this version of riskpred.",
            wanted=f"tables {', '.join(tables('scores'))}",
            got=f"no table {', '.join(absent)}",
            do="give another --into",
        )
    for table in tables("scores"):
        try:
            check_columns(table_schema("scores", table), found[table], str(scores))
        except InputError as error:
            raise OutputError(
                error.what,
                wanted=error.wanted,
                got=error.got,
                do="give another --into, or write it with the version of riskpred that made it",
            ) from None


class Store:
    """Writes one scores file in one transaction.

    Args:
        connection: the staging file of `records.publish.staged`.
        scores: the published file, whose other runs are kept.
    """

    def __init__(self, connection: DuckDBPyConnection, scores: Path) -> None:
        self.connection = connection
        self.has_earlier = attach_earlier(connection, scores)
        connection.execute("BEGIN TRANSACTION")
        for table in tables("scores"):
            connection.execute(table_schema("scores", table).ddl())

    def keep(self, table: str, unless: str = "false") -> None:
        """Copy the rows of one table from the published file, except those for which the SQL condition holds."""
        if self.has_earlier:
            columns = ", ".join(f'"{name}"' for name in table_schema("scores", table).names)
            self.connection.execute(
                f'INSERT INTO "{table}" ({columns}) SELECT {columns} FROM {EARLIER}."{table}" '
                f"WHERE ({unless}) IS NOT TRUE"
            )

    def append(self, table: str, rows: pa.Table) -> None:
        """Add Arrow rows that have the table's schema."""
        assert rows.schema.names == table_schema("scores", table).names, table
        if not rows.num_rows:
            return
        self.connection.register("rows_to_append", rows)
        try:
            self.connection.execute(f'INSERT INTO "{table}" SELECT * FROM rows_to_append')
        finally:
            with suppress(duckdb.Error):  # an aborted transaction refuses it; the first error is the one to show
                self.connection.unregister("rows_to_append")

    def commit(self) -> None:
        """Commit, and let go of the published file, which is about to be replaced."""
        self.connection.execute("COMMIT")
        if self.has_earlier:
            self.connection.execute(f"DETACH {EARLIER}")
