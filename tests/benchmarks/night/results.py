"""What was measured, one JSON file per part, written whole or not at all; and the machine in words.

A part that consists of attempts (kills, places where the disk is full, legs) writes its file after every one of them,
marked as unfinished: what is cut off leaves what it has, and goes on from there when it is asked for again.
"""

import json
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

Figures = dict[str, Any]
"""Plain JSON: numbers with their unit in the name."""

UNFINISHED: Final = "unfinished"
"""Set in the figures of a part that was cut off, or is still being measured."""


def path(work: Path, part: str) -> Path:
    """Where a part's figures are."""
    return work / "results" / f"{part}.json"


def read(work: Path, part: str) -> Figures | None:
    """Figures of a part, with `made_at`, `machine` and `code`; None where it has not been measured."""
    file = path(work, part)
    return json.loads(file.read_text()) if file.is_file() else None


def write(work: Path, part: str, figures: Figures) -> Path:
    """Keep a part's figures, in place of older ones."""
    file = path(work, part)
    file.parent.mkdir(parents=True, exist_ok=True)
    about = {"part": part, "made_at": f"{datetime.now(UTC):%Y-%m-%d %H:%M}", "machine": machine(), "code": code()}
    beside = file.with_suffix(".json.tmp")
    beside.write_text(json.dumps({**about, **figures}, indent=1, sort_keys=True) + "\n")
    os.replace(beside, file)
    return file


class Attempts:
    """The attempts of a part that have been made, by name; `add` keeps one more on disk at once.

    Attempts of two commits may stand in one part: `codes` names every one of them, and so does the page.
    """

    def __init__(self, work: Path, part: str, key: Figures, begun: Figures | None = None) -> None:
        self._work, self._part, self._key = work, part, key
        self.made: dict[str, Figures] = dict((begun or {}).get("attempts", {}))
        self._codes: list[str] = list((begun or {}).get("codes", []))

    def add(self, name: str, attempt: Figures, figures: Figures) -> None:
        """Keep an attempt. `figures`: of the part as far as it is made, for the page."""
        self.made[name] = attempt
        self._codes = list(dict.fromkeys([*self._codes, code()]))
        write(self._work, self._part, {**figures, **self._about(), UNFINISHED: True})

    def clear(self) -> None:
        """Begin anew: what they were made on is no longer there."""
        self.made, self._codes = {}, []

    def finish(self, figures: Figures) -> None:
        """Keep the figures of the whole part."""
        write(self._work, self._part, {**figures, **self._about()})

    def _about(self) -> Figures:
        several = {"attempts": self.made, "codes": self._codes, "code": ", ".join(self._codes)} if self.made else {}
        return {**several, **self._key}


def measured(
    work: Path, part: str, again: bool, make: Callable[[Attempts], Figures], key: Figures | None = None
) -> Figures:
    """A part's figures: those that are there, if they were made with the same `key`; else made now and kept.

    Args:
        make: is given the attempts of a part that was cut off, if they were made with the same `key`.
    """
    found, key = read(work, part), key or {}
    if found is None or again or any(found.get(name) != value for name, value in key.items()):
        found = None
    if found is None or found.get(UNFINISHED):
        attempts = Attempts(work, part, key, found)
        attempts.finish(make(attempts))
        found = read(work, part)
    assert found is not None
    return found


def machine() -> str:
    """Cores, memory and the processor's name; never the host's."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{len(os.sched_getaffinity(0))} cores of {names[0] if names else 'an unnamed processor'}, {memory:.0f} GiB"


def code() -> str:
    """Commit of the checkout that was measured, with a + where something in it is not committed."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=False).stdout.strip()

    commit = git("rev-parse", "--short=10", "HEAD")
    return f"{commit or 'no checkout'}{'+' if git('status', '--porcelain', '--untracked-files=no') else ''}"
