"""Who is eligible, for what, and what happened after: design.md's definitions as tables a clinician can read."""

import numpy as np
import pytest

from riskpred.config.model import parse
from riskpred.config.outcomes import OutcomesConfig
from riskpred.records.chunk import DAY_US, STATIC
from riskpred.records.cohort import cohort

STUDY = {
    "entry_codes": ["ENTER"],
    "leaving_codes": ["LEAVE"],
    "prediction_times": {"days_after_entry": [0]},
    "horizons_years": [1, 5],
    "outcomes": {
        "infarct": {"display": "MI", "rule": {"codes": ["MI"]}, "competing_set": "vascular"},
        "stroke": {"display": "Stroke", "rule": {"codes": ["STROKE*"]}, "competing_set": "vascular"},
        "cancer": {"display": "Cancer", "rule": {"codes": ["CANCER"]}},
    },
}

DATA_UNTIL = "2025-01-01"


def study(**changes):
    return parse(OutcomesConfig, {**STUDY, **changes}, "outcomes.yaml")


def table_of(rows, chunk, outcomes):
    """Rows as `subject | outcome | reason` or `subject | outcome | days | what ended it`."""
    lines = []
    for r in range(len(rows)):
        for group in outcomes.groups:
            for name in group.outcomes:
                who = f"{chunk.subject_id[rows.subject[r]]} | {name}"
                reason = rows.reasons(name)[r]
                assert (reason is None) == rows.eligible[name][r]
                cause, days = rows.cause[group.name][r], rows.duration_days[group.name][r]
                assert (cause == -1) == np.isnan(days)
                if reason is not None:
                    assert cause == -1
                    lines.append(f"{who} | {reason}")
                elif group.known_at_once:
                    lines.append(f"{who} | {('unlabelled', 'no', 'yes')[cause + 1]}")
                else:
                    ended = ("censored", *group.causes)[cause]
                    lines.append(f"{who} | {round(days, 6):g} | {ended}")
    return lines


def expected(text):
    return [" | ".join(cell.strip() for cell in line.split("|")) for line in text.splitlines() if line.strip()]


CASES = {
    "an infarct after entry is incident, and takes the place of a stroke: they share one process": (
        """
        1 | 2020-01-01 | ENTER
        1 | 2020-02-01 end | MI
        1 | 2020-03-01 end | STROKE//ischaemic
        """,
        "2020-01-01",
        """
        1 | infarct | 32 | infarct
        1 | stroke | 32 | infarct
        1 | cancer | 1827 | censored
        """,
    ),
    "an event at exactly prediction_time was known: prevalent, and for its whole competing set": (
        """
        1 | 2020-01-01 | ENTER
        1 | 2021-01-01 | MI
        """,
        "2021-01-01",
        """
        1 | infarct | prevalent
        1 | stroke | prevalent
        1 | cancer | 1461 | censored
        """,
    ),
    "a diagnosis known to the day is known at the end of it: not yet at noon": (
        """
        1 | 2020-01-01 | ENTER
        1 | 2021-01-01 end | CANCER
        """,
        "2021-01-01 12:00",
        """
        1 | infarct | 1460.5 | censored
        1 | stroke | 1460.5 | censored
        1 | cancer | 0.5 | cancer
        """,
    ),
    "a diagnosis known to the day is prevalent at the last moment of the day": (
        """
        1 | 2020-01-01 | ENTER
        1 | 2021-01-01 end | CANCER
        """,
        "2021-01-01 end",
        """
        1 | infarct | 1460 | censored
        1 | stroke | 1460 | censored
        1 | cancer | prevalent
        """,
    ),
    "an outcome and death at the same moment: the outcome counts; leaving then counts last": (
        """
        1 | 2020-01-01 | ENTER
        1 | 2020-07-01 end | MEDS_DEATH
        1 | 2020-07-01 end | MI
        1 | 2020-07-01 end | LEAVE
        2 | 2020-01-01 | ENTER
        2 | 2020-07-01 end | MEDS_DEATH
        2 | 2020-07-01 end | LEAVE
        """,
        "2020-01-01",
        """
        1 | infarct | 183 | infarct
        1 | stroke | 183 | infarct
        1 | cancer | 183 | death
        2 | infarct | 183 | death
        2 | stroke | 183 | death
        2 | cancer | 183 | death
        """,
    ),
    "follow-up ends at leaving, else at data_until, never at the subject's own last event": (
        """
        1 | 2020-01-01 | ENTER
        1 | 2020-01-11 | LEAVE
        1 | 2020-02-01 | CANCER
        2 | 2020-01-01 | ENTER
        2 | 2020-01-02 | GLUCOSE | 5
        3 | 2020-01-01 | ENTER
        3 | 2025-06-01 | CANCER
        """,
        "2020-01-01",
        """
        1 | infarct | 10 | censored
        1 | stroke | 10 | censored
        1 | cancer | 10 | censored
        2 | infarct | 1827 | censored
        2 | stroke | 1827 | censored
        2 | cancer | 1827 | censored
        3 | infarct | 1827 | censored
        3 | stroke | 1827 | censored
        3 | cancer | 1827 | censored
        """,
    ),
    "left, and back": (
        """
        1 | 2020-01-01 | ENTER
        1 | 2020-06-01 | LEAVE
        2 | 2020-01-01 | ENTER
        2 | 2020-06-01 | LEAVE
        2 | 2020-07-01 | ENTER
        2 | 2022-01-01 | LEAVE
        3 | 2020-01-01 | ENTER
        3 | 2020-06-01 | LEAVE
        3 | 2021-07-01 | ENTER
        4 | 2020-01-01 | ENTER
        4 | 2021-01-01 | LEAVE
        4 | 2021-01-01 | ENTER
        """,
        "2021-01-01",
        """
        1 | infarct | left
        1 | stroke | left
        1 | cancer | left
        2 | infarct | 365 | censored
        2 | stroke | 365 | censored
        2 | cancer | 365 | censored
        3 | infarct | left
        3 | stroke | left
        3 | cancer | left
        4 | infarct | left
        4 | stroke | left
        4 | cancer | left
        """,
    ),
    "never entered; entered only later; dead before dead is asked after left; dead at exactly prediction_time": (
        """
        1 | 2020-01-01 | GLUCOSE | 5
        2 | 2021-01-02 | ENTER
        3 | 2020-01-01 | ENTER
        3 | 2020-03-01 | LEAVE
        3 | 2020-05-01 end | MEDS_DEATH
        4 | 2020-01-01 | ENTER
        4 | 2021-01-01 | MEDS_DEATH
        """,
        "2021-01-01",
        """
        1 | infarct | not_entered
        1 | stroke | not_entered
        1 | cancer | not_entered
        2 | infarct | not_entered
        2 | stroke | not_entered
        2 | cancer | not_entered
        3 | infarct | dead
        3 | stroke | dead
        3 | cancer | dead
        4 | infarct | dead
        4 | stroke | dead
        4 | cancer | dead
        """,
    ),
    "undated facts are always known: an undated cancer is prevalent, an undated entry has entered": (
        """
        1 | - | ENTER
        1 | - | CANCER
        """,
        "2024-01-01",
        """
        1 | infarct | 366 | censored
        1 | stroke | 366 | censored
        1 | cancer | prevalent
        """,
    ),
    "asked after the data end: eligible, with nothing to follow": (
        """
        1 | 2020-01-01 | ENTER
        """,
        "2026-01-01",
        """
        1 | infarct | 0 | censored
        1 | stroke | 0 | censored
        1 | cancer | 0 | censored
        """,
    ),
}


@pytest.mark.parametrize(("events", "at", "rows"), CASES.values(), ids=list(CASES))
def test_at_one_moment_for_everyone(records, moment, events, at, rows):
    chunk, outcomes = records(events), study()
    got = cohort(chunk, outcomes, moment(DATA_UNTIL), as_of=moment(at))
    assert len(got) == len(chunk)
    assert table_of(got, chunk, outcomes) == expected(rows)


BLANKED = """
    1 | 2020-01-01 | ENTER
    1 | 2020-03-31 | MI
    2 | 2020-01-01 | ENTER
    2 | 2020-03-31 00:01 | MI
    3 | 2020-01-01 | ENTER
    3 | 2020-02-01 | MEDS_DEATH
    4 | 2020-01-01 | ENTER
    4 | 2020-02-01 | LEAVE
    5 | 2020-01-01 | ENTER
    6 | 2020-01-01 | ENTER
    6 | 2020-03-01 | CANCER
    """


@pytest.mark.parametrize(
    ("change", "rows"),
    [
        (
            {"blanking_days": 90},  # to 2020-03-31 00:00, inclusive
            """
            1 | infarct | in no risk set
            1 | stroke | in no risk set
            1 | cancer | 1827 | censored
            2 | infarct | 90.000694 | infarct
            2 | stroke | 90.000694 | infarct
            2 | cancer | 1827 | censored
            3 | infarct | in no risk set
            3 | stroke | in no risk set
            3 | cancer | in no risk set
            4 | infarct | in no risk set
            4 | stroke | in no risk set
            4 | cancer | in no risk set
            5 | infarct | 1827 | censored
            5 | stroke | 1827 | censored
            5 | cancer | 1827 | censored
            6 | infarct | 1827 | censored
            6 | stroke | 1827 | censored
            6 | cancer | in no risk set
            """,
        ),
        (
            {"outcomes": {**STUDY["outcomes"], "cancer": {**STUDY["outcomes"]["cancer"], "blanking_days": 30}}},
            """
            1 | infarct | 90 | infarct
            1 | stroke | 90 | infarct
            1 | cancer | 1827 | censored
            2 | infarct | 90.000694 | infarct
            2 | stroke | 90.000694 | infarct
            2 | cancer | 1827 | censored
            3 | infarct | 31 | death
            3 | stroke | 31 | death
            3 | cancer | 31 | death
            4 | infarct | 31 | censored
            4 | stroke | 31 | censored
            4 | cancer | 31 | censored
            5 | infarct | 1827 | censored
            5 | stroke | 1827 | censored
            5 | cancer | 1827 | censored
            6 | infarct | 1827 | censored
            6 | stroke | 1827 | censored
            6 | cancer | 60 | cancer
            """,
        ),
    ],
    ids=["a window for every outcome", "one of 30 days for cancer alone: nothing happens within it"],
)
def test_whose_follow_up_ends_within_the_blanking_window_is_eligible_but_in_no_risk_set(records, moment, change, rows):
    chunk, outcomes = records(BLANKED), study(**change)
    got = cohort(chunk, outcomes, moment(DATA_UNTIL))
    assert all(eligible.all() for eligible in got.eligible.values())  # `score` gives them a risk as ever
    lines = []
    for r in range(len(got)):
        for group in outcomes.groups:
            cause, days = got.cause[group.name][r], got.duration_days[group.name][r]
            assert (cause == -1) == np.isnan(days)
            said = "in no risk set" if cause == -1 else f"{days:.8g} | {('censored', *group.causes)[cause]}"
            lines += [f"{chunk.subject_id[got.subject[r]]} | {name} | {said}" for name in group.outcomes]
    assert lines == expected(rows)
    free = cohort(chunk, outcomes.without_blanking(), moment(DATA_UNTIL))
    assert all((cause >= 0).all() for cause in free.cause.values())


def test_without_entry_codes_the_first_dated_event_enters_but_not_birth(records, moment):
    chunk = records(
        """
        1 | 1950-01-01 | MEDS_BIRTH
        1 | - | GENDER//F
        1 | 2020-01-05 | GLUCOSE | 5
        """
    )
    rows = cohort(chunk, study(entry_codes=[], prediction_times={"days_after_entry": [30]}), moment(DATA_UNTIL))
    assert rows.prediction_time.tolist() == [moment("2020-02-04")]
    assert rows.entry_time.tolist() == [moment("2020-01-05")]


def test_age_limits_are_inclusive_and_an_unknown_age_is_ineligible(records, moment):
    chunk = records(
        """
        1 | 1979-01-01 | MEDS_BIRTH
        1 | 2019-01-01 | ENTER
        2 | 1979-01-02 12:00 | MEDS_BIRTH
        2 | 2019-01-01 | ENTER
        3 | 2019-01-01 | ENTER
        4 | 1939-01-01 | MEDS_BIRTH
        4 | 2019-01-01 | ENTER
        5 | 1938-12-31 | MEDS_BIRTH
        5 | 2019-01-01 | ENTER
        """
    )
    # 40 years are 14,610 days: 1979-01-01 to 2019-01-01. 80 years are 29,220 days: 1939-01-01 to 2019-01-01.
    rows = cohort(chunk, study(age_years=[40, 80]), moment(DATA_UNTIL), as_of=moment("2019-01-01"))
    assert rows.reasons("cancer") == (None, "age", "age", None, "age")
    # Without new data: 1 passes 80, 2 reaches 40, 4 passes 80 a moment later; 3 and 5 stay as they are.
    assert rows.valid_until.tolist() == [
        moment("1979-01-01") + 29_220 * DAY_US + 1,
        moment("1979-01-02 12:00") + 14_610 * DAY_US,
        STATIC,
        moment("2019-01-01") + 1,
        STATIC,
    ]


def test_the_reason_named_first_is_the_first_that_holds(records, moment):
    chunk = records(
        """
        1 | 2019-01-01 | ENTER
        1 | 2019-02-01 | MI
        """
    )
    rows = cohort(chunk, study(age_years=[None, 80]), moment(DATA_UNTIL), as_of=moment("2020-01-01"))
    assert rows.reasons("infarct") == ("prevalent",)
    assert rows.reasons("cancer") == ("age",)


def test_already_recorded_later_events_end_the_validity_of_a_row(records, moment):
    chunk = records(
        """
        1 | 2020-01-01 | ENTER
        1 | 2020-03-01 | GLUCOSE | 5
        1 | 2020-04-01 | MI
        2 | 2020-01-01 | ENTER
        2 | 2020-01-20 | MEDS_DEATH
        2 | 2020-04-01 | MI
        3 | 2020-05-01 | ENTER
        4 | 2020-01-20 | MEDS_DEATH
        4 | 2020-05-01 | ENTER
        """
    )
    rows = cohort(chunk, study(), moment(DATA_UNTIL), as_of=moment("2020-02-01"))
    # GLUCOSE decides nothing here; the dead stay dead; the third enters in May; so does the fourth: then `dead`.
    assert rows.reasons("cancer") == (None, "dead", "not_entered", "not_entered")
    assert rows.valid_until.tolist() == [moment("2020-04-01"), STATIC, moment("2020-05-01"), moment("2020-05-01")]


@pytest.mark.parametrize(
    ("when", "times"),
    [
        ({"days_after_entry": [0]}, ["1 2020-01-10", "2 2020-02-01 08:00"]),
        ({"days_after_entry": [30, 0]}, ["1 2020-01-10", "1 2020-02-09", "2 2020-02-01 08:00", "2 2020-03-02 08:00"]),
        ({"every_days": 30}, ["1 2020-01-10", "1 2020-02-09", "2 2020-02-01 08:00", "2 2020-03-02 08:00"]),
        ({"at_codes": ["CLINIC*"]}, ["1 2020-02-10", "2 2020-02-15"]),
        (
            {"at_dates": ["2020-02-20T00:00:00", "2020-01-15T01:00:00+01:00"]},
            ["1 2020-01-15", "1 2020-02-20", "2 2020-02-20"],
        ),
    ],
    ids=["N = 0", "two delays, sorted", "every 30 days until death or the end of the data", "at a code", "at dates"],
)
def test_prediction_times(records, moment, when, times):
    chunk = records(
        """
        1 | 2020-01-10 | ENTER
        1 | 2020-02-10 | CLINIC//heart
        1 | 2020-02-10 | CLINIC//lung
        1 | 2020-02-25 | MEDS_DEATH
        1 | 2020-03-01 | CLINIC//heart
        2 | 2020-01-01 | CLINIC//heart
        2 | 2020-02-01 08:00 | ENTER
        2 | 2020-02-15 | CLINIC//lung
        3 | 2020-01-01 | CLINIC//heart
        """
    )
    # 1 dies in February: no row after it. The data end in March: no row of 2 in April. 3 never enters: no row.
    rows = cohort(chunk, study(prediction_times=when), moment("2020-03-10"))
    got = zip(chunk.subject_id[rows.subject], rows.prediction_time, strict=True)
    wanted = [(int(line[0]), moment(line[2:])) for line in times]
    assert [(int(subject), int(time)) for subject, time in got] == wanted


def test_no_row_after_the_day_on_which_the_data_end(records, moment):
    chunk = records("1 | 2020-01-10 08:00 | ENTER")
    for data_until, times in (("2020-02-08 end", 1), ("2020-02-09", 2)):
        rows = cohort(chunk, study(prediction_times={"days_after_entry": [0, 30]}), moment(data_until))
        assert len(rows) == times


@pytest.mark.parametrize("first", ["infarct", "stroke"])
def test_of_two_outcomes_of_a_set_at_one_moment_the_one_named_first_counts(records, moment, first):
    chunk = records(
        """
        1 | 2020-01-01 | ENTER
        1 | 2020-02-01 end | MI
        1 | 2020-02-01 end | STROKE//ischaemic
        """
    )
    order = sorted(("infarct", "stroke"), key=lambda name: name != first)
    outcomes = study(outcomes={name: STUDY["outcomes"][name] for name in order})
    rows = cohort(chunk, outcomes, moment(DATA_UNTIL))
    assert table_of(rows, chunk, outcomes) == [f"1 | {name} | 32 | {first}" for name in order]


def test_a_row_stays_while_it_is_eligible_for_one_outcome(records, moment):
    chunk = records(
        """
        1 | 2020-01-01 | ENTER
        1 | 2020-01-15 | MI
        """
    )
    outcomes = study(prediction_times={"every_days": 30})
    rows = cohort(chunk, outcomes, moment("2020-02-15"))
    assert table_of(rows, chunk, outcomes) == expected(
        """
        1 | infarct | 14 | infarct
        1 | stroke | 14 | infarct
        1 | cancer | 45 | censored
        1 | infarct | prevalent
        1 | stroke | prevalent
        1 | cancer | 15 | censored
        """
    )


def test_nobody_to_predict_for_is_no_row(records, moment):
    rows = cohort(records("1 | 2020-01-01 | GLUCOSE | 5"), study(), moment(DATA_UNTIL))
    assert len(rows) == 0
    assert rows.reasons("cancer") == ()


DEPRESSION = {"display": "Depression", "rule": {"codes": ["PHQ9"], "at_least": 10}, "known_at_once": True}

AT_ONCE = {
    "a score of 10 that day is yes, 9 is no, none is unlabelled, one without a value was not measured": (
        {},
        """
        1 | 2020-01-01 | ENTER
        1 | 2020-06-01 18:00 | PHQ9 | 10
        2 | 2020-01-01 | ENTER
        2 | 2020-06-01 | PHQ9 | 9
        3 | 2020-01-01 | ENTER
        3 | 2020-05-31 end | PHQ9 | 20
        3 | 2020-06-02 | PHQ9 | 20
        4 | 2020-01-01 | ENTER
        4 | 2020-06-01 | PHQ9 | "refused"
        """,
        "1 | depression | yes\n2 | depression | no\n3 | depression | unlabelled\n4 | depression | unlabelled",
    ),
    "any label that meets the rule is enough; days before count from lookback_days on": (
        {"lookback_days": 14},
        """
        1 | 2020-01-01 | ENTER
        1 | 2020-05-18 | PHQ9 | 12
        1 | 2020-06-01 | PHQ9 | 3
        2 | 2020-01-01 | ENTER
        2 | 2020-05-17 end | PHQ9 | 12
        2 | 2020-06-01 | PHQ9 | 3
        """,
        "1 | depression | yes\n2 | depression | no",
    ),
    "absent: no": (
        {"absent": "no"},
        "1 | 2020-01-01 | ENTER",
        "1 | depression | no",
    ),
    "no prevalence rule: depressed before, asked again": (
        {},
        """
        1 | 2020-01-01 | ENTER
        1 | 2020-02-01 | PHQ9 | 20
        1 | 2020-06-01 | PHQ9 | 4
        """,
        "1 | depression | no",
    ),
    "the dead are not asked": (
        {"absent": "no"},
        """
        1 | 2020-01-01 | ENTER
        1 | 2020-05-01 | MEDS_DEATH
        1 | 2020-06-01 | PHQ9 | 20
        """,
        "1 | depression | dead",
    ),
}


@pytest.mark.parametrize(("changes", "events", "rows"), AT_ONCE.values(), ids=list(AT_ONCE))
def test_known_at_once(records, moment, changes, events, rows):
    chunk = records(events)
    outcomes = study(outcomes={"depression": {**DEPRESSION, **changes}})
    got = cohort(chunk, outcomes, moment(DATA_UNTIL), as_of=moment("2020-06-01 10:00"))
    assert table_of(got, chunk, outcomes) == expected(rows)


def test_absent_is_not_no_after_the_data_end(records, moment):
    chunk, outcomes = (
        records("1 | 2020-01-01 | ENTER"),
        study(outcomes={"depression": {**DEPRESSION, "absent": "no"}}),
    )
    rows = cohort(chunk, outcomes, moment("2020-05-31"), as_of=moment("2020-06-01"))
    assert table_of(rows, chunk, outcomes) == ["1 | depression | unlabelled"]


def test_a_rule_on_texts(records, moment):
    chunk = records(
        """
        1 | 2020-01-01 | ENTER
        1 | 2020-02-01 | BIOPSY | "benign"
        1 | 2020-03-01 | BIOPSY | "malignant"
        2 | 2020-01-01 | ENTER
        2 | 2020-02-01 | BIOPSY
        """
    )
    outcomes = study(outcomes={"cancer": {"display": "Cancer", "rule": {"codes": ["BIOPSY"], "values": ["malignant"]}}})
    rows = cohort(chunk, outcomes, moment(DATA_UNTIL))
    assert table_of(rows, chunk, outcomes) == ["1 | cancer | 60 | cancer", "2 | cancer | 1827 | censored"]


SETS = {
    "entry_codes": ["ENTER"],
    "prediction_times": {"days_after_entry": [0]},
    "grades": {"dr": {"codes": ["GRADE"], "levels": {1: "Mild or more", 2: "Moderate or more", 4: "Proliferative"}}},
    "classes": {"kind": {"codes": ["KIND"], "values": {"cyst": "Cyst", "cancer": "Cancer"}}},
}

SETS_CASES = {
    "a grade is also every lower one; a class is one of its set, any other text none of them": (
        """
        1 | 2020-01-01 | ENTER
        1 | 2020-01-01 | GRADE | 0
        1 | 2020-01-01 | KIND | "normal"
        2 | 2020-01-01 | ENTER
        2 | 2020-01-01 | GRADE | 3
        2 | 2020-01-01 | KIND | "cancer"
        3 | 2020-01-01 | ENTER
        3 | 2020-01-01 | GRADE | 4
        """,
        {1: (0, 0), 2: (2, 2), 3: (3, -1)},
    ),
    "of several grades on the day the highest counts, of several classes the first in the file": (
        """
        1 | 2020-01-01 | ENTER
        1 | 2020-01-01 | GRADE | 4
        1 | 2020-01-01 12:00 | GRADE | 1
        1 | 2020-01-01 10:00 | KIND | "cancer"
        1 | 2020-01-01 11:00 | KIND | "cyst"
        """,
        {1: (3, 1)},
    ),
}


@pytest.mark.parametrize(("events", "wanted"), SETS_CASES.values(), ids=list(SETS_CASES))
def test_sets_known_at_once(events: str, wanted: dict[int, tuple[int, int]], records) -> None:
    outcomes = parse(OutcomesConfig, SETS, "outcomes.yaml")
    chunk = records(events)
    rows = cohort(chunk, outcomes, 2_000_000_000_000_000)
    found = zip(rows.cause["dr"].tolist(), rows.cause["kind"].tolist(), strict=True)
    assert dict(zip(chunk.subject_id[rows.subject].tolist(), found, strict=True)) == wanted
