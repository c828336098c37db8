"""Sets of outcomes known at once, ordered grades and exclusive classes: likelihood, base, calibration, peer."""

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from riskpred.config.outcomes import RiskGroup
from riskpred.fit.losses import labels_on, negative_log_likelihood
from riskpred.fit.peer import _fit_classes, _fit_grades
from riskpred.fit.recalibrate import _expected, fit_line, for_the_mean
from riskpred.fit.recalibrate_site import _of_the_mean
from riskpred.fit.spline_base import CauseData, fit_cause
from riskpred.model.incidence import group_risks, rates_behind
from riskpred.model.layout import GroupGrid, Layout
from riskpred.model.risk import with_interval

GRADES = GroupGrid("dr", ("d1", "d2", "d3"), ("d1", "d2", "d3"), True, (0.0,), (0.0, 1.0), ordered=True)
CLASSES = GroupGrid("kind", ("a", "b"), ("a", "b"), True, (0.0,), (0.0, 1.0))
SETS = pytest.mark.parametrize("grid", [GRADES, CLASSES], ids=["grades", "classes"])


def labels(grid: GroupGrid, cause: NDArray[np.int8]):  # type: ignore[no-untyped-def]
    return labels_on(grid, np.zeros(len(cause)), cause)


def chances(grid: GroupGrid, eta: torch.Tensor) -> NDArray[np.float64]:
    """P(answer = 0, 1, ..., J). Shape: (N, J, 1) -> (N, J + 1)."""
    risk = group_risks(eta, grid)[..., 0].numpy()
    if grid.ordered:
        ends = np.concatenate([np.ones((len(risk), 1)), risk, np.zeros((len(risk), 1))], axis=1)
        return ends[:, :-1] - ends[:, 1:]
    return np.concatenate([1 - risk.sum(axis=1, keepdims=True), risk], axis=1)


def drawn(grid: GroupGrid, eta: torch.Tensor, seed: int) -> NDArray[np.int8]:
    below = chances(grid, eta).cumsum(axis=1)
    return (np.random.default_rng(seed).random(len(below))[:, None] > below).sum(axis=1).astype(np.int8)


def random_rates(grid: GroupGrid, rows: int, spread: float = 1.0, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(-0.5, spread, (rows, len(grid.causes), 1)))


@SETS
def test_the_loss_is_minus_the_log_of_the_chance_of_what_came(grid: GroupGrid) -> None:
    eta = random_rates(grid, 200)
    cause = (np.arange(200) % (len(grid.causes) + 1)).astype(np.int8)
    got = negative_log_likelihood(eta, labels(grid, cause)).numpy()
    assert got == pytest.approx(-np.log(chances(grid, eta)[np.arange(200), cause]), rel=1e-9)
    outside = labels(grid, np.full(3, -1, np.int8))
    assert negative_log_likelihood(eta[:3], outside).tolist() == [0, 0, 0]


def test_a_grade_is_never_likelier_than_a_lower_one_and_classes_never_pass_one() -> None:
    eta = random_rates(GRADES, 500, 4.0)
    risk = group_risks(eta, GRADES)[..., 0]
    assert bool((risk.diff(dim=1) <= 0).all())
    assert float(group_risks(random_rates(CLASSES, 500, 4.0), CLASSES).sum(dim=1).max()) <= 1 + 1e-12


@SETS
def test_risks_lead_back_to_their_rates(grid: GroupGrid) -> None:
    eta = random_rates(grid, 100)
    assert torch.allclose(rates_behind(group_risks(eta, grid), grid), eta)
    several = torch.stack([eta, eta + 0.3])
    mean = group_risks(several, grid).mean(dim=0)
    assert torch.allclose(group_risks(_of_the_mean(several, grid), grid), mean)


@SETS
def test_the_base_finds_the_rates_that_made_the_answers(grid: GroupGrid) -> None:
    x = np.random.default_rng(1).normal(size=(6000, 1))
    slope = np.linspace(0.8, -0.4, len(grid.causes))
    eta = torch.from_numpy(-0.6 + x[:, :, None] * slope[None, :, None])
    given = labels(grid, drawn(grid, eta, 2))
    for j in range(len(grid.causes)):
        base = fit_cause(CauseData.of(x, given, j), 0.1)
        # Of classes the moment is taken for that of everyone, which costs a little slope; calibration puts it right.
        assert base.weight[0] == pytest.approx(slope[j], abs=0.25 if grid.classes else 0.12)


@SETS
def test_calibration_takes_back_a_shift_and_a_stretch(grid: GroupGrid) -> None:
    true = random_rates(grid, 8000, 0.8)
    given = labels(grid, drawn(grid, true, 3))
    shown = 1.6 * true + 0.7
    line = fit_line(grid, shown, given)
    before, after = (float(negative_log_likelihood(eta, given).mean()) for eta in (shown, line(shown)))
    perfect = float(negative_log_likelihood(true, given).mean())
    assert after < perfect + 0.003 < before
    wanted = _expected(line(shown), given)
    steep = for_the_mean(line, torch.full((len(grid.causes),), 1.3, dtype=torch.float64), shown, given)
    assert torch.allclose(_expected(steep(shown), given), wanted, rtol=1e-6)


def test_an_em_step_never_lowers_the_likelihood_of_classes() -> None:
    true = random_rates(CLASSES, 3000, 1.0)
    given = labels(CLASSES, drawn(CLASSES, true, 4))
    line = fit_line(CLASSES, true, given)
    exact = float(negative_log_likelihood(line(true), given).sum())
    for a, b in itertools.product((-0.05, 0.05), repeat=2):
        moved = line(true) + torch.tensor([a, b], dtype=torch.float64)[:, None]
        assert float(negative_log_likelihood(moved, given).sum()) > exact


def test_intervals_of_grades_do_not_cross() -> None:
    layout = Layout((GRADES,), GRADES.outcomes)
    eta = torch.stack([random_rates(GRADES, 300, 1.5, seed) for seed in range(4)])
    member = group_risks(eta, GRADES)[..., 0].numpy()
    found = with_interval(member, layout.targets, np.array([1.0, 3.0, 1.0]), layout.ladders)
    for bound in (found.low, found.risk, found.high):
        assert (np.diff(bound, axis=1) <= 0).all()
    assert (found.low <= found.risk).all()
    assert (found.risk <= found.high).all()


@SETS
def test_the_peer_of_a_set_knows_its_form(grid: GroupGrid) -> None:
    group = RiskGroup(grid.name, grid.outcomes, True, (0.0,), 0, grid.ordered)
    x = np.random.default_rng(5).normal(size=(4000, 1))
    eta = torch.from_numpy(-0.5 + x[:, :, None] * np.linspace(0.9, 0.2, len(grid.causes))[None, :, None])
    cause, folds = drawn(grid, eta, 6), np.arange(4000) % 3
    part = (_fit_grades if grid.ordered else _fit_classes)(x, cause, group, folds, (1.0, 0.1))
    risk, true = part.risks(x), group_risks(eta, grid)[..., 0].numpy()
    assert np.abs(risk - true).mean() < 0.04
    assert (np.diff(risk, axis=1) <= 0).all() if grid.ordered else (risk.sum(axis=1) <= 1 + 1e-12).all()
