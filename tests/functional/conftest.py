"""One tiny study for functional tests: a synthetic source with its own YAML, ingested and fitted once a session.

300 invented people: labs and a static table, a blood pressure series, images for half, two competing outcomes and one
known at once. Older people and those with higher pressure fall ill sooner, so that a fit has something to find.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

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
    ):
        (made.study / f"{name}.yaml").write_text(text)
    write_source(made.source)
    run_ingest(str(made.study), made.source, made.warehouse)
    fit(str(made.study), made.warehouse, made.bundle, seed=1)
    return made


@pytest.fixture(scope="module")
def few_draws() -> Iterator[None]:
    """Intervals of 20 resamples, not 200, which are most of the time of an evaluation; how many there are and what they
    cover is asked in tests/unit/evaluate."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("riskpred.evaluate.intervals.RESAMPLES", 20)
        patch.setattr("riskpred.evaluate.intervals._FEWEST", 20)
        # Reasons of few people: how they are judged is asked in tests/unit/evaluate and tests/unit/explain.
        for name, people in (("SAMPLED", 24), ("STABLE", 8), ("PERMUTED", 2), ("PERMUTATIONS", 2)):
            patch.setattr(f"riskpred.evaluate.reasons.{name}", people)
        yield


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
