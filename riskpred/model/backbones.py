"""Networks that see one picture: the small convolutional one, MONAI's ResNet and DenseNet; in two dimensions or three.

Whatever the network, no other picture of a batch has a part in a picture's numbers: norms are GroupNorm, or BatchNorm
frozen at the statistics that came with loaded weights.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import nullcontext
from math import gcd
from typing import Any, Final

import torch
from torch import Tensor, nn

from riskpred.config.network import ImageEncoder as Settings
from riskpred.errors import ConfigError, ShapeMismatch

_LAYERS: Final = {
    "resnet10": ("basic", (1, 1, 1, 1)),
    "resnet18": ("basic", (2, 2, 2, 2)),
    "resnet34": ("basic", (3, 4, 6, 3)),
    "resnet50": ("bottleneck", (3, 4, 6, 3)),
}
_BLOCKS: Final = {"densenet121": (6, 12, 24, 16), "densenet169": (6, 12, 32, 32)}
_GROUPS: Final = 32
"""Groups of a norm of MONAI's networks at most (Wu & He 2018); fewer where the channels ask for it."""


class Backbone(nn.Module, ABC):
    """Features of each picture by itself: maps of a network, their mean and smooth maximum over the picture.

    Shape: (T, C, H, W) or (T, C, Z, H, W) standardised pixels -> (T, width) float32.
    Example:
        >>> network = backbone(Settings(channels=(4, 8)), channels=1, dims=2)
        >>> network(torch.rand(2, 1, 32, 32)).shape, network.width
        (torch.Size([2, 16]), 16)
    """

    stages: tuple[tuple[nn.Module, ...], ...]
    """Parts in the order in which a picture meets them: what `freeze` counts."""

    def __init__(self, channels: int, dims: int, features: int, reduced: bool) -> None:
        super().__init__()
        self.channels, self.dims, self.width = channels, dims, 2 * features
        self.reduced = reduced

    def forward(self, values: Tensor) -> Tensor:
        if values.ndim != self.dims + 2 or values.shape[1] != self.channels:
            raise ShapeMismatch(
                f"values must be (T, {self.channels}, {'H, W' if self.dims == 2 else 'Z, H, W'}); "
                f"got {tuple(values.shape)}"
            )
        # Not `enabled=`: an autocast of the caller's, the fast path's, is left alone.
        with torch.autocast(values.device.type, torch.bfloat16) if self._in_bf16 else nullcontext():
            maps = self.maps(values)
        # Under an autocast of the caller's, too, what is summed over the picture is summed in float32.
        flat = maps.float().flatten(2)
        return torch.cat([flat.mean(-1), torch.logsumexp(flat, -1)], dim=1)

    @property
    def _in_bf16(self) -> bool:
        """Only training: what a fitted network says in fp32 is what other paths are measured against."""
        return self.reduced and self.training

    @abstractmethod
    def maps(self, values: Tensor) -> Tensor:
        """Maps of the last stage. Shape: (T, F, ...), 2F = width."""

    def freeze(self, stages: int) -> None:
        """The first stages learn nothing more."""
        for stage in self.stages[:stages]:
            for part in stage:
                part.requires_grad_(requires_grad=False)


class SmallBackbone(Backbone):
    """Strided convolutions with GroupNorm and smooth activations: trains on a laptop."""

    def __init__(self, settings: Settings, channels: int, dims: int) -> None:
        super().__init__(channels, dims, settings.channels[-1], settings.precision == "bf16")
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        layers: list[nn.Module] = []
        before = channels
        for many in settings.channels:
            layers += [conv(before, many, kernel_size=3, stride=2, padding=1), nn.GroupNorm(_groups(many), many)]
            layers += [nn.SiLU()]
            before = many
        self.layers = nn.Sequential(*layers)
        self.stages = tuple(tuple(layers[at : at + 3]) for at in range(0, len(layers), 3))

    def maps(self, values: Tensor) -> Tensor:
        found: Tensor = self.layers(values)
        return found


class ResNetBackbone(Backbone):
    """A residual network (He et al. 2016, CVPR:770-778) without its last layer; layer names are torchvision's."""

    def __init__(self, settings: Settings, channels: int, dims: int) -> None:
        monai = _monai("resnet", settings.network)
        kind, layers = _LAYERS[settings.network]
        features = 512 * (1 if kind == "basic" else 4)
        super().__init__(channels, dims, features, settings.precision == "bf16")
        padded = settings.shortcut == "padded"
        self.body = monai.ResNet(
            block=kind,
            layers=list(layers),
            block_inplanes=[64, 128, 256, 512],
            spatial_dims=dims,
            n_input_channels=channels,
            conv1_t_stride=1 if settings.stem == "small" else 2,
            no_max_pool=settings.stem == "small",
            shortcut_type="A" if padded else "B",
            bias_downsample=False,
            feed_forward=False,
        )
        for block in self.body.modules():
            # MONAI's own function cuts the gradient that should pass by the shortcut.
            if padded and isinstance(block, monai.ResNetBlock | monai.ResNetBottleneck) and block.downsample:
                width = (block.bn3 if kind == "bottleneck" else block.bn2).num_features
                block.downsample = PaddedShortcut(width, block.stride)
        _own_norms(self.body, settings.frozen_norm)
        body = self.body
        self.stages = ((body.conv1, body.bn1), *((getattr(body, f"layer{at}"),) for at in range(1, 5)))

    def maps(self, values: Tensor) -> Tensor:
        body = self.body
        found: Tensor = body.act(body.bn1(body.conv1(values)))
        if not body.no_max_pool:
            found = body.maxpool(found)
        return body.layer4(body.layer3(body.layer2(body.layer1(found))))  # type: ignore[no-any-return]


class DenseNetBackbone(Backbone):
    """A densely connected network (Huang et al. 2017, CVPR:2261-2269) without its last layer."""

    def __init__(self, settings: Settings, channels: int, dims: int) -> None:
        monai = _monai("densenet", settings.network)
        blocks = _BLOCKS[settings.network]
        body = monai.DenseNet(spatial_dims=dims, in_channels=channels, out_channels=1, block_config=blocks).features
        super().__init__(channels, dims, body.norm5.num_features, settings.precision == "bf16")
        if settings.stem == "small":
            body.conv0.stride, body.pool0 = (1,) * dims, nn.Identity()
        _own_norms(body, settings.frozen_norm)
        self.features = body
        stem = (body.conv0, body.norm0)
        dense = [(body.get_submodule(f"denseblock{at}"), body.get_submodule(f"transition{at}")) for at in range(1, 4)]
        self.stages = (stem, *dense, (body.denseblock4, body.norm5))

    def maps(self, values: Tensor) -> Tensor:
        return torch.relu(self.features(values))


class PaddedShortcut(nn.Module):
    """A residual block's shortcut without weights: every `stride`-th pixel, new channels 0 (MedicalNet's type A).

    Shape: (T, C, ...) -> (T, width, ...), sides divided by stride and rounded up.
    """

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.width, self.stride = width, stride

    def forward(self, values: Tensor) -> Tensor:
        every = slice(None, None, self.stride)
        inside = values[:, :, every, every] if values.ndim == 4 else values[:, :, every, every, every]
        return nn.functional.pad(inside, (0, 0) * (values.ndim - 2) + (0, self.width - values.shape[1]))


class FrozenNorm(nn.Module):
    """BatchNorm at statistics that never change: a factor and an offset per channel, which may learn.

    Shape: (T, C, ...) -> the same.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.eps = eps

    def forward(self, values: Tensor) -> Tensor:
        factor = self.weight * torch.rsqrt(self.running_var + self.eps)
        offset = self.bias - self.running_mean * factor
        shape = (-1,) + (1,) * (values.ndim - 2)
        return values * factor.view(shape).to(values.dtype) + offset.view(shape).to(values.dtype)


def backbone(settings: Settings, channels: int, dims: int) -> Backbone:
    """The network that settings ask for.

    Args:
        channels: of a picture.   dims: 2, or 3 for whole volumes.
    Raises: ConfigError, where a network of MONAI's is asked for and MONAI (extra `imaging`) is not installed.
    """
    assert dims in (2, 3), "a picture has two dimensions or three"
    if settings.network == "small":
        return SmallBackbone(settings, channels, dims)
    network = ResNetBackbone if settings.network in _LAYERS else DenseNetBackbone
    return network(settings, channels, dims)


def _monai(name: str, network: str) -> Any:
    try:
        if name == "resnet":
            from monai.networks.nets import resnet

            return resnet
        from monai.networks.nets import densenet

        return densenet
    except ImportError as error:
        raise ConfigError(
            f"network.yaml asks for {network}, which is MONAI's.",
            wanted="the extra `imaging`",
            got="no MONAI",
            do='pip install "riskpred[imaging]", or network: small',
        ) from error


def _own_norms(body: nn.Module, frozen: bool) -> None:
    """Put GroupNorm (or frozen statistics) in place of every BatchNorm, and activations that change nothing in place.

    In place of, not by MONAI's own setting: its ResNet passes that to the first norm alone. Activations in place would
    end Captum's hooks.
    """
    for parent in list(body.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, nn.BatchNorm2d | nn.BatchNorm3d):
                many = part.num_features
                new = FrozenNorm(many, part.eps) if frozen else nn.GroupNorm(gcd(_GROUPS, many), many)
                setattr(parent, name, new)
            elif isinstance(part, nn.ReLU):
                part.inplace = False


def convolutions(network: Backbone) -> Iterator[nn.Module]:
    """Its convolutions, in the order of their making; the first reads pixels."""
    return (part for part in network.modules() if isinstance(part, nn.Conv2d | nn.Conv3d))


def _groups(channels: int) -> int:
    """Groups of about 4 channels, and a divisor of the channels."""
    return next(groups for groups in range(max(1, channels // 4), 0, -1) if channels % groups == 0)
