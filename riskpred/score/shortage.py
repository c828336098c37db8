"""Says what to lower when memory runs out, in place of a traceback."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import duckdb

from riskpred.errors import OutputError

_SIGNS: Final = ("can't allocate memory", "cannot allocate memory", "out of memory")
"""How torch says it, in a plain RuntimeError (that of CUDA is one, too), and Arrow, in an OSError without number."""


@contextmanager
def said_when_short_of_memory(target: Path) -> Iterator[None]:
    """Turn memory that ran out, here or in a worker, into an OutputError that says so; nothing is published then.

    Args: target: the scores file that was to be written.
    """
    try:
        yield
    except duckdb.OutOfMemoryException:
        raise OutputError(
            f"{target}: what DuckDB may hold in memory was too little; nothing was published.",
            wanted="room for the blocks that it reads and writes at one time",
            do="raise duckdb_memory in night.yaml, or lower workers where the machine itself has no more; then run "
            "again: finished parts are kept",
        ) from None
    except (MemoryError, OSError, RuntimeError) as error:
        if not _memory_ran_out(error):
            raise
        raise OutputError(
            f"{target}: no memory left; nothing was published.",
            wanted="memory for some thousand subjects in each process that computes",
            got=type(error).__name__,
            do="lower workers in night.yaml first, then part_size and duckdb_memory, or free memory; then run again: "
            "finished parts are kept",
        ) from None


def _memory_ran_out(error: Exception) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    # The text decides which of our sentences is said; it is never shown: it may hold data.
    return any(sign in str(error).lower() for sign in _SIGNS)
