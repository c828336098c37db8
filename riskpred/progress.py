"""How long work tells whoever waits: rooms call `step`, the command line draws."""

from typing import Protocol


class Progress(Protocol):
    """Receives the progress of long work. `total` is None while unknown."""

    def step(self, stage: str, done: int, total: int | None = None) -> None: ...


class Silent:
    """Progress that nobody watches (tests, notebooks)."""

    def step(self, stage: str, done: int, total: int | None = None) -> None:
        return None
