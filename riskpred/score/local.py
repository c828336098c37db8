"""The local engine: makes a night's parts in this process, or in this and others, each with one thread."""

import ctypes
import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack, contextmanager
from multiprocessing import forkserver
from types import TracebackType
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from riskpred.errors import OutputError
from riskpred.features.image import ImageSource
from riskpred.imaging.decode import cores
from riskpred.model.threads import one_thread
from riskpred.records.warehouse import Warehouse
from riskpred.score.compute import Common, Maker, Task
from riskpred.score.environment import environment
from riskpred.score.findings import StageFindings
from riskpred.score.worker import MEGABYTES, OnDone, Place, Worker

if TYPE_CHECKING:
    from riskpred.model.bundle import Bundle

WORTH_SECONDS: Final = 8.0
"""Work left for which other processes are started unasked: each start costs some 3 seconds of a core."""

_STOPS: Final = (signal.SIGINT, signal.SIGTERM)


def make_parts(
    bundle: "Bundle",
    source: Warehouse,
    place: Place,
    common: Common,
    images: Mapping[str, ImageSource | StageFindings],
    tasks: Sequence[Task],
    workers: int | None,
    on_done: OnDone,
    say: Callable[[str], None],
) -> None:
    """Make every part; see `worker.MakeParts`.

    Raises: OutputError, when the system killed worker processes twice (no memory left).
    """
    # Where there are images, decoding is most of the work and has processes of its own; one cache, one who writes it.
    processes = min(workers or cores(), len(tasks))
    maker = Maker(bundle, source, common, images)
    if images or processes < 2:
        for done, finished in _made_here(maker, tasks):
            on_done(done, finished)
        return
    source.hold_little(MEGABYTES)
    hand_back_memory()
    with _Team(place, common, tasks, processes - 1, on_done) as team:
        team.work(maker, at_once=workers is not None)
    if not team.left:
        return
    say(f"a worker process was killed (out of memory?); the {len(team.left):,} parts left are made one at a time")
    # Not by this process: it must live to say what happened.
    with _Team(place, common, team.left, 1, on_done) as team:
        team.work(None)
    if team.left:
        raise OutputError(
            f"worker processes were killed twice; {len(team.left):,} of {len(tasks):,} parts are not made.",
            wanted="memory for one part at a time",
            do="free memory or lower part_size, then run again: finished parts are kept",
        )


def _made_here(maker: Maker, tasks: Iterable[Task]) -> Iterator[tuple[int, bool]]:
    """Make parts in this process; yields as `OnDone` wants to hear it, after each chunk of subjects and each part.

    Ctrl-C and SIGTERM are heard between chunks: within one they may come while compiled code calls Python, which would
    print a traceback and drop them.
    """
    with one_thread():
        for task in tasks:
            before, chunks = 0, maker.make(task)
            while True:
                with _stops_wait():
                    done = next(chunks, None)
                if done is None:
                    break
                yield done - before, False
                before = done
            yield 0, True


class _Team:
    """Worker processes that make parts beside this one. They end with the block, whatever ends it.

    Args: workers: how many others.
    """

    def __init__(self, place: Place, common: Common, tasks: Sequence[Task], workers: int, on_done: OnDone) -> None:
        self._place, self._common, self._workers, self._on_done = place, common, workers, on_done
        self._to_do, self._killed = deque(tasks), list[Task]()
        self._waiting: dict[Future[None], Task] = {}
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "_Team":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._pool is None:
            return
        for process in list((self._pool._processes or {}).values()):
            if process.is_alive():
                process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)

    @property
    def left(self) -> list[Task]:
        """Parts that were not made, because a worker was killed."""
        return [*self._killed, *self._to_do]

    def work(self, maker: Maker | None, at_once: bool = True) -> None:
        """Make every part, in the others and, with a maker, in this process.

        Args: at_once: start the others now, not when there is enough to do for them.
        """
        if at_once or maker is None:
            self._start()
        if maker is not None:
            self._work_here(maker)
        while self._waiting:
            self._hear(1.0)

    def _work_here(self, maker: Maker) -> None:
        began, done = 0.0, 0
        for more, finished in _made_here(maker, self._own()):
            self._on_done(more, finished)
            if self._pool is not None:
                self._hear()
            elif not began:
                began = time.monotonic()  # the first chunk warms up
            else:
                done += more
                left = sum(len(task.subjects) for task in self._to_do)
                if done and left * (time.monotonic() - began) / done > WORTH_SECONDS:
                    self._start()

    def _own(self) -> Iterator[Task]:
        while self._to_do and not self._killed:
            yield self._to_do.popleft()

    def _start(self) -> None:
        # A fork of this process, which has threads (DuckDB, torch), may hang. The fork server has none: it only
        # imports, and its children share what it imported. Sent: paths, ids, and what reasons must add up to.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        # Before the block: with its first lock Python starts a process of its own, and then unblocks Ctrl-C.
        self._pool = ProcessPoolExecutor(self._workers, context, _start, (self._place, self._common))
        with _stops_wait(), _imports_as_here():
            forkserver.ensure_running()
            self._give()

    def _give(self) -> None:
        """Hand out parts: two a worker, so that none waits for this process to come back to it."""
        assert self._pool is not None, "started"
        while self._to_do and len(self._waiting) < 2 * self._workers and not self._killed:
            try:
                future = self._pool.submit(_make, self._to_do[0])
            except BrokenProcessPool:
                self._killed.append(self._to_do.popleft())
            else:
                self._waiting[future] = self._to_do.popleft()

    def _hear(self, timeout: float = 0) -> None:
        for future in wait(self._waiting, timeout, FIRST_COMPLETED).done:
            task = self._waiting.pop(future)
            try:
                future.result()
            except BrokenProcessPool:
                self._killed.append(task)
            else:
                self._on_done(len(task.subjects), True)
        self._give()


@contextmanager
def _stops_wait() -> Iterator[None]:
    """Hear Ctrl-C and SIGTERM when the block is over: a process that loses its parent as it starts says so at length.

    What is started here never hears Ctrl-C, which reaches the whole group: the night's own process does, and ends it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # no signal reaches any other
        return
    heard: list[int] = []
    before = {number: signal.signal(number, lambda one, _: heard.append(one)) for number in _STOPS}
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        for number, handler in before.items():
            signal.signal(number, handler)
        if heard:
            signal.raise_signal(heard[0])


def _imports_as_here() -> AbstractContextManager[None]:
    """Have a Python that is started in the block look for modules where this process does, and nowhere before that.

    The fork server is a `python -c`, which looks into the current folder first: it would take a clone of another
    release there, or a file named like a library, for what the night's own process has loaded.
    """
    places = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return environment({"PYTHONSAFEPATH": "1", "PYTHONPATH": places})


_worker: Worker | None = None
_failed: Exception | None = None
"""Why this process is no worker. Raised as it starts, it would pass for a process that was killed."""
_for_life = ExitStack()
"""What a worker process holds until it ends: dropped, one thread would become many again."""


def _start(place: Place, common: Common) -> None:
    global _worker, _failed
    _die_with_the_night()
    _for_life.enter_context(one_thread())
    try:
        _worker = Worker(place, common)
    except Exception as error:  # noqa: BLE001  (raised by the first part, where it is heard)
        _failed = error
    else:
        _for_life.callback(_worker.close)


def _die_with_the_night() -> None:
    """Have this process end when the night's own is gone, however it went, or the fork server between them (Linux).

    The server waits for its children: it would stay, and they would, with nobody left to end either.
    """
    night = multiprocessing.parent_process()
    assert night is not None, "a worker is started by someone"

    def watch() -> None:
        night.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    signal_of_death = 1  # PR_SET_PDEATHSIG
    ctypes.CDLL(None).prctl(signal_of_death, signal.SIGKILL)
    if os.getppid() == 1:
        os._exit(1)


def hand_back_memory() -> None:
    """Give the system what planning needed, before others need it (glibc)."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _make(task: Task) -> None:
    if _failed is not None:
        raise _failed
    assert _worker is not None, "_start runs first"
    _worker.make(task)
