"""Encoders of all members at once say what each member's own say, in any company; other paths are measured."""

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from riskpred.config.network import NetworkConfig, SeriesEncoder, TabularEncoder
from riskpred.errors import BundleError
from riskpred.features.batch import FeatureBatch
from riskpred.features.join import take
from riskpred.features.plan import FeaturePlan
from riskpred.model import image_fast, paths
from riskpred.model.layout import Layout
from riskpred.model.paths import (
    AUTO,
    BF16,
    FP32,
    Chosen,
    agreement,
    chosen_path,
    encoder_paths,
    evaluator,
    numeric_paths,
)
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
    assert agreement(like_a_bundle, inputs, evaluator(like_a_bundle)) == 0.0
    card = numeric_paths(like_a_bundle, inputs)
    assert card.keys() == {BF16}
    assert 1e-7 < card[BF16]["largest_difference"] < 0.05
    assert card[BF16]["rows"] == 200
    assert card[BF16]["encoders"] == {"tabular": BF16, "series": FP32}
    assert card[BF16]["permitted"] == (card[BF16]["largest_difference"] <= 0.001)


def test_a_path_that_moves_a_risk_too_far_is_not_permitted(
    like_a_bundle: RiskModel, make_batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = like_a_bundle.tensors(make_batch())
    for largest, permitted in ((0.001, True), (0.0011, False)):
        monkeypatch.setattr(paths, "agreement", lambda *_, largest=largest: largest)
        assert numeric_paths(like_a_bundle, inputs)[BF16]["permitted"] is permitted


def as_asked(model: RiskModel, modality: str, path: str) -> tuple[str, str]:
    return path, ""


def narrow(model: RiskModel, modality: str, path: str) -> tuple[str, str]:
    return FP32, " (too narrow)"


def bundle_with(of: RiskModel, **card: object) -> Any:
    return SimpleNamespace(model=of, card=card, path="bundle")


def measured(*, difference: float = 0.0002, **encoders: str) -> dict[str, Any]:
    """The card's entry on bf16: by it every encoder of the model ran in bf16 but the series', unless said."""
    found = {"tabular": BF16, "series": FP32, **encoders}
    return {BF16: {"encoders": found, "largest_difference": difference, "rows": 1200, "permitted": difference <= 0.001}}


def test_a_night_takes_a_permitted_path(like_a_bundle: RiskModel, model: RiskModel) -> None:
    fine, far = measured(image=BF16), measured(image=BF16, difference=0.0123)
    tables = bundle_with(like_a_bundle, numeric_paths=measured())
    assert chosen_path(tables, AUTO, as_asked) == Chosen(FP32), "little is gained on tables and series"
    asked = chosen_path(tables, BF16, as_asked)
    assert asked.path == BF16
    assert asked.said.startswith(
        "numeric path bf16: tabular in bf16, series in fp32, as `fit` measured: 0.00020 at most"
    )
    images = chosen_path(bundle_with(model, numeric_paths=fine), AUTO, as_asked)
    assert images.path == BF16, "images are faster"
    assert "tabular and image in bf16, series in fp32" in images.said
    unknown = chosen_path(bundle_with(model), AUTO, as_asked)
    assert (unknown.path, "the bundle's card has no such measurement" in unknown.said) == (FP32, True)
    refused = chosen_path(bundle_with(model, numeric_paths=far), AUTO, as_asked)
    assert (refused.path, "0.0123 in 1,200 rows" in refused.said) == (FP32, True)
    assert chosen_path(bundle_with(model), FP32, as_asked) == Chosen(FP32)
    with pytest.raises(BundleError, match="numeric path bf16 is not permitted") as no:
        chosen_path(bundle_with(model, numeric_paths=far), BF16, as_asked)
    assert "0.0123 in 1,200 rows" in str(no.value)
    with pytest.raises(BundleError, match="no such measurement"):
        chosen_path(bundle_with(model, numeric_paths=fine), "int8", as_asked)


def test_a_path_is_taken_only_as_it_was_measured(model: RiskModel) -> None:
    """`fit` may have run on a processor without bf16, or the night may, or the network is too narrow to gain."""
    there = bundle_with(model, numeric_paths=measured(image=FP32))
    with pytest.raises(BundleError, match="image in fp32"):
        chosen_path(there, BF16, as_asked)
    auto = chosen_path(there, AUTO, as_asked)
    assert (auto.path, "images are encoded in fp32, the slower path" in auto.said) == (FP32, True)
    assert chosen_path(there, BF16, narrow).path == BF16, "nor were they in bf16 when it was measured"
    assert "image in fp32 (too narrow)" in chosen_path(there, BF16, narrow).said
    assert chosen_path(there, AUTO, narrow) == Chosen(FP32)
    here = chosen_path(bundle_with(model, numeric_paths=measured(image=BF16)), BF16, narrow)
    assert here.path == FP32
    assert here.said.startswith("numeric path fp32, not bf16: image runs in fp32 here (too narrow)")
    before = {BF16: {"largest_difference": 0.0, "rows": 10, "permitted": True}}
    with pytest.raises(BundleError, match="tabular and image in fp32, or one that does not say"):
        chosen_path(bundle_with(model, numeric_paths=before), BF16, as_asked)


def test_bf16_that_changes_nothing_is_not_claimed(like_a_bundle: RiskModel) -> None:
    kept = {"series": like_a_bundle.member(0).encoders["series"]}
    bare = SimpleNamespace(member=lambda _: SimpleNamespace(encoders=kept), modalities=("series",))
    found = measured()
    del found[BF16]["encoders"]["tabular"]
    chosen = chosen_path(bundle_with(bare, numeric_paths=found), BF16, as_asked)
    assert chosen.path == FP32
    assert "though bf16 was asked for" in chosen.said


@pytest.mark.parametrize("path", [FP32, BF16])
def test_what_a_night_says_of_encoders_is_what_they_are(model: RiskModel, path: str) -> None:
    said = {name: one for name, (one, _) in encoder_paths(model, path, image_fast.image_path).items()}
    assert said == dict(evaluator(model, path, image_fast.image_encoders).paths)
    assert said["tabular"] == path


def test_images_may_be_encoded_elsewhere(model: RiskModel, make_batch: Batch) -> None:
    asked = []

    def images(given: RiskModel, modality: str, path: str) -> tuple[paths.PictureEncoders, str, str]:
        asked.append((given is model, modality, path))
        return evaluator(given).pictures[modality], FP32, "elsewhere"

    inputs = model.tensors(make_batch())
    found = evaluator(model, BF16, images)
    assert asked == [(True, "image", BF16)]
    assert found.why[2] == "image: elsewhere."
    assert found.paths == {"tabular": BF16, "series": FP32, "image": FP32}
    assert torch.equal(found.encode(inputs)["image"].embedding, evaluator(model).encode(inputs)["image"].embedding)
