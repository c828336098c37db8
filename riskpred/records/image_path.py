"""Finds the file behind an image path of a table, and refuses every path that leaves the image root."""

import os
import stat
from pathlib import Path, PurePosixPath
from typing import Literal

Refusal = Literal["path_refused", "file_missing"]
"""path_refused: the path is empty, absolute, has .. or NUL, or leads out through a link. file_missing: no such file."""


def image_file(root: Path, path: str) -> Path | Refusal:
    """The regular file that `path` names under `root`, or why there is none.

    Args:
        root: image root.
        path: as it stands in a table: relative, with forward slashes.
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
    return Path(real) if stat.S_ISREG(mode) else "path_refused"
