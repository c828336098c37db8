"""Intervals of the right width cover; too narrow ones do not."""

import numpy as np
import pytest

from riskpred.evaluate.censoring import Undefined
from riskpred.evaluate.coverage import grouped_coverage, rank_agreement, true_coverage


def people(shift, seed=1, size=4_000):
    generator = np.random.default_rng(seed)
    truth = generator.beta(2, 10, size)
    happened = (generator.random(size) < truth).astype(np.float64)
    return np.clip(truth + shift, 0, 1), happened, np.ones(size)


def test_exact_risks_with_agreeing_members_are_covered_nine_times_in_ten():
    shares = []
    for seed in range(100):
        risk, happened, weight = people(0.0, seed)
        shares.append(grouped_coverage(risk, np.stack([risk, risk]), happened, weight))
    assert np.mean(shares) == pytest.approx(0.9, abs=0.02)


def test_wrong_risks_are_covered_only_when_members_disagree_enough():
    risk, happened, weight = people(0.08)
    sure = np.stack([risk, risk])
    unsure = np.stack([risk - 0.1, risk + 0.1])  # a jackknife error of .1
    assert grouped_coverage(risk, sure, happened, weight) < 0.4
    assert grouped_coverage(risk, unsure, happened, weight) > 0.9


def test_fewer_people_than_groups_are_refused():
    few = np.full(19, 0.1)
    with pytest.raises(Undefined, match="fewer than 20"):
        grouped_coverage(few, np.stack([few, few]), few * 0, few * 0 + 1)


def test_true_coverage_and_rank_agreement_by_hand():
    truth = np.array([0.1, 0.2, 0.3, 0.4])
    assert true_coverage(truth, truth - 0.05, np.array([0.15, 0.19, 0.3, 0.5])) == 0.75
    assert rank_agreement(np.array([0.1, 0.2, 0.4, 0.3]), truth) == pytest.approx(0.8)
    with pytest.raises(Undefined, match="equal"):
        rank_agreement(np.full(4, 0.1), truth)
