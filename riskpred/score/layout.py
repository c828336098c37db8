"""How the scores file keeps nights: a subject's rows once, where they were computed, and which of them each night has.

Analysts read views named as schemas/scores names the tables. Behind them, in the schema `stored`:

- `standing`: one row per night and subject: the computation whose rows are theirs that night, and whether carried.
- `computations`: one row per night that computed anyone; the order of its modalities.
- the tables of BY_SUBJECT: rows by (computation, subject_id). A risk holds its modalities' contributions as a list.

So a night writes what changed and one short row for everybody else, and seven nights take little more room than one.
"""

from dataclasses import dataclass
from functools import cache
from typing import Final

from duckdb import DuckDBPyConnection

from riskpred.records.schema import Column, TableSchema, table_schema, tables

SCHEMA: Final = "stored"
STANDING: Final = f"{SCHEMA}.standing"
COMPUTATIONS: Final = f"{SCHEMA}.computations"

PER_NIGHT: Final = frozenset({"rejects"})
"""Tables of a night and a subject that keep their rows night by night: some of them belong to nobody."""

BY_SUBJECT: Final = tuple(
    table
    for table in tables("scores")
    if {"run_id", "subject_id"} <= set(table_schema("scores", table).names) and table not in PER_NIGHT
)
"""Tables whose rows are kept by computation."""

KEPT_FOR_EVER: Final = frozenset({"runs", "drift", "secrets"})
"""Small tables whose rows outlive the other rows of their night."""

OF_A_NIGHT: Final = tuple(
    table
    for table in tables("scores")
    if table not in BY_SUBJECT and table not in KEPT_FOR_EVER and "run_id" in table_schema("scores", table).names
)
"""Tables whose rows go when the night that they name goes."""

_OF_THE_NIGHT: Final = {"run_id": "n.run_id", "carried": "n.carried"}
"""Columns that a night says of a subject, not a computation."""

_COMPUTATION: Final = Column(
    name="computation", type="int64", nullable=False, meaning="Which computation made the row, 1 = the file's first."
)
_CONTRIBUTIONS: Final = Column(
    name="contributions",
    type="list_float64",
    nullable=False,
    unit="risk points",
    meaning="What each modality contributes, in the order of computations.modalities; absent ones 0.",
)


@cache
def stored_schema(table: str) -> TableSchema:
    """What is stored of a table of BY_SUBJECT; of any other, its published schema."""
    published = table_schema("scores", table)
    if table not in BY_SUBJECT:
        return published
    columns = [_COMPUTATION, *(c for c in published.columns if c.name not in _OF_THE_NIGHT)]
    if table == "risk_scores":
        columns.append(_CONTRIBUTIONS)
    return published.model_copy(update={"columns": tuple(columns)})


@cache
def computed_schema(table: str) -> TableSchema:
    """What a part holds of a table: everything stored but the number of the computation, not known to its maker."""
    stored = stored_schema(table)
    return stored.model_copy(update={"columns": tuple(c for c in stored.columns if c is not _COMPUTATION)})


@dataclass(frozen=True)
class Rows:
    """Stored rows: of one night (computed or carried), or of one computation. Exactly one is given."""

    run_id: str | None = None
    computation: int | None = None

    def __post_init__(self) -> None:
        assert (self.run_id is None) != (self.computation is None), "a night or a computation"

    def of(self, table: str) -> str:
        """SQL subquery with the columns of `stored_schema`."""
        if self.run_id is None:
            return f'(SELECT * FROM {SCHEMA}."{table}" WHERE computation = {self.computation})'
        night = self.run_id.replace("'", "''")
        return (
            f'(SELECT r.* FROM {STANDING} n JOIN {SCHEMA}."{table}" r USING (subject_id, computation) '
            f"WHERE n.run_id = '{night}')"
        )


def create_tables(connection: DuckDBPyConnection) -> None:
    """Create every table of an empty scores file, and the views that stand for those of BY_SUBJECT."""
    connection.execute(f"CREATE SCHEMA {SCHEMA}")
    connection.execute(
        f"CREATE TABLE {STANDING} "
        "(run_id VARCHAR NOT NULL, subject_id BIGINT NOT NULL, computation BIGINT NOT NULL, carried BOOLEAN NOT NULL)"
    )
    connection.execute(
        f"CREATE TABLE {COMPUTATIONS} "
        "(computation BIGINT NOT NULL, run_id VARCHAR NOT NULL, modalities VARCHAR[] NOT NULL)"
    )
    for table in tables("scores"):
        connection.execute(stored_schema(table).ddl(within=SCHEMA if table in BY_SUBJECT else None))
    create_table_views(connection)


def create_table_views(connection: DuckDBPyConnection) -> None:
    """Create or replace the views that stand for the tables of BY_SUBJECT."""
    for table in BY_SUBJECT:
        connection.execute(f'CREATE OR REPLACE VIEW "{table}" AS {_view(table)}')


def is_laid_out(connection: DuckDBPyConnection, database: str | None = None) -> bool:
    """Whether an opened file keeps its nights as this module says. `database`: its name where it is attached."""
    named = {
        row[0]
        for row in connection.execute(
            "SELECT table_name FROM duckdb_tables() "
            "WHERE schema_name = $schema AND database_name = coalesce($database, current_database())",
            {"schema": SCHEMA, "database": database},
        ).fetchall()
    }
    return {"standing", "computations", *BY_SUBJECT} <= named


def _view(table: str) -> str:
    stored = (
        f'SELECT {{columns}} FROM {STANDING} n JOIN {SCHEMA}."{table}" r '
        "ON r.subject_id = n.subject_id AND r.computation = n.computation"
    )
    columns = {name: _OF_THE_NIGHT.get(name, f'r."{name}"') for name in table_schema("scores", table).names}
    if table == "eligibility":
        columns["status"] = "CASE WHEN n.carried AND r.status = 'scored' THEN 'carried' ELSE r.status END"
    named = ", ".join(f'{sql} AS "{name}"' for name, sql in columns.items())
    view = stored.format(columns=named)
    return f"{view} UNION ALL {_MODALITY_REASONS}" if table == "explanations" else view


# The rank of a contribution counts the larger ones, and of equal ones those of modalities before it.
_MODALITY_REASONS: Final = f"""
    SELECT run_id, subject_id, outcome, horizon_years, 'modality' AS level, modality, '' AS feature,
        NULL::DOUBLE AS value, NULL::VARCHAR AS text_value, NULL::VARCHAR AS unit, NULL::TIMESTAMP AS time,
        contribution, rank, false AS remainder
    FROM (
        SELECT n.run_id, r.subject_id, r.outcome, r.horizon_years, unnest(c.modalities) AS modality,
            unnest(r.contributions) AS contribution,
            unnest(list_transform(r.contributions, lambda x, i: 1 + len(list_filter(
                r.contributions, lambda y, j: abs(y) > abs(x) OR (abs(y) = abs(x) AND j < i)
            )))) AS rank
        FROM {STANDING} n
        JOIN {SCHEMA}.risk_scores r ON r.subject_id = n.subject_id AND r.computation = n.computation
        JOIN {COMPUTATIONS} c ON c.computation = r.computation
    )
"""
