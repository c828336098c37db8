"""What a good engineer would write without riskpred: one SQL pass for the features, a LightGBM per output risk, DuckDB.

A program of its own. It learns on the hospital (a booster per outcome and horizon, 100 trees of 15 leaves, untuned: the
accuracy benchmark is where models are compared) and is timed on scoring alone, from the warehouse to the written table.
lightgbm is no dependency of riskpred: without it the program says so and ends with exit code 3.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from tests.benchmarks.night.data import AS_OF

CHUNK = 50_000
OUTCOMES = {"cardiovascular": "DX//cardiovascular//", "cancer": "DX//cancer//", "mental_health": "DX//mental_health//"}
HORIZONS = (1, 3, 5, 10)
LABS = ("LAB//HBA1C", "LAB//CRP", "LAB//LDL", "LAB//CREATININE")
VITALS = ("VITAL//SYSTOLIC", "VITAL//HEART_RATE", "VITAL//WEIGHT")
HISTORIES = ("diabetes", "hypertension", "asthma", "cardiovascular", "cancer", "mental_health")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("warehouse", type=Path)
    parser.add_argument("hospital", type=Path, help="warehouse to learn on")
    parser.add_argument("into", type=Path)
    parser.add_argument("--subjects", type=int, default=1_000_000)
    given = parser.parse_args()
    try:
        import lightgbm
    except ImportError:
        print("lightgbm is not installed here: nothing was measured", file=sys.stderr)
        return 3
    boosters = learn(lightgbm, given.hospital)
    given.into.unlink(missing_ok=True)
    began, cpu = time.monotonic(), time.process_time()
    people = score(boosters, given.warehouse, given.into, given.subjects)
    wall, cpu = time.monotonic() - began, time.process_time() - cpu
    print(json.dumps({"people": people, "seconds": wall, "cpu_s": cpu, "boosters": len(boosters)}))
    return 0


def features_sql(where: str) -> str:
    """One row per subject, from one pass over its events up to AS_OF."""
    now = f"TIMESTAMP '{AS_OF}'"
    parts = [
        f"datediff('day', min(time) FILTER (code = 'MEDS_BIRTH'), {now}) / 365.25 AS age_years",
        "count(*) FILTER (code = 'GENDER//M') AS male",
        "max(CASE text_value WHEN 'never' THEN 0 WHEN 'former' THEN 1 WHEN 'current' THEN 2 END)"
        " FILTER (code = 'SMOKING') AS smoking",
        f"datediff('day', max(time) FILTER (code = 'LAB//HBA1C'), {now}) AS hba1c_age_days",
    ]
    parts += [f"max_by(numeric_value, time) FILTER (code = '{code}') AS \"{code}\"" for code in LABS]
    for code in VITALS:
        here = f"FILTER (code = '{code}')"
        parts += [
            f'max_by(numeric_value, time) {here} AS "{code} last"',
            f'avg(numeric_value) {here} AS "{code} mean"',
            f'stddev_pop(numeric_value) {here} AS "{code} sd"',
            f'regr_slope(numeric_value, epoch(time)) {here} AS "{code} slope"',
            f'count(*) {here} AS "{code} n"',
        ]
    parts += [f"count(*) FILTER (starts_with(code, 'DX//{name}//')) > 0 AS \"{name}\"" for name in HISTORIES]
    columns, seen = ",\n".join(parts), f"(time IS NULL OR time <= {now})"
    return f"SELECT subject_id, {columns} FROM events WHERE {seen} AND {where} GROUP BY subject_id"


def learn(lightgbm: Any, hospital: Path) -> dict[tuple[str, int], Any]:
    """A booster per outcome and horizon, on everyone in the hospital."""
    with duckdb.connect(str(hospital), read_only=True) as connection:
        table = connection.sql(features_sql("true")).to_arrow_table().sort_by("subject_id")
        ill = {}
        for name, prefix in OUTCOMES.items():
            for years in HORIZONS:
                sql = (
                    f"SELECT DISTINCT subject_id FROM events WHERE starts_with(code, '{prefix}') AND time >"
                    f" TIMESTAMP '{AS_OF}' AND time <= TIMESTAMP '{AS_OF}' + to_years({years})"
                )
                ill[name, years] = connection.sql(sql).to_arrow_table()["subject_id"].to_numpy()
    subjects, values = table["subject_id"].to_numpy(), _matrix(table)
    settings = {"objective": "binary", "num_leaves": 15, "num_threads": 1, "verbose": -1, "learning_rate": 0.05}
    return {
        target: lightgbm.train(settings, lightgbm.Dataset(values, np.isin(subjects, found)), 100)
        for target, found in ill.items()
    }


def score(boosters: dict[tuple[str, int], Any], warehouse: Path, into: Path, subjects: int) -> int:
    """Risks of the first N subjects into the table `risks`. Returns how many subjects."""
    source, target = duckdb.connect(str(warehouse), read_only=True), duckdb.connect(str(into))
    source.execute("SET threads = 1")
    target.execute("SET threads = 1")
    target.execute("CREATE TABLE risks (subject_id BIGINT, outcome VARCHAR, horizon_years DOUBLE, risk DOUBLE)")
    low, high = source.execute("SELECT min(subject_id), max(subject_id) FROM events").fetchall()[0]
    people = 0
    # Ids of the multiplied hospital follow one another, so a range of them is a chunk of people.
    for first in range(low, min(high + 1, low + subjects), CHUNK):
        last = min(first + CHUNK, low + subjects) - 1
        table = source.sql(features_sql(f"subject_id BETWEEN {first} AND {last}")).to_arrow_table()
        values, ids = _matrix(table), table["subject_id"]
        target.execute("BEGIN")
        for (outcome, years), booster in boosters.items():
            risk = booster.predict(values, num_threads=1)
            rows = pa.table({"subject_id": ids, "risk": risk})  # noqa: F841  (read by the next line, by its name)
            target.execute(f"INSERT INTO risks SELECT subject_id, '{outcome}', {years}, risk FROM rows")
        target.execute("COMMIT")
        people += len(table)
    target.close()
    return people


def _matrix(table: pa.Table) -> np.ndarray:
    names = [name for name in table.column_names if name != "subject_id"]
    return np.stack([table[name].cast(pa.float64()).to_numpy() for name in names], axis=1)


if __name__ == "__main__":
    sys.exit(main())
