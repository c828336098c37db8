"""What the latest published run says of some subjects: what their reasons must be computed from, and add up to."""

from dataclasses import dataclass
from pathlib import Path

from duckdb import DuckDBPyConnection

from riskpred.errors import InputError
from riskpred.score.views import nights

Risks = dict[tuple[int, str, float], float]


@dataclass(frozen=True)
class Published:
    """One run, and its chosen subjects.

    digest, prediction_time: by subject, UTC microseconds.   risk: (subject, outcome, horizon_years) -> risk.
    """

    run_id: str
    bundle_sha256: str
    numeric_path: str
    digest: dict[int, str]
    prediction_time: dict[int, int]
    risk: Risks


def read_published(connection: DuckDBPyConnection, scores: Path, subject: int | None, top: int | None) -> Published:
    """Read one subject, or the top N, of the latest published run of the scores file.

    Raises: InputError, when there is no published run, or no risk of that subject in it.
    """
    rows = connection.execute(
        f"SELECT run_id, bundle_sha256, numeric_path FROM {nights()} JOIN runs USING (run_id) WHERE age = 1"
    ).fetchall()
    if not rows:
        raise InputError(f"{scores}: no published run.", wanted="at least one", do="run `riskpred score` first")
    run_id, bundle_sha256, numeric_path = rows[0]
    chosen = [subject] if subject is not None else _top(connection, run_id, top or 0)
    asked = {"run": run_id, "subjects": chosen}
    among = "WHERE run_id = $run AND subject_id IN (SELECT unnest($subjects::BIGINT[]))"
    found = connection.execute(
        f"""
        SELECT subject_id, outcome, horizon_years, risk, epoch_us(prediction_time) FROM risk_scores {among}
        """,
        asked,
    ).fetchall()
    if not found:
        raise InputError(
            f"{scores}: no risk of the subject asked for in the latest run, {run_id}.",
            wanted="a subject_id of latest_risk_scores",
            do="the table eligibility says per subject and outcome why there is none",
        )
    digests = connection.execute(
        f"SELECT DISTINCT subject_id, subject_digest FROM eligibility {among}", asked
    ).fetchall()
    return Published(
        run_id,
        bundle_sha256,
        numeric_path,
        digest={row[0]: row[1] for row in digests},
        prediction_time={row[0]: row[4] for row in found},
        risk={(row[0], row[1], row[2]): row[3] for row in found},
    )


def _top(connection: DuckDBPyConnection, run_id: str, count: int) -> list[int]:
    """Highest percentile over outcomes at each outcome's longest horizon; ties by subject_id."""
    rows = connection.execute(
        """
        WITH longest AS (
            SELECT outcome, max(horizon_years) AS horizon_years FROM risk_scores
            WHERE run_id = $run GROUP BY outcome
        )
        SELECT subject_id FROM risk_scores JOIN longest USING (outcome, horizon_years)
        WHERE run_id = $run GROUP BY subject_id ORDER BY max(percentile) DESC, subject_id LIMIT $count
        """,
        {"run": run_id, "count": count},
    ).fetchall()
    return [row[0] for row in rows]
