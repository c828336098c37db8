"""What a network is shown of a patient: windows, aggregates, steps, receipts, as tables a clinician can read."""

from pathlib import Path

import numpy as np
import pytest

from riskpred.config.model import parse
from riskpred.config.outcomes import OutcomesConfig
from riskpred.features.build import build
from riskpred.features.change import next_change, valid_until
from riskpred.features.plan import BUILTIN, FeatureColumn, FeaturePlan, SeriesChannel, SeriesPlan, TabularPlan
from riskpred.records.chunk import STATIC
from riskpred.records.cohort import cohort

OUTCOMES = parse(
    OutcomesConfig,
    {
        "prediction_times": {"days_after_entry": [0]},
        "horizons_years": [1],
        "outcomes": {"cancer": {"display": "Cancer", "rule": {"codes": ["CANCER"]}}},
    },
    "outcomes.yaml",
)

NOW = "2021-01-01"


def column(name, vocabulary=()):
    """`HDL:mean`, `HDL:mean:365d`, or a built-in."""
    if ":" not in name:
        return FeatureColumn(name, name, BUILTIN, None, None, name, False)
    code, aggregate, *window = name.rsplit(":", 2) if name.endswith("d") and name[-2].isdigit() else name.rsplit(":", 1)
    days = int(window[0][:-1]) if window else None
    return FeatureColumn(name, code, aggregate, days, None, name, False, vocabulary)


def shown(chunk, moment, plan, now=NOW):
    rows = cohort(chunk, OUTCOMES, moment("2025-01-01"), as_of=moment(now))
    return build(chunk, rows, FeaturePlan({"m": plan}), Path("nowhere"))


def test_a_birth_does_not_make_data_old(records, moment):
    chunk = records("1 | 1950-05-05 | MEDS_BIRTH\n1 | 2020-06-01 | HDL | 40\n2 | 1960-05-05 | MEDS_BIRTH\n")
    receipt = shown(chunk, moment, TabularPlan((column("age_years"), column("HDL:last")))).receipts["m"]
    assert receipt.status == ("used", "used")
    assert receipt.latest_time.tolist() == [moment("2020-06-01"), STATIC]


HDL = """
1 | 2019-06-01 | HDL | 40
1 | 2020-07-01 | HDL | 60
1 | 2020-12-30 | HDL
1 | 2021-01-01 | HDL | 50
1 | 2021-01-01 10:00 | HDL | 99
"""


@pytest.mark.parametrize(
    ("name", "value", "behind"),
    [
        ("HDL:last", 50, "2021-01-01"),
        ("HDL:mean", 50, "2021-01-01"),
        ("HDL:mean:365d", 55, "2021-01-01"),
        ("HDL:min", 40, "2021-01-01"),
        ("HDL:max", 60, "2021-01-01"),
        ("HDL:count", 4, "2021-01-01"),
        ("HDL:count:365d", 3, "2021-01-01"),
        ("HDL:count:1d", 1, "2021-01-01"),
        ("HDL:ever", 1, "2021-01-01"),
        ("HDL:age_days", 0, "2021-01-01"),
        ("HDL:first_age_days", 580, "2019-06-01"),
        ("HDL:first_age_days:365d", 184, "2020-07-01"),
        ("HDL:span_days", 580, "2021-01-01"),
        # The line through (day 0, 40), (396, 60), (580, 50) rises by 3,960 / 175,690.67 mg/dL a day.
        ("HDL:slope", 3960 / 175690.6667 * 365.25, "2021-01-01"),
        ("HDL:slope:365d", -10 / 184 * 365.25, "2021-01-01"),
        ("HDL:slope:1d", None, "-"),
        # From 60 on 2020-07-01 to 50; in one day there is nothing before it; the event without a value does not count.
        ("HDL:change", -10, "2021-01-01"),
        ("HDL:change:365d", -10, "2021-01-01"),
        ("HDL:change:1d", None, "-"),
        ("LDL:last", None, "-"),
        ("LDL:age_days", None, "-"),
        ("LDL:count", 0, "-"),
        ("LDL:ever", 0, "-"),
    ],
)
def test_aggregates_of_one_code(records, moment, name, value, behind):
    """Four HDL events are visible at the start of 2021-01-01, one of them without a value; the fifth is later."""
    batch = shown(records(HDL), moment, TabularPlan((column(name),)))
    got = batch.inputs["m"].values[0, 0]
    if value is None:
        assert np.isnan(got)
        assert batch.receipts["m"].missing_features == ((name,),)
        assert batch.receipts["m"].status == ("missing",)
    else:
        assert got == pytest.approx(value, rel=1e-6)
        assert batch.receipts["m"].missing_features == ((),)
        assert batch.receipts["m"].status == ("used",)
    assert batch.inputs["m"].time[0, 0] == moment(behind)
    assert batch.present["m"][0] == (value is not None)


def test_a_window_takes_its_end_and_not_its_beginning(records, moment):
    chunk = records(
        """
        1 | 2020-12-02 | HDL | 1
        1 | 2020-12-02 00:01 | HDL | 2
        1 | 2021-01-01 | HDL | 4
        """
    )
    batch = shown(chunk, moment, TabularPlan((column("HDL:mean:30d"),)))
    assert batch.inputs["m"].values[0, 0] == 3


def test_undated_facts_are_always_there_and_oldest(records, moment):
    chunk = records(
        """
        1 | - | HDL | 10
        1 | 2020-01-01 | HDL | 20
        2 | - | HDL | 10
        """
    )
    names = ("HDL:last", "HDL:last:30d", "HDL:min", "HDL:count", "HDL:age_days", "HDL:slope")
    batch = shown(chunk, moment, TabularPlan(tuple(column(name) for name in names)))
    nan = np.nan
    np.testing.assert_array_equal(batch.inputs["m"].values, [[20, 10, 10, 2, 366, nan], [10, 10, 10, 1, nan, nan]])
    assert batch.receipts["m"].latest_time.tolist() == [moment("2020-01-01"), STATIC]


def test_categories(records, moment):
    chunk = records(
        """
        1 | - | GENDER//F
        1 | 2020-01-01 | SMOKING | "never"
        1 | 2020-02-01 | SMOKING | "daily"
        2 | - | GENDER//X
        2 | 2020-01-01 | SMOKING | "daily"
        2 | 2020-02-01 | SMOKING | "pipe"
        3 | 2020-01-01 | SMOKING | "daily"
        3 | 2020-02-01 | SMOKING
        """
    )
    plan = TabularPlan((column("GENDER//*:last", ("F", "M")), column("SMOKING:last", ("daily", "never"))))
    batch = shown(chunk, moment, plan)
    nan = np.nan
    # X and "pipe" were not seen in training: missing, not the value before. An empty entry says nothing.
    np.testing.assert_array_equal(batch.inputs["m"].values, [[0, 0], [nan, nan], [nan, 0]])
    assert batch.receipts["m"].missing_features == ((), ("GENDER//*:last", "SMOKING:last"), ("GENDER//*:last",))
    assert batch.receipts["m"].status == ("used", "missing", "used")


def test_a_prefix_is_one_feature_over_all_its_codes(records, moment):
    chunk = records(
        """
        1 | 2020-01-01 | ICD//I20
        1 | 2020-02-01 | ICD//I21
        1 | 2020-03-01 | ICD//J10
        """
    )
    batch = shown(chunk, moment, TabularPlan((column("ICD//I2*:count"), column("ICD//I21:count"))))
    assert batch.inputs["m"].values.tolist() == [[2, 1]]
    assert batch.receipts["m"].n.tolist() == [2]


def test_built_ins(records, moment):
    chunk = records(
        """
        1 | 1981-01-01 | MEDS_BIRTH
        1 | 2020-12-02 | HDL | 50
        2 | - | HDL | 50
        """
    )
    batch = shown(chunk, moment, TabularPlan((column("age_years"), column("days_since_entry"))))
    assert batch.inputs["m"].values[0].tolist() == pytest.approx([14610 / 365.25, 30])
    assert np.isnan(batch.inputs["m"].values[1]).all()


VITALS = SeriesPlan((SeriesChannel("HR", None, "HR"), SeriesChannel("SBP", None, "SBP")), None, 64, None)


def steps_of(batch, row=0):
    start = batch.inputs["m"].start
    steps = slice(start[row], start[row + 1])
    return batch.inputs["m"].time[steps].tolist(), batch.inputs["m"].values[steps].tolist()


def with_(plan, **changes):
    return SeriesPlan(**{**plan.__dict__, **changes})


def test_events_of_one_time_are_one_step_and_the_last_of_a_tie_stands(records, moment):
    chunk = records(
        """
        1 | - | HR | 1
        1 | 2020-01-01 | HR | 70
        1 | 2020-01-01 | HR | 75
        1 | 2020-01-01 | SBP | 120
        1 | 2020-01-02 | GLUCOSE | 5
        1 | 2020-01-03 | SBP | 130
        1 | 2021-01-02 | SBP | 140
        """
    )
    batch = shown(chunk, moment, VITALS)
    times, values = steps_of(batch)
    assert times == [moment("2020-01-01"), moment("2020-01-03")]
    np.testing.assert_array_equal(values, [[75, 120], [np.nan, 130]])
    receipt = batch.receipts["m"]
    assert (receipt.status, receipt.n.tolist(), receipt.missing_features) == (("used",), [4], ((),))
    assert receipt.latest_time.tolist() == [moment("2020-01-03")]


def test_the_latest_steps_are_kept_and_channels_that_they_lack_are_named(records, moment):
    chunk = records(
        """
        1 | 2020-01-01 | SBP | 120
        1 | 2020-01-02 | HR | 70
        1 | 2020-01-03 | HR | 72
        1 | 2020-01-04 | HR | "fast"
        """
    )
    batch = shown(chunk, moment, with_(VITALS, max_steps=2))
    assert steps_of(batch)[0] == [moment("2020-01-02"), moment("2020-01-03")]
    assert batch.receipts["m"].missing_features == (("SBP", "HR: 1 not numeric"),)
    assert batch.receipts["m"].n.tolist() == [3]


def test_a_stale_series_is_absent(records, moment):
    chunk = records(
        """
        1 | 2020-12-02 | HR | 70
        2 | 2020-12-01 | HR | 70
        3 | 2020-12-02 | GLUCOSE | 5
        """
    )
    batch = shown(chunk, moment, with_(VITALS, stale_after_days=30))
    assert batch.receipts["m"].status == ("used", "stale", "missing")
    assert batch.present["m"].tolist() == [True, False, False]
    assert np.diff(batch.inputs["m"].start).tolist() == [1, 0, 0]
    assert batch.receipts["m"].missing_features[1] == ("HR", "SBP")
    assert batch.receipts["m"].latest_time.tolist() == [moment("2020-12-02"), moment("2020-12-01"), STATIC]


@pytest.mark.parametrize(
    ("plan", "events", "change"),
    [
        (TabularPlan((column("HDL:last"),)), "1 | 2020-01-01 | HDL | 40", "-"),
        (TabularPlan((column("HDL:last"),)), "1 | 2020-01-01 | HDL | 40\n1 | 2021-03-01 | HDL | 40", "2021-03-01"),
        (TabularPlan((column("HDL:last"),)), "1 | 2020-01-01 | HDL | 40\n1 | 2021-03-01 | LDL | 40", "-"),
        (TabularPlan((column("HDL:mean:30d"),)), "1 | 2020-12-31 | HDL | 40\n1 | 2020-12-20 | HDL | 40", "2021-01-19"),
        (TabularPlan((column("HDL:mean:30d"),)), "1 | 2020-12-02 | HDL | 40", "-"),
        (with_(VITALS, window_days=10), "1 | 2020-12-31 | HR | 70", "2021-01-10"),
        (VITALS, "1 | 2020-12-31 | HR | 70\n1 | 2021-02-01 | HR | 70", "2021-02-01"),
    ],
)
def test_when_the_inputs_change_without_new_data(records, moment, plan, events, change):
    chunk = records(events)
    rows = cohort(chunk, OUTCOMES, moment("2025-01-01"), as_of=moment(NOW))
    assert next_change(chunk, rows, FeaturePlan({"m": plan})).tolist() == [moment(change)]


def test_a_series_turns_stale_a_moment_after_its_last_day(records, moment):
    chunk = records("1 | 2020-12-02 | HR | 70\n1 | 2020-12-03 | SBP | 70")
    rows = cohort(chunk, OUTCOMES, moment("2025-01-01"), as_of=moment(NOW))
    plan = FeaturePlan({"m": with_(VITALS, stale_after_days=30)})
    assert next_change(chunk, rows, plan).tolist() == [moment("2021-01-02") + 1]


def test_valid_until_is_the_earlier_of_inputs_and_eligibility(records, moment):
    chunk = records(
        """
        1 | 2020-12-02 | HDL | 40
        1 | 2021-02-01 | CANCER
        1 | 2021-03-01 | HDL | 40
        2 | 2020-12-02 | HDL | 40
        2 | 2021-03-01 | HDL | 40
        3 | 2020-12-02 | HDL | 40
        """
    )
    rows = cohort(chunk, OUTCOMES, moment("2025-01-01"), as_of=moment(NOW))
    plan = FeaturePlan({"m": TabularPlan((column("HDL:last"),))})
    assert valid_until(chunk, rows, plan).tolist() == [moment("2021-02-01"), moment("2021-03-01"), STATIC]
