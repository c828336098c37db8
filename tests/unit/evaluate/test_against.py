"""A prediction table joins the rows it is of, and everything that would compare different people is refused."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from riskpred.errors import InputError
from riskpred.evaluate.against import measured, with_others
from riskpred.evaluate.metrics import metrics
from riskpred.evaluate.page import page
from riskpred.evaluate.prediction_table import read_table
from riskpred.evaluate.predictions import write_predictions


@pytest.fixture(scope="module")
def evaluated(made_up):
    return made_up(400)


def table(evaluated, **changes) -> pl.DataFrame:
    """The five-year risks of heart, halved, of every row."""
    columns = {
        "subject_id": evaluated.subject_id,
        "prediction_time": pl.Series(evaluated.prediction_time).cast(pl.Datetime("us")),
        "outcome": ["heart"] * len(evaluated),
        "horizon_years": [5.0] * len(evaluated),
        "risk": evaluated.risks["riskpred"][0, :, 1] / 2,
    }
    return pl.DataFrame({name: values for name, values in (columns | changes).items() if values is not None})


def compared(evaluated, path):
    return with_others(None, evaluated, None, [path])  # type: ignore[arg-type]  (a table needs neither)


def parquet(frame: pl.DataFrame, path):
    frame.write_parquet(path)
    return path


def test_each_risk_finds_its_row(evaluated, tmp_path):
    found = compared(
        evaluated, parquet(table(evaluated).sample(fraction=1.0, shuffle=True, seed=1), tmp_path / "old.parquet")
    )
    assert list(found.risks) == [*evaluated.risks, "old"]
    assert np.array_equal(found.risks["old"][0, :, 1], evaluated.risks["riskpred"][0, :, 1] / 2)
    assert np.isnan(found.risks["old"][0][:, [0, 2]]).all()
    assert "old gives no risk of heart within 1 year, low now" in found.notes
    assert any("whether old was made with these people is not known" in note for note in found.notes)
    assert found.left_out == evaluated.left_out


def test_csv_and_the_columns_of_meds_evaluation_read_alike(evaluated, tmp_path):
    frame = table(evaluated)
    frame.write_csv(tmp_path / "a.csv")
    other = frame.rename({"risk": "predicted_boolean_probability"}).with_columns(
        pl.col("predicted_boolean_probability").cast(pl.Float32),
        pl.col("prediction_time").dt.replace_time_zone("UTC"),
        pl.col("outcome").cast(pl.Categorical),
        pl.lit(True).alias("boolean_value"),
    )
    other.write_parquet(tmp_path / "b.parquet")
    one, two = (compared(evaluated, tmp_path / name) for name in ("a.csv", "b.parquet"))
    assert np.allclose(one.risks["a"], two.risks["b"], atol=1e-7, equal_nan=True)


def test_what_evaluate_wrote_reads_back_as_the_same_risks(evaluated, tmp_path):
    write_predictions(evaluated, tmp_path / "p.parquet")
    found = compared(evaluated, tmp_path / "p.parquet")
    assert list(found.risks)[3:] == ["p:riskpred", "p:spline_cox", "p:spline_logistic"]
    judged = evaluated.status["heart"] >= 0
    assert np.array_equal(found.risks["p:riskpred"][:, judged, :2], evaluated.risks["riskpred"][:, judged, :2])
    rows = metrics(replace(found, risks={name: found.risks[name] for name in ("riskpred", "p:riskpred")}), resamples=5)
    differences = [row["value"] for row in rows if row["model"] == "riskpred - p:riskpred"]
    assert differences
    assert set(differences) <= {0.0, None}


def test_rows_without_a_risk_are_counted_and_left_out_of_every_model(evaluated, tmp_path):
    frame = table(evaluated)
    both = pl.concat([frame, frame.with_columns(horizon_years=pl.lit(1.0))])
    some = both.filter(pl.col("subject_id") >= 20)
    found = compared(evaluated, parquet(some, tmp_path / "some.parquet"))
    assert found.left_out["heart"]["no risk from some"] == 40
    assert "heart: 40 rows without a risk from some are left out, of every model" in found.notes
    assert "no risk from some" not in found.left_out["low"]
    rows = metrics(found, resamples=5)
    everyone = [row for row in rows if row["subgroup"] is None and not row["blanking_days"]]
    n = {(row["outcome"], row["model"]): row["n"] for row in everyone}
    assert n["heart", "riskpred"] == n["heart", "some"] == n["heart", "spline_cox"] == len(evaluated) - 40
    assert n["low", "riskpred"] == int((evaluated.status["low"] >= 0).sum())


def test_a_null_risk_is_no_risk(evaluated, tmp_path):
    risk = table(evaluated)["risk"].to_list()
    risk[0] = None
    found = compared(evaluated, parquet(table(evaluated, risk=risk), tmp_path / "t.parquet"))
    assert found.left_out["heart"]["no risk from t"] == 1


def test_without_times_a_subject_must_have_one_row(evaluated, tmp_path):
    path = parquet(table(evaluated, prediction_time=None).unique("subject_id"), tmp_path / "t.parquet")
    with pytest.raises(InputError, match="200 of 200 subjects evaluated at several times") as error:
        compared(evaluated, path)
    assert "add prediction_time" in error.value.message
    single = replace(evaluated, subject_id=np.arange(len(evaluated), dtype=np.int64))
    assert np.isfinite(compared(single, path).risks["t"]).sum() == 200


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda f: f.drop("outcome", "risk"), "columns missing: outcome, risk or predicted_boolean_probability"),
        (lambda f: f.with_columns(risk=pl.col("risk") * 100), "risk is no probability in 39"),
        (lambda f: f.with_columns(pl.col("subject_id").cast(pl.Float64)), "subject_id has another type"),
        (lambda f: f.with_columns(risk=pl.lit("high")), "risk has another type"),
        (lambda f: f.with_columns(prediction_time=pl.lit(True)), "prediction_time has another type"),
        (lambda f: f.with_columns(outcome=pl.lit(None, pl.String)), "outcome is null in 400 of 400 rows"),
        (lambda f: pl.concat([f, f[:7]]), "7 rows stand twice for heart within 5 years"),
        (lambda f: f.with_columns(pl.col("subject_id") + 10_000), "none of its 400 rows is evaluated here"),
        (lambda f: f[:0], "none of its 0 rows is evaluated here"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(evaluated, tmp_path, change, text):
    path = parquet(change(table(evaluated)), tmp_path / "t.parquet")
    with pytest.raises(InputError) as error:
        compared(evaluated, path)
    assert text in error.value.what + (error.value.got or "")
    assert error.value.exit_code == 11
    assert error.value.do


def test_no_file_and_no_table_are_refused(evaluated, tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        compared(evaluated, tmp_path / "none.parquet")
    (tmp_path / "t.parquet").write_text("subject_id,risk\n")
    with pytest.raises(InputError, match="not readable as a prediction table"):
        read_table(tmp_path / "t.parquet")
    with pytest.raises(InputError, match="cannot be compared on the split out_of_fold"):
        compared(replace(evaluated, prediction_time=None, split="out_of_fold"), tmp_path / "t.parquet")


def test_names_never_read_as_a_difference_or_as_another_model(evaluated, tmp_path):
    frame = table(evaluated)
    paths = [parquet(frame, tmp_path / f"{name}.parquet") for name in ("riskpred", "a - b", "age only", "truth")]
    found = with_others(None, evaluated, None, paths)  # type: ignore[arg-type]
    assert list(found.risks)[3:] == ["riskpred (2)", "a-b", "age only_", "truth (2)"]


def test_a_model_of_one_horizon_is_compared_there_on_the_same_rows(made_up, tmp_path):
    evaluated = made_up(1_000)
    some = table(evaluated).filter(pl.col("subject_id") >= 50)
    found = compared(evaluated, parquet(some, tmp_path / "five.parquet"))
    assert found.left_out["heart"]["no risk from five"] == 100
    judged, rows = measured(found, resamples=5)
    whole = [row for row in rows if row["subgroup"] is None and not row["blanking_days"] and row["outcome"] == "heart"]
    assert {row["n"] for row in whole} == {900}
    five = {(row["model"], row["horizon_years"], row["metric"]): row["value"] for row in whole}
    assert ("five", 1.0, "brier") not in five
    assert ("five", 5.0, "ibs") not in five  # its integral would begin nowhere
    assert five["riskpred", 5.0, "ibs"] is not None
    # Half the risk ranks alike and is too low.
    assert five["riskpred - five", 5.0, "uno_c"] == pytest.approx(0.0, abs=1e-12)
    assert five["five", 5.0, "citl"] > five["riskpred", 5.0, "citl"] + 0.5
    assert five["riskpred - five", 5.0, "brier"] == pytest.approx(
        five["riskpred", 5.0, "brier"] - five["five", 5.0, "brier"]
    )
    keys = [
        tuple(
            row[key]
            for key in ("model", "outcome", "horizon_years", "subgroup", "blanking_days", "metric", "threshold")
        )
        for row in rows
    ]
    assert len(keys) == len(set(keys))
    assert {row["n"] for row in rows if row["outcome"] == "low" and row["subgroup"] is None} == {
        int((evaluated.status["low"] >= 0).sum())
    }
    assert "five" in page(judged, rows)


def test_where_no_model_lacks_a_horizon_it_is_the_table_of_metrics(made_up):
    evaluated = made_up(200)
    judged, rows = measured(evaluated, resamples=5)
    assert judged is evaluated
    assert rows == metrics(evaluated, resamples=5)
