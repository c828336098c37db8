"""Kills nights with -9 at random moments, some while they publish: the file is the old or the new night, never between.

After each kill the published file must open and hold exactly yesterday's nights, or exactly today's beside them; then
the same command must end well and leave the rows that an undisturbed run leaves, with nothing lying about.
"""

import random
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import duckdb

from tests.benchmarks.night import nights, results
from tests.benchmarks.night.data import AS_OF
from tests.benchmarks.night.warm import Child, Warm

YESTERDAY: Final = "2014-11-20T00:00:00"
"""More than the greatest age of a score before AS_OF: nothing can be carried, so every night is a whole one."""

_ALL_COMPUTED: Final = re.compile(r"^explain: ([\d,]+) of \1(?:,|$)|^verify: ", re.MULTILINE)
"""What is left to do after this line, which may go on with a rate: verify, commit, checkpoint, publish. A night that
has nobody to explain does not speak of it, and goes on to verify."""
_TRIES: Final = 20
"""Nights that may end before their kill comes, one after the other: with `after` halved each time, more mean a mistake
of ours."""
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
    made: Mapping[int, Kill] | None = None,
    keep: Callable[[int, Kill], None] = lambda *_: None,
) -> list[Kill]:
    """Kill `kills` nights, the last `publishing` of them between the last row computed and the end.

    Args:
        folder: scratch, emptied first.   days: --as-of of the published night and of the one that is killed.
        made: by number, kills that are not made again.   keep: is given the number and the kill after each.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    done = dict(made or {})
    (folder / "place").mkdir()
    yesterday, scores = folder / "yesterday.duckdb", folder / "place" / "scores.duckdb"
    words = ["score", warehouse, "--model", bundle, "--explain", "20", "--force"]
    _expect_done(warm.run([*words, "--into", yesterday, "--as-of", days[0]]))
    tonight = [*words, "--into", scores, "--as-of", days[1]]
    undisturbed = _undisturbed(warm, tonight, yesterday, scores)
    for number in sorted(set(range(kills)) - done.keys()):
        draw, late = random.Random(f"{seed} {number}"), number - (kills - publishing)
        # Of the late ones every third comes just after the swap, which a moment at random would hardly ever hit.
        moment = "any" if late < 0 else "swapped" if late % 3 == 2 else "publishing"
        # Just short of the end: a kill that comes too late tries nothing.
        after = 0.97 * draw.uniform(0, undisturbed.whole_s if late < 0 else undisturbed.publish_s)
        done[number] = _one(warm, tonight, yesterday, scores, undisturbed, moment, after)
        keep(number, done[number])
    return [kill for _, kill in sorted(done.items())]


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
        "failed": [f"{kill.moment} + {kill.after_s:.2f} s: {kill}" for kill in kills if not kill.survived][:10],
    }


def _undisturbed(warm: Warm, tonight: list[str | Path], yesterday: Path, scores: Path) -> Undisturbed:
    _only(scores, yesterday)
    old = nights.contents(scores)
    began = time.monotonic()
    child = warm.start(tonight)
    computed = _when_computed(child)
    _expect_done(child)
    ended = time.monotonic()
    if computed is None:
        raise RuntimeError(f"a night did not say when its last row was computed\n{child.said[-4000:]}")
    return Undisturbed(
        old,
        nights.contents(scores),
        nights.contents(scores, exact=False),
        frozenset(_beside(scores)),
        ended - began,
        ended - computed,
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
    for _ in range(_TRIES):
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
    else:
        raise RuntimeError(f"{_TRIES} nights were done before a kill {moment} came")
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


def measure(
    warehouse: Path, bundle: Path, work: Path, attempts: results.Attempts, kills: int = 60, publishing: int = 10
) -> results.Figures:
    """The part `kills` of the benchmark. The file of results has each kill as soon as it is made."""
    began, folder = time.monotonic(), work / "kills"
    made = {int(number): _known(found) for number, found in attempts.made.items()}
    so_far = dict(made)

    def keep(number: int, kill: Kill) -> None:
        nonlocal began
        so_far[number] = kill
        found = {**asdict(kill), "seconds": round(time.monotonic() - began, 1)}
        attempts.add(str(number), found, {**summary(list(so_far.values())), **_seconds(attempts)})
        began = time.monotonic()

    with Warm(folder / "said") as warm:
        done = attack(warm, warehouse, bundle, folder / "nights", kills, publishing, made=made, keep=keep)
    shutil.rmtree(folder)
    return {**summary(done), **_seconds(attempts)}


def _seconds(attempts: results.Attempts) -> dict[str, float]:
    return {"seconds": round(sum(float(found["seconds"]) for found in attempts.made.values()), 1)}


def _known(found: results.Figures) -> Kill:
    """A kill out of the file of results."""
    fields = {name: value for name, value in found.items() if name != "seconds"}
    return Kill(**{**fields, "lying": tuple(fields["lying"])})
