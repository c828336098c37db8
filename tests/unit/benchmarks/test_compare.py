"""Nadeau-Bengio by hand, and the peer that inner folds choose."""

from types import SimpleNamespace

import numpy as np
import pytest

from tests.benchmarks.accuracy.compare import chosen_peers, nadeau_bengio, paired
from tests.benchmarks.accuracy.results import Scores


def test_nadeau_bengio_equals_a_value_by_hand() -> None:
    # Mean .02; sample variance ((-.01)^2 + .01^2 + 0) / 2 = .0001; test : train = 1 : 4.
    # (1/3 + 1/4) x .0001 = 5.8333e-5, root .0076376; t(.975; 2) = 4.302653, t(.95; 2) = 2.919986.
    found = nadeau_bengio(np.array([0.01, 0.03, 0.02]), 0.25)
    assert found.mean == pytest.approx(0.02)
    assert found.high - found.mean == pytest.approx(0.0076376 * 4.302653, rel=1e-4)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)
    assert found.mean - found.below == pytest.approx(0.0076376 * 2.919986, rel=1e-4)
    assert found.folds == 3


def test_the_interval_is_wider_than_that_of_independent_folds() -> None:
    values = np.random.default_rng(1).normal(0.002, 0.01, 15)
    naive = values.std(ddof=1) / np.sqrt(15)
    found = nadeau_bengio(values, 0.25)
    assert (found.high - found.low) / 2 == pytest.approx(2.144787 * naive * np.sqrt(1 + 15 * 0.25), rel=1e-5)


def test_one_fold_has_a_difference_but_no_interval() -> None:
    found = nadeau_bengio(np.array([0.01]), 0.25)
    assert found.mean == 0.01
    assert np.isnan(found.low)


def test_only_folds_that_both_have_are_paired() -> None:
    ours = Scores({(0, 0): {"rank": 0.8}, (0, 1): {"rank": 0.7}}, {(0, 0): (80, 20), (0, 1): (80, 20)})
    theirs = Scores({(0, 1): {"rank": 0.6}, (0, 2): {"rank": 0.1}}, {(0, 1): (80, 20), (0, 2): (80, 20)})
    found = paired(ours, theirs, "rank")
    assert (found.mean, found.folds) == (pytest.approx(0.1), 1)


def test_the_chosen_peer_is_the_best_of_the_inner_folds_for_each_metric() -> None:
    inner = {"spline_cox": (0.76, 0.0365), "xgboost_cox": (0.77, 0.0370), "age_sex": (0.99, 0.001)}
    results = SimpleNamespace(inner=lambda peer, outcome: inner.get(peer))
    # age_sex is the floor, not a peer; the peer with the best C need not have the best Brier score.
    assert chosen_peers(results, "death") == {"rank": "xgboost_cox", "error": "spline_cox"}  # type: ignore[arg-type]
