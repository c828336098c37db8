"""A night that is killed, filled up or run twice leaves the old scores or the new ones, whole; the attacks of
tests/benchmarks/night on a few hundred people."""

import sys
from pathlib import Path
from typing import Any

REPOSITORY = str(Path(__file__).resolve().parents[2])
if REPOSITORY not in sys.path:
    sys.path.insert(0, REPOSITORY)

from tests.benchmarks.night import kills  # noqa: E402  (no part of the package)

DAYS = ("2018-05-20", "2018-07-01")


def test_a_killed_night_leaves_the_old_or_the_new_one_and_a_rerun_the_same(tiny: Any, tmp_path: Path) -> None:
    done = kills.attack(tiny.warehouse, tiny.bundle, tmp_path / "kills", kills=3, publishing=1, days=DAYS)
    assert {kill.left for kill in done} <= {"old", "new"}
    assert [kill.rerun_code for kill in done] == [0] * 3
    assert all(kill.same_rows and kill.same_digest for kill in done)
    assert [kill.lying for kill in done] == [()] * 3, "what a killed night left is cleared by the next"
