"""Fixtures shared by all tests: where real data are, and one tiny study.

The tiny study is a synthetic source with its own YAML, ingested and fitted once a session: 300 invented people with
labs and a static table, a blood pressure series, images for half, two competing outcomes and one known at once. Older
people and those with higher pressure fall ill sooner, so that a fit has something to find.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Folder of one real data set: $RISKPRED_TEST_DATA/name, else ../shared/data/name; skips where there is none."""
    root = Path(os.environ.get("RISKPRED_TEST_DATA") or REPOSITORY.parent / "shared" / "data")

    def find(name: str) -> Path:
        if not (root / name).is_dir():
            pytest.skip(f"no real data: {name} is not in the real data folder")
        return root / name

    return find


@pytest.fixture(scope="session")
def as_tables() -> Callable[[Path], Path]:
    """as_tables(scores): the same file with plain tables in place of its views, for tests that change what is read."""
    from riskpred.score.layout import BY_SUBJECT

    def change(scores: Path) -> Path:
        with duckdb.connect(str(scores)) as connection:
            for table in BY_SUBJECT:
                connection.execute(f"CREATE TEMP TABLE copied AS SELECT * FROM {table}")
                connection.execute(f"DROP VIEW {table}; CREATE TABLE {table} AS FROM copied; DROP TABLE copied")
        return scores

    return change


@pytest.fixture(scope="session")
def laid_out() -> Callable[[Path], Path]:
    """laid_out(scores): a file of plain tables, brought into the order in which a night keeps them."""
    from riskpred.records.schema import table_schema
    from riskpred.score.layout import BY_SUBJECT, COMPUTATIONS, SCHEMA, STANDING, create_tables, stored_schema
    from riskpred.score.views import create_views

    def change(scores: Path) -> Path:
        with duckdb.connect(str(scores)) as connection:
            connection.execute("CREATE SCHEMA plain")
            for (table,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall():
                connection.execute(f"CREATE TABLE plain.{table} AS FROM {table}; DROP TABLE {table}")
            create_tables(connection)
            connection.execute(
                f"INSERT INTO {COMPUTATIONS} SELECT row_number() OVER (ORDER BY run_id), run_id, modalities FROM ("
                "SELECT run_id, list(DISTINCT modality ORDER BY modality) AS modalities FROM plain.explanations "
                "WHERE level = 'modality' GROUP BY 1)"
            )
            connection.execute(
                f"INSERT INTO {STANDING} SELECT run_id, subject_id, computation, false "
                f"FROM plain.pseudonyms JOIN {COMPUTATIONS} USING (run_id)"
            )
            connection.execute(
                "CREATE TEMP TABLE contributions AS SELECT run_id, subject_id, outcome, horizon_years, "
                "list(contribution ORDER BY modality) AS contributions FROM plain.explanations "
                "WHERE level = 'modality' GROUP BY ALL"
            )
            for table in BY_SUBJECT:
                joined = "contributions USING (run_id, subject_id, outcome, horizon_years)"
                more = f"JOIN {joined}" if table == "risk_scores" else ""
                only = "WHERE level <> 'modality'" if table == "explanations" else ""
                columns = ", ".join(stored_schema(table).names)
                connection.execute(
                    f"INSERT INTO {SCHEMA}.{table} SELECT {columns} FROM plain.{table} "
                    f"JOIN {COMPUTATIONS} USING (run_id) {more} {only}"
                )
            for table in ("runs", "drift", "rejects", "secrets"):
                columns = ", ".join(table_schema("scores", table).names)
                connection.execute(f"INSERT INTO {table} SELECT {columns} FROM plain.{table}")
            connection.execute("DROP SCHEMA plain CASCADE")
            create_views(connection)
        return scores

    return change


PEOPLE = 300
DAY_0 = datetime(2018, 1, 1)

INGEST = """
study: tiny
as_of: 2018-07-01T00:00:00
data_until: 2023-01-01T00:00:00
tables:
  - name: people
    file: people.csv
    subject: id
    events:
      - {code: MEDS_BIRTH, time: {column: born}}
      - {code: GENDER, column: sex, store: code, values: {F: F, M: M}, time: {static: true}}
      - {code: ENTRY, time: {column: entered}}
      - {code: MEDS_DEATH, kind: death, time: {column: died}}
  - name: diagnoses
    file: diagnoses.csv
    subject: id
    time: {column: day}
    long:
      - code_column: code
        codes:
          stroke: {code: DX//STROKE, kind: diagnosis}
          tumour: {code: DX//TUMOUR, kind: diagnosis}
  - name: labs
    file: labs.csv
    subject: id
    time: {column: day}
    long:
      - code_column: test
        value_column: value
        codes:
          chol: {code: LAB//CHOL, unit: mmol/L, range: [1.0, 15.0]}
          sbp: {code: VITAL//SBP, unit: "mm[Hg]", range: [50.0, 300.0]}
          phq: {code: PHQ9}
  - name: images
    file: images.csv
    subject: id
    time: {column: day}
    images:
      - {image_id: image, path: "images/{image}.png", image_type: DX}
"""

OUTCOMES = """
entry_codes: [ENTRY]
prediction_times: {days_after_entry: [150]}
horizons_years: [1, 3]
outcomes:
  stroke: {display: Stroke, rule: {codes: [DX//STROKE]}, competing_set: illness}
  tumour: {display: Tumour, rule: {codes: [DX//TUMOUR]}, competing_set: illness}
  low_mood: {display: Low mood, rule: {codes: [PHQ9], at_least: 10}, known_at_once: true, lookback_days: 200}
"""

FEATURES = """
modalities:
  tabular:
    kind: tabular
    features:
      - {builtin: age_years}
      - {codes: ["GENDER//*"], category: true, display: Sex}
      - {codes: [LAB//CHOL], aggregates: [last], required: true, display: Cholesterol}
  series: {kind: series, codes: [VITAL//SBP], window_days: 400, max_steps: 8}
  image: {kind: image, image_types: [DX], size: 16}
"""

ABOUT = """
title: Invented people
needs: people.csv, diagnoses.csv, labs.csv, images.csv
source: this file
licence: none needed
cautions: ["Invented people: a risk means nothing outside the tests."]
"""
CARD = "tripod_ai: {funding: Nobody paid for invented people.}\n"
NETWORK = """
members: 2
embedding: 4
intervals: 4
encoders:
  tabular: {kind: tabular, knots: 3, members: 2, width: 8, depth: 1}
  series: {kind: series, width: 4}
  image: {kind: image, channels: [4, 4]}
training: {epochs: 2, batch_size: 64, ridge_grid: [10.0]}
"""


@pytest.fixture(scope="session")
def tiny_network() -> str:
    """network.yaml of a network that learns next to nothing in a second."""
    return NETWORK


@dataclass(frozen=True)
class Tiny:
    """Where the tiny study's files are. Tests must not change them: copy what is to be changed."""

    study: Path
    source: Path
    warehouse: Path
    bundle: Path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """The tiny study, ingested and fitted (seed 1)."""
    from riskpred.fit.run import fit
    from riskpred.records.ingest.run import run_ingest

    root = tmp_path_factory.mktemp("tiny")
    made = Tiny(root / "tiny", root / "source", root / "warehouse.duckdb", root / "bundle")
    made.study.mkdir()
    for name, text in (
        ("ingest", INGEST),
        ("outcomes", OUTCOMES),
        ("features", FEATURES),
        ("network", NETWORK),
        ("about", ABOUT),
        ("card", CARD),
    ):
        (made.study / f"{name}.yaml").write_text(text)
    write_source(made.source)
    run_ingest(str(made.study), made.source, made.warehouse)
    fit(str(made.study), made.warehouse, made.bundle, seed=1)
    return made


def write_source(folder: Path, people: int = PEOPLE, seed: int = 5) -> None:
    """people.csv, diagnoses.csv, labs.csv, images.csv and images/*.png of invented people."""
    from PIL import Image

    (folder / "images").mkdir(parents=True)
    draw = np.random.default_rng(seed)
    tables: dict[str, list[str]] = {
        "people": ["id,sex,born,entered,died"],
        "diagnoses": ["id,day,code"],
        "labs": ["id,day,test,value"],
        "images": ["id,day,image"],
    }
    for person in range(1, people + 1):
        age, pressure = float(draw.uniform(35, 85)), float(draw.normal(135, 20))
        entered = DAY_0 + timedelta(days=int(draw.integers(0, 30)))
        born = entered - timedelta(days=round(365.25 * age))
        speed = np.exp(0.04 * (age - 60) + 0.02 * (pressure - 135))
        days = 150 + draw.exponential(4000 / speed, size=3)
        first = int(days.argmin())
        fate = entered + timedelta(days=int(days[first]))
        died = f"{fate:%Y-%m-%d}" if first == 2 and fate < datetime(2023, 1, 1) else ""
        sex = "FM"[int(draw.integers(2))]
        tables["people"].append(f"{person},{sex},{born:%Y-%m-%d},{entered:%Y-%m-%d},{died}")
        if first < 2 and fate < datetime(2023, 1, 1):
            tables["diagnoses"].append(f"{person},{fate:%Y-%m-%d},{('stroke', 'tumour')[first]}")
        if draw.random() < 0.8:
            tables["labs"].append(f"{person},{entered:%Y-%m-%d},chol,{draw.normal(5.3, 1):.1f}")
        for visit in range(int(draw.integers(0, 4))):
            day = entered + timedelta(days=30 * visit + int(draw.integers(20)))
            tables["labs"].append(f"{person},{day:%Y-%m-%d},sbp,{pressure + draw.normal(0, 5):.0f}")
        if draw.random() < 0.7:
            tables["labs"].append(f"{person},{entered + timedelta(days=20):%Y-%m-%d},phq,{draw.integers(0, 20)}")
        if draw.random() < 0.5:
            pixels = (draw.random((32, 32)) * 80).astype(np.uint8)
            pixels[10:18, 12:20] += np.uint8(min(150, max(0, round(2 * (age - 35)))))
            Image.fromarray(pixels).save(folder / "images" / f"x{person}.png")
            tables["images"].append(f"{person},{entered + timedelta(days=9):%Y-%m-%d},x{person}")
    for name, lines in tables.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
