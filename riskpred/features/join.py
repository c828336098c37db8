"""Puts feature batches together and takes rows out of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from riskpred.features.batch import EncodedImages, FeatureBatch, ImageInput, Receipt, SeriesInput, TabularInput

_Input = TabularInput | SeriesInput | ImageInput


def concat(batches: Sequence[FeatureBatch]) -> FeatureBatch:
    """Batches of one plan, one after the other; rejects too. At least one batch is needed."""
    assert batches, "nothing to put together"
    if len(batches) == 1:
        return batches[0]
    names = list(batches[0].inputs)
    assert all(list(batch.inputs) == names for batch in batches), "batches of one plan have the same modalities"
    return FeatureBatch(
        subject_id=np.concatenate([batch.subject_id for batch in batches]),
        prediction_time=np.concatenate([batch.prediction_time for batch in batches]),
        inputs={name: _concat([batch.inputs[name] for batch in batches]) for name in names},
        present={name: np.concatenate([batch.present[name] for batch in batches]) for name in names},
        receipts={name: Receipt.joined([batch.receipts[name] for batch in batches]) for name in names},
        rejects=tuple(reject for batch in batches for reject in batch.rejects),
        group=_concat_groups([batch.group for batch in batches]),
    )


def take(batch: FeatureBatch, index: NDArray[np.int64] | NDArray[np.bool_]) -> FeatureBatch:
    """The given rows, in the given order (or where a mask is True), and the rejects of their subjects."""
    at = np.flatnonzero(index) if index.dtype == np.bool_ else np.asarray(index, dtype=np.int64)
    subjects = set(batch.subject_id[at].tolist())
    return FeatureBatch(
        subject_id=batch.subject_id[at],
        prediction_time=batch.prediction_time[at],
        inputs={name: _take(given, at) for name, given in batch.inputs.items()},
        present={name: present[at] for name, present in batch.present.items()},
        receipts={name: receipt.take(at) for name, receipt in batch.receipts.items()},
        rejects=tuple(reject for reject in batch.rejects if reject.subject_id in subjects),
        group=None if batch.group is None else batch.group[at],
    )


def _concat_groups(groups: list[NDArray[np.int64] | None]) -> NDArray[np.int64] | None:
    known = [group for group in groups if group is not None]
    assert len(known) in (0, len(groups)), "either all batches know the groups of their rows, or none"
    return np.concatenate(known) if known else None


def _concat(inputs: list[_Input]) -> _Input:
    first = inputs[0]
    if isinstance(first, TabularInput):
        tables = [given for given in inputs if isinstance(given, TabularInput)]
        return TabularInput(
            np.concatenate([given.values for given in tables]), np.concatenate([given.time for given in tables])
        )
    if isinstance(first, SeriesInput):
        steps = [given for given in inputs if isinstance(given, SeriesInput)]
        lengths = np.concatenate([np.diff(given.start) for given in steps])
        return SeriesInput(
            starts(lengths),
            np.concatenate([given.time for given in steps]),
            np.concatenate([given.values for given in steps]),
        )
    images = [given for given in inputs if isinstance(given, ImageInput)]
    return ImageInput(
        starts(np.concatenate([given.count for given in images])),
        np.concatenate([given.pixels for given in images]),
        tuple(name for given in images for name in given.image_id),
        np.concatenate([given.time for given in images]),
        np.concatenate([given.spacing_mm for given in images]),
        np.concatenate([given.slices for given in images]),
        _concat_encoded([given.encoded for given in images]),
    )


def _concat_encoded(given: list[EncodedImages | None]) -> EncodedImages | None:
    encoded = [one for one in given if one is not None]
    if not encoded:
        return None
    assert len(encoded) == len(given), "either all batches hold pixels, or none"
    return EncodedImages(
        np.concatenate([one.sent for one in encoded]),
        np.concatenate([one.moments for one in encoded]),
        tuple(digest for one in encoded for digest in one.input_hash),
    )


def _take(given: _Input, at: NDArray[np.int64]) -> _Input:
    if isinstance(given, TabularInput):
        return TabularInput(given.values[at], given.time[at])
    if isinstance(given, SeriesInput):
        start, steps = _ragged(given.start, at)
        return SeriesInput(start, given.time[steps], given.values[steps])
    start, pictures = _ragged(given.start, at)
    places, encoded = pictures.tolist(), given.encoded
    # Rows that follow one another are a view of the pixels, not a copy.
    some = slice(places[0], places[-1] + 1) if places and bool((np.diff(pictures) == 1).all()) else pictures
    if encoded is not None:
        digests = tuple(encoded.input_hash[i] for i in places)
        encoded = EncodedImages(encoded.sent[some], encoded.moments[some], digests)
    return ImageInput(
        start,
        given.pixels[some] if encoded is None else given.pixels,
        tuple(given.image_id[i] for i in places),
        given.time[some],
        given.spacing_mm[some],
        given.slices[some],
        encoded,
    )


def _ragged(start: NDArray[np.int64], at: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts of the rows taken, and the place of each of their steps: the row's first one, plus how far into it."""
    lengths = np.diff(start)[at]
    begin = starts(lengths)
    return begin, np.arange(begin[-1], dtype=np.int64) + np.repeat(start[:-1][at] - begin[:-1], lengths)


def starts(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each ragged row starts, and the end of the last. Shape: (B,) -> (B + 1,)."""
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)])
