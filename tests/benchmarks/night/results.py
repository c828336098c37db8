"""What was measured, one JSON file per part, written whole or not at all; and the machine in words."""

import json
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Figures = dict[str, Any]
"""Plain JSON: numbers with their unit in the name."""


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


def measured(work: Path, part: str, again: bool, make: Callable[[], Figures], key: Figures | None = None) -> Figures:
    """A part's figures: those that are there, if they were made with the same `key`; else made now and kept."""
    found = read(work, part)
    key = key or {}
    if found is None or again or any(found.get(name) != value for name, value in key.items()):
        write(work, part, {**make(), **key})
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
