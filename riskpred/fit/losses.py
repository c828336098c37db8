"""The likelihood that base, network and calibration share: piecewise exponential, or of one answer when known at once.

Outcomes known at once stand alone (yes or no), are exclusive classes, or ordered grades. Base, trees and calibration
are fitted cause by cause, as follow-up lets one: grades do, because each step up is judged on those who reached the one
before. Of classes the moment within the interval would have to be known; `apart` puts its expectation in its place.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riskpred.model.layout import DAYS_PER_YEAR, GroupGrid


@dataclass(frozen=True)
class GroupLabels:
    """What followed N rows, on one group's grid. classes: causes are exclusive classes known at once.

    Shape:
        exposure: (N, K) float64, share of each interval under observation; 0 for rows outside the risk set.
        event: (N, J) float64, 1 at the cause that happened (of grades: at each that was reached).
        interval: (N,) int64, the interval in which it did.
        inside: (N,) bool, row is in the group's risk set and labelled.   widths_years: (K,) float64.
        reached: (N, J) bool, of grades: the row reached the grade before, so this one can be judged; else None.
    """

    exposure: Tensor
    event: Tensor
    interval: Tensor
    inside: Tensor
    widths_years: Tensor
    known_at_once: bool
    classes: bool = False
    reached: Tensor | None = None

    def counted(self, cause: int) -> Tensor:
        """Rows that say something of the cause at this position. Shape: (N,) bool."""
        return self.inside if self.reached is None else self.inside & self.reached[:, cause]

    def weight(self) -> Tensor:
        """Years under observation of each row, cause and interval; of grades only where they can be judged.

        Shape: (N, 1, K), of grades (N, J, K).
        """
        years = (self.exposure * self.widths_years)[:, None, :]
        return years if self.reached is None else years * self.reached[:, :, None]

    def apart(self, total: Tensor | None = None) -> "GroupLabels":
        """Labels by which each cause can be fitted by itself; the same labels unless causes are classes.

        Of a row with a class the moment within the interval is expected: with a total rate L it is
        1 / L - 1 / (exp(L) - 1). Fitting with these, then expecting anew, is an EM algorithm.

        Args: total: (N,) rate over all classes; default that of everyone.
        """
        if not self.classes:
            return self
        came = self.event.sum(dim=1) > 0
        if total is None:
            share = (float(came[self.inside].sum()) + 0.5) / (float(self.inside.sum()) + 1.0)
            total = torch.full((len(came),), -float(np.log1p(-share)), dtype=torch.float64)
        rate = total.clamp(1e-6, 500.0)
        moment = 1.0 / rate - 1.0 / torch.expm1(rate)
        exposure = torch.where(came[:, None], moment[:, None], self.exposure) * self.inside[:, None]
        return replace(self, exposure=exposure, known_at_once=False, classes=False)

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
            self.classes,
            None if self.reached is None else self.reached[index],
        )


def labels_on(grid: GroupGrid, duration_days: NDArray[np.float64], cause: NDArray[np.int8]) -> GroupLabels:
    """Follow-up and causes on a grid; an event after the last cut counts as censored there. Shape: (N,), (N,)."""
    inside = cause >= 0
    years = np.where(inside, np.nan_to_num(duration_days, nan=0.0), 0.0) / DAYS_PER_YEAR
    numbers = np.arange(1, len(grid.causes) + 1)
    event = cause[:, None] >= numbers if grid.ordered else cause[:, None] == numbers
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
        grid.classes,
        torch.from_numpy(cause[:, None] >= numbers - 1) if grid.ordered else None,
    )


def negative_log_likelihood(log_rate: Tensor, labels: GroupLabels) -> Tensor:
    """Minus log-likelihood of each row; 0 for a row outside the risk set.

    Timed: the sum over exposed intervals and causes of share x lambda, minus the log-rate of the cause that happened
    in its interval. Known at once: -y log(1 - exp(-lambda)) + (1 - y) lambda, of grades for each step up from a grade
    that was reached; of classes with total L, L where none came true and -log(lambda_j / L (1 - exp(-L))) for class j.
    lambda = exp(log_rate) x width.

    Shape: log_rate (N, J, K), log of the rate per year; result (N,).
    Source: Friedman 1982, Ann Stat 10:101-113 (piecewise exponential).
    """
    rate = log_rate.exp() * labels.widths_years
    if labels.known_at_once and labels.classes:
        least, total = torch.finfo(rate.dtype).tiny, rate[..., 0].sum(dim=1)
        log_share = torch.log((-torch.expm1(-total) / total.clamp_min(least)).clamp_min(least))
        log_class = ((log_rate + labels.widths_years.log())[..., 0] * labels.event).sum(dim=1)
        return torch.where(labels.event.sum(dim=1) > 0, -log_class - log_share, total) * labels.inside
    if labels.known_at_once:
        rate = rate[..., 0]
        log_yes = torch.log(-torch.expm1(-rate).clamp_max(-torch.finfo(rate.dtype).tiny))
        each = torch.where(labels.event > 0, -log_yes, rate)
        told = labels.inside[:, None] if labels.reached is None else labels.inside[:, None] & labels.reached
        return (each * told).sum(dim=1)
    expected = (rate * labels.exposure[:, None, :]).sum(dim=(1, 2))
    at = labels.interval[:, None, None].expand(-1, log_rate.shape[1], 1)
    happened = (log_rate.gather(2, at)[..., 0] * labels.event).sum(dim=1)
    return expected - happened
