"""Invariants of cohort and features on random records, and agreement with a plain Python reading of the definitions."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskpred.config.model import parse
from riskpred.config.outcomes import OutcomesConfig
from riskpred.features.build import build
from riskpred.features.change import valid_until
from riskpred.features.join import concat, take
from riskpred.features.plan import BUILTIN, FeatureColumn, FeaturePlan, SeriesChannel, SeriesPlan, TabularPlan
from riskpred.features.receipts import input_hashes
from riskpred.records.chunk import DAY_US, STATIC, SubjectChunk
from riskpred.records.cohort import REASONS, cohort, rows_at

CODES = ("CANCER", "ENTER", "HDL", "LEAVE", "MEDS_BIRTH", "MEDS_DEATH", "MI", "PHQ", "SEX//F", "SEX//M", "STROKE")
TEXTS = ("daily", "never", "pipe")
DATA_UNTIL = 60 * DAY_US

OUTCOMES = parse(
    OutcomesConfig,
    {
        "entry_codes": ["ENTER"],
        "leaving_codes": ["LEAVE"],
        "age_years": [0.05, None],
        "prediction_times": {"every_days": 7},
        "horizons_years": [1],
        "outcomes": {
            "mi": {"display": "MI", "rule": {"codes": ["MI"]}, "competing_set": "vascular"},
            "stroke": {"display": "Stroke", "rule": {"codes": ["STROKE"]}, "competing_set": "vascular"},
            "cancer": {"display": "Cancer", "rule": {"codes": ["CANCER"]}},
            "low": {"display": "Low", "rule": {"codes": ["PHQ"], "at_least": 1}, "known_at_once": True},
        },
    },
    "outcomes.yaml",
)

AGGREGATES = ("last", "age_days", "count", "mean", "slope", "min", "max", "ever", "first_age_days", "span_days", "change")
COLUMNS = tuple(
    FeatureColumn(f"{code}:{aggregate}:{window}d", code, aggregate, window, None, code, False)
    for code in ("HDL", "M*")
    for aggregate in AGGREGATES
    for window in (None, 0, 5, 30)
)
PLAN = FeaturePlan(
    {
        "tabular": TabularPlan(
            (
                *COLUMNS,
                FeatureColumn("SEX", "SEX//*", "last", None, None, "sex", False, ("F",)),
                FeatureColumn("HDL text", "HDL", "last", 9, None, "text", False, ("daily", "never")),
                FeatureColumn("age_years", "age_years", BUILTIN, None, None, "age", False),
                FeatureColumn("days_since_entry", "days_since_entry", BUILTIN, None, None, "entry", False),
            )
        ),
        "series": SeriesPlan((SeriesChannel("HDL", None, "x"), SeriesChannel("M*", None, "x")), 40, 4, 10),
    }
)

# Times in half days: many ties, and events at exactly a prediction_time or the edge of a window.
TIMES = st.one_of(st.just(int(STATIC)), st.integers(0, 140).map(lambda half: half * DAY_US // 2))
EVENTS = st.tuples(
    TIMES,
    st.integers(0, len(CODES) - 1),
    st.sampled_from([math.nan, -1.5, 0.0, 1.0, 2.25, 7.0]),
    st.integers(-1, len(TEXTS) - 1),
)
RECORDS = st.lists(st.lists(EVENTS, max_size=14), min_size=1, max_size=5)


def chunk_of(subjects, ids=None):
    """Events per subject, in any order, as the chunk in which a warehouse would give them."""
    rows = []
    for events in subjects:
        rows.append(sorted(events, key=lambda e: (e[0], e[1], math.isnan(e[2]), 0 if math.isnan(e[2]) else e[2], e[3])))
    flat = [event for events in rows for event in events]
    return SubjectChunk(
        subject_id=np.array(range(len(rows)) if ids is None else ids, dtype=np.int64),
        start=np.cumsum([0] + [len(events) for events in rows]).astype(np.int64),
        time=np.array([e[0] for e in flat], dtype=np.int64),
        code=np.array([e[1] for e in flat], dtype=np.int32),
        numeric_value=np.array([e[2] for e in flat], dtype=np.float64),
        text=np.array([e[3] for e in flat], dtype=np.int32),
        codes=CODES,
        texts=TEXTS,
        units=(None,) * len(CODES),
        images=((),) * len(rows),
    )


def features(chunk, as_of=None):
    rows = cohort(chunk, OUTCOMES, DATA_UNTIL, as_of)
    return rows, build(chunk, rows, PLAN, Path("nowhere"))


def assert_same(one, other):
    assert one.subject_id.tolist() == other.subject_id.tolist()
    assert one.prediction_time.tolist() == other.prediction_time.tolist()
    for name in one.inputs:
        for left, right in zip(vars(one.inputs[name]).values(), vars(other.inputs[name]).values(), strict=True):
            np.testing.assert_array_equal(left, right)
        np.testing.assert_array_equal(one.present[name], other.present[name])
        for left, right in zip(vars(one.receipts[name]).values(), vars(other.receipts[name]).values(), strict=True):
            np.testing.assert_array_equal(np.asarray(left, dtype=object), np.asarray(right, dtype=object))
        assert one.receipts[name].missing_features == other.receipts[name].missing_features
    assert_same_hashes(one, other)


def assert_same_hashes(one, other):
    left, right = input_hashes(one), input_hashes(other)
    assert {name: found.tolist() for name, found in left.items()} == {
        name: found.tolist() for name, found in right.items()
    }


@settings(max_examples=80, deadline=None)
@given(RECORDS, st.integers(0, 140))
def test_what_comes_later_changes_nothing_before(subjects, half):
    now = half * DAY_US // 2
    known = [[event for event in events if event[0] <= now] for events in subjects]
    rows, batch = features(chunk_of(subjects), as_of=now)
    rows_known, batch_known = features(chunk_of(known), as_of=now)
    assert {name: rows.reasons(name) for name in rows.reason} == {
        name: rows_known.reasons(name) for name in rows.reason
    }
    np.testing.assert_array_equal(rows.entry_time, rows_known.entry_time)
    assert_same(batch, batch_known)


@settings(max_examples=50, deadline=None)
@given(RECORDS, st.randoms(use_true_random=False))
def test_the_order_of_events_and_the_size_of_chunks_change_nothing(subjects, random):
    _, whole = features(chunk_of(subjects))
    shuffled = [random.sample(events, len(events)) for events in subjects]
    pieces = [features(chunk_of([events], [s]))[1] for s, events in enumerate(shuffled)]
    assert_same(whole, concat(pieces))


@settings(max_examples=50, deadline=None)
@given(RECORDS, st.data())
def test_taking_rows_is_building_these_rows(subjects, data):
    chunk = chunk_of(subjects)
    rows, batch = features(chunk, as_of=30 * DAY_US)
    index = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1))), dtype=np.int64)
    assert_same(take(batch, index), build(chunk, rows_at(rows, index), PLAN, Path("nowhere")))
    mask = np.isin(np.arange(len(rows)), index)
    assert_same(take(batch, mask), take(batch, np.flatnonzero(mask)))


@settings(max_examples=80, deadline=None)
@given(RECORDS, st.integers(0, 140), st.integers(0, 200))
def test_nothing_but_ages_changes_before_valid_until(subjects, half, later):
    """Between prediction_time and valid_until, no input but the ages differs, and nobody's eligibility."""
    chunk = chunk_of(subjects)
    now, then = half * DAY_US // 2, half * DAY_US // 2 + later * DAY_US // 4
    rows, batch = features(chunk, as_of=now)
    rows_then, batch_then = features(chunk, as_of=then)
    until = valid_until(chunk, rows, PLAN)
    assert ((until == STATIC) | (until > now)).all()
    growing = ["age" in column.name or column.name.startswith("days") for column in PLAN.modalities["tabular"].columns]
    for r in np.flatnonzero((until == STATIC) | (until > then)):
        assert [rows.reason[name][r] for name in rows.reason] == [rows_then.reason[name][r] for name in rows.reason]
        one, other = take(batch, np.array([r])), take(batch_then, np.array([r]))
        values, values_then = (b.inputs["tabular"].values[:, ~np.array(growing)] for b in (one, other))
        np.testing.assert_array_equal(values, values_then)
        np.testing.assert_array_equal(one.inputs["series"].values, other.inputs["series"].values)
        assert one.receipts["series"].status == other.receipts["series"].status


def by_hand(events, column, now, entry):
    """One column of one row, straight from the definition in config/features.py."""
    code = "MEDS_BIRTH" if column.code == "age_years" else column.code
    window = column.window_days
    seen = [
        event
        for event in events
        if (CODES[event[1]] == code or (code.endswith("*") and CODES[event[1]].startswith(code[:-1])))
        and event[0] <= now
        and (window is None or event[0] == STATIC or event[0] > now - window * DAY_US)
    ]
    dates = [event[0] for event in seen if event[0] != STATIC]
    valued = [event for event in seen if not math.isnan(event[2])]
    if column.code == "days_since_entry":
        return math.nan if entry == STATIC else (now - entry) / DAY_US
    if column.code == "age_years":
        return (now - dates[0]) / DAY_US / 365.25 if dates else math.nan
    if column.vocabulary:
        words = [CODES[e[1]].removeprefix(code[:-1]) if code.endswith("*") else TEXTS[e[3]] for e in seen if
                 code.endswith("*") or e[3] >= 0]  # fmt: skip
        return column.vocabulary.index(words[-1]) if words and words[-1] in column.vocabulary else math.nan
    match column.aggregate:
        case "count":
            return len(seen)
        case "ever":
            return float(bool(seen))
        case "age_days":
            return (now - dates[-1]) / DAY_US if dates else math.nan
        case "first_age_days":
            return (now - dates[0]) / DAY_US if dates else math.nan
        case "span_days":
            return (dates[-1] - dates[0]) / DAY_US if dates else math.nan
        case "slope":
            points = [(event[0] / DAY_US / 365.25, event[2]) for event in valued if event[0] != STATIC]
            if len({t for t, _ in points}) < 2:
                return math.nan
            return np.polyfit([t - points[0][0] for t, _ in points], [v for _, v in points], 1)[0]
    values = [event[2] for event in valued]
    if not values:
        return math.nan
    if column.aggregate == "change":
        earlier = [event[2] for event in valued if event[0] < valued[-1][0]]
        return values[-1] - earlier[-1] if earlier else math.nan
    return {"last": values[-1], "mean": np.mean(values), "min": min(values), "max": max(values)}[column.aggregate]


@settings(max_examples=60, deadline=None)
@given(RECORDS)
def test_every_aggregate_is_what_its_definition_says(subjects):
    chunk = chunk_of(subjects)
    rows, batch = features(chunk, as_of=35 * DAY_US)
    for r in range(len(rows)):
        begin, end = chunk.start[r], chunk.start[r + 1]
        events = [
            (int(chunk.time[e]), int(chunk.code[e]), float(chunk.numeric_value[e]), int(chunk.text[e]))
            for e in range(begin, end)
        ]
        wanted = [
            by_hand(events, column, int(rows.prediction_time[r]), rows.entry_time[r])
            for column in PLAN.modalities["tabular"].columns
        ]
        np.testing.assert_allclose(batch.inputs["tabular"].values[r], wanted, rtol=1e-5, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(RECORDS)
def test_series_steps_are_what_their_definition_says(subjects):
    chunk = chunk_of(subjects)
    rows, batch = features(chunk, as_of=35 * DAY_US)
    given_series = batch.inputs["series"]
    for r in range(len(rows)):
        steps = {}
        for e in range(chunk.start[r], chunk.start[r + 1]):
            t, code, value = int(chunk.time[e]), CODES[chunk.code[e]], float(chunk.numeric_value[e])
            if (
                t != STATIC
                and -5 * DAY_US < t <= 35 * DAY_US
                and not math.isnan(value)
                and (code == "HDL" or code[0] == "M")
            ):
                steps.setdefault(t, [math.nan, math.nan])[0 if code == "HDL" else 1] = value
        times = sorted(steps)[-4:]
        if times and 35 * DAY_US - times[-1] > 10 * DAY_US:
            times = []
        begin, end = given_series.start[r], given_series.start[r + 1]
        assert given_series.time[begin:end].tolist() == times
        if times:
            np.testing.assert_array_equal(given_series.values[begin:end], [steps[t] for t in times])


def eligibility_by_hand(events, now):
    """Reason per outcome, straight from design.md."""
    known = [(t, CODES[code], value) for t, code, value, _ in events if t <= now]
    entries = [t for t, code, _ in known if code == "ENTER"]
    leavings = [t for t, code, _ in known if code == "LEAVE"]
    births = [t for t, code, _ in known if code == "MEDS_BIRTH" and t != STATIC]
    of_age = bool(births) and now - min(births) >= 0.05 * 365.25 * DAY_US
    reasons = {}
    for name, set_codes in {
        "mi": {"MI", "STROKE"},
        "stroke": {"MI", "STROKE"},
        "cancer": {"CANCER"},
        "low": set(),
    }.items():
        if not entries:
            reasons[name] = "not_entered"
        elif any(code == "MEDS_DEATH" for _, code, _ in known):
            reasons[name] = "dead"
        elif leavings and max(entries) <= max(leavings):
            reasons[name] = "left"
        elif any(code in set_codes for _, code, _ in known):
            reasons[name] = "prevalent"
        else:
            reasons[name] = None if of_age else "age"
    return reasons


def end_by_hand(events, now, codes):
    """(days, what) of a timed group: what first ends it; outcome before death before leaving or the data's end."""
    later = [(t, CODES[code]) for t, code, _, _ in events if t > now]
    leaving = [t for t, code in later if code == "LEAVE"]
    end = min([DATA_UNTIL, *leaving])
    ends = [(max(end, now), 9, "censored")]
    ends += [(t, codes.index(code), code) for t, code in later if code in codes and t <= end]
    ends += [(t, 8, "death") for t, code in later if code == "MEDS_DEATH" and t <= end]
    t, _, what = min(ends)
    return (t - now) / DAY_US, what


@settings(max_examples=150, deadline=None)
@given(RECORDS, st.integers(0, 140))
def test_eligibility_and_follow_up_are_what_design_says(subjects, half):
    now = half * DAY_US // 2
    rows = cohort(chunk_of(subjects), OUTCOMES, DATA_UNTIL, as_of=now)
    for s, events in enumerate(subjects):
        reasons = eligibility_by_hand(events, now)
        assert {name: rows.reasons(name)[s] for name in rows.reason} == reasons
        assert {name: bool(rows.eligible[name][s]) for name in rows.reason} == {
            name: reason is None for name, reason in reasons.items()
        }
        for group, codes in (("vascular", ["MI", "STROKE"]), ("cancer", ["CANCER"])):
            name = "mi" if group == "vascular" else "cancer"
            if reasons[name] is not None:
                assert rows.cause[group][s] == -1
                assert math.isnan(rows.duration_days[group][s])
                continue
            days, what = end_by_hand(events, now, codes)
            assert rows.duration_days[group][s] == pytest.approx(days)
            assert ["censored", *codes, "death"][rows.cause[group][s]] == what


@settings(max_examples=60, deadline=None)
@given(RECORDS)
def test_rows_of_fit_are_the_eligible_ones_of_score_at_those_times(subjects):
    chunk = chunk_of(subjects)
    rows = cohort(chunk, OUTCOMES, DATA_UNTIL)
    for r in range(len(rows)):
        at_that_time = cohort(chunk, OUTCOMES, DATA_UNTIL, as_of=int(rows.prediction_time[r]))
        s = rows.subject[r]
        assert any(rows.eligible[name][r] for name in rows.eligible)
        for name in rows.reason:
            assert rows.reason[name][r] == at_that_time.reason[name][s]
            assert rows.reasons(name)[r] in REASONS
        for group in rows.cause:
            assert rows.cause[group][r] == at_that_time.cause[group][s]
            np.testing.assert_array_equal(rows.duration_days[group][r], at_that_time.duration_days[group][s])


@settings(max_examples=30, deadline=None)
@given(RECORDS)
def test_shifting_all_times_shifts_only_times(subjects):
    """A series is read by times before prediction_time: a patient a year later has the same digest of inputs."""
    shift = 365 * DAY_US
    moved = [[(t if t == STATIC else t + shift, *rest) for t, *rest in events] for events in subjects]
    rows, batch = features(chunk_of(subjects), as_of=35 * DAY_US)
    chunk = chunk_of(moved)
    rows_moved = cohort(chunk, OUTCOMES, DATA_UNTIL + shift, 35 * DAY_US + shift)
    assert all(rows_moved.reasons(name) == rows.reasons(name) for name in rows.reason)
    assert_same_hashes(build(chunk, rows_moved, PLAN, Path("nowhere")), batch)


def test_hashes_differ_where_one_value_differs():
    events = [(DAY_US, CODES.index("HDL"), 1.0, -1), (2 * DAY_US, CODES.index("HDL"), 2.0, -1)]
    _, batch = features(chunk_of([events, events]), as_of=5 * DAY_US)
    same = input_hashes(batch)
    assert same["tabular"][0] == same["tabular"][1]
    assert same["series"][0] == same["series"][1]
    series = batch.inputs["series"]
    values = series.values.copy()
    values[0, 0] += 1
    changed = input_hashes(replace(batch, inputs={**batch.inputs, "series": replace(series, values=values)}))
    assert changed["series"][0] != same["series"][0]
    assert changed["series"][1] == same["series"][1]
