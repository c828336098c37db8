"""The scores file while it is being written: its tables, rows appended, nights retired, subjects carried over."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa
from duckdb import DuckDBPyConnection

from riskpred.errors import InputError, OutputError
from riskpred.records.connection import connect_readonly
from riskpred.records.publish import refuse_unless_replaceable
from riskpred.records.schema import check_columns, table_schema, tables

_MAGIC = b"DUCK"  # at byte 8 of every DuckDB file

KEPT_FOR_EVER: Final = frozenset({"runs", "drift", "secrets"})
"""Small tables whose rows outlive the other rows of their night."""

REPLACED: Final = "(replaced)"
"""Run_id of the rows of a night while that same night is made anew from them."""


def open_published(scores: Path) -> DuckDBPyConnection:
    """The published scores file, read-only; it must be there.

    Raises: OutputError, when it is no scores file of this version, or locked: it is what will be written.
    """
    _refuse_foreign_file(scores)
    refuse_unless_replaceable(scores)
    connection = connect_readonly(scores, "a scores file written by riskpred")
    try:
        refuse_foreign(connection, scores)
    except BaseException:
        connection.close()
        raise
    return connection


def _refuse_foreign_file(scores: Path) -> None:
    """Raises: OutputError, when the file is no DuckDB file: riskpred does not overwrite it."""
    with scores.open("rb") as stream:
        if stream.read(12)[8:] != _MAGIC:
            raise OutputError(
                f"{scores}: the file is there and is no DuckDB file.",
                wanted="a scores file written by riskpred, or no file",
                do="give another --into; riskpred does not overwrite files that are not its own",
            )


def refuse_foreign(connection: DuckDBPyConnection, scores: Path) -> None:
    """Raises: OutputError, when the opened database has not the tables and columns of schemas/scores."""
    found: dict[str, dict[str, str]] = {}
    for table, column, kind in connection.execute(
        "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal"
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
    """Writes one staging file, which starts as a copy of the published one.

    Every statement commits by itself: nobody reads the file before it is swapped in.

    Args:
        connection: the staging file of `records.publish.staged(from_published=True)`.
        scores: the published file, named in errors.
    """

    def __init__(self, connection: DuckDBPyConnection, scores: Path) -> None:
        self.connection = connection
        # Rows of one night need no order among themselves, and two threads write twice as fast without it.
        connection.execute("SET preserve_insertion_order = false")
        if scores.exists():
            refuse_foreign(connection, scores)
        else:
            for table in tables("scores"):
                connection.execute(table_schema("scores", table).ddl())

    def append(self, table: str, rows: pa.Table) -> None:
        """Add Arrow rows that have the table's columns, in its order; texts may be dictionaries."""
        assert rows.schema.names == table_schema("scores", table).names, table
        if not rows.num_rows:
            return
        self.connection.register("rows_to_append", rows)
        try:
            self.connection.execute(f'INSERT INTO "{table}" SELECT * FROM rows_to_append')
        finally:
            with suppress(duckdb.Error):  # an aborted statement refuses it; the first error is the one to show
                self.connection.unregister("rows_to_append")

    def retire(self, run_ids: Sequence[str]) -> None:
        """Delete all rows of some nights but those of the ledger and of drift."""
        for table in tables("scores"):
            if table not in KEPT_FOR_EVER and run_ids:
                self.connection.execute(
                    f'DELETE FROM "{table}" WHERE run_id IN (SELECT unnest($runs::VARCHAR[]))', {"runs": list(run_ids)}
                )

    def forget_run(self, run_id: str) -> None:
        """Delete every row of one night, the ledger's too."""
        for table in tables("scores"):
            if "run_id" in table_schema("scores", table).names:
                self.connection.execute(f'DELETE FROM "{table}" WHERE run_id = $run', {"run": run_id})

    def set_aside(self, run_id: str) -> None:
        """Rename a night that is about to be made anew, so that it may carry from its own rows."""
        for table in tables("scores"):
            if "run_id" in table_schema("scores", table).names:
                self.connection.execute(
                    f'UPDATE "{table}" SET run_id = $aside WHERE run_id = $run', {"aside": REPLACED, "run": run_id}
                )

    def commit(self) -> None:
        """Everything so far is in the file itself, not in its log."""
        self.connection.execute("CHECKPOINT")
