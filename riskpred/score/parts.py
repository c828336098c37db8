"""Finished parts of a night on disk: each a folder of Arrow files that appears whole, and outlives a killed run."""

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import pyarrow as pa

from riskpred.score.layout import computed_schema

_PLAN: Final = "plan.json"
_META: Final = "part.json"
_SALT: Final = "salt"


def parts_folder(scores: Path) -> Path:
    """Where the unfinished night of a scores file lies."""
    return scores.absolute().parent / f".{scores.name}.parts"


class Parts:
    """The parts of one planned night.

    Args:
        folder: of `parts_folder`; call under the lock of the scores file.
        plan: everything that decides what a part holds; parts of another plan are removed (`removed`: how many).
        salt: for pseudonyms, unless the parts that are there were made with one.
    """

    def __init__(self, folder: Path, plan: Mapping[str, Any], salt: bytes) -> None:
        self.folder = folder
        self.removed = 0
        self._open(plan)
        kept = folder / _SALT
        if not kept.exists():
            _write(kept, salt)
        self.salt = kept.read_bytes()

    def _open(self, plan: Mapping[str, Any]) -> None:
        folder = self.folder
        wanted = json.dumps(plan, sort_keys=True)
        if folder.is_dir():
            before = folder / _PLAN
            if before.is_file() and before.read_text() == wanted:
                for path in folder.glob("*.tmp"):
                    shutil.rmtree(path)
                return
            self.removed = sum(path.is_dir() for path in folder.iterdir())
            shutil.rmtree(folder)
        folder.mkdir(mode=0o700)
        _write(folder / _PLAN, wanted.encode())

    def finished(self, kind: str) -> dict[int, dict[str, Any]]:
        """Number of each finished part of a kind -> what its maker wrote of it."""
        return {
            int(path.name.rpartition("-")[2]): json.loads((path / _META).read_text())
            for path in sorted(self.folder.glob(f"{kind}-*"))
            if path.suffix != ".tmp"
        }

    def rows(self, kind: str, numbers: list[int], table: str) -> Iterator[pa.Table]:
        """Rows of one table of some parts, mapped from disk; parts without any are left out."""
        for number in numbers:
            path = self.folder / _name(kind, number) / f"{table}.arrow"
            if path.is_file():
                with pa.memory_map(str(path)) as source:
                    yield pa.ipc.open_file(source).read_all()

    def keep(self, kind: str, tasks: Mapping[int, str]) -> int:
        """Remove finished parts of a kind that are not of these tasks; how many.

        The plan does not say whose reasons are told: what the scores file held when they were made decides it, and it
        may have got later reasons since.

        Args: tasks: number -> `Task.content` of all parts of that kind.
        """
        stale = [number for number, about in self.finished(kind).items() if about.get("task") != tasks.get(number)]
        for number in stale:
            place = self.folder / _name(kind, number)
            gone = place.with_suffix(".tmp")  # cut off here, it is no finished part
            place.rename(gone)
            shutil.rmtree(gone)
        return len(stale)

    def remove(self) -> None:
        shutil.rmtree(self.folder)


def made_with(folder: Path) -> bytes:
    """The salt of the parts in a folder: whoever reads it there sees the folder that the night writes.

    Raises: OSError, where no such folder is seen.
    """
    return (folder / _SALT).read_bytes()


def _write(path: Path, content: bytes) -> None:
    """A file that is there whole or not at all."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.write_bytes(content)
    unfinished.chmod(0o600)
    unfinished.rename(path)


def is_finished(folder: Path, kind: str, number: int) -> bool:
    """Whether this process sees a finished part of `Parts.folder`."""
    return (folder / _name(kind, number) / _META).is_file()


def _name(kind: str, number: int) -> str:
    return f"{kind}-{number:05d}"


class PartWriter:
    """Writes one part; it appears under its name when the block ends without an exception, durable and whole.

    Args: folder, kind, number: of Parts.
    """

    def __init__(self, folder: Path, kind: str, number: int) -> None:
        self._place = folder / _name(kind, number)
        # Two machines may both have a process of this number.
        self._unfinished = folder / f"{_name(kind, number)}.{secrets.token_hex(8)}.tmp"
        self._open: dict[str, tuple[pa.OSFile, pa.ipc.RecordBatchFileWriter]] = {}
        self.about: dict[str, Any] = {}

    def __enter__(self) -> "PartWriter":
        self._unfinished.mkdir()
        return self

    def append(self, table: str, rows: pa.Table) -> None:
        """Add rows that have the table's columns; texts may be dictionaries, the same in all rows of a part."""
        assert rows.schema.names == computed_schema(table).names, table
        if not rows.num_rows:
            return
        if table not in self._open:
            file = pa.OSFile(str(self._unfinished / f"{table}.arrow"), "wb")
            self._open[table] = file, pa.ipc.new_file(file, rows.schema)
        self._open[table][1].write_table(rows)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for file, writer in self._open.values():
            writer.close()
            file.close()
        if error is not None:
            shutil.rmtree(self._unfinished)
            return
        (self._unfinished / _META).write_text(json.dumps(self.about))
        for path in (*self._unfinished.iterdir(), self._unfinished):
            _sync(path)
        try:
            self._unfinished.rename(self._place)
        except OSError:
            if not self._place.is_dir():
                raise
            shutil.rmtree(self._unfinished)  # another worker was as fast: both hold the same rows
            return
        _sync(self._place.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
