"""Nights that share their rows: a carried subject costs one short row, and no night loses what another still has."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from riskpred.records.chunk import DAY_US
from riskpred.records.schema import table_schema
from riskpred.score.layout import BY_SUBJECT, OF_A_NIGHT, computed_schema, create_tables, stored_schema
from riskpred.score.store import Store

Night = Callable[..., Any]
Rows = Callable[..., list[tuple[Any, ...]]]

RISKS = "SELECT * EXCLUDE (run_id, carried) FROM risk_scores WHERE run_id = '{}' ORDER BY ALL"


def _changed(small_hospital: Any, subject: int) -> Path:
    latest = max(time for _, time, *_ in small_hospital.events if time)
    events = [*small_hospital.events, (subject, latest - timedelta(days=20), "SBP", 171.0, None)]
    path: Path = small_hospital.write(f"changed-{subject}.duckdb", events=events)
    return path


def _stored(rows: Rows, scores: Path) -> dict[str, int]:
    return {table: rows(scores, f"SELECT count(*) FROM stored.{table}")[0][0] for table in BY_SUBJECT}


def test_who_is_carried_adds_one_row_to_the_file(
    tmp_path: Path, small_hospital: Any, night: Night, rows: Rows, as_of_us: int
) -> None:
    warehouse, into = small_hospital.write("w.duckdb"), tmp_path / "scores.duckdb"
    night(warehouse, into, max_score_age_days=10_000, explain=0)
    first = _stored(rows, into)
    second = night(warehouse, into, as_of=as_of_us + 1, max_score_age_days=10_000, explain=0)
    assert (second.computed, second.carried) == (0, 64)
    assert _stored(rows, into) == first
    assert rows(into, "SELECT count(*), count(*) FILTER (carried) FROM stored.standing") == [(128, 64)]
    assert rows(into, "SELECT count(DISTINCT run_id) FROM risk_scores") == [(2,)]
    assert first["risk_scores"] * 2 == rows(into, "SELECT count(*) FROM risk_scores")[0][0]


def test_a_night_keeps_its_rows_when_the_one_that_computed_them_is_retired(
    tmp_path: Path, small_hospital: Any, night: Night, rows: Rows, as_of_us: int
) -> None:
    into, old = tmp_path / "scores.duckdb", {"max_score_age_days": 10_000, "explain": 2}
    first = night(small_hospital.write("w.duckdb"), into, **old).ledger["run_id"]
    assert len(rows(into, RISKS.format(first)))
    second = night(_changed(small_hospital, 120), into, as_of=as_of_us + 1, **old).ledger["run_id"]
    both = _stored(rows, into)
    told = rows(into, RISKS.format(second))
    reasons = f"SELECT * EXCLUDE run_id FROM explanations WHERE run_id = '{second}' ORDER BY ALL"
    before = rows(into, reasons)
    third = night(_changed(small_hospital, 120), into, as_of=as_of_us + 2, keep_runs=2, **old)
    assert third.carried == 64
    left = _stored(rows, into)
    assert left["eligibility"] < both["eligibility"], "what only the retired night stood on is gone"
    assert rows(into, RISKS.format(second)) == told
    assert rows(into, reasons) == before
    for table in BY_SUBJECT:
        orphans = f"SELECT count(*) FROM stored.{table} ANTI JOIN stored.standing USING (subject_id, computation)"
        assert rows(into, orphans) == [(0,)], table
    assert rows(into, "SELECT computation FROM stored.computations ORDER BY 1") == [(1,), (2,)]


def test_a_night_made_anew_leaves_the_nights_after_it_as_they_are(
    tmp_path: Path, small_hospital: Any, night: Night, rows: Rows, as_of_us: int
) -> None:
    warehouse, into = small_hospital.write("w.duckdb"), tmp_path / "scores.duckdb"
    first = night(warehouse, into, explain=0).ledger["run_id"]
    second = night(warehouse, into, as_of=as_of_us + 1, explain=0, max_score_age_days=10_000)
    before = rows(into, RISKS.format(second.ledger["run_id"]))
    again = night(warehouse, into, explain=0, rescore=True)
    assert again.ledger["run_id"] == first
    assert again.computed == 64
    assert rows(into, RISKS.format(second.ledger["run_id"])) == before
    assert rows(into, f"SELECT count(*) FROM stored.standing WHERE run_id = '{first}'") == [(64,)]


@pytest.mark.parametrize("harm", ["risk = risk_low", "percentile = 1 - percentile", "outcome = 'another'"])
def test_nobody_is_carried_from_risks_that_are_not_those_published(
    tmp_path: Path, small_hospital: Any, night: Night, rows: Rows, as_of_us: int, harm: str
) -> None:
    warehouse, into = small_hospital.write("w.duckdb"), tmp_path / "scores.duckdb"
    first = night(warehouse, into, explain=0)
    whole = rows(into, RISKS.format(first.ledger["run_id"]))
    with duckdb.connect(str(into)) as connection:
        connection.execute(f"UPDATE stored.risk_scores SET {harm} WHERE subject_id = 120")
    second = night(warehouse, into, as_of=as_of_us + DAY_US, explain=0)
    assert (second.computed, second.carried) == (64, 0)
    assert any("are no longer those that it published" in note for note in second.notes)
    third = night(warehouse, into, explain=0)  # the first night anew
    assert third.carried == 0
    kept = np.array([row[4:8] for row in rows(into, RISKS.format(third.ledger["run_id"]))], dtype=float)
    assert np.abs(kept - np.array([row[4:8] for row in whole], dtype=float)).max() <= 1e-6


def test_modalities_are_ranked_by_size_and_of_equals_the_first_leads() -> None:
    with duckdb.connect() as connection:
        create_tables(connection)
        connection.execute("INSERT INTO stored.computations VALUES (1, 'night', ['a', 'b', 'c'])")
        connection.execute("INSERT INTO stored.standing VALUES ('night', 5, 1, false)")
        given = {"computation": 1, "subject_id": 5, "outcome": "x", "reference_group": "all", "scope_flags": []}
        numbers = dict.fromkeys(("risk", "risk_low", "risk_high", "reference_risk", "percentile"), 0.5)
        times = dict.fromkeys(("prediction_time", "scored_at"), 0)
        told = [
            {**given, **numbers, **times, "horizon_years": years, "contributions": values}
            for years, values in ((1.0, [0.1, -3.0, 0.0]), (5.0, [2.0, -2.0, 0.0]))
        ]
        connection.register("told", pa.Table.from_pylist(told, schema=stored_schema("risk_scores").arrow()))
        connection.execute("INSERT INTO stored.risk_scores FROM told")
        found = connection.execute(
            "SELECT horizon_years, modality, contribution, rank FROM explanations ORDER BY horizon_years, rank"
        ).fetchall()
    assert found == [
        *((1.0, "b", -3.0, 1), (1.0, "a", 0.1, 2), (1.0, "c", 0.0, 3)),
        *((5.0, "a", 2.0, 1), (5.0, "b", -2.0, 2), (5.0, "c", 0.0, 3)),
    ]


def test_nobody_gets_reasons_twice(tmp_path: Path) -> None:
    with duckdb.connect() as connection:
        store = Store(connection, tmp_path / "scores.duckdb")
        connection.execute("INSERT INTO stored.standing VALUES ('first', 5, 1, false), ('then', 5, 1, true)")
        given = {"subject_id": 5, "outcome": "x", "horizon_years": 1.0, "level": "feature", "modality": "a"}
        one = given | {"feature": "b", "contribution": 0.5, "rank": 1, "remainder": False}
        rows = pa.Table.from_pylist([one], schema=computed_schema("explanations").arrow())
        store.append_reasons("explanations", rows, "first")
        with pytest.raises(AssertionError, match="1 subjects have feature reasons already"):
            store.append_reasons("explanations", rows, "then")
        assert connection.execute("SELECT run_id FROM explanations ORDER BY 1").fetchall() == [("first",), ("then",)]


def test_the_views_have_the_columns_and_types_of_the_tables_they_stand_for() -> None:
    with duckdb.connect() as connection:
        create_tables(connection)
        for table in (*BY_SUBJECT, *OF_A_NIGHT):
            connection.execute(table_schema("scores", table).ddl("plain"))
            described = "SELECT column_name, column_type FROM (DESCRIBE {})"
            view = connection.execute(described.format(table)).fetchall()
            assert view == connection.execute(described.format("plain")).fetchall(), table
            connection.execute("DROP TABLE plain")


def test_an_attached_file_is_read_as_an_opened_one(
    tmp_path: Path, small_hospital: Any, night: Night, rows: Rows
) -> None:
    into = tmp_path / "scores.duckdb"
    night(small_hospital.write("w.duckdb"), into, explain=2)
    with duckdb.connect() as analyst:
        analyst.execute(f"ATTACH '{into}' AS nights (READ_ONLY)")
        for name in ("risk_scores", "explanations", "latest_risk_scores", "top_reasons", "eligibility"):
            asked = f"SELECT * FROM {{}}{name} ORDER BY ALL"
            assert analyst.execute(asked.format("nights.")).fetchall() == rows(into, asked.format(""))
