"""The image encoder: a network reads each picture alone, and the pictures of a row meet in a weighted mean."""

import torch
from torch import Tensor, nn

from riskpred.config.network import ImageEncoder as Settings
from riskpred.model.attention import AGE_TERMS, age_terms, pooled
from riskpred.model.backbones import backbone
from riskpred.model.tensors import ImageTensors

_LEAST_SPREAD = 1e-3
"""Least pixel standard deviation divided by: blank training images must not blow noise up."""

_LEARNED_AT_ONCE = 64
"""Pictures whose pixels are in float64 at a time."""


class ImageEncoder(nn.Module):
    """Coefficients and embedding of a row's pictures: each encoded by a backbone, then averaged by attention.

    The backbone looks at one picture only, so a batch's other rows change nothing. The weights of the mean come from
    what a picture shows and from its age (attention.py); they start equal.

    Shape: ImageTensors of B rows -> coefficients (B, G) float64, embedding (B, D) float64.
    Example:
        >>> encoder = ImageEncoder(Settings(), channels=1, dims=2, coefficients=6, embedding=16)
        >>> coefficients, embedding = encoder(ImageTensors.alone(torch.rand(2, 1, 64, 64)))
        >>> coefficients.shape, embedding.shape
        (torch.Size([2, 6]), torch.Size([2, 16]))
    """

    location: Tensor
    scale: Tensor

    def __init__(self, settings: Settings, channels: int, dims: int, coefficients: int, embedding: int) -> None:
        super().__init__()
        self.register_buffer("location", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))
        self.backbone = backbone(settings, channels, dims)
        self.dropout = nn.Dropout(settings.dropout)
        self.to_coefficients = nn.Linear(self.backbone.width, coefficients)
        nn.init.zeros_(self.to_coefficients.weight)
        nn.init.zeros_(self.to_coefficients.bias)
        self.to_embedding = nn.Linear(self.backbone.width, embedding)
        # No random number is drawn for what starts at zero anyway: nobody else's should depend on it.
        self.to_attention = nn.utils.skip_init(nn.Linear, self.backbone.width, 1)  # type: ignore[no-untyped-call]
        nn.init.zeros_(self.to_attention.weight)
        nn.init.zeros_(self.to_attention.bias)
        self.age_weight = nn.Parameter(torch.zeros(AGE_TERMS, dtype=torch.float64))

    @property
    def wide(self) -> int:
        """V: numbers that are said of a picture."""
        return self.to_coefficients.out_features + self.to_embedding.out_features + 1

    def learn(self, image: ImageTensors) -> None:
        """Mean and spread of the pixels of training images."""
        count = max(1, image.values.numel())
        blocks = torch.split(image.values, _LEARNED_AT_ONCE)
        mean = torch.stack([block.double().sum() for block in blocks]).sum() / count
        spread = torch.stack([((block.double() - mean) ** 2).sum() for block in blocks]).sum() / count
        self.location.copy_(mean)
        self.scale.copy_(spread.sqrt().clamp_min(_LEAST_SPREAD))

    def forward(self, image: ImageTensors) -> tuple[Tensor, Tensor]:
        said = self.said(image.values) if image.sent is None else image.sent.double()
        whole = pooled(said, image.start, age_terms(image.start, image.age_days), self.age_weight)
        return whole[:, : self.to_coefficients.out_features], whole[:, self.to_coefficients.out_features :]

    def said(self, values: Tensor) -> Tensor:
        """Coefficients, embedding and attention logit of each picture. Shape: (T, C, H, W) -> (T, V) float64."""
        seen = self.dropout(self.features(values))
        each = self.to_coefficients(seen), self.to_embedding(seen), self.to_attention(seen)
        return torch.cat([one.double() for one in each], dim=1)

    def features(self, values: Tensor) -> Tensor:
        """What the backbone sees in each picture. Shape: (T, C, H, W) or (T, C, Z, H, W) -> (T, width)."""
        found: Tensor = self.backbone((values - self.location) / self.scale)
        return found

    def heads(self) -> tuple[Tensor, Tensor]:
        """Weight and bias that make `said` of `features`. Shape: (V, width), (V,)."""
        each = self.to_coefficients, self.to_embedding, self.to_attention
        return torch.cat([one.weight for one in each]), torch.cat([one.bias for one in each])
