"""Runs a verb of the command line as its own process group, and measures wall, CPU and memory of all of it."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[3]

_SAMPLE_SECONDS = 0.1
_MIB = 2**20


@dataclass(frozen=True)
class Ran:
    """What a command did.

    wall_s, cpu_s: of the whole process tree that was waited for.   peak_mb: largest sum over the tree of resident
    memory, sampled ten times a second (pages that two processes share count twice).
    """

    words: tuple[str, ...]
    code: int
    wall_s: float
    cpu_s: float
    peak_mb: float
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """stdout of a verb that was given --json."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found

    def expect(self, *codes: int) -> "Ran":
        """This, once the exit code is one of those. Raises: RuntimeError with what was said on stderr."""
        if self.code not in codes:
            raise RuntimeError(f"{' '.join(self.words)}: exit code {self.code}, wanted {codes}\n{self.err[-4000:]}")
        return self


Run = Callable[[Sequence[str | Path]], Ran]
"""Runs a verb to its end: `cold`, or `Warm.ran`, which saves the start-up."""


def cold(work: Path) -> Run:
    """Each verb as a process of its own, as cron starts it."""
    return lambda verb: run(verb, work)


def program(verb: Sequence[str | Path]) -> list[str]:
    """The words that start a verb of this very checkout, by the console script: as an operator does.

    Not by `python -c`, which DuckDB takes for a person at a prompt, and draws its progress bar on stdout.
    """
    return [sys.executable, str(Path(sys.executable).with_name("riskpred")), *map(str, verb)]


def environment() -> dict[str, str]:
    """Ours, with this checkout's package before any installed one."""
    before = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{before}" if before else str(REPOSITORY)}


def start(
    words: Sequence[str], err: Path, out: Path | None = None, cores: int | None = None
) -> subprocess.Popen[bytes]:
    """Start a program as the leader of a process group of its own, its stderr (and stdout) into files."""

    def bind() -> None:
        if cores is not None:
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])

    with err.open("wb") as errors, (out or Path(os.devnull)).open("wb") as results:
        return subprocess.Popen(
            list(words),
            stdin=subprocess.DEVNULL,
            stdout=results,
            stderr=errors,
            env=environment(),
            start_new_session=True,
            preexec_fn=bind,
        )


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """kill -9 of the whole process group, then wait until the leader is gone."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run(verb: Sequence[str | Path], work: Path, cores: int | None = None, extra: Sequence[str] = ()) -> Ran:
    """Run a verb to its end.

    Args:
        work: folder for what it says while it runs.   cores: of how many cores it may use; None = all.
        extra: a program that runs it, e.g. `prlimit --fsize=...`.
    """
    return run_program([*extra, *program(verb)], tuple(map(str, ("riskpred", *verb))), work, cores)


def run_program(words: Sequence[str], name: tuple[str, ...], work: Path, cores: int | None = None) -> Ran:
    """Run any program to its end, as `run` does."""
    work.mkdir(parents=True, exist_ok=True)
    err, out = work / f"stderr-{os.getpid()}", work / f"stdout-{os.getpid()}"
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process = start(words, err, out, cores)
    peak, done = [0.0], threading.Event()
    sampler = threading.Thread(target=_sample, args=(process.pid, peak, done), daemon=True)
    sampler.start()
    try:
        code = process.wait()
    except BaseException:
        kill_group(process)
        raise
    finally:
        done.set()
    wall = time.monotonic() - began
    sampler.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    texts = [path.read_text(errors="replace") for path in (out, err)]
    for path in (out, err):
        path.unlink()
    return Ran(name, code, wall, cpu, peak[0], *texts)


def _sample(pid: int, peak: list[float], done: threading.Event) -> None:
    import psutil  # here, so that a peer's environment can do without

    while not done.wait(_SAMPLE_SECONDS):
        try:
            leader = psutil.Process(pid)
            tree = [leader, *leader.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        total = 0
        for process in tree:
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue  # ended between the two looks
        peak[0] = max(peak[0], total / _MIB)


def stages(err: str) -> dict[str, float]:
    """Seconds by stage of the summary line of `riskpred score` (the part in brackets)."""
    found = re.search(r" in [\d.,]+ s \(([^()]*)\)", err)
    if not found:
        return {}
    pairs = (part.rsplit(" ", 1) for part in found[1].split(", "))
    return {name: float(seconds) for name, seconds in pairs}
