import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from riskpred.fit.losses import labels_on, negative_log_likelihood
from riskpred.model.layout import DAYS_PER_YEAR, GroupGrid

CUTS = (0.0, 0.5, 2.0, 5.0)
TIMED = GroupGrid("x", ("x",), ("x", "death"), False, (5.0,), CUTS)
AT_ONCE = GroupGrid("now", ("now",), ("now",), True, (0.0,), (0.0, 1.0))
ETA = torch.tensor([[-1.0, -2.0, -0.5], [-3.0, -1.5, -2.5]], dtype=torch.float64)


def hazard(cause: int, years: float) -> float:
    return math.exp(float(ETA[cause, int(np.searchsorted(CUTS, years, side="left")) - 1]))


@pytest.mark.parametrize(("years", "cause"), [(0.3, 0), (0.3, 1), (1.7, 2), (2.0, 1), (4.9, 0), (4.9, 2)])
def test_timed_loss_is_the_integral_of_the_rates_minus_the_log_rate_at_the_event(years: float, cause: int) -> None:
    labels = labels_on(TIMED, np.array([years * DAYS_PER_YEAR]), np.array([cause], np.int8))
    got = negative_log_likelihood(ETA[None], labels).item()
    inside = [cut for cut in CUTS[1:-1] if cut < years]
    wanted = sum(quad(lambda t, j=j: hazard(j, t), 0, years, points=inside)[0] for j in range(2))
    wanted -= np.log(hazard(cause - 1, years)) if cause else 0.0
    assert got == pytest.approx(wanted, rel=1e-6)


def test_an_event_after_the_last_cut_is_censored_there() -> None:
    late = labels_on(TIMED, np.array([7.0 * DAYS_PER_YEAR]), np.array([1], np.int8))
    censored = labels_on(TIMED, np.array([5.0 * DAYS_PER_YEAR]), np.array([0], np.int8))
    one, other = (negative_log_likelihood(ETA[None], labels) for labels in (late, censored))
    assert torch.equal(one, other)


def test_known_at_once_is_bernoulli_with_one_minus_exp() -> None:
    labels = labels_on(AT_ONCE, np.zeros(2), np.array([0, 1], np.int8))
    eta = torch.full((2, 1, 1), -0.7, dtype=torch.float64)
    yes = 1 - np.exp(-np.exp(-0.7))
    assert negative_log_likelihood(eta, labels).tolist() == pytest.approx([-np.log(1 - yes), -np.log(yes)])


@pytest.mark.parametrize("grid", [TIMED, AT_ONCE])
def test_a_row_outside_the_risk_set_costs_nothing_and_moves_nothing(grid: GroupGrid) -> None:
    labels = labels_on(grid, np.array([np.nan, 300.0]), np.array([-1, 1], np.int8))
    eta = torch.zeros(2, len(grid.causes), grid.intervals, dtype=torch.float64, requires_grad=True)
    loss = negative_log_likelihood(eta, labels)
    loss.sum().backward()
    assert loss[0].item() == 0
    assert bool((eta.grad[0] == 0).all())
    assert float(eta.grad[1].abs().max()) > 0
