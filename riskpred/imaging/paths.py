"""The file behind an image path of a table, never outside the image root; and what an unusable image is called."""

from collections.abc import Sequence
from pathlib import Path

from riskpred.records.image_path import content_of_files, folder_content, image_file


class ImageProblem(Exception):
    """An image that cannot be used: costs that image, never the night.

    Args:
        reason: reason code, for rejects.reason.
        wanted: what would have been right, for rejects.wanted; never a value of the file.
    """

    def __init__(self, reason: str, wanted: str) -> None:
        self.reason, self.wanted = reason, wanted
        super().__init__(f"{reason}: wanted {wanted}")

    def __reduce__(self) -> tuple[type["ImageProblem"], tuple[str, str]]:
        """An exception travels between processes by the arguments of its constructor, not by its text."""
        return type(self), (self.reason, self.wanted)


_WANTED = {
    "path_refused": "a relative path to a regular file inside the image root",
    "file_missing": "a file that is there and readable",
}


def inside(root: Path, relative: str, folders: bool = False) -> Path:
    """The regular file that `relative` names under the image root, links followed; with `folders`, or a folder.

    Raises: ImageProblem: path_refused (empty, ".", absolute, "..", NUL, a link that leads out, no regular file);
        file_missing.
    """
    found = image_file(root, relative, folders)
    if isinstance(found, str):
        raise ImageProblem(found, _WANTED[found])
    return found


def folder_digest(folder: Path, files: Sequence[Path] | None = None) -> str:
    """`folder_content` of a folder that an image path names, or of these files of it alone.

    Raises: ImageProblem, path_refused or file_missing.
    """
    try:
        found = folder_content(folder) if files is None else content_of_files(folder, files)
    except OSError:
        raise ImageProblem("file_missing", _WANTED["file_missing"]) from None
    if found is None:
        raise ImageProblem("path_refused", "a folder whose files all lie in it")
    return found
