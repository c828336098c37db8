"""A file that is written whole or not at all: the page and the predictions of an evaluation."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from riskpred.errors import OutputError


@contextmanager
def in_its_place(into: Path, option: str) -> Iterator[Path]:
    """A file beside `into` that replaces it when the block ends well, and is removed when it does not.

    Args:
        option: the option that named the file, for the error.
    Raises: OutputError, when the folder is missing or not writable.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{into.name}.", dir=into.parent)
        os.close(handle)
        try:
            yield Path(name)
            with open(name, "rb") as written:
                os.fsync(written.fileno())
            os.chmod(name, 0o644)
            os.replace(name, into)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(
            f"{into}: cannot be written.",
            wanted="a file name in a folder that exists and is writable",
            got=type(error).__name__,
            do=f"make the folder, or name another with {option}",
        ) from None
