"""The class that ray keeps of a worker: it imports nothing of ours until it is started, in the worker's own process.

Ray never lets go of a class that it was given, nor of what that class's module has imported: in the night's own process
that would be half of the program, at whose end DuckDB would then complain on stderr.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from riskpred.score.compute import Common, Task
    from riskpred.score.image_cache import Luggage
    from riskpred.score.ray_worker import Answer, RayWorker, Started
    from riskpred.score.worker import Place


class RayActor:
    """A `ray_worker.RayWorker`, made when it is started; the arguments are those of it."""

    def __init__(self, place: "Place", common: "Common", version: str, pictures: bool, decoders: int) -> None:
        self._given = (place, common, version, pictures, decoders)
        self._worker: RayWorker | None = None

    def start(self) -> "Started":
        """See `RayWorker.start`."""
        from riskpred.score.ray_worker import RayWorker

        self._worker = RayWorker(*self._given)
        return self._worker.start()

    def make(self, task: "Task", luggage: "Mapping[str, Luggage | None]") -> "Answer":
        """See `RayWorker.make`."""
        assert self._worker is not None, "start runs first"
        return self._worker.make(task, luggage)


def actor(ray: Any, **resources: float) -> Any:
    """The class as ray starts it: a lost one is not started again by ray, the engine sees to that."""
    return ray.remote(max_restarts=0, max_task_retries=0, max_concurrency=1, **resources)(RayActor)
