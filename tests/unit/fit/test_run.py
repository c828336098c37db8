import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from riskpred.cli import main
from riskpred.errors import InputError, OutputError
from riskpred.fit.data import training_rows
from riskpred.fit.run import fit
from riskpred.model.bundle import load_bundle
from riskpred.records.schema import table_schema
from riskpred.records.warehouse import Warehouse

OUTCOMES = """
entry_codes: [ENTRY]
leaving_codes: [LEAVE]
prediction_times: {days_after_entry: [0]}
horizons_years: [1, 3]
outcomes:
  heart:
    display: Heart attack
    rule: {codes: [DX//MI]}
"""
FEATURES = """
modalities:
  tabular:
    kind: tabular
    features:
      - {builtin: age_years}
      - {codes: [LAB//A], aggregates: [last, count]}
      - {codes: [GENDER//*], category: true}
  series: {kind: series, codes: [LAB//A, LAB//B], max_steps: 8}
"""
NETWORK = """
encoders:
  tabular: {kind: tabular, members: 2, width: 8, depth: 1}
  series: {kind: series, width: 4}
embedding: 4
intervals: 4
members: 2
training: {epochs: 1, batch_size: 128, ridge_grid: [1.0, 10.0]}
"""
Make = Callable[..., Path]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "small"
    folder.mkdir()
    for name, text in (("outcomes", OUTCOMES), ("features", FEATURES), ("network", NETWORK)):
        (folder / f"{name}.yaml").write_text(text)
    return folder


@pytest.fixture
def warehouse(tmp_path: Path) -> Make:
    """warehouse(name, shuffle, event_code): 200 people followed for years after one day, some with an event."""

    def make(name: str = "w.duckdb", shuffle: int | None = None, event_code: str = "DX//MI", split: str = "") -> Path:
        rng = np.random.default_rng(0)
        day = datetime(2010, 1, 1)
        events: list[tuple[object, ...]] = []
        for subject in range(1, 201):
            age, lab = rng.uniform(40, 80), rng.normal(5, 1)
            events.append((subject, day, "ENTRY", None, None, None))
            events.append((subject, day - timedelta(days=int(age * 365.25)), "MEDS_BIRTH", None, None, None))
            events.append((subject, None, f"GENDER//{'FM'[rng.integers(2)]}", None, None, None))
            for before in rng.integers(0, 900, rng.integers(0, 4)):
                code = rng.choice(["LAB//A", "LAB//B"])
                when = day - timedelta(days=int(before))
                events.append((subject, when, code, float(lab + rng.normal()), None, "mmol/L"))
            years = rng.exponential(20 * np.exp(-(age - 60) / 15))
            if years < 5:
                events.append((subject, day + timedelta(days=years * 365.25), event_code, None, None, None))
            events.append((subject, day + timedelta(days=5 * 365.25), "LEAVE", None, None, None))
        if shuffle is not None:
            events = [events[i] for i in np.random.default_rng(shuffle).permutation(len(events))]
        path = tmp_path / name
        with duckdb.connect(str(path)) as connection:
            for table in ("events", "images", "subject_splits"):
                connection.execute(table_schema("warehouse", table).ddl())
            columns = list(zip(*events, strict=True))
            schema = table_schema("warehouse", "events").arrow()
            connection.register(
                "e", pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema)
            )
            connection.execute("INSERT INTO events SELECT * FROM e")
            connection.execute(
                "INSERT INTO subject_splits "
                "SELECT s, CASE WHEN s % 5 = 0 THEN 'held_out' ELSE ? END FROM range(1, 201) AS r(s)",
                [split or "train"],
            )
        return path

    return make


def test_a_fit_leaves_a_bundle_that_knows_whom_it_was_trained_on(
    study: Path, warehouse: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = warehouse()
    assert main(["fit", str(study), str(source), "--into", str(tmp_path / "b"), "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    bundle = load_bundle(tmp_path / "b")
    assert done["sha256"] == bundle.sha256
    assert done["targets"] == [["heart", 1.0], ["heart", 3.0]]
    assert done["counts"]["subjects"] == 160, "40 of 200 are held out"
    assert 0 < done["counts"]["outcomes"]["heart"]["events"] < 100
    ((path, measured),) = bundle.card["numeric_paths"].items()
    assert path == "bf16"
    assert measured["rows"] == 160
    assert 0 < measured["largest_difference"] < 0.05
    assert measured["permitted"] == (measured["largest_difference"] <= 0.001)
    site = bundle.card["trained_on"]["site"]
    assert bundle.seen_in_training(site, np.arange(1, 201)).tolist() == [s % 5 != 0 for s in range(1, 201)]
    assert len(bundle.out_of_fold) == 160
    assert bool((np.diff(bundle.out_of_fold.risk, axis=1) >= 0).all())


def test_the_order_of_rows_in_the_warehouse_changes_no_weight(study: Path, warehouse: Make, tmp_path: Path) -> None:
    fit(str(study), warehouse("a.duckdb"), tmp_path / "a", seed=4)
    fit(str(study), warehouse("b.duckdb", shuffle=1), tmp_path / "b", seed=4)
    for name in ("weights.safetensors", "reference.safetensors", "peer.safetensors", "layout.json", "plan.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_an_interruption_leaves_nothing(study: Path, warehouse: Make, tmp_path: Path) -> None:
    class Interrupts:
        def step(self, stage: str, done: int, total: int | None = None) -> None:
            if stage.startswith("train"):
                raise KeyboardInterrupt

    source = warehouse()
    before = set(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        fit(str(study), source, tmp_path / "b", progress=Interrupts())
    assert set(tmp_path.iterdir()) == before


def test_no_event_of_an_outcome_is_said_with_counts(study: Path, warehouse: Make, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the outcome heart cannot be learned") as caught:
        fit(str(study), warehouse(event_code="DX//OTHER"), tmp_path / "b")
    assert caught.value.got == "0 events and 160 other rows in train and tuning"
    assert caught.value.exit_code == 11


def test_no_training_subject_is_said_with_the_splits_there_are(study: Path, warehouse: Make, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no subject to train on") as caught:
        fit(str(study), warehouse(split="held_out"), tmp_path / "b")
    assert caught.value.got == "200 in held_out"


def test_nobody_eligible_is_said_with_counts(study: Path, warehouse: Make, tmp_path: Path) -> None:
    (study / "outcomes.yaml").write_text(OUTCOMES.replace("[0]", "[9000]"))
    with pytest.raises(InputError, match="no eligible row among 160 subjects"):
        fit(str(study), warehouse(), tmp_path / "b")


def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    study: Path, warehouse: Make, tmp_path: Path
) -> None:
    class Never:
        def step(self, stage: str, done: int, total: int | None = None) -> None:
            raise AssertionError("work began")

    with pytest.raises(OutputError, match="does not exist"):
        fit(str(study), warehouse(), tmp_path / "no" / "b", progress=Never())


def test_cross_validation_keeps_a_prediction_of_every_row_in_every_repeat(
    study: Path, warehouse: Make, tmp_path: Path
) -> None:
    (study / "network.yaml").write_text(NETWORK + "cross_validation: {folds: 2, repeats: 2}\n")
    kept = fit(str(study), warehouse(), tmp_path / "b").cross_validation
    assert kept is not None
    assert len(kept) == 2 * 160
    for repeat in (0, 1):
        here = kept.repeat == repeat
        assert sorted(kept.row[here].tolist()) == list(range(160))
        assert set(kept.fold[here].tolist()) == {0, 1}
    assert bool(np.isfinite(kept.risk).all())
    assert bool(np.isfinite(kept.peer_risk).all())
    assert (kept.fold[:160] != kept.fold[np.argsort(kept.row[160:], kind="stable") + 160]).any()


def test_what_30_days_alone_do_is_kept_and_said(
    study: Path, warehouse: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a study that reads nothing but age, it is the risk 30 days older less the risk now, of everyone trained on."""
    (study / "features.yaml").write_text("modalities:\n  tabular: {kind: tabular, features: [{builtin: age_years}]}\n")
    (study / "network.yaml").write_text(NETWORK.replace("  series: {kind: series, width: 4}\n", ""))
    source = warehouse()
    assert main(["fit", str(study), str(source), "--into", str(tmp_path / "b")]) == 0
    said = capsys.readouterr().out
    bundle = load_bundle(tmp_path / "b")
    kept = bundle.card["thirty_days"]
    assert (kept["days"], kept["subjects"], kept["without_input"]) == (30, 160, 0)
    with Warehouse.open(source) as opened:
        _, rows = training_rows(bundle.config, opened)
    age = rows.batch.inputs["tabular"]
    older = replace(
        rows.batch, inputs={"tabular": replace(age, values=(age.values + np.float32(30 / 365.25)).astype(np.float32))}
    )
    points = 100 * np.abs(bundle.model.predict(older).risk - bundle.model.predict(rows.batch).risk)
    for q, horizon in enumerate(("1", "3")):
        told = kept["risk_points"]["heart"][horizon]
        assert told["median"] > 0
        expected = {
            "median": np.median(points[:, q]),
            "p95": np.percentile(points[:, q], 95),
            "largest": points[:, q].max(),
        }
        assert told == pytest.approx(expected, rel=0.01, abs=1e-4)
    worst = kept["risk_points"]["heart"]["3"]
    assert f"30 days with nothing new move a risk by {worst['median']:.2g} points" in said


def test_events_of_the_30_days_change_nothing_of_it(study: Path, warehouse: Make, tmp_path: Path) -> None:
    source = warehouse()
    before = fit(str(study), source, tmp_path / "a").card["thirty_days"]
    with duckdb.connect(str(source)) as connection:
        connection.execute(
            "INSERT INTO events SELECT DISTINCT subject_id, TIMESTAMP '2010-01-11', 'LAB//A', 30.0, NULL, 'mmol/L' "
            "FROM events ORDER BY subject_id"
        )
    assert fit(str(study), source, tmp_path / "b").card["thirty_days"] == before


@pytest.mark.parametrize("aggregates", ["last", "count"])
def test_the_loss_of_a_value_that_leaves_its_window_is_kept(
    study: Path, warehouse: Make, tmp_path: Path, aggregates: str
) -> None:
    """The study's only feature has a window of 10 days: its last value is gone 30 days later, its count is 0."""
    (study / "features.yaml").write_text(
        "modalities:\n  tabular:\n    kind: tabular\n"
        f"    features: [{{codes: [LAB//NEW], aggregates: [{aggregates}], windows_days: [10]}}]\n"
    )
    (study / "network.yaml").write_text(NETWORK.replace("  series: {kind: series, width: 4}\n", ""))
    source = warehouse()
    with duckdb.connect(str(source)) as connection:  # those who will fall ill were measured five times as often
        connection.execute(
            "INSERT INTO events "
            "SELECT subject_id, TIMESTAMP '2009-12-27' - to_hours(n), 'LAB//NEW', 1.0 + n, NULL, NULL FROM "
            " (SELECT subject_id, bool_or(code = 'DX//MI') AS ill FROM events GROUP BY 1) AS s, range(5) AS r(n) "
            "WHERE ill OR n = 0 ORDER BY subject_id"
        )
    kept = fit(str(study), source, tmp_path / "b").card["thirty_days"]
    moved = kept["risk_points"]["heart"]["3"]
    assert kept["subjects"] == 160
    if aggregates == "last":
        assert kept["without_input"] == 160
        assert moved == {"median": None, "p95": None, "largest": None}
    else:
        assert kept["without_input"] == 0
        assert moved["largest"] > 1, "of a risk that was high by five measurements"


SET_OUTCOMES = """
entry_codes: [ENTRY]
prediction_times: {days_after_entry: [0]}
grades:
  dr: {codes: [GRADE], levels: {1: Mild or more, 2: Moderate or more, 3: Severe or more}}
classes:
  kind: {codes: [KIND], values: {cyst: Cyst, cancer: Cancer}}
outcomes:
  pain: {display: Pain, rule: {codes: [PAIN], at_least: 1}, known_at_once: true}
"""


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A study of grades, classes and one label beside them, and 500 people whose laboratory values tell."""
    folder = tmp_path_factory.mktemp("clinic")
    study = folder / "clinic"
    study.mkdir()
    for name, text in (("outcomes", SET_OUTCOMES), ("features", FEATURES), ("network", NETWORK)):
        (study / f"{name}.yaml").write_text(text)
    rng, day = np.random.default_rng(3), datetime(2010, 1, 1)
    events: list[tuple[object, ...]] = []
    for subject in range(1, 501):
        a, b = rng.normal(size=2)
        events.append((subject, day, "ENTRY", None, None, None))
        events.append(
            (subject, day - timedelta(days=int(rng.uniform(40, 80) * 365.25)), "MEDS_BIRTH", None, None, None)
        )
        events.append((subject, day, "LAB//A", float(a), None, "mmol/L"))
        events.append((subject, day, "LAB//B", float(b), None, "mmol/L"))
        grade = int(np.clip(np.searchsorted([0.0, 0.6, 1.2], a + 0.4 * rng.normal()), 0, 3))
        events.append((subject, day, "GRADE", float(grade), None, None))
        odds = np.exp([0.0, -0.3 + 1.5 * a, -0.6 - 1.5 * a])
        events.append(
            (subject, day, "KIND", None, str(rng.choice(["none", "cyst", "cancer"], p=odds / odds.sum())), None)
        )
        events.append((subject, day, "PAIN", float(rng.random() < 0.3), None, None))
    path = folder / "w.duckdb"
    with duckdb.connect(str(path)) as connection:
        for table in ("events", "images", "subject_splits"):
            connection.execute(table_schema("warehouse", table).ddl())
        schema = table_schema("warehouse", "events").arrow()
        columns = zip(*events, strict=True)
        connection.register("e", pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema))
        connection.execute("INSERT INTO events SELECT * FROM e")
        connection.execute(
            "INSERT INTO subject_splits SELECT s, CASE WHEN s % 4 = 0 THEN 'held_out' ELSE 'train' END "
            "FROM range(1, 501) AS r(s)"
        )
    fit(str(study), path, folder / "bundle")
    return path, folder / "bundle"


def test_grades_and_classes_are_fitted_judged_scored_and_explained(
    clinic: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    warehouse, bundle = clinic
    scores, page = tmp_path / "s.duckdb", tmp_path / "e.html"
    capsys.readouterr()
    judged = ["evaluate", str(bundle), str(warehouse), "--into", str(page), "--faithfulness", "0", "--json"]
    assert main(judged) == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    kappa, accuracy = (
        next(r for r in metrics if (r["model"], r["outcome"], r["metric"]) == ("riskpred", outcome, metric))
        for outcome, metric in (("dr", "quadratic_kappa"), ("kind", "accuracy"))
    )
    assert kappa["low"] < kappa["value"] < kappa["high"]
    assert kappa["value"] > 0.5
    assert accuracy["value"] > 0.45, "the largest class has 37 %"
    assert "Who was called what" in page.read_text()
    asked = ["--as-of", "2010-01-01", "--explain", "20", "--force"]
    assert main(["score", str(warehouse), "--model", str(bundle), "--into", str(scores), *asked]) == 0
    with duckdb.connect(str(scores), read_only=True) as connection:
        rows = connection.sql("SELECT subject_id, outcome, risk, risk_low, risk_high, reference_risk FROM risk_scores")
        found = rows.pl()
        gaps = connection.sql(
            "SELECT max(abs(r.risk * 100 - r.reference_risk * 100 - e.total)) FROM risk_scores r JOIN "
            "(SELECT subject_id, outcome, sum(contribution) AS total FROM explanations WHERE level = 'modality' "
            "GROUP BY ALL) e USING (subject_id, outcome)"
        ).fetchall()
    assert gaps[0][0] < 0.001
    wide = {
        column: found.pivot("outcome", index="subject_id", values=column).sort("subject_id")
        for column in ("risk", "risk_low", "risk_high")
    }
    for one in wide.values():
        grades = one.select("dr_1", "dr_2", "dr_3").to_numpy()
        assert (np.diff(grades, axis=1) <= 1e-9).all()
    assert float(wide["risk"].select("kind_cyst", "kind_cancer").to_numpy().sum(axis=1).max()) <= 1.0
    told = load_bundle(bundle)
    assert told.model.layout.ladders
    assert {part.outcomes for part in told.peer.parts if hasattr(part, "ordered")} == {
        ("dr_1", "dr_2", "dr_3"),
        ("kind_cyst", "kind_cancer"),
    }
    assert main(["report", str(scores), "--into", str(tmp_path / "pages"), "--top", "2"]) == 0
    pages = [
        text for path in (tmp_path / "pages").rglob("*.html") if 'data-test-set="dr"' in (text := path.read_text())
    ]
    assert len(pages) == 2
    for text in pages:
        for name, parts in (("dr", 4), ("kind", 3)):
            shares = re.findall(rf'<data value="([^"]+)" data-test-share="{name}[|]', text)
            assert len(shares) == parts
            assert sum(map(float, shares)) == pytest.approx(1.0, abs=1e-6)
