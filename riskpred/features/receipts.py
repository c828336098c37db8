"""What each modality of each row had to work with: names of what was missing, digests of what the encoder read."""

from hashlib import blake2b
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from riskpred.features.batch import FeatureBatch, ImageInput, SeriesInput, TabularInput


def names_where(mask: NDArray[np.bool_], names: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Of each row, the names whose place is True. Shape: (B, F) and F names -> B tuples."""
    assert mask.shape[1] == len(names), "one name per column"
    packed = np.ascontiguousarray(mask).view(np.uint8)
    return tuple(tuple(compress(names, row)) for row in map(bytes, packed))


def input_hashes(batch: FeatureBatch) -> dict[str, tuple[str, ...]]:
    """Digest of what each modality's encoder reads of each row: 32 hex characters (input_receipts.input_hash).

    A modality that is not present reads nothing: all such rows share one digest. Series are hashed by their times
    before prediction_time, as they are read; so two rows with the same numbers have the same digest.
    """
    return {name: _hashes(batch, name) for name in batch.inputs}


def _hashes(batch: FeatureBatch, name: str) -> tuple[str, ...]:
    given, present = batch.inputs[name], batch.present[name].tolist()
    nothing = blake2b(digest_size=16).hexdigest()
    if isinstance(given, SeriesInput):
        start = given.start.tolist()
        before = np.repeat(batch.prediction_time, np.diff(given.start)) - given.time
        values = _one_nan(given.values)
        return tuple(
            _digest(before[start[b] : start[b + 1]], values[start[b] : start[b + 1]]) if there else nothing
            for b, there in enumerate(present)
        )
    assert isinstance(given, TabularInput | ImageInput)
    if isinstance(given, ImageInput) and given.encoded is not None:
        digests = given.encoded.input_hash
        return tuple(digests[b] if there else nothing for b, there in enumerate(present))
    rows = _one_nan(given.values) if isinstance(given, TabularInput) else np.ascontiguousarray(given.pixels)
    return tuple(_digest(rows[b]) if there else nothing for b, there in enumerate(present))


def pixels_hash(pixels: NDArray[np.float32]) -> str:
    """Digest of one prepared image, as `input_hashes` gives it. Shape: (H, W)."""
    return _digest(np.ascontiguousarray(pixels))


def _digest(*arrays: NDArray[np.float32] | NDArray[np.int64]) -> str:
    running = blake2b(digest_size=16)
    for array in arrays:
        running.update(array.data)
    return running.hexdigest()


def _one_nan(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same values with one bit pattern for missing and one for zero."""
    return np.ascontiguousarray(np.where(np.isnan(values), np.float32(np.nan), values + np.float32(0)))
