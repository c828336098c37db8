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
from riskpred.score.layout import (
    BY_SUBJECT,
    COMPUTATIONS,
    OF_A_NIGHT,
    SCHEMA,
    STANDING,
    computed_schema,
    create_tables,
    is_laid_out,
)

_MAGIC = b"DUCK"  # at byte 8 of every DuckDB file

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
        "SELECT table_name, column_name, data_type FROM duckdb_columns() "
        "WHERE NOT internal AND schema_name = 'main' AND database_name = current_database()"
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
    if not is_laid_out(connection):
        raise OutputError(
            f"{scores}: a scores file of another version of riskpred, which kept its nights otherwise.",
            wanted=f"the tables {STANDING}, {COMPUTATIONS}, {', '.join(f'{SCHEMA}.{name}' for name in BY_SUBJECT)}",
            do="give another --into, or write it with the version of riskpred that made it",
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
            create_tables(connection)

    def append(self, table: str, rows: pa.Table) -> None:
        """Add rows of a night: they have the table's columns, in its order; texts may be dictionaries."""
        assert table not in BY_SUBJECT, table
        self._insert(f'"{table}" SELECT r.*', rows, table)

    def append_computed(self, table: str, rows: pa.Table, computation: int) -> None:
        """Add rows that a computation made of its subjects; columns of `computed_schema`."""
        self._insert(f'{SCHEMA}."{table}" SELECT {computation}, r.*', rows, table)

    def append_reasons(self, table: str, rows: pa.Table, run_id: str) -> None:
        """Add rows to what each subject of a night stands on, so that every night that has it shows them.

        Raises: AssertionError, when one of them has reasons already: they would be told twice, in every such night.
        """
        place = f'{SCHEMA}."{table}" SELECT n.computation, r.*'
        found = f"JOIN {STANDING} n ON n.run_id = $run AND n.subject_id = r.subject_id"
        if table == "explanations":
            connection = self.connection
            connection.register("reasons_to_append", rows.select(["subject_id", "level"]))
            (twice,) = connection.execute(
                f"SELECT count(DISTINCT r.subject_id) FROM reasons_to_append r {found} "
                f"JOIN {SCHEMA}.explanations t "
                "ON t.subject_id = n.subject_id AND t.computation = n.computation AND t.level = r.level",
                {"run": run_id},
            ).fetchall()[0]
            connection.unregister("reasons_to_append")
            assert not twice, f"{twice:,} subjects have feature reasons already"
        self._insert(place, rows, table, found, {"run": run_id})

    def _insert(
        self, place: str, rows: pa.Table, table: str, joined: str = "", values: dict[str, object] | None = None
    ) -> None:
        assert rows.schema.names == computed_schema(table).names, table
        if not rows.num_rows:
            return
        self.connection.register("rows_to_append", rows)
        try:
            self.connection.execute(f"INSERT INTO {place} FROM rows_to_append r {joined}", values or {})
        finally:
            with suppress(duckdb.Error):  # an aborted statement refuses it; the first error is the one to show
                self.connection.unregister("rows_to_append")

    def new_computation(self, run_id: str, modalities: Sequence[str]) -> int:
        """Number of the computation that a night is about to add."""
        (number,) = self.connection.execute(
            f"INSERT INTO {COMPUTATIONS} SELECT coalesce(max(computation), 0) + 1, $run, $modalities::VARCHAR[] "
            f"FROM {COMPUTATIONS} RETURNING computation",
            {"run": run_id, "modalities": list(modalities)},
        ).fetchall()[0]
        return int(number)

    def stand_on(self, run_id: str, computation: int) -> None:
        """Everyone whom a computation made rows of stands on it in this night."""
        self.connection.execute(
            f"INSERT INTO {STANDING} "
            f"SELECT $run, subject_id, computation, false FROM {SCHEMA}.pseudonyms WHERE computation = $computation",
            {"run": run_id, "computation": computation},
        )

    def retire(self, run_ids: Sequence[str]) -> None:
        """Delete all rows of some nights but those of the ledger and of drift."""
        nights = {"runs": list(run_ids)}
        if not run_ids:
            return
        for table in OF_A_NIGHT:
            self.connection.execute(f'DELETE FROM "{table}" WHERE run_id IN (SELECT unnest($runs::VARCHAR[]))', nights)
        self.connection.execute(
            f"""
            CREATE TEMP TABLE left_by_all AS
            SELECT DISTINCT subject_id, computation
            FROM (SELECT * FROM {STANDING} WHERE run_id IN (SELECT unnest($runs::VARCHAR[]))) gone
            ANTI JOIN (SELECT * FROM {STANDING} WHERE run_id NOT IN (SELECT unnest($runs::VARCHAR[]))) kept
            USING (subject_id, computation)
            """,
            nights,
        )
        self.connection.execute(f"DELETE FROM {STANDING} WHERE run_id IN (SELECT unnest($runs::VARCHAR[]))", nights)
        for table in BY_SUBJECT:
            self.connection.execute(
                f'DELETE FROM {SCHEMA}."{table}" t USING left_by_all l '
                "WHERE t.subject_id = l.subject_id AND t.computation = l.computation"
            )
        self.connection.execute("DROP TABLE left_by_all")
        self.connection.execute(
            f"DELETE FROM {COMPUTATIONS} WHERE computation NOT IN (SELECT computation FROM {STANDING})"
        )

    def forget_run(self, run_id: str) -> None:
        """Delete every row of one night, the ledger's too."""
        self.retire([run_id])
        for table in ("runs", "drift"):
            self.connection.execute(f'DELETE FROM "{table}" WHERE run_id = $run', {"run": run_id})

    def set_aside(self, run_id: str) -> None:
        """Rename a night that is about to be made anew, so that it may carry from its own rows."""
        for table in ("runs", "drift", *OF_A_NIGHT, STANDING):
            self.connection.execute(
                f"UPDATE {table} SET run_id = $aside WHERE run_id = $run", {"aside": REPLACED, "run": run_id}
            )

    def keep_checks(self, source: str, run_id: str) -> None:
        """The checks of one night's reasons are those of another, which has none of its own."""
        self.connection.execute(
            "UPDATE reason_checks SET run_id = $run WHERE run_id = $source", {"run": run_id, "source": source}
        )

    def commit(self) -> None:
        """Everything so far is in the file itself, not in its log."""
        self.connection.execute("CHECKPOINT")
