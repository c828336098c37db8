"""A night that is killed, filled up or run twice leaves the old scores or the new ones, whole; the attacks of
tests/benchmarks/night on a few hundred people."""

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

REPOSITORY = str(Path(__file__).resolve().parents[2])
if REPOSITORY not in sys.path:
    sys.path.insert(0, REPOSITORY)

from tests.benchmarks.night import disk_full, kills, together  # noqa: E402  (no part of the package)
from tests.benchmarks.night.warm import Warm  # noqa: E402

DAYS = ("2018-05-20", "2018-07-01")
"""More than the greatest age of a score apart: nothing is carried, each night is a whole one."""


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    with Warm(tmp_path_factory.mktemp("said")) as process:
        yield process


@pytest.fixture(scope="module")
def warehouse(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny one with so few images that one process decodes them: a second loads longer than the night takes."""
    path = tmp_path_factory.mktemp("few") / "warehouse.duckdb"
    shutil.copy(tiny.warehouse, path)
    with duckdb.connect(str(path)) as connection:
        connection.execute("DELETE FROM images WHERE subject_id % 8 > 0")
        connection.execute("UPDATE ingests SET image_root = ?", [str(tiny.source)])
        ((left,),) = connection.execute("SELECT count(*) FROM images").fetchall()
    assert left > 10
    return path


@pytest.fixture(scope="module")
def two(warm: Warm, warehouse: Path, tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> together.TwoRuns:
    """A night begun while another one is held still in its middle; then one after a kill."""
    return together.two_runs(warm, warehouse, tiny.bundle, tmp_path_factory.mktemp("two") / "runs", DAYS[1])


def test_a_killed_night_leaves_the_old_or_the_new_one_and_a_rerun_the_same(
    warm: Warm, warehouse: Path, tiny: Any, tmp_path: Path
) -> None:
    kept: dict[int, kills.Kill] = {}
    done = kills.attack(
        *(warm, warehouse, tiny.bundle, tmp_path / "kills"),
        kills=4,
        publishing=3,
        days=DAYS,
        keep=kept.__setitem__,
    )
    assert list(kept.values()) == done, "each is kept as soon as it is made"
    assert {kill.left for kill in done} <= {"old", "new"}
    assert [kill.left for kill in done if kill.moment == "swapped"] == ["new"]
    assert [kill.rerun_code for kill in done] == [0] * 4
    assert all(kill.same_rows and kill.same_digest for kill in done)
    assert [kill.lying for kill in done] == [()] * 4, "what a killed night left is cleared by the next"


def test_a_full_disk_is_exit_15_and_costs_nothing(warm: Warm, warehouse: Path, tiny: Any, tmp_path: Path) -> None:
    done = disk_full.attack(
        warm, warehouse, tiny.bundle, tmp_path / "full", shares=(0.3, 0.97), days=DAYS, mounting=False
    )
    assert [one.code for one in done] == [15] * 2
    assert all(one.unchanged for one in done), "yesterday's scores, to the byte"
    assert [one.lying for one in done] == [()] * 2
    assert not any(one.traceback for one in done)
    assert all("no space left for scores.duckdb; nothing was changed." in one.said for one in done)
    assert all("do      free space, then run again" in one.said for one in done)
    assert all(one.rerun_code == 0 and one.same_rows for one in done)


def test_of_two_nights_at_once_the_second_is_exit_15_and_the_first_is_whole(two: together.TwoRuns) -> None:
    assert (two.first, two.second) == (0, 15)
    assert "locked; nothing was changed." in two.said
    assert two.rows


def test_a_night_takes_over_after_one_that_was_killed(two: together.TwoRuns) -> None:
    assert two.taken_over[0] == 0


def test_the_second_night_names_the_owner_of_the_lock_and_its_age(two: together.TwoRuns) -> None:
    assert str(two.owner) in two.said, "the process that holds it"
    assert re.search(r"\b\d+(\.\d+)? (s|seconds?|min|minutes?|h|hours?)\b", two.said), "since when"


def test_a_lock_whose_owner_is_dead_is_taken_over_saying_so(two: together.TwoRuns) -> None:
    assert re.search(r"tak(es|en|ing) over|took over", two.taken_over[1])


def test_a_night_whose_log_cannot_be_written_is_published_all_the_same(
    warm: Warm, warehouse: Path, tiny: Any, tmp_path: Path
) -> None:
    found = disk_full.log_full(warm, warehouse, tiny.bundle, tmp_path / "log", DAYS[1])
    assert found == {"exit_code": 0, "published": True, "whole": True, "lying": []}


def test_a_reader_neither_blocks_a_night_nor_sees_it(warm: Warm, warehouse: Path, tiny: Any, tmp_path: Path) -> None:
    held = together.held_open(warm, warehouse, tiny.bundle, tmp_path / "held", DAYS)
    assert held.code == 0
    assert held.snapshot, "a reader that opened yesterday's scores reads them all night"
    assert held.fresh, "the next reader finds the new night"
