import dataclasses
import math

import numpy as np
import pytest

from riskpred.fit.losses import labels_on
from riskpred.fit.spline_base import (
    CauseData,
    choose_fit,
    choose_ridge,
    choose_scales,
    fit_base,
    fit_cause,
    log_likelihood,
)
from riskpred.model.layout import DAYS_PER_YEAR, GroupGrid

GRID = GroupGrid("x", ("x",), ("x", "death"), False, (4.0,), (0.0, 0.5, 1.0, 2.0, 4.0))
AT_ONCE = GroupGrid("now", ("now",), ("now",), True, (0.0,), (0.0, 1.0))


def planted(n: int, beta: tuple[float, ...], seed: int = 0, at_once: bool = False) -> CauseData:
    """People with log hazard ratios `beta`, an increasing baseline hazard and independent censoring."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, len(beta)))
    if at_once:
        cause = (rng.random(n) < 1 - np.exp(-np.exp(-1.0 + x @ beta))).astype(np.int8)
        return CauseData.of(x, labels_on(AT_ONCE, np.zeros(n), cause), 0)
    years = (rng.exponential(size=n) / np.exp(x @ beta) / 0.15) ** (1 / 1.4)
    left = rng.uniform(0.5, 6.0, n)
    cause = (years < left).astype(np.int8)
    labels = labels_on(GRID, np.minimum(years, left) * DAYS_PER_YEAR, cause)
    return CauseData.of(x, labels, 0)


def test_it_recovers_planted_hazard_ratios() -> None:
    base = fit_base(planted(20_000, (0.7, -0.4, 0.0)), ridge=1e-6)
    assert base.weight == pytest.approx([0.7, -0.4, 0.0], abs=0.04)
    assert bool((np.diff(base.baseline) > 0).all()), "the planted hazard rises"


def test_known_at_once_it_recovers_planted_coefficients() -> None:
    base = fit_base(planted(20_000, (0.7, -0.4), at_once=True), ridge=1e-6)
    assert base.weight == pytest.approx([0.7, -0.4], abs=0.05)
    assert base.baseline == pytest.approx([-1.0], abs=0.05)


@pytest.mark.parametrize("at_once", [False, True])
def test_the_optimum_is_stationary(at_once: bool) -> None:
    data = planted(500, (0.7, -0.4), at_once=at_once)
    base = fit_base(data, ridge=5.0)

    def penalised(weight: np.ndarray) -> float:
        return log_likelihood(type(base)(weight, base.baseline), data) - 2.5 * float(weight @ weight)

    best = penalised(base.weight)
    for direction in np.eye(2):
        for step in (-1e-3, 1e-3):
            assert penalised(base.weight + step * direction) < best


def test_pure_noise_gets_the_largest_penalty_and_a_signal_a_small_one() -> None:
    grid = (0.3, 3.0, 30.0, 300.0)
    noise, signal = planted(400, (0.0,) * 10, seed=3), planted(4000, (1.0, -1.0), seed=3)
    assert choose_ridge(noise, np.arange(len(noise.event)) % 3, grid) == 300.0
    assert choose_ridge(signal, np.arange(len(signal.event)) % 3, grid) < 300.0


def test_a_block_of_noise_is_shrunk_beside_one_that_tells() -> None:
    grid, fold = (0.3, 1.0, 3.0, 10.0, 30.0), np.arange(200) % 4
    data = planted(200, (1.0, -1.0, *(0.0,) * 30), seed=5)
    block = np.repeat([0, 1], [2, 30])
    one, own = choose_ridge(data, fold, grid), choose_scales(data, fold, grid, block, 3)
    assert own[1][1] < own[1][0]
    assert own[1][2] == 1.0, "a block without a column is as it was"
    choice = choose_fit(data, data, fold, grid, block, 3)
    assert (choice.ridge, choice.scales) == own
    unseen = planted(5000, (1.0, -1.0, *(0.0,) * 30), seed=6)
    scale = np.array(own[1])[block]
    apart, together = fit_cause(data.scaled(scale), own[0]), fit_cause(data, one)
    assert log_likelihood(apart, unseen.scaled(scale)) > log_likelihood(together, unseen)


def test_blocks_that_tell_alike_keep_one_penalty() -> None:
    data = planted(2000, (0.8, -0.8, 0.8, -0.8), seed=7)
    _, scales = choose_scales(data, np.arange(2000) % 4, (0.3, 3.0, 30.0), np.array([0, 0, 1, 1]), 2)
    assert scales == (1.0, 1.0)


def test_too_few_events_leave_the_baseline_alone() -> None:
    data = planted(60, (0.5, 0.5))
    keep = np.flatnonzero(data.event)[:3]
    few = dataclasses.replace(data, event=np.isin(np.arange(60), keep).astype(float))
    ridge = choose_ridge(few, np.arange(60) % 3, (1.0,))
    base = fit_cause(few, ridge)
    assert ridge == math.inf
    assert base.weight.tolist() == [0, 0]
    assert bool(np.isfinite(base.baseline).all())
    expected = (np.exp(base.baseline) * data.exposure.sum(axis=0)).sum()
    assert expected == pytest.approx(3.0, abs=0.6), "the baseline expects about the events there were"


def test_no_event_at_all_still_gives_a_finite_low_rate() -> None:
    data = planted(60, (0.5,))
    none = dataclasses.replace(data, event=np.zeros(60))
    baseline = fit_cause(none, choose_ridge(none, np.arange(60) % 3, (1.0,))).baseline
    assert bool(np.isfinite(baseline).all())
    assert (np.exp(baseline) * data.exposure.sum(axis=0)).sum() < 1


@pytest.mark.parametrize("turns", [False, True])
def test_later_follow_up_trains_only_where_it_helps(turns: bool) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(3000, 1))
    early, late = 0.05 * np.exp(0.5 * x[:, 0]), 0.3 * np.exp((-0.5 if turns else 0.5) * x[:, 0])
    first = rng.exponential(1 / early)
    time = np.where(first < 1, first, 1 + rng.exponential(1 / late))
    cause = (time < 6).astype(np.int8)
    grid = GroupGrid("x", ("x",), ("x", "death"), False, (1.0,), (0.0, 0.5, 1.0, 3.0, 6.0))
    labels = labels_on(grid, np.minimum(time, 6) * DAYS_PER_YEAR, cause)
    whole, short = (CauseData.of(x, one, 0) for one in (labels, labels.up_to(2)))
    assert short.events < whole.events
    assert choose_fit(short, whole, np.arange(3000) % 3, (1.0, 10.0)).later == (not turns)
