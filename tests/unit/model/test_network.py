from collections.abc import Callable

import pytest
import torch

from riskpred.config.network import NetworkConfig
from riskpred.errors import ShapeMismatch
from riskpred.features.batch import FeatureBatch
from riskpred.features.plan import FeaturePlan
from riskpred.model.layout import Layout
from riskpred.model.network import Member
from riskpred.model.risk import RiskModel


def test_a_new_member_says_its_baseline_only(
    network: NetworkConfig, plan: FeaturePlan, layout: Layout, make_batch: Callable[..., FeatureBatch]
) -> None:
    member = Member(network, plan, layout).eval()
    member.baseline(0).fill_(-3.0)
    inputs = RiskModel(network, plan, layout).tensors(make_batch())
    rates = member.log_rates(member.encode(inputs), {name: given.present for name, given in inputs.items()})
    assert bool((rates[0] == -3.0).all()), "residuals start at zero"
    assert [tuple(rate.shape) for rate in rates] == [(40, 3, 3), (40, 1, 1)]


def test_an_absent_modality_sends_nothing_and_is_not_read(
    model: RiskModel, make_batch: Callable[..., FeatureBatch]
) -> None:
    inputs = model.tensors(make_batch())
    sent = model.encode(inputs)
    assert bool((sent["series"].coefficients[:, 0] == 0).all())
    assert bool((sent["image"].embedding[:, 1] == 0).all())
    present = {name: given.present for name, given in inputs.items()}
    before = model.member_risks(sent, present)
    sent["series"].coefficients[:, 0] = torch.nan
    assert bool((model.member_risks(sent, present) == before).all())


def test_each_modality_changes_the_risk(model: RiskModel, make_batch: Callable[..., FeatureBatch]) -> None:
    inputs = model.tensors(make_batch())
    sent = model.encode(inputs)
    present = {name: given.present for name, given in inputs.items()}
    whole = model.member_risks(sent, present)[:, 10]
    for name in model.modalities:
        without = model.member_risks(sent, {**present, name: torch.zeros(40, dtype=torch.bool)})[:, 10]
        assert float((whole - without).abs().min()) > 1e-6, name


def test_modalities_are_more_than_the_sum_of_their_terms(
    model: RiskModel, make_batch: Callable[..., FeatureBatch]
) -> None:
    inputs = model.tensors(make_batch())
    member = model.member(0)
    sent = member.encode(inputs)

    def rate(*names: str) -> torch.Tensor:
        here = {name: torch.full((40,), name in names) for name in model.modalities}
        return member.log_rates(sent, here)[0][10]

    together = rate("tabular", "image") - rate("tabular") - rate("image") + rate()
    assert float(together.abs().max()) > 1e-6, "the joint term"


def test_rows_of_sent_and_present_must_agree(model: RiskModel, make_batch: Callable[..., FeatureBatch]) -> None:
    inputs = model.tensors(make_batch())
    present = {name: given.present[:7] for name, given in inputs.items()}
    with pytest.raises(ShapeMismatch, match=r"must have as many rows; got 40 and 7"):
        model.member_risks(model.encode(inputs), present)


@pytest.mark.parametrize("modality", ["tabular", "series", "image"])
def test_gradients_by_values_agree_with_differences(
    model: RiskModel, make_batch: Callable[..., FeatureBatch], modality: str
) -> None:
    inputs = {name: given.take(torch.arange(8, 16)) for name, given in model.tensors(make_batch()).items()}
    present = {name: given.present for name, given in inputs.items()}
    given = inputs[modality]

    def risk(values: torch.Tensor) -> torch.Tensor:
        sent = model.encode({**inputs, modality: given.with_values(values)})
        return model.member_risks(sent, present).mean(0)[:, 1].sum()

    values = given.values.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(risk(values), values)
    assert float(gradient.abs().max()) > 0
    toward = torch.randn(values.shape, generator=torch.Generator().manual_seed(0))
    step = 1e-2
    difference = (risk(given.values + step * toward) - risk(given.values - step * toward)) / (2 * step)
    assert float(difference) == pytest.approx(float((gradient * toward).sum()), rel=0.02, abs=1e-5)


def test_unobserved_values_are_never_read(model: RiskModel, make_batch: Callable[..., FeatureBatch]) -> None:
    inputs = {name: given.take(torch.arange(8, 16)) for name, given in model.tensors(make_batch()).items()}
    series = inputs["series"]
    changed = torch.where(series.observed, series.values, 99.0)
    one, other = (model.encode({**inputs, "series": series.with_values(v)}) for v in (series.values, changed))
    assert torch.equal(one["series"].embedding, other["series"].embedding)
