"""Kills nights with -9 at random moments, some while they publish: the file is the old or the new night, never between.

After each kill the published file must open and hold exactly yesterday's nights, or exactly today's beside them; then
the same command must end well and leave the rows that an undisturbed run leaves, with nothing lying about.
"""

import os
import random
import re
import shutil
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from tests.benchmarks.night import nights
from tests.benchmarks.night.data import AS_OF
from tests.benchmarks.night.warm import Child, Warm

YESTERDAY: Final = "2014-11-20T00:00:00"
"""More than the greatest age of a score before AS_OF: nothing can be carried, so every night is a whole one."""

_ALL_COMPUTED: Final = re.compile(r"^explain: ([\d,]+) of \1$|^verify: ", re.MULTILINE)
"""What is left to do after this line: verify, commit, checkpoint, publish. A night that has nobody to explain does not
speak of it, and goes on to verify."""
_LOOK_SECONDS: Final = 0.002


@dataclass(frozen=True)
class Kill:
    """One kill and what came of it.

    moment: any, publishing (after the last row was computed) or swapped (at once when the new file is in place).
    after_s: seconds after the start, or after the last row.   left: old, new, or in which tables the file is neither.
    rerun_code: exit code of the rerun.
    same_rows, same_digest: whether the rerun left the undisturbed night (numbers to 6 decimals; to the last bit).
    lying: files beside the scores after the rerun that an undisturbed run does not leave.
    """

    moment: str
    after_s: float
    left: str
    rerun_code: int
    same_rows: bool
    same_digest: bool
    lying: tuple[str, ...]

    @property
    def survived(self) -> bool:
        return self.left in ("old", "new") and self.rerun_code == 0 and self.same_rows and not self.lying


@dataclass(frozen=True)
class Undisturbed:
    """The night that a kill must not change, and how long it takes: whole_s, and publish_s after the last row is
    computed."""

    old: nights.Contents
    new: nights.Contents
    new_rounded: nights.Contents
    beside: frozenset[str]
    whole_s: float
    publish_s: float


def attack(
    warm: Warm,
    warehouse: Path,
    bundle: Path,
    folder: Path,
    kills: int,
    publishing: int,
    days: tuple[str, str] = (YESTERDAY, AS_OF),
    seed: int = 1,
) -> list[Kill]:
    """Kill `kills` nights, the last `publishing` of them between the last row computed and the end.

    Args:
        folder: scratch, emptied first.   days: --as-of of the published night and of the one that is killed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    draw, done = random.Random(seed), []
    (folder / "place").mkdir()
    yesterday, scores = folder / "yesterday.duckdb", folder / "place" / "scores.duckdb"
    words = ["score", warehouse, "--model", bundle, "--explain", "20", "--force"]
    _expect_done(warm.run([*words, "--into", yesterday, "--as-of", days[0]]))
    tonight = [*words, "--into", scores, "--as-of", days[1]]
    undisturbed = _undisturbed(warm, tonight, yesterday, scores)
    for number in range(kills):
        late = number - (kills - publishing)
        # Of the late ones every third comes just after the swap, which a moment at random would hardly ever hit.
        moment = "any" if late < 0 else "swapped" if late % 3 == 2 else "publishing"
        # Just short of the end: a kill that comes too late tries nothing.
        after = 0.97 * draw.uniform(0, undisturbed.whole_s if late < 0 else undisturbed.publish_s)
        done.append(_one(warm, tonight, yesterday, scores, undisturbed, moment, after))
    return done


def summary(kills: list[Kill]) -> dict[str, object]:
    """Counts for the report."""
    return {
        "kills": len(kills),
        "while_publishing": sum(kill.moment != "any" for kill in kills),
        "left": dict(Counter(kill.left for kill in kills)),
        "reruns_with_the_same_rows": sum(kill.rerun_code == 0 and kill.same_rows for kill in kills),
        "reruns_with_the_same_digest": sum(kill.rerun_code == 0 and kill.same_digest for kill in kills),
        "reruns_that_left_files": sum(bool(kill.lying) for kill in kills),
        "survived": sum(kill.survived for kill in kills),
    }


def _undisturbed(warm: Warm, tonight: list[str | Path], yesterday: Path, scores: Path) -> Undisturbed:
    _only(scores, yesterday)
    old = nights.contents(scores)
    began = time.monotonic()
    child = warm.start(tonight)
    computed = _when_computed(child)
    _expect_done(child)
    ended = time.monotonic()
    return Undisturbed(
        old,
        nights.contents(scores),
        nights.contents(scores, exact=False),
        frozenset(_beside(scores)),
        ended - began,
        ended - (computed or ended),
    )


def _one(
    warm: Warm,
    tonight: list[str | Path],
    yesterday: Path,
    scores: Path,
    undisturbed: Undisturbed,
    moment: str,
    after: float,
) -> Kill:
    while True:
        _only(scores, yesterday)
        child = warm.start(tonight)
        if moment == "swapped":
            place = scores.stat().st_ino
            while child.running and scores.stat().st_ino == place:
                time.sleep(_LOOK_SECONDS / 10)
        else:
            if moment == "publishing":
                _when_computed(child)
            until = time.monotonic() + after
            while child.running and time.monotonic() < until:
                time.sleep(min(_LOOK_SECONDS, max(0.0, until - time.monotonic())))
        child.kill()
        if child.wait() < 0:
            break
        # It was done before the kill came, which tries nothing: again, and sooner.
        after /= 2
    try:
        left = nights.which(nights.contents(scores), old=undisturbed.old, new=undisturbed.new)
    except duckdb.Error as error:
        left = f"not readable: {type(error).__name__}"
    again = warm.run(tonight)
    exact, rounded = nights.contents(scores), nights.contents(scores, exact=False)
    return Kill(
        moment=moment,
        after_s=after,
        left=left,
        rerun_code=again.wait(),
        same_rows=rounded == undisturbed.new_rounded,
        same_digest=exact == undisturbed.new,
        lying=tuple(sorted(set(_beside(scores)) - undisturbed.beside)),
    )


def _when_computed(child: Child) -> float | None:
    """Wait until the last row is computed; None when the night ended before it said so."""
    while child.running:
        if _ALL_COMPUTED.search(child.said):
            return time.monotonic()
        time.sleep(_LOOK_SECONDS)
    return None


def _only(scores: Path, content: Path) -> None:
    """Yesterday's file alone in the folder, as if no night had been tried since."""
    for path in scores.parent.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    shutil.copy(content, scores)


def _beside(scores: Path) -> list[str]:
    """Files of the folder, process ids in their names blotted out."""
    found = (str(path.relative_to(scores.parent)) for path in sorted(scores.parent.rglob("*")))
    return [re.sub(r"\d{2,}", "N", name) for name in found]


def _expect_done(child: Child) -> None:
    code = child.wait()
    if code not in (0, 14):
        raise RuntimeError(f"an undisturbed night ended with exit code {code}\n{child.said[-4000:]}")


def measure(warehouse: Path, bundle: Path, work: Path, kills: int = 60, publishing: int = 10) -> dict[str, object]:
    """The part `kills` of the benchmark."""
    began = time.monotonic()
    folder = work / f"kills-{os.getpid()}"
    with Warm(folder / "said") as warm:
        done = attack(warm, warehouse, bundle, folder / "nights", kills, publishing)
    shutil.rmtree(folder)
    failed = [
        f"{'publishing' if k.publishing else 'any moment'} + {k.after_s:.2f} s: {k}" for k in done if not k.survived
    ]
    return {**summary(done), "failed": failed[:10], "seconds": round(time.monotonic() - began, 1)}
