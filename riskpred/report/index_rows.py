"""What the index shows of each person, and in which orders: read once from the scores, rendered once, listed often.

A person's line reads the same in every order. So the lines are rendered in one pass, in the first order (highest risk
first), into a file; an order is the positions of the lines in it. Memory holds 8 bytes a person and order, and a page.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import duckdb

from riskpred.report.read import Row, Scores

CHANGED_POINTS: Final = 5.0
"""A risk that moved by more than so many points since the run before counts as changed."""

_BEFORE: Final = """
    SELECT run_id, as_of FROM runs WHERE status = 'published'
    ORDER BY as_of DESC, finished_at DESC, run_id LIMIT 1 OFFSET 1
"""
# One line a person: positions by highest risk; the change is the largest at the longest horizon over outcomes.
_LISTED: Final = """
    CREATE OR REPLACE TEMP TABLE listed AS
    WITH wanted AS (SELECT unnest($subjects::BIGINT[]) AS subject_id),
    spans AS (
        SELECT outcome, max(horizon_years) AS horizon_years FROM risk_scores WHERE run_id = $run GROUP BY outcome
    ),
    longest AS (
        SELECT s.*, CASE WHEN b.risk BETWEEN 0 AND 1 THEN 100 * (s.risk - b.risk) END AS change
        FROM risk_scores s JOIN spans USING (outcome, horizon_years)
        LEFT JOIN risk_scores b ON b.run_id = $before AND b.subject_id = s.subject_id
            AND b.outcome = s.outcome AND b.horizon_years = s.horizon_years
        WHERE s.run_id = $run
    )
    SELECT
        row_number() OVER (ORDER BY max(l.risk) DESC NULLS LAST, w.subject_id) - 1 AS position,
        w.subject_id, any_value(p.pseudonym) AS pseudonym,
        max_by(l.change, abs(l.change)) AS change, max_by(l.outcome, abs(l.change)) AS changed_outcome,
        list_sort(list_distinct(flatten(list(l.scope_flags) FILTER (l.outcome IS NOT NULL)))) AS flags,
        map_from_entries(list({k: l.outcome, v: l.risk}) FILTER (l.outcome IS NOT NULL)) AS risks
    FROM wanted w
    JOIN pseudonyms p ON p.subject_id = w.subject_id AND p.run_id = $run
    LEFT JOIN longest l ON l.subject_id = w.subject_id
    GROUP BY w.subject_id
"""
_ROWS: Final = """
    SELECT t.position, t.pseudonym, t.change, t.changed_outcome, t.flags, s.outcome, s.risk, s.risk_low, s.risk_high
    FROM listed t
    LEFT JOIN (
        SELECT * FROM risk_scores JOIN (
            SELECT outcome, max(horizon_years) AS horizon_years FROM risk_scores WHERE run_id = $run GROUP BY outcome
        ) USING (outcome, horizon_years) WHERE run_id = $run
    ) s ON s.subject_id = t.subject_id
    ORDER BY t.position, s.outcome
"""


@dataclass(frozen=True)
class Counts:
    """assessed: people with a risk, by outcome. flagged: with a warning. changed: by more than CHANGED_POINTS."""

    people: int
    assessed: dict[str, int]
    flagged: int
    changed: int


class Listed:
    """The people of one report as the index needs them. before: (run_id, as_of) of the run before, None without one."""

    def __init__(self, scores: Scores, subjects: Sequence[int]) -> None:
        self.run_id = scores.run["run_id"]
        self._connection: duckdb.DuckDBPyConnection = scores.cursor()
        self.outcomes = scores.longest_horizons()
        found = self._connection.execute(_BEFORE).fetchall()
        kept = found and self._all("SELECT 1 FROM risk_scores WHERE run_id = $run LIMIT 1", run=found[0][0])
        self.before: Row | None = {"run_id": found[0][0], "as_of": found[0][1]} if kept else None
        self._connection.execute(
            _LISTED,
            {
                "subjects": list(subjects),
                "run": self.run_id,
                "before": self.before["run_id"] if self.before else None,
            },
        ).fetchall()

    def __len__(self) -> int:
        return int(self._all("SELECT count(*) FROM listed")[0][0])

    def counts(self) -> Counts:
        flagged, changed = self._all(
            f"SELECT count(*) FILTER (len(flags) > 0), count(*) FILTER (abs(change) > {CHANGED_POINTS}) FROM listed"
        )[0]
        assessed = {
            name: int(self._all("SELECT count(*) FROM listed WHERE map_contains(risks, $outcome)", outcome=name)[0][0])
            for name, _ in self.outcomes
        }
        return Counts(len(self), assessed, int(flagged), int(changed))

    def rows(self) -> Iterator[dict[str, Any]]:
        """In the first order: pseudonym, cells by outcome (None = not assessed), change, changed_outcome, flags."""
        # A temporary table is its connection's own: rows and orders are read one after the other.
        cursor = self._connection.execute(_ROWS, {"run": self.run_id})
        names = [column[0] for column in cursor.description or []]

        def stream() -> Iterator[Row]:
            while batch := cursor.fetchmany(10_000):
                yield from (dict(zip(names, values, strict=True)) for values in batch)

        for _, group in groupby(stream(), key=lambda row: int(row["position"])):
            risks = list(group)
            by_outcome = {row["outcome"]: row for row in risks}
            yield {
                "pseudonym": risks[0]["pseudonym"],
                "cells": [by_outcome.get(outcome) for outcome, _ in self.outcomes],
                "change": risks[0]["change"],
                "changed_outcome": risks[0]["changed_outcome"],
                "flags": risks[0]["flags"] or [],
            }

    def by_outcome(self, outcome: str) -> "array[int]":
        """Highest risk of one outcome first; who was not assessed for it comes last."""
        return self._positions("risks[$outcome] DESC NULLS LAST", outcome=outcome)

    def by_change(self) -> "array[int]":
        """Largest change since the run before first, up or down."""
        return self._positions("abs(change) DESC NULLS LAST")

    def by_flags(self) -> "array[int]":
        """Most warnings first."""
        return self._positions("coalesce(len(flags), 0) DESC")

    def _positions(self, order: str, **values: object) -> "array[int]":
        cursor = self._connection.execute(f"SELECT position FROM listed ORDER BY {order}, position", values or None)
        found = array("q")
        while batch := cursor.fetchmany(10_000):
            found.extend(row[0] for row in batch)
        return found

    def _all(self, query: str, **values: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, values or None).fetchall()
