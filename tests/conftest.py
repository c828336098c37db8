"""Fixtures shared by all tests: where real data are."""

import os
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Folder of one real data set: $RISKPRED_TEST_DATA/name, else ../shared/data/name; skips where there is none."""
    root = Path(os.environ.get("RISKPRED_TEST_DATA") or REPOSITORY.parent / "shared" / "data")

    def find(name: str) -> Path:
        if not (root / name).is_dir():
            pytest.skip(f"no real data: {name} is not in the real data folder")
        return root / name

    return find


@pytest.fixture(scope="session")
def as_tables() -> Callable[[Path], Path]:
    """as_tables(scores): the same file with plain tables in place of its views, for tests that change what is read."""
    from riskpred.score.layout import BY_SUBJECT

    def change(scores: Path) -> Path:
        with duckdb.connect(str(scores)) as connection:
            for table in BY_SUBJECT:
                connection.execute(f"CREATE TEMP TABLE copied AS SELECT * FROM {table}")
                connection.execute(f"DROP VIEW {table}; CREATE TABLE {table} AS FROM copied; DROP TABLE copied")
        return scores

    return change


@pytest.fixture(scope="session")
def laid_out() -> Callable[[Path], Path]:
    """laid_out(scores): a file of plain tables, brought into the order in which a night keeps them."""
    from riskpred.records.schema import table_schema
    from riskpred.score.layout import BY_SUBJECT, COMPUTATIONS, SCHEMA, STANDING, create_tables, stored_schema
    from riskpred.score.views import create_views

    def change(scores: Path) -> Path:
        with duckdb.connect(str(scores)) as connection:
            connection.execute("CREATE SCHEMA plain")
            for (table,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall():
                connection.execute(f"CREATE TABLE plain.{table} AS FROM {table}; DROP TABLE {table}")
            create_tables(connection)
            connection.execute(
                f"INSERT INTO {COMPUTATIONS} SELECT row_number() OVER (ORDER BY run_id), run_id, modalities FROM ("
                "SELECT run_id, list(DISTINCT modality ORDER BY modality) AS modalities FROM plain.explanations "
                "WHERE level = 'modality' GROUP BY 1)"
            )
            connection.execute(
                f"INSERT INTO {STANDING} SELECT run_id, subject_id, computation, false "
                f"FROM plain.pseudonyms JOIN {COMPUTATIONS} USING (run_id)"
            )
            connection.execute(
                "CREATE TEMP TABLE contributions AS SELECT run_id, subject_id, outcome, horizon_years, "
                "list(contribution ORDER BY modality) AS contributions FROM plain.explanations "
                "WHERE level = 'modality' GROUP BY ALL"
            )
            for table in BY_SUBJECT:
                joined = "contributions USING (run_id, subject_id, outcome, horizon_years)"
                more = f"JOIN {joined}" if table == "risk_scores" else ""
                only = "WHERE level <> 'modality'" if table == "explanations" else ""
                columns = ", ".join(stored_schema(table).names)
                connection.execute(
                    f"INSERT INTO {SCHEMA}.{table} SELECT {columns} FROM plain.{table} "
                    f"JOIN {COMPUTATIONS} USING (run_id) {more} {only}"
                )
            for table in ("runs", "drift", "rejects", "secrets"):
                columns = ", ".join(table_schema("scores", table).names)
                connection.execute(f"INSERT INTO {table} SELECT {columns} FROM plain.{table}")
            connection.execute("DROP SCHEMA plain CASCADE")
            create_views(connection)
        return scores

    return change
