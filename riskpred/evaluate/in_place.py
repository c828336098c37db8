"""A file that is written whole or not at all: the page and the predictions of an evaluation."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from riskpred.errors import OutputError


def refuse_place(into: Path, option: str, suffix: str) -> None:
    """Check, before the work, that a file of this kind may be written there.

    The name decides: a warehouse, a scores file or a bundle never ends in .html or .parquet.

    Args:
        option: the option that named the file, for the error.   suffix: ".html" or ".parquet".
    Raises: OutputError, when the name ends otherwise, is that of a folder, or lies in no writable folder.
    """
    wrong = {
        f"its name does not end in {suffix}": into.suffix.lower() != suffix,
        "is a folder": into.is_dir(),
        "its folder does not exist": not into.parent.is_dir(),
        "its folder is not writable": into.parent.is_dir() and not os.access(into.parent, os.W_OK | os.X_OK),
    }
    for what, so in wrong.items():
        if so:
            raise OutputError(
                f"{into}: cannot be written: {what}.",
                wanted=f"a file name that ends in {suffix}, in a folder that exists and is writable",
                do=f"name another with {option}; nothing was changed",
            )


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
