"""A night's own check of its reasons: passes where they are right, and says which are wrong where they are not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from riskpred.explain import subjects
from riskpred.explain.attribution import Within
from riskpred.explain.attribution import within_modality as right

# All of those explained, whoever they are: which ones are sampled depends on when the images' files were written.
EVERYBODY = 16
Night = Callable[..., Any]
Rows = Callable[..., list[tuple[Any, ...]]]

ALL = "SELECT check_name, modality, n, value, wanted, passed FROM reason_checks ORDER BY ALL"


def test_right_reasons_pass_and_nothing_of_a_person_is_kept(
    tmp_path: Path, small_hospital: Any, night: Night, rows: Rows
) -> None:
    into = tmp_path / "s.duckdb"
    summary = night(small_hospital.write("w.duckdb"), into, explain=EVERYBODY)
    found = rows(into, ALL)
    names = {row[0] for row in found}
    assert {"sums of features", "remainder", "sums of moments", "sums of regions"} < names
    assert {"deletion of the top features against random ones", "permutation Shapley, rank correlation"} < names
    assert {row[1] for row in found} == {"tabular", "series", "image", None}
    assert all(row[5] for row in found), found
    assert 10 < max(row[2] for row in found) <= 16, "a sample of those explained"
    assert summary.reason_checks == {"passed": len(found)}
    assert not any("reasons" in note for note in summary.notes)
    assert "check reasons" in summary.seconds


def test_the_same_night_samples_the_same_subjects(
    tmp_path: Path, small_hospital: Any, night: Night, rows: Rows
) -> None:
    warehouse = small_hospital.write("w.duckdb")
    for name in ("a", "b"):
        night(warehouse, tmp_path / f"{name}.duckdb", explain=30)
    assert rows(tmp_path / "a.duckdb", ALL) == rows(tmp_path / "b.duckdb", ALL)


def test_who_explains_nobody_checks_nothing(tmp_path: Path, small_hospital: Any, night: Night, rows: Rows) -> None:
    into = tmp_path / "s.duckdb"
    summary = night(small_hospital.write("w.duckdb"), into, explain=0)
    assert rows(into, ALL) == []
    assert summary.reason_checks == {}


def test_a_night_made_anew_keeps_the_checks_of_the_reasons_it_keeps(
    tmp_path: Path, small_hospital: Any, night: Night, rows: Rows
) -> None:
    warehouse, into = small_hospital.write("w.duckdb"), tmp_path / "s.duckdb"
    night(warehouse, into, explain=20)
    before = rows(into, ALL)
    again = night(warehouse, into, explain=20)
    assert again.carried, "nobody is told anew"
    assert again.reason_checks == {}, "and nothing is checked anew"
    assert rows(into, ALL) == before != []
    night(warehouse, into, explain=0, rescore=True)
    assert rows(into, ALL) == [], "checks go with the reasons they were of"


def _only_said(check: str, found: list[tuple[Any, ...]]) -> None:
    failed = [row[0] for row in found if not row[5]]
    assert failed == [check], failed


@pytest.mark.parametrize("level", ["moment", "region"])
def test_a_level_that_is_left_out_is_found(
    tmp_path: Path, small_hospital: Any, night: Night, rows: Rows, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    """No row of a level is no sum of it: nor of the night as a whole, nor of one horizon."""
    from riskpred.explain import reasons

    made = reasons._ranked

    def left_out(name: str, *given: Any, **named: Any) -> Any:
        rows = made(name, *given, **named)
        return rows.slice(0, 0) if name == level else rows

    monkeypatch.setattr(reasons, "_ranked", left_out)
    into = tmp_path / "s.duckdb"
    night(small_hospital.write("w.duckdb"), into, explain=20)
    _only_said(f"sums of {level}s", rows(into, ALL))


def test_large_reasons_that_cancel_are_no_wrong_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where risks are exactly sums of what is said, what is said is right: though the largest three add up to 1."""
    from types import SimpleNamespace

    from riskpred.score import reason_checks

    said = np.array([[30.0, -30.0, 1.0, 0.9, 0.8, -0.7, 0.0]])

    class Additive:
        def __init__(self, people: Any) -> None:
            pass

        def risks(self, index: Any, kept: Any) -> Any:
            return (said[index] * kept).sum(axis=1, keepdims=True)

    monkeypatch.setattr(reason_checks, "Asked", Additive)
    people: Any = SimpleNamespace(movable=np.ones((1, 7), dtype=np.bool_), players=range(7))
    nobody = np.zeros(1, dtype=np.int64)
    assert reason_checks._removed(people, said, nobody, nobody) == [(True, True)]
    assert reason_checks._removed(people, -said, nobody, nobody)[0][1] is False, "turned round they are wrong"
    ((larger, _),) = reason_checks._removed(people, np.roll(said, 2, axis=1), nobody, nobody)
    assert not larger, "nor are those of small features told as the largest"


def _shuffled(within: Within) -> Within:
    """Each person's features in another order: every sum is as it was."""
    moved = np.roll(within.feature, 1, axis=2)
    return replace(within, feature=moved, moment=None if within.moment is None else np.roll(within.moment, 1, axis=3))


def _turned(within: Within) -> Within:
    """Signs of the features turned round, the remainder left to explain it."""
    return replace(within, feature=-within.feature, moment=None if within.moment is None else -within.moment)


@pytest.mark.parametrize(
    ("wrong", "failing"),
    [
        (_shuffled, {"permutation Shapley, rank correlation"}),
        (_turned, {"remainder", "deletion in the direction said", "permutation Shapley, rank correlation"}),
    ],
)
def test_wrong_reasons_are_found_and_told_and_the_night_stands(
    tmp_path: Path,
    small_hospital: Any,
    night: Night,
    rows: Rows,
    monkeypatch: pytest.MonkeyPatch,
    wrong: Callable[[Within], Within],
    failing: set[str],
) -> None:
    def explained(*given: Any) -> Within:
        within = right(*given)
        return within if within.picture is not None else wrong(within)

    monkeypatch.setattr(subjects, "within_modality", explained)
    into = tmp_path / "s.duckdb"
    summary = night(small_hospital.write("w.duckdb"), into, explain=EVERYBODY)
    found = {row[0] for row in rows(into, ALL) if not row[5]}
    assert failing <= found
    assert summary.reason_checks["failed"] >= len(failing)
    (note,) = [note for note in summary.notes if note.startswith("reasons: of ")]
    assert all(name in note for name in failing)
    assert rows(into, "SELECT status FROM runs") == [("published",)]
