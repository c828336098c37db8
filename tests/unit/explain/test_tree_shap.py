"""Shares of the trees' move from a baseline to a subject: those of shap, and those of the definition."""

from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from riskpred.explain.tree_shap import shapley
from riskpred.fit.trees import _by_sender
from riskpred.model.tensors import TabularTensors
from riskpred.model.trees import TreeTerm

NUMBERS = [SimpleNamespace(vocabulary=())] * 4


@pytest.fixture(scope="module")
def grown() -> tuple[TreeTerm, object]:
    """A term of boosted trees over four numbers, deep enough for interactions, and scikit-learn's model of them."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    rng = np.random.default_rng(1)
    values = rng.normal(size=(800, 5)).astype(np.float32).astype(np.float64)
    values[:, 4] = 0.0
    y = rng.poisson(np.exp(values[:, 0] * values[:, 1] + 0.5 * values[:, 2]))
    model = HistGradientBoostingRegressor(loss="poisson", max_depth=4, max_iter=30).fit(values, y)
    (forest,) = _by_sender([one[0].nodes for one in model._predictors], np.array([0, 5]), cause=0)
    term = TreeTerm(NUMBERS, causes=1)
    term.take(forest, torch.zeros(3), torch.ones(1))
    return term, model


def people(values: NDArray[np.float64], features: int = 4) -> TabularTensors:
    there = torch.ones(len(values), features, dtype=torch.bool)
    return TabularTensors(torch.from_numpy(values.astype(np.float32)), there, there[:, 0])


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # shap's own, at import
def test_shares_are_those_of_shap(grown: tuple[TreeTerm, object]) -> None:
    import shap

    term, model = grown
    rng = np.random.default_rng(2)
    here, origin = rng.normal(size=(2, 5, 4)).astype(np.float32).astype(np.float64)
    got = 2 * shapley(term, people(here), people(origin), features=4)[:, 0]  # leaves are halved: there are two styles
    for i in range(5):
        reference = np.append(origin[i], 0.0)[None]
        explainer = shap.TreeExplainer(model, data=reference, feature_perturbation="interventional")
        wanted = explainer.shap_values(np.append(here[i], 0.0)[None])[0, :4]
        assert got[i] == pytest.approx(wanted, abs=1e-6)


def test_shares_add_up_to_the_move(grown: tuple[TreeTerm, object]) -> None:
    term, _ = grown
    rng = np.random.default_rng(3)
    here, origin = (people(one) for one in rng.normal(size=(2, 40, 4)))
    move = (term.raw(here) - term.raw(origin)).numpy()
    assert shapley(term, here, origin, features=4).sum(axis=-1) == pytest.approx(move, abs=1e-12)


def test_the_columns_of_one_category_are_one_player() -> None:
    from riskpred.model.trees import Forest
    from tests.unit.model.test_trees import COLUMNS, stump

    term = TreeTerm(COLUMNS, causes=1)
    forest = Forest.joined([stump(1, 0.5, 0.0, 2.0, 0), stump(2, 0.5, 0.0, 5.0, 0), stump(0, 0.0, 0.0, 1.0, 0)])
    term.take(forest, torch.zeros(3), torch.ones(1))
    woman = people(np.array([[1.0, 1.0, 0.0]]), features=2)
    man = people(np.array([[-1.0, 0.0, 1.0]]), features=2)
    assert shapley(term, woman, man, features=2)[0, 0].tolist() == [1.0, -3.0]


def test_shares_are_those_of_the_definition(grown: tuple[TreeTerm, object]) -> None:
    term, _ = grown
    rng = np.random.default_rng(4)
    here, origin = rng.normal(size=(2, 4)).astype(np.float32)
    wanted = np.zeros(4)
    for order in permutations(range(4)):
        now = origin.copy()
        for feature in order:
            before = float(term.raw(people(now[None]))[0, 0])
            now[feature] = here[feature]
            wanted[feature] += (float(term.raw(people(now[None]))[0, 0]) - before) / 24
    assert shapley(term, people(here[None]), people(origin[None]), 4)[0, 0] == pytest.approx(wanted, abs=1e-9)
