"""The Parquet of predictions: MEDS can read it, and it says what happened without guessing."""

from dataclasses import replace

import duckdb
import meds
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flexible_schema import Optional

from riskpred.errors import InputError, OutputError
from riskpred.evaluate.predictions import came_by, write_predictions
from riskpred.records.schema import table_schema

FIVE = "subject_id, prediction_time, boolean_value, predicted_boolean_value, predicted_boolean_probability"


class PredictionSchema(meds.LabelSchema):
    """As meds-evaluation 0.0.6 defines it: MEDS' label and two columns, no others."""

    predicted_boolean_value: Optional(pa.bool_())
    predicted_boolean_probability: Optional(pa.float32())


@pytest.fixture(scope="module")
def written(made_up, tmp_path_factory):
    evaluated = made_up(400)
    path = tmp_path_factory.mktemp("predictions") / "p.parquet"
    return evaluated, path, write_predictions(evaluated, path)


def test_it_is_the_table_of_the_schema_and_holds_every_risk(written):
    evaluated, path, rows = written
    table = pq.read_table(path)
    assert table.schema.remove_metadata() == table_schema(".", "predictions").arrow()
    assert table.num_rows == rows
    heart, low = int((evaluated.status["heart"] >= 0).sum()), int((evaluated.status["low"] >= 0).sum())
    assert rows == 2 * (2 * heart + low)  # the model at 2 + 1 targets, its two peers at 2 and at 1
    found = duckdb.sql(
        f"SELECT risk, risk_low, risk_high FROM '{path}' WHERE model = 'riskpred' AND outcome = 'heart' "
        "AND horizon_years = 5 AND subject_id = 3 AND epoch_us(prediction_time) = 1"
    ).fetchall()
    assert found == [(evaluated.risks["riskpred"][0, 7, 1], evaluated.low[7, 1], evaluated.high[7, 1])]
    assert duckdb.sql(f"SELECT count(risk_low) FROM '{path}' WHERE model <> 'riskpred'").fetchall() == [(0,)]


def test_one_line_of_sql_makes_a_meds_evaluation_prediction_of_it(written):
    task = duckdb.sql(
        f"SELECT {FIVE} FROM '{written[1]}' WHERE model = 'riskpred' AND outcome = 'heart' AND horizon_years = 5 "
        "AND boolean_value IS NOT NULL"
    ).to_arrow_table()
    PredictionSchema.validate(task)
    meds.LabelSchema.validate(task.select(["subject_id", "prediction_time", "boolean_value"]))
    assert task.num_rows > 100


def test_who_left_before_the_horizon_has_no_answer_and_who_died_has_no(written):
    def counted(condition: str) -> list[tuple]:
        return duckdb.sql(
            f"SELECT DISTINCT boolean_value FROM '{written[1]}' WHERE outcome = 'heart' AND {condition} ORDER BY ALL"
        ).fetchall()

    days = "horizon_years * 365.25"
    assert counted(f"status = 'censored' AND time_days < {days}") == [(None,)]
    assert counted(f"status = 'competing' AND time_days <= {days}") == [(False,)]
    assert counted(f"status = 'outcome' AND time_days <= {days}") == [(True,)]
    assert counted(f"time_days >= {days}") == [(False,)]
    now = duckdb.sql(f"SELECT DISTINCT status, boolean_value FROM '{written[1]}' WHERE outcome = 'low' ORDER BY ALL")
    assert now.fetchall() == [("none", False), ("outcome", True)]


def test_an_event_on_the_day_of_the_horizon_counts():
    came, known = came_by(np.array([10.0, 10.0, 10.0, 9.0]), np.array([1, 2, 0, 0], np.int8), 10.0)
    assert came.tolist() == [True, False, False, False]
    assert known.tolist() == [True, True, True, False]


def test_the_blanking_window_is_left_out(made_up, tmp_path):
    evaluated = replace(made_up(400), blanking_days={"heart": 90})
    write_predictions(evaluated, tmp_path / "p.parquet")
    shortest = duckdb.sql(f"SELECT min(time_days) FROM '{tmp_path / 'p.parquet'}' WHERE outcome = 'heart'").fetchall()
    assert shortest[0][0] > 90


def test_a_bundles_own_predictions_are_refused(made_up, tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        write_predictions(replace(made_up(100), prediction_time=None, split="out_of_fold"), tmp_path / "p.parquet")
    assert list(tmp_path.iterdir()) == []


def test_it_is_written_whole_or_not_at_all(made_up, tmp_path, monkeypatch):
    with pytest.raises(OutputError, match="cannot be written"):
        write_predictions(made_up(100), tmp_path / "nowhere" / "p.parquet")
    write_predictions(made_up(100), tmp_path / "p.parquet")
    before = (tmp_path / "p.parquet").read_bytes()

    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(pq.ParquetWriter, "write_table", fail)
    with pytest.raises(RuntimeError):
        write_predictions(made_up(200), tmp_path / "p.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["p.parquet"]
    assert (tmp_path / "p.parquet").read_bytes() == before
