"""Makes parts in a process other than the night's own: loads the bundle, opens the shards that each part needs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from riskpred.errors import InputError
from riskpred.features.image import ImageSource
from riskpred.model.bundle import load_bundle
from riskpred.records.warehouse import Warehouse
from riskpred.score.compute import Common, Maker, Task
from riskpred.score.findings import StageFindings

if TYPE_CHECKING:
    from riskpred.model.bundle import Bundle

MEGABYTES = 96
"""What DuckDB may keep of a warehouse that is read in subject order."""

OnDone = Callable[[int, bool], None]
"""Called with how many more subjects are done, and whether a part is finished with them."""


@dataclass(frozen=True)
class Place:
    """Where another process finds what it needs. state: of the warehouse as the night has it open."""

    warehouse: Path
    model: Path
    image_root: Path | None
    state: str | None


class MakeParts(Protocol):
    """What an engine does: make every part; finished ones stay when it is interrupted."""

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
        """Make the parts.

        Args: workers: processes, None = one for each core the engine has.   say: receives sentences for the operator.
        """
        ...


class Worker:
    """One process that makes parts, for as long as it lives. `bundle`: of the place, loaded once."""

    def __init__(self, place: Place, common: Common) -> None:
        # The pool that Arrow prefers keeps what it was once given.
        pa.set_memory_pool(pa.system_memory_pool())
        self.bundle = load_bundle(place.model)
        self._place, self._common = place, common
        self._source: Warehouse | None = None
        self._shards: tuple[int, ...] = ()

    def make(self, task: Task, images: Mapping[str, ImageSource | StageFindings] | None = None) -> None:
        """Write one part.

        Raises: InputError, when the warehouse is no longer the one that the night was planned from.
        """
        for _ in Maker(self.bundle, self._opened(task.shards), self._common, images).make(task):
            pass

    def _opened(self, shards: tuple[int, ...]) -> Warehouse:
        if self._source is not None and self._shards == shards:
            return self._source
        self.close()
        place = self._place
        source = Warehouse.open(place.warehouse, place.image_root, shard=shards or None)
        if source.state != place.state:
            source.close()
            raise InputError(
                f"{place.warehouse}: was changed or replaced while the night ran.",
                wanted="the same records from the first part to the last",
                do="run again: the night is then planned from what is there now",
            )
        source.hold_little(MEGABYTES)
        self._source, self._shards = source, shards
        return source

    def close(self) -> None:
        """Close the warehouse; it is opened again for the next part."""
        source, self._source = self._source, None
        if source is not None:
            source.close()
