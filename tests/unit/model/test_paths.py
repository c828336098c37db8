"""Encoders of all members at once say what each member's own say, in any company; other paths are measured."""

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from riskpred.config.network import NetworkConfig, SeriesEncoder, TabularEncoder
from riskpred.errors import BundleError
from riskpred.features.batch import FeatureBatch
from riskpred.features.join import take
from riskpred.features.plan import FeaturePlan
from riskpred.model import paths
from riskpred.model.layout import Layout
from riskpred.model.paths import BF16, FP32, agreement, evaluator, numeric_paths, permitted_path
from riskpred.model.risk import RiskModel
from riskpred.model.trees import Forest

Batch = Callable[..., FeatureBatch]


@pytest.fixture(scope="session")
def like_a_bundle(plan: FeaturePlan, layout: Layout, make_batch: Batch) -> RiskModel:
    """A model as `fit` leaves one: learned columns, trees, two deep layers, weights that say something everywhere."""
    config = NetworkConfig(
        encoders={"tabular": TabularEncoder(members=4, width=24, depth=2), "series": SeriesEncoder(width=32)},
        embedding=8,
        members=3,
    )
    kept = {name: part for name, part in plan.modalities.items() if name != "image"}
    torch.manual_seed(7)
    model = RiskModel(config, dataclasses.replace(plan, modalities=kept), layout)
    inputs = model.tensors(take(make_batch(400, seed=9), np.arange(4, 400)))
    for r in range(model.members):
        for name, given in inputs.items():
            model.member(r).encoders[name].learn(given.take(torch.arange(r, 396, 2)))
        for name, parameter in model.member(r).named_parameters():
            if "scale" not in name:
                parameter.data.copy_(torch.randn(parameter.shape) * 0.3)
        tabular = model.member(r).encoders["tabular"]
        tabular.spline_weight.copy_(torch.randn(tabular.spline_weight.shape) * 0.2)
        node = np.zeros(1, np.int64)
        forest = Forest(
            np.array([0, -1, -1]), np.array([60.0 + r, 0, 0]), np.array([True, False, False]), np.array([1, 0, 0]),
            np.array([2, 0, 0]), np.array([0.0, -1.0, 1.0]), node, node + r, np.array([False]),
        )  # fmt: skip
        tabular.trees.take(forest, torch.zeros(layout.coefficients), torch.full((layout.causes,), 0.3))
        for at in range(len(layout.groups)):
            model.member(r).baseline(at).fill_(-3.0)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("which", ["model", "like_a_bundle"])
def test_all_members_at_once_say_what_each_says(which: str, request: pytest.FixtureRequest, make_batch: Batch) -> None:
    model: RiskModel = request.getfixturevalue(which)
    inputs = model.tensors(make_batch(300, seed=1))
    assert any(not part.present.all() for part in inputs.values())
    wanted, got = model.encode(inputs), evaluator(model).encode(inputs)
    assert got.keys() == wanted.keys()
    for name, one in wanted.items():
        assert torch.allclose(got[name].coefficients, one.coefficients, rtol=1e-5, atol=1e-5), name
        assert torch.allclose(got[name].embedding, one.embedding, rtol=1e-5, atol=1e-5), name
        assert float(one.coefficients.std()) > 0.03, "an encoder that says nothing tests nothing"
        absent = ~inputs[name].present
        assert not got[name].coefficients[:, absent].any()
        assert not got[name].embedding[:, absent].any()


def test_order_batch_size_and_company_change_no_risk(like_a_bundle: RiskModel, make_batch: Batch) -> None:
    batch = make_batch(500, seed=4)
    whole = like_a_bundle.predict(batch, batch_size=500).member
    for size in (1, 7, 300):
        assert np.abs(like_a_bundle.predict(batch, batch_size=size).member - whole).max() < 1e-6
    order = np.random.default_rng(0).permutation(500)
    assert np.abs(like_a_bundle.predict(take(batch, order), 64).member - whole[:, order]).max() < 1e-6
    assert np.ptp(whole) > 0.1


def test_a_row_that_is_no_number_leaves_its_neighbours_alone(like_a_bundle: RiskModel, make_batch: Batch) -> None:
    inputs = like_a_bundle.tensors(make_batch(100, seed=3))
    series = inputs["series"]
    values = series.values.clone()
    values[20, 0, 0] = torch.nan
    observed = series.observed.clone()
    observed[20, 0, 0] = True
    bad = dataclasses.replace(series, values=values, observed=observed)
    clean, got = (evaluator(like_a_bundle).encode({"series": given})["series"] for given in (series, bad))
    others = [row for row in range(100) if row != 20]
    assert torch.equal(got.coefficients[:, others], clean.coefficients[:, others])
    assert not torch.isfinite(got.coefficients[:, 20]).any()


def test_no_row_has_a_modality_and_there_are_no_rows(like_a_bundle: RiskModel, make_batch: Batch) -> None:
    inputs = like_a_bundle.tensors(take(make_batch(), np.array([0, 2])))
    sent = evaluator(like_a_bundle).encode(inputs)
    assert sent["series"].coefficients.shape == (3, 2, like_a_bundle.layout.coefficients)
    assert not sent["series"].embedding.any()
    none = {name: part.take(torch.arange(0)) for name, part in inputs.items()}
    assert evaluator(like_a_bundle).encode(none)["tabular"].embedding.shape == (3, 0, 8)


def test_another_path_differs_and_says_by_how_much(like_a_bundle: RiskModel, make_batch: Batch) -> None:
    inputs = like_a_bundle.tensors(make_batch(200, seed=6))
    assert agreement(like_a_bundle, inputs, FP32) == 0.0
    card = numeric_paths(like_a_bundle, inputs)
    assert card.keys() == {BF16}
    assert 1e-7 < card[BF16]["largest_difference"] < 0.05
    assert card[BF16]["rows"] == 200
    assert card[BF16]["permitted"] == (card[BF16]["largest_difference"] <= 0.001)


def test_a_path_that_moves_a_risk_too_far_is_not_permitted(
    like_a_bundle: RiskModel, make_batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = like_a_bundle.tensors(make_batch())
    for largest, permitted in ((0.001, True), (0.0011, False)):
        monkeypatch.setattr(paths, "agreement", lambda *_, largest=largest: largest)
        assert numeric_paths(like_a_bundle, inputs)[BF16]["permitted"] is permitted


def test_a_night_takes_a_permitted_path(like_a_bundle: RiskModel, model: RiskModel) -> None:
    def bundle(of: RiskModel, **card: object) -> SimpleNamespace:
        return SimpleNamespace(model=of, card=card, path="bundle")

    measured = {"largest_difference": 0.0002, "rows": 1200, "permitted": True}
    fine, far = {BF16: measured}, {BF16: {**measured, "largest_difference": 0.0123, "permitted": False}}
    assert permitted_path(bundle(like_a_bundle, numeric_paths=fine)) == FP32, "little is gained on tables and series"
    assert permitted_path(bundle(model, numeric_paths=fine)) == BF16, "images are"
    assert permitted_path(bundle(model, numeric_paths=far)) == FP32
    assert permitted_path(bundle(model)) == FP32
    assert permitted_path(bundle(model), FP32) == FP32
    assert permitted_path(bundle(like_a_bundle, numeric_paths=fine), BF16) == BF16
    with pytest.raises(BundleError, match="numeric path bf16 is not permitted") as refused:
        permitted_path(bundle(model, numeric_paths=far), BF16)
    assert "0.0123 in 1,200 rows" in str(refused.value)
    with pytest.raises(BundleError, match="no such measurement"):
        permitted_path(bundle(model, numeric_paths=fine), "int8")


def test_images_may_be_encoded_elsewhere(model: RiskModel, make_batch: Batch) -> None:
    asked = []

    def images(given: RiskModel, modality: str, path: str) -> tuple[paths.Encoders, str]:
        asked.append((given is model, modality, path))
        return evaluator(given).encoders[modality], "elsewhere"

    inputs = model.tensors(make_batch())
    found = evaluator(model, BF16, images)
    assert asked == [(True, "image", BF16)]
    assert found.why[2] == "image: elsewhere."
    assert torch.equal(found.encode(inputs)["image"].embedding, evaluator(model).encode(inputs)["image"].embedding)
