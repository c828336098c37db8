"""Shares of spline, trees and residuals: what is true wins, what cannot be told stays even."""

import numpy as np
import pytest
import torch

from riskpred.fit.losses import labels_on
from riskpred.fit.stack import Shares, fit_shares
from tests.unit.fit.test_recalibrate import GRID, simulated

NOISE = torch.Generator().manual_seed(0)
BOTH = torch.tensor([True, True])


def noise_like(truth: torch.Tensor) -> torch.Tensor:
    return torch.randn(len(truth), truth.shape[1], 1, dtype=torch.float64, generator=NOISE).expand_as(truth) - 2.0


def test_the_candidate_that_is_true_gets_the_weight() -> None:
    truth, labels = simulated(6000)
    wrong = noise_like(truth)
    assert float(fit_shares(wrong, truth, wrong, labels, BOTH).trees.min()) > 0.9
    assert float(fit_shares(truth, wrong, truth, labels, BOTH).trees.max()) < 0.1
    half = truth - truth.mean(dim=0)
    assert float(fit_shares(truth - half, truth - half, truth, labels, BOTH).residual.min()) > 0.6


def test_scale_alone_gains_no_weight() -> None:
    truth, labels = simulated(6000)
    shares = fit_shares(truth, 3.0 * truth + 5.0, truth, labels, BOTH)
    mixed = shares.combined(truth, 3.0 * truth + 5.0, truth)
    assert np.corrcoef(mixed[:, 0, 0], truth[:, 0, 0])[0, 1] == pytest.approx(1.0)


def test_few_events_leave_even_shares_and_no_trees_none() -> None:
    truth, labels = simulated(6)
    shares = fit_shares(truth, noise_like(truth), truth, labels, BOTH)
    assert shares.trees.tolist() == pytest.approx([0.5, 0.5], abs=0.2)
    assert fit_shares(truth, truth, truth, labels, torch.tensor([True, False])).trees[1] == 0.0


def test_nobody_at_risk_is_no_error() -> None:
    labels = labels_on(GRID, np.full(3, np.nan), np.full(3, -1, np.int8))
    eta = torch.zeros(3, 2, 4, dtype=torch.float64)
    assert fit_shares(eta, eta, eta, labels, BOTH).trees.tolist() == [0.5, 0.5]


def test_combined_is_the_convex_hull() -> None:
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    share = Shares(torch.tensor([0.25], dtype=torch.float64), torch.tensor([0.5], dtype=torch.float64))
    assert float(share.combined(one * 4, one * 8, one * 6)) == pytest.approx(0.75 * 4 + 0.25 * 8 + 0.5 * 2)
