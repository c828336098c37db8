"""Progress on stderr: a bar on a terminal, else one line a minute and one at the end of each stage."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars


class Shown:
    """Draws `riskpred.progress.Progress` steps; use as a context manager around one verb."""

    def __init__(self) -> None:
        self._bars: Bars | None = None
        self._tasks: dict[str, int] = {}
        self._last_line = 0.0
        self._began: dict[str, tuple[float, int]] = {}
        self._ended: set[str] = set()
        if sys.stderr.isatty():
            self._bars = Bars(
                TextColumn("{task.description:<28}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=False,
            )

    def __enter__(self) -> "Shown":
        if self._bars:
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._bars:
            self._bars.stop()

    def say(self, text: str) -> None:
        """Print a sentence, above the bars where there are any."""
        if self._bars:
            self._bars.console.print(text, markup=False, highlight=False)
        else:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    def step(self, stage: str, done: int, total: int | None = None) -> None:
        if self._bars:
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(stage, total=total)
            self._bars.update(self._bars.task_ids[self._tasks[stage]], completed=done, total=total)
            return
        now = time.monotonic()
        self._began.setdefault(stage, (now, done))
        over = total is not None and done >= total
        if (over and stage not in self._ended) or now - self._last_line >= 60:
            if over:
                self._ended.add(stage)
            self._last_line = now
            sys.stderr.write(f"{stage}: {done:,}{f' of {total:,}' if total else ''}{self._pace(stage, done, total)}\n")
            sys.stderr.flush()

    def _pace(self, stage: str, done: int, total: int | None) -> str:
        """Rate and time left of a stage, where it has gone on long enough to tell."""
        began, before = self._began[stage]
        spent = time.monotonic() - began
        if spent < 1 or done <= before or total is None or total == 1:
            return ""
        rate = (done - before) / spent
        left = f", about {(total - done) / rate:,.0f} s left" if done < total else ""
        return f", {rate:,.0f} a second{left}"
