"""Rows of one scores file: read-only, locked down, latest published run."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb

from riskpred.errors import InputError
from riskpred.records.schema import check_columns, table_schema

Row = dict[str, Any]

TABLES = (
    "runs",
    "risk_scores",
    "eligibility",
    "input_receipts",
    "explanations",
    "evidence",
    "findings",
    "missing_impact",
    "changes",
    "rejects",
    "pseudonyms",
)
"""Tables a report is made from; `secrets` is not among them: no page needs the salt."""

_LOCKED_DOWN: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "lock_configuration": "true",
}
_PSEUDONYM = re.compile(r"[0-9a-f]{12}")

# One row per subject and outcome at the outcome's longest horizon of the run.
_LONGEST = """
    SELECT s.* FROM risk_scores s
    JOIN (SELECT outcome, max(horizon_years) AS horizon_years FROM risk_scores WHERE run_id = $run GROUP BY outcome) l
      ON s.outcome = l.outcome AND s.horizon_years = l.horizon_years
    WHERE s.run_id = $run
"""


@dataclass
class SubjectRows:
    """All rows of one subject in the run, each table in its own order (schema column names as keys)."""

    pseudonym: str
    risks: list[Row] = field(default_factory=list)
    explanations: list[Row] = field(default_factory=list)
    evidence: list[Row] = field(default_factory=list)
    findings: list[Row] = field(default_factory=list)
    receipts: list[Row] = field(default_factory=list)
    eligibility: list[Row] = field(default_factory=list)
    missing_impact: list[Row] = field(default_factory=list)
    changes: list[Row] = field(default_factory=list)
    rejects: list[Row] = field(default_factory=list)
    past: list[Row] = field(default_factory=list)
    """Risks of earlier published runs at each outcome's longest horizon, oldest first, with as_of and bundle_sha256."""


class Scores:
    """The latest published run of a scores file; a context manager.

    The connection is read-only, sees no other file and its configuration is locked, so that no text in a table
    can make it read or write anything else. A night published meanwhile does not disturb it: the file is swapped,
    never changed in place.
    """

    def __init__(self, path: Path, connection: duckdb.DuckDBPyConnection, run: Row) -> None:
        self.path, self._connection, self.run = path, connection, run

    @classmethod
    def open(cls, path: Path) -> "Scores":
        """Open `path` and find its latest published run.

        Raises: InputError, when the file is missing, locked by a writer, not DuckDB, not ours or without a run.
        """
        connection = _connect(path)
        try:
            _check_tables(connection, path)
            run = _latest_run(connection, path)
            _check_numbers(connection, path, run["run_id"])
        except BaseException:
            connection.close()
            raise
        return cls(path, connection, run)

    def __enter__(self) -> "Scores":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._connection.close()

    def explained(self) -> list[int]:
        """Subjects with feature reasons, by subject_id."""
        query = (
            "SELECT DISTINCT subject_id FROM explanations WHERE run_id = $run AND level = 'feature' ORDER BY subject_id"
        )
        return self._ids(query)

    def scored(self) -> list[int]:
        """Subjects with at least one risk, by subject_id."""
        return self._ids("SELECT DISTINCT subject_id FROM risk_scores WHERE run_id = $run ORDER BY subject_id")

    def top(self, n: int) -> list[int]:
        """The `n` subjects of highest percentile over outcomes at the longest horizon; ties by subject_id."""
        query = f"""
            SELECT subject_id FROM ({_LONGEST}) GROUP BY subject_id
            ORDER BY max(percentile) DESC, subject_id LIMIT {int(n)}
        """
        return self._ids(query)

    def considered(self, subject_id: int) -> bool:
        """Whether the run looked at this subject at all, scored or not."""
        query = "SELECT count(*) FROM eligibility WHERE run_id = ? AND subject_id = ?"
        return bool(self._connection.execute(query, [self.run["run_id"], subject_id]).fetchall()[0][0])

    def rows(self, subjects: Sequence[int]) -> dict[int, SubjectRows]:
        """Everything about these subjects, in their order.

        Raises: InputError, when a subject has no pseudonym, or one that is not 12 hex characters.
        """
        found: dict[int, SubjectRows] = {}
        by_subject = {row["subject_id"]: row["pseudonym"] for row in self._select("pseudonyms", subjects, "subject_id")}
        for subject in subjects:
            if not _PSEUDONYM.fullmatch(by_subject.get(subject, "")):
                raise _not_ours(self.path, "a subject without a pseudonym of 12 hex characters")
            found[subject] = SubjectRows(by_subject[subject])
        wanted = (
            ("risk_scores", "risks", "subject_id, outcome, horizon_years"),
            ("explanations", "explanations", "subject_id, outcome, horizon_years, level, rank, modality, feature"),
            ("evidence", "evidence", "subject_id, kind, name, time NULLS FIRST, value"),
            ("findings", "findings", "subject_id, image_id, lesion"),
            ("missing_impact", "missing_impact", "subject_id, outcome, horizon_years, rank, modality, feature"),
            ("changes", "changes", "subject_id, outcome, horizon_years, scenario, step"),
            ("input_receipts", "receipts", "subject_id, modality"),
            ("eligibility", "eligibility", "subject_id, outcome"),
            ("rejects", "rejects", "subject_id, source, field, reason"),
        )
        for table, attribute, order in wanted:
            for row in self._select(table, subjects, order):
                getattr(found[row["subject_id"]], attribute).append(row)
        for row in self._past(subjects):
            found[row["subject_id"]].past.append(row)
        self._check_risks(found)
        return found

    def longest_horizons(self) -> list[tuple[str, float]]:
        """(outcome, longest horizon in years) of the run, by outcome."""
        query = (
            "SELECT outcome, max(horizon_years) FROM risk_scores WHERE run_id = $run GROUP BY outcome ORDER BY outcome"
        )
        return self._connection.execute(query, {"run": self.run["run_id"]}).fetchall()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Another connection to the same file, as locked down as this one."""
        return self._connection.cursor()

    def _past(self, subjects: Sequence[int]) -> list[Row]:
        query = f"""
            SELECT s.subject_id, s.outcome, s.horizon_years, s.prediction_time, s.risk, s.risk_low, s.risk_high,
                   r.run_id, r.as_of, r.bundle_sha256
            FROM risk_scores s JOIN runs r ON r.run_id = s.run_id
            JOIN (SELECT DISTINCT outcome, horizon_years FROM ({_LONGEST})) l
              ON l.outcome = s.outcome AND l.horizon_years = s.horizon_years
            WHERE r.status = 'published' AND (r.as_of, r.finished_at) < ($as_of, $finished_at)
              AND s.run_id <> $run AND s.subject_id IN (SELECT unnest($subjects::BIGINT[]))
            ORDER BY s.subject_id, s.outcome, r.as_of, r.finished_at, r.run_id
        """
        run = {name: self.run[name] for name in ("as_of", "finished_at")} | {"run": self.run["run_id"]}
        cursor = self._connection.execute(query, run | {"subjects": list(subjects)})
        names = [column[0] for column in cursor.description or []]
        return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]

    def _check_risks(self, found: dict[int, SubjectRows]) -> None:
        """Risks of other runs and of what if, which the check of the run does not see."""
        shares = {"past": ("risk", "risk_low", "risk_high"), "missing_impact": ("risk_low", "risk_high")}
        shares["changes"] = ("risk", "threshold")
        for rows in found.values():
            for attribute, columns in shares.items():
                for row in getattr(rows, attribute):
                    if not all(0 <= row[column] <= 1 for column in columns):  # false for NaN, too
                        raise _not_ours(self.path, f"a risk outside 0 to 1 ({attribute})")

    def _ids(self, query: str) -> list[int]:
        return [row[0] for row in self._connection.execute(query, {"run": self.run["run_id"]}).fetchall()]

    def _select(self, table: str, subjects: Sequence[int], order: str) -> list[Row]:
        """Rows of some subjects. A moment that no page can show (before the year 1, after 9999) counts as not dated."""
        schema = table_schema("scores", table)
        names = schema.names
        undated = {column.name for column in schema.columns if column.type == "timestamp_us" and column.nullable}
        columns = ", ".join(f'"{name}"' for name in names)
        query = (
            f'SELECT {columns} FROM "{table}" WHERE run_id = ? '
            f"AND subject_id IN (SELECT unnest(?::BIGINT[])) ORDER BY {order}"
        )
        rows = self._connection.execute(query, [self.run["run_id"], list(subjects)]).fetchall()
        found = [dict(zip(names, values, strict=True)) for values in rows]
        for row in found if undated else ():
            # DuckDB gives those as text; one such record of one person must not cost everybody's report.
            row.update({name: None for name in undated if isinstance(row[name], str)})
        return found


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    if not path.is_file():
        raise InputError(
            f"{path}: no such file.", wanted="a scores file", do="check the path, or make it with `riskpred score`"
        )
    try:
        return duckdb.connect(str(path), read_only=True, config=_LOCKED_DOWN)
    except duckdb.Error as error:
        if "lock" in str(error):  # told apart by its text, which is never shown
            raise InputError(
                f"{path}: another process is writing to it.",
                wanted="a published scores file (riskpred itself never writes to one in place)",
                do="wait until the other process has closed it",
            ) from None
        raise _not_ours(path, f"{type(error).__name__} when opened") from None


def _not_ours(path: Path, got: str) -> InputError:
    return InputError(
        f"{path}: not a scores file of riskpred.",
        wanted="the DuckDB file that `riskpred score` publishes",
        got=got,
        do="check the path, or run `riskpred score` again",
    )


def _check_tables(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    query = "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'main'"
    try:
        described = connection.execute(query).fetchall()
    except duckdb.Error as error:
        raise _not_ours(path, type(error).__name__) from None
    columns: dict[str, dict[str, str]] = {}
    for table, column, kind in described:
        columns.setdefault(table, {})[column] = kind
    missing = [table for table in TABLES if table not in columns]
    if missing:
        raise _not_ours(path, f"no table {', '.join(missing)}")
    for table in TABLES:
        check_columns(table_schema("scores", table), columns[table], str(path))


def _latest_run(connection: duckdb.DuckDBPyConnection, path: Path) -> Row:
    names = table_schema("scores", "runs").names
    columns = ", ".join(f'"{name}"' for name in names)
    # A refused night publishes yesterday's tables unchanged: the rows to report are those of the last published run.
    query = (
        f"SELECT {columns} FROM runs WHERE status = 'published' ORDER BY as_of DESC, finished_at DESC, run_id LIMIT 1"
    )
    found = connection.execute(query).fetchall()
    if not found:
        raise InputError(
            f"{path}: no published run.", wanted="at least one row of `runs` with status published", do="score first"
        )
    return dict(zip(names, found[0], strict=True))


def _check_numbers(connection: duckdb.DuckDBPyConnection, path: Path, run_id: str) -> None:
    query = """
        SELECT count(*) FROM risk_scores WHERE run_id = ? AND NOT coalesce(
            risk BETWEEN 0 AND 1 AND risk_low BETWEEN 0 AND 1 AND risk_high BETWEEN 0 AND 1
            AND reference_risk BETWEEN 0 AND 1 AND percentile BETWEEN 0 AND 1
            AND horizon_years BETWEEN 0 AND 200, false)
    """
    wrong = connection.execute(query, [run_id]).fetchall()[0][0]
    if wrong:
        raise _not_ours(path, f"{wrong:,} rows of risk_scores with a risk or percentile outside 0 to 1")
    query = "SELECT count(*) FROM explanations WHERE run_id = ? AND NOT isfinite(contribution)"
    wrong = connection.execute(query, [run_id]).fetchall()[0][0]
    if wrong:
        raise _not_ours(path, f"{wrong:,} rows of explanations whose contribution is not a number")


def finite(number: float | None) -> float | None:
    """A number, or None where it is none that a page can show."""
    return number if number is not None and math.isfinite(number) else None


def utc(moment: datetime | None) -> str | None:
    """ISO 8601 text of a UTC moment read from DuckDB (seconds are enough for a page); None stays None."""
    return None if moment is None else f"{moment:%Y-%m-%dT%H:%M:%S}Z"


def card_of(run: Mapping[str, Any]) -> dict[str, Any]:
    """The card as a night keeps it; an unreadable one is empty, and the page says so."""
    try:
        card = json.loads(run["model_card"], parse_constant=lambda _: None)
    except ValueError:
        return {}
    return card if isinstance(card, dict) else {}
