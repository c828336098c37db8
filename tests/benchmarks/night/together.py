"""Two nights at once, and a reader that holds the scores open all night: neither waits for, nor harms, the other."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks.night import nights, results
from tests.benchmarks.night.command import environment
from tests.benchmarks.night.data import AS_OF
from tests.benchmarks.night.kills import YESTERDAY
from tests.benchmarks.night.warm import Child, Warm

_SCORING: Final = re.compile(r"^score: ", re.MULTILINE)

_READER: Final = """
import json, sys
from pathlib import Path
import duckdb
import tests.benchmarks.night.nights as nights
scores = Path(sys.argv[1])
held = duckdb.connect(str(scores), read_only=True)
for line in sys.stdin:
    # The same process and path: DuckDB gives this the file that is held open, as a long-lived reader has it.
    print(json.dumps({name: getattr(nights, name)(scores) for name in line.split()}), flush=True)
"""


@dataclass(frozen=True)
class TwoRuns:
    """Exit codes of the night that was first and of the one that came while it ran, what the second said, and in how
    many seconds; rows: whether the first left the undisturbed night.   owner: process id of the first.
    taken_over: exit code of a night after the one before it was killed, and what it said."""

    first: int
    second: int
    said: str
    seconds: float
    rows: bool
    owner: int
    taken_over: tuple[int, str]


@dataclass(frozen=True)
class HeldOpen:
    """A night under a reader: its exit code and seconds, those of one without; `snapshot`: the reader saw the old night
    all the time; `fresh`: one that opens the file afterwards sees the new one."""

    code: int
    seconds: float
    seconds_alone: float
    snapshot: bool
    fresh: bool


def two_runs(warm: Warm, warehouse: Path, bundle: Path, folder: Path, day: str = AS_OF, explain: int = 0) -> TwoRuns:
    """Start a night, hold it still in the middle, start a second one, let the first go on; then one after a kill."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    words = ["score", warehouse, "--model", bundle, "--explain", str(explain), "--as-of", day, "--force"]
    alone, scores = folder / "alone.duckdb", folder / "scores.duckdb"
    assert warm.run([*words, "--into", alone]).wait() in (0, 14)
    first = _in_the_middle(warm, [*words, "--into", scores])
    os.killpg(first.pid, signal.SIGSTOP)
    began = time.monotonic()
    second = warm.run([*words, "--into", scores])
    seconds = time.monotonic() - began
    os.killpg(first.pid, signal.SIGCONT)
    code = first.wait()
    rows = code in (0, 14) and _risks(scores) == _risks(alone)
    # Else it carries everyone, and has no middle.
    third = _in_the_middle(warm, [*words, "--into", scores, "--rescore", "all"])
    third.kill()
    after = warm.run([*words, "--into", scores])
    return TwoRuns(code, second.wait(), second.said, seconds, rows, first.pid, (after.wait(), after.said))


def held_open(
    warm: Warm,
    warehouse: Path,
    bundle: Path,
    folder: Path,
    days: tuple[str, str] = (YESTERDAY, AS_OF),
    explain: int = 0,
) -> HeldOpen:
    """A reader opens yesterday's scores before the night begins, and reads them while it runs and afterwards."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    words = ["score", warehouse, "--model", bundle, "--explain", str(explain), "--force"]
    scores, alone = folder / "scores.duckdb", folder / "alone.duckdb"
    assert warm.run([*words, "--into", scores, "--as-of", days[0]]).wait() in (0, 14)
    # As JSON has it, which is how the reader answers.
    old, before = json.loads(json.dumps(nights.contents(scores))), nights.run_count(scores)
    shutil.copy(scores, alone)
    began = time.monotonic()
    assert warm.run([*words, "--into", alone, "--as-of", days[1]]).wait() in (0, 14)
    seconds_alone = time.monotonic() - began
    with _reader(scores) as read:
        began = time.monotonic()
        child = _in_the_middle(warm, [*words, "--into", scores, "--as-of", days[1]])
        # Not more than that: what a reader has read it keeps in memory, and what it has not must still be there.
        during = read("run_count")
        code = child.wait()
        seconds = time.monotonic() - began
        after = read("contents")
    fresh = nights.contents(scores, exact=False) == nights.contents(alone, exact=False)
    return HeldOpen(code, seconds, seconds_alone, (during, after) == (before, old), fresh)


def _risks(scores: Path) -> tuple[int, str]:
    return nights.contents(scores, exact=False)["risk_scores"]


def _in_the_middle(warm: Warm, words: list[str | Path]) -> Child:
    child = warm.start(words)
    while child.running and not _SCORING.search(child.said):
        time.sleep(0.002)
    return child


@contextmanager
def _reader(scores: Path) -> Iterator["Reading"]:
    with subprocess.Popen(
        [sys.executable, "-c", _READER, str(scores)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
        text=True,
    ) as process:
        yield Reading(process)
        assert process.stdin is not None
        process.stdin.close()


class Reading:
    """What a function of `nights` says of the file as the process that holds it open sees it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def __call__(self, name: str) -> object:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{name}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())[name]


def measure(warehouse: Path, bundle: Path, work: Path, attempts: results.Attempts) -> results.Figures:
    """The part `together` of the benchmark. The file of results has each of the two as soon as it is made."""
    folder = work / "together"

    def keep(name: str, make: Callable[[], results.Figures]) -> None:
        if name not in attempts.made:
            began = time.monotonic()
            found = {**make(), "took_seconds": round(time.monotonic() - began, 1)}
            attempts.add(name, found, _figures({**attempts.made, name: found}))

    with Warm(folder / "said") as warm:
        keep("two_runs", lambda: _of_two(two_runs(warm, warehouse, bundle, folder / "two")))
        keep("reader", lambda: _of_reader(held_open(warm, warehouse, bundle, folder / "held")))
    shutil.rmtree(folder)
    return _figures(attempts.made)


def _figures(made: dict[str, results.Figures]) -> results.Figures:
    return {**made, "seconds": round(sum(found["took_seconds"] for found in made.values()), 1)}


def _of_two(two: TwoRuns) -> results.Figures:
    return {
        "first": two.first,
        "second": two.second,
        "second_took_seconds": round(two.seconds, 2),
        "second_names_the_owner": str(two.owner) in two.said,
        "first_left_the_undisturbed_rows": two.rows,
        "after_a_kill": two.taken_over[0],
    }


def _of_reader(held: HeldOpen) -> results.Figures:
    return {
        "exit_code": held.code,
        "seconds": round(held.seconds, 2),
        "seconds_alone": round(held.seconds_alone, 2),
        "keeps_its_snapshot": held.snapshot,
        "next_reader_sees_the_new_night": held.fresh,
    }
