from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import torch

from riskpred.features.batch import FeatureBatch, SeriesInput
from riskpred.model.tensors import SeriesTensors, column_owner, expand, tensors_of
from riskpred.records.chunk import DAY_US, STATIC

NUMERIC, SEX = SimpleNamespace(vocabulary=()), SimpleNamespace(vocabulary=("F", "M"))


def test_a_category_becomes_one_column_each_and_missing_becomes_0() -> None:
    values, observed = expand(torch.tensor([[2.5, 1.0], [np.nan, np.nan]]), [NUMERIC, SEX])
    assert values.tolist() == [[2.5, 0, 1], [0, 0, 0]]
    assert observed.tolist() == [[True, True], [False, False]]
    assert column_owner([NUMERIC, SEX]) == (0, 1, 1)


def series(start: list[int], days_before: list[float | None], now: int = 10**15) -> SeriesTensors:
    rows = len(start) - 1
    time = [STATIC if d is None else int(now - d * DAY_US) for d in days_before]
    values = np.arange(len(time), dtype=np.float32)[:, None]
    given = SeriesInput(np.array(start, np.int64), np.array(time, np.int64), values)
    at, here = np.full(rows, now, np.int64), {"series": np.diff(start) > 0}
    tensors = tensors_of(FeatureBatch(np.arange(rows), at, {"series": given}, here, {}, ()), "series")
    assert isinstance(tensors, SeriesTensors)
    return tensors


def test_steps_are_padded_at_the_end_with_gaps_and_time_to_prediction() -> None:
    got = series([0, 3, 3, 4], [10, 4, 0, 7])
    assert got.length.tolist() == [3, 0, 1]
    assert got.values[..., 0].tolist() == [[0, 1, 2], [0, 0, 0], [3, 0, 0]]
    assert got.gap_days.tolist() == [[0, 6, 4], [0, 0, 0], [0, 0, 0]]
    assert got.to_prediction_days.tolist() == [[10, 4, 0], [0, 0, 0], [7, 0, 0]]


def test_an_undated_step_counts_as_old_not_as_a_crash() -> None:
    got = series([0, 2], [None, 5])
    assert got.to_prediction_days[0].tolist() == [36525, 5]
    assert bool(torch.isfinite(got.gap_days).all())


def test_taking_rows_cuts_to_the_longest_of_them(make_batch: Callable[..., FeatureBatch]) -> None:
    got = series([0, 3, 3, 4], [10, 4, 0, 7]).take(torch.tensor([2]))
    assert got.values.shape == (1, 1, 1)
    assert got.values.item() == 3
