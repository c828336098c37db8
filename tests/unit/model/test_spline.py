from types import SimpleNamespace

import numpy as np
import pytest
import torch

from riskpred.errors import ShapeMismatch
from riskpred.model.spline import SplineDesign, knot_quantiles, restricted_cubic
from riskpred.model.tensors import TabularTensors

NUMERIC, SEX = SimpleNamespace(vocabulary=()), SimpleNamespace(vocabulary=("F", "M"))


def by_hand(x: float, t: list[float]) -> list[float]:
    """Harrell 2015, equation 2.25, divided by (t_k - t_1)^2, written out for one value."""

    def cube(u: float) -> float:
        return max(u, 0.0) ** 3

    k = len(t)
    terms = [
        cube(x - t[j])
        - cube(x - t[k - 2]) * (t[k - 1] - t[j]) / (t[k - 1] - t[k - 2])
        + cube(x - t[k - 1]) * (t[k - 2] - t[j]) / (t[k - 1] - t[k - 2])
        for j in range(k - 2)
    ]
    return [x, *(term / (t[k - 1] - t[0]) ** 2 for term in terms)]


@pytest.mark.parametrize("x", [-3.0, 1.0, 2.5, 4.0, 6.9, 20.0])
def test_terms_are_harrells(x: float) -> None:
    knots = [1.0, 3.0, 4.0, 7.0]
    got = restricted_cubic(torch.tensor([x], dtype=torch.float64), torch.tensor(knots, dtype=torch.float64))
    assert got[0].tolist() == pytest.approx(by_hand(x, knots), abs=1e-12)


def test_terms_are_straight_beyond_the_end_knots() -> None:
    knots = torch.tensor([0.0, 1.0, 2.0, 4.0], dtype=torch.float64)
    below = restricted_cubic(torch.tensor([-3.0, -2.0, -1.0], dtype=torch.float64), knots)
    above = restricted_cubic(torch.tensor([5.0, 6.0, 7.0], dtype=torch.float64), knots)
    for three in (below, above):
        assert torch.allclose(three[2] - three[1], three[1] - three[0], atol=1e-12)


def test_knots_stand_at_harrells_quantiles() -> None:
    values = np.random.default_rng(0).normal(size=(1000, 1))
    design = SplineDesign.learn(values, [NUMERIC], knots=4)
    assert design.knots[0].tolist() == pytest.approx(np.quantile(values, knot_quantiles(4)).tolist())


def test_columns_have_mean_0_and_sd_1_over_observed_values() -> None:
    rng = np.random.default_rng(1)
    values = np.stack([rng.normal(100, 15, 500), rng.integers(0, 2, 500)], axis=1)
    values[:100, 0] = np.nan
    matrix = SplineDesign.learn(values, [NUMERIC, SEX], knots=4).matrix(torch.tensor(values))
    assert matrix.shape == (500, 3 + 2 + 2)
    assert matrix[100:, :3].mean(0).tolist() == pytest.approx([0, 0, 0], abs=1e-9)
    assert matrix[100:, :3].std(0, correction=0).tolist() == pytest.approx([1, 1, 1])
    assert bool((matrix[:100, :3] == 0).all()), "a missing value is 0 in its terms"
    assert matrix[0, 5] > 0 > matrix[200, 5], "and positive in its indicator"


def test_a_feature_that_never_varied_is_0_and_one_with_two_values_is_straight() -> None:
    values = np.stack([np.full(50, 3.0), np.arange(50) % 2.0], axis=1)
    design = SplineDesign.learn(values, [NUMERIC, NUMERIC], knots=4)
    matrix = design.matrix(torch.tensor(values))
    assert bool((matrix[:, :3] == 0).all())
    assert bool((matrix[:, 4:6] == 0).all())
    assert design.active.tolist() == [False, False, False, True, False, False, False, False]


def test_a_value_far_outside_counts_as_the_training_limit() -> None:
    values = np.random.default_rng(2).normal(120, 10, size=(400, 1))
    design = SplineDesign.learn(values, [NUMERIC], knots=4)
    absurd = design.matrix(torch.tensor([[13682.0], [values.max()]]))
    assert torch.allclose(absurd[0], absurd[1])
    assert float(absurd.abs().max()) < 10


def test_an_unknown_category_has_no_category_column() -> None:
    values = np.array([[0.0], [1.0], [1.0], [np.nan]])
    matrix = SplineDesign.learn(values, [SEX], knots=3).matrix(torch.tensor(values))
    assert matrix[3, :2].tolist() == [0, 0]
    assert matrix[3, 2] > 0


def test_matrix_is_differentiable_in_values() -> None:
    values = np.random.default_rng(3).normal(size=(200, 1))
    design = SplineDesign.learn(values, [NUMERIC], knots=4)
    x = torch.tensor([[0.3], [-0.4]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: design.matrix(v), (x,))


def test_another_width_is_refused() -> None:
    design = SplineDesign([NUMERIC, SEX], 4)
    wrong = TabularTensors(torch.zeros(2, 4), torch.ones(2, 2) > 0, torch.ones(2) > 0)
    with pytest.raises(ShapeMismatch, match="one column per numeric feature and per category, 3; got 4"):
        design(wrong)
