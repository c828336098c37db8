"""Weights of others' image networks, from a local file, as the starting values of a backbone; what did not fit is told.

Names are mapped by layout and shapes compared. Only the first convolution is reshaped, where it reads another number of
channels: its kernels are summed over the channels that they read and shared equally among those of the picture, so
that a grey picture gives what the original gives of the same picture in every channel.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from riskpred.config.network import ImageWeights
from riskpred.errors import ConfigError, InputError
from riskpred.model.backbones import Backbone, convolutions

_ENDS: Final = ("num_batches_tracked",)
_HEADS: Final = ("fc.", "classifier.", "class_layers.", "conv_seg.", "op_threshs", "op_threshs.")
"""What no backbone has: layers after the last maps, and counters."""

_RADIMAGENET: Final = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool")
"""RadImageNet keeps a torchvision network's children as a numbered sequence."""

_OLD_DENSE: Final = re.compile(r"(denselayer\d+\.)(norm|relu|conv)\.([12])\.")
_LEAST_MATCHED: Final = 0.5

_PIXELS: Final[dict[str, tuple[float, float]]] = {
    "torchvision": (0.449, 0.226),
    "torchxrayvision": (0.5, 1 / 2048),
    "radimagenet": (0.5, 0.5),
}
"""Location and scale of pixels 0..1 that a layout's networks were trained on: ImageNet's mean and SD over colours,
-1024 to 1024, and -1 to 1. MedicalNet's volumes are standardised each, as ours are together."""


@dataclass(frozen=True)
class WeightsReport:
    """What became of a file's tensors, for the card: names as the backbone has them, or the file's where it has none.

    matched: number taken, reshaped ones too.   reshaped: first convolution.   missing: of the backbone, start at
    random.   unexpected: of the file, not used.   wrong_shape: of both, shapes differ; start at random.
    """

    layout: str
    matched: int
    reshaped: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    wrong_shape: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @property
    def sentence(self) -> str:
        """What was taken and what was not, in numbers."""
        return (
            f"{self.matched} tensors of layout {self.layout} taken ({len(self.reshaped)} reshaped); "
            f"{len(self.missing)} missing, {len(self.wrong_shape)} of another shape, {len(self.unexpected)} not used"
        )


def pixel_scale(layout: str) -> tuple[float, float] | None:
    """Location and scale of pixels in 0..1 that a layout's networks expect; None = those of the training pictures."""
    return _PIXELS.get(layout)


def load_weights(network: Backbone, weights: ImageWeights) -> WeightsReport:
    """Put a file's weights into a backbone.

    Raises: InputError (no such file, not readable as weights alone), ConfigError (under half of the backbone's tensors
        are in it: another network or layout).
    """
    return put_weights(network, read_weights(Path(weights.file)), weights.layout)


def put_weights(network: Backbone, state: Mapping[str, Tensor], layout: str) -> WeightsReport:
    """The same of tensors that are read already."""
    given = {_name(name, layout, network): tensor for name, tensor in state.items() if not name.endswith(_ENDS)}
    own = network.state_dict()
    first = next(name for name, part in network.named_modules() if part is next(convolutions(network))) + ".weight"
    taken: dict[str, Tensor] = {}
    reshaped, wrong = [], []
    for name, tensor in given.items():
        if name not in own:
            continue
        here = tensor
        if name == first and tensor.ndim == own[name].ndim and tensor.shape[1] != own[name].shape[1]:
            here = _other_channels(tensor, own[name].shape[1])
            if here.shape == own[name].shape:
                reshaped.append(name)
        if here.shape == own[name].shape:
            taken[name] = here
        else:
            wrong.append(name)
    missing = tuple(sorted(set(own) - set(given)))
    unexpected = tuple(sorted(name for name in given if name not in own))
    report = WeightsReport(layout, len(taken), tuple(reshaped), missing, unexpected, tuple(sorted(wrong)))
    if len(taken) < _LEAST_MATCHED * len(own):
        raise ConfigError(
            f"The weights fit the network badly: {report.sentence}.",
            wanted=f"weights of this network ({len(own)} tensors, the first of them {sorted(own)[0]})",
            got=f"names such as {', '.join(sorted(state)[:2]) or 'none'}",
            do="name the file's own `network` and `layout` in network.yaml",
        )
    network.load_state_dict(taken, strict=False)
    return report


def read_weights(file: Path) -> dict[str, Tensor]:
    """Tensors by name, of .safetensors or of a .pth of weights alone; nothing else that a pickle holds is run.

    Raises: InputError.
    """
    wanted = "a state dict: .safetensors, or .pth saved with torch.save(model.state_dict(), ...)"
    if not file.is_file():
        raise InputError("The weights of the image network are not there.", wanted=wanted, got=f"no file {file.name}")
    try:
        if file.suffix == ".safetensors":
            found: dict[str, Tensor] = load_file(file)
            return found
        read = torch.load(file, map_location="cpu", weights_only=True)
    except (UnpicklingError, SafetensorError, RuntimeError, EOFError, ValueError) as error:
        raise InputError(
            f"{file.name} cannot be read as weights alone.",
            wanted=wanted,
            got=type(error).__name__,
            do="load it where it was made and save its state_dict",
        ) from error
    if isinstance(read, dict) and isinstance(read.get("state_dict"), dict):
        read = read["state_dict"]
    if not isinstance(read, dict) or not all(isinstance(value, Tensor) for value in read.values()) or not read:
        raise InputError(f"{file.name} holds no weights.", wanted=wanted, got=type(read).__name__)
    return {str(name): tensor for name, tensor in read.items()}


def _name(name: str, layout: str, network: Backbone) -> str:
    """A tensor's name as the backbone has it."""
    name = name.removeprefix("module.")
    if layout == "riskpred":
        return name
    if layout == "radimagenet":
        number, rest = [*name.removeprefix("backbone.").split(".", 1), ""][:2]
        if number.isdigit() and int(number) < len(_RADIMAGENET):
            name = f"features.{rest}" if hasattr(network, "features") else f"{_RADIMAGENET[int(number)]}.{rest}"
    if name.startswith(_HEADS):
        return name
    if hasattr(network, "features"):
        name = _OLD_DENSE.sub(r"\1\2\3.", name)
        return re.sub(r"(denselayer\d+\.)(?=norm|conv)", r"\1layers.", name)
    return f"body.{name}"


def _other_channels(kernel: Tensor, channels: int) -> Tensor:
    """The first kernel for another number of channels. Shape: (F, C, ...) -> (F, channels, ...)."""
    total = kernel.sum(dim=1, keepdim=True) / channels
    return total.expand(-1, channels, *kernel.shape[2:]).contiguous()
