"""Exponentials in plain arithmetic against the library's, over the whole range and at its ends."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from riskpred.model.vector_math import exp_rows, share_lost_rows, silu_added, silu_rows, softplus_rows

WIDE = np.concatenate([np.linspace(-707.9, 709.7, 20_001), np.linspace(-1.0, 1.0, 20_001), [0.0, -0.0, 1e-300]])


def filled(loop: object, x: NDArray[np.float64]) -> NDArray[np.float64]:
    result = np.zeros_like(x)
    loop(x, result)  # type: ignore[operator]
    return result


def test_exp_is_exact_to_the_last_bits() -> None:
    assert np.abs(filled(exp_rows, WIDE) / np.exp(WIDE) - 1.0).max() < 5e-16


def test_exp_beyond_its_range_says_so() -> None:
    got = filled(exp_rows, np.array([np.nan, np.inf, 800.0, -np.inf, -800.0]))
    assert np.isnan(got[0])
    assert got[1:].tolist() == [np.inf, np.inf, 0.0, 0.0]


def test_softplus_is_torchs() -> None:
    x = np.concatenate([WIDE, [np.inf, -np.inf, 19.999, 20.001]])
    wanted = torch.nn.functional.softplus(torch.from_numpy(x)).numpy()
    assert filled(softplus_rows, x) == pytest.approx(wanted, rel=1e-15, abs=1e-15)
    assert np.isnan(filled(softplus_rows, np.array([np.nan]))).all()


def test_silu_is_torchs() -> None:
    x = WIDE.copy()
    silu_rows(x)
    assert x == pytest.approx(torch.nn.functional.silu(torch.from_numpy(WIDE)).numpy(), rel=1e-15, abs=1e-300)
    bad = np.array([np.nan])
    silu_rows(bad)
    assert np.isnan(bad).all()


def test_the_share_lost_is_exact_for_small_and_large_totals() -> None:
    total = np.concatenate([np.logspace(-300, 3, 20_001), np.linspace(0.3, 0.4, 10_001)])
    assert filled(share_lost_rows, total) == pytest.approx(-np.expm1(-total) / total, rel=1e-15)
    assert filled(share_lost_rows, np.array([0.0, np.inf])).tolist() == [1.0, 0.0]
    assert np.isnan(filled(share_lost_rows, np.array([np.nan]))).all()


def test_silu_of_float32_is_torchs() -> None:
    x = np.concatenate([np.linspace(-200.0, 200.0, 40_001), [0.0, np.inf, 1e30, -1e20]]).astype(np.float32)
    bias = np.array([[0.0], [0.5]], np.float32)
    wanted = torch.nn.functional.silu(torch.from_numpy(x + bias)).numpy()
    got = np.stack([x, x])[:, None].copy()
    silu_added(got, bias)
    assert got[:, 0] == pytest.approx(wanted, rel=1e-6, abs=1e-14)
    bad = np.full((1, 1, 3), np.nan, np.float32)
    silu_added(bad, np.zeros((1, 1), np.float32))
    assert np.isnan(bad).all()
