"""True risks are joined by subject, outcome, horizon and prediction time, and by nothing else."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from riskpred.errors import InputError
from riskpred.evaluate.truth import with_truth
from riskpred.records.schema import table_schema


@pytest.fixture
def evaluated(made_up):
    return made_up(40)


def write(path, rows):
    start = datetime(1970, 1, 1)
    named = [
        dict(zip(("subject_id", "outcome", "horizon_years", "prediction_time", "risk"), row, strict=True))
        for row in rows
    ]
    for row in named:
        row["prediction_time"] = start + timedelta(microseconds=row["prediction_time"])
    pq.write_table(pa.Table.from_pylist(named, schema=table_schema(".", "truth").arrow()), path)


def test_each_risk_finds_its_row_and_target(tmp_path, evaluated):
    write(tmp_path / "t.parquet", [(3, "heart", 5.0, 1, 0.25), (3, "heart", 5.0, 9, 0.5), (0, "low", 0.0, 0, 0.75)])
    truth = with_truth(evaluated, tmp_path / "t.parquet").truth
    assert truth.shape == (40, 3)
    assert truth[7, 1] == 0.25  # subject 3's second row
    assert truth[0, 2] == 0.75
    assert np.isfinite(truth).sum() == 2


def test_a_file_of_other_people_is_refused(tmp_path, evaluated):
    write(tmp_path / "t.parquet", [(999, "heart", 5.0, 1, 0.25)])
    with pytest.raises(InputError, match="none of its 1 rows is evaluated here"):
        with_truth(evaluated, tmp_path / "t.parquet")


def test_no_file_and_a_wrong_file_are_refused(tmp_path, evaluated):
    with pytest.raises(InputError, match="no such file"):
        with_truth(evaluated, tmp_path / "t.parquet")
    (tmp_path / "t.parquet").write_text("risk\n")
    with pytest.raises(InputError, match="not a file of true risks"):
        with_truth(evaluated, tmp_path / "t.parquet")
    pq.write_table(pa.table({"risk": [0.1]}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match="not a file of true risks"):
        with_truth(evaluated, tmp_path / "t.parquet")


def test_a_bundles_own_predictions_cannot_be_joined(tmp_path, evaluated):
    with pytest.raises(InputError, match="cannot be joined"):
        with_truth(replace(evaluated, prediction_time=None), tmp_path / "t.parquet")
