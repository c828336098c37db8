"""A worker of the ray engine: a process on any machine of the cluster that makes parts and says what became of them.

It answers with data, never with an exception: whoever raises through ray leaves the exception's text in ray's logs, and
such a text may hold a patient's values.
"""

import os
import traceback
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from riskpred import __version__
from riskpred.errors import RiskpredError
from riskpred.model.image_fast import NumericPath, image_path
from riskpred.model.paths import chosen_path
from riskpred.model.threads import one_thread
from riskpred.score.compute import Common, Task
from riskpred.score.findings import NightPictures
from riskpred.score.image_cache import Luggage, News
from riskpred.score.images import Counts
from riskpred.score.parts import made_with
from riskpred.score.worker import Place, Worker

_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Problem:
    """Why something could not be done: class of the exception and line of this package, but no text of others'.

    error: an error of ours, whose text names no patient; the night ends with it.
    """

    kind: str
    at: str
    error: RiskpredError | None = None

    def __str__(self) -> str:
        return f"{self.kind} at {self.at}"


@dataclass(frozen=True)
class Started:
    """What a worker says of itself. problem: why it cannot work here, a sentence; None = it can."""

    machine: str
    problem: str | None = None


@dataclass(frozen=True)
class Answer:
    """What became of a part. problem: None = it is there. images: by modality, news for the cache, and counts."""

    problem: Problem | None = None
    images: Mapping[str, tuple[News | None, Counts]] = field(default_factory=dict)


class RayWorker:
    """Lives in a process of its own, inside a `RayActor`. Nothing is done before `start`.

    Args:
        version: of the package on the engine's machine.
        pictures: whether the night has images to decode, with `decoders` processes here (0 = in this one).
    """

    def __init__(self, place: Place, common: Common, version: str, pictures: bool, decoders: int) -> None:
        self._place, self._common, self._version = place, common, version
        self._pictures, self._decoders = pictures, decoders
        self._for_life = ExitStack()
        self._images: NightPictures | None = None

    def start(self) -> Started:
        """Load the bundle, and see that this machine has what the night needs."""
        machine = os.uname().nodename
        try:
            return Started(machine, self._refusal())
        except RiskpredError as error:
            return Started(machine, error.what)
        except Exception as error:  # noqa: BLE001  (its text may hold anything; ray would log it)
            return Started(machine, f"this is {problem_of(error)}.")

    def make(self, task: Task, luggage: Mapping[str, Luggage | None]) -> Answer:
        """Write one part. luggage: by modality or stage, what the cache knows of its subjects; no other is asked."""
        try:
            sources = (
                {
                    name: source.carrying(luggage.get(name))
                    for name, source in self._images.everything.items()
                    if name in luggage
                }
                if self._images is not None and luggage
                else None
            )
            self._worker.make(task, sources)
        except Exception as error:  # noqa: BLE001  (as above)
            self._worker.close()
            return Answer(problem_of(error))
        packed = {name: one for name, one in luggage.items() if one is not None}
        return Answer(
            images={
                name: (packed[name].news if name in packed else None, source.counts)
                for name, source in (sources or {}).items()
            }
        )

    def close(self) -> None:
        """Let go of everything."""
        self._for_life.close()

    def _refusal(self) -> str | None:
        if __version__ != self._version:
            return f"riskpred {__version__} is installed, and {self._version} leads the night."
        folder = self._common.folder
        try:
            shared = made_with(folder) == self._common.salt
        except OSError:
            shared = False
        if not shared:
            return f"{folder}: not the folder that the night writes to; the folder of SCORES must be shared."
        if not os.access(folder, os.W_OK | os.X_OK):
            return f"{folder}: not writable."
        self._for_life.enter_context(one_thread())
        self._worker = Worker(self._place, self._common)
        self._for_life.callback(self._worker.close)
        night = self._common.night
        if self._worker.bundle.sha256 != night.bundle_sha256:
            return f"{self._place.model}: not the bundle that the night was planned with."
        if self._pictures:
            path: NumericPath = "bf16" if night.numeric_path == "bf16" else "fp32"
            self._images = NightPictures(self._worker.bundle, None, path, self._decoders)
            self._for_life.callback(self._images.close)
        bundle = self._worker.bundle
        if chosen_path(bundle, night.numeric_path, image_path).path != night.numeric_path:
            return f"its encoders do not run in {night.numeric_path} as the bundle's card has it."
        return None


def problem_of(error: Exception) -> Problem:
    """What may be said of an exception.

    Example:
        >>> str(problem_of(KeyError("a name")))
        'KeyError at an unknown line'
    """
    ours = [
        f"riskpred/{Path(frame.filename).resolve().relative_to(_PACKAGE)}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).resolve().is_relative_to(_PACKAGE)
    ]
    return Problem(
        type(error).__name__,
        ours[-1] if ours else "an unknown line",
        error if isinstance(error, RiskpredError) else None,
    )
