"""image_path.py: a path of a table never leaves the image root."""

import os
from pathlib import Path

import pytest

from riskpred.records.image_path import image_file

REST = ("out.png", "deep", "pipe.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.png").write_bytes(b"a")
    (tmp_path / "secret.png").write_bytes(b"s")
    (folder / "out.png").symlink_to(tmp_path / "secret.png")
    (folder / "in.png").symlink_to(folder / "deep" / "a.png")
    os.mkfifo(folder / "pipe.png")
    return folder


@pytest.mark.parametrize("path", ["deep/a.png", "./deep/a.png", "deep//a.png", "in.png"])
def test_files_inside_are_found(root: Path, path: str) -> None:
    assert image_file(root, path) == (root / "deep" / "a.png").resolve()


@pytest.mark.parametrize(
    "path",
    ["", ".", "..", "../secret.png", "deep/../../secret.png", "/etc/passwd", "deep\\..\\a.png", "a\0b", *REST],
)
def test_everything_else_is_refused(root: Path, path: str) -> None:
    assert image_file(root, path) == "path_refused"


def test_what_is_not_there_is_missing(root: Path) -> None:
    assert image_file(root, "deep/none.png") == "file_missing"
    assert image_file(root / "nowhere", "a.png") == "file_missing"
