"""The factor of an interval: 1 where members tell their own error, larger where they are too sure."""

import numpy as np
import pytest

from riskpred.fit.widen import factors, smallest


def planted(error: float, n: int = 20_000) -> list[float]:
    """What groups need when members differ by .1 and the risks of a group are off by `error`, both on the log scale."""
    rng = np.random.default_rng(0)
    risk = np.sort(rng.uniform(0.02, 0.4, n))
    group = np.repeat(np.arange(20), n // 20)
    shown = risk * np.exp(error * rng.normal(size=20))[group]
    # Five members around their mean: their jackknife error is (R - 1) / sqrt(R) = 1.79 times their SD.
    member = shown * np.exp(0.1 / 1.79 * rng.normal(size=(5, 20))[:, group])
    return factors(shown, member, (rng.random(n) < risk).astype(float), np.ones(n))


def test_members_that_tell_their_error_need_no_widening() -> None:
    assert smallest(planted(0.0)) == 1.0


def test_risks_that_are_off_by_more_than_members_differ_are_widened() -> None:
    assert smallest(planted(0.4)) > 2.0


def test_the_smallest_factor_covers_nine_groups_of_ten() -> None:
    assert smallest([0.0] * 18 + [5.0, 6.0]) == 1.0
    assert smallest([0.0] * 17 + [1.5, 5.0, 6.0]) == pytest.approx(1.5)
    assert smallest([]) == 1.0
