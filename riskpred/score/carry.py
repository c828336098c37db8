"""Whose last published score still stands: same subject_digest, bundle and numeric path, still valid at as_of.

Nothing of theirs is copied: the new night stands on the rows that the earlier one stands on.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa
from duckdb import DuckDBPyConnection
from numpy.typing import NDArray

from riskpred.features.batch import NO_USABLE_INPUT
from riskpred.records.schema import table_schema
from riskpred.score.content import Content, stored_content
from riskpred.score.layout import PER_NIGHT, STANDING, Rows
from riskpred.score.plan import Night, iso
from riskpred.score.store import open_published

_STILL_STANDS: Final = """
    SELECT t.subject_id
    FROM tonight t JOIN (
        SELECT subject_id, any_value(subject_digest) AS subject_digest,
               bool_or(status = 'rejected' AND reason IS DISTINCT FROM $no_input) AS rejected,
               min(valid_until) AS valid_until, max(prediction_time) AS prediction_time
        FROM eligibility WHERE run_id = $run GROUP BY subject_id
    ) e ON e.subject_id = t.subject_id AND e.subject_digest = t.digest
    WHERE NOT e.rejected AND e.prediction_time <= $as_of::TIMESTAMP AND $as_of::TIMESTAMP < e.valid_until
        AND t.subject_id NOT IN (
            SELECT subject_id FROM input_receipts WHERE run_id = $run AND status = 'rejected'
        )
        AND (NOT $images OR t.subject_id NOT IN (
            SELECT subject_id FROM rejects WHERE run_id = $run AND source = 'images' AND field = 'path'
                AND reason <> 'incomplete_row' AND subject_id IS NOT NULL
        ))
    ORDER BY t.subject_id
"""


@dataclass(frozen=True)
class Standing:
    """The subjects that are carried, and the published night they are carried from.

    Shape: subject_id (C,) ascending. run_id: None = there is no such night, and C = 0.
    nights: published nights that the file holds rows of.   content: digest of the risks that are carried.
    damaged: run_id of a night that nobody is carried from because its risks are not those it published.
    """

    run_id: str | None
    subject_id: NDArray[np.int64]
    nights: int
    content: Content = field(default_factory=Content)
    damaged: str | None = None


def standing(
    scores: Path,
    night: Night,
    subject_id: NDArray[np.int64],
    digest: pa.Array,
    rescore: bool = False,
    every_image: bool = False,
) -> Standing:
    """Who of tonight's subjects need not be computed.

    Subjects whose input was refused last night are computed anew: what could not be read may be readable tonight. Those
    who had no input at all stay as they are: an input would change their digest.

    Args:
        subject_id, digest: of everyone in the warehouse, `Warehouse.subject_digests`.
        rescore: carry nobody.
        every_image: of whoever had an image that could not be read, too: findings are of all images, not the latest.

    Raises: OutputError, when `scores` is there and is no scores file.
    """
    nobody = np.empty(0, dtype=np.int64)
    if not scores.exists():
        return Standing(None, nobody, 0)
    connection = open_published(scores)
    try:
        nights = connection.execute("SELECT count(*) FROM runs WHERE status = 'published'").fetchall()[0][0]
        run_id = _carrying_from(connection, night)
        if run_id is None or rescore:
            return Standing(run_id, nobody, nights)
        connection.register("tonight", pa.table({"subject_id": subject_id, "digest": digest}))
        found = (
            connection.sql(
                _STILL_STANDS,
                params={"run": run_id, "as_of": iso(night.as_of), "no_input": NO_USABLE_INPUT, "images": every_image},
            )
            .to_arrow_table()
            .column(0)
        )
        if not len(found):
            return Standing(run_id, nobody, nights)
        content, whole = _carried_content(connection, run_id, found)
        if not whole:
            return Standing(None, nobody, nights, damaged=run_id)
        return Standing(run_id, found.to_numpy(), nights, content)
    finally:
        connection.close()


def _carried_content(connection: DuckDBPyConnection, run_id: str, subject_id: pa.ChunkedArray) -> tuple[Content, bool]:
    """Digest of the risks to carry; whether all risks of that night are still those that it published.

    Every stored risk is read for it: what a bad disk or a stray UPDATE changed must not be carried on.
    """
    connection.register("to_carry", pa.table({"subject_id": subject_id}))
    try:
        everyone = stored_content(connection, Rows(run_id).of("risk_scores"))
        others = stored_content(
            connection, f"(SELECT * FROM {Rows(run_id).of('risk_scores')} ANTI JOIN to_carry USING (subject_id))"
        )
    finally:
        connection.unregister("to_carry")
    (published,) = connection.execute("SELECT content_digest FROM runs WHERE run_id = ?", [run_id]).fetchall()[0]
    return everyone - others, everyone.digest == published


def _carrying_from(connection: DuckDBPyConnection, night: Night) -> str | None:
    """The newest published night of the same bundle and numeric path that still has its rows."""
    found = connection.execute(
        f"""
        SELECT run_id FROM runs
        WHERE status = 'published' AND bundle_sha256 = $bundle AND numeric_path = $path
            AND run_id IN (SELECT DISTINCT run_id FROM {STANDING})
        ORDER BY as_of DESC, finished_at DESC LIMIT 1
        """,
        {"bundle": night.bundle_sha256, "path": night.numeric_path},
    ).fetchall()
    return found[0][0] if found else None


def carry_over(connection: DuckDBPyConnection, source: str, run_id: str, subject_id: NDArray[np.int64]) -> None:
    """Let these subjects stand, in a night, on the rows on which they stand in another.

    A scored pair becomes a carried one; everything else keeps what it says, prediction_time and scored_at too.
    """
    if not len(subject_id):
        return
    connection.register("carried_now", pa.table({"subject_id": subject_id}))
    nights = {"source": source, "run": run_id}
    try:
        connection.execute(
            f"INSERT INTO {STANDING} SELECT $run, subject_id, computation, true "
            f"FROM {STANDING} JOIN carried_now USING (subject_id) WHERE run_id = $source",
            nights,
        )
        for table in sorted(PER_NIGHT):
            names = table_schema("scores", table).names
            columns = ", ".join("$run" if name == "run_id" else f'"{name}"' for name in names)
            connection.execute(
                f'INSERT INTO "{table}" SELECT {columns} FROM "{table}" SEMI JOIN carried_now USING (subject_id) '
                f"WHERE run_id = $source{_UNLESS.get(table, '')}",
                nights,
            )
    finally:
        connection.unregister("carried_now")


_UNLESS: Final = {"rejects": " AND reason <> 'incomplete_row'"}
"""Rows that every night writes anew, whoever they belong to."""


def top_of(
    connection: duckdb.DuckDBPyConnection, run_id: str, subject_id: NDArray[np.int64], count: int
) -> list[tuple[int, float, int, bool]]:
    """The `count` carried subjects of highest percentile at each outcome's longest horizon.

    Returns: (subject_id, percentile, prediction_time in UTC microseconds, whether feature reasons are there) of each.
    """
    connection.register("asked_now", pa.table({"subject_id": subject_id}))
    try:
        return connection.execute(
            """
            WITH longest AS (
                SELECT outcome, max(horizon_years) AS horizon_years FROM risk_scores WHERE run_id = $run GROUP BY 1
            ), top AS (
                SELECT s.subject_id, max(s.percentile) AS percentile, epoch_us(max(s.prediction_time)) AS moment
                FROM risk_scores s JOIN longest USING (outcome, horizon_years) JOIN asked_now USING (subject_id)
                WHERE s.run_id = $run GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT $count
            )
            SELECT subject_id, percentile, moment, subject_id IN (
                SELECT subject_id FROM explanations WHERE run_id = $run AND level = 'feature'
            ) FROM top ORDER BY percentile DESC, subject_id
            """,
            {"run": run_id, "count": count},
        ).fetchall()
    finally:
        connection.unregister("asked_now")
