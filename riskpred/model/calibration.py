"""The calibration map of one risk group: a straight line on the log-rate, bent smoothly over time."""

import torch
from torch import Tensor, nn

from riskpred.model.layout import GroupGrid


class Calibration(nn.Module):
    """eta' = a_j + b_j eta + s_j(t), with b_j > 0 and s_j(t) = c_j (t, t^2) taken at the middle of each interval.

    eta is the log of the rate per year, so that the unequal lengths of intervals do not enter. Known at once there is
    no s. Starts as the identity; `fit` sets it from out-of-fold predictions.

    Shape: (..., J, K) float64 -> the same.
    Example:
        >>> group = GroupGrid("x", ("x",), ("x", "death"), False, (5.0,), (0.0, 1.0, 5.0))
        >>> eta = torch.full((3, 2, 2), -4.0, dtype=torch.float64)
        >>> bool((Calibration(group)(eta) == eta).all())
        True
    """

    intercept: Tensor
    log_slope: Tensor
    bend: Tensor
    basis: Tensor

    def __init__(self, group: GroupGrid) -> None:
        super().__init__()
        causes = len(group.causes)
        self.register_buffer("intercept", torch.zeros(causes, dtype=torch.float64))
        self.register_buffer("log_slope", torch.zeros(causes, dtype=torch.float64))
        self.register_buffer("bend", torch.zeros(causes, 2, dtype=torch.float64))
        self.register_buffer("basis", group.time_basis[1:].clone(), persistent=False)

    def forward(self, log_rate: Tensor) -> Tensor:
        return self.intercept[:, None] + self.log_slope.exp()[:, None] * log_rate + self.bend @ self.basis
