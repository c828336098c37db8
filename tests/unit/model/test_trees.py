"""Trees as arrays say what they were told, missing values included, and survive being written and read."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from riskpred.model.ranked_trees import RankedTrees
from riskpred.model.tensors import TabularTensors
from riskpred.model.trees import Forest, TreeTerm

COLUMNS = [SimpleNamespace(vocabulary=()), SimpleNamespace(vocabulary=("F", "M"))]
"""Columns 0 = a number, 1 and 2 = F and M; 3 is the point of time."""


def stump(column: int, threshold: float, left: float, right: float, cause: int, missing_left: bool = False) -> Forest:
    return Forest(
        np.array([column, -1, -1]),
        np.array([threshold, 0.0, 0.0]),
        np.array([missing_left, False, False]),
        np.array([1, 0, 0]),
        np.array([2, 0, 0]),
        np.array([0.0, left, right]),
        np.array([0]),
        np.array([cause]),
        np.array([column == 3]),
    )


def tabular() -> TabularTensors:
    """Three people: 1.0 F; 5.0 M; number missing, F."""
    values = torch.tensor([[1.0, 1.0, 0.0], [5.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    observed = torch.tensor([[True, True], [True, True], [False, True]])
    return TabularTensors(values, observed, torch.ones(3, dtype=torch.bool))


FOREST = Forest.joined(
    [stump(0, 2.0, -1.0, 1.0, cause=0), stump(2, 0.5, 0.0, 10.0, cause=1), stump(3, 0.5, 3.0, 4.0, 1)]
)


def test_each_cause_gets_its_own_trees_at_every_point_of_time() -> None:
    term = TreeTerm(COLUMNS, causes=2)
    term.take(FOREST, torch.zeros(6), torch.ones(2))
    # The number is missing in the third row: right. The last tree asks for the point of time: 0 left, 1 and 2 right.
    wanted = [[-1, -1, -1, 3, 4, 4], [1, 1, 1, 13, 14, 14], [1, 1, 1, 3, 4, 4]]
    assert term(tabular()).tolist() == wanted


def test_mean_and_weight_apply_and_an_explanation_may_give_the_output() -> None:
    term = TreeTerm(COLUMNS, causes=2)
    term.take(FOREST, torch.full((6,), 1.0), torch.tensor([0.5, 0.0]))
    assert term(tabular())[0].tolist() == [-1.0, -1.0, -1.0, 0.0, 0.0, 0.0]
    given = TabularTensors(*(getattr(tabular(), name) for name in ("values", "observed", "present")), torch.ones(3, 6))
    assert term(given).tolist() == [[0.0] * 6] * 3


def test_missing_goes_where_it_went_in_training() -> None:
    term = TreeTerm(COLUMNS, causes=1)
    term.take(stump(0, 2.0, -1.0, 1.0, 0, missing_left=True), torch.zeros(3), torch.ones(1))
    assert term(tabular())[:, 0].tolist() == [-1.0, 1.0, -1.0]


def test_no_trees_add_nothing() -> None:
    assert not TreeTerm(COLUMNS, causes=2)(tabular()).any()


def test_a_term_of_any_size_reads_back() -> None:
    term, other = TreeTerm(COLUMNS, causes=2), TreeTerm(COLUMNS, causes=2)
    term.take(FOREST, torch.rand(6), torch.rand(2))
    other.load_state_dict(term.state_dict())
    assert torch.equal(other(tabular()), term(tabular()))


def test_new_trees_are_asked_once_they_are_taken_or_read() -> None:
    # The prepared form of the trees is kept between calls: it must go when the trees do.
    term, other = TreeTerm(COLUMNS, causes=2), TreeTerm(COLUMNS, causes=2)
    term.take(FOREST, torch.zeros(6), torch.ones(2))
    other.take(stump(0, 2.0, -7.0, 7.0, cause=0), torch.zeros(6), torch.ones(2))
    assert not torch.equal(other(tabular()), term(tabular()))
    other.load_state_dict(term.state_dict())
    assert torch.equal(other(tabular()), term(tabular()))
    other.take(stump(0, 2.0, -7.0, 7.0, cause=0), torch.zeros(6), torch.ones(2))
    assert other(tabular())[:, 0].tolist() == [-7.0, 7.0, 7.0]


def test_it_says_what_scikit_learn_says() -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor

    from riskpred.fit.trees import _by_sender

    rng = np.random.default_rng(0)
    values = rng.normal(size=(600, 4)).astype(np.float32).astype(np.float64)
    values[rng.random(values.shape) < 0.2] = np.nan
    values[:, 3] = rng.integers(0, 3, 600)
    y = rng.poisson(np.exp(np.nan_to_num(values[:, 0]) * (values[:, 3] - 1)))
    model = HistGradientBoostingRegressor(loss="poisson", max_depth=3, max_iter=20).fit(values, y)
    (forest,) = _by_sender([one[0].nodes for one in model._predictors], np.array([0, 4]), cause=0)
    wanted = model._raw_predict(values)[:, 0] - float(np.ravel(model._baseline_prediction)[0])
    got = 2 * RankedTrees.of(forest, columns=3, causes=1, points=3).predict(values[:, :3])  # two styles halve leaves
    assert got[np.arange(600), values[:, 3].astype(int)] == pytest.approx(wanted, abs=1e-9)
