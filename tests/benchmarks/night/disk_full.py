"""Fills the disk under a night at several places: a clean message, exit code 15, yesterday's scores as they were.

By hand the place is a small file system in memory (needs the right to mount one); in the suite, and where mounting is
refused, no file may grow beyond a limit, which the system reports as a full disk. Either way the room is a share of
what an undisturbed night needs beyond yesterday's file, so that it ends while earlier nights are copied, rows written,
committed, checkpointed.
"""

import hashlib
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks.night import nights, results
from tests.benchmarks.night.data import AS_OF
from tests.benchmarks.night.kills import YESTERDAY
from tests.benchmarks.night.warm import Warm

SHARES: Final = (0.02, 0.3, 0.6, 0.85, 0.97)
"""Of the room that a night needs beyond yesterday's file."""

_STAGE: Final = re.compile(r"^([a-z ]+): [\d,]+(?: of [\d,]+)?(?:, [^:]*)?$", re.MULTILINE)


@dataclass(frozen=True)
class Full:
    """One night without room.

    share: of the room it needs.   stage: the last one it told of.   unchanged: yesterday's file, to the byte.
    lying: what lay beside it afterwards.   traceback: whether one was shown.   said: its last lines.
    rerun_code, same_rows: of the night that followed with room.
    """

    share: float
    code: int
    stage: str
    unchanged: bool
    lying: tuple[str, ...]
    traceback: bool
    said: str
    rerun_code: int
    same_rows: bool

    @property
    def survived(self) -> bool:
        clean = self.code == 15 and self.unchanged and not self.traceback and not self.lying
        return clean and "no space left" in self.said and self.rerun_code == 0 and self.same_rows


def attack(
    warm: Warm,
    warehouse: Path,
    bundle: Path,
    folder: Path,
    shares: tuple[float, ...] = SHARES,
    days: tuple[str, str] = (YESTERDAY, AS_OF),
    mounting: bool = True,
    keep: Callable[[Full], None] = lambda _: None,
) -> list[Full]:
    """One night per share.

    Args:
        folder: scratch, emptied first.   mounting: False limits the size of files instead.
        keep: is given each night as soon as it has been tried.
    """
    place = folder / "place"
    if place.is_mount():  # a run before this one was killed
        subprocess.run(["umount", str(place)], check=True)
    shutil.rmtree(folder, ignore_errors=True)
    place.mkdir(parents=True)
    yesterday, scores = folder / "yesterday.duckdb", place / "scores.duckdb"
    words = ["score", warehouse, "--model", bundle, "--explain", "20", "--force"]
    done = []
    assert warm.run([*words, "--into", yesterday, "--as-of", days[0]]).wait() in (0, 14)
    tonight = [*words, "--into", scores, "--as-of", days[1]]
    shutil.copy(yesterday, scores)
    before = _bytes(place)
    with _most_bytes(place) as most:
        assert warm.run(tonight).wait() in (0, 14)
    whole = nights.contents(scores, exact=False)
    largest = scores.stat().st_size
    for share in shares:
        shutil.rmtree(place)
        place.mkdir()
        if mounting:
            room = before + share * (most[0] - before)
            with mounted(place, int(room)):
                done.append(_one(warm, tonight, yesterday, scores, share, None, whole))
        else:
            done.append(_one(warm, tonight, yesterday, scores, share, int(share * largest), whole))
        keep(done[-1])
    return done


def _one(
    warm: Warm,
    tonight: list[str | Path],
    yesterday: Path,
    scores: Path,
    share: float,
    file_bytes: int | None,
    whole: nights.Contents,
) -> Full:
    shutil.copy(yesterday, scores)
    child = warm.run(tonight, file_bytes)
    unchanged = _digest(scores) == _digest(yesterday)
    kept = (f".{scores.name}.parts", f".{scores.name}.images")  # on purpose: the next run goes on from there
    lying = tuple(sorted(path.name for path in scores.parent.iterdir() if path != scores and path.name not in kept))
    if file_bytes is None:
        subprocess.run(["mount", "-o", "remount,size=4g", str(scores.parent)], check=True)
    again = warm.run(tonight)
    told = _STAGE.findall(child.said)
    return Full(
        share=share,
        code=child.wait(),
        stage=told[-1] if told else "before the first",
        unchanged=unchanged,
        lying=lying,
        traceback="Traceback" in child.said or "bug of riskpred" in child.said,
        said="\n".join(child.said.splitlines()[-4:]),
        rerun_code=again.wait(),
        same_rows=again.wait() in (0, 14) and nights.contents(scores, exact=False) == whole,
    )


@contextmanager
def mounted(place: Path, size: int) -> Iterator[None]:
    """A file system of `size` bytes in memory at `place`. Raises: CalledProcessError, where that is not allowed."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def may_mount(folder: Path) -> bool:
    """Whether `mounted` works here."""
    place = folder / f"mount-{os.getpid()}"
    place.mkdir(parents=True)
    try:
        with mounted(place, 2**20):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False
    finally:
        place.rmdir()


@contextmanager
def _most_bytes(place: Path) -> Iterator[list[int]]:
    most, over = [_bytes(place)], threading.Event()

    def look() -> None:
        while not over.wait(0.005):
            most[0] = max(most[0], _bytes(place))

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield most
    finally:
        over.set()
        looking.join()


def _bytes(place: Path) -> int:
    total = 0
    for folder, _, names in os.walk(place):
        for name in names:
            try:
                total += os.stat(os.path.join(folder, name)).st_blocks * 512
            except FileNotFoundError:
                continue  # a night's files come and go
    return total


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def log_full(warm: Warm, warehouse: Path, bundle: Path, folder: Path, day: str = AS_OF) -> dict[str, object]:
    """A night whose own log (stderr) lies on a full disk: its exit code, and whether its scores are there and whole."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    scores = folder / "scores.duckdb"
    words = ["score", warehouse, "--model", bundle, "--explain", "0", "--as-of", day, "--force"]
    assert warm.run([*words, "--into", folder / "other.duckdb"]).wait() in (0, 14)
    code = warm.run([*words, "--into", scores], err=Path("/dev/full")).wait()
    there = scores.exists()
    same = (
        there
        and nights.contents(scores, exact=False)["risk_scores"]
        == nights.contents(folder / "other.duckdb", exact=False)["risk_scores"]
    )
    hidden = [path for path in folder.iterdir() if path.name.startswith(".")]
    left = sorted(path.name for path in hidden if path.suffix != ".images")
    return {"exit_code": code, "published": there, "whole": same, "lying": left}


_LOG: Final = "log"


def measure(warehouse: Path, bundle: Path, work: Path, attempts: results.Attempts) -> results.Figures:
    """The part `disk_full` of the benchmark. The file of results has each place as soon as it has been tried."""
    began, folder = time.monotonic(), work / "disk_full"
    mounting = may_mount(work)
    by = "a small file system" if mounting else "a limit on the size of a file: mounting was refused"

    def keep(name: str, found: results.Figures) -> None:
        nonlocal began
        attempt = {**found, "by": by, "seconds": round(time.monotonic() - began, 1)}
        attempts.add(name, attempt, _figures({**attempts.made, name: attempt}))
        began = time.monotonic()

    left = tuple(share for share in SHARES if str(share) not in attempts.made)
    with Warm(folder / "said") as warm:
        if left:
            attack(
                *(warm, warehouse, bundle, folder / "scores", left),
                mounting=mounting,
                keep=lambda one: keep(str(one.share), {**asdict(one), "survived": one.survived}),
            )
        if _LOG not in attempts.made:
            keep(_LOG, log_full(warm, warehouse, bundle, folder / "log"))
    shutil.rmtree(folder)
    return _figures(attempts.made)


def _figures(made: dict[str, results.Figures]) -> results.Figures:
    places = [found for name, found in made.items() if name != _LOG]
    return {
        "by": "; ".join(sorted({found["by"] for found in made.values()})),
        "places": places,
        "survived": sum(found["survived"] for found in places),
        "log_on_a_full_disk": made.get(_LOG),
        "seconds": round(sum(found["seconds"] for found in made.values()), 1),
    }
