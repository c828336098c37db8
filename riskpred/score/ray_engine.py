"""The ray engine: makes a night's parts on every machine of a ray cluster; what is lost is made again.

A worker takes one part at a time, opens the shard that holds it, and writes it to the folder of parts beside SCORES,
where it appears whole by a rename. The process of the night hands parts out, counts, and alone publishes. When a worker
or a machine is lost its part goes to another worker; should the lost one live on and finish it too, the second to
rename throws its own away. So no part is missing and none is there twice.

Only the head of the cluster cannot be lost: within a minute ray itself then ends the process of the night (exit code
1). Nothing is published, and the next run goes on from the finished parts.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from riskpred import __version__
from riskpred.errors import OutputError, UsageError
from riskpred.features.image import ImageSource
from riskpred.model.threads import one_thread
from riskpred.records.warehouse import Warehouse
from riskpred.score.compute import Common, Maker, Task
from riskpred.score.findings import StageFindings
from riskpred.score.images import CachedImages
from riskpred.score.parts import is_finished
from riskpred.score.ray_actor import actor
from riskpred.score.ray_cluster import connected, refuse_ray
from riskpred.score.ray_worker import Answer, Started
from riskpred.score.worker import MakeParts, OnDone, Place

if TYPE_CHECKING:
    from riskpred.model.bundle import Bundle

MOST_TRIES: Final = 3
"""How often workers may fail at one part, or be lost with it."""

_ON_ONE_GPU: Final = 8
"""Workers that share a GPU, at most: each keeps some hundred megabytes of it, and most of a part is processor work."""

_PATIENCE_SECONDS: Final = 300.0
"""How long to wait for a first worker, and for a finished part to be seen from here."""


def refuse_engine(warehouse: Path, address: str | None) -> None:
    """Raises: UsageError, when this engine cannot run, or could not read such a warehouse."""
    refuse_ray(address)
    if warehouse.is_file():
        raise UsageError(
            f"{warehouse}: is one file; the ray engine gives each worker shards of its own.",
            wanted="a folder of MEDS Parquet shards",
            do="ingest into a folder (riskpred ingest ... --into FOLDER/), or use --engine local",
        )


@contextmanager
def ray_engine(address: str | None, decoders: int) -> Iterator[MakeParts]:
    """What makes parts on a cluster, from the first part that is asked for to the end of the block.

    Args:
        address: of the cluster; None = one is started on this machine, and ended with the block.
        decoders: processes that decode images beside each worker; 0 = none.
    """
    engine = _Engine(address, decoders)
    try:
        yield engine
    finally:
        engine.close()


class _Engine:
    """Connects when the first part is asked for: a night without news needs no cluster."""

    def __init__(self, address: str | None, decoders: int) -> None:
        self._address, self._decoders = address, decoders
        self._crew: _Crew | None = None
        self._opened = ExitStack()

    def __call__(
        self,
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

        Raises:
            UsageError, when there is no such cluster, or the warehouse is not as `riskpred ingest` left it.
            OutputError: a part was lost with three workers; no worker is left; what workers write is not seen here.
        """
        if not tasks:
            return
        if source.contents != "kept" or not source.shards:
            raise UsageError(
                f"{source.path}: not a folder of shards as `riskpred ingest` left it.",
                wanted="shards that can be read one by one, without a look at the others",
                do="ingest again into the folder, or use --engine local",
            )
        if self._crew is None:
            ray = self._opened.enter_context(connected(self._address, workers))
            self._crew = _Crew(ray, place, common, bool(images), self._decoders, workers, say)
            self._opened.callback(self._crew.dismiss)
        pictures = {name: one for name, one in images.items() if isinstance(one, CachedImages | StageFindings)}
        failed = self._crew.make(tasks, pictures, on_done)
        if failed:
            say(f"{len(failed):,} parts failed {MOST_TRIES} times each on workers and are made by this process")
            _make_here(Maker(bundle, source, common, images), failed, on_done)
        _wait_until_seen(common.folder, tasks)

    def close(self) -> None:
        """End the workers and leave the cluster."""
        self._crew = None
        self._opened.close()


@dataclass
class _Hand:
    """One worker: its actor, and the part it is making (None: it has not said yet whether it can work)."""

    actor: Any
    task: Task | None = None


class _Crew:
    """The workers of a night, as many as there is room and work for."""

    def __init__(
        self,
        ray: Any,
        place: Place,
        common: Common,
        pictures: bool,
        decoders: int,
        workers: int | None,
        say: Callable[[str], None],
    ) -> None:
        self._ray, self._say = ray, say
        # Another machine has another working folder.
        place = Place(place.warehouse.absolute(), place.model.absolute(), _absolute(place.image_root), place.state)
        self._given = (place, common, __version__, pictures, decoders)
        room, resources = _room(ray.cluster_resources(), workers)
        self._room = room
        self._class = actor(ray, **resources)
        self._idle: list[_Hand] = []
        self._busy: dict[Any, _Hand] = {}
        self._spare = (
            MOST_TRIES * room
        )  # replacements for lost workers: a cluster on which all die must not last for ever
        self._lost = 0
        self._refusals: dict[str, str] = {}
        shared = f", {resources['num_gpus']:g} of a GPU each" if "num_gpus" in resources else ""
        say(f"ray: room for {room:,} workers{shared}")

    def make(
        self, tasks: Sequence[Task], images: Mapping[str, CachedImages | StageFindings], on_done: OnDone
    ) -> list[Task]:
        """Make the parts; returns those that workers failed at, by an exception, too often.

        Raises: OutputError: a part was lost with too many workers, or no worker is left; a RiskpredError of a worker.
        """
        waiting, tries, failed = deque(tasks), dict.fromkeys((task.number for task in tasks), 0), list[Task]()
        left = len(tasks)
        self._start_up_to(min(self._room, left))
        heard = time.monotonic()
        while left:
            while waiting and self._idle:
                self._give(self._idle.pop(), waiting.popleft(), images)
            ready, _ = self._ray.wait(list(self._busy), timeout=1.0) if self._busy else ([], [])
            if ready:
                heard = time.monotonic()
            elif not self._busy or (
                not self._working and (self._deserted or time.monotonic() - heard > _PATIENCE_SECONDS)
            ):
                raise self._nobody()
            for answer in ready:
                hand = self._busy.pop(answer)
                said = self._heard(answer)
                if isinstance(said, Started):
                    self._welcome(hand, said)
                    continue
                task = hand.task
                if said is None:
                    self._replace(hand, min(self._room, left))
                    if task is not None:
                        waiting.appendleft(self._once_more(task, tries))
                    continue
                assert task is not None
                # The next part before all else: whoever is told of this one may take its time.
                self._idle.append(hand)
                while waiting and self._idle:
                    self._give(self._idle.pop(), waiting.popleft(), images)
                if said.problem is None:
                    for name, (news, counts) in said.images.items():
                        images[name].take_in(news, counts)
                elif said.problem.error is not None:
                    raise said.problem.error
                else:
                    tries[task.number] += 1
                    if tries[task.number] < MOST_TRIES:
                        waiting.append(task)
                        continue
                    self._say(f"part {task.kind} {task.number} failed {MOST_TRIES} times on workers: {said.problem}")
                    failed.append(task)
                left -= 1
                if said.problem is None:
                    on_done(len(task.subjects), True)
        if self._lost:
            self._say(f"ray: {self._lost:,} workers were lost; what they were making was made again")
            self._lost = 0
        return failed

    def dismiss(self) -> None:
        """End every worker, also one that has not come up yet."""
        for hand in (*self._idle, *self._busy.values()):
            self._ray.kill(hand.actor)
        self._idle, self._busy = [], {}

    @property
    def _deserted(self) -> bool:
        """Whether no machine of the cluster is left."""
        return not self._ray.cluster_resources().get("CPU")

    @property
    def _working(self) -> bool:
        return any(hand.task is not None for hand in self._busy.values())

    def _start_up_to(self, wanted: int) -> None:
        for _ in range(wanted - len(self._idle) - len(self._busy)):
            hand = _Hand(self._class.remote(*self._given))
            self._busy[hand.actor.start.remote()] = hand

    def _give(self, hand: _Hand, task: Task, images: Mapping[str, CachedImages | StageFindings]) -> None:
        hand.task = task
        luggage = {name: one.packed(task.subjects) for name, one in images.items()}
        self._busy[hand.actor.make.remote(task, luggage)] = hand

    def _heard(self, answer: Any) -> Started | Answer | None:
        """What a worker said; None = it is lost."""
        try:
            said: Started | Answer = self._ray.get(answer)
        except self._ray.exceptions.RayError:
            return None
        return said

    def _welcome(self, hand: _Hand, said: Started) -> None:
        if said.problem is None:
            self._idle.append(hand)
            return
        self._ray.kill(hand.actor)
        if said.machine not in self._refusals:
            self._refusals[said.machine] = said.problem
            self._say(f"ray: a worker on {said.machine} cannot help: {said.problem}")

    def _replace(self, hand: _Hand, wanted: int) -> None:
        self._ray.kill(hand.actor)  # it may only be out of reach
        self._lost += 1
        if self._spare > 0:
            self._spare -= 1
            self._start_up_to(wanted)

    def _once_more(self, task: Task, tries: dict[int, int]) -> Task:
        tries[task.number] += 1
        if tries[task.number] < MOST_TRIES:
            return task
        raise OutputError(
            f"part {task.kind} {task.number} ({len(task.subjects):,} subjects) was lost with {MOST_TRIES} workers.",
            wanted="memory for one part a worker, and machines that stay",
            do="lower part_size or --workers, or look at the machines; then run again: finished parts are kept",
        )

    def _nobody(self) -> OutputError:
        why = "; ".join(f"{machine}: {problem}" for machine, problem in sorted(self._refusals.items())[:3])
        return OutputError(
            "ray: no worker is left, or none came up.",
            wanted="at least one machine of the cluster that has riskpred, BUNDLE, WAREHOUSE and the folder of SCORES",
            got=why or f"{self._lost:,} workers lost, no answer from others",
            do="look at the cluster (`ray status`), then run again: finished parts are kept",
        )


def _room(has: Mapping[str, float], workers: int | None) -> tuple[int, dict[str, float]]:
    """How many workers a cluster has room for, and what each asks of it.

    Where there are GPUs every worker has a share of one, so that all compute on the same kind of device.

    Example:
        >>> _room({"CPU": 16.0, "GPU": 1.0}, None)
        (8, {'num_cpus': 1, 'num_gpus': 0.125})
        >>> _room({"CPU": 16.0}, 4)
        (4, {'num_cpus': 1})
    """
    room = min(workers or int(has.get("CPU", 0)), int(has.get("CPU", 0)))
    gpus = has.get("GPU", 0.0)
    if gpus < 1:
        return max(1, room), {"num_cpus": 1}
    on_one = min(_ON_ONE_GPU, max(1, -(-room // int(gpus))))
    return max(1, min(room, on_one * int(gpus))), {"num_cpus": 1, "num_gpus": 1 / on_one}


def _make_here(maker: Maker, tasks: Sequence[Task], on_done: OnDone) -> None:
    """In this process, where an exception ends the night as it would end one of the local engine."""
    with one_thread():
        for task in tasks:
            for _ in maker.make(task):
                pass
            on_done(len(task.subjects), True)


def _wait_until_seen(folder: Path, tasks: Sequence[Task]) -> None:
    """Until every part is seen from here: a shared folder may show some seconds late what another machine wrote."""
    began, left = time.monotonic(), list(tasks)
    while left := [task for task in left if not is_finished(folder, task.kind, task.number)]:
        if time.monotonic() - began > _PATIENCE_SECONDS:
            raise OutputError(
                f"{folder}: {len(left):,} parts that workers finished are not seen from here.",
                wanted="one folder, shared by all machines of the cluster",
                do="see that the folder of SCORES is the same everywhere, then run again: parts seen are kept",
            )
        time.sleep(0.2)


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.absolute()


def workers_of(address: str | None, workers: int | None) -> int:
    """Workers that a night would have, by a look at the cluster (`--dry-run`). Raises: as `connected`."""
    with connected(address, workers) as ray:
        return _room(ray.cluster_resources(), workers)[0]
