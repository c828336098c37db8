"""What must hold of a night before anyone may read it: counts, keys, ranges, order; and the digest of its content."""

from hashlib import sha256
from typing import Final

from duckdb import DuckDBPyConnection

from riskpred.records.schema import table_schema, tables

_FINITE = ("risk", "risk_low", "risk_high", "reference_risk", "percentile")

_RANGES: Final = {
    "a risk that is NaN or infinite": "SELECT count(*) FROM risk_scores WHERE run_id = $run AND NOT ("
    + " AND ".join(f"isfinite({column})" for column in _FINITE)
    + ")",
    "a risk outside 0 <= low <= risk <= high <= 1": """
        SELECT count(*) FROM risk_scores
        WHERE run_id = $run AND NOT (0 <= risk_low AND risk_low <= risk AND risk <= risk_high AND risk_high <= 1)
    """,
    "a reference risk or percentile outside 0 to 1": """
        SELECT count(*) FROM risk_scores
        WHERE run_id = $run AND NOT (reference_risk BETWEEN 0 AND 1 AND percentile BETWEEN 0 AND 1)
    """,
    "a risk that falls with the horizon": """
        SELECT count(*) FROM (
            SELECT risk - lag(risk) OVER w AS d, risk_low - lag(risk_low) OVER w AS dl,
                   risk_high - lag(risk_high) OVER w AS dh
            FROM risk_scores WHERE run_id = $run
            WINDOW w AS (PARTITION BY subject_id, outcome ORDER BY horizon_years)
        ) WHERE d < 0 OR dl < 0 OR dh < 0
    """,
    "a contribution that is NaN or infinite": """
        SELECT count(*) FROM explanations WHERE run_id = $run AND NOT isfinite(contribution)
    """,
    "contributions that do not sum to risk - reference_risk within .001 points": """
        SELECT count(*) FROM (
            SELECT subject_id, outcome, horizon_years, level, sum(contribution) AS total
            FROM explanations WHERE run_id = $run GROUP BY ALL
        ) e JOIN (SELECT * FROM risk_scores WHERE run_id = $run) s USING (subject_id, outcome, horizon_years)
        WHERE abs(e.total - 100 * (s.risk - s.reference_risk)) > 0.001
    """,
    "a scored pair without its risks, or risks without a scored pair": """
        SELECT count(*) FROM
            (SELECT subject_id, outcome FROM eligibility WHERE run_id = $run AND status IN ('scored', 'carried')) e
        FULL JOIN (SELECT DISTINCT subject_id, outcome FROM risk_scores WHERE run_id = $run) s
            USING (subject_id, outcome)
        WHERE e.subject_id IS NULL OR s.subject_id IS NULL
    """,
    "risks without modality reasons": """
        SELECT count(*) FROM (SELECT * FROM risk_scores WHERE run_id = $run) s
        ANTI JOIN (SELECT * FROM explanations WHERE run_id = $run AND level = 'modality') e
            USING (subject_id, outcome, horizon_years)
    """,
}


def verify_rows(connection: DuckDBPyConnection, run_id: str) -> None:
    """Raise AssertionError when a stored row of the run breaks a promise: the night must not be published."""
    checks = dict(_RANGES)
    for table in tables("scores"):
        key = ", ".join(f'"{name}"' for name in table_schema("scores", table).key)
        if key.startswith('"run_id"'):
            checks[f"a key twice in {table}"] = (
                f'SELECT count(*) FROM (SELECT {key} FROM "{table}" WHERE run_id = $run '
                "GROUP BY ALL HAVING count(*) > 1)"
            )
    broken = []
    for what, query in checks.items():
        count = connection.execute(query, {"run": run_id}).fetchall()[0][0]
        if count:
            broken.append(f"{what} ({count:,})")
    if broken:
        raise AssertionError(f"night {run_id} not published: {'; '.join(broken)}")


def pair_counts(connection: DuckDBPyConnection, run_id: str) -> dict[str, int]:
    """Counts of the ledger, from the stored rows: subjects, pairs by status, rows of risk_scores."""
    by_status = dict(
        connection.execute(
            "SELECT status, count(*) FROM eligibility WHERE run_id = $run GROUP BY status", {"run": run_id}
        ).fetchall()
    )
    subjects = connection.execute(
        "SELECT count(DISTINCT subject_id) FROM eligibility WHERE run_id = $run", {"run": run_id}
    ).fetchall()[0][0]
    rows = connection.execute("SELECT count(*) FROM risk_scores WHERE run_id = $run", {"run": run_id}).fetchall()[0][0]
    scored, carried, rejected, outside = (
        by_status.pop(status, 0) for status in ("scored", "carried", "rejected", "out_of_scope")
    )
    assert not by_status, "a status that the ledger does not know"
    eligible = scored + carried + rejected
    return {
        "subjects": subjects,
        "considered_pairs": eligible + outside,
        "eligible_pairs": eligible,
        "scored_pairs": scored,
        "carried_pairs": carried,
        "rejected_pairs": rejected,
        "out_of_scope_pairs": outside,
        "risk_rows": rows,
    }


def content_digest(connection: DuckDBPyConnection, run_id: str) -> str:
    """SHA-256 over the sorted rows of risk_scores without run_id, scored_at and carried: the same night, the same hex.

    Rows are hashed one by one in SQL and fed to SHA-256 in key order, so memory stays constant.
    """
    schema = table_schema("scores", "risk_scores")
    kept = [name for name in schema.names if name not in ("run_id", "scored_at", "carried")]
    order = ", ".join(name for name in schema.key if name != "run_id")
    row = ", ".join(f'"{name}"' for name in kept)
    reader = connection.sql(
        f"SELECT md5(ROW({row})::VARCHAR) AS digest FROM risk_scores WHERE run_id = $run ORDER BY {order}",
        params={"run": run_id},
    ).to_arrow_reader(100_000)
    digest = sha256()
    for batch in reader:
        digest.update("".join(batch.column(0).to_pylist()).encode())
    return digest.hexdigest()
