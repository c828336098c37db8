"""Refuses a warehouse that cannot be read: a table or column missing, rows without who, what or a finite when."""

from pathlib import Path
from typing import Any

import duckdb

from riskpred.errors import InputError
from riskpred.records.connection import Tables
from riskpred.records.schema import check_columns, table_schema

REQUIRED = ("events", "images", "subject_splits")
_NEVER_NULL = {"events": ("subject_id", "code"), "subject_splits": ("subject_id", "split")}
_OF_THE_INGEST = ("study", "site", "as_of", "data_until", "image_root")


def check_tables(path: Path, connection: duckdb.DuckDBPyConnection, tables: Tables, *, events_known: bool) -> None:
    """Check the tables that every reader needs.

    Args:
        path: names the warehouse in errors.
        events_known: the events are as ingest left them, and ingest checked their rows.

    Raises: InputError, saying what is missing or how many rows are wrong.
    """
    absent = [name for name in REQUIRED if name not in tables]
    if absent:
        empty = "; ".join(table_schema("warehouse", name).ddl() for name in absent)
        raise InputError(
            f"{path}: no table {', '.join(absent)}.",
            wanted=f"the tables {', '.join(REQUIRED)}",
            got=", ".join(sorted(tables)) or "no table at all",
            do="ingest again" + ("" if "events" in absent else f", or make an empty one: {empty}"),
        )
    for name in (*REQUIRED, "ingests"):
        if name in tables:
            check_columns(table_schema("warehouse", name), tables[name], str(path))
    for table, names in _NEVER_NULL.items():
        if table != "events" or not events_known:
            named = {f"without {name}": f"{name} IS NULL" for name in names}
            _refuse_rows(path, connection, tables, table, named)
    if not events_known:
        _refuse_rows(path, connection, tables, "events", {"with an infinite time": "isinf(time)"})


def ingest_of(path: Path, connection: duckdb.DuckDBPyConnection, tables: Tables) -> dict[str, Any]:
    """study, site, as_of, data_until (UTC microseconds), image_root of the ingest; None where it does not say.

    Raises: InputError, when the rows of ingests contradict each other.
    """
    if "ingests" not in tables:
        return dict.fromkeys(_OF_THE_INGEST)
    sql = "SELECT DISTINCT study, site, epoch_us(as_of), epoch_us(data_until), image_root FROM ingests"
    rows = connection.cursor().execute(sql).fetchall()
    if len(rows) > 1:
        raise InputError(
            f"{path}: the rows of ingests contradict each other in {', '.join(_OF_THE_INGEST)}.",
            wanted="one ingest per warehouse",
            do="ingest again",
        )
    return dict(zip(_OF_THE_INGEST, rows[0], strict=True)) if rows else dict.fromkeys(_OF_THE_INGEST)


def _refuse_rows(
    path: Path, connection: duckdb.DuckDBPyConnection, tables: Tables, table: str, conditions: dict[str, str]
) -> None:
    """Raises: InputError, when one of the SQL conditions holds for a row; the keys say it in words."""
    counts = {
        words: int(connection.cursor().execute(f"SELECT count(*) FROM {table} WHERE {sql}").fetchall()[0][0])
        for words, sql in conditions.items()
    }
    if any(counts.values()):
        raise InputError(
            f"{path}: rows of {table} cannot be used.",
            wanted=f"a {' and a '.join(_NEVER_NULL[table])} in every row"
            + (", and a time that is finite or null" if "time" in tables[table] else ""),
            got=", ".join(f"{count:,} rows {words}" for words, count in counts.items() if count),
            do="ingest again, or correct the tool that wrote the table",
        )
