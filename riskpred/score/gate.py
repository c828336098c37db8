"""The quality gate: what a night must not show before it replaces the one before."""

from typing import TYPE_CHECKING

from duckdb import DuckDBPyConnection

from riskpred.score.layout import SCHEMA, STANDING
from riskpred.score.verify import status_counts

if TYPE_CHECKING:
    from riskpred.config.night import Gates

_LEAST = 20
"""Subjects below which a share says nothing: one of ten people is not an alarm."""

_SHIFTED = f"""
    WITH computed AS (
        SELECT r.subject_id, r.outcome, r.horizon_years, r.risk
        FROM {STANDING} n JOIN {SCHEMA}.risk_scores r USING (subject_id, computation)
        WHERE n.run_id = $run AND NOT n.carried
    ), longest AS (
        SELECT outcome, max(horizon_years) AS horizon_years FROM computed GROUP BY outcome
    ), both_nights AS (
        SELECT s.subject_id, max(abs(s.risk - b.risk)) * 100 AS moved
        FROM computed s JOIN longest USING (outcome, horizon_years)
        JOIN risk_scores b ON b.run_id = $before AND b.subject_id = s.subject_id AND b.outcome = s.outcome
            AND b.horizon_years = s.horizon_years
        GROUP BY s.subject_id
    )
    SELECT count(*) FILTER (moved > $points), count(*) + (
        SELECT count(DISTINCT subject_id) FROM eligibility WHERE run_id = $run AND status = 'carried'
    ) FROM both_nights
"""


def refusals(connection: DuckDBPyConnection, run_id: str, before: str | None, gates: "Gates") -> list[str]:
    """Why the night must not be published, in words; [] = it may.

    A risk that was carried has not shifted. Shifts are judged against the night that this one carries from; another
    bundle's risks are another matter.

    Args: before: run_id of that night, None = there is none.
    """
    counts = status_counts(connection, run_id)
    found = []
    eligible, rejected = sum(counts.values()) - counts["out_of_scope"], counts["rejected"]
    if eligible >= _LEAST and rejected > gates.max_rejected_share * eligible:
        found.append(
            f"{rejected:,} of {eligible:,} eligible pairs got no risk "
            f"({rejected / eligible:.1%}, allowed {gates.max_rejected_share:.1%})"
        )
    if before is not None:
        shifted, both = connection.execute(
            _SHIFTED, {"run": run_id, "before": before, "points": gates.shifted_by_points}
        ).fetchall()[0]
        if both >= _LEAST and shifted > gates.max_shifted_share * both:
            found.append(
                f"{shifted:,} of {both:,} subjects scored on both nights moved by more than "
                f"{gates.shifted_by_points:g} risk points ({shifted / both:.1%}, allowed {gates.max_shifted_share:.1%})"
            )
    return found
