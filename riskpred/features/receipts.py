"""Digests of what each modality's encoder read of each row (input_receipts.input_hash)."""

import math

import numpy as np
from numpy.typing import NDArray

from riskpred.features.batch import FeatureBatch, ImageInput, SeriesInput
from riskpred.records.compiled import compiled

HEX: int = 32
"""Characters of a digest: 128 bits."""

_U = np.uint64
_ONE, _TWO = _U(0x87C37B91114253D5), _U(0x4CF5AD432745937F)
_FIVE, _ADD_ONE, _ADD_TWO = _U(5), _U(0x52DCE729), _U(0x38495AB5)
_END_ONE, _END_TWO = _U(0xFF51AFD7ED558CCD), _U(0xC4CEB9FE1A85EC53)
_R64, _R27, _R31, _R33 = _U(64), _U(27), _U(31), _U(33)
_SIGN, _INFINITE, _NAN = np.uint32(0x80000000), np.uint32(0x7F800000), np.uint32(0x7FC00000)
_DIGITS = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)


def input_hashes(batch: FeatureBatch) -> dict[str, NDArray[np.bytes_]]:
    """Digest of what each modality's encoder reads of each row: (B,) of 32 hex characters.

    A modality that is not present reads nothing: all such rows share one digest. Series are hashed by their times
    before prediction_time, as they are read; so two rows with the same numbers have the same digest. It tells changed
    inputs from unchanged ones, and is no protection against someone who wants two inputs to look alike.
    """
    return {name: _hashes(batch, name) for name in batch.inputs}


def _hashes(batch: FeatureBatch, name: str) -> NDArray[np.bytes_]:
    given, present = batch.inputs[name], batch.present[name]
    if isinstance(given, ImageInput):
        return _of_pictures(given, batch.prediction_time, present)
    if isinstance(given, SeriesInput):
        return _texts(given.start, given.time, batch.prediction_time, given.values, present)
    none = np.zeros(0, dtype=np.int64)
    return _texts(np.arange(len(present) + 1, dtype=np.int64), none, none, given.values, present)


def _of_pictures(
    given: ImageInput, prediction_time: NDArray[np.int64], present: NDArray[np.bool_]
) -> NDArray[np.bytes_]:
    """One picture is told by its pixels; several by those and how long before prediction_time each was taken."""
    if given.encoded is None:
        flat = given.pixels.reshape(len(given.pixels), math.prod(given.pixels.shape[1:]))
        each, none = np.ones(len(flat), dtype=np.bool_), np.zeros(0, dtype=np.int64)
        pictures = _texts(np.arange(len(flat) + 1, dtype=np.int64), none, none, flat, each)
    else:
        pictures = np.array(given.encoded.input_hash, dtype=f"S{HEX}")
    # Two hex characters a number: none of these is a NaN or a zero with a sign.
    letters = np.ascontiguousarray(pictures).view(np.uint16).reshape(len(pictures), HEX // 2)
    whole = _digests(given.start, given.time, prediction_time, letters.astype(np.uint32), present, _DIGITS)
    found = whole.view(f"S{HEX}").reshape(-1)
    alone = given.count == 1
    found[alone] = pictures[given.start[:-1][alone]]
    return found


def pixels_hash(pixels: NDArray[np.float32]) -> str:
    """Digest of one prepared picture, as `input_hashes` gives it. Shape: (C, H, W) or (C, Z, H, W)."""
    none = np.zeros(0, dtype=np.int64)
    text = _texts(np.arange(2, dtype=np.int64), none, none, pixels.reshape(1, -1), np.ones(1, dtype=np.bool_))[0]
    return str(text.decode())


def _texts(
    start: NDArray[np.int64],
    time: NDArray[np.int64],
    before: NDArray[np.int64],
    values: NDArray[np.float32],
    present: NDArray[np.bool_],
) -> NDArray[np.bytes_]:
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return _digests(start, time, before, bits, present, _DIGITS).view(f"S{HEX}").reshape(-1)


@compiled
def _digests(
    start: NDArray[np.int64],
    time: NDArray[np.int64],
    prediction_time: NDArray[np.int64],
    bits: NDArray[np.uint32],
    present: NDArray[np.bool_],
    digits: NDArray[np.uint8],
) -> NDArray[np.uint8]:
    """Hex digits of each row's digest.

    Args: time: (T,), or none: rows have no times.   bits: (T, C) float32 as they are stored.
    Shape: (B, 32).
    Source: Appleby 2011, MurmurHash3_x64_128; every number enters both halves.
    """
    result = np.zeros((len(present), 32), dtype=np.uint8)
    for b in range(len(present)):
        one, two, many = _U(0), _U(0), 0
        if present[b]:
            for step in range(start[b], start[b + 1]):
                if len(time):
                    one, two = _mixed(one, two, _U(prediction_time[b] - time[step]))
                    many += 1
                for c in range(bits.shape[1]):
                    bit = bits[step, c]
                    if (bit & ~_SIGN) > _INFINITE:
                        bit = _NAN  # one bit pattern for missing, and one for zero
                    elif bit == _SIGN:
                        bit = np.uint32(0)
                    one, two = _mixed(one, two, _U(bit))
                    many += 1
        one, two = one ^ _U(many), two ^ _U(many)
        one = one + two
        two = two + one
        one, two = _ended(one), _ended(two)
        one = one + two
        two = two + one
        for i in range(16):
            shift = _U(60 - 4 * i)
            result[b, i] = digits[np.int64((one >> shift) & _U(15))]
            result[b, 16 + i] = digits[np.int64((two >> shift) & _U(15))]
    return result


@compiled
def _mixed(one: np.uint64, two: np.uint64, word: np.uint64) -> tuple[np.uint64, np.uint64]:
    first = word * _ONE
    one = one ^ (((first << _R31) | (first >> (_R64 - _R31))) * _TWO)
    one = (((one << _R27) | (one >> (_R64 - _R27))) + two) * _FIVE + _ADD_ONE
    second = word * _TWO
    two = two ^ (((second << _R33) | (second >> (_R64 - _R33))) * _ONE)
    two = (((two << _R31) | (two >> (_R64 - _R31))) + one) * _FIVE + _ADD_TWO
    return one, two


@compiled
def _ended(word: np.uint64) -> np.uint64:
    word = (word ^ (word >> _R33)) * _END_ONE
    word = (word ^ (word >> _R33)) * _END_TWO
    return word ^ (word >> _R33)
