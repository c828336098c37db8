import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from riskpred.features.batch import FeatureBatch
from riskpred.features.join import take
from riskpred.model.layout import running_maximum
from riskpred.model.risk import RiskModel, with_interval

TARGETS = (("heart", 1.0), ("heart", 3.0), ("now", 0.0), ("cancer", 1.0), ("cancer", 3.0))


def test_targets_follow_the_outcomes_then_rising_horizons(model: RiskModel) -> None:
    assert model.targets == TARGETS


def test_any_subset_of_modalities_gives_a_risk(model: RiskModel, make_batch: Callable[..., FeatureBatch]) -> None:
    got = model.predict(make_batch())
    assert got.risk.shape == (40, 5)
    assert got.member.shape == (3, 40, 5)
    for values in (got.risk, got.low, got.high):
        assert bool(np.isfinite(values).all()), "rows 0 to 3 lack one, two or all modalities"
        assert bool(((values > 0) & (values < 1)).all())
    assert bool((got.low <= got.risk).all())
    assert bool((got.risk <= got.high).all())


def test_risks_never_fall_with_the_horizon_and_a_set_never_sums_above_1(
    model: RiskModel, make_batch: Callable[..., FeatureBatch]
) -> None:
    got = model.predict(make_batch(200, seed=3))
    for values in (got.risk, got.low, got.high):
        assert bool((values[:, 1] >= values[:, 0]).all())
        assert bool((values[:, 4] >= values[:, 3]).all())
    assert float((got.risk[:, 1] + got.risk[:, 4]).max()) < 1


def test_batch_size_and_order_change_nothing(model: RiskModel, make_batch: Callable[..., FeatureBatch]) -> None:
    batch = make_batch(200, seed=4)
    whole = model.predict(batch).member
    assert np.abs(model.predict(batch, batch_size=3).member - whole).max() < 1e-6
    order = np.random.default_rng(0).permutation(200)
    assert np.abs(model.predict(take(batch, order)).member - whole[:, order]).max() < 1e-6


def test_a_step_of_the_series_changes_its_own_row_only(
    model: RiskModel, make_batch: Callable[..., FeatureBatch]
) -> None:
    batch = make_batch()
    series = batch.inputs["series"]
    values = series.values.copy()
    values[series.start[20]] = 4.0
    changed = dataclasses.replace(batch, inputs={**batch.inputs, "series": dataclasses.replace(series, values=values)})
    moved = np.abs(model.predict(changed).risk - model.predict(batch).risk).max(axis=1)
    assert moved[20] > 1e-6
    assert np.delete(moved, 20).max() == 0


def test_no_rows_give_no_risks(model: RiskModel, make_batch: Callable[..., FeatureBatch]) -> None:
    assert model.predict(take(make_batch(), np.array([], np.int64))).risk.shape == (0, 5)


def test_the_interval_is_the_jackknife_error_on_the_cloglog_scale() -> None:
    member = np.array([[[0.10]], [[0.20]], [[0.15]]])
    got = with_interval(member, (("x", 1.0),))
    scale = np.log(-np.log(1 - member[:, 0, 0]))
    middle = np.log(-np.log(1 - 0.15))
    half = 1.645 * np.sqrt(2 / 3 * ((scale - scale.mean()) ** 2).sum())
    assert got.risk.item() == pytest.approx(0.15)
    assert got.low.item() == pytest.approx(1 - np.exp(-np.exp(middle - half)))
    assert got.high.item() == pytest.approx(1 - np.exp(-np.exp(middle + half)))


def test_running_maximum_starts_afresh_with_each_outcome() -> None:
    got = running_maximum(np.array([[0.3, 0.2, 0.05, 0.1, 0.08]]), TARGETS)
    assert got.tolist() == [[0.3, 0.3, 0.05, 0.1, 0.1]]
