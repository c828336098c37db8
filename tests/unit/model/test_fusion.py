"""The compiled fusion against the network's own, member by member and coalition by coalition."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from riskpred.config.network import NetworkConfig
from riskpred.explain.coalitions import coalitions, value
from riskpred.features.batch import FeatureBatch
from riskpred.features.plan import FeaturePlan
from riskpred.model.fusion import Fusion
from riskpred.model.layout import Layout
from riskpred.model.network import Sent, SentOne
from riskpred.model.risk import RiskModel

Batch = Callable[..., FeatureBatch]


@pytest.fixture
def bent(model: RiskModel) -> RiskModel:
    """The model with maps that bend, differ by pattern and have own widths; put back afterwards."""
    kept = {name: tensor.clone() for name, tensor in model.calibrations.state_dict().items()}
    generator = torch.Generator().manual_seed(3)
    for calibration in model.calibrations:
        for name, spread in {"intercept": 0.3, "log_slope": 0.3, "bend": 0.4, "knot": 1.0}.items():
            part = calibration.get_buffer(name)
            part.copy_(torch.randn(part.shape, generator=generator, dtype=part.dtype) * spread)
        calibration.get_buffer("knot").sub_(2.0)
        calibration.get_buffer("width").uniform_(0.3, 1.5, generator=generator)
    yield model
    model.calibrations.load_state_dict(kept)


def given(model: RiskModel, batch: FeatureBatch) -> tuple[Sent, Sent, dict[str, torch.Tensor]]:
    inputs = model.tensors(batch)
    sent = model.encode(inputs)
    reference = {
        name: SentOne(one.coefficients.mean(1, keepdim=True) + 0.1, one.embedding.mean(1, keepdim=True) - 0.1)
        for name, one in sent.items()
    }
    return sent, reference, {name: part.present for name, part in inputs.items()}


def test_members_say_what_the_network_says(bent: RiskModel, make_batch: Batch) -> None:
    sent, _, present = given(bent, make_batch(150, seed=2))
    with torch.no_grad():
        wanted = bent.member_risks(sent, present).numpy()
    assert Fusion.of(bent).member_risks(sent, present) == pytest.approx(wanted, abs=1e-13)


def test_every_coalition_has_the_value_that_explanations_take_gradients_of(bent: RiskModel, make_batch: Batch) -> None:
    sent, reference, present = given(bent, make_batch(150, seed=2))
    member, found = Fusion.of(bent).coalition_risks(sent, reference, present)
    assert found[-1] == pytest.approx(member.mean(axis=0), abs=1e-14)
    for inside in coalitions(bent.modalities):
        number = sum(1 << m for m, name in enumerate(bent.modalities) if name in inside)
        with torch.no_grad():
            wanted = value(bent, sent, reference, present, inside).numpy()
        assert found[number] == pytest.approx(wanted, abs=1e-13)
    assert np.ptp(found, axis=0).max() > 0.01, "coalitions that all say the same test nothing"


@pytest.mark.parametrize("groups", [2, 24, 70])  # fewer and more than rows computed together
def test_each_row_is_set_against_the_reference_of_its_group(bent: RiskModel, make_batch: Batch, groups: int) -> None:
    rows = 150
    sent, everyone, present = given(bent, make_batch(rows, seed=2))
    draw, generator = np.random.default_rng(1), torch.Generator().manual_seed(4)
    reference = {
        name: SentOne(
            *(
                part + torch.randn((part.shape[0], groups, part.shape[2]), generator=generator, dtype=part.dtype)
                for part in (one.coefficients, one.embedding)
            )
        )
        for name, one in everyone.items()
    }
    group = draw.integers(0, groups, rows)
    member, found = Fusion.of(bent).coalition_risks(sent, reference, present, group)
    own = {
        name: SentOne(one.coefficients[:, torch.from_numpy(group)], one.embedding[:, torch.from_numpy(group)])
        for name, one in reference.items()
    }
    for inside in coalitions(bent.modalities):
        number = sum(1 << m for m, name in enumerate(bent.modalities) if name in inside)
        with torch.no_grad():
            wanted = value(bent, sent, own, present, inside).numpy()
        assert found[number] == pytest.approx(wanted, abs=1e-13)
    assert member == pytest.approx(Fusion.of(bent).member_risks(sent, present), abs=1e-14), "risks know no group"
    alone = Fusion.of(bent).coalition_risks(sent, everyone, present)[1]
    assert np.abs(found[0] - alone[0]).max() > 0.01, "another reference is another start"


def test_what_an_absent_modality_sent_is_not_read(model: RiskModel, make_batch: Batch) -> None:
    sent, reference, present = given(model, make_batch())
    wanted = Fusion.of(model).coalition_risks(sent, reference, present)
    spoilt = {
        name: dataclasses.replace(
            one, coefficients=torch.where(present[name][:, None], one.coefficients, torch.nan)
        )
        for name, one in sent.items()
    }  # fmt: skip
    for got, known in zip(Fusion.of(model).coalition_risks(spoilt, reference, present), wanted, strict=True):
        assert np.array_equal(got, known)


def test_a_number_that_is_none_makes_the_risk_none(model: RiskModel, make_batch: Batch) -> None:
    sent, reference, present = given(model, make_batch())
    tabular = sent["tabular"]
    for bad in (torch.nan, torch.inf):
        coefficients = tabular.coefficients.clone()
        coefficients[1, 10] = bad
        member, _ = Fusion.of(model).coalition_risks(
            {**sent, "tabular": dataclasses.replace(tabular, coefficients=coefficients)}, reference, present
        )
        assert not np.isfinite(member[1, 10]).any()
        assert np.isfinite(np.delete(member, 10, axis=1)).all()


def test_order_and_company_change_nothing(model: RiskModel, make_batch: Batch) -> None:
    sent, reference, present = given(model, make_batch(300, seed=5))
    fusion = Fusion.of(model)
    whole = fusion.coalition_risks(sent, reference, present)
    order = torch.from_numpy(np.random.default_rng(0).permutation(300)[:130])

    def some(one: SentOne) -> SentOne:
        return SentOne(one.coefficients[:, order], one.embedding[:, order])

    got = fusion.coalition_risks(
        {name: some(one) for name, one in sent.items()},
        reference,
        {name: part[order] for name, part in present.items()},
    )
    for part, known in zip(got, whole, strict=True):
        assert part == pytest.approx(known[:, order.numpy()], abs=1e-14)


def test_one_modality_has_no_joint_term_and_no_rows_are_no_rows(
    network: NetworkConfig, plan: FeaturePlan, layout: Layout, make_batch: Batch
) -> None:
    alone = RiskModel(
        network.model_copy(update={"encoders": {"tabular": network.encoders["tabular"]}}),
        dataclasses.replace(plan, modalities={"tabular": plan.modalities["tabular"]}),
        layout,
    )
    batch = make_batch()
    sent, reference, present = given(alone, batch)
    with torch.no_grad():
        wanted = alone.member_risks(sent, present).numpy()
    assert Fusion.of(alone).coalition_risks(sent, reference, present)[0] == pytest.approx(wanted, abs=1e-13)
    none = {name: SentOne(one.coefficients[:, :0], one.embedding[:, :0]) for name, one in sent.items()}
    member, found = Fusion.of(alone).coalition_risks(none, reference, {"tabular": present["tabular"][:0]})
    assert member.shape == (3, 0, 5)
    assert found.shape == (2, 0, 5)
