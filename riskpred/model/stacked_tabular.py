"""The tabular encoders of all members in one pass: spline terms compiled, trees in step, TabM as a few products.

The same arithmetic as `TabularEncoder`, for risks without a gradient. TabM scales its input and output for each of its
k copies; both scalings are put into the weights once, so that a layer is one product. Rows lie innermost.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from tabm import LinearBatchEnsemble
from torch import Tensor

from riskpred.model.device import exact
from riskpred.model.layout import BASES
from riskpred.model.stacked_spline import StackedSpline
from riskpred.model.tabular import TabularEncoder
from riskpred.model.tensors import TabularTensors
from riskpred.model.vector_math import silu_added

_BLOCK = 256
"""Rows that go through the layers together: about a megabyte of hidden numbers."""
_CUDA_BLOCK = 4096
"""The same on CUDA, where a kernel takes about as long for a thousand rows as for a hundred."""


@dataclass(frozen=True)
class StackedTabular:
    """R members' encoders; k copies of TabM in each, width H, I inputs of TabM, N numeric features, F features.

    Shape:
        location, scale, low, high: (R, N, 1), float32.   frequency: (R, N, 16, 1).
        embed: (R N, 8, 32) and its bias (R N, 8, 1).
        first: (R, k H, I) and bias (R, k H, 1).   deeper: (R k, H, H) each, and biases (R k, H, 1).
        outer: (R, G + D, k H), divided by k; its bias (R, G + D, 1).
    The products are computed in the type of `first` and on its device; all before and the sums after them are float32.
    Spline terms and trees are the processor's.
    """

    encoders: tuple[TabularEncoder, ...]
    terms: StackedSpline
    location: Tensor
    scale: Tensor
    low: Tensor
    high: Tensor
    frequency: Tensor
    embed: tuple[Tensor, Tensor] | None
    first: tuple[Tensor, Tensor]
    deeper: tuple[tuple[Tensor, Tensor], ...]
    outer: tuple[Tensor, Tensor]
    numeric: Tensor
    numeric_feature: Tensor
    hot: Tensor

    @classmethod
    def of(
        cls,
        encoders: Sequence[TabularEncoder],
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> "StackedTabular":
        """Weights of encoders as they are now; dtype, device: of the products. None = the processor."""
        one = encoders[0]
        layers = [[block[0] for block in encoder.backbone.blocks] for encoder in encoders]
        read = one.design.columns_read

        def stacked(parts: Sequence[Tensor]) -> Tensor:
            return torch.stack([part.detach() for part in parts])

        frequency, embed = torch.zeros(len(encoders), 0, 1, 1), None
        embeddings = [encoder.embed for encoder in encoders if encoder.embed is not None]
        if embeddings:
            frequency = 2 * math.pi * stacked([part.periodic.weight for part in embeddings])[..., None]
            embed = (
                stacked([part.linear.weight for part in embeddings]).flatten(0, 1).mT.contiguous(),
                stacked([part.linear.bias for part in embeddings]).flatten(0, 1)[..., None],
            )
        with torch.no_grad():
            weights = [
                (
                    torch.stack([_scaled(member[depth]) for member in layers]),
                    torch.stack([member[depth].bias for member in layers])[..., None],
                )
                for depth in range(len(layers[0]))
            ]
            outer = (
                torch.cat(
                    [
                        stacked([_flat(encoder.to_coefficients.weight) for encoder in encoders]),
                        stacked([encoder.to_embedding.weight.repeat(1, encoder.members) for encoder in encoders]),
                    ],
                    dim=1,
                )
                / one.members
            )
            outer_bias = torch.cat(
                [
                    stacked([encoder.to_coefficients.bias.mean(0) for encoder in encoders]),
                    stacked([encoder.to_embedding.bias for encoder in encoders]),
                ],
                dim=1,
            )
        first, deeper = weights[0], weights[1:]
        made = cls(
            encoders=tuple(encoders),
            terms=StackedSpline.of([one.design for one in encoders], [one.spline_weight for one in encoders]),
            location=stacked([encoder.location for encoder in encoders])[..., None],
            scale=stacked([encoder.scale for encoder in encoders])[..., None],
            low=stacked([encoder.design.low.float() for encoder in encoders])[..., None],
            high=stacked([encoder.design.high.float() for encoder in encoders])[..., None],
            frequency=frequency,
            embed=embed,
            first=(first[0].flatten(1, 2).to(dtype), first[1].flatten(1, 2)),
            deeper=tuple((w.flatten(0, 1).to(dtype), bias.flatten(0, 1)) for w, bias in deeper),
            outer=(outer.to(dtype), outer_bias[..., None]),
            numeric=torch.tensor(read.numeric, dtype=torch.int64),
            numeric_feature=torch.tensor(read.numeric_feature, dtype=torch.int64),
            hot=torch.tensor(read.hot, dtype=torch.int64),
        )  # fmt: skip
        return made if device is None else made._moved(device)

    def _moved(self, device: torch.device) -> "StackedTabular":
        def there(part: Any) -> Any:
            if isinstance(part, tuple):
                return tuple(there(one) for one in part)
            return part.to(device) if isinstance(part, Tensor) else part

        products = [one.name for one in fields(self) if one.name not in ("encoders", "terms")]
        return replace(self, **{name: there(getattr(self, name)) for name in products})

    def __call__(self, tabular: TabularTensors) -> tuple[Tensor, Tensor]:
        """Shape: B rows -> coefficients (R, B, G), embedding (R, B, D), float64."""
        device = self.numeric.device
        values, observed = tabular.values.to(device), tabular.observed.to(device)
        at_once = _CUDA_BLOCK if values.is_cuda else _BLOCK
        with exact():
            said = [self._residual(values[some], observed[some]) for some in _blocks(len(values), at_once)]
        # CUDA computes on while the processor does what follows, until its numbers are asked for.
        terms, asked = self.terms(tabular), self.encoders[0].trees.asked(tabular)
        coefficients = self.encoders[0].trees.causes * BASES
        whole = torch.cat(said, dim=-1).cpu().double()
        whole[:, :coefficients] += terms.repeat_interleave(BASES, dim=1)
        for own, encoder in zip(whole, self.encoders, strict=True):
            own[:coefficients] += encoder.trees.weighted(asked).T
        return whole[:, :coefficients].mT, whole[:, coefficients:].mT

    def _residual(self, values: Tensor, observed: Tensor) -> Tensor:
        """What TabM says. Shape: (B, W), (B, F) -> (R, G + D, B) float32."""
        members, rows = len(self.location), len(values)
        seen = observed.T.float()
        parts = [values.T[self.hot].expand(members, -1, -1), (1.0 - seen).expand(members, -1, -1)]
        if self.embed is not None:
            raw = torch.minimum(torch.maximum(values.T[self.numeric], self.low), self.high)
            standard = (raw - self.location) / self.scale * seen[self.numeric_feature]
            angle = self.frequency * standard[:, :, None]
            waves = torch.cat([angle.cos(), angle.sin()], dim=2).flatten(0, 1)
            parts.insert(0, torch.baddbmm(self.embed[1], self.embed[0], waves).view(members, -1, rows))
        given = torch.cat(parts, dim=1)
        return self._layers(given) if self.first[0].dtype == torch.float32 else self._reduced_layers(given)

    def _layers(self, given: Tensor) -> Tensor:
        """TabM in float32, rows innermost. Shape: (R, I, B) -> (R, G + D, B)."""
        rows = given.shape[2]
        hidden = _activated(given, *self.first)
        for weight, bias in self.deeper:
            hidden = _activated(hidden.view(len(weight), -1, rows), weight, bias)
        weight, bias = self.outer
        return torch.bmm(weight, hidden.view(len(weight), -1, rows)) + bias

    def _reduced_layers(self, given: Tensor) -> Tensor:
        """The same with products in bfloat16. Its kernels want rows outermost: else they would turn every matrix."""
        members, _, rows = given.shape
        hidden = _activated_rows(given.mT.to(torch.bfloat16), *self.first)
        for weight, bias in self.deeper:
            wide = weight.shape[1]
            copies = hidden.view(members, rows, -1, wide).transpose(1, 2).reshape(-1, rows, wide)
            hidden = _activated_rows(copies, weight, bias).view(members, -1, rows, wide).transpose(1, 2).flatten(2)
        weight, bias = self.outer
        return torch.bmm(hidden, weight.mT).float().mT + bias


def _blocks(rows: int, at_once: int) -> list[slice]:
    return [slice(start, start + at_once) for start in range(0, max(rows, 1), at_once)]


def _activated(given: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(M, I, B), (M, H, I), (M, H, 1) -> (M, H, B)."""
    if given.is_cuda:
        return torch.nn.functional.silu(torch.baddbmm(bias, weight, given), inplace=True)
    hidden = torch.bmm(weight, given)
    silu_added(hidden.numpy(), bias[..., 0].numpy())
    return hidden


def _activated_rows(given: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(M, B, I), (M, H, I), (M, H, 1) -> (M, B, H)."""
    return torch.nn.functional.silu(torch.baddbmm(bias.mT.to(given.dtype), given, weight.mT), inplace=True)


def _scaled(layer: LinearBatchEnsemble) -> Tensor:
    """Weight of each copy with both its scalings, (k, H, I): (x r) W^T s = x (s W r)^T."""
    scaled: Tensor = layer.s[:, :, None] * layer.weight[None] * layer.r[:, None, :]
    return scaled


def _flat(weight: Tensor) -> Tensor:
    """(k, H, G) -> (G, k H)."""
    return weight.permute(2, 0, 1).flatten(1)
