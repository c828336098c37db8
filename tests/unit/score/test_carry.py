"""Only what changed is computed: everyone else's rows are carried, with the moment they were computed at."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from riskpred.records.chunk import DAY_US
from riskpred.score.plan import Night as Planned
from riskpred.score.plan import latest_valid

Night = Callable[..., Any]
Rows = Callable[..., list[tuple[Any, ...]]]

KEPT = "subject_id, outcome, horizon_years, prediction_time, risk, risk_low, risk_high, percentile, scored_at"


def _new_value(small_hospital: Any, subject: int) -> list[Any]:
    """The hospital's events and one more pressure of one subject, a day before its last moment."""
    latest = max(time for _, time, *_ in small_hospital.events if time)
    return [*small_hospital.events, (subject, latest - timedelta(days=20), "SBP", 171.0, None)]


def test_a_night_without_news_computes_nobody_and_copies_everyone(
    tmp_path: Path, small_hospital: Any, night: Night, rows: Rows
) -> None:
    warehouse, into = small_hospital.write("w.duckdb"), tmp_path / "scores.duckdb"
    first = night(warehouse, into)
    before = rows(into, f"SELECT {KEPT} FROM risk_scores ORDER BY ALL")
    reasons = rows(into, "SELECT * FROM explanations ORDER BY ALL")
    again = night(warehouse, into)
    assert (again.computed, again.carried) == (0, 64)
    assert again.ledger["carried_pairs"] == first.ledger["scored_pairs"]
    assert again.ledger["content_digest"] == first.ledger["content_digest"]
    assert rows(into, f"SELECT {KEPT} FROM risk_scores ORDER BY ALL") == before
    assert rows(into, "SELECT * FROM explanations ORDER BY ALL") == reasons
    assert rows(into, "SELECT DISTINCT carried FROM risk_scores") == [(True,)]
    assert rows(into, "SELECT DISTINCT status, reason FROM eligibility WHERE status <> 'out_of_scope' ORDER BY 1") == [
        ("carried", None),
        ("rejected", "no_usable_input"),
    ]


def test_the_next_night_computes_whom_something_happened_to(
    tmp_path: Path, small_hospital: Any, night: Night, rows: Rows, as_of_us: int
) -> None:
    into, tomorrow = tmp_path / "scores.duckdb", as_of_us + DAY_US
    first = night(small_hospital.write("w.duckdb"), into, max_score_age_days=10_000)
    due = rows(into, f"SELECT count(DISTINCT subject_id) FROM eligibility WHERE epoch_us(valid_until) <= {tomorrow}")[
        0
    ][0]
    assert due < 30
    warehouse = small_hospital.write("changed.duckdb", events=_new_value(small_hospital, 120))
    second = night(warehouse, into, as_of=tomorrow, max_score_age_days=10_000)
    assert second.ledger["run_id"] != first.ledger["run_id"]
    assert second.computed in (due, due + 1), "120 itself may have been due"
    assert second.computed + second.carried == 64
    assert rows(into, "SELECT DISTINCT carried FROM latest_risk_scores WHERE subject_id = 120") == [(False,)]
    moments = rows(
        into,
        "SELECT carried, min(epoch_us(prediction_time)), max(epoch_us(prediction_time)) "
        "FROM latest_risk_scores GROUP BY 1 ORDER BY 1",
    )
    assert moments == [(False, tomorrow, tomorrow), (True, as_of_us, as_of_us)]
    whole = tmp_path / "whole.duckdb"
    night(warehouse, whole, as_of=tomorrow)
    computed = (
        "SELECT risk, risk_low, risk_high FROM latest_risk_scores WHERE subject_id IN {} "
        "ORDER BY subject_id, outcome, horizon_years"
    )
    who = rows(into, "SELECT DISTINCT subject_id FROM latest_risk_scores WHERE NOT carried")
    chosen = computed.format("(" + ", ".join(str(subject) for (subject,) in who) + ")")
    assert np.abs(np.array(rows(into, chosen)) - np.array(rows(whole, chosen))).max() <= 1e-6


def test_rescore_all_another_bundle_and_age_carry_nobody(
    tmp_path: Path, small_hospital: Any, night: Night, as_of_us: int
) -> None:
    warehouse, into = small_hospital.write("w.duckdb"), tmp_path / "scores.duckdb"
    night(warehouse, into, explain=0)
    assert night(warehouse, into, explain=0, rescore=True).carried == 0
    assert night(warehouse, into, explain=0, seed=2).carried == 0
    assert night(warehouse, into, explain=0, as_of=as_of_us + 31 * DAY_US).carried == 0
    assert night(warehouse, into, explain=0, as_of=as_of_us - DAY_US).carried == 0, "of the past, by a later night"


def test_a_subject_that_left_goes_out_of_scope_and_one_who_is_gone_has_no_row(
    tmp_path: Path, small_hospital: Any, night: Night, rows: Rows
) -> None:
    into = tmp_path / "scores.duckdb"
    night(small_hospital.write("w.duckdb"), into, explain=0)
    events = [event for event in small_hospital.events if event[0] != 121]
    last = max(time for subject, time, *_ in events if subject == 122 and time)
    events.append((122, last, "MEDS_DEATH", None, None))
    images = [image for image in small_hospital.images if image[1] != 121]
    night(small_hospital.write("changed.duckdb", events=events, images=images), into, explain=0)
    newest = (
        "SELECT DISTINCT eligibility.status, reason FROM eligibility JOIN runs USING (run_id) WHERE subject_id = {} "
        "QUALIFY row_number() OVER (ORDER BY finished_at DESC) = 1"
    )
    assert rows(into, newest.format(122)) == [("out_of_scope", "dead")]
    assert rows(into, "SELECT count(*) FROM latest_risk_scores WHERE subject_id IN (121, 122)") == [(0,)]


def test_an_input_that_was_refused_is_tried_again(tmp_path: Path, small_hospital: Any, night: Night) -> None:
    into = tmp_path / "scores.duckdb"
    images = [(*image[:4], "missing.png") if at == 0 else image for at, image in enumerate(small_hospital.images)]
    warehouse = small_hospital.write("w.duckdb", images=images)
    night(warehouse, into, explain=0)
    assert night(warehouse, into, explain=0).computed == 1


def test_reasons_are_told_for_a_carried_subject_that_rises_into_the_top(
    tmp_path: Path, small_hospital: Any, night: Night, rows: Rows, as_of_us: int
) -> None:
    warehouse, into, whole = small_hospital.write("w.duckdb"), tmp_path / "scores.duckdb", tmp_path / "whole.duckdb"
    night(warehouse, whole, explain=6)
    night(warehouse, into, explain=2)
    summary = night(warehouse, into, explain=6, max_score_age_days=10_000)
    assert (summary.computed, summary.explained) == (0, 6)
    told = (
        "SELECT subject_id, outcome, horizon_years, feature, round(contribution, 4) FROM explanations "
        "WHERE level = 'feature' ORDER BY ALL"
    )
    assert rows(into, told) == rows(whole, told)


def test_old_nights_are_retired_but_their_ledger_stays(
    tmp_path: Path, small_hospital: Any, night: Night, rows: Rows, as_of_us: int
) -> None:
    warehouse, into = small_hospital.write("w.duckdb"), tmp_path / "scores.duckdb"
    runs = [
        night(warehouse, into, as_of=as_of_us + k * DAY_US, keep_runs=2, explain=1).ledger["run_id"] for k in range(4)
    ]
    assert len(set(runs)) == 4
    assert rows(into, "SELECT count(*) FROM runs") == [(4,)]
    for table in ("risk_scores", "eligibility", "explanations", "input_receipts", "pseudonyms"):
        assert set(rows(into, f"SELECT DISTINCT run_id FROM {table}")) == {(runs[2],), (runs[3],)}, table
    night(warehouse, into, as_of=as_of_us + 4 * DAY_US, keep_runs=1, explain=1)
    assert len(rows(into, "SELECT DISTINCT run_id FROM risk_scores")) == 1


def test_a_night_of_the_past_does_not_retire_the_latest(
    tmp_path: Path, small_hospital: Any, night: Night, rows: Rows, as_of_us: int
) -> None:
    warehouse, into = small_hospital.write("w.duckdb"), tmp_path / "scores.duckdb"
    night(warehouse, into, as_of=as_of_us - 2, explain=0)
    latest = night(warehouse, into, explain=0).ledger["run_id"]
    past = night(warehouse, into, as_of=as_of_us - 1, keep_runs=1, explain=0).ledger["run_id"]
    assert rows(into, "SELECT DISTINCT run_id FROM latest_risk_scores") == [(latest,)]
    assert set(rows(into, "SELECT DISTINCT run_id FROM risk_scores")) == {(latest,), (past,)}


def test_ages_are_spread_over_the_cycle_and_end_once_in_it() -> None:
    subjects = np.arange(1, 30_001, dtype=np.int64)
    days = [Planned("r", day * DAY_US + 5, 0, "", "", max_score_age_days=30) for day in range(20_000, 20_060)]
    ends = np.array([latest_valid(one, subjects) for one in days])
    starts = np.array([one.as_of for one in days])[:, None]
    assert (ends > starts).all()
    assert (ends <= starts + 30 * DAY_US).all()
    left = (ends[0] - days[0].as_of) // DAY_US
    assert np.abs(np.bincount(left, minlength=30) / 1000 - 1).max() < 0.15, "about as many on every day"
    assert all(len(np.unique(ends[:, s])) in (2, 3) for s in range(0, 30_000, 997)), "the same moment, a cycle apart"


def test_a_night_that_carries_everyone_tells_of_no_work(
    tmp_path: Path, small_hospital: Any, night: Night, as_of_us: int
) -> None:
    warehouse, into = small_hospital.write("w.duckdb"), tmp_path / "scores.duckdb"

    class Heard:
        def __init__(self) -> None:
            self.stages: set[str] = set()

        def step(self, stage: str, done: int, total: int | None = None) -> None:
            self.stages.add(stage)

    first, second = Heard(), Heard()
    options = {"explain": 3, "part_size": 16, "max_score_age_days": 3650}
    told = night(warehouse, into, progress=first, **options)
    assert {"score", "explain"} <= first.stages
    assert any("encoded by" in note for note in told.notes)
    again = night(warehouse, into, progress=second, **options)
    assert again.computed == 0
    assert second.stages == {"verify", "publish"}
    assert not any("mages" in note for note in again.notes)
