"""Do reasons add up: one night of every study, every stored row."""

from pathlib import Path
from typing import Any

import duckdb

from riskpred.explain.attribution import TOLERANCE_POINTS, TOLERANCE_SHARE
from tests.benchmarks.night import command
from tests.benchmarks.night.results import Attempts, Figures
from tests.benchmarks.reasons import data

EXPLAINED = 200
_KEY = "subject_id, outcome, horizon_years"


def measure(work: Path, attempts: Attempts) -> Figures:
    """By study; one whose data are not there is named, and tried again the next time."""
    lacking = {}
    for study in (data.HOSPITAL, *data.STUDIES):
        if study in attempts.made:
            continue
        try:
            found = data.made(work, study)
        except FileNotFoundError as error:
            lacking[study] = str(error)
            continue
        scores = work / "studies" / study / "scores.duckdb"
        scores.unlink(missing_ok=True)
        words = ["score", found.warehouse, "--model", found.bundle, "--into", scores, "--explain", str(EXPLAINED)]
        ran = command.run([*words, "--force", "--json"], work).expect(0, 14)
        attempts.add(study, {**sums_of(scores), "wall_s": round(ran.wall_s, 1)}, {})
    return {"studies": attempts.made, "lacking": lacking}


def sums_of(scores: Path) -> dict[str, Any]:
    """Largest gaps of each level in risk points, and how many explained subjects have every remainder in bounds."""
    with duckdb.connect(str(scores), read_only=True) as connection:

        def one(sql: str) -> tuple[Any, ...]:
            return connection.execute(sql).fetchall()[0]

        modality, subjects = one(
            f"""
            SELECT max(abs(total - 100 * (risk - reference_risk))), count(DISTINCT subject_id)
            FROM risk_scores JOIN (
                SELECT {_KEY}, sum(contribution) AS total FROM explanations WHERE level = 'modality' GROUP BY ALL
            ) USING ({_KEY})
            """
        )
        found: dict[str, Any] = {"subjects": subjects, "modality_points": modality}
        above = {
            "feature": f"(SELECT {_KEY}, modality, contribution AS above FROM explanations WHERE level = 'modality')",
            "region": f"(SELECT {_KEY}, modality, contribution AS above FROM explanations "
            "WHERE level = 'feature' AND feature = 'image')",
        }
        for level, table in above.items():
            people, within, largest = one(
                f"""
                SELECT count(*), count(*) FILTER (held), max(largest) FROM (
                    SELECT subject_id, max(abs(contribution)) AS largest,
                        bool_and(abs(contribution) <= greatest({TOLERANCE_POINTS}, {TOLERANCE_SHARE} * abs(above)))
                            AS held
                    FROM explanations JOIN {table} USING ({_KEY}, modality)
                    WHERE level = '{level}' AND feature = '(unexplained)' GROUP BY subject_id
                )
                """
            )
            found |= {f"{level}_people": people, f"{level}_within": within, f"{level}_largest_points": largest}
        for level, kept in (("moment", "NOT IN ('(presence)', '(unexplained)')"), ("region", "= 'image'")):
            (gap,) = one(
                f"""
                SELECT max(abs(total - above)) FROM
                (SELECT {_KEY}, modality, sum(contribution) AS total FROM explanations
                    WHERE level = '{level}' GROUP BY ALL)
                JOIN (SELECT {_KEY}, modality, sum(contribution) AS above FROM explanations
                    WHERE level = 'feature' AND feature {kept} GROUP BY ALL) USING ({_KEY}, modality)
                """
            )
            (people,) = one(f"SELECT count(DISTINCT subject_id) FROM explanations WHERE level = '{level}'")
            found |= {f"{level}_gap_points": gap, f"{level}_people": people}
    return found
