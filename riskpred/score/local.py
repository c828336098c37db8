"""The local engine: makes a night's parts in this process, or in this and others, each with one thread."""

import ctypes
import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from multiprocessing import forkserver
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from riskpred.errors import OutputError
from riskpred.features.image import ImageSource
from riskpred.imaging.decode import cores
from riskpred.model.threads import one_thread
from riskpred.records.warehouse import Warehouse
from riskpred.score.compute import Common, Maker, Task
from riskpred.score.worker import MEGABYTES, OnDone, Place, Worker

if TYPE_CHECKING:
    from riskpred.model.bundle import Bundle

_STOPS: Final = (signal.SIGINT, signal.SIGTERM)


def make_parts(
    bundle: "Bundle",
    source: Warehouse,
    place: Place,
    common: Common,
    images: Mapping[str, ImageSource],
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
        _make_here(maker, tasks, on_done)
        return
    source.hold_little(MEGABYTES)
    hand_back_memory()
    left = _in_processes(place, common, tasks, processes - 1, on_done, maker)
    if not left:
        return
    say(f"a worker process was killed (out of memory?); the {len(left):,} parts left are made one at a time")
    # Not by this process: it must live to say what happened.
    left = _in_processes(place, common, left, 1, on_done)
    if left:
        raise OutputError(
            f"worker processes were killed twice; {len(left):,} of {len(tasks):,} parts are not made.",
            wanted="memory for one part at a time",
            do="free memory or lower part_size, then run again: finished parts are kept",
        )


def _make_here(
    maker: Maker, tasks: Iterable[Task], on_done: OnDone, meanwhile: Callable[[], None] | None = None
) -> None:
    """Make parts in this process. `meanwhile` is called after each chunk of subjects."""
    with one_thread():
        for task in tasks:
            before = 0
            for done in maker.make(task):
                on_done(done - before, False)
                before = done
                if meanwhile is not None:
                    meanwhile()
            on_done(0, True)


def _in_processes(
    place: Place, common: Common, tasks: Sequence[Task], workers: int, on_done: OnDone, maker: Maker | None = None
) -> list[Task]:
    """Make parts in worker processes, and in this one where it has a maker.

    Returns: the parts that were not made because a worker was killed.
    """
    to_do, killed = deque(tasks), list[Task]()
    waiting: dict[Future[None], Task] = {}

    def give() -> None:
        """Hand out parts: two a worker, so that none waits for this process to come back to it."""
        while to_do and len(waiting) < 2 * workers and not killed:
            try:
                future = pool.submit(_make, to_do[0])
            except BrokenProcessPool:
                killed.append(to_do.popleft())
            else:
                waiting[future] = to_do.popleft()

    def hear(timeout: float = 0) -> None:
        for future in wait(waiting, timeout, FIRST_COMPLETED).done:
            task = waiting.pop(future)
            try:
                future.result()
            except BrokenProcessPool:
                killed.append(task)
            else:
                on_done(len(task.subjects), True)
        give()

    def own() -> Iterator[Task]:
        while to_do and not killed:
            yield to_do.popleft()

    # A fork of this process, which has threads (DuckDB, torch), may hang. The fork server has none: it only imports,
    # and its children share what it imported. Sent: paths, ids, and what reasons must add up to.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    pool = ProcessPoolExecutor(workers, context, _start, (place, common))
    try:
        with _stops_wait(), _imports_as_here():
            forkserver.ensure_running()
            give()
        if maker is not None:
            _make_here(maker, own(), on_done, hear)
        while waiting:
            hear(1.0)
    finally:
        for process in list((pool._processes or {}).values()):
            if process.is_alive():
                process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)
    return [*killed, *to_do]


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


@contextmanager
def _imports_as_here() -> Iterator[None]:
    """Have a Python that is started in the block look for modules where this process does, and nowhere before that.

    The fork server is a `python -c`, which looks into the current folder first: it would take a clone of another
    release there, or a file named like a library, for what the night's own process has loaded.
    """
    wanted = {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path)}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


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
