"""Resamples draw people with all their rows, repeatably."""

import numpy as np
import pytest

from riskpred.evaluate.intervals import interval, resampled_counts, resamples_for


def test_a_subject_is_drawn_with_all_its_rows():
    subject = np.array([7, 7, 7, 3, 5, 5])
    for count in resampled_counts(subject, 50, seed=1):
        assert count[0] == count[1] == count[2]
        assert count[4] == count[5]
        assert count[0] + count[3] + count[4] == 3


def test_the_seed_decides():
    subject = np.arange(100)
    one, same, other = (np.stack(list(resampled_counts(subject, 5, seed))) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one[0], one[1])


def test_the_interval_of_a_mean_is_as_wide_as_theory_says():
    values = np.random.default_rng(1).normal(size=500)
    drawn = np.array([np.average(values, weights=count) for count in resampled_counts(np.arange(500), 400, 1)])
    low, high = interval(drawn)
    assert high - low == pytest.approx(2 * 1.645 / np.sqrt(500), rel=0.15)


def test_no_interval_where_many_resamples_have_no_value():
    assert interval(np.r_[np.arange(94.0), [np.nan] * 6]) is None
    assert interval(np.r_[np.arange(96.0), [np.nan] * 4]) is not None


def test_the_interval_of_a_distance_is_shifted_back_by_what_resampling_adds():
    drawn = np.random.default_rng(2).normal(0.03, 0.004, 1_000)  # on the sample itself: .02
    assert interval(drawn)[0] > 0.02
    low, high = interval(drawn, 0.02)
    assert (low, high) == pytest.approx((0.02 - 1.645 * 0.004, 0.02 + 1.645 * 0.004), abs=5e-4)
    assert interval(drawn, 0.001)[0] == 0.0  # no distance is below 0


def test_large_splits_get_fewer_resamples():
    assert [resamples_for(n) for n in (0, 1_000, 10_000, 20_000, 10**7)] == [200, 200, 200, 100, 50]
