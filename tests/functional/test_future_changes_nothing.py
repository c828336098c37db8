"""A whole night is the same whatever the warehouse holds from after the prediction time."""

import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest

from riskpred.cli import main

# After as_of (2018-07-01), from one microsecond on: values, an outcome, a death, a leaving, an entry, a picture.
LATER = """
CREATE TEMP TABLE people AS SELECT DISTINCT subject_id FROM events WHERE subject_id % 3 > 0;
INSERT INTO events (subject_id, time, code, numeric_value, text_value, unit)
    SELECT subject_id, as_of + wait, code, numeric_value, NULL, unit
    FROM people CROSS JOIN (SELECT max(as_of) AS as_of FROM ingests) CROSS JOIN (VALUES
        ('LAB//CHOL', 14.0::FLOAT, 'mmol/L'), ('VITAL//SBP', 290.0, 'mm[Hg]'), ('PHQ9', 27.0, NULL),
        ('DX//STROKE', NULL, NULL), ('DX//TUMOUR', NULL, NULL), ('MEDS_DEATH', NULL, NULL), ('LEAVING', NULL, NULL),
        ('ENTRY', NULL, NULL), ('GENDER//M', NULL, NULL)
    ) AS facts(code, numeric_value, unit) CROSS JOIN (VALUES (INTERVAL 1 MICROSECOND), (INTERVAL 3 DAY)) AS t(wait);
INSERT INTO images (image_id, subject_id, time, image_type, path)
    SELECT 'later' || subject_id, subject_id, as_of + INTERVAL 1 MICROSECOND, 'DX', path
    FROM people CROSS JOIN (SELECT max(as_of) AS as_of FROM ingests) CROSS JOIN (SELECT min(path) AS path FROM images);
"""
KEYS = "subject_id, outcome"
SAME = {
    "eligibility": f"SELECT {KEYS}, status, reason FROM eligibility ORDER BY ALL",
    "receipts": "SELECT subject_id, modality, status, n, latest_time, missing_features, input_hash "
    "FROM input_receipts ORDER BY ALL",
    "rejects": "SELECT source, row_key, reason FROM rejects ORDER BY ALL",
    "scope": f"SELECT {KEYS}, horizon_years, scope_flags FROM risk_scores ORDER BY ALL",
}
NEAR = {
    "risks": "SELECT risk, risk_low, risk_high, reference_risk, percentile "
    f"FROM risk_scores ORDER BY {KEYS}, horizon_years",
    "reasons": "SELECT contribution FROM explanations WHERE level = 'modality' "
    f"ORDER BY {KEYS}, horizon_years, modality",
}


def asked(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def night(tiny: Any, warehouse: Path, into: Path) -> Path:
    """A night at the moment that the warehouse itself names."""
    words = [
        "--model",
        str(tiny.bundle),
        "--into",
        str(into),
        "--explain",
        "0",
        "--image-root",
        str(tiny.source),
        "--force",
    ]
    assert main(["score", str(warehouse), *words]) == 0
    return into


def changed(tiny: Any, into: Path, sql: str) -> Path:
    shutil.copy(tiny.warehouse, into)
    with duckdb.connect(str(into)) as connection:
        before = connection.execute("SELECT count(*) FROM events").fetchall()[0][0]
        for column in ("code", "unit"):  # only ingest's own dictionary fits the ENUM
            connection.execute(f"ALTER TABLE events ALTER {column} TYPE VARCHAR")
        connection.execute(sql)
        assert connection.execute("SELECT count(*) FROM events").fetchall()[0][0] > before + 3000
    return into


def test_what_comes_later_changes_nothing(tiny: Any, tmp_path: Path) -> None:
    first = night(tiny, tiny.warehouse, tmp_path / "first.duckdb")
    later = changed(tiny, tmp_path / "later.duckdb", LATER)
    second = night(tiny, later, tmp_path / "second.duckdb")
    for name, sql in SAME.items():
        assert asked(second, sql) == asked(first, sql), name
    for name, sql in NEAR.items():
        expected, found = asked(first, sql), asked(second, sql)
        assert len(found) == len(expected) > 300, name
        for one, other in zip(found, expected, strict=True):
            assert one == pytest.approx(other, abs=1e-6), name


def test_the_same_facts_at_the_prediction_time_change_everything(tiny: Any, tmp_path: Path) -> None:
    """The moment itself is included; and the test above would notice facts that are read."""
    first = night(tiny, tiny.warehouse, tmp_path / "first.duckdb")
    now = changed(tiny, tmp_path / "now.duckdb", LATER.replace("1 MICROSECOND", "0 DAY"))
    second = night(tiny, now, tmp_path / "second.duckdb")
    dead = "SELECT count(DISTINCT subject_id) FROM eligibility WHERE reason = 'dead'"
    assert asked(first, dead)[0][0] < 10
    assert asked(second, dead)[0][0] >= 200
    alive = changed(
        tiny, tmp_path / "alive.duckdb", LATER.replace("1 MICROSECOND", "0 DAY").replace("MEDS_DEATH", "NO")
    )
    third = night(tiny, alive, tmp_path / "third.duckdb")
    for sql in (SAME["eligibility"], SAME["receipts"], NEAR["risks"]):
        assert asked(third, sql) != asked(first, sql)
