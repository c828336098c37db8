"""Publishes a folder: written beside its place, made durable, then put there by rename as a whole, or not at all."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from riskpred.errors import OutputError

_WRITING: Final = ".writing"
_REPLACED: Final = ".replaced"


@contextmanager
def staged_folder(target: Path, mark: str) -> Iterator[Path]:
    """A folder beside `target` that takes its place when the block ends well, and is removed when it does not.

    A reader that has files of the old folder open reads on. What earlier, killed writers of this target left is
    removed last: until the new folder stands, the old one may be among it.

    Args:
        target: a new name, an empty folder, or a folder to replace.
        mark: a file, relative to the folder, by which one that may be replaced is known.

    Raises: OutputError: the parent is missing or not writable, or `target` is something else.
    """
    parent = target.absolute().parent
    if not parent.is_dir():
        raise OutputError(f"{parent}: no such folder.", wanted=f"a folder for {target.name}", do="make the folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{parent}: not writable.", wanted=f"a place for {target.name}", do="correct its permissions")
    _refuse_unless_replaceable(target, mark)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=_WRITING, dir=parent))
    try:
        yield folder
        # mkdtemp makes it for the owner alone; who may read it is for the umask to say.
        umask = os.umask(0)
        os.umask(umask)
        folder.chmod(0o777 & ~umask)
        for path in (*sorted(folder.rglob("*"), reverse=True), folder):
            _sync(path)
        _refuse_unless_replaceable(target, mark)
        _put(folder, target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _refuse_unless_replaceable(target: Path, mark: str) -> None:
    if not target.exists() or (target / mark).is_file() or (target.is_dir() and not any(target.iterdir())):
        return
    raise OutputError(
        f"{target}: is there already and was not written by this command; nothing was changed.",
        wanted=f"a new name, an empty folder, or a folder with {mark} to replace",
        got=f"a folder without {mark}" if target.is_dir() else "a file",
        do="choose another name, or remove it yourself",
    )


def _put(folder: Path, target: Path) -> None:
    aside = folder.with_suffix(_REPLACED)
    if target.exists():
        target.rename(aside)
    try:
        folder.rename(target)
    except OSError:
        if aside.exists():
            aside.rename(target)
        raise
    _sync(target.absolute().parent)
    # 8 characters of this alphabet are what tempfile puts between prefix and suffix.
    ours = re.compile(rf"\.{re.escape(target.name)}\.[a-z0-9_]{{8}}({re.escape(_WRITING)}|{re.escape(_REPLACED)})")
    for path in target.absolute().parent.iterdir():
        if ours.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
