"""A process that has loaded the night's libraries and forks one child per command line: a verb without its start-up.

Loading torch and its like takes seconds, and an attack needs dozens of runs. Each child is the leader of a process
group of its own and runs `riskpred.cli.main`, as the console script does; its stdout and stderr go into files.
What runs there is forker.py.
"""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.benchmarks.night.command import Ran, environment


@dataclass
class Child:
    """One running verb. `err`, `out`: files it writes into."""

    warm: "Warm"
    pid: int
    out: Path
    err: Path
    _code: int | None = field(default=None)

    def kill(self) -> None:
        """kill -9 of the whole process group, once, and wait for its leader."""
        with suppress(ProcessLookupError):  # it had ended, and its group with it
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()

    def wait(self) -> int:
        """The exit code; -9 after a kill."""
        if self._code is None:
            self._code = self.warm.ask({"wait": self.pid})
        return self._code

    @property
    def running(self) -> bool:
        """Whether it has not ended yet: a zombie has."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except FileNotFoundError:
            return False

    @property
    def said(self) -> str:
        """stderr so far."""
        return self.err.read_text(errors="replace") if self.err.exists() else ""


class Warm:
    """Use as a context manager; `start` and `run` take a command line without the word `riskpred`."""

    def __init__(self, work: Path) -> None:
        self._work, self._number = work, 0
        work.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.night.forker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            text=True,
        )

    def __enter__(self) -> "Warm":
        assert self._answer() == "ready"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def start(self, verb: Sequence[str | Path], file_bytes: int | None = None, err: Path | None = None) -> Child:
        """Start a verb. `file_bytes`: no file that it writes may grow beyond that; `err`: where its stderr goes."""
        self._number += 1
        out, err = self._work / f"{self._number}.out", err or self._work / f"{self._number}.err"
        asked = {"start": list(map(str, verb)), "out": str(out), "err": str(err), "file_bytes": file_bytes}
        return Child(self, self.ask(asked), out, err)

    def run(self, verb: Sequence[str | Path], file_bytes: int | None = None, err: Path | None = None) -> Child:
        """Run a verb to its end."""
        child = self.start(verb, file_bytes, err)
        child.wait()
        return child

    def ran(self, verb: Sequence[str | Path]) -> Ran:
        """As `command.run`, without a sample of its memory and CPU time (NaN)."""
        began = time.monotonic()
        child = self.run(verb)
        seconds = time.monotonic() - began
        name = ("riskpred", *map(str, verb))
        said = child.out.read_text(errors="replace"), child.said
        return Ran(name, child.wait(), seconds, math.nan, math.nan, math.nan, *said)

    def ask(self, question: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the warm process ended: see its stderr above")
        return json.loads(line)
