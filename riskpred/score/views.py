"""Views of the scores file: the questions an analyst asks every morning, over the newest published night.

The newest night is the published run with the latest as_of; of two with the same as_of, the one finished last.
"""

from typing import Final

from duckdb import DuckDBPyConnection

from riskpred.score.layout import create_table_views


def nights() -> str:
    """SQL of the published nights, age 1 = the newest: a subquery with run_id and age."""
    return (
        "(SELECT run_id, row_number() OVER (ORDER BY as_of DESC, finished_at DESC, run_id) AS age "
        "FROM runs WHERE status = 'published') nights"
    )


VIEWS: Final = {
    "latest_risk_scores": f"""
        SELECT s.* FROM risk_scores s JOIN {nights()} USING (run_id) WHERE age = 1
    """,
    "risk_changes": f"""
        SELECT
            s.subject_id, s.outcome, s.horizon_years, s.prediction_time, s.risk,
            b.prediction_time AS prediction_time_before, b.risk AS risk_before,
            100 * (s.risk - b.risk) AS change_points,
            s.run_id, b.run_id AS run_id_before
        FROM latest_risk_scores s
        JOIN {nights()} ON age = 2
        JOIN risk_scores b ON b.run_id = nights.run_id
            AND b.subject_id = s.subject_id AND b.outcome = s.outcome AND b.horizon_years = s.horizon_years
    """,
    "top_reasons": f"""
        WITH e AS (
            SELECT e.*, max(level = 'feature') OVER (PARTITION BY subject_id, outcome, horizon_years) AS has_features
            FROM explanations e JOIN {nights()} USING (run_id)
            WHERE age = 1 AND level IN ('modality', 'feature') AND NOT remainder
        )
        SELECT
            subject_id, outcome, horizon_years,
            row_number() OVER (PARTITION BY subject_id, outcome, horizon_years ORDER BY rank) AS reason,
            level, modality, feature, value, text_value, unit, time, contribution, run_id
        FROM e WHERE (level = 'feature') = has_features
        QUALIFY reason <= 5
    """,
    "meds_predictions": """
        SELECT
            subject_id, prediction_time, NULL::BOOLEAN AS boolean_value, NULL::BIGINT AS integer_value,
            NULL::FLOAT AS float_value, NULL::VARCHAR AS categorical_value, NULL::BOOLEAN AS predicted_boolean_value,
            risk::FLOAT AS predicted_boolean_probability, outcome, horizon_years
        FROM latest_risk_scores
    """,
}
"""name -> SELECT. `meds_predictions` has the columns of a meds-evaluation prediction plus outcome and horizon_years:
filter on the two and drop them to get one prediction file per task. `predicted_boolean_value` is null: riskpred sets no
threshold. `top_reasons` reads feature reasons where the subject has them, modality reasons elsewhere."""


def create_views(connection: DuckDBPyConnection) -> None:
    """Create or replace every view, those that stand for tables included."""
    create_table_views(connection)
    for name, select in VIEWS.items():
        connection.execute(f"CREATE OR REPLACE VIEW {name} AS {select}")
