from collections.abc import Callable

import numpy as np
import pytest
import torch

from riskpred.features.batch import FeatureBatch
from riskpred.features.plan import FeaturePlan
from riskpred.model.likeness import Cloud, fused_embedding, input_profile
from riskpred.model.likeness_loop import ranks
from riskpred.model.network import SentOne
from riskpred.model.risk import RiskModel


def draws(rows: int = 4000, seed: int = 0) -> np.ndarray:
    """Two columns of mean 10 and SD 2 that go together (r = .8), and one of their own."""
    rng = np.random.default_rng(seed)
    first, second, third = rng.normal(size=(3, rows))
    return 10 + 2 * np.stack([first, 0.8 * first + 0.6 * second, third], axis=1)


def test_a_distance_counts_in_standard_deviations_and_against_what_goes_together() -> None:
    cloud = Cloud.learn(draws())
    centre, alone, along, against = cloud.distance(np.array([[10.0, 10, 10], [10, 10, 20], [14, 14, 10], [14, 6, 10]]))
    assert centre < 0.1
    assert alone == pytest.approx(5.0, abs=0.2)
    assert against > 2 * along, "high with low is stranger than high with high"
    # The inverse of [[1, .72], [.72, 1]] (r = .8, a tenth shrunk away) by hand: 4 / 1.72 x 2 and 4 / .28 x 2.
    assert along == pytest.approx(np.sqrt(8 / 1.72), abs=0.15)
    assert against == pytest.approx(np.sqrt(8 / 0.28), abs=0.3)


def test_one_absurd_value_in_training_hides_no_other() -> None:
    values = draws()
    values[7, 0] = 13_682.0
    assert Cloud.learn(values).distance(np.array([[90.0, 10.0, 10.0]]))[0] > 35


def test_having_a_rare_condition_is_not_being_unlike() -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate([draws(), (rng.random((4000, 2)) < [[0.0004, 0.02]])], axis=1)
    values[:2, 3] = 1.0
    rare, rather = Cloud.learn(values).distance(np.array([[10.0, 10, 10, 1, 0], [10, 10, 10, 0, 1]]))
    assert 5 < rare < 15, "not the 50 SD that its own spread would make it"
    assert 5 < rather < 15


def test_what_is_missing_or_never_varied_adds_nothing_and_an_infinite_value_is_far() -> None:
    values = draws()
    values[::3, 2] = np.nan
    values = np.concatenate([values, np.full((len(values), 1), 5.0), np.full((len(values), 1), np.nan)], axis=1)
    cloud = Cloud.learn(values)
    nothing, other, infinite = cloud.distance(
        np.array([[np.nan] * 5, [10, 10, np.nan, 77, 3], [np.inf, 10, 10, 5, np.nan]])
    )
    assert nothing == 0
    assert other < 0.1
    assert infinite > 1e20


@pytest.mark.filterwarnings("error")
def test_fewer_rows_than_columns_and_none_at_all_will_do() -> None:
    rng = np.random.default_rng(2)
    few = Cloud.learn(rng.normal(size=(5, 40)))
    assert np.isfinite(few.distance(rng.normal(size=(3, 40)))).all()
    assert Cloud.learn(np.zeros((0, 3))).distance(np.ones((2, 3))).tolist() == [0, 0]


def test_a_stack_of_clouds_is_each_of_them() -> None:
    clouds = [Cloud.learn(draws(300, seed)) for seed in range(3)]
    stack, rows = Cloud.stacked(clouds), draws(7, 9)
    together = stack.distance(np.stack([rows, rows, rows]))
    assert np.allclose(together, [cloud.distance(rows) for cloud in clouds])
    assert np.array_equal(stack[1].distance(rows), clouds[1].distance(rows))


def test_the_fused_embedding_is_what_the_joint_term_sums_less_the_reference() -> None:
    def one(embedding: list[list[list[float]]]) -> SentOne:
        return SentOne(torch.zeros(0), torch.tensor(embedding, dtype=torch.float64))

    sent = {"a": one([[[1.0, 2], [3, 4]]]), "b": one([[[10.0, 20], [torch.nan, 0]]])}
    reference = {"a": one([[[1.0, 1]]]), "b": one([[[5.0, 5]]])}
    present = {"a": torch.tensor([True, True]), "b": torch.tensor([True, False])}
    assert fused_embedding(sent, reference, present).tolist() == [[[5.0, 16.0], [2.0, 3.0]]]


def test_a_profile_holds_raw_inputs_and_nothing_of_an_absent_modality(
    model: RiskModel, plan: FeaturePlan, make_batch: Callable[..., FeatureBatch]
) -> None:
    batch = make_batch()
    tabular, series = batch.inputs["tabular"], batch.inputs["series"]
    tabular.values[4, 1] = 1e6
    tabular.values[5, 0] = np.nan
    first = int(series.start[4])
    series.values[first, 0] = -5e5
    profile = input_profile(plan, model.tensors(batch))
    assert profile.shape == (40, 2 + 2 * 2 + 2), "two numbers, two ends of two channels, mean and SD of pixels"
    assert profile[4, 1] == 1e6, "no limit"
    assert profile[4, 2] == -5e5, "the lowest value of the first channel"
    assert np.isnan(profile[5, 0])
    assert np.isnan(profile[0, 2:6]).all(), "row 0 lacks the series"
    assert np.isnan(profile[1, 6:]).all(), "row 1 lacks the image"
    assert np.isnan(profile[3]).all(), "row 3 lacks everything"
    own = series.values[series.start[6] : series.start[7]]
    assert profile[6, 4] == pytest.approx(np.nanmax(own[:, 0])) or np.isnan(own[:, 0]).all()


def test_ranks_are_those_of_a_search_in_order() -> None:
    rng = np.random.default_rng(4)
    known = np.sort(np.concatenate([rng.beta(1, 20, 3000), np.repeat([0.0, 0.25, 0.5, 1.0], 7)]))
    begin = np.searchsorted(known, np.linspace(0.0, 1.0, 65)).astype(np.int64)
    edges = np.arange(65) / 64
    asked = np.concatenate([rng.random(3000) ** 3, known, edges, np.nextafter(edges, 2), np.nextafter(edges, -1)])
    asked = np.concatenate([asked, [np.nan, np.inf, -np.inf, -0.0]])
    got = np.empty(len(asked))
    ranks(known, begin, asked, got)
    assert np.array_equal(got, np.searchsorted(known, asked, side="left") / len(known))


def test_the_mean_over_clouds_is_that_of_their_distances() -> None:
    rng = np.random.default_rng(5)
    clouds = [Cloud.learn(rng.normal(size=(300, 4)) @ rng.normal(size=(4, 4))) for _ in range(3)]
    values = rng.normal(size=(3, 150, 4)) * 3
    values[:, ::7, 1] = np.nan
    values[:, 3, 2] = np.inf
    rows, got = rng.permutation(150)[:100], np.full(150, -1.0)
    Cloud.stacked(clouds).mean_distance(values, rows, got)
    wanted = np.mean([cloud.distance(part) for cloud, part in zip(clouds, values, strict=True)], axis=0)
    assert got[rows] == pytest.approx(wanted[rows], rel=1e-12)
    assert (np.delete(got, rows) == -1.0).all()
