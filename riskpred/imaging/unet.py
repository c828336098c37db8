"""A UNet of residual blocks for pictures and volumes: what each pixel shows, by what lies around it at every scale."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from riskpred.config.segmentation import UNetSettings

_RARE = -2.0
"""Logit that a head starts from: most pixels show no lesion, and training need not find that out first."""


class UNet(nn.Module):
    """Logits of each label at each pixel, and, while training, at the next coarser levels too (deep supervision).

    Batch statistics normalise while training, their running mean in use: another picture of the batch then changes
    nothing. Pictures of any size are taken: those that do not halve evenly are padded and cut again.

    Shape: pixels (T, C, H, W) or (T, C, Z, H, W) -> (T, L, H, W) or (T, L, Z, H, W); training: a list of these, each
        half the size of the one before.
    Example:
        >>> net = UNet(UNetSettings(widths=(4, 8, 8)), channels=1, labels=2, dims=2).eval()
        >>> net(torch.rand(3, 1, 30, 41)).shape
        torch.Size([3, 2, 30, 41])
    """

    def __init__(self, settings: UNetSettings, channels: int, labels: int, dims: int) -> None:
        super().__init__()
        widths, self.dims, self.stem = settings.widths, dims, settings.stem
        conv, across = (nn.Conv2d, nn.ConvTranspose2d) if dims == 2 else (nn.Conv3d, nn.ConvTranspose3d)
        first = settings.stem
        self.down = nn.ModuleList(
            _Block(before, width, dims, stride=first if level == 0 else 2)
            for level, (before, width) in enumerate(zip((channels, *widths[:-1]), widths, strict=True))
        )
        self.dropout = nn.Dropout(settings.dropout)
        finer = list(zip(widths[1:], widths[:-1], strict=True))
        self.grow = nn.ModuleList(across(coarse, fine, kernel_size=2, stride=2) for coarse, fine in finer)
        self.up = nn.ModuleList(_Block(2 * fine, fine, dims) for _, fine in finer)
        heads = [conv(width, labels, kernel_size=1) for width in widths[:3]]
        for head in heads:
            assert head.bias is not None
            nn.init.constant_(head.bias, _RARE)
        self.heads = nn.ModuleList(heads)

    def forward(self, pixels: Tensor) -> Tensor | list[Tensor]:
        size = pixels.shape[2:]
        x, maps = self._padded(pixels), []
        for level in self.down:
            x = level(x)
            maps.append(x)
        x = self.dropout(x)
        found = [x]
        for grow, up, beside in zip(reversed(self.grow), reversed(self.up), reversed(maps[:-1]), strict=True):
            x = up(torch.cat([grow(x), beside], dim=1))
            found.insert(0, x)
        if not self.training:
            return self._full(self.heads[0](found[0]), size)
        return [head(one) for head, one in zip(self.heads, found, strict=False)]

    @property
    def halves(self) -> int:
        """Pixels of one pixel of the coarsest level."""
        return int(self.stem * 2 ** len(self.grow))

    def _padded(self, pixels: Tensor) -> Tensor:
        missing = [-side % self.halves for side in pixels.shape[2:]]
        if not any(missing):
            return pixels
        return functional.pad(pixels, [n for side in reversed(missing) for n in (0, side)], mode="replicate")

    def _full(self, logits: Tensor, size: torch.Size) -> Tensor:
        if self.stem > 1:
            how = "bilinear" if self.dims == 2 else "trilinear"
            logits = functional.interpolate(logits.float(), scale_factor=self.stem, mode=how)
        for axis, side in enumerate(size, start=2):
            logits = logits.narrow(axis, 0, side)
        return logits


class _Block(nn.Module):
    """Two convolutions and a short cut around them."""

    def __init__(self, before: int, after: int, dims: int, stride: int = 1) -> None:
        super().__init__()
        conv, norm = (nn.Conv2d, nn.BatchNorm2d) if dims == 2 else (nn.Conv3d, nn.BatchNorm3d)
        self.first = conv(before, after, kernel_size=3, stride=stride, padding=1, bias=False)
        self.first_norm = norm(after)
        self.second = conv(after, after, kernel_size=3, padding=1, bias=False)
        self.second_norm = norm(after)
        same = before == after and stride == 1
        self.short = nn.Identity() if same else conv(before, after, kernel_size=1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.first_norm(self.first(x)), inplace=True)
        return functional.relu(self.second_norm(self.second(inner)) + self.short(x), inplace=True)
