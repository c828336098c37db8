"""Indices and flags of drift: the textbook numbers, and chance flags nothing."""

import numpy as np
import pytest

from riskpred.score.drift_statistics import DriftLimits, psi, psi_flag, rate_flag

LIMITS = DriftLimits()


def test_psi_is_the_textbook_sum() -> None:
    before, after = np.array([0.2, 0.3, 0.5]), np.array([0.3, 0.3, 0.4])
    expected = float(np.sum((after - before) * np.log(after / before)))
    assert psi(before * 1e6, after * 1e6) == pytest.approx(expected, rel=1e-4)
    assert psi([10, 20, 30], [10, 20, 30]) == 0
    assert psi([5, 5, 0], [50, 50, 0]) == pytest.approx(0, abs=1e-12), "a cell that is empty on both sides says nothing"


@pytest.mark.parametrize(("before", "after"), [([0, 0], [1, 2]), ([1, 2], [0, 0]), ([0], [0]), ([], [])])
def test_nobody_has_no_index(before: list[int], after: list[int]) -> None:
    assert psi(before, after) is None


def test_an_emptied_cell_is_finite() -> None:
    assert 0.25 < (psi([1e6, 1e6], [2e6, 0]) or 0) < 10


@pytest.mark.parametrize("size", [1, 5, 20, 100, 1000])
def test_chance_alone_flags_nothing(size: int) -> None:
    draw = np.random.default_rng(size)
    before = draw.multinomial(2000, [0.1] * 10)
    flags = 0
    for _ in range(2000):
        after = draw.multinomial(size, [0.1] * 10)
        cells = int(((before > 0) | (after > 0)).sum())
        flags += psi_flag(psi(before, after), cells, before.sum(), size, LIMITS) is not None
    assert flags <= 10, "one in 1,000 is allowed"


def test_a_shift_is_watched_then_an_alarm() -> None:
    def flag(size: int, share: float) -> str | None:
        after = [size * share, *[size * (1 - share) / 9] * 9]
        return psi_flag(psi([1000] * 10, after), 10, 10_000, size, LIMITS)

    assert flag(10_000, 0.12) is None
    assert flag(10_000, 0.22) == "watch"
    assert flag(10_000, 0.30) == "alarm"
    assert flag(12, 0.30) is None, "twelve people may lie so by chance"


def test_a_rate_needs_a_size_that_matters_and_more_than_chance() -> None:
    def flag(before: float | None, after: float | None, n: int = 10_000) -> str | None:
        return rate_flag(before, 10_000, after, n, LIMITS)

    assert flag(0.5, 0.5) is None
    assert flag(0.5, 0.55) is None, "sure, but small"
    assert flag(0.5, 0.61) == flag(0.61, 0.5) == flag(0.0, 0.0102) == "watch"
    assert flag(0.5, 0.75) == flag(1.0, 0.3) == flag(0.0, 1.0) == "alarm"
    assert flag(0.5, 0.75, n=20) is None, "large, but not sure"
    assert flag(None, 0.5) is flag(0.5, None) is flag(0.0, 1.0, n=0) is None
    assert rate_flag(0.1, 1000, 0.2, 1000, DriftLimits(rate_watch=0.4)) is None, "limits can be set"
