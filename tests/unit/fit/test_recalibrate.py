from dataclasses import replace

import numpy as np
import pytest
import torch

from riskpred.fit.losses import GroupLabels, labels_on
from riskpred.fit.recalibrate import Line, blended, fit_line, for_the_mean, stretch_for_the_mean
from riskpred.model.calibration import bent
from riskpred.model.layout import DAYS_PER_YEAR, GroupGrid

GRID = GroupGrid("x", ("x",), ("x", "death"), False, (4.0,), (0.0, 0.5, 1.0, 2.0, 4.0))
AT_ONCE = GroupGrid("now", ("now",), ("now",), True, (0.0,), (0.0, 1.0))


def simulated(n: int, seed: int = 0) -> tuple[torch.Tensor, GroupLabels]:
    """True log-rates per year, constant in time, of two causes, and what followed."""
    rng = np.random.default_rng(seed)
    eta = np.stack([-2.0 + 0.8 * rng.normal(size=n), -2.5 + 0.5 * rng.normal(size=n)], axis=1)
    times = rng.exponential(size=(n, 2)) / np.exp(eta)
    left = rng.uniform(1, 6, n)
    years = np.minimum(times.min(axis=1), left)
    cause = np.where(times.min(axis=1) < left, times.argmin(axis=1) + 1, 0).astype(np.int8)
    return torch.from_numpy(np.repeat(eta[:, :, None], 4, axis=2)), labels_on(GRID, years * DAYS_PER_YEAR, cause)


def test_it_undoes_a_planted_miscalibration() -> None:
    truth, labels = simulated(8_000)
    # Predictions twice as spread out as the truth, and too high, for cause 1; for cause 2 too low, the more the later.
    shown = truth.clone()
    shown[:, 0] = 2.0 * truth[:, 0] + 1.0
    shown[:, 1] = truth[:, 1] - 0.5 - 0.6 * GRID.time_basis[2]
    map_ = fit_line(GRID, shown, labels)
    assert map_.slope.mean(dim=1).tolist() == pytest.approx([0.5, 1.0], abs=0.12)
    error = (map_(shown) - truth).abs().mean(dim=(0, 2))
    assert error.tolist() == pytest.approx([0, 0], abs=0.1)


def test_it_undoes_a_spread_that_is_right_early_and_wrong_late() -> None:
    truth, labels = simulated(20_000)
    steeper = torch.tensor([1.0, 1.5, 2.0], dtype=torch.float64) @ GRID.time_basis
    centre = truth.mean(dim=(0, 2), keepdim=True)
    shown = centre + steeper * (truth - centre)
    map_ = fit_line(GRID, shown, labels)
    assert map_.slope[0].tolist() == pytest.approx([1.0, 1 / 1.5, 0.5], abs=0.15)
    assert float((map_(shown) - truth).abs().mean()) < 0.4 * float((shown - truth).abs().mean())


@pytest.mark.parametrize("grid", [GRID, AT_ONCE], ids=["timed", "known at once"])
def test_it_undoes_a_curve(grid: GroupGrid) -> None:
    rng = np.random.default_rng(2)
    shown = torch.from_numpy(np.repeat(rng.normal(-1.5, 1.0, size=(20_000, 1, 1)), grid.intervals, axis=2))
    # High rates wear off: above -1.5 the truth rises half as fast as below.
    truth = torch.where(shown > -1.5, -1.5 + 0.6 * (shown + 1.5), -1.5 + 1.2 * (shown + 1.5))
    times = rng.exponential(size=20_000) / np.exp(truth[:, 0, 0].numpy())
    years, cause = np.minimum(times, 4.0), (times < (1.0 if grid.known_at_once else 4.0)).astype(np.int8)
    timed = replace(grid, causes=("x",))
    map_ = fit_line(timed, shown, labels_on(timed, years * DAYS_PER_YEAR, cause))
    assert map_.bend[0] < -0.2
    assert float((map_(shown) - truth).abs().mean()) < 0.07


def test_however_bent_a_map_rises() -> None:
    eta = torch.linspace(-40.0, 40.0, 801, dtype=torch.float64)[:, None, None]
    one = torch.ones(1, 1, dtype=torch.float64)
    for bend in (-3.0, -0.3, 0.0, 0.3, 3.0):
        assert bool((bent(eta, bend * one, -2.0 * one, 0.3 * one).diff(dim=0) > 0).all())


def test_known_at_once_it_undoes_a_planted_miscalibration() -> None:
    rng = np.random.default_rng(1)
    truth = torch.from_numpy(rng.normal(-1.0, 0.8, size=(30_000, 1, 1)))
    cause = (rng.random(30_000) < -np.expm1(-np.exp(truth[:, 0, 0].numpy()))).astype(np.int8)
    map_ = fit_line(AT_ONCE, 1.5 * truth + 1.0, labels_on(AT_ONCE, np.zeros(30_000), cause))
    assert float((map_(1.5 * truth + 1.0) - truth).abs().mean()) < 0.05


def test_a_handful_of_events_leaves_the_map_near_the_identity() -> None:
    truth, labels = simulated(12)
    shown = 3.0 * truth + 6.0
    few, many = fit_line(GRID, shown, labels), fit_line(GRID, *_repeat(shown, labels, 200))
    assert float((few.slope.log().abs()).max()) < float(many.slope.log().abs().max())
    assert float((few(shown) - shown).abs().mean()) < float((many(shown) - shown).abs().mean())


def test_no_row_in_the_risk_set_gives_the_identity() -> None:
    labels = labels_on(GRID, np.full(3, np.nan), np.full(3, -1, np.int8))
    eta = torch.randn(3, 2, 4, dtype=torch.float64)
    assert torch.equal(fit_line(GRID, eta, labels)(eta), eta)


def noisy_members(truth: torch.Tensor) -> torch.Tensor:
    """Five members: the truth and, for the first cause, noise of their own. Shape: (5, N, J, K)."""
    noise = torch.randn(5, *truth.shape[:2], 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return truth + torch.tensor([0.6, 0.0])[: truth.shape[1], None] * noise


def test_the_map_for_the_mean_is_right_for_the_mean_of_risks() -> None:
    truth, labels = simulated(8_000)
    members = noisy_members(truth)
    own, others = members[0], members[1:].mean(0)
    stretch = stretch_for_the_mean(own, others, labels.inside, members=5)
    # Cause 1: V = .64 + .36, s^2 = .36, so 1 / (1 - .8 x .36); cause 2 has no noise.
    assert stretch.tolist() == pytest.approx([1 / (1 - 0.8 * 0.36), 1.0], abs=0.03)
    one = fit_line(GRID, own, labels)
    got = for_the_mean(one, stretch, own, labels)

    # As many events are expected as happened ...
    rate = torch.stack([got(member) for member in members]).exp().mean(0)
    weight = labels.exposure[:, None, :] * labels.widths_years
    expected, happened = (weight * rate).sum(dim=(0, 2)), labels.event.sum(dim=0)
    assert (expected / happened).tolist() == pytest.approx([1, 1], abs=0.02)
    # ... and calibrating the averaged risks once more finds little to mend, where the map of one member leaves a slope.
    assert fit_line(GRID, rate.log(), labels).slope.mean(dim=1).tolist() == pytest.approx([1, 1], abs=0.1)
    flat = torch.stack([one(member) for member in members]).exp().mean(0).log()
    assert float(fit_line(GRID, flat, labels).slope[0].mean()) > 1.15


def decaying(n: int) -> tuple[torch.Tensor, GroupLabels]:
    """Log-rates of one cause whose effect wears off, and what followed. Shape: (N, 1, 4)."""
    rng = np.random.default_rng(3)
    effect = torch.from_numpy(rng.normal(size=(n, 1, 1))) * torch.tensor([1.2, 1.0, 0.7, 0.4], dtype=torch.float64)
    truth, widths = effect - 1.5, torch.from_numpy(GRID.widths_years)
    spent = torch.cumsum(truth.exp() * widths, dim=-1)[:, 0].numpy()
    drawn = rng.exponential(size=n)
    k = (spent < drawn[:, None]).sum(axis=1)
    at = np.minimum(k, 3)
    before = np.concatenate([np.zeros((n, 1)), spent], axis=1)[np.arange(n), at]
    rate = truth.exp()[:, 0].numpy()[np.arange(n), at]
    years = np.where(k < 4, np.asarray(GRID.cuts_years)[at] + (drawn - before) / rate, 4.0)
    grid = replace(GRID, causes=("x",))
    return truth, labels_on(grid, years * DAYS_PER_YEAR, (k < 4).astype(np.int8))


def test_the_map_for_the_mean_expects_the_events_of_each_time() -> None:
    truth, labels = decaying(20_000)
    noise = torch.randn(5, len(truth), 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    members = truth + 0.5 * noise
    one = fit_line(replace(GRID, causes=("x",)), members[0], labels)
    got = for_the_mean(one, torch.tensor([1.25]), members[0], labels)
    weight = labels.exposure[:, None, :] * labels.widths_years

    def expected(line: Line) -> torch.Tensor:
        return (weight * line(members[0]).exp()).sum(dim=0)[0] @ GRID.time_basis.T

    assert (expected(got) / expected(one)).tolist() == pytest.approx([1, 1, 1], abs=1e-6)
    rate = torch.stack([got(member) for member in members]).exp().mean(0)
    happened = torch.stack([(labels.event[:, 0] * (labels.interval == k)).sum() for k in range(4)])
    ratio = ((weight * rate).sum(dim=0)[0] @ GRID.time_basis.T) / (happened @ GRID.time_basis.T)
    assert ratio.tolist() == pytest.approx([1, 1, 1], abs=0.04)


def test_a_blend_of_two_maps_expects_what_both_do() -> None:
    truth, labels = decaying(2_000)
    grid = replace(GRID, causes=("x",))
    old = fit_line(grid, truth, labels)
    new = replace(old, slope=0.7 * old.slope, bend=old.bend - 0.6)
    weight = torch.tensor([0.4], dtype=torch.float64)
    got = blended(new, old, weight, truth, labels)
    weights = labels.exposure[:, None, :] * labels.widths_years
    new_, old_, got_ = ((weights * line(truth).exp()).sum() for line in (new, old, got))
    assert float(got_) == pytest.approx(float(0.4 * new_ + 0.6 * old_), rel=1e-6)
    assert torch.equal(blended(new, old, 0 * weight, truth, labels).intercept, old.intercept)


def test_known_at_once_the_map_for_the_mean_expects_as_many_as_there_are() -> None:
    rng = np.random.default_rng(1)
    truth = torch.from_numpy(rng.normal(-1.0, 0.8, size=(30_000, 1, 1)))
    cause = (rng.random(30_000) < -np.expm1(-np.exp(truth[:, 0, 0].numpy()))).astype(np.int8)
    labels = labels_on(AT_ONCE, np.zeros(30_000), cause)
    members = noisy_members(truth)
    one = fit_line(AT_ONCE, members[0], labels)
    stretch = stretch_for_the_mean(members[0], members[1:].mean(0), labels.inside, members=5)
    got = for_the_mean(one, stretch, members[0], labels)
    risk = -torch.expm1(-torch.stack([got(member) for member in members]).exp()).mean()
    assert float(risk) == pytest.approx(cause.mean(), rel=0.01)


def _repeat(shown: torch.Tensor, labels: GroupLabels, times: int) -> tuple[torch.Tensor, GroupLabels]:
    index = torch.arange(len(shown)).repeat(times)
    return shown[index], labels.take(index)
