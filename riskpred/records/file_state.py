"""Says which state of a DuckDB file one has open, without reading its tables: every change makes another state.

The header of a DuckDB file holds 16 random bytes drawn when the file was made, and a counter that every checkpoint
which writes raises by one. So whoever inserts, deletes, updates or alters anything raises the counter or leaves a
write-ahead log, and a table copied into a new file finds other random bytes there. A file copied as a whole keeps its
state. The facts of storage (block numbers, statistics) would not do: freed blocks are used again.
"""

import os
import struct
import threading
from pathlib import Path
from typing import Final

_HEADER: Final = 3 * 4096
_LOCK = threading.Lock()
_HELD: dict[tuple[int, int], list[int]] = {}
"""(device, inode) -> [descriptor, users]. POSIX drops all locks of a process on a file when it closes any descriptor
of it, DuckDB's own lock included: so one descriptor per file stays open until nobody here reads that file any more."""


class HeldFile:
    """A DuckDB file about to be opened read-only. Make it before DuckDB connects, close it after DuckDB has closed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _LOCK:
            status = os.stat(path)
            self._key = (status.st_dev, status.st_ino)
            if self._key in _HELD:
                _HELD[self._key][1] += 1
            else:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                status = os.fstat(descriptor)  # the path may have been given to another file meanwhile
                self._key = (status.st_dev, status.st_ino)
                _HELD.setdefault(self._key, [descriptor, 0])[1] += 1
        self._logged = _has_log(path)

    def state(self) -> str | None:
        """The state that a connection made after this object reads; None where that cannot be told.

        Call it after connecting: from then on DuckDB's lock keeps every writer out.
        """
        status = os.stat(self._path)
        if (status.st_dev, status.st_ino) != self._key or self._logged or _has_log(self._path):
            return None
        found = _parsed(os.pread(_HELD[self._key][0], _HEADER, 0))
        return None if found is None else f"{found[0]}-{found[1]}"

    def close(self) -> None:
        with _LOCK:
            held = _HELD[self._key]
            held[1] -= 1
            if not held[1]:
                os.close(held[0])
                del _HELD[self._key]


def next_state(path: Path) -> str:
    """The state of a file once its writer, which has checkpointed just now, has changed and checkpointed it once more.

    Only for a file that no other process can know of: reading it ends this process's lock on it.
    """
    with path.open("rb") as stream:
        found = _parsed(stream.read(_HEADER))
    assert found is not None, "DuckDB 2.0 writes this header"
    return f"{found[0]}-{found[1] + 1}"


def _parsed(header: bytes) -> tuple[str, int] | None:
    """Identity (storage version, random bytes) and number of the last checkpoint; None where it is no such header."""
    if len(header) < _HEADER or header[8:12] != b"DUCK":
        return None
    rounds = [struct.unpack_from("<Q", header, offset + 8)[0] for offset in (4096, 8192)]
    return (header[12:20] + header[124:140]).hex(), max(rounds)


def _has_log(path: Path) -> bool:
    try:
        return os.stat(f"{path}.wal").st_size > 0
    except FileNotFoundError:
        return False
