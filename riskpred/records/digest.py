"""Digests of records: what a subject's score was computed from, independent of order and of any dictionary.

A digest is 128 bits in two lanes of 64, each a hash of its own: every row is mixed into one number per lane and the
rows of a subject are added up, so neither their order nor the size of a batch changes anything, and a repeated row
still counts. It is no cryptographic hash: it finds what changed overnight, not a forger.
"""

import hashlib
from collections.abc import Sequence
from itertools import chain
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from riskpred.records.chunk import SubjectChunk
from riskpred.records.compiled import compiled

DIGEST_VERSION: Final = 1
"""Raised whenever the same records would get another digest: digests kept under an older number are made anew."""

Lanes = NDArray[np.uint64]
"""Shape (N, 2): one digest a row."""

_SEED = np.array([0x243F6A8885A308D3, 0x9E3779B97F4A7C15], dtype=np.uint64)
_STEP = np.array([0xA0761D6478BD642F, 0xE7037ED1A0B428DB], dtype=np.uint64)
_IMAGES = np.array([0x8EBC6AF09C88C6E3, 0x589965CC75374CC3], dtype=np.uint64)
_MUL1 = np.uint64(0xFF51AFD7ED558CCD)
_MUL2 = np.uint64(0xC4CEB9FE1A85EC53)
_PRIME = np.uint64(0x100000001B3)
_33, _29 = np.uint64(33), np.uint64(29)
_HEX_LIMIT = 2**31 // 32
_BLOCK = 65_536


@compiled
def _mixed(state: np.uint64, value: np.uint64, step: np.uint64) -> np.uint64:
    """One more 64-bit field in a lane's running hash; a bijection of `state` for a given value."""
    state = (state ^ value) * _MUL1 + step
    state ^= state >> _33
    state = state * _MUL2
    return np.uint64(state ^ (state >> _29))


@compiled
def _text_hashes(offsets: NDArray[np.int64], data: NDArray[np.uint8], out: Lanes) -> None:
    for i in range(len(out)):
        for lane in range(2):
            state = _SEED[lane]
            for k in range(offsets[i], offsets[i + 1]):
                state = (state ^ np.uint64(data[k])) * _PRIME + _STEP[lane]
                state ^= state >> _29
            out[i, lane] = _mixed(state, np.uint64(offsets[i + 1] - offsets[i]), _STEP[lane])


@compiled
def _row_sums(
    start: NDArray[np.int64],
    time: NDArray[np.int64],
    code: NDArray[np.int32],
    bits: NDArray[np.uint64],
    text: NDArray[np.int32],
    unit: NDArray[np.int32],
    codes: Lanes,
    texts: Lanes,
    units: Lanes,
    out: Lanes,
) -> None:
    """Adds the rows start[s]:start[s + 1] to out[s]. An index of -1 finds the last row of its table."""
    for s in range(len(start) - 1):
        for lane in range(2):
            total, step, seed = np.uint64(0), _STEP[lane], _SEED[lane]
            for e in range(start[s], start[s + 1]):
                state = _mixed(seed, np.uint64(time[e]), step)
                state = _mixed(state, codes[code[e], lane], step)
                state = _mixed(state, bits[e], step)
                state = _mixed(state, texts[text[e], lane], step)
                total += _mixed(state, units[unit[e], lane], step)
            out[s, lane] += total


@compiled
def _image_sums(owner: NDArray[np.int64], time: NDArray[np.int64], fields: Lanes, out: Lanes) -> None:
    """Adds each image to the lanes of its owner. fields: (4 x images, 2), the four texts of an image in a row."""
    for i in range(len(owner)):
        for lane in range(2):
            step = _STEP[lane]
            state = _mixed(_IMAGES[lane], np.uint64(time[i]), step)
            for k in range(4):
                state = _mixed(state, fields[4 * i + k, lane], step)
            out[owner[i], lane] += state


@compiled
def _finished(total: Lanes, out: Lanes) -> None:
    for s in range(len(total)):
        for lane in range(2):
            state = _mixed(_SEED[lane], total[s, lane], _STEP[lane])
            out[s, lane] = _mixed(state, total[s, 1 - lane], _STEP[lane])


@compiled
def _with_images(events: Lanes, images: Lanes, out: Lanes) -> None:
    for s in range(len(events)):
        for lane in range(2):
            state = _mixed(_IMAGES[lane], events[s, lane], _STEP[lane])
            out[s, lane] = _mixed(state, images[s, lane], _STEP[lane])


def text_lanes(texts: pa.Array | Sequence[str]) -> Lanes:
    """Hash of each text, and of nothing (0) in one more row at the end, which the index -1 finds.

    Args:
        texts: without nulls.

    Shape: (N + 1, 2) for N texts.
    """
    array = pa.array(texts, pa.large_string()) if not isinstance(texts, pa.Array) else texts.cast(pa.large_string())
    assert not array.null_count, "a text that is not there has the index -1"
    out = np.zeros((len(array) + 1, 2), dtype=np.uint64)
    if len(array):
        _, offsets, data = array.buffers()
        at = np.frombuffer(offsets, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
        raw = np.frombuffer(data, dtype=np.uint8) if data is not None and data.size else np.zeros(0, dtype=np.uint8)
        _text_hashes(at, raw, out[:-1])
    return out


def row_sums(
    start: NDArray[np.int64],
    time: NDArray[np.int64],
    code: NDArray[np.int32],
    numeric_value: NDArray[np.float64],
    text: NDArray[np.int32],
    unit: NDArray[np.int32],
    tables: tuple[Lanes, Lanes, Lanes],
) -> Lanes:
    """Sum of the hashes of each subject's rows; sums of parts of a subject add up. See `events_digests`.

    Args:
        start: (S + 1,), subject s has the rows start[s]:start[s + 1].
        tables: `text_lanes` of codes, texts and units.

    Shape: (S, 2).
    """
    # One bit pattern for every null, and none for a negative zero.
    bits = (np.where(np.isnan(numeric_value), np.nan, numeric_value) + 0.0).view(np.uint64)
    out = np.zeros((len(start) - 1, 2), dtype=np.uint64)
    _row_sums(start, time, code, bits, text, unit, *tables, out)
    return out


def events_digests(sums: Lanes) -> Lanes:
    """Digest of the events of each subject, from the sum over all its rows (0 for no event)."""
    out = np.empty_like(sums)
    _finished(sums, out)
    return out


def add_images(
    sums: Lanes, owner: NDArray[np.int64], time: NDArray[np.int64], texts: tuple[pa.Array, pa.Array, pa.Array, pa.Array]
) -> None:
    """Add the hash of each image to the sum of the subject it is of.

    Args:
        sums: (S, 2), 0 before the first image.
        owner: which of the S subjects each image is of.   time: STATIC for null.
        texts: image_id, image_type, path, content of each image.
    """
    if len(owner):
        fields = np.stack([text_lanes(column)[:-1] for column in texts], axis=1).reshape(-1, 2)
        _image_sums(owner, time, fields, sums)


def joined_digests(events: Lanes, images: Lanes) -> Lanes:
    """subject_digest of each subject, from its events digest and the sum over its images."""
    out = np.empty_like(events)
    _with_images(events, images, out)
    return out


def subject_digests(chunk: SubjectChunk) -> list[str]:
    """Hash of all the events and image rows of each subject, whatever their time: 32 hex characters each.

    An image counts by its sha256, else by its stamp (size and mtime). Codes, texts and units enter by their text, so
    the digest does not depend on the warehouse's dictionary. The same as `Warehouse.subject_digests` reads.

    Shape: S digests for a chunk of S subjects.
    """
    if chunk.unit is not None:
        unit, units = chunk.unit, text_lanes(chunk.unit_texts)
    else:
        unit = np.where(np.isnan(chunk.numeric_value), -1, chunk.code).astype(np.int32)
        units = text_lanes([name or "" for name in chunk.units])
        units[:-1][[name is None for name in chunk.units]] = 0
    tables = (text_lanes(chunk.codes), text_lanes(chunk.texts), units)
    sums = row_sums(chunk.start, chunk.time, chunk.code, chunk.numeric_value, chunk.text, unit, tables)
    images, of_images = list(chain.from_iterable(chunk.images)), np.zeros_like(sums)
    columns = (
        [image.image_id for image in images],
        [image.image_type for image in images],
        [image.path for image in images],
        [image.sha256 or image.stamp or "" for image in images],
    )
    first, second, third, fourth = (pa.array(column, pa.large_string()) for column in columns)
    owner = np.repeat(np.arange(len(chunk)), [len(found) for found in chunk.images])
    times = np.array([image.time for image in images], dtype=np.int64)
    add_images(of_images, owner, times, (first, second, third, fourth))
    found: list[str] = hex_texts(joined_digests(events_digests(sums), of_images)).to_pylist()
    return found


def hex_texts(lanes: Lanes) -> pa.Array:
    """32 hex characters of each digest, as an Arrow array of strings."""
    data = np.empty((len(lanes), 32), dtype=np.uint8)
    for first in range(0, len(lanes), _BLOCK):
        raw = lanes[first : first + _BLOCK].astype(">u8").tobytes().hex().encode()
        data[first : first + _BLOCK] = np.frombuffer(raw, dtype=np.uint8).reshape(-1, 32)
    kind, width = (pa.string(), np.int32) if len(lanes) < _HEX_LIMIT else (pa.large_string(), np.int64)
    offsets = np.arange(0, 32 * len(lanes) + 1, 32, dtype=width)
    return pa.Array.from_buffers(kind, len(lanes), [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def lanes_of(texts: pa.Array) -> Lanes:
    """What `hex_texts` was made from. Shape: (N, 2)."""
    raw = bytes.fromhex("".join(texts.to_pylist()))
    assert len(raw) == 16 * len(texts), "a digest has 32 characters"
    return np.frombuffer(raw, dtype=">u8").astype(np.uint64).reshape(-1, 2)


def whole_digest(subject_id: NDArray[np.int64], lanes: Lanes) -> str:
    """Digest over all subjects, which stand in ascending order: 32 hex characters."""
    running = hashlib.blake2b(np.ascontiguousarray(subject_id, dtype="<i8").data, digest_size=16)
    running.update(np.ascontiguousarray(lanes, dtype="<u8").data)
    return running.hexdigest()
