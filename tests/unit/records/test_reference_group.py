"""Whom a risk is explained against: sex and age band at prediction_time, from the events known by then."""

import numpy as np
import pytest

from riskpred.records.chunk import DAY_US, STATIC, SubjectChunk
from riskpred.records.cohort import CohortRows
from riskpred.records.reference_group import GROUPS, belongs, reference_groups

YEAR_US = 365.25 * DAY_US


def _groups(people: list[list[tuple[int, str]]], subject: list[int], moment: list[int]) -> list[str]:
    """Names of the groups of rows (subject, moment); people: their (time, code) events, sorted."""
    codes = ("A", "GENDER//F", "GENDER//M", "GENDER//U", "MEDS_BIRTH")
    events = [event for one in people for event in one]
    chunk = SubjectChunk(
        subject_id=np.arange(len(people)),
        start=np.cumsum([0, *(len(one) for one in people)]),
        time=np.array([time for time, _ in events], np.int64),
        code=np.array([codes.index(code) for _, code in events], np.int32),
        numeric_value=np.full(len(events), np.nan),
        text=np.full(len(events), -1, np.int32),
        codes=codes,
        texts=(),
        units=(None,) * len(codes),
        images=((),) * len(people),
    )
    nothing = np.zeros(len(subject), np.int64)
    rows = CohortRows(np.array(subject), np.array(moment, np.int64), nothing, {}, {}, {}, {}, nothing)
    return [GROUPS[place] for place in reference_groups(chunk, rows).tolist()]


def test_sex_and_age_are_those_known_at_the_prediction_time() -> None:
    born, now = 0, int(59.5 * YEAR_US)
    people = [
        [(STATIC, "GENDER//F"), (born, "MEDS_BIRTH")],
        [(born, "MEDS_BIRTH"), (now, "GENDER//M")],
        [(STATIC, "GENDER//M"), (now - 5, "A")],
        [(now - 5, "A")],
        [(STATIC, "GENDER//M"), (born, "MEDS_BIRTH"), (now - 9, "GENDER//F"), (now + 9, "GENDER//M")],
        [(STATIC, "GENDER//U"), (born, "MEDS_BIRTH")],
    ]
    assert _groups(people, [0, 1, 2, 3, 4, 5], [now] * 6) == [
        "women aged 50 to 59",
        "men aged 50 to 59",
        "men, age not known",
        "everyone",
        "women aged 50 to 59",
        "people aged 50 to 59",
    ]
    year = int(YEAR_US)
    moments = [29 * year, 30 * year, 40 * year - DAY_US, 60 * year, 80 * year - DAY_US, 80 * year + DAY_US]
    assert _groups(people, [0] * 6, moments) == [
        "women under 30",
        "women aged 30 to 39",
        "women aged 30 to 39",
        "women aged 60 to 69",
        "women aged 70 to 79",
        "women aged 80 and over",
    ]
    assert _groups(people, [1, 1], [now - 1, now]) == ["people aged 50 to 59", "men aged 50 to 59"], "not before"


def test_names_are_told_once_and_people_of_an_age_are_of_either_sex() -> None:
    assert len(set(GROUPS)) == len(GROUPS) == 3 * 8
    group = np.array([GROUPS.index(name) for name in ("women under 30", "men under 30", "people under 30", "everyone")])
    assert belongs(group, GROUPS.index("people under 30")).tolist() == [True, True, True, False]
    assert belongs(group, GROUPS.index("women under 30")).tolist() == [True, False, False, False]
    assert belongs(group, GROUPS.index("everyone")).all()


@pytest.mark.parametrize("name", ["men, age not known", "women aged 80 and over"])
def test_a_group_of_one_sex_is_of_those_alone(name: str) -> None:
    place = GROUPS.index(name)
    assert np.flatnonzero(belongs(np.arange(len(GROUPS)), place)).tolist() == [place]
