"""The likelihood that base, network and calibration share: piecewise exponential, or Bernoulli when known at once."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riskpred.model.layout import DAYS_PER_YEAR, GroupGrid


@dataclass(frozen=True)
class GroupLabels:
    """What followed N rows, on one group's grid.

    Shape:
        exposure: (N, K) float64, share of each interval under observation; 0 for rows outside the risk set.
        event: (N, J) float64, 1 at the cause that happened.   interval: (N,) int64, the interval in which it did.
        inside: (N,) bool, row is in the group's risk set and labelled.   widths_years: (K,) float64.
    """

    exposure: Tensor
    event: Tensor
    interval: Tensor
    inside: Tensor
    widths_years: Tensor
    known_at_once: bool

    def up_to(self, intervals: int) -> "GroupLabels":
        """The same people, followed for the first intervals only."""
        if intervals == self.exposure.shape[1]:
            return self
        exposure = self.exposure.clone()
        exposure[:, intervals:] = 0.0
        event = self.event * (self.interval < intervals)[:, None]
        return replace(self, exposure=exposure, event=event, interval=self.interval.clamp(max=intervals - 1))

    def take(self, index: Tensor) -> "GroupLabels":
        return GroupLabels(
            self.exposure[index],
            self.event[index],
            self.interval[index],
            self.inside[index],
            self.widths_years,
            self.known_at_once,
        )


def labels_on(grid: GroupGrid, duration_days: NDArray[np.float64], cause: NDArray[np.int8]) -> GroupLabels:
    """Follow-up and causes on a grid; an event after the last cut counts as censored there. Shape: (N,), (N,)."""
    inside = cause >= 0
    years = np.where(inside, np.nan_to_num(duration_days, nan=0.0), 0.0) / DAYS_PER_YEAR
    event = cause[:, None] == np.arange(1, len(grid.causes) + 1)
    if grid.known_at_once:
        exposure, interval = inside[:, None].astype(np.float64), np.zeros(len(cause), np.int64)
    else:
        cuts = np.asarray(grid.cuts_years)
        exposure = grid.exposure(years * DAYS_PER_YEAR) * inside[:, None]
        # An event at a cut belongs to the interval that ends there.
        interval = np.clip(np.searchsorted(cuts, years, side="left") - 1, 0, grid.intervals - 1)
        event = event & (years <= cuts[-1])[:, None]
    return GroupLabels(
        torch.from_numpy(exposure),
        torch.from_numpy(event.astype(np.float64)),
        torch.from_numpy(interval),
        torch.from_numpy(inside),
        torch.from_numpy(grid.widths_years),
        grid.known_at_once,
    )


def negative_log_likelihood(log_rate: Tensor, labels: GroupLabels) -> Tensor:
    """Minus log-likelihood of each row; 0 for a row outside the risk set.

    Timed: the sum over exposed intervals and causes of share x lambda, minus the log-rate of the cause that happened
    in its interval. Known at once: -y log(1 - exp(-lambda)) + (1 - y) lambda. lambda = exp(log_rate) x width.

    Shape: log_rate (N, J, K), log of the rate per year; result (N,).
    Source: Friedman 1982, Ann Stat 10:101-113 (piecewise exponential).
    """
    rate = log_rate.exp() * labels.widths_years
    if labels.known_at_once:
        rate = rate[..., 0]
        log_yes = torch.log(-torch.expm1(-rate).clamp_max(-torch.finfo(rate.dtype).tiny))
        each = torch.where(labels.event > 0, -log_yes, rate)
        return (each * labels.inside[:, None]).sum(dim=1)
    expected = (rate * labels.exposure[:, None, :]).sum(dim=(1, 2))
    at = labels.interval[:, None, None].expand(-1, log_rate.shape[1], 1)
    happened = (log_rate.gather(2, at)[..., 0] * labels.event).sum(dim=1)
    return expected - happened
