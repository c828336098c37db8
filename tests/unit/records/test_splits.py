"""splits.py: who is trained on does not depend on who else is there."""

from collections import Counter

import pytest

from riskpred.config.ingest import Splits
from riskpred.errors import InputError
from riskpred.records.splits import assigned

PEOPLE = list(range(20_000))


def test_shares_are_those_asked_for() -> None:
    counts = Counter(assigned(Splits(), PEOPLE, {}, {}))
    assert counts["train"] / len(PEOPLE) == pytest.approx(0.70, abs=0.01)
    assert counts["tuning"] / len(PEOPLE) == pytest.approx(0.15, abs=0.01)
    assert counts["held_out"] / len(PEOPLE) == pytest.approx(0.15, abs=0.01)


def test_adding_a_subject_moves_nobody() -> None:
    few = dict(zip(PEOPLE[::7], assigned(Splits(), PEOPLE[::7], {}, {}), strict=True))
    all_ = dict(zip(PEOPLE, assigned(Splits(), PEOPLE, {}, {}), strict=True))
    assert all(all_[person] == split for person, split in few.items())


def test_another_seed_is_another_draw() -> None:
    assert assigned(Splits(seed=2), PEOPLE, {}, {}) != assigned(Splits(), PEOPLE, {}, {})


def test_a_group_stays_together_and_those_without_are_alone() -> None:
    groups = {person: None if person % 5 == 0 else str(person // 10) for person in PEOPLE}
    splits = assigned(Splits(table="t", group="g"), PEOPLE, {}, groups)
    for group in range(0, 100):
        assert len({splits[p] for p in range(group * 10, group * 10 + 10) if p % 5}) == 1
    alone = [splits[person] for person in PEOPLE if person % 5 == 0]
    assert Counter(alone)["train"] / len(alone) == pytest.approx(0.70, abs=0.03)


def test_a_column_names_the_split_and_may_leave_two_to_the_draw() -> None:
    splits = Splits(table="t", column="cycle", values={"a": "train_or_tuning", "b": "held_out"})
    found = assigned(splits, PEOPLE, {person: "b" if person % 4 == 0 else "a" for person in PEOPLE}, {})
    assert {found[person] for person in PEOPLE if person % 4 == 0} == {"held_out"}
    rest = Counter(found[person] for person in PEOPLE if person % 4)
    assert set(rest) == {"train", "tuning"}
    assert rest["tuning"] / rest.total() == pytest.approx(0.15 / 0.85, abs=0.01)


def test_a_value_that_names_no_split_is_refused() -> None:
    splits = Splits(table="t", column="cycle", values={"a": "train"})
    with pytest.raises(InputError, match="names no split for 2 of 3 subjects"):
        assigned(splits, [1, 2, 3], {1: "a", 2: "c", 3: None}, {})


def test_everyone_in_train() -> None:
    assert set(assigned(Splits(everyone="train"), PEOPLE, {}, {})) == {"train"}
