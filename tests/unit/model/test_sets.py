"""Sets of outcomes known at once through the compiled fusion, the layout's JSON, and a prediction."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from riskpred.config.network import NetworkConfig
from riskpred.explain.coalitions import coalitions, value
from riskpred.features.batch import FeatureBatch
from riskpred.features.plan import FeaturePlan
from riskpred.model.fusion import Fusion
from riskpred.model.layout import GroupGrid, Layout
from riskpred.model.network import SentOne
from riskpred.model.risk import RiskModel

TIMED = GroupGrid("heart", ("heart",), ("heart", "death"), False, (1.0, 3.0), (0.0, 0.4, 1.0, 3.0))
GRADES = GroupGrid("dr", ("d1", "d2", "d3"), ("d1", "d2", "d3"), True, (0.0,), (0.0, 1.0), ordered=True)
CLASSES = GroupGrid("kind", ("a", "b"), ("a", "b"), True, (0.0,), (0.0, 1.0))
LAYOUT = Layout((GRADES, TIMED, CLASSES), ("d1", "d2", "d3", "heart", "a", "b"))


@pytest.fixture
def sets(network: NetworkConfig, plan: FeaturePlan, make_batch: Callable[..., FeatureBatch]) -> RiskModel:
    """A model of grades, classes and a timed outcome, with random weights everywhere."""
    torch.manual_seed(11)
    model = RiskModel(network, plan, LAYOUT)
    inputs = model.tensors(make_batch(120, seed=3))
    for r in range(model.members):
        for name, given in inputs.items():
            model.member(r).encoders[name].learn(given.take(given.present.nonzero()[:, 0]))
        for g in range(3):
            model.member(r).baseline(g).normal_(-0.5, 0.5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    for calibration in model.calibrations:
        for name, spread in {"intercept": 0.3, "log_slope": 0.3, "bend": 0.3, "knot": 1.0}.items():
            calibration.get_buffer(name).normal_(0, spread)
    return model.eval().requires_grad_(False)


def test_the_compiled_fusion_says_what_explanations_take_gradients_of(
    sets: RiskModel, make_batch: Callable[..., FeatureBatch]
) -> None:
    inputs = sets.tensors(make_batch(90, seed=4))
    sent, present = sets.encode(inputs), {name: part.present for name, part in inputs.items()}
    reference = {
        name: SentOne(one.coefficients.mean(1, keepdim=True) + 0.1, one.embedding.mean(1, keepdim=True) - 0.1)
        for name, one in sent.items()
    }
    member, found = Fusion.of(sets).coalition_risks(sent, reference, present)
    assert member == pytest.approx(sets.member_risks(sent, present).numpy(), abs=1e-13)
    for inside in coalitions(sets.modalities):
        number = sum(1 << m for m, name in enumerate(sets.modalities) if name in inside)
        wanted = value(sets, sent, reference, present, inside).numpy()
        assert found[number] == pytest.approx(wanted, abs=1e-13)


def test_a_prediction_keeps_grades_in_order_and_classes_within_one(
    sets: RiskModel, make_batch: Callable[..., FeatureBatch]
) -> None:
    sets.widening.copy_(torch.tensor([1.0, 4.0, 1.5, 1.0, 1.0, 1.0, 2.0]))
    found = sets.predict(make_batch(200, seed=5))
    for bound in (found.low, found.risk, found.high):
        assert (np.diff(bound[:, :3], axis=1) <= 0).all()
    assert found.risk[:, 5:].sum(axis=1).max() <= 1.0
    assert sets.layout.ladders == ((0, 1, 2),)


def test_the_layout_reads_back_and_says_nothing_new_of_groups_without_sets() -> None:
    assert Layout.from_json(LAYOUT.to_json()) == LAYOUT
    written = Layout((TIMED,), ("heart",)).to_json()["groups"][0]
    assert set(written) == {"name", "outcomes", "causes", "known_at_once", "horizons_years", "cuts_years"}
