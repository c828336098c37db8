"""A bundle at another site: how its people differ, what recalibration would change, and `fit --recalibrate`."""

import contextlib
import io
import json
import shutil
from dataclasses import fields, replace
from pathlib import Path

import duckdb
import numpy as np
import pytest
from safetensors.numpy import load_file

from riskpred.cli import main
from riskpred.model.bundle import Contents, load_bundle, write_bundle
from riskpred.records.warehouse import Warehouse

COPIES = 4
SITE = "elsewhere"

pytestmark = pytest.mark.usefixtures("few_draws")


@pytest.fixture(scope="module")
def elsewhere(tiny, tmp_path_factory) -> Path:
    """The tiny hospital four times over as another site, where two of three strokes and nearly all tumours are not
    recorded, cholesterol is 1 mmol/L higher and few have images."""
    path = tmp_path_factory.mktemp("elsewhere") / "elsewhere.duckdb"
    shutil.copy(tiny.warehouse, path)
    with duckdb.connect(str(path)) as connection:
        for table in ("events", "images", "subject_splits"):
            connection.execute(
                f"INSERT INTO {table} SELECT t.* REPLACE (subject_id + 100000 * k AS subject_id) "
                f"FROM {table} t, range(1, {COPIES}) r(k)"
            )
        connection.execute("DELETE FROM events WHERE code = 'DX//STROKE' AND hash(subject_id) % 3 > 0")
        connection.execute("DELETE FROM events WHERE code = 'DX//TUMOUR' AND hash(subject_id) % 20 > 0")
        connection.execute("UPDATE events SET numeric_value = numeric_value + 1 WHERE code = 'LAB//CHOL'")
        connection.execute("DELETE FROM images WHERE hash(subject_id) % 4 > 0")
        connection.execute(f"UPDATE ingests SET site = '{SITE}', image_root = '{tiny.source}'")
    return path


@pytest.fixture(scope="module")
def told(tiny, elsewhere):
    """The JSON of an evaluation of everyone elsewhere, its page, and the text of the held out."""
    page = elsewhere.with_suffix(".html")
    found = json.loads(run("evaluate", tiny.bundle, elsewhere, "--split", "everyone", "--json", "--into", page))
    return found, page.read_text(), run("evaluate", tiny.bundle, elsewhere)


@pytest.fixture(scope="module")
def recalibrated(tiny, elsewhere):
    """`fit --recalibrate` on the other site: the new bundle, stdout and stderr."""
    into, errors = elsewhere.with_name("new"), io.StringIO()
    with contextlib.redirect_stderr(errors):
        out = run("fit", "--recalibrate", tiny.bundle, elsewhere, "--into", into)
    return into, out, errors.getvalue()


def run(*arguments) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main([str(argument) for argument in arguments]) == 0
    return out.getvalue()


def test_the_json_says_how_the_people_differ(told):
    site = told[0]["site"]
    assert (site["training_site"], site["site"], site["reason"]) == ("tiny", SITE, None)
    assert site["here"]["subjects"] > 3 * site["training"]["subjects"]
    chol = next(row for row in site["features"] if row["name"] == "LAB//CHOL:last")
    assert chol["smd"] == pytest.approx(1.0, abs=0.15)  # 1 mmol/L, and the SD is 1
    assert chol["psi"] > 0.5
    age = next(row for row in site["features"] if row["name"] == "age_years")
    assert abs(age["smd"]) < 0.1
    then, now = (dict(map(tuple, site[side]["outcomes"]["stroke"]["horizons"]))[3.0] for side in ("training", "here"))
    assert now < 0.55 * then
    assert site["here"]["patterns"]["tabular+series"] > site["training"]["patterns"]["tabular+series"] + 0.1
    assert site["membership"]["auc"] > 0.55
    assert sum(site["here"]["sex"].values()) == pytest.approx(1.0)


def test_the_json_says_what_recalibration_would_change(told):
    found = told[0]["site"]["recalibration"]
    stroke = next(change for change in found["changes"] if change["cause"] == "stroke")
    assert stroke["intercept"] + -2.5 * (stroke["slope"] - 1) < -0.2
    tumour = next(change for change in found["changes"] if change["cause"] == "tumour")
    assert "20 needed: its map is kept" in tumour["reason"]
    assert 3 <= found["splits"] <= 20
    values = {
        (row["model"], row["metric"]): row["value"]
        for row in found["metrics"]
        if (row["outcome"], row["horizon_years"]) == ("stroke", 3.0)
    }
    assert values["recalibrated", "ici"] < 0.7 * values["as it is", "ici"]
    assert values["as it is", "citl"] < -0.6
    assert abs(values["recalibrated", "citl"]) < abs(values["as it is", "citl"])
    assert values["recalibrated", "brier"] < values["as it is", "brier"]


def test_text_and_page_say_first_who_then_what_it_is_worth_then_recalibration(told):
    rows, page, text = told
    order = [
        text.index(part)
        for part in ("another site: ", "Cholesterol, mmol/L", "split held_out: ", "stroke (of illness): ")
    ]
    assert order == sorted(order)
    order = [page.index(part) for part in ('data-test-site="before"', "<h2>Stroke</h2>", 'data-test-site="after"')]
    assert order == sorted(order)
    share = dict(map(tuple, rows["site"]["here"]["outcomes"]["stroke"]["horizons"]))[3.0]
    assert f"{100 * share:.1f} %" in page
    assert "fit --recalibrate" in page


def test_at_its_own_site_only_on_request(tiny):
    arguments = ("evaluate", tiny.bundle, tiny.warehouse, "--json")
    assert "site" not in json.loads(run(*arguments))
    site = json.loads(run(*arguments, "--external"))["site"]
    assert site["site"] == site["training_site"] == "tiny"


def test_the_bundles_own_predictions_are_no_external_validation(tiny, elsewhere, capsys):
    assert main(["evaluate", str(tiny.bundle), str(elsewhere), "--split", "out_of_fold"]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(tiny.bundle), str(elsewhere), "--split", "out_of_fold", "--external"]) == 11
    assert "no external validation" in capsys.readouterr().err


def test_a_bundle_without_a_summary_of_its_people_says_so(tiny, elsewhere, tmp_path):
    old = load_bundle(tiny.bundle)
    contents = Contents(**{one.name: getattr(old, one.name) for one in fields(Contents)})
    card = {key: value for key, value in old.card.items() if key != "population"}
    write_bundle(tmp_path / "old", replace(contents, card=card))
    text = run("evaluate", tmp_path / "old", elsewhere)
    assert "the bundle keeps no summary of its training population" in text
    assert "split held_out" in text


def test_the_card_of_a_bundle_holds_no_small_cell(tiny):
    population = load_bundle(tiny.bundle).card["population"]
    assert json.loads(json.dumps(population, allow_nan=False)) == population
    rows = population["rows"]
    for shares in (population["sex"], population["patterns"]):
        assert all(round(share * rows) >= 10 for share in shares.values())
    for feature in population["features"]:
        if feature["missing"] is not None:
            assert not 0 < round(feature["missing"] * rows) < 10


def test_recalibration_changes_the_maps_and_nothing_of_the_network(tiny, recalibrated):
    new = recalibrated[0]
    before, after = (load_file(path / "weights.safetensors") for path in (tiny.bundle, new))
    assert before.keys() == after.keys()
    changed = {name.split(".")[0] for name in before if before[name].tobytes() != after[name].tobytes()}
    assert "calibrations" in changed
    assert changed <= {"calibrations", "widening"}
    for name in ("plan.json", "layout.json", "config.json", "peer.safetensors", "reference.safetensors"):
        assert (tiny.bundle / name).read_bytes() == (new / name).read_bytes(), name


def test_it_says_where_it_came_from_and_what_was_kept(tiny, recalibrated):
    new, out, errors = recalibrated
    old, bundle = load_bundle(tiny.bundle), load_bundle(new)
    entry = bundle.card["recalibrated"][-1]
    assert (entry["from_sha256"], entry["site"]) == (old.sha256, SITE)
    tumour = next(cause for cause in entry["causes"] if cause["cause"] == "tumour")
    assert tumour["reason"]
    assert tumour["events"] is None or tumour["events"] < 20
    assert bundle.card["limits"][-1].startswith(f"Recalibrated to the site {SITE}")
    assert "bf16" in old.card["numeric_paths"]
    assert "numeric_paths" not in bundle.card, "they were measured through the old maps"
    assert "tumour" in errors
    assert "its map is kept" in errors
    assert "stroke (of illness): intercept" in out
    assert f"sha256 {old.sha256[:12]}" in out
    assert bundle.version != old.version or bundle.sha256 != old.sha256
    assert bundle.counts["recalibrated_on"]["subjects"] == entry["subjects"]
    aged = bundle.card["thirty_days"]
    assert aged["subjects"] == entry["subjects"], "of this site's people, with the new maps"
    before, after = (
        one.card["thirty_days"]["risk_points"]["stroke"]["3"] for one in (load_bundle(tiny.bundle), bundle)
    )
    assert 0 < after["median"] != before["median"]
    assert "30 days with nothing new move a risk by" in out
    assert (bundle.model.widening >= old.model.widening).all()


def test_its_calibrating_people_count_as_seen_and_the_old_ones_too(tiny, elsewhere, recalibrated, capsys):
    new = load_bundle(recalibrated[0])
    with Warehouse.open(elsewhere) as warehouse:
        splits = warehouse.splits()
    mine = np.array([subject for subject, split in splits.items() if split != "held_out"])
    others = np.array([subject for subject, split in splits.items() if split == "held_out"])
    assert new.seen_in_training(SITE, mine).mean() > 0.95  # but for those whom nothing made eligible
    assert not new.seen_in_training(SITE, others).any()
    assert np.isin(load_bundle(tiny.bundle).trained_on, new.trained_on).all()
    assert main(["evaluate", str(recalibrated[0]), str(elsewhere), "--split", "train"]) == 12
    capsys.readouterr()
    assert main(["evaluate", str(recalibrated[0]), str(elsewhere)]) == 0


def test_a_night_can_be_scored_with_it_and_risks_of_stroke_are_lower(tiny, elsewhere, recalibrated, tmp_path):
    def stroke(bundle: Path) -> list[tuple]:
        scores = tmp_path / f"{bundle.name}.duckdb"
        assert (
            main(["score", str(elsewhere), "--model", str(bundle), "--into", str(scores), "--explain", "0", "--force"])
            == 0
        )
        with duckdb.connect(str(scores), read_only=True) as connection:
            return connection.execute(
                "SELECT avg(risk), avg(percentile), min(risk_low <= risk AND risk <= risk_high) FROM risk_scores "
                "WHERE outcome = 'stroke' AND horizon_years = 3"
            ).fetchall()

    before, after = stroke(tiny.bundle)[0], stroke(recalibrated[0])[0]
    assert after[0] < 0.75 * before[0]
    assert after[1] == pytest.approx(before[1], abs=0.05)  # the reference moved along
    assert after[2]


def test_what_cannot_be_recalibrated_is_refused(tiny, elsewhere, recalibrated, tmp_path, capsys):
    def refused(code: int, *arguments) -> str:
        assert main(["fit", *map(str, arguments)]) == code
        assert not (tmp_path / "b").exists()
        return capsys.readouterr().err

    into = ("--into", tmp_path / "b")
    assert "trained it already" in refused(12, "--recalibrate", tiny.bundle, tiny.warehouse, *into)
    assert "trained it already" in refused(12, "--recalibrate", recalibrated[0], elsewhere, *into)
    assert "is the bundle to recalibrate" in refused(15, "--recalibrate", tiny.bundle, elsewhere, "--into", tiny.bundle)
    assert "not a bundle" in refused(12, "--recalibrate", tmp_path / "none", elsewhere, *into)
    assert "takes one argument" in refused(2, "--recalibrate", tiny.bundle, tiny.study, elsewhere, *into)
    assert "the warehouse is missing" in refused(2, tiny.study, *into)


def test_too_few_events_of_every_cause_are_refused(tiny, elsewhere, tmp_path, capsys):
    few = tmp_path / "few.duckdb"
    shutil.copy(elsewhere, few)
    with duckdb.connect(str(few)) as connection:
        connection.execute("DELETE FROM events WHERE code IN ('DX//STROKE', 'DX//TUMOUR', 'MEDS_DEATH', 'PHQ9')")
    assert main(["fit", "--recalibrate", str(tiny.bundle), str(few), "--into", str(tmp_path / "b")]) == 11
    message = capsys.readouterr().err
    assert "too few events to recalibrate on" in message
    assert "at least 20 events of one cause" in message
    assert not (tmp_path / "b").exists()


def test_a_warehouse_that_does_not_fit_is_refused(tiny, elsewhere, tmp_path, capsys):
    other = tmp_path / "other.duckdb"
    shutil.copy(elsewhere, other)
    with duckdb.connect(str(other)) as connection:
        connection.execute("DELETE FROM events WHERE code = 'LAB//CHOL'")
    assert main(["fit", "--recalibrate", str(tiny.bundle), str(other), "--into", str(tmp_path / "b")]) == 12
    assert "LAB//CHOL" in capsys.readouterr().err


def test_help_has_an_example_of_both(capsys):
    assert main(["fit", "--help"]) == 0
    help_ = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Example: riskpred fit nafld nafld.duckdb --into nafld-bundle" in help_
    assert "riskpred fit --recalibrate nafld-bundle other.duckdb --into other-bundle" in help_
