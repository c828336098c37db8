"""The quality gate: what a night must not show before it replaces the one before."""

from typing import TYPE_CHECKING

from duckdb import DuckDBPyConnection

from riskpred.score.verify import pair_counts

if TYPE_CHECKING:
    from riskpred.config.night import Gates

_LEAST = 20
"""Subjects below which a share says nothing: one of ten people is not an alarm."""

_SHIFTED = """
    WITH longest AS (
        SELECT outcome, max(horizon_years) AS horizon_years FROM risk_scores WHERE run_id = $run GROUP BY outcome
    ), both_nights AS (
        SELECT s.subject_id, max(abs(s.risk - b.risk)) * 100 AS moved
        FROM risk_scores s JOIN longest USING (outcome, horizon_years)
        JOIN risk_scores b ON b.run_id = $before AND b.subject_id = s.subject_id AND b.outcome = s.outcome
            AND b.horizon_years = s.horizon_years
        WHERE s.run_id = $run AND NOT s.carried GROUP BY s.subject_id
    )
    SELECT count(*) FILTER (moved > $points), (
        SELECT count(DISTINCT s.subject_id) FROM risk_scores s
        WHERE s.run_id = $run AND (s.carried OR s.subject_id IN (SELECT subject_id FROM both_nights))
    ) FROM both_nights
"""


def refusals(connection: DuckDBPyConnection, run_id: str, before: str | None, gates: "Gates") -> list[str]:
    """Why the night must not be published, in words; [] = it may.

    A risk that was carried has not shifted. Shifts are judged against the night that this one carries from; another
    bundle's risks are another matter.

    Args: before: run_id of that night, None = there is none.
    """
    counts = pair_counts(connection, run_id)
    found = []
    eligible, rejected = counts["eligible_pairs"], counts["rejected_pairs"]
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
