"""What must hold of a night before anyone may read it: counts, keys, ranges, sums of contributions.

Every check is one pass over the stored rows without sorting or joining them: two sets of keys are the same when their
counts and the sums of their hashes are. What needs neighbours (a risk falls with the horizon) is in `content`.
"""

from typing import Final

from duckdb import DuckDBPyConnection

from riskpred.records.schema import table_schema
from riskpred.score.content import Content, stored_content
from riskpred.score.layout import COMPUTATIONS, STANDING, Rows

_FINITE = ("risk", "risk_low", "risk_high", "reference_risk", "percentile")

_TOLERANCE: Final = 0.001
"""Risk points by which contributions may miss risk - reference_risk."""

_ROUNDING: Final = 1e-6
"""Risk points by which moments may miss the features of their series, and regions the image: sums of the same numbers,
or with a row for what is missing."""

_OF_NO_INPUT: Final = "('(presence)', '(unexplained)')"
"""Feature rows of a series that no moment is part of."""

_RANGES: Final = {
    "a risk that is NaN or infinite": "NOT (" + " AND ".join(f"isfinite({column})" for column in _FINITE) + ")",
    "a risk outside 0 <= low <= risk <= high <= 1": (
        "NOT (0 <= risk_low AND risk_low <= risk AND risk <= risk_high AND risk_high <= 1)"
    ),
    "a reference risk or percentile outside 0 to 1": (
        "NOT (reference_risk BETWEEN 0 AND 1 AND percentile BETWEEN 0 AND 1)"
    ),
    "a risk without a contribution of each modality": "len(contributions) IS DISTINCT FROM len(modalities)",
    "a contribution that is NaN or infinite": "NOT isfinite(list_sum(contributions))",
    "contributions that do not sum to risk - reference_risk": (
        f"abs(list_sum(contributions) - 100 * (risk - reference_risk)) > {_TOLERANCE}"
    ),
}


def verify_night(
    connection: DuckDBPyConnection, run_id: str, computation: int | None, computed: Content, carried: Content
) -> Content:
    """Raise AssertionError when a stored row of the night breaks a promise: it must not be published.

    Every risk is read, and must be one that was computed or carried. What was carried was checked in the night that
    computed it; its rows are the same if their digest is, so that the other checks are of tonight's rows alone.

    Args: computation: tonight's, None = nobody was computed.   computed, carried: digests of what must be stored.
    Returns: digest of the stored risks.
    """
    broken = _everyone(connection, run_id)
    if computation is not None:
        broken += _rows(connection, Rows(computation=computation))
    content = stored_content(connection, Rows(run_id).of("risk_scores"))
    expected = computed + carried
    if (content.rows, content.digest) != (expected.rows, expected.digest):
        broken.append(f"content_digest is not that of the {expected.rows:,} rows computed and carried")
    return _judged(run_id, content, broken)


def verify_rows(connection: DuckDBPyConnection, run_id: str) -> Content:
    """Check every row of a night, carried or not; for a change that leaves its risks as they are.

    Raises: AssertionError, when one breaks a promise. Returns: digest of the stored risks.
    """
    broken = _everyone(connection, run_id) + _rows(connection, Rows(run_id))
    return _judged(run_id, stored_content(connection, Rows(run_id).of("risk_scores")), broken)


def _judged(run_id: str, content: Content, broken: list[str]) -> Content:
    if content.falling:
        broken.append(f"a risk that falls with the horizon ({content.falling:,})")
    if broken:
        raise AssertionError(f"night {run_id} not published: {'; '.join(broken)}")
    return content


def _rows(connection: DuckDBPyConnection, rows: Rows) -> list[str]:
    return (
        _ranges(connection, rows)
        + _risk_keys(connection, rows)
        + _other_keys(connection, rows)
        + _feature_reasons(connection, rows)
        + _finer_reasons(connection, rows)
    )


def _everyone(connection: DuckDBPyConnection, run_id: str) -> list[str]:
    """Every subject of the night once, with a pseudonym and with a pair for every outcome."""
    broken, rows = [], Rows(run_id)
    count, distinct, keys = connection.execute(
        f"SELECT count(*), count(DISTINCT subject_id), sum(hash(subject_id)) FROM {STANDING} WHERE run_id = ?", [run_id]
    ).fetchall()[0]
    if count != distinct:
        broken.append(f"a subject that stands twice in a night ({count - distinct:,})")
    named = connection.execute(f"SELECT count(*), sum(hash(subject_id)) FROM {rows.of('pseudonyms')}").fetchall()[0]
    if named != (count, keys):
        broken.append(f"a key twice in pseudonyms, or a subject without one ({abs(named[0] - count):,})")
    pairs = connection.execute(
        f"SELECT outcome, count(*), sum(hash(subject_id)) FROM {rows.of('eligibility')} GROUP BY outcome"
    ).fetchall()
    if any(found[1:] != (count, keys) for found in pairs):
        broken.append("a key twice in eligibility, or a subject without its pair")
    return broken


def _ranges(connection: DuckDBPyConnection, rows: Rows) -> list[str]:
    columns = ", ".join(f"count(*) FILTER ({condition})" for condition in _RANGES.values())
    counts = connection.execute(
        f"SELECT {columns} FROM {rows.of('risk_scores')} LEFT JOIN {COMPUTATIONS} USING (computation)"
    ).fetchall()[0]
    return [f"{what} ({count:,})" for what, count in zip(_RANGES, counts, strict=True) if count]


def _risk_keys(connection: DuckDBPyConnection, rows: Rows) -> list[str]:
    """A scored pair has its risks at every horizon of the outcome, any other pair none."""
    broken = []
    scored = {
        outcome: (count, keys)
        for outcome, count, keys in connection.execute(
            f"""
            SELECT outcome, count(*) FILTER (status = 'scored'), sum(hash(subject_id)) FILTER (status = 'scored')
            FROM {rows.of("eligibility")} GROUP BY outcome
            """
        ).fetchall()
    }
    risks = {
        found[:2]: found[2:]
        for found in connection.execute(
            f"SELECT outcome, horizon_years, count(*), sum(hash(subject_id)) FROM {rows.of('risk_scores')} GROUP BY ALL"
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
    return broken


def _other_keys(connection: DuckDBPyConnection, rows: Rows) -> list[str]:
    broken = []
    for table in ("input_receipts", "explanations", "findings"):
        key = [f'"{name}"' for name in table_schema("scores", table).key if name != "run_id"]
        # Two people may have images of one name: that is for the warehouse to be told of, not for a night to end by.
        key += ["subject_id"] if table == "findings" else []
        count, distinct = connection.execute(
            f"SELECT count(*), count(DISTINCT hash({', '.join(key)})) FROM {rows.of(table)}"
        ).fetchall()[0]
        if count != distinct:
            broken.append(f"a key twice in {table} ({count - distinct:,})")
    return broken


def _feature_reasons(connection: DuckDBPyConnection, rows: Rows) -> list[str]:
    """The reasons of each explained risk add up to risk - reference_risk, in risk points."""
    infinite, wrong = connection.execute(
        f"""
        WITH told AS (
            SELECT subject_id, outcome, horizon_years, sum(contribution) AS total,
                   count(*) FILTER (NOT isfinite(contribution)) AS infinite
            FROM {rows.of("explanations")} WHERE level = 'feature' GROUP BY ALL
        )
        SELECT coalesce(sum(infinite), 0), count(*) FILTER (
            s.risk IS NULL OR abs(total - 100 * (s.risk - s.reference_risk)) > {_TOLERANCE}
        ) FROM told LEFT JOIN {rows.of("risk_scores")} s USING (subject_id, outcome, horizon_years)
        """
    ).fetchall()[0]
    if infinite:
        return [f"a contribution that is NaN or infinite ({infinite:,})"]
    return [f"feature contributions that do not sum to risk - reference_risk ({wrong:,})"] if wrong else []


def _finer_reasons(connection: DuckDBPyConnection, rows: Rows) -> list[str]:
    """Moments add up to the features of their series, regions to the feature `image`, in risk points.

    Where a modality has them for anyone, all that its features say is divided. What contributes exactly 0 has no row.
    """
    key = "subject_id, outcome, horizon_years, modality"
    broken = []
    for level, condition, what in (
        ("moment", f"feature NOT IN {_OF_NO_INPUT}", "moments that do not sum to the features of their series"),
        ("region", "feature = 'image'", "regions that do not sum to their image"),
    ):
        wrong, infinite = connection.execute(
            f"""
            WITH told AS (
                SELECT {key}, sum(contribution) AS total, count(*) FILTER (NOT isfinite(contribution)) AS infinite
                FROM {rows.of("explanations")} WHERE level = '{level}' GROUP BY ALL
            ), above AS (
                SELECT {key}, sum(contribution) AS total
                FROM {rows.of("explanations")} WHERE level = 'feature' AND {condition}
                    AND modality IN (SELECT modality FROM told) GROUP BY ALL
            )
            SELECT count(*) FILTER (NOT abs(coalesce(told.total, 0) - coalesce(above.total, 0)) <= {_ROUNDING}),
                coalesce(sum(infinite), 0)
            FROM told FULL JOIN above USING ({key})
            """
        ).fetchall()[0]
        if infinite:
            broken.append(f"a contribution of level {level} that is NaN or infinite ({infinite:,})")
        elif wrong:
            broken.append(f"{what} ({wrong:,})")
    return broken


def pair_counts(connection: DuckDBPyConnection, run_id: str) -> dict[str, int]:
    """Counts of the ledger, from the stored rows: subjects, pairs by status, rows of risk_scores."""
    rows = Rows(run_id)
    by_status = status_counts(connection, run_id)
    (subjects,) = connection.execute(f"SELECT count(*) FROM {STANDING} WHERE run_id = ?", [run_id]).fetchall()[0]
    (risks,) = connection.execute(f"SELECT count(*) FROM {rows.of('risk_scores')}").fetchall()[0]
    eligible = sum(by_status.values()) - by_status["out_of_scope"]
    return {
        "subjects": subjects,
        "considered_pairs": sum(by_status.values()),
        "eligible_pairs": eligible,
        "scored_pairs": by_status["scored"],
        "carried_pairs": by_status["carried"],
        "rejected_pairs": by_status["rejected"],
        "out_of_scope_pairs": by_status["out_of_scope"],
        "risk_rows": risks,
    }


def status_counts(connection: DuckDBPyConnection, run_id: str) -> dict[str, int]:
    """Pairs of a night by status."""
    counts = dict.fromkeys(("scored", "carried", "rejected", "out_of_scope"), 0)
    found = dict(
        connection.execute(
            "SELECT status, count(*) FROM eligibility WHERE run_id = ? GROUP BY status", [run_id]
        ).fetchall()
    )
    assert found.keys() <= counts.keys(), "a status that the ledger does not know"
    return counts | found
