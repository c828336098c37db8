"""Opens a DuckDB file for reading, and says which tables and columns are in it."""

from pathlib import Path

import duckdb

from riskpred.errors import InputError

Tables = dict[str, dict[str, str]]
"""Table -> column -> DuckDB type."""


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
    without_extensions(connection)
    return connection


def without_extensions(connection: duckdb.DuckDBPyConnection) -> None:
    """An extension that is not built in would be fetched from the network; a progress bar would go to stdout."""
    for setting in ("autoinstall_known_extensions", "autoload_known_extensions", "enable_progress_bar"):
        # In a notebook without ipywidgets DuckDB has no progress bar, and refuses to be told so.
        if connection.execute("SELECT current_setting(?)", [setting]).fetchall() != [(False,)]:
            connection.execute(f"SET {setting} = false")


def tables_of(connection: duckdb.DuckDBPyConnection) -> Tables:
    """Tables and views of the database, with their columns."""
    sql = (
        "SELECT table_name, column_name, data_type FROM duckdb_columns()"
        " WHERE NOT internal AND database_name = current_database() ORDER BY ALL"
    )
    tables: Tables = {}
    for table, column, kind in connection.execute(sql).fetchall():
        tables.setdefault(table, {})[column] = kind
    return tables
