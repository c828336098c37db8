"""A night's rows of drift: one planted shift is flagged and no other, and no emptiness breaks it."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from riskpred.features.batch import FeatureBatch
from riskpred.features.join import take
from riskpred.model.drift_reference import DriftReference, RiskCells, learn_drift_reference
from riskpred.records.schema import table_schema
from riskpred.score.drift import drift_rows, drift_said, feature_bin_rows

DAY = 86_400_000_000
RISKS = (RiskCells("cardio", 1.0, (20,) * 10, 0.1),)

Row = dict[str, Any]


@pytest.fixture
def scores() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        for table in ("runs", "drift", "feature_bins", "risk_scores", "input_receipts"):
            connection.execute(table_schema("scores", table).ddl())
        yield connection


def put(scores: duckdb.DuckDBPyConnection, table: str, rows: pa.Table, select: str = "*") -> None:
    scores.register("given", rows)
    scores.execute(f"INSERT INTO {table} SELECT {select} FROM given")
    scores.unregister("given")


@pytest.fixture
def hospital(small_hospital: Any, small_config: Any, small_batch: Any, as_of_us: int) -> Callable[..., FeatureBatch]:
    """hospital(change): the small hospital's features, ten times over (610 rows), after a change to its events."""
    from riskpred.features.build import build
    from riskpred.features.join import concat
    from riskpred.records.cohort import cohort
    from riskpred.records.warehouse import Warehouse

    def features(change: Callable[[tuple[Any, ...]], tuple[Any, ...] | None] = lambda event: event) -> FeatureBatch:
        events = [kept for event in small_hospital.events if (kept := change(event)) is not None]
        with Warehouse.open(small_hospital.write("changed.duckdb", events=events)) as warehouse:
            (chunk,) = warehouse.chunks()
            rows = cohort(chunk, small_config.outcomes, warehouse.data_until, as_of_us)
            batch = build(chunk, rows, small_batch[0], warehouse.image_root)
        whole = concat([batch] * 10)
        return replace(whole, subject_id=np.arange(len(whole)))

    return features


def night(
    scores: duckdb.DuckDBPyConnection,
    reference: DriftReference,
    batch: FeatureBatch | None,
    *,
    run: str = "tonight",
    day: int = 10,
    bundle: str = "b",
    percentile: Any = None,
) -> list[Row]:
    """Store a night's rows as a night does, and what drift says of it; the ledger row comes last."""
    if batch is not None:
        put(scores, "feature_bins", feature_bin_rows(batch, reference), f"'{run}', *")
        for modality, receipt in batch.receipts.items():
            rows = pa.table({"s": batch.subject_id, "status": list(receipt.status)})
            put(scores, "input_receipts", rows, f"'{run}', s, '{modality}', status, 1, NULL, NULL, [], ''")
    if percentile is not None:
        shares = np.asarray(percentile, dtype=float)
        rows = pa.table({"s": np.arange(len(shares)), "p": shares})
        risk = "p / 5, 0, 1, .1, 'e', p, '2026-01-01', s % 2 = 0, []"
        put(scores, "risk_scores", rows, f"'{run}', s, 'cardio', 1, '2026-01-01', {risk}")
    found = drift_rows(scores, run, reference, as_of=day * DAY, bundle_sha256=bundle, site="here")
    put(scores, "drift", found)
    known = {"run_id": run, "status": "published", "bundle_sha256": bundle}
    columns = []
    for column in table_schema("scores", "runs").columns:
        if column.type == "timestamp_us":
            columns.append(f"make_timestamp({day * DAY})")
        else:
            columns.append(f"'{known.get(column.name, '0')}'")
    scores.execute(f"INSERT INTO runs SELECT {', '.join(columns)}")
    return found.to_pylist()


def flagged(rows: list[Row]) -> set[tuple[Any, ...]]:
    return {
        (row["modality"], row["feature"], row["statistic"], row["against"], row["flag"]) for row in rows if row["flag"]
    }


@pytest.fixture
def reference(hospital: Any, small_batch: Any) -> DriftReference:
    return replace(learn_drift_reference(small_batch[0], hospital()), risks=RISKS)


def test_the_same_people_flag_nothing_and_every_input_is_told(scores: Any, hospital: Any, reference: Any) -> None:
    rows = night(scores, reference, hospital(), percentile=np.arange(100) / 100)
    assert flagged(rows) == set()
    told = {(row["modality"], row["feature"]) for row in rows if row["kind"] == "feature"}
    assert told == {(one.modality, one.name) for one in reference.features}
    assert len(told) == 6
    assert {row["site"] for row in rows} == {"here"}
    used = {row["modality"]: row["tonight"] for row in rows if row["statistic"] == "used_rate"}
    assert used.keys() == {"tabular", "series", "image"}
    assert 0.3 < used["image"] < 0.7


def test_a_planted_shift_is_flagged_and_no_other(scores: Any, hospital: Any, reference: Any) -> None:
    def higher(event: Any) -> Any:
        return (*event[:3], event[3] + 1.5, event[4]) if event[2] == "CHOL" else event

    rows = night(scores, reference, hospital(higher), percentile=np.arange(100) / 100)
    assert flagged(rows) == {("tabular", "CHOL:last", "psi", "training", "alarm")}


def test_a_feed_that_stopped_is_flagged_as_missing(scores: Any, hospital: Any, reference: Any) -> None:
    rows = night(scores, reference, hospital(lambda event: None if event[2] == "HR" else event))
    assert flagged(rows) == {("series", "HR:last", "missing_rate", "training", "alarm")}
    (stopped,) = [row for row in rows if row["feature"] == "HR:last" and row["statistic"] == "psi"]
    assert stopped["tonight"] is None
    assert stopped["n_tonight"] == 0


def test_a_new_category_counts_as_missing(scores: Any, hospital: Any, reference: Any) -> None:
    def other(event: Any) -> Any:
        return (*event[:2], "GENDER//X", *event[3:]) if event[2].startswith("GENDER//") and event[0] % 2 else event

    rows = night(scores, reference, hospital(other))
    assert ("tabular", "GENDER//*:last", "missing_rate", "training", "alarm") in flagged(rows)


def test_a_column_that_training_lacked_is_flagged_when_it_comes(scores: Any, hospital: Any, small_batch: Any) -> None:
    without = learn_drift_reference(small_batch[0], hospital(lambda event: None if event[2] == "CHOL" else event))
    rows = night(scores, without, hospital())
    assert flagged(rows) == {("tabular", "CHOL:last", "missing_rate", "training", "alarm")}


@pytest.mark.parametrize("people", [0, 1])
def test_nobody_and_one_person_break_nothing(scores: Any, hospital: Any, reference: Any, people: int) -> None:
    rows = night(scores, reference, take(hospital(), np.arange(people)), percentile=np.full(people, 0.5))
    assert flagged(rows) == set()
    assert {row["n_tonight"] for row in rows} <= {0, people}
    json.dumps(rows, allow_nan=False)


def test_risks_are_compared_carried_and_scored_alike(scores: Any, reference: Any) -> None:
    rows = night(scores, reference, None, percentile=np.linspace(0.6, 1.0, 200))
    (row,) = [row for row in rows if row["kind"] == "risk" and row["statistic"] == "psi"]
    assert (row["outcome"], row["horizon_years"], row["flag"], row["n_tonight"]) == ("cardio", 1.0, "alarm", 200)
    assert sum(json.loads(row["counts"])) == 200
    (mean,) = [row for row in rows if row["statistic"] == "mean_risk"]
    assert (mean["reference"], mean["tonight"], mean["flag"]) == (0.1, pytest.approx(0.16), None)


def test_the_last_seven_nights_are_those_of_the_same_bundle_before(scores: Any, hospital: Any, reference: Any) -> None:
    def higher(event: Any) -> Any:
        return (*event[:3], event[3] + 1.5, event[4]) if event[2] == "CHOL" else event

    usual, shifted = hospital(), hospital(higher)
    for day in range(1, 10):  # of these, days 3 to 9 are the last seven; 1 and 2 were unlike them
        night(scores, reference, shifted if day < 3 else usual, run=f"r{day}", day=day)
    night(scores, reference, shifted, run="other", day=9, bundle="another")
    night(scores, reference, shifted, run="later", day=20)
    rows = night(scores, reference, usual, run="r10", day=10)
    assert flagged(rows) == set()
    last = {row["feature"]: row for row in rows if row["against"] == "last_7_runs" and row["statistic"] == "psi"}
    assert last["CHOL:last"]["tonight"] == pytest.approx(0, abs=1e-9)
    assert last["CHOL:last"]["n_reference"] == last["CHOL:last"]["n_tonight"], (
        "a mean: the same people, not seven times"
    )
    rows = night(scores, reference, shifted, run="r11", day=11)
    assert ("tabular", "CHOL:last", "psi", "last_7_runs", "alarm") in flagged(rows)


def test_the_first_night_has_no_earlier_ones(scores: Any, hospital: Any, reference: Any) -> None:
    assert {row["against"] for row in night(scores, reference, hospital(), run="r1", day=1)} == {"training"}


def test_counts_outlive_the_cells(scores: Any, hospital: Any, reference: Any) -> None:
    night(scores, reference, hospital(), run="r1", day=1)
    scores.execute("DELETE FROM feature_bins")
    rows = night(scores, reference, hospital(), run="r2", day=2)
    assert sum(row["against"] == "last_7_runs" and row["kind"] == "feature" for row in rows) == 12


def test_an_older_bundle_is_scored_and_the_night_says_what_it_lacks(scores: Any, hospital: Any) -> None:
    bare = DriftReference((), {}, RISKS)
    for run, day in (("r1", 1), ("r2", 2)):
        rows = night(scores, bare, hospital(), run=run, day=day, percentile=np.arange(100) / 100)
    assert scores.execute("SELECT count(*) FROM feature_bins").fetchall() == [(0,)]
    assert {row["kind"] for row in rows} == {"modality", "risk"}
    assert {row["reference"] for row in rows if row["kind"] == "modality" and row["against"] == "training"} == {None}
    assert any(row["reference"] for row in rows if row["kind"] == "modality" and row["against"] == "last_7_runs")
    said = drift_said(drift_rows(scores, "r2", bare, as_of=2 * DAY, bundle_sha256="b", site="here"), bare)
    assert said == "drift: nothing flagged; this bundle keeps no inputs of training to compare with: fit again"


def test_cells_of_another_reference_are_refused(scores: Any, hospital: Any, reference: Any) -> None:
    fewer = replace(reference, features=reference.features[:3])
    put(scores, "feature_bins", feature_bin_rows(take(hospital(), np.arange(5)), reference), "'tonight', *")
    with pytest.raises(pa.ArrowInvalid):
        drift_rows(scores, "tonight", fewer, as_of=DAY, bundle_sha256="b", site="here")


def test_what_is_flagged_is_said_alarms_first(scores: Any, hospital: Any, reference: Any) -> None:
    def harm(event: Any) -> Any:
        if event[2] == "CHOL":
            return (*event[:3], event[3] + 1.5, event[4])
        return event if event[2] != "MEDS_BIRTH" else (event[0], event[1] - timedelta(days=1500), *event[2:])

    night(scores, reference, hospital(harm))
    found = drift_rows(scores, "tonight", reference, as_of=10 * DAY, bundle_sha256="b", site="here")
    said = drift_said(found, reference)
    assert said.startswith("drift: alarm tabular ")
    assert "alarm tabular CHOL:last psi against training" in said
