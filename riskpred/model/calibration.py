"""The calibration map of one risk group: a straight line on the log-rate, bent smoothly over time, by availability."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from riskpred.model.layout import GroupGrid


def pattern_index(present: Mapping[str, Tensor], modalities: Sequence[str]) -> Tensor:
    """Which modalities each row has, as a number: bit m is set where modality m (in the model's order) is there.

    Shape: present (B,) bool each -> (B,) int64.
    Example:
        >>> there, not_there = torch.tensor([True]), torch.tensor([False])
        >>> pattern_index({"tabular": there, "series": not_there, "image": there}, ("tabular", "series", "image"))
        tensor([5])
    """
    return torch.stack([present[name].long() << m for m, name in enumerate(modalities)]).sum(dim=0)


class Calibration(nn.Module):
    """eta' = a_j + b_j eta + s_j(t), with b_j > 0 and s_j(t) = c_j (t, t^2) taken at the middle of each interval.

    One map per availability pattern (`pattern_index`), 2^modalities in all. eta is the log of the rate per year, so
    that the unequal lengths of intervals do not enter. Known at once there is no s. Starts as the identity; `fit` sets
    it from out-of-fold predictions.

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
    basis: Tensor

    def __init__(self, group: GroupGrid, modalities: int) -> None:
        super().__init__()
        causes, patterns = len(group.causes), 2**modalities
        self.register_buffer("intercept", torch.zeros(patterns, causes, dtype=torch.float64))
        self.register_buffer("log_slope", torch.zeros(patterns, causes, dtype=torch.float64))
        self.register_buffer("bend", torch.zeros(patterns, causes, 2, dtype=torch.float64))
        self.register_buffer("basis", group.bend_basis.clone(), persistent=False)

    def forward(self, log_rate: Tensor, pattern: Tensor) -> Tensor:
        slope = self.log_slope.exp()[pattern]
        return self.intercept[pattern][:, :, None] + slope[:, :, None] * log_rate + self.bend[pattern] @ self.basis
