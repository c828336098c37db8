"""A backbone sees each picture alone, its gradient reaches every weight, and frozen stages stay as they are."""

import builtins
from typing import Any

import pytest
import torch
from torch import nn

from riskpred.config.network import ImageEncoder as Settings
from riskpred.config.network import ImageWeights
from riskpred.errors import ConfigError, ShapeMismatch
from riskpred.model.backbones import FrozenNorm, PaddedShortcut, backbone

NETWORKS = ("small", "resnet10", "resnet18", "densenet121")
_MEDICALNET = ImageWeights(file="nowhere.pth", layout="medicalnet")


@pytest.mark.parametrize("network", NETWORKS)
def test_other_pictures_change_nothing(network: str) -> None:
    made = backbone(Settings(network=network), channels=1, dims=2).train()  # type: ignore[arg-type]
    pictures = torch.rand(3, 1, 33, 33)
    with torch.no_grad():
        together, alone = made(pictures), made(pictures[:1])
        other = made(torch.cat([pictures[:1], 5 * torch.rand(2, 1, 33, 33)]))
    assert together.shape == (3, made.width)
    assert torch.allclose(together[:1], alone, atol=1e-4)
    assert torch.allclose(other[:1], alone, atol=1e-4)


@pytest.mark.parametrize("settings", [Settings(network="resnet18"), Settings(network="resnet18", weights=_MEDICALNET)])
def test_the_gradient_passes_by_every_block(settings: Settings) -> None:
    """MONAI's shortcut without weights cuts it; here a block whose branch is silent still passes it on."""
    made = backbone(settings, channels=1, dims=3)
    for block in made.body.modules():  # type: ignore[operator]
        if hasattr(block, "bn2"):
            nn.init.zeros_(block.bn2.weight)  # type: ignore[arg-type]
    made(torch.rand(1, 1, 16, 16, 16)).sum().backward()
    assert float(made.body.conv1.weight.grad.abs().max()) > 0  # type: ignore[union-attr, operator]


def test_a_shortcut_without_weights_takes_every_second_pixel() -> None:
    given = torch.arange(9.0).view(1, 1, 3, 3)
    assert PaddedShortcut(2, 2)(given).tolist() == [[[[0.0, 2.0], [6.0, 8.0]], [[0.0, 0.0], [0.0, 0.0]]]]


def test_a_frozen_norm_is_batch_norm_that_no_longer_learns_statistics() -> None:
    batch = nn.BatchNorm2d(4).eval()
    batch.running_mean.normal_()  # type: ignore[union-attr]
    batch.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    frozen = FrozenNorm(4, batch.eps)
    frozen.load_state_dict(batch.state_dict(), strict=False)
    given = torch.rand(2, 4, 5, 5)
    assert torch.allclose(frozen.train()(given), batch(given), atol=1e-6)


def test_stages_that_are_kept_learn_nothing() -> None:
    made = backbone(Settings(network="resnet10"), channels=1, dims=2)
    made.freeze(2)
    learning = {name.split(".")[1] for name, one in made.named_parameters() if one.requires_grad}
    assert learning == {"layer2", "layer3", "layer4"}


def test_nothing_is_changed_in_place() -> None:
    """Captum's hooks end where an activation overwrites what it was given."""
    for network in ("resnet18", "densenet121"):
        made = backbone(Settings(network=network), channels=1, dims=2)  # type: ignore[arg-type]
        assert not any(getattr(part, "inplace", False) for part in made.modules())


def test_a_picture_of_another_kind_is_refused() -> None:
    with pytest.raises(ShapeMismatch, match=r"values must be \(T, 1, H, W\); got \(2, 3, 8, 8\)"):
        backbone(Settings(), channels=1, dims=2)(torch.rand(2, 3, 8, 8))


def test_without_monai_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import_as_before = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("monai"):
            raise ImportError(name)
        return import_as_before(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    backbone(Settings(), channels=1, dims=2)
    with pytest.raises(ConfigError, match=r"resnet18, which is MONAI's(.|\n)*extra `imaging`"):
        backbone(Settings(network="resnet18"), channels=1, dims=2)


def test_training_in_bf16_leaves_scoring_in_fp32() -> None:
    torch.manual_seed(1)
    made = backbone(Settings(channels=(4, 8), precision="bf16"), channels=1, dims=2)
    exact = backbone(Settings(channels=(4, 8)), channels=1, dims=2)
    exact.load_state_dict(made.state_dict())
    given = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        wanted, scored, rounded = exact(given), made.eval()(given), made.train()(given)
    assert torch.equal(scored, wanted)
    assert rounded.dtype == torch.float32
    assert 0 < float((rounded - wanted).abs().max()) < 0.2
