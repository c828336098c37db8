"""What must hold of a night before anyone may read it: counts, keys, ranges, sums of contributions.

Every check is one pass over the stored rows without sorting or joining them: two sets of keys are the same when their
counts and the sums of their hashes are. What needs neighbours (a risk falls with the horizon) is in `content`.
"""

from typing import Final

from duckdb import DuckDBPyConnection

from riskpred.records.schema import table_schema
from riskpred.score.content import Content, stored_content

_FINITE = ("risk", "risk_low", "risk_high", "reference_risk", "percentile")

_RANGES: Final = {
    "a risk that is NaN or infinite": "NOT (" + " AND ".join(f"isfinite({column})" for column in _FINITE) + ")",
    "a risk outside 0 <= low <= risk <= high <= 1": (
        "NOT (0 <= risk_low AND risk_low <= risk AND risk <= risk_high AND risk_high <= 1)"
    ),
    "a reference risk or percentile outside 0 to 1": (
        "NOT (reference_risk BETWEEN 0 AND 1 AND percentile BETWEEN 0 AND 1)"
    ),
}

_TOLERANCE: Final = 0.001
"""Risk points by which contributions may miss risk - reference_risk."""

# A pseudo-random weight from 1 to 2 of each risk: if weighted sums agree, so does every one of them.
_WEIGHT = "(1 + (hash(subject_id) % 1024)::DOUBLE / 1024)"

_FEATURE_SUMS: Final = """
    SELECT count(*) FROM (
        SELECT subject_id, outcome, horizon_years, sum(contribution) AS total
        FROM explanations WHERE run_id = $run AND level = 'feature' GROUP BY ALL
    ) e LEFT JOIN (SELECT * FROM risk_scores WHERE run_id = $run) s USING (subject_id, outcome, horizon_years)
    WHERE s.risk IS NULL OR abs(e.total - 100 * (s.risk - s.reference_risk)) > $tolerance
"""


def verify_rows(connection: DuckDBPyConnection, run_id: str, expected: Content | None = None) -> Content:
    """Raise AssertionError when a stored row of the run breaks a promise: the night must not be published.

    Args:
        expected: digest of what was computed and carried; None = any (later reasons leave the risks as they are).

    Returns: digest of the stored risks.
    """
    run: dict[str, object] = {"run": run_id}
    broken = _ranges(connection, run) + _keys(connection, run) + _contributions(connection, run)
    content = stored_content(connection, "run_id = $run", run)
    if content.falling:
        broken.append(f"a risk that falls with the horizon ({content.falling:,})")
    if expected is not None and (content.rows, content.digest) != (expected.rows, expected.digest):
        broken.append(f"content_digest is not that of the {expected.rows:,} rows computed and carried")
    if broken:
        raise AssertionError(f"night {run_id} not published: {'; '.join(broken)}")
    return content


def _ranges(connection: DuckDBPyConnection, run: dict[str, object]) -> list[str]:
    columns = ", ".join(f"count(*) FILTER ({condition})" for condition in _RANGES.values())
    counts = connection.execute(f"SELECT {columns} FROM risk_scores WHERE run_id = $run", run).fetchall()[0]
    return [f"{what} ({count:,})" for what, count in zip(_RANGES, counts, strict=True) if count]


def _keys(connection: DuckDBPyConnection, run: dict[str, object]) -> list[str]:
    """Every (subject, outcome) once in eligibility; its risks at every horizon of the outcome, or at none."""
    broken = []
    outcomes = connection.execute(
        """
        SELECT outcome, count(*), sum(hash(subject_id)), count(*) FILTER (status IN ('scored', 'carried')),
               sum(hash(subject_id)) FILTER (status IN ('scored', 'carried'))
        FROM eligibility WHERE run_id = $run GROUP BY outcome
        """,
        run,
    ).fetchall()
    everyone = connection.execute(
        "SELECT count(*), sum(hash(subject_id)), count(DISTINCT subject_id) FROM pseudonyms WHERE run_id = $run", run
    ).fetchall()[0]
    if everyone[0] != everyone[2]:
        broken.append(f"a key twice in pseudonyms ({everyone[0] - everyone[2]:,})")
    if any(found[1:3] != everyone[:2] for found in outcomes):
        broken.append("a key twice in eligibility, or a subject without its pair")
    scored = {found[0]: found[3:] for found in outcomes}
    risks = {
        found[:2]: found[2:]
        for found in connection.execute(
            "SELECT outcome, horizon_years, count(*), sum(hash(subject_id)) "
            "FROM risk_scores WHERE run_id = $run GROUP BY ALL",
            run,
        ).fetchall()
    }
    for (outcome, _), (count, keys) in risks.items():
        wanted, wanted_keys = scored.get(outcome, (0, None))
        if count > wanted:
            broken.append(f"a key twice in risk_scores, or risks without a scored pair ({count - wanted:,})")
        elif (count, keys) != (wanted, wanted_keys):
            broken.append(f"a scored pair without its risks, or other risks than those ({wanted - count:,})")
    without = sum(count for outcome, (count, _) in scored.items() if count and outcome not in {o for o, _ in risks})
    if without:
        broken.append(f"a scored pair without its risks ({without:,})")
    return broken + _modality_keys(connection, run, risks) + _other_keys(connection, run)


def _modality_keys(
    connection: DuckDBPyConnection, run: dict[str, object], risks: dict[tuple[object, ...], tuple[object, ...]]
) -> list[str]:
    """Every risk has one row of level "modality" per modality."""
    reasons = connection.execute(
        "SELECT modality, outcome, horizon_years, count(*), sum(hash(subject_id)) FROM explanations "
        "WHERE run_id = $run AND level = 'modality' GROUP BY ALL",
        run,
    ).fetchall()
    modalities = {found[0] for found in reasons}
    found = {found[:3]: found[3:] for found in reasons}
    wrong = sum(
        found.get((modality, *target)) != counted
        for target, counted in risks.items()
        for modality in (modalities or {None})
    )
    return [f"risks without modality reasons, or such reasons twice ({wrong:,} targets)"] if wrong else []


def _other_keys(connection: DuckDBPyConnection, run: dict[str, object]) -> list[str]:
    broken = []
    for table, where in (("input_receipts", ""), ("explanations", "AND level = 'feature'"), ("findings", "")):
        key = [f'"{name}"' for name in table_schema("scores", table).key]
        count, distinct = connection.execute(
            f'SELECT count(*), count(DISTINCT hash({", ".join(key)})) FROM "{table}" WHERE run_id = $run {where}', run
        ).fetchall()[0]
        if count != distinct:
            broken.append(f"a key twice in {table} ({count - distinct:,})")
    return broken


def _contributions(connection: DuckDBPyConnection, run: dict[str, object]) -> list[str]:
    """Modality reasons and feature reasons each add up to risk - reference_risk, in risk points."""
    broken = []
    infinite = connection.execute(
        "SELECT count(*) FILTER (NOT isfinite(contribution)) FROM explanations WHERE run_id = $run", run
    ).fetchall()[0][0]
    if infinite:
        return [f"a contribution that is NaN or infinite ({infinite:,})"]
    told, wanted = (
        {
            tuple(target): total
            for *target, total in connection.execute(
                f"SELECT outcome, horizon_years, sum({_WEIGHT} * {number}) FROM {table} "
                f"WHERE run_id = $run {where} GROUP BY ALL",
                run,
            ).fetchall()
        }
        for table, number, where in (
            ("explanations", "contribution", "AND level = 'modality'"),
            ("risk_scores", "100 * (risk - reference_risk)", ""),
        )
    )
    # No risk may miss by more than the tolerance; honest ones miss by rounding alone, so that their sum may not either.
    wrong = sum(not abs(told.get(target, 0.0) - total) <= _TOLERANCE for target, total in wanted.items())
    if wrong:
        broken.append(f"contributions that do not sum to risk - reference_risk ({wrong:,} targets)")
    features = connection.execute(_FEATURE_SUMS, {**run, "tolerance": _TOLERANCE}).fetchall()[0][0]
    if features:
        broken.append(f"feature contributions that do not sum to risk - reference_risk ({features:,})")
    return broken


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
