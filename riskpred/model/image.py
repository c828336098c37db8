"""The image encoder: a small convolutional network that treats each picture alone."""

import torch
from torch import Tensor, nn

from riskpred.config.network import ImageEncoder as Settings
from riskpred.model.tensors import ImageTensors

_LEAST_SPREAD = 1e-3
"""Least pixel standard deviation divided by: blank training images must not blow noise up."""


class ImageEncoder(nn.Module):
    """Coefficients and embedding of one image: strided convolutions with GroupNorm, mean and smooth-maximum pooling.

    GroupNorm looks at one picture only, so a batch's other rows change nothing; activations are smooth.

    Shape: ImageTensors of B rows -> coefficients (B, G) float64, embedding (B, D) float64.
    Example:
        >>> encoder = ImageEncoder(Settings(), coefficients=6, embedding=16)
        >>> coefficients, embedding = encoder(ImageTensors(torch.rand(2, 64, 64), torch.ones(2) > 0))
        >>> coefficients.shape, embedding.shape
        (torch.Size([2, 6]), torch.Size([2, 16]))
    """

    location: Tensor
    scale: Tensor

    def __init__(self, settings: Settings, coefficients: int, embedding: int) -> None:
        super().__init__()
        self.register_buffer("location", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))
        layers: list[nn.Module] = []
        before = 1
        for channels in settings.channels:
            layers += [
                nn.Conv2d(before, channels, kernel_size=3, stride=2, padding=1),
                nn.GroupNorm(_groups(channels), channels),
                nn.SiLU(),
            ]
            before = channels
        self.layers = nn.Sequential(*layers)
        self.dropout = nn.Dropout(settings.dropout)
        self.to_coefficients = nn.Linear(2 * before, coefficients)
        nn.init.zeros_(self.to_coefficients.weight)
        nn.init.zeros_(self.to_coefficients.bias)
        self.to_embedding = nn.Linear(2 * before, embedding)

    def learn(self, image: ImageTensors) -> None:
        """Mean and spread of the pixels of training images."""
        self.location.copy_(image.values.double().mean())
        self.scale.copy_(image.values.double().std(correction=0).clamp_min(_LEAST_SPREAD))

    def forward(self, image: ImageTensors) -> tuple[Tensor, Tensor]:
        if image.sent is not None:
            known = image.sent.double()
            return known[:, : self.to_coefficients.out_features], known[:, self.to_coefficients.out_features :]
        pooled = self.dropout(self.pooled(image))
        return self.to_coefficients(pooled).double(), self.to_embedding(pooled).double()

    def pooled(self, image: ImageTensors) -> Tensor:
        """Mean and smooth maximum of each channel over the picture. Shape: B rows -> (B, 2C)."""
        maps = self.layers(((image.values - self.location) / self.scale)[:, None]).flatten(2)
        return torch.cat([maps.mean(-1), torch.logsumexp(maps, -1)], dim=1)


def _groups(channels: int) -> int:
    """Groups of about 4 channels, and a divisor of the channels."""
    return next(groups for groups in range(max(1, channels // 4), 0, -1) if channels % groups == 0)
