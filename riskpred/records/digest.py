"""Digests of records: what a subject's score was computed from, independent of order and of any dictionary."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from riskpred.records.chunk import SubjectChunk

_ROW = np.dtype([("time", "<i8"), ("code", "<u8"), ("value", "<f8"), ("text", "<u8"), ("unit", "<u8")])


def subject_digests(chunk: SubjectChunk) -> list[str]:
    """Hash of all the events and image rows of each subject, whatever their time: 32 hex characters each.

    An image counts by its sha256, else by its stamp (size and mtime). Codes, texts and units enter by their text, so
    the digest does not depend on the warehouse's dictionary; events enter in the chunk's stated order.

    Shape: S digests for a chunk of S subjects.
    """
    rows = np.zeros(len(chunk.time), dtype=_ROW)
    rows["time"] = chunk.time
    rows["code"] = _hashes(chunk.codes)[chunk.code]
    # One bit pattern for every null, and none for a negative zero.
    rows["value"] = np.where(np.isnan(chunk.numeric_value), np.nan, chunk.numeric_value + 0.0)
    rows["text"] = _looked_up(chunk.texts, chunk.text)
    if chunk.unit is not None:
        rows["unit"] = _looked_up(chunk.unit_texts, chunk.unit)
    else:
        units = np.array([0 if unit is None else _hash(unit) for unit in chunk.units], dtype=np.uint64)
        rows["unit"] = np.where(np.isnan(chunk.numeric_value), np.uint64(0), units[chunk.code])
    data, width = memoryview(rows.tobytes()), _ROW.itemsize
    digests = []
    for i, images in enumerate(chunk.images):
        digest = hashlib.blake2b(data[chunk.start[i] * width : chunk.start[i + 1] * width], digest_size=16)
        for image in images:
            content = image.sha256 or image.stamp or ""
            fields = (image.image_id, str(image.time), image.image_type, image.path, content)
            digest.update(b"\0image\0" + "\0".join(fields).encode())
        digests.append(digest.hexdigest())
    return digests


def combined(subject_id: NDArray[np.int64], digests: Sequence[str], running: "hashlib.blake2b") -> None:
    """Add one chunk's subject digests to a running digest over subjects in ascending order."""
    for subject, digest in zip(subject_id.tolist(), digests, strict=True):
        running.update(f"{subject}:{digest};".encode())


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _hashes(texts: Sequence[str]) -> NDArray[np.uint64]:
    return np.array([_hash(text) for text in texts], dtype=np.uint64)


def _looked_up(texts: Sequence[str], index: NDArray[np.int32]) -> NDArray[np.uint64]:
    """Hash of each indexed text; 0 for the index -1. Shape: index and result (E,)."""
    table = np.concatenate([_hashes(texts), np.zeros(1, dtype=np.uint64)])  # index -1 finds the last: 0
    return table[index]
