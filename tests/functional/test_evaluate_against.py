"""`evaluate --against` and `--predictions`: other models on the same people, and what can be made of it elsewhere."""

import contextlib
import io
import json
import shutil
from pathlib import Path

import duckdb
import pytest

from riskpred.cli import main
from riskpred.model.bundle import load_bundle

pytestmark = pytest.mark.usefixtures("few_draws")


@pytest.fixture(scope="module")
def elsewhere(tiny, tmp_path_factory) -> Path:
    """The tiny warehouse as another site, whose people no bundle here was trained on."""
    path = tmp_path_factory.mktemp("against") / "w.duckdb"
    shutil.copy(tiny.warehouse, path)
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"UPDATE ingests SET site = 'elsewhere', image_root = '{tiny.source}'")
    return path


@pytest.fixture(scope="module")
def other(tiny, elsewhere):
    """A second bundle: of older people only, and of one horizon that the first has and one that it lacks."""
    study = elsewhere.with_name("other")
    shutil.copytree(tiny.study, study)
    outcomes = (study / "outcomes.yaml").read_text()
    outcomes = outcomes.replace("horizons_years: [1, 3]", "horizons_years: [2, 3]\nage_years: [50, null]")
    outcomes = outcomes.replace("codes: [DX//TUMOUR]", 'codes: [DX//TUMOUR, "DX//NEVER*"]')
    (study / "outcomes.yaml").write_text(outcomes)
    bundle = elsewhere.with_name("older")
    run("fit", study, tiny.warehouse, "--into", bundle)
    return bundle


def run(*arguments) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main([str(argument) for argument in arguments]) == 0
    return out.getvalue()


def test_a_bundle_against_itself_differs_in_nothing(tiny, elsewhere):
    found = run("evaluate", tiny.bundle, elsewhere, "--split", "everyone", "--against", tiny.bundle, "--json")
    rows = json.loads(found)["metrics"]
    name = tiny.bundle.name
    differences = [row for row in rows if row["model"] == f"riskpred - {name}"]
    assert {row["outcome"] for row in differences} == {"stroke", "tumour", "low_mood"}
    assert all(row["value"] == pytest.approx(0.0, abs=1e-12) for row in differences if row["value"] is not None)


def test_another_bundle_is_compared_on_the_people_and_horizons_of_both(tiny, elsewhere, other, tmp_path):
    text = run("evaluate", tiny.bundle, elsewhere, "--against", other)
    assert "older gives no risk of stroke within 1 year, tumour within 1 year" in text
    assert "older was trained on another rule of tumour" in text
    arguments = ("--split", "everyone", "--against", other, "--json", "--into", tmp_path / "e.html")
    found = json.loads(run("evaluate", tiny.bundle, elsewhere, *arguments))
    rows = found["metrics"]
    three = {
        row["model"]: row
        for row in rows
        if (row["outcome"], row["horizon_years"], row["metric"]) == ("stroke", 3.0, "uno_c")
        and row["subgroup"] is None
        and not row["blanking_days"]
    }
    assert {"riskpred", "spline_cox", "older", "riskpred - older"} <= three.keys()
    assert len({row["n"] for row in three.values()}) == 1
    assert 100 < three["older"]["n"] < 250  # those under 50 are left out, of every model
    assert three["older"]["value"] is not None
    one = {row["model"] for row in rows if row["horizon_years"] == 1.0 and row["metric"] == "auc" and row["value"]}
    assert "older" not in one
    assert "riskpred" in one
    lost = found["left_out"]["stroke"]["no risk from older"]
    assert lost > 50
    assert f"stroke: {lost} rows without a risk from older are left out, of every model" in found["notes"]
    assert f"no risk from older: {lost}" in (tmp_path / "e.html").read_text()


def test_a_bundle_trained_on_these_people_is_refused(tiny, elsewhere, capsys):
    first = elsewhere.with_name("first")
    run("fit", "--recalibrate", tiny.bundle, elsewhere, "--into", first)
    capsys.readouterr()
    arguments = ["evaluate", str(tiny.bundle), str(elsewhere), "--against", str(first)]
    assert main([*arguments, "--split", "train"]) == 12
    message = capsys.readouterr().err
    assert "first" in message
    assert "trained this bundle" in message
    assert main(arguments) == 0  # held_out is new to both


def test_a_bundle_that_does_not_fit_and_a_folder_that_is_none_are_refused(tiny, elsewhere, tmp_path, capsys):
    copy = tmp_path / "w.duckdb"
    shutil.copy(elsewhere, copy)
    assert main(["evaluate", str(tiny.bundle), str(copy), "--against", str(tmp_path)]) == 12
    assert "not a bundle" in capsys.readouterr().err
    assert main(["evaluate", str(tiny.bundle), str(copy), "--against", str(tmp_path / "none.csv")]) == 11
    assert "no such file or folder" in capsys.readouterr().err
    (tmp_path / "t.csv").write_text("subject_id,risk\n1,0.5\n")
    assert main(["evaluate", str(tiny.bundle), str(copy), "--against", str(tmp_path / "t.csv")]) == 11
    message = capsys.readouterr().err
    assert "columns missing: outcome, horizon_years" in message
    assert "horizon_years" in message.split("do  ")[1]


def test_predictions_are_written_and_compare_as_equal(tiny, elsewhere, tmp_path):
    path = tmp_path / "p.parquet"
    run("evaluate", tiny.bundle, elsewhere, "--predictions", path)
    models = duckdb.sql(f"SELECT DISTINCT model FROM '{path}' ORDER BY ALL").fetchall()
    assert models == [("riskpred",), ("spline_cox",), ("spline_logistic",)]
    text = run("evaluate", tiny.bundle, elsewhere, "--against", path)
    assert "p:riskpred" in text
    risks = duckdb.sql(f"SELECT max(abs(risk - predicted_boolean_probability)) FROM '{path}'").fetchall()
    assert risks[0][0] < 1e-6
    assert load_bundle(tiny.bundle).model.targets == (
        ("stroke", 1.0), ("stroke", 3.0), ("tumour", 1.0), ("tumour", 3.0), ("low_mood", 0.0)
    )  # fmt: skip


def test_predictions_into_nowhere_are_refused(tiny, elsewhere, tmp_path, capsys):
    place = str(tmp_path / "none" / "p.parquet")
    assert main(["evaluate", str(tiny.bundle), str(elsewhere), "--predictions", place]) == 15
    message = capsys.readouterr().err
    assert "cannot be written" in message
    assert "risks:" not in message, "before the work"


def test_predictions_replace_predictions_and_no_other_table(tiny, elsewhere, tmp_path, capsys):
    path = tmp_path / "source.parquet"
    duckdb.sql(f"COPY (SELECT 1 AS patient, 2.5 AS cholesterol) TO '{path}'")
    before = path.read_bytes()
    assert main(["evaluate", str(tiny.bundle), str(elsewhere), "--predictions", str(path)]) == 15
    assert "is no table of predictions" in capsys.readouterr().err
    assert path.read_bytes() == before
    path.unlink()
    run("evaluate", tiny.bundle, elsewhere, "--predictions", path)
    run("evaluate", tiny.bundle, elsewhere, "--predictions", path)
    path.write_bytes(b"PAR1 cut short")
    run("evaluate", tiny.bundle, elsewhere, "--predictions", path)


@pytest.mark.parametrize("option", ["--predictions", "--into"])
def test_an_evaluation_never_replaces_a_warehouse(tiny, elsewhere, tmp_path, capsys, option):
    copy = tmp_path / "w.duckdb"
    copy.write_bytes(Path(elsewhere).read_bytes())
    before = copy.read_bytes()
    assert main(["evaluate", str(tiny.bundle), str(copy), option, str(copy)]) == 15
    message = capsys.readouterr().err
    assert "its name does not end in" in message
    assert "risks:" not in message, "before the work"
    assert copy.read_bytes() == before
