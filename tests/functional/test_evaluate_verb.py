"""`riskpred evaluate` on the tiny study: what it prints, what it writes, what it refuses."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pytest

from riskpred.cli import main
from riskpred.evaluate.gather import CROSS_VALIDATION, EVERYONE, OUT_OF_FOLD, gather
from riskpred.evaluate.reasons import AGREEMENTS, AREAS
from riskpred.model.bundle import load_bundle
from riskpred.model.predictions import joined
from riskpred.records.warehouse import Warehouse

pytestmark = pytest.mark.usefixtures("few_draws")

REASONS = (*AREAS, *AGREEMENTS)


@pytest.fixture(scope="module")
def printed(tiny, tmp_path_factory):
    """The JSON of one run on everyone of another site (enough events), each modality alone too, and the page."""
    folder = tmp_path_factory.mktemp("evaluate")
    copy = changed(tiny, folder, "UPDATE ingests SET site = 'elsewhere'")
    arguments = ("--split", EVERYONE, "--into", folder / "e.html", "--modalities")
    return run_json(tiny.bundle, copy, *arguments), (folder / "e.html").read_text()


def run_json(*arguments) -> list[dict]:
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["evaluate", *map(str, arguments), "--json"]) == 0
    return json.loads(out.getvalue())["metrics"]


def changed(tiny, tmp_path: Path, statement: str) -> Path:
    """A copy of the warehouse after one SQL statement."""
    copy = tmp_path / "w.duckdb"
    shutil.copy(tiny.warehouse, copy)
    with duckdb.connect(str(copy)) as connection:
        connection.execute(statement)
    return copy


def test_every_target_and_model_has_its_rows(printed):
    rows, _ = printed
    targets = {(row["outcome"], row["horizon_years"]) for row in rows}
    assert targets == {(name, h) for name in ("stroke", "tumour") for h in (1.0, 3.0)} | {("low_mood", 0.0)}
    judged = [row for row in rows if row["metric"] not in REASONS]
    models = {row["model"] for row in judged if row["outcome"] == "stroke" and " - " not in row["model"]}
    alone = {f"riskpred:{name} only" for name in ("tabular", "series", "image")}
    assert models == {"riskpred", "spline_cox", "treat all", "treat none"} | alone
    assert {row["split"] for row in rows} == {EVERYONE}
    assert all((row["value"] is None) == (row["reason"] is not None) for row in rows)
    everyone = [row for row in rows if row["subgroup"] is None and row["model"] == "riskpred"]
    given = {(row["outcome"], row["metric"]) for row in everyone if row["value"] is not None}
    assert {("stroke", "uno_c"), ("stroke", "ici_floor"), ("low_mood", "auc"), ("low_mood", "slope")} <= given


def test_the_page_shows_every_outcome(printed):
    for name in ("Stroke", "Tumour", "Low mood"):
        assert f"<h2>{name}</h2>" in printed[1]


def test_reasons_are_judged_beside_chance_the_value_and_captum(printed):
    rows, page = printed
    asked = {(name, 3.0) for name in ("stroke", "tumour")} | {("low_mood", 0.0)}
    told = [row for row in rows if row["metric"] in REASONS]
    assert {(row["outcome"], row["horizon_years"]) for row in told} == asked
    others = {"random", "value", "captum_deep_lift", "captum_gradient_shap"}
    for metric in AREAS:
        models = {row["model"] for row in told if row["metric"] == metric}
        assert models == {"riskpred", *others, *(f"riskpred - {name}" for name in others)}
        assert all(row["low"] <= row["value"] <= row["high"] for row in told if row["metric"] == metric)
    assert {row["metric"] for row in told if row["model"] == "riskpred"} == set(REASONS)
    assert "Whether the reasons are true of the model" in page
    assert page.count("data-test-order=") == 3 * (1 + len(others))
    assert "data-test-rejected" not in page


def test_reasons_are_not_asked_where_they_are_not_wanted_or_have_no_inputs(tiny, capsys):
    assert main(["evaluate", str(tiny.bundle), str(tiny.warehouse), "--faithfulness", "0"]) == 0
    assert "reasons are true" not in capsys.readouterr().out
    assert main(["evaluate", str(tiny.bundle), str(tiny.warehouse), "--split", OUT_OF_FOLD]) == 0
    assert "whether the reasons are true was not asked: a bundle keeps no inputs" in capsys.readouterr().out


def test_the_text_goes_to_stdout_and_progress_to_stderr(tiny, capsys):
    assert main(["evaluate", str(tiny.bundle), str(tiny.warehouse)]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("split held_out: ")
    assert "ICI (floor): mean distance" in shown.out
    assert "evaluate: metrics" not in shown.out
    assert "evaluate: metrics" in shown.err


def test_people_it_trained_on_are_refused(tiny, capsys):
    assert main(["evaluate", str(tiny.bundle), str(tiny.warehouse), "--split", "train"]) == 12
    message = capsys.readouterr().err
    assert "subjects of the split train trained this bundle" in message
    assert "--split out_of_fold" in message


def test_a_split_that_is_not_there_is_refused(tiny, capsys):
    assert main(["evaluate", str(tiny.bundle), str(tiny.warehouse), "--split", "summer"]) == 11
    message = capsys.readouterr().err
    assert "no subject is in the split summer" in message
    assert "held_out (" in message


def test_without_held_out_it_says_what_to_do(tiny, tmp_path, capsys):
    copy = changed(tiny, tmp_path, "UPDATE subject_splits SET split = 'train'")
    assert main(["evaluate", str(tiny.bundle), str(copy)]) == 11
    assert "no held_out subjects, and the bundle keeps no cross-validation" in capsys.readouterr().err
    assert main(["evaluate", str(tiny.bundle), str(copy), "--split", CROSS_VALIDATION]) == 12


def test_another_sites_people_are_welcome(tiny, tmp_path):
    copy = changed(tiny, tmp_path, "UPDATE ingests SET site = 'elsewhere'")
    with Warehouse.open(copy, tiny.source) as warehouse:
        found = gather(load_bundle(tiny.bundle), warehouse, EVERYONE)
    assert found.about["site"] == "elsewhere"
    assert len(set(found.subject_id.tolist())) > 200


def test_a_warehouse_without_a_required_code_does_not_fit(tiny, tmp_path, capsys):
    copy = changed(tiny, tmp_path, "DELETE FROM events WHERE code = 'LAB//CHOL'")
    assert main(["evaluate", str(tiny.bundle), str(copy)]) == 12
    assert "LAB//CHOL" in capsys.readouterr().err


def test_out_of_fold_predictions_are_the_training_subjects(tiny):
    bundle = load_bundle(tiny.bundle)
    with Warehouse.open(tiny.warehouse, tiny.source) as warehouse:
        found = gather(bundle, warehouse, OUT_OF_FOLD)
        held_out = gather(bundle, warehouse, "held_out")
    assert len(found) == len(bundle.out_of_fold)
    assert found.prediction_time is None
    assert "calibration metrics flatter" in found.notes[0]
    assert list(found.risks) == ["riskpred"]  # no peer is fitted for these
    assert found.risks["riskpred"].shape == (1, len(found), 5)
    assert set(found.status["stroke"].tolist()) <= {-1, 0, 1, 2}
    # In one competing set, one outcome's event is the other's competing event.
    assert np.all(found.status["tumour"][found.status["stroke"] == 1] == 2)
    assert set(held_out.pattern) <= {"tabular", "tabular+series", "tabular+image", "tabular+series+image"}


def test_risks_evaluated_are_the_risks_predicted_with_one_modality_taken_away(tiny):
    bundle = load_bundle(tiny.bundle)
    with Warehouse.open(tiny.warehouse, tiny.source) as warehouse:
        found = gather(bundle, warehouse, "held_out", single_modalities=True)
    only = found.pattern == "tabular"
    assert only.any()
    # Who had nothing but tabular data has the same risk without the rest.
    assert np.allclose(found.risks["riskpred"][0, only], found.risks["riskpred:tabular only"][0, only], atol=1e-9)
    assert not np.allclose(found.risks["riskpred"][0, ~only], found.risks["riskpred:tabular only"][0, ~only], atol=1e-9)


def test_true_risks_are_compared_where_there_are_some(tiny, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    from riskpred.records.schema import table_schema

    with Warehouse.open(tiny.warehouse, tiny.source) as warehouse:
        found = gather(load_bundle(tiny.bundle), warehouse, "held_out")
    rows = [
        {
            "subject_id": int(subject),
            "outcome": "stroke",
            "horizon_years": 3.0,
            "prediction_time": datetime.fromtimestamp(time / 1e6, UTC).replace(tzinfo=None),
            "risk": 0.01 + 0.01 * i,
        }
        for i, (subject, time) in enumerate(zip(found.subject_id, found.prediction_time, strict=True))
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=table_schema(".", "truth").arrow()), tmp_path / "truth.parquet")
    assert main(["evaluate", str(tiny.bundle), str(tiny.warehouse), "--truth", str(tmp_path / "none.parquet")]) == 11
    table = run_json(tiny.bundle, tiny.warehouse, "--truth", tmp_path / "truth.parquet")
    assert "truth" in {row["model"] for row in table}
    assert not {"truth_modality", "pointing_game"} & {row["metric"] for row in table}, "no such files beside it"


def test_help_has_an_example(capsys):
    assert main(["evaluate", "--help"]) == 0
    assert "Example: riskpred evaluate" in capsys.readouterr().out


def test_a_cross_validation_is_the_default_without_held_out_people(tiny, tmp_path):
    bundle = load_bundle(tiny.bundle)
    kept = bundle.out_of_fold
    twice = joined(
        [
            replace(
                kept,
                repeat=np.full(len(kept), repeat),
                risk=kept.risk * (1.0 if repeat == 0 else 0.5),
                peer_risk=kept.risk * 0.25,
            )
            for repeat in (0, 1)
        ]
    )
    bundle = replace(bundle, cross_validation=twice)
    copy = changed(tiny, tmp_path, "UPDATE subject_splits SET split = 'train'")
    with Warehouse.open(copy, tiny.source) as warehouse:
        found = gather(bundle, warehouse)
    assert found.split == CROSS_VALIDATION
    assert found.risks["riskpred"].shape == (2, len(kept), 5)
    assert np.array_equal(found.risks["riskpred"][1], 0.5 * found.risks["riskpred"][0])
    assert np.array_equal(found.risks["spline_cox"][0][:, 0], 0.25 * found.risks["riskpred"][0][:, 0])
    assert np.isnan(found.risks["spline_cox"][..., 4]).all()  # low mood has the logistic peer
    assert "x 2 on its training subjects" in found.notes[0]
