import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from riskpred.cli import main
from riskpred.errors import InputError, OutputError
from riskpred.fit.run import fit
from riskpred.model.bundle import load_bundle
from riskpred.records.schema import table_schema

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
