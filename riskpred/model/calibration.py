"""The calibration map of one risk group: a bent line on the log-rate at three points of time, by availability."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from riskpred.model.layout import BASES, GroupGrid


def pattern_index(present: Mapping[str, Tensor], modalities: Sequence[str]) -> Tensor:
    """Which modalities each row has, as a number: bit m is set where modality m (in the model's order) is there.

    Shape: present (B,) bool each -> (B,) int64.
    Example:
        >>> there, not_there = torch.tensor([True]), torch.tensor([False])
        >>> pattern_index({"tabular": there, "series": not_there, "image": there}, ("tabular", "series", "image"))
        tensor([5])
    """
    return torch.stack([present[name].long() << m for m, name in enumerate(modalities)]).sum(dim=0)


def bent(log_rate: Tensor, bend: Tensor, knot: Tensor, width: Tensor) -> Tensor:
    """A log-rate beyond its knot, its slope going smoothly from exp(-bend) far below the knot to exp(bend) far above.

    High rates wear off faster than low ones: with bend < 0 the map says so. bend = 0 leaves log_rate - knot; at the
    knot it is 0 whatever the bend.

    Args:
        knot: where the slope changes.   width: how gently, in units of the log-rate.

    Shape: all (..., J, 1) against log_rate (..., J, K); bend may differ by row, knot and width may not.
    """
    beyond = log_rate - knot
    above = width * (softplus(beyond / width) - math.log(2.0))
    return torch.exp(-bend) * beyond + 2.0 * torch.sinh(bend) * above


class Calibration(nn.Module):
    """eta' = sum over the points of time p of h_p(t) (a_jp + b_jp g_j(eta)), b_jp > 0, h the group's time basis.

    g is `bent`, rising. What tells early events apart often says little of late ones, so a line has its own intercept
    and slope at each point. One map per availability pattern (`pattern_index`), 2^modalities in all, with the same
    knots. eta is the log of the rate per year, so that the unequal lengths of intervals do not enter. Known at once
    only the first point counts. Starts as the identity; `fit` sets it from out-of-fold predictions.

    Shape: log-rate (B, J, K) float64, pattern (B,) int64 -> (B, J, K).
    Example:
        >>> group = GroupGrid("x", ("x",), ("x", "death"), False, (5.0,), (0.0, 1.0, 5.0))
        >>> eta = torch.full((3, 2, 2), -4.0, dtype=torch.float64)
        >>> bool((Calibration(group, modalities=1)(eta, torch.ones(3, dtype=torch.int64)) == eta).all())
        True
    """

    intercept: Tensor
    log_slope: Tensor
    bend: Tensor
    knot: Tensor
    width: Tensor
    basis: Tensor

    def __init__(self, group: GroupGrid, modalities: int) -> None:
        super().__init__()
        patterns, causes = 2**modalities, len(group.causes)
        self.register_buffer("intercept", torch.zeros(patterns, causes, BASES, dtype=torch.float64))
        self.register_buffer("log_slope", torch.zeros(patterns, causes, BASES, dtype=torch.float64))
        self.register_buffer("bend", torch.zeros(patterns, causes, dtype=torch.float64))
        self.register_buffer("knot", torch.zeros(causes, dtype=torch.float64))
        self.register_buffer("width", torch.ones(causes, dtype=torch.float64))
        self.register_buffer("basis", group.time_basis.clone(), persistent=False)

    def forward(self, log_rate: Tensor, pattern: Tensor) -> Tensor:
        slope, intercept = self.log_slope.exp() @ self.basis, self.intercept @ self.basis
        beyond = bent(log_rate, self.bend[pattern][:, :, None], self.knot[:, None], self.width[:, None])
        return intercept[pattern] + slope[pattern] * beyond
