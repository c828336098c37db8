"""Finds the file behind an image path of a table, and refuses every path that leaves the image root."""

import hashlib
import os
import re
import stat
from collections.abc import Iterable
from fnmatch import fnmatchcase
from glob import escape
from pathlib import Path, PurePosixPath
from typing import Literal

ANY = "*"
"""Any characters, in the name of a volume's slices."""

Refusal = Literal["path_refused", "file_missing"]
"""path_refused: the path is empty, absolute, has .. or NUL, or leads out through a link. file_missing: no such file."""


def image_file(root: Path, path: str, folders: bool = False) -> Path | Refusal:
    """The regular file that `path` names under `root`, or why there is none.

    Args:
        root: image root.
        path: as it stands in a table: relative, with forward slashes.
        folders: a folder, which holds one series, is found too.
    """
    parts = PurePosixPath(path).parts
    # resolve() and is_relative_to() alone let "" and "." through.
    if not parts or "\0" in path or "\\" in path or PurePosixPath(path).is_absolute() or ".." in parts:
        return "path_refused"
    real_root = os.path.realpath(root)
    real = os.path.realpath(os.path.join(real_root, *parts))
    if os.path.commonpath((real_root, real)) != real_root or real == real_root:
        return "path_refused"
    try:
        mode = os.stat(real).st_mode
    except OSError:
        return "file_missing"
    return Path(real) if stat.S_ISREG(mode) or (folders and stat.S_ISDIR(mode)) else "path_refused"


def folder_and_names(path: str) -> tuple[str, str | None]:
    """A path whose last part holds a `*` names the slices of a volume: their folder, and the pattern of their names.

    Example:
        >>> folder_and_names("slices/P7_*.png"), folder_and_names("slices/P7.png")
        (('slices', 'P7_*.png'), ('slices/P7.png', None))
    """
    folder, _, name = path.rpartition("/")
    return (folder, name) if ANY in name else (path, None)


def named_like(folder: Path, names: str) -> list[Path]:
    """Files of a folder with such names, in the order of the numbers in them: 2 before 10. Raises: OSError."""
    # Whoever writes the table writes the pattern: however many stars it has, it must not take forever.
    wanted = ANY.join(escape(part) for part in names.split(ANY))
    with os.scandir(folder) as entries:
        there = [Path(one.path) for one in entries if one.is_file(follow_symlinks=False)]
    found = [path for path in there if fnmatchcase(path.name, wanted)]
    return sorted((path for path in found if not path.name.startswith(".")), key=_by_number)


def _by_number(path: Path) -> list[tuple[int, str]]:
    parts = re.split(r"([0-9]+)", path.name)
    return [(int(part), part) if number % 2 else (0, part) for number, part in enumerate(parts)]


def folder_content(folder: Path) -> str | None:
    """SHA-256 over names and bytes of all files of a folder (a series), whatever order the system lists them in.

    None: a link in it leads out of it. Raises: OSError.
    """
    return content_of_files(folder, [file for _, file in _folder_files(folder)])


def content_of_files(folder: Path, files: Iterable[Path]) -> str | None:
    """As folder_content, of some files of a folder: those of one of its series."""
    digest = hashlib.sha256()
    for name, file in sorted((path.relative_to(folder).as_posix().encode(), path) for path in files):
        if not Path(os.path.realpath(file)).is_relative_to(os.path.realpath(folder)):
            return None
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").digest()
        digest.update(len(name).to_bytes(8) + name + content)
    return digest.hexdigest()


def file_stamp(path: Path, names: str | None = None) -> str:
    """Size and mtime of a file; of a folder's files together: what stands for the content without reading it.

    Args: names: of a folder only files with such names (`named_like`).
    """
    if not path.is_dir():
        state = path.stat()
        return f"{state.st_size} {state.st_mtime_ns}"
    files = _folder_files(path) if names is None else [(one.name.encode(), one) for one in named_like(path, names)]
    states = [(name, file.stat()) for name, file in files]
    text = "".join(f"{name!r} {state.st_size} {state.st_mtime_ns}\n" for name, state in states)
    return f"{len(states)} files {hashlib.sha256(text.encode()).hexdigest()}"


def _folder_files(folder: Path) -> list[tuple[bytes, Path]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sorted((path.relative_to(folder).as_posix().encode(), path) for path in files)
