"""Who is in which subgroup, and that no hidden number can be worked out from those shown."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from riskpred.evaluate.metrics import metrics
from riskpred.evaluate.subgroups import SMALL_CELL, age_and_sex, hidden_cells, partitions
from riskpred.records.chunk import DAY_US, STATIC, SubjectChunk


def events(*rows):
    """A chunk of (subject, day, code); day None is undated."""
    rows = sorted(rows, key=lambda row: (row[0], -1 if row[1] is None else row[1], row[2]))
    codes = tuple(sorted({row[2] for row in rows}))
    ids = np.unique([row[0] for row in rows])
    subject = np.array([row[0] for row in rows])
    return SubjectChunk(
        subject_id=ids,
        start=np.searchsorted(subject, [*ids, ids[-1] + 1]).astype(np.int64),
        time=np.array([STATIC if row[1] is None else row[1] * DAY_US for row in rows], dtype=np.int64),
        code=np.array([codes.index(row[2]) for row in rows], dtype=np.int32),
        numeric_value=np.full(len(rows), np.nan),
        text=np.full(len(rows), -1, dtype=np.int32),
        codes=codes,
        texts=(),
        units=(None,) * len(codes),
        images=((),) * len(ids),
    )


def test_age_and_sex_are_those_at_prediction_time():
    chunk = events(
        (1, 0, "MEDS_BIRTH"),
        (1, None, "GENDER//F"),
        (1, 200, "GENDER//M"),  # known from then on
        (2, 50, "MEDS_BIRTH"),
        (2, None, "GENDER//Male"),
        (3, None, "GENDER//X"),
        (3, 10, "LAB"),
        (4, 10, "LAB"),
    )
    subject, days = np.array([0, 0, 1, 1, 2, 3]), np.array([100, 200, 40, 60, 70, 70])
    age, sex = age_and_sex(chunk, subject, days * DAY_US)
    assert age * 365.25 == pytest.approx([100, 200, np.nan, 10, np.nan, np.nan], nan_ok=True)
    assert sex.tolist() == ["female", "male", "male", "male", "x", "unknown"]


def test_everyone_is_in_one_group_of_each_partition_and_a_lone_group_is_none():
    ages = np.array([20.0, 39.99, 40.0, 59.0, 80.0, 101.0, np.nan])
    sex, pattern = np.array(["female"] * 7), np.array(["tabular"] * 6 + ["nothing"])
    by_age, by_pattern = partitions(pattern, ages, sex)
    assert by_age.labels == ("age under 40", "age 40-49", "age 50-59", "age 80 or over", "age unknown")
    assert by_age.of.tolist() == [
        *("age under 40", "age under 40", "age 40-49", "age 50-59"),
        *("age 80 or over", "age 80 or over", "age unknown"),
    ]
    assert by_pattern.labels == ("with nothing", "with tabular")
    assert partitions(np.array(["tabular"] * 7), None, None) == ()


@pytest.mark.parametrize(
    ("people", "cases", "hide_people", "hide_events"),
    [
        ([500, 400, 300], [50, 40, 30], "...", "..."),
        # 3 of 90 have it: its complement is hidden with it.
        ([500, 400, 90], [50, 40, 3], "...", ".##"),
        # One small group of two: both, and their sizes where one of these is small.
        ([500, 8], [50, 1], "##", "##"),
        ([500, 80], [50, 1], "..", "##"),
        # Two hidden that together hold 9 would still tell of few: the third goes too.
        ([500, 400, 300], [50, 4, 5], "...", "###"),
        ([500, 400, 300], [50, 9, 5], "...", ".##"),
        # Few without the outcome are as telling as few with it.
        ([100, 100, 100], [95, 50, 60], "...", "#.#"),
        ([500, 400, 300], [50, 40, 0], "...", ".##"),
    ],
)
def test_a_small_cell_takes_the_next_smallest_with_it(people, cases, hide_people, hide_events):
    hidden = hidden_cells(people, cases)
    assert "".join(".#"[one] for one in hidden.people.astype(int)) == hide_people
    assert "".join(".#"[one] for one in hidden.events.astype(int)) == hide_events


def test_what_is_hidden_cannot_be_subtracted():
    generator = np.random.default_rng(0)
    for _ in range(300):
        groups = int(generator.integers(2, 8))
        people = generator.integers(1, 200, groups)
        cases = generator.binomial(people, generator.random())
        hidden = hidden_cells(people.tolist(), cases.tolist())
        for counts, mask in ((people, hidden.people), (cases, hidden.events), (people - cases, hidden.events)):
            assert np.all(mask | (counts >= SMALL_CELL))
            # Total less what is shown is what the hidden hold together: several groups and not few, or all there is.
            assert not mask.any() or mask.all() or (mask.sum() > 1 and counts[mask].sum() >= SMALL_CELL)


def test_the_table_hides_what_the_rule_hides(made_up):
    evaluated = made_up(700)
    rows = metrics(evaluated, resamples=5)
    shown = [row for row in rows if row["subgroup"] and row["metric"] == "brier" and row["model"] == "riskpred"]
    total = {
        (row["outcome"], row["horizon_years"]): (row["n"], row["events"])
        for row in rows
        if row["subgroup"] is None
        and row["metric"] == "brier"
        and row["model"] == "riskpred"
        and not row["blanking_days"]
    }
    kinds = {"age": 0, "sex": 0, "with": 0}
    for (target, (n, cases)), kind in itertools.product(total.items(), kinds):
        group = [row for row in shown if (row["outcome"], row["horizon_years"]) == target]
        group = [row for row in group if row["subgroup"].startswith(kind)]
        for field, whole in (("n", n), ("events", cases)):
            hidden = sum(row[field] is None for row in group)
            rest = whole - sum(row[field] for row in group if row[field] is not None)
            assert hidden != 1
            assert hidden == len(group) or (rest == 0) == (hidden == 0)
            assert hidden in (0, len(group)) or rest >= SMALL_CELL
        kinds[kind] += sum(row["events"] is None for row in group)
        assert all((row["events"] is None) == (row["value"] is None) for row in group)
        assert all("not shown" in row["reason"] for row in group if row["events"] is None)
    assert kinds["with"]  # eight people with nothing
    without = replace(evaluated, age_years=None, sex=None)
    assert {row["subgroup"] for row in metrics(without, resamples=5)} == {
        None,
        *(f"with {pattern}" for pattern in ("nothing", "tabular", "tabular+series")),
    }
