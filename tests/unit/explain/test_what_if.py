"""What is missing and what would have to change: each risk told is the one that a night on the other record gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from riskpred.explain.what_if import WhatIf
    from riskpred.model.bundle import Bundle
    from riskpred.score.chunk import Judged

Event = tuple[int, datetime | None, str, float | None, str | None]
AS_OF = datetime(2026, 1, 1)
LIMIT_SBP, LIMIT_CHOL = 120.0, 4.0


@pytest.fixture(scope="module")
def bundle(random_bundle: Callable[[int], Bundle], small_batch: Any) -> Bundle:
    """Random weights, with words that call cholesterol and systolic pressure modifiable, and heart rate not."""
    from riskpred.config.words import Both, CodeWords, Improve, StudyWords, UnitWords
    from riskpred.fit.ranges import learn_ranges

    made = random_bundle(3)
    plan, batch = small_batch

    def words(unit: str, limit: float) -> CodeWords:
        units = {unit: UnitWords(limit=limit)}
        return CodeWords(name=Both(en="x", zh="某"), improve=Improve(towards="lower"), units=units)

    codes = {
        "CHOL": words("mmol/L", LIMIT_CHOL),
        "SBP": words("mm[Hg]", LIMIT_SBP),
        "HR": CodeWords(name=Both(en="heart rate", zh="心率")),
        "age_years": CodeWords(name=Both(en="age", zh="年龄")),
    }
    config = made.config.model_copy(update={"words": StudyWords(codes=codes)})
    return replace(made, config=config, ranges=learn_ranges(plan, batch, fewest=5))


@pytest.fixture(scope="module")
def judge(small_hospital: Any, bundle: Bundle, as_of_us: int) -> Callable[..., Judged]:
    """judge(events): everyone of a warehouse with those events, judged at AS_OF in fp32."""
    from riskpred.model.paths import FP32
    from riskpred.records.warehouse import Warehouse
    from riskpred.score.chunk import judge_chunk
    from riskpred.score.timing import Stopwatch

    def judged(events: list[Event] | None = None, using: Bundle = bundle) -> Judged:
        path: Path = small_hospital.write("what_if.duckdb", events)
        with Warehouse.open(path) as warehouse:
            (chunk,) = warehouse.chunks()
            return judge_chunk(using, warehouse, chunk, as_of_us, as_of_us, Stopwatch(), FP32)

    return judged


@pytest.fixture(scope="module")
def base(judge: Callable[..., Judged]) -> Judged:
    return judge()


def told(bundle: Bundle, judged: Judged) -> WhatIf:
    from riskpred.explain.what_if import what_if

    assert judged.batch is not None
    assert judged.assessed is not None
    assert judged.cohort is not None
    return what_if(bundle, judged.chunk, judged.cohort, judged.batch, judged.assessed.reference, judged.scored)


def risk_of(bundle: Bundle, judged: Judged, subject: int, outcome: str, horizon: float) -> float:
    assert judged.batch is not None
    assert judged.assessed is not None
    row = judged.batch.subject_id.tolist().index(subject)
    return float(judged.assessed.risk[row, bundle.model.targets.index((outcome, horizon))])


def changed(events: list[Event], subject: int, code: str, to: float) -> list[Event]:
    """The person's measurements of the code of its latest day, made `to`."""
    times = [time for who, time, what, *_ in events if (who, what) == (subject, code) and time is not None]
    first = max(time for time in times if time <= AS_OF) - timedelta(days=1)
    return [
        (who, time, what, to, text) if (who, what) == (subject, code) and time and first < time <= AS_OF
        else (who, time, what, value, text)
        for who, time, what, value, text in events
    ]  # fmt: skip


def test_each_step_s_risk_is_that_of_the_changed_record(
    bundle: Bundle, base: Judged, judge: Callable[..., Judged], small_hospital: Any
) -> None:
    rows = told(bundle, base).changes.to_pylist()
    several = [row for row in rows if row["step"] == 2]
    assert several, "someone changes both cholesterol and pressure"
    one = several[0]
    steps = [
        row for row in rows if all(row[key] == one[key] for key in ("subject_id", "outcome", "scenario"))
    ]  # fmt: skip
    events = small_hospital.events
    assert {step["feature"] for step in steps} == {"CHOL", "SBP"}
    for step in steps:
        events = changed(events, step["subject_id"], step["feature"], step["to_value"])
        night = risk_of(bundle, judge(events), step["subject_id"], step["outcome"], step["horizon_years"])
        assert abs(night - step["risk"]) < 1e-6


def test_a_missing_value_s_risks_are_those_of_the_record_with_it(
    bundle: Bundle, base: Judged, judge: Callable[..., Judged], small_hospital: Any
) -> None:
    rows = told(bundle, base).missing_impact.to_pylist()
    has_cholesterol = {who for who, _, what, *_ in small_hospital.events if what == "CHOL"}
    assert rows
    assert {row["feature"] for row in rows} == {"CHOL:last"}
    assert not has_cholesterol & {row["subject_id"] for row in rows}
    for row in rows[:: max(1, len(rows) // 3)]:
        subject, outcome, horizon = row["subject_id"], row["outcome"], row["horizon_years"]
        night = [
            risk_of(
                bundle,
                judge([*small_hospital.events, (subject, AS_OF, "CHOL", value, None)]),
                subject,
                outcome,
                horizon,
            )
            for value in (row["low_value"], row["high_value"])
        ]
        assert np.allclose(sorted(night), [row["risk_low"], row["risk_high"]], atol=1e-6)
        assert row["risk_high"] - row["risk_low"] > 0.005


def test_a_modality_that_someone_lacks_stays_absent(bundle: Bundle, base: Judged) -> None:
    """Every ninth has no tabular data at all: nothing of it is thought there."""
    assert base.batch is not None
    lacking = set(base.batch.subject_id[~base.batch.present["tabular"]].tolist())
    assert lacking
    assert not lacking & set(told(bundle, base).missing_impact.column("subject_id").to_pylist())


def test_only_modifiable_values_move_and_no_further_than_they_may(bundle: Bundle, base: Judged) -> None:
    rows = told(bundle, base).changes.to_pylist()
    assert {row["feature"] for row in rows} == {"CHOL", "SBP"}
    for row in rows:
        least = max(
            {"CHOL": LIMIT_CHOL, "SBP": LIMIT_SBP}[row["feature"]], bundle.ranges.of("everyone", row["feature"]).p05
        )  # type: ignore[union-attr]
        assert least <= row["to_value"] < row["value"], row["feature"]
        assert row["unit"] == {"CHOL": "mmol/L", "SBP": "mm[Hg]"}[row["feature"]]


def test_scenarios_suffice_or_are_everything(bundle: Bundle, base: Judged) -> None:
    assert base.assessed is not None
    assert base.batch is not None
    rows = told(bundle, base).changes.to_pylist()
    scenarios: dict[tuple[int, str], dict[int, list[dict[str, Any]]]] = {}
    for row in rows:
        scenarios.setdefault((row["subject_id"], row["outcome"]), {}).setdefault(row["scenario"], []).append(row)
    reached = 0
    for (subject, outcome), found in scenarios.items():
        assert sorted(found) == list(range(1, len(found) + 1))
        assert len(found) <= 3
        horizon = found[1][0]["horizon_years"]
        assert horizon == max(years for name, years in bundle.model.targets if name == outcome)
        now = risk_of(bundle, base, subject, outcome, horizon)
        threshold = found[1][0]["threshold"]
        where = base.batch.subject_id.tolist().index(subject), bundle.model.targets.index((outcome, horizon))
        assert threshold == base.assessed.reference[where] <= now
        for number, steps in found.items():
            assert [step["step"] for step in steps] == list(range(1, len(steps) + 1))
            assert steps[-1]["risk"] < now
            assert number == len(found) or steps[-1]["risk"] < threshold, "only the last may fall short"
            reached += steps[-1]["risk"] < threshold
    assert reached, "somebody's risk falls below the threshold"


def test_values_are_whole_and_reach_their_limit(bundle: Bundle) -> None:
    from riskpred.explain.what_if import _move

    words = bundle.config.words.codes["SBP"]
    move = _move(bundle, "SBP", words, 160.0, None)
    assert move is not None
    goal = max(LIMIT_SBP, bundle.ranges.of("everyone", "SBP").p05)  # type: ignore[union-attr]
    assert move.to[1.0] == goal
    assert list(move.to.values()) == sorted(move.to.values(), reverse=True)
    assert all(value == round(value) for value in move.to.values() if isinstance(value, float))
    assert _move(bundle, "SBP", words, goal, None) is None


def test_what_follows_from_a_change_is_changed_with_it(bundle: Bundle, base: Judged) -> None:
    """Who lowers their pressure here lowers their heart rate, too: the risk is that of both, told as one change."""
    from riskpred.explain.edited import Edit, EditedRecords, Variant
    from riskpred.explain.what_if import _moves, _variant

    codes = bundle.config.words.codes
    improve = codes["SBP"].improve
    assert improve is not None
    follows = codes["SBP"].model_copy(
        update={"improve": improve.model_copy(update={"also": {"HR": 55.0, "NONE": 1.0}})}
    )
    assert base.batch is not None
    assert base.cohort is not None
    records = EditedRecords(bundle, base.chunk, base.cohort, base.batch)
    with_rate = [row for row in range(len(base.batch)) if records.latest(row, "HR")]
    row = next(row for row in with_rate if _moves(bundle, records, row, {"SBP": codes["SBP"]}))
    (move,) = _moves(bundle, records, row, {"SBP": follows})
    assert move.also == (Edit("HR", 55.0),), "only what is recorded follows"
    both = _variant(row, [(move, 1.0)])
    assert both == Variant(row, (Edit("HR", 55.0), Edit("SBP", move.to[1.0])))
    assert _variant(row, [(move, 0.5)]) == Variant(row, (Edit("SBP", move.to[0.5]),))


def test_a_study_s_own_threshold_goes_before_the_reference_risk(bundle: Bundle, base: Judged) -> None:
    outcomes = bundle.config.outcomes
    named = {name: one.model_copy(update={"threshold": 0.999}) for name, one in outcomes.outcomes.items()}
    config = bundle.config.model_copy(update={"outcomes": outcomes.model_copy(update={"outcomes": named})})
    assert told(replace(bundle, config=config), base).changes.num_rows == 0, "everyone is below already"
    low = {name: one.model_copy(update={"threshold": 0.001}) for name, one in outcomes.outcomes.items()}
    config = bundle.config.model_copy(update={"outcomes": outcomes.model_copy(update={"outcomes": low})})
    rows = told(replace(bundle, config=config), base).changes
    assert set(rows.column("threshold").to_pylist()) == {0.001}
    assert set(rows.column("scenario").to_pylist()) == {1}, "nothing suffices, so only everything is told"
    assert min(rows.column("risk").to_pylist()) > 0.001


def test_what_is_recorded_later_changes_nothing(
    bundle: Bundle, base: Judged, judge: Callable[..., Judged], small_hospital: Any
) -> None:
    assert base.batch is not None
    later = [
        (int(who), AS_OF + timedelta(microseconds=1), code, value, None)
        for who in base.batch.subject_id
        for code, value in (("CHOL", 2.0), ("SBP", 90.0), ("HR", 40.0))
    ]
    events = sorted([*small_hospital.events, *later], key=lambda e: (e[0], e[1] or datetime.min, e[2]))
    then, now = told(bundle, base), told(bundle, judge(events))
    for table in ("missing_impact", "changes"):
        before, after = getattr(then, table).to_pylist(), getattr(now, table).to_pylist()
        assert before
        assert len(before) == len(after)
        for one, other in zip(before, after, strict=True):
            for name, value in one.items():
                assert (
                    value == pytest.approx(other[name], abs=1e-6) if isinstance(value, float) else value == other[name]
                )


def test_an_undated_measurement_moves_as_others_do(
    bundle: Bundle, judge: Callable[..., Judged], small_hospital: Any
) -> None:
    """The day before no day is none: it was looked for beyond the smallest number, with a warning a night."""
    mine = next(who for who, _, what, *_ in small_hospital.events if what == "GENDER//F")
    events = [e for e in small_hospital.events if (e[0], e[2]) != (mine, "CHOL")]
    events += [(mine, None, "CHOL", 9.0, None)]
    judged = judge(sorted(events, key=lambda e: (e[0], e[1] or datetime.min, e[2])))
    rows = [row for row in told(bundle, judged).changes.to_pylist() if row["subject_id"] == mine]
    moved = next(row for row in rows if row["feature"] == "CHOL" and row["step"] == 1)
    assert moved["value"] == 9.0
    night = judge(
        sorted(
            [*(e for e in events if (e[0], e[2]) != (mine, "CHOL")), (mine, None, "CHOL", moved["to_value"], None)],
            key=lambda e: (e[0], e[1] or datetime.min, e[2]),
        )
    )
    assert abs(risk_of(bundle, night, mine, moved["outcome"], moved["horizon_years"]) - moved["risk"]) < 1e-6


def test_a_category_moves_to_the_one_that_words_name(bundle: Bundle, judge: Callable[..., Judged]) -> None:
    from riskpred.config.words import Both, CodeWords, Improve
    from riskpred.explain.what_if import _move

    smoking = CodeWords(name=Both(en="Smoking", zh="吸烟"), improve=Improve(values={"current": "former"}))
    move = _move(bundle, "SMOKING", smoking, float("nan"), "current")
    assert move is not None
    assert move.to == {1.0: "former"}
    assert _move(bundle, "SMOKING", smoking, float("nan"), "never") is None


def test_ranges_are_quantiles_of_everyone_and_of_groups_with_enough_rows(small_batch: Any) -> None:
    from riskpred.fit.ranges import learn_ranges
    from riskpred.model.ranges import Ranges

    plan, batch = small_batch
    ranges = learn_ranges(plan, batch, fewest=5)
    column = [c.name for c in plan.modalities["tabular"].columns].index("CHOL:last")
    known = batch.inputs["tabular"].values[:, column]
    known = known[~np.isnan(known)]
    found = ranges.of("everyone", "CHOL")
    assert found is not None
    assert [found.p05, found.p10, found.p90, found.p95] == np.quantile(
        known.astype(np.float64), [0.05, 0.1, 0.9, 0.95], method="inverted_cdf"
    ).tolist()
    assert {"CHOL", "SBP", "HR"} == set(ranges.groups["everyone"])
    assert len(ranges.groups) > 1
    assert set(learn_ranges(plan, batch).groups) <= {"everyone"}, "no group has 50 rows here"
    assert ranges.of("nobody's group", "CHOL") == found
    assert ranges.of("everyone", "OTHER") is None
    assert Ranges.from_json(ranges.to_json()) == ranges
