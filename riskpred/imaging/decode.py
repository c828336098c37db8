"""Image files become prepared pixels in worker processes; a decoder that dies costs the image it was reading.

Workers are programs of their own, not forks: nothing of the caller (open files, locks, threads, memory) is in them.
Each has one socket to the caller and ends when that closes, so whatever ends the caller ends them too.
"""

import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Final

from riskpred.config.imaging import Recipe
from riskpred.imaging.paths import ImageProblem, folder_digest, inside
from riskpred.imaging.prepare import MARGIN, Prepared, prepare
from riskpred.imaging.read import decode, read_file, read_picture
from riskpred.imaging.recipe import prepare_picture, refuse_uninstalled
from riskpred.imaging.series import files_of_series

DECODER_CRASHED: Final = "decoder_crashed"
"""Reason of an image whose decoder was ended by the system: out of memory, or a fault in a codec."""

_AHEAD: Final = 4
"""Images given to a worker beyond the one it reads, so that it never waits for the caller."""

_WORTH_A_WORKER: Final = 64
"""Files that pay for a worker's start, a quarter of a second of a core; those asked for before count, too."""

_GRACE_SECONDS: Final = 5.0

_ENVIRONMENT: Final = {
    "OMP_NUM_THREADS": "1",
    # The C library otherwise maps and unmaps the megabytes of each image anew: over a quarter of a DICOM's time.
    "MALLOC_MMAP_THRESHOLD_": str(2**28),
    "MALLOC_TRIM_THRESHOLD_": str(2**28),
}


_QUICK: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
"""How files begin, beside DICOM, that `decode` can read smaller than they are."""


@dataclass(frozen=True)
class Decoded:
    """One file: what it shows, or why not; None where its bytes are known to the caller.

    content: SHA-256 of its bytes, None where they could not be read.
    """

    result: Prepared | ImageProblem | None
    content: str | None


@dataclass(frozen=True)
class Wanted:
    """One file (or folder that holds one series) to decode: `path` as the table has it, below `root`; what to make of
    it.

    known: SHA-256 of bytes that need no decoding.   series: which series of a folder that holds several.
    """

    root: Path
    path: str
    recipe: Recipe
    known: tuple[str, ...] = ()
    series: str | None = None


def decode_one(wanted: Wanted) -> Decoded:
    """In this process: the file, checked, hashed, decoded no larger than needed, prepared."""
    content = None
    try:
        path = inside(wanted.root, wanted.path, folders=True)
        data = None if path.is_dir() else read_file(path)
        own = files_of_series(path, wanted.series) if data is None and wanted.series is not None else None
        content = folder_digest(path, own) if data is None else sha256(data).hexdigest()
        if content in wanted.known:
            return Decoded(None, content)
        quick = None if data is None else _quick(data, wanted.recipe)
        if quick is not None:
            return Decoded(quick, content)
        picture = read_picture(path, wanted.recipe.channels, wanted.series)
        return Decoded(prepare_picture(picture, wanted.recipe), content)
    except ImageProblem as problem:
        return Decoded(ImageProblem(problem.reason, problem.wanted), content)


def _quick(data: bytes, recipe: Recipe) -> Prepared | None:
    """A grey picture without steps, decoded no larger than needed; None where it has to be read whole."""
    plain = recipe.channels == "grey" and recipe.volume == "middle" and not recipe.steps
    if not plain or recipe.size is None or (not data.startswith(_QUICK) and data[128:132] != b"DICM"):
        return None
    rows, columns = recipe.size
    pixels = decode(data, max(rows, columns) * MARGIN)
    # A stack: its first frame is not its middle.
    return None if any(note.startswith("first of ") for note in pixels.notes) else prepare(pixels, (rows, columns))


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0))


@dataclass
class _Worker:
    """One process, and the places of the images that it was given and has not answered, the one it reads first."""

    process: "subprocess.Popen[bytes]"
    connection: Connection
    given: deque[int] = field(default_factory=deque)


class DecodePool:
    """Decodes files in at most `workers` processes. They start as files come, and end with the block.

    Args:
        workers: processes; None = one per core; 0 = in this process, where a decoder's crash is a crash of everything.

    Example:
        >>> with DecodePool(workers=0) as pool:
        ...     [one.result.reason for one in pool.decode([Wanted(Path("/nowhere"), "a.png", 64)])]
        ['file_missing']
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = cores() if workers is None else workers
        self._running: list[_Worker] = []
        self._asked = 0

    def __enter__(self) -> "DecodePool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, files: int | None = None) -> None:
        """Start the workers that so many files are worth (None: all), so that they load while the caller goes on."""
        worth = self.workers if files is None else min(self.workers, -(-files // _WORTH_A_WORKER))
        while len(self._running) < worth:
            self._running.append(_start())

    def close(self) -> None:
        """End every worker, at once; a worker in the middle of an image is not waited for."""
        running, self._running = self._running, []
        for worker in running:
            worker.connection.close()
            worker.process.terminate()
        for worker in running:
            try:
                worker.process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()

    def decode(self, wanted: Sequence[Wanted]) -> Iterator[Decoded]:
        """What each file gave, in the order asked, as soon as it and all before it are there.

        Raises: ConfigError, when a step needs a library that is not installed.
        """
        # A worker could only die of it, once for every image. Ingest's tasks (inspect.py) have no recipe.
        for recipe in {one.recipe for one in wanted if isinstance(one, Wanted)}:
            refuse_uninstalled(recipe)
        if not self.workers:
            yield from map(decode_one, wanted)
            return
        if not wanted:
            return
        self._asked += len(wanted)
        self.start(self._asked)
        waiting, answers = deque(range(len(wanted))), dict[int, Decoded]()
        asking, suspects = 0, set[int]()
        try:
            while asking < len(wanted):
                self._hand_out(wanted, waiting)
                for place, answer in self._answers(waiting, suspects):
                    answers[place] = answer
                while asking in answers:
                    yield answers.pop(asking)
                    asking += 1
        finally:
            if any(worker.given for worker in self._running):
                # Left in the middle: what is still being read belongs to nobody, and must not answer the next call.
                self.close()

    def _hand_out(self, wanted: Sequence[Wanted], waiting: deque[int]) -> None:
        for worker in self._running:
            while waiting and len(worker.given) <= _AHEAD:
                place = waiting.popleft()
                worker.given.append(place)
                try:
                    worker.connection.send(wanted[place])
                except OSError:
                    break  # it is dead; `_answers` finds out and gives its images to another

    def _answers(self, waiting: deque[int], suspects: set[int]) -> list[tuple[int, Decoded]]:
        """Wait until at least one worker says something, and replace it where it died.

        A dead worker's image is given to another one: memory may have been short, or someone else ended the process.
        Only an image that two workers died of is lost.
        """
        busy = {worker.connection: worker for worker in self._running if worker.given}
        found = []
        for ready in wait(list(busy)):
            assert isinstance(ready, Connection)
            worker = busy[ready]
            try:
                while worker.given and worker.connection.poll():
                    found.append((worker.given[0], worker.connection.recv()))
                    worker.given.popleft()
            except (EOFError, OSError):
                waiting.extendleft(reversed(worker.given))
                self._replace(worker)
                crashed = waiting[0]
                if crashed not in suspects:
                    suspects.add(crashed)
                    continue
                waiting.popleft()
                lost = ImageProblem(DECODER_CRASHED, "a file that its decoder survives")
                found.append((crashed, Decoded(lost, None)))
        return found

    def _replace(self, worker: _Worker) -> None:
        worker.connection.close()
        worker.process.kill()
        worker.process.wait()
        self._running[self._running.index(worker)] = _start()


def _start() -> _Worker:
    ours, theirs = socket.socketpair()
    with theirs:
        # Only this file's imports are loaded, wherever the caller found them; its main module is not run again.
        places = os.pathsep.join(place for place in sys.path if place)
        process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import serve; serve({theirs.fileno()})"],
            pass_fds=[theirs.fileno()],
            env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": places},
            stdin=subprocess.DEVNULL,
            # Decoders write about a file's content there: nothing of a patient may reach the caller's log.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    return _Worker(process, Connection(ours.detach()))


def serve(descriptor: int) -> None:
    """What a worker does: decode what comes until the caller is gone."""
    # Ctrl-C reaches the whole group of processes: the caller decides, and closes the connection.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    connection = Connection(descriptor)
    try:
        while True:
            task = connection.recv()
            # Whoever else looks at files (imaging.inspect) sends what is to be called.
            connection.send(decode_one(task) if isinstance(task, Wanted) else task())
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the caller is gone, and with it whoever would read an answer
