"""Networks that see one picture: a small convolutional one."""

import torch
from torch import Tensor, nn

from riskpred.config.network import ImageEncoder as Settings


class Backbone(nn.Module):
    """Strided convolutions with GroupNorm, mean and smooth-maximum pooling.

    Shape: (T, C, H, W) standardised pixels -> (T, width).
    """

    def __init__(self, settings: Settings, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = channels
        for many in settings.channels:
            layers += [
                nn.Conv2d(before, many, kernel_size=3, stride=2, padding=1),
                nn.GroupNorm(_groups(many), many),
                nn.SiLU(),
            ]
            before = many
        self.layers = nn.Sequential(*layers)
        self.width = 2 * before

    def forward(self, values: Tensor) -> Tensor:
        maps = self.layers(values).flatten(2)
        return torch.cat([maps.mean(-1), torch.logsumexp(maps, -1)], dim=1)


def backbone(settings: Settings, channels: int, dims: int) -> Backbone:
    """The network that settings ask for."""
    assert dims == 2
    return Backbone(settings, channels)


def _groups(channels: int) -> int:
    """Groups of about 4 channels, and a divisor of the channels."""
    return next(groups for groups in range(max(1, channels // 4), 0, -1) if channels % groups == 0)
