"""Runs a verb of the command line as its own process group, and measures wall, CPU and memory of all of it (Linux)."""

import ctypes
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[3]

_SAMPLE_SECONDS = 0.1
_SHARED_EVERY = 10
_ORPHAN_SECONDS = 30.0
_MIB = 2**20


@dataclass(frozen=True)
class Ran:
    """What a command did.

    wall_s: until the leader ended.   cpu_s: of all processes, also of those that its fork server started.
    peak_mb: largest sum over the tree of resident memory, ten looks a second: pages that two processes share count
    twice.   peak_shared_mb: the same where each of n sharers of a page counts an nth of it, one look a second.
    """

    words: tuple[str, ...]
    code: int
    wall_s: float
    cpu_s: float
    peak_mb: float
    peak_shared_mb: float
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
    with suppress(ProcessLookupError):  # it had ended
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
    peak, done = [0.0, 0.0], threading.Event()
    with _heir_of_orphans():
        process = start(words, err, out, cores)
        sampler = threading.Thread(target=_sample, args=(process.pid, peak, done), daemon=True)
        sampler.start()
        try:
            code = process.wait()
            wall = time.monotonic() - began
            _wait_for_group(process.pid)
        except BaseException:
            kill_group(process)
            _wait_for_group(process.pid)
            raise
        finally:
            done.set()
    sampler.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    texts = [path.read_text(errors="replace") for path in (out, err)]
    for path in (out, err):
        path.unlink()
    return Ran(name, code, wall, cpu, *peak, *texts)


@contextmanager
def _heir_of_orphans() -> Iterator[None]:
    """Whose parent dies becomes a child of this process, so that it can be waited for and its CPU time counts.

    A fork server outlives the night that started it by a moment, and has waited for all the workers.
    """
    heir = 36  # PR_SET_CHILD_SUBREAPER
    libc = ctypes.CDLL(None)
    libc.prctl(heir, 1)
    try:
        yield
    finally:
        libc.prctl(heir, 0)


def _wait_for_group(group: int) -> None:
    """Wait for what is left of a process group whose leader has ended.

    Raises: RuntimeError, when some of it goes on: what a verb started must not outlive it for long.
    """
    until = time.monotonic() + _ORPHAN_SECONDS
    with suppress(ChildProcessError):  # nobody is left
        while time.monotonic() < until:
            if os.waitpid(-group, os.WNOHANG) == (0, 0):
                time.sleep(0.005)
        raise RuntimeError(f"processes of group {group} go on {_ORPHAN_SECONDS:.0f} s after their leader")


def _sample(pid: int, peak: list[float], done: threading.Event) -> None:
    import psutil  # here, so that a peer's environment can do without

    looks = 0
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
        if looks % _SHARED_EVERY == 0:  # the system walks all pages for it
            peak[1] = max(peak[1], sum(_proportional_bytes(process.pid) for process in tree) / _MIB)
        looks += 1


def _proportional_bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0  # ended between the two looks
    found = re.search(r"^Pss:\s+(\d+) kB$", text, re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def stages(err: str) -> dict[str, float]:
    """Seconds by stage of the summary line of `riskpred score` (the part in brackets)."""
    found = re.search(r" in [\d.,]+ s \(([^()]*)\)", err)
    if not found:
        return {}
    pairs = (part.rsplit(" ", 1) for part in found[1].split(", "))
    return {name: float(seconds) for name, seconds in pairs}
