"""Where the time of a night went, by stage."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class Stopwatch:
    """Adds up wall seconds by stage name; a stage within another counts for itself alone.

    Example:
        >>> watch = Stopwatch()
        >>> with watch("model"):
        ...     pass
        >>> list(watch.seconds)
        ['model']
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inside = 0.0
        self._start, self._cpu = time.monotonic(), time.process_time()

    @property
    def total(self) -> float:
        """Wall seconds since the stopwatch was made."""
        return time.monotonic() - self._start

    @property
    def cpu(self) -> float:
        """Processor seconds of this process since the stopwatch was made."""
        return time.process_time() - self._cpu

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add what another stopwatch measured."""
        for stage, spent in seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        began, outside = time.monotonic(), self._inside
        self._inside = 0.0
        try:
            yield
        finally:
            spent = time.monotonic() - began
            self.add({stage: spent - self._inside})
            self._inside = outside + spent
