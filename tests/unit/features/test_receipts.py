"""Receipts as small arrays say the same in words; digests differ exactly where what was read differs."""

from dataclasses import replace

import numpy as np

from riskpred.features.batch import MISSING, STALE, USED, FeatureBatch, Receipt, SeriesInput, TabularInput
from riskpred.features.receipts import input_hashes


def batch_of(values: np.ndarray, series: SeriesInput | None = None, present: np.ndarray | None = None) -> FeatureBatch:
    rows = len(values)
    inputs: dict = {"tabular": TabularInput(values.astype(np.float32), np.zeros(values.shape, np.int64))}
    if series is not None:
        inputs["series"] = series
    there = np.ones(rows, bool) if present is None else present
    return FeatureBatch(
        np.arange(rows), np.full(rows, 1000), inputs, dict.fromkeys(inputs, there), {}, ()
    )  # fmt: skip


def digests(values: list[list[float]]) -> list[bytes]:
    return input_hashes(batch_of(np.array(values)))["tabular"].tolist()


def test_a_receipt_in_words() -> None:
    missing = np.array([[False, True], [True, True], [False, False]])
    receipt = Receipt(
        np.array([USED, MISSING, STALE], np.int8), np.arange(3), np.arange(3), missing, ("HDL", "SBP"), {2: ("HDL: 1",)}
    )
    assert receipt.status == ("used", "missing", "stale")
    assert receipt.missing_features == (("SBP",), ("HDL", "SBP"), ("HDL: 1",))
    both = Receipt.joined([receipt, receipt])
    assert both.missing_features == receipt.missing_features * 2
    assert both.take(np.array([5, 0, 5])).missing_features == (("HDL: 1",), ("SBP",), ("HDL: 1",))
    assert both.take(np.array([5, 0, 5])).status == ("stale", "used", "stale")


def test_a_digest_is_32_hex_digits_and_differs_with_value_and_place() -> None:
    found = digests([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0], [1.0, 2.0000002], [np.nan, 2.0], [0.0, 2.0], [np.inf, 2.0]])
    assert all(len(one) == 32 and set(one) <= set(b"0123456789abcdef") for one in found)
    assert found[0] == found[2]
    assert len(set(found)) == 6


def test_every_missing_value_and_every_zero_is_the_same() -> None:
    other_nan = np.array([0xFFC00001], np.uint32).view(np.float32)[0]
    found = digests([[np.nan, 0.0], [float(other_nan), -0.0]])
    assert np.isnan(other_nan)
    assert found[0] == found[1]


def test_rows_that_lack_the_modality_share_the_digest_of_nothing() -> None:
    present = np.array([True, False, False])
    found = input_hashes(batch_of(np.array([[1.0], [2.0], [3.0]]), present=present))["tabular"].tolist()
    assert found[0] != found[1]
    assert found[1] == found[2]


def test_a_series_is_read_with_its_times() -> None:
    series = SeriesInput(np.array([0, 2, 4, 6]), np.array([10, 20, 10, 20, 11, 20]), np.ones((6, 1), np.float32))
    batch = batch_of(np.zeros((3, 1)), series)
    found = input_hashes(batch)["series"].tolist()
    assert found[0] == found[1]
    assert found[0] != found[2]
    later = replace(batch, prediction_time=batch.prediction_time + np.array([0, 5, 0]))
    assert input_hashes(later)["series"].tolist()[1] != found[1]


def test_many_rows_have_many_digests() -> None:
    values = np.random.default_rng(0).integers(0, 50, size=(50_000, 4)).astype(float)
    found = digests(values.tolist())
    assert len(set(found)) == len(np.unique(values, axis=0))
    assert len({one[:16] for one in found}) == len({one[16:] for one in found}) == len(set(found)), "both halves count"
