"""What decides, beside a file's bytes, which pixels it becomes: versions of this package's decoding and of codecs."""

from importlib.metadata import PackageNotFoundError, version
from typing import Final

DECODING: Final = 1
"""Raised whenever read.py, reduce.py or prepare.py may give other pixels for the same bytes."""

_CODECS: Final = ("pillow", "pydicom", "numpy", "pylibjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle", "python-gdcm")


def decoder_version() -> str:
    """One text that changes when pixels may; a codec that is not installed counts as such."""
    return " ".join([f"decoding={DECODING}", *(f"{name}={_version(name)}" for name in _CODECS)])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"
