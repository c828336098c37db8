"""Makes the parts that are not there yet: fits each method on each fold, one line of progress per part."""

import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from tests.benchmarks.accuracy.methods import METHODS, Method
from tests.benchmarks.accuracy.rows import FOLDS, REPEATS, TRUTH, SetRows, load_rows
from tests.benchmarks.accuracy.sets import SETS, BenchmarkSet
from tests.benchmarks.accuracy.store import PartName, about, is_done, write_follow_up, write_part
from tests.benchmarks.accuracy.task import Task


@dataclass(frozen=True)
class Wanted:
    """What a run is asked for. only_repeat, only_fold: None = all."""

    folder: Path
    warehouses: Path
    sets: tuple[BenchmarkSet, ...]
    methods: tuple[Method, ...]
    repeats: int
    folds: int
    only_repeat: int | None = None
    only_fold: int | None = None


def run(wanted: Wanted, jobs: int = 1) -> int:
    """Fit whatever is missing or stale; returns how many parts were made.

    Sets in the order given; within a set by repeat and fold, then method, so that an early look compares all methods.
    A method that fails on a fold costs that part: it is reported and the run goes on.
    """
    made = 0
    for spec in wanted.sets:
        given = _rows(spec.name, wanted.warehouses)
        if not spec.data and (wanted.warehouses / TRUTH).is_file():
            wanted.folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(wanted.warehouses / TRUTH, wanted.folder / TRUTH)
        digest = given.digest() + ("" if wanted.folds == FOLDS else f" in {wanted.folds} folds")
        # A run of one repeat must not hide the parts of the others.
        write_follow_up(wanted.folder, given, digest, max(wanted.repeats, REPEATS), wanted.folds)
        code = {
            one.name: one.fingerprint(spec, given.config) for one in wanted.methods if one.suits(spec, given.config)
        }
        names = [
            one for one in _parts(wanted, given, code) if not is_done(wanted.folder, one, code[one.method], digest)
        ]
        clock = _Clock(wanted.folder, spec.name, names)
        for name, seconds, problem in _each(wanted, names, code, digest, jobs):
            clock.report(name, seconds, problem)
            made += not problem
    return made


def _parts(wanted: Wanted, given: SetRows, methods: Iterable[str]) -> Iterator[PartName]:
    for repeat in range(given.repeats(wanted.repeats)):
        if wanted.only_repeat not in (None, repeat):
            continue
        for fold in range(int(given.fold(repeat, wanted.folds).max()) + 1):
            if wanted.only_fold in (None, fold):
                for method in methods:
                    yield PartName(given.spec.name, repeat, fold, method)


def _each(
    wanted: Wanted, names: Sequence[PartName], code: dict[str, str], digest: str, jobs: int
) -> Iterator[tuple[PartName, float, str]]:
    if jobs <= 1:
        for name in names:
            yield make(wanted.folder, wanted.warehouses, name, wanted.folds, code[name.method], digest)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running: set[Future[tuple[PartName, float, str]]] = {
            pool.submit(make, wanted.folder, wanted.warehouses, name, wanted.folds, code[name.method], digest)
            for name in names
        }
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (one.result() for one in done)


def make(
    folder: Path, warehouses: Path, name: PartName, folds: int, code: str, digest: str
) -> tuple[PartName, float, str]:
    """Fit one method on one fold and write the part. Returns seconds of the fit, and what went wrong ("" = nothing)."""
    given = _rows(name.set, warehouses)
    task, test = task_of(given, name.repeat, name.fold, folds)
    started = time.monotonic()
    try:
        result = METHODS[name.method].fit(task)
        seconds = time.monotonic() - started
        bad = [scenario for scenario, risk in result.risk.items() if not ((risk >= 0) & (risk <= 1)).all()]
        if bad:
            raise ValueError(f"risks outside 0 to 1, or none: {', '.join(bad)}")
    except Exception as error:  # noqa: BLE001  (a peer's library may raise anything; the other parts must go on)
        return name, time.monotonic() - started, f"{type(error).__name__}: {error}"
    write_part(folder, name, test, given.rows.subject_id[test], task.targets, result, code, digest, seconds)
    return name, seconds, ""


def task_of(given: SetRows, repeat: int, fold: int, folds: int) -> tuple[Task, np.ndarray]:
    """One fold's task, and the positions of its test rows. Test rows that belong to nobody's fold are never there."""
    parted = given.fold(repeat, folds)
    test = np.flatnonzero(parted == fold)
    seed = 1 + 100 * repeat + fold
    train = given.rows.take(np.flatnonzero(parted != fold))
    return Task(given.spec, given.config, given.plan, train, given.rows.take(test), seed), test


@lru_cache(maxsize=1)
def _rows(set_name: str, warehouses: Path) -> SetRows:
    return load_rows(SETS[set_name], warehouses)


class _Clock:
    """One line per part to stderr and to log.txt: seconds of the fit, parts left, time left."""

    def __init__(self, folder: Path, set_name: str, names: Sequence[PartName]) -> None:
        self.log, self.left = folder / "log.txt", list(names)
        self.taken: dict[str, list[float]] = {}
        for method in {name.method for name in names}:
            earlier = sorted((folder / "parts" / set_name / method).glob("r*.parquet"))
            self.taken[method] = [made.seconds for path in earlier if (made := about(path)) is not None]

    def report(self, name: PartName, seconds: float, problem: str) -> None:
        self.left.remove(name)
        self.taken.setdefault(name.method, []).append(seconds)
        known = [np.mean(values) for values in self.taken.values() if values]
        expected = sum(
            float(np.mean(self.taken[one.method])) if self.taken.get(one.method) else float(np.mean(known))
            for one in self.left
        )
        line = (
            f"{datetime.now(UTC):%H:%M:%S} {name.set} repeat {name.repeat} fold {name.fold} {name.method}: "
            f"{problem or 'done'} in {seconds:.1f} s; {len(self.left)} left of this set, about {expected / 60:.0f} min"
        )
        print(line, file=sys.stderr, flush=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
