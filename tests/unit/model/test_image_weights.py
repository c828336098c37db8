"""Weights in others' layouts, as the tests write them, are found by name; what does not fit is listed."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from riskpred.config.network import ImageEncoder as Settings
from riskpred.config.network import ImageWeights
from riskpred.errors import ConfigError, InputError
from riskpred.model.backbones import Backbone, backbone
from riskpred.model.image_weights import load_weights, put_weights, read_weights

pytest.importorskip("monai")
_RESNET = ("bn1", "bn2", "downsample.1")


def _settings(network: str, layout: str, file: str = "weights.pth") -> Settings:
    return Settings.model_validate({"network": network, "weights": {"file": file, "layout": layout}})


def _norm(name: str, width: int) -> dict[str, Tensor]:
    ends = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{end}": torch.rand(width) + 0.5 for end in ends} | {f"{name}.num_batches_tracked": torch.tensor(9)}


def _resnet18(dims: int = 2, channels: int = 3, projected: bool = True) -> dict[str, Tensor]:
    """Names and shapes of torchvision's resnet18, and of MedicalNet's without shortcuts of their own."""
    kernel = (3,) * dims
    state = {"conv1.weight": torch.randn(64, channels, *(7,) * dims)} | _norm("bn1", 64)
    before = 64
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            at = f"layer{stage}.{block}"
            state[f"{at}.conv1.weight"] = torch.randn(width, before, *kernel)
            state[f"{at}.conv2.weight"] = torch.randn(width, width, *kernel)
            state |= _norm(f"{at}.bn1", width) | _norm(f"{at}.bn2", width)
            if before != width and projected:
                state[f"{at}.downsample.0.weight"] = torch.randn(width, before, *(1,) * dims)
                state |= _norm(f"{at}.downsample.1", width)
            before = width
    return state | {"fc.weight": torch.randn(1000, 512), "fc.bias": torch.randn(1000)}


def _densenet121(channels: int, old_names: bool) -> dict[str, Tensor]:
    """Names and shapes of torchvision's densenet121; those of old files have a dot before the number."""
    dot = "." if old_names else ""
    state = {"features.conv0.weight": torch.randn(64, channels, 7, 7)} | _norm("features.norm0", 64)
    width = 64
    for block, layers in enumerate((6, 12, 24, 16), start=1):
        for layer in range(1, layers + 1):
            at = f"features.denseblock{block}.denselayer{layer}"
            state |= _norm(f"{at}.norm{dot}1", width) | _norm(f"{at}.norm{dot}2", 128)
            state[f"{at}.conv{dot}1.weight"] = torch.randn(128, width, 1, 1)
            state[f"{at}.conv{dot}2.weight"] = torch.randn(32, 128, 3, 3)
            width += 32
        if block < 4:
            state |= _norm(f"features.transition{block}.norm", width)
            state[f"features.transition{block}.conv.weight"] = torch.randn(width // 2, width, 1, 1)
            width //= 2
    return state | _norm("features.norm5", width) | {"classifier.weight": torch.randn(18, width)}


def _made(network: str, layout: str, channels: int = 3, dims: int = 2) -> Backbone:
    return backbone(_settings(network, layout), channels, dims)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_torchvision_resnet18(prefix: str) -> None:
    state = _resnet18()
    made = _made("resnet18", "torchvision")
    report = put_weights(made, {prefix + name: tensor for name, tensor in state.items()}, "torchvision")
    assert (report.missing, report.wrong_shape, report.reshaped) == ((), (), ())
    assert report.unexpected == ("fc.bias", "fc.weight")
    own = made.state_dict()
    assert report.matched == len(own)
    for name, tensor in own.items():
        assert torch.equal(tensor, state[name.removeprefix("body.")]), name


@pytest.mark.parametrize("old_names", [False, True])
def test_torchvision_densenet121(old_names: bool) -> None:
    made = _made("densenet121", "torchvision")
    state = _densenet121(3, old_names)
    report = put_weights(made, state, "torchvision")
    assert (report.missing, report.wrong_shape, report.unexpected) == ((), (), ("classifier.weight",))
    dot = "." if old_names else ""
    got = made.get_parameter("features.denseblock3.denselayer7.layers.conv2.weight")
    assert torch.equal(got, state[f"features.denseblock3.denselayer7.conv{dot}2.weight"])


def test_torchxrayvision_densenet121_reads_one_channel() -> None:
    made = _made("densenet121", "torchxrayvision", channels=1)
    report = put_weights(made, _densenet121(1, old_names=False) | {"op_threshs": torch.rand(18)}, "torchxrayvision")
    assert (report.missing, report.reshaped) == ((), ())
    assert report.unexpected == ("classifier.weight", "op_threshs")


def test_radimagenet_numbers_a_network_s_parts() -> None:
    number = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    state = {}
    for name, tensor in _resnet18().items():
        part, rest = name.split(".", 1)
        if part in number:
            state[f"backbone.{number[part]}.{rest}"] = tensor
    made = _made("resnet18", "radimagenet")
    assert put_weights(made, state, "radimagenet").missing == ()
    assert torch.equal(made.get_parameter("body.layer4.1.conv2.weight"), state["backbone.7.1.conv2.weight"])
    dense = {f"backbone.0.{name.removeprefix('features.')}": one for name, one in _densenet121(3, False).items()}
    assert put_weights(_made("densenet121", "radimagenet"), dense, "radimagenet").missing == ()


def test_medicalnet_resnet18_has_shortcuts_without_weights() -> None:
    state = {f"module.{name}": one for name, one in _resnet18(dims=3, channels=1, projected=False).items()}
    state |= {"module.conv_seg.0.weight": torch.randn(32, 512, 2, 2, 2)}
    made = _made("resnet18", "medicalnet", channels=1, dims=3)
    report = put_weights(made, state, "medicalnet")
    assert (report.missing, report.wrong_shape) == ((), ())
    assert "conv_seg.0.weight" in report.unexpected
    assert made(torch.rand(1, 1, 16, 16, 16)).shape == (1, 1024)


def test_the_first_kernel_gives_of_grey_what_it_gives_of_three_equal_colours() -> None:
    state = _resnet18()
    grey, colour = _made("resnet18", "torchvision", channels=1), _made("resnet18", "torchvision")
    report = put_weights(grey, state, "torchvision")
    put_weights(colour, state, "torchvision")
    assert report.reshaped == ("body.conv1.weight",)
    picture = torch.rand(1, 1, 33, 33)
    kernel = [one.get_parameter("body.conv1.weight") for one in (grey, colour)]
    by = [
        torch.nn.functional.conv2d(x, k) for x, k in zip((picture, picture.expand(-1, 3, -1, -1)), kernel, strict=True)
    ]
    assert torch.allclose(by[0], by[1], atol=1e-4)
    two = _made("resnet18", "torchvision", channels=2)
    put_weights(two, state, "torchvision")
    kernel_of_two = two.get_parameter("body.conv1.weight")
    assert torch.allclose(torch.nn.functional.conv2d(picture.expand(-1, 2, -1, -1), kernel_of_two), by[0], atol=1e-4)


def test_what_does_not_fit_is_listed_by_name() -> None:
    state = _resnet18()
    del state["layer3.1.conv1.weight"]
    state["layer2.0.conv1.weight"] = torch.randn(128, 64, 5, 5)
    state["extra.weight"] = torch.randn(3)
    made = _made("resnet18", "torchvision")
    before = made.get_parameter("body.layer2.0.conv1.weight").clone()
    report = put_weights(made, state, "torchvision")
    assert report.missing == ("body.layer3.1.conv1.weight",)
    assert report.wrong_shape == ("body.layer2.0.conv1.weight",)
    assert "body.extra.weight" in report.unexpected
    assert torch.equal(made.get_parameter("body.layer2.0.conv1.weight"), before)
    assert "1 missing, 1 of another shape" in report.sentence


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(ConfigError, match="The weights fit the network badly: 0 tensors"):
        put_weights(_made("resnet18", "torchvision"), _densenet121(3, old_names=False), "torchvision")


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_files_of_either_kind(tmp_path: Path, ending: str) -> None:
    file, state = tmp_path / f"weights.{ending}", _resnet18()
    if ending == "pth":
        torch.save({"state_dict": state, "epoch": 3}, file)
    else:
        save_file(state, file)
    made = _made("resnet18", "torchvision")
    assert load_weights(made, ImageWeights(file=str(file), layout="torchvision")).missing == ()


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("a pickle was run",)


def test_a_pickle_of_anything_else_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "weights.pth"
    torch.save(_Evil(), file)
    with pytest.raises(InputError, match=r"weights\.pth cannot be read as weights alone"):
        read_weights(file)
    (tmp_path / "weights.safetensors").write_bytes(b"\x08\x00nonsense")
    with pytest.raises(InputError, match="cannot be read as weights alone"):
        read_weights(tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match="are not there"):
        read_weights(tmp_path / "absent.pth")
    assert "a pickle was run" not in capsys.readouterr().out
