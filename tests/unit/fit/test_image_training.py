"""How image networks are trained: from weights, with changed pictures, a cycle of the rate, a mean of weights."""

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from riskpred.config.network import Augmentation, ImageEncoder, NetworkConfig
from riskpred.config.outcomes import OutcomesConfig
from riskpred.config.study import load_model_config
from riskpred.errors import ConfigError
from riskpred.features.plan import FeaturePlan
from riskpred.fit.data import Rows
from riskpred.fit.grid import learn_layout
from riskpred.fit.members import training_data
from riskpred.fit.train import image_networks, start_from_weights, train_member
from riskpred.model.backbones import backbone
from riskpred.model.layout import Layout
from riskpred.model.network import Member
from riskpred.model.risk import RiskModel

_IMAGE = "encoders.image."


def _with(quick: NetworkConfig, image: ImageEncoder, **training: object) -> NetworkConfig:
    changed = quick.training.model_copy(update=training)
    return quick.model_copy(update={"encoders": {**quick.encoders, "image": image}, "training": changed})


@pytest.fixture
def layout(outcomes: OutcomesConfig, make_rows: Callable[..., Rows], quick: NetworkConfig) -> Layout:
    return learn_layout(outcomes, make_rows(120), quick.intervals)


@pytest.fixture
def trained(
    plan: FeaturePlan, layout: Layout, make_rows: Callable[..., Rows], monkeypatch: pytest.MonkeyPatch
) -> Callable[[NetworkConfig], Member]:
    """Trains a member whose last epoch wins: pixels here are noise, of which nothing is learned that holds."""
    losses = itertools.count()
    monkeypatch.setattr("riskpred.fit.train._stopping_loss", lambda *_: -next(losses))
    rows = make_rows(120)

    def train(config: NetworkConfig) -> Member:
        data = training_data(RiskModel(config, plan, layout), rows)
        return train_member(config, plan, layout, data, np.arange(120) % 5 == 0, 3, lambda: None)[0]

    return train


def _image_weights(member: Member) -> torch.Tensor:
    return torch.cat([one.flatten() for name, one in member.named_parameters() if name.startswith(_IMAGE)])


@pytest.mark.parametrize(
    ("image", "training"),
    [
        ({"augment": Augmentation(flip_left_right=True, speckle=0.2)}, {}),
        ({"precision": "bf16"}, {}),
        ({}, {"schedule": "one_cycle"}),
        ({}, {"average": 0.9}),
    ],
)
def test_each_way_of_training_is_repeatable_and_other_than_the_usual(
    image: dict[str, object],
    training: dict[str, object],
    quick: NetworkConfig,
    trained: Callable[[NetworkConfig], Member],
) -> None:
    patient = {"epochs": 3, "learning_rate": 0.01}
    usual = _image_weights(trained(_with(quick, ImageEncoder(channels=(4, 8)), **patient)))
    config = _with(quick, ImageEncoder.model_validate({"channels": (4, 8), **image}), **patient, **training)
    once = _image_weights(trained(config))
    assert torch.equal(once, _image_weights(trained(config)))
    assert not torch.equal(once, usual)


def test_weights_of_a_file_are_where_training_starts_and_kept_stages_where_it_ends(
    tmp_path: Path,
    quick: NetworkConfig,
    plan: FeaturePlan,
    layout: Layout,
    trained: Callable[[NetworkConfig], Member],
) -> None:
    torch.manual_seed(5)
    state = backbone(ImageEncoder(channels=(4, 8)), channels=1, dims=2).state_dict()
    save_file(state, tmp_path / "own.safetensors")
    weights = {"file": str(tmp_path / "own.safetensors"), "layout": "riskpred"}
    settings = ImageEncoder.model_validate({"channels": (4, 8), "weights": weights, "freeze": 1})
    config = _with(quick, settings, learning_rate=0.01)
    report = start_from_weights(Member(config, plan, layout), config)["image"]
    assert (report.matched, report.missing) == (len(state), ())
    kept = trained(config).encoders["image"].state_dict()
    assert torch.equal(kept["backbone.layers.0.weight"], state["layers.0.weight"])


def test_every_image_network_is_made_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A packaged study that needs MONAI, and one whose weights are of another network: said at once."""
    config = load_model_config("hospital")
    assert image_networks(config) == {}
    save_file({"layers.0.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    weights = {"file": str(tmp_path / "other.safetensors"), "layout": "riskpred"}
    other = _with(config.network, ImageEncoder.model_validate({"channels": (4, 8), "weights": weights}))
    with pytest.raises(ConfigError, match="fit the network badly"):
        image_networks(config.model_copy(update={"network": other}))
    large = _with(config.network, ImageEncoder(network="resnet18"))
    for name in ("monai", "monai.networks", "monai.networks.nets"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match="MONAI"):
        image_networks(config.model_copy(update={"network": large}))
