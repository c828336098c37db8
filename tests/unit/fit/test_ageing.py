"""How far 30 days alone move a risk: against whole features built 30 days on, and blind to what those days bring."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from PIL import Image

from riskpred.features.build import build
from riskpred.features.plan import FeaturePlan
from riskpred.fit.ageing import Moved, card_entry, month_later, moved_at_site, newest_rows, still_there
from riskpred.model.ageing import CARD_KEY, ageing_said
from riskpred.records.chunk import DAY_US
from riskpred.records.cohort import cohort_at
from riskpred.records.warehouse import Warehouse

Make = Callable[..., Any]
SUBJECTS = np.arange(101, 161)
AS_OF = datetime(2026, 1, 1)


@pytest.fixture
def moved_in(small_hospital: Any, small_config: Any, random_bundle: Make, as_of_us: int) -> Make:
    """moved_in(...): points and lost of everyone in the small hospital, written with these events and images."""

    def run(**rows: Any) -> tuple[Any, Any]:
        moments = np.full(len(SUBJECTS), as_of_us)
        with Warehouse.open(small_hospital.write("aged.duckdb", **rows)) as source:
            parts = moved_at_site(random_bundle(1).model, small_config.outcomes, source, SUBJECTS, moments)
        return np.concatenate([part.points for part in parts]), np.concatenate([part.lost for part in parts])

    return run


def whole_later(source: Warehouse, outcomes: Any, plan: FeaturePlan, now: int) -> tuple[Any, Any]:
    """Features of everyone now, and 30 days later with the days between cut out, images read again."""
    (chunk,) = source.chunks(subjects=SUBJECTS)
    at = np.full(len(chunk), now)
    rows = cohort_at(chunk, outcomes, source.data_until, np.arange(len(chunk)), at)
    later = replace(rows, prediction_time=at + 30 * DAY_US)
    return build(chunk, rows, plan, source.image_root), build(chunk.until(at), later, plan, source.image_root)


def test_it_is_the_difference_of_two_whole_predictions(
    small_hospital: Any, small_config: Any, random_bundle: Make, as_of_us: int, moved_in: Make
) -> None:
    model = random_bundle(1).model
    with Warehouse.open(small_hospital.write("w.duckdb")) as source:
        now, later = whole_later(source, small_config.outcomes, model.plan, as_of_us)
    usable = now.usable
    expected = 100 * np.abs(model.predict(later).risk - model.predict(now).risk)[usable]
    points, lost = moved_in()
    assert lost.tolist() == (~later.usable[usable]).tolist()
    told = ~np.isnan(points)
    assert told.sum() > 200
    assert points[told] == pytest.approx(expected[told], abs=1e-4)
    assert points[told].min() > 0, "ages grow, and the gap to the last step of a series"


def test_nothing_of_the_30_days_is_seen(small_hospital: Any, moved_in: Make) -> None:
    Image.fromarray(np.full((24, 24), 200, np.uint8)).save(small_hospital.folder / "new.png")
    before = moved_in()
    soon = AS_OF + timedelta(days=12)
    more = [(int(s), soon, code, value, None) for s in SUBJECTS for code, value in (("SBP", 210.0), ("CHOL", 9.9))]
    pictures = [(f"n{s}", int(s), soon, "DX", "new.png") for s in SUBJECTS]
    after = moved_in(events=small_hospital.events + more, images=small_hospital.images + pictures)
    np.testing.assert_array_equal(after[0], before[0])
    np.testing.assert_array_equal(after[1], before[1])


def test_what_leaves_its_window_is_lost(
    small_hospital: Any, small_config: Any, random_bundle: Make, as_of_us: int
) -> None:
    """With a window of 10 days on its only modality nobody who had a value in it has a risk 30 days later."""
    plan = random_bundle(1).plan
    narrow = replace(plan, modalities={"series": replace(plan.modalities["series"], window_days=10)})
    with Warehouse.open(small_hospital.write("w.duckdb")) as source:
        now, _ = whole_later(source, small_config.outcomes, narrow, as_of_us)
        later = month_later(narrow, small_config.outcomes, source, SUBJECTS, np.full(len(SUBJECTS), as_of_us))
    assert now.present["series"].sum() >= 5
    assert not later.present["series"].any()


@pytest.mark.parametrize("window", [None, 35, 39, 40])
@pytest.mark.parametrize("stale", [None, 38, 39])
def test_an_image_stays_as_long_as_it_would_be_read_again(
    small_hospital: Any, small_config: Any, random_bundle: Make, as_of_us: int, window: int | None, stale: int | None
) -> None:
    """30 days on it is 39 days old: the last day of a stale_after_days of 39, the first outside a window of 39."""
    plan = random_bundle(1).plan
    image = replace(plan.modalities["image"], window_days=window, stale_after_days=stale)
    only = replace(plan, modalities={"image": image})
    with Warehouse.open(small_hospital.write("w.duckdb")) as source:
        now, later = whole_later(source, small_config.outcomes, only, as_of_us)
    assert now.present["image"].sum() > 20
    kept = still_there(image, now, "image", later.prediction_time)
    rows = np.zeros(len(now), dtype=bool)
    rows[now.inputs["image"].row[kept]] = True
    assert rows.tolist() == later.present["image"].tolist()
    assert kept.any() == (window in (None, 40) and stale in (None, 39))


def test_the_newest_row_of_some_subjects_is_taken() -> None:
    subject, time = np.repeat(np.arange(500), 3), np.tile([30, 10, 20], 500)
    everyone = newest_rows(subject, time, seed=1)
    assert (subject[everyone] == np.arange(500)).all()
    assert (time[everyone] == 30).all()
    some = newest_rows(subject, time, seed=1, most=100)
    assert len(some) == 100
    assert (np.diff(subject[some]) > 0).all()
    assert set(some) < set(everyone)
    by = np.random.default_rng(0).permutation(len(subject))
    again = newest_rows(subject[by], time[by], seed=1, most=100)
    assert (subject[by][again] == subject[some]).all(), "whatever the order of rows"
    assert set(newest_rows(subject, time, seed=2, most=100)) != set(some)


def test_the_entry_counts_and_the_sentence_tells_the_worst() -> None:
    nothing = np.nan
    points = np.array([[0.1, 1.0], [0.2, nothing], [nothing, nothing]])
    entry = card_entry(
        (("mood", 0.0), ("heart", 5.0)), [Moved(points[:2], np.zeros(2, bool)), Moved(points[2:], np.ones(1, bool))]
    )
    assert (entry["days"], entry["subjects"], entry["without_input"]) == (30, 3, None)
    assert entry["risk_points"]["mood"]["0"] == {"median": 0.15, "p95": 0.195, "largest": 0.2}
    assert entry["risk_points"]["heart"]["5"] == {"median": 1.0, "p95": 1.0, "largest": 1.0}
    said = ageing_said({CARD_KEY: entry})
    assert said.startswith("30 days with nothing new move a risk by 1 points (median), 1 (95 % at most), 1 (largest)")
    assert said.endswith("heart within 5 years, of 3 training subjects; fewer than 10 of 3 have no usable input left")
    nobody = card_entry((("mood", 0.0),), [Moved(np.full((12, 1), nothing), np.ones(12, bool))])
    assert nobody["risk_points"] == {"mood": {"0": {"median": None, "p95": None, "largest": None}}}
    assert "nobody to tell by; 12 of 12 have no usable input left" in ageing_said({CARD_KEY: nobody})
    assert "not recorded in this bundle" in ageing_said({})
