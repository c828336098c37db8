"""Compares scores files from outside: whether two hold the same nights, and how far the risks of two nights differ.

When a row was computed is no part of a night's content: a rerun may carry what its own earlier attempt published. So
times of computing, the mark `carried` and the difference between scored and carried are left out of every comparison.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import duckdb

from riskpred.records.schema import tables

Contents = dict[str, tuple[int, str]]
"""table -> (rows, digest over them in any order)."""

_WHEN: Final = frozenset({"scored_at", "started_at", "finished_at", "carried"})
_LEDGER: Final = (
    *("run_id", "as_of", "status", "numeric_path", "bundle_sha256", "warehouse_digest", "subjects"),
    *("considered_pairs", "eligible_pairs", "rejected_pairs", "out_of_scope_pairs", "risk_rows"),
)
_RISKS: Final = ("risk", "risk_low", "risk_high", "reference_risk", "percentile")
_KEY: Final = "subject_id, outcome, horizon_years"


def contents(scores: Path, exact: bool = True) -> Contents:
    """What the file holds, by table, over all its runs.

    Args:
        exact: False rounds every number to 6 decimals and leaves the content digest out.
    Raises: duckdb.Error, when the file cannot be opened or read: then it is not whole.
    """
    found: Contents = {}
    with duckdb.connect(str(scores), read_only=True) as connection:
        for table in tables("scores"):
            described = connection.execute(f'DESCRIBE "{table}"').fetchall()
            names = [(name, kind) for name, kind, *_ in described if name not in _WHEN]
            if table == "runs":
                names = [
                    (name, kind) for name, kind in names if name in _LEDGER or (exact and name == "content_digest")
                ]
            columns = ", ".join(_compared(table, name, kind, exact) for name, kind in names)
            rows, total = connection.execute(
                f'SELECT count(*), sum(hash(ROW({columns}))::HUGEINT) FROM "{table}"'
            ).fetchall()[0]
            found[table] = (rows, str(total))
    return found


def _compared(table: str, name: str, kind: str, exact: bool) -> str:
    if table == "eligibility" and name == "status":
        return "CASE status WHEN 'carried' THEN 'scored' ELSE status END"
    return f'round("{name}", 6)' if not exact and kind in ("DOUBLE", "FLOAT") else f'"{name}"'


def which(found: Contents, **known: Contents) -> str:
    """Name of the known contents that these are, else the tables in which they differ from each."""
    for name, one in known.items():
        if found == one:
            return name
    apart = [
        f"{name} in {', '.join(table for table in sorted({*one, *found}) if one.get(table) != found.get(table))}"
        for name, one in known.items()
    ]
    return f"neither: differs from {'; from '.join(apart)}"


def latest(scores: Path) -> dict[str, object]:
    """Ledger row of the newest published night."""
    with duckdb.connect(str(scores), read_only=True) as connection:
        found = connection.execute(
            "SELECT * FROM runs WHERE status = 'published' ORDER BY as_of DESC, finished_at DESC LIMIT 1"
        )
        names = [column[0] for column in found.description or ()]
        rows = found.fetchall()
    assert rows, "no published night"
    return dict(zip(names, rows[0], strict=True))


def run_count(scores: Path) -> int:
    """Runs that the file holds."""
    with duckdb.connect(str(scores), read_only=True) as connection:
        return int(connection.execute("SELECT count(*) FROM runs").fetchall()[0][0])


def apart(
    one: Path, other: Path, leaving_out: Iterable[int] = (), only: Iterable[int] | None = None
) -> tuple[int, float]:
    """How far the newest nights of two files are apart, over every subject but those left out, or `only` over some.

    Returns: rows that only one of them has, and the largest difference in a risk, its interval, reference or
        percentile among rows that both have.
    """
    with duckdb.connect() as connection:
        named = [int(subject) for subject in (leaving_out if only is None else only)]
        connection.execute("CREATE TABLE named AS SELECT unnest($ids::BIGINT[]) AS subject_id", {"ids": named})
        for name, path in (("one", one), ("other", other)):
            connection.execute(f"ATTACH '{path}' AS {name} (READ_ONLY)")
            connection.execute(
                f"CREATE TEMP VIEW {name}_risks AS SELECT * FROM {name}.risk_scores WHERE run_id ="
                f" (SELECT run_id FROM {name}.runs WHERE status = 'published' ORDER BY as_of DESC, finished_at DESC"
                f" LIMIT 1) AND subject_id {'NOT IN' if only is None else 'IN'} (SELECT subject_id FROM named)"
            )
        differences = ", ".join(f"max(abs(a.{name} - b.{name}))" for name in _RISKS)
        alone, *largest = connection.execute(
            f"SELECT count(*) FILTER (a.risk IS NULL OR b.risk IS NULL), {differences}"
            f" FROM one_risks a FULL JOIN other_risks b USING ({_KEY})"
        ).fetchall()[0]
    return int(alone), max((float(value) for value in largest if value is not None), default=0.0)
