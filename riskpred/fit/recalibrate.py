"""Fits one calibration map on out-of-fold log-rates: the likelihood of the network, shrunk to the identity.

A row's out-of-fold log-rate is that of one member; a risk is the mean of all. The mean has less noise, so the slope
that is right for one member would draw the mean too close to the average: `for_the_mean` takes that back.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riskpred.fit.losses import GroupLabels
from riskpred.model.calibration import Calibration
from riskpred.model.layout import GroupGrid

Floats = NDArray[np.float64]

_SPREAD_SHIFT, _SPREAD_SLOPE, _SPREAD_BEND = 1.0, 0.5, 0.5
"""SDs of normal priors on the shift at the mean log-rate, log b and c. Against a likelihood that is a sum over events
they weigh nothing with hundreds of events, and keep the map near the identity with a handful."""
_MOST_STRETCH = 1.5
"""Limit of the correction for the mean: beyond it the members disagree so much that the estimate says little."""
_NEWTON_STEPS = 30
_MOST = 30.0
"""Log-rates are kept below this on the way to the optimum."""


@dataclass(frozen=True)
class Line:
    """One map of one group: eta' = intercept + slope eta + bend . (t, t^2).

    Shape: intercept, slope (J,), bend (J, 2), basis (2, K).
    """

    intercept: Tensor
    slope: Tensor
    bend: Tensor
    basis: Tensor

    @classmethod
    def identity(cls, group: GroupGrid) -> "Line":
        causes = len(group.causes)
        zero = torch.zeros(causes, dtype=torch.float64)
        return cls(zero, zero + 1.0, torch.zeros(causes, 2, dtype=torch.float64), group.bend_basis)

    def __call__(self, log_rate: Tensor) -> Tensor:
        """Shape: (N, J, K) -> (N, J, K)."""
        return self.intercept[:, None] + self.slope[:, None] * log_rate + self.bend @ self.basis

    def mixed(self, other: "Line", weight: Tensor) -> "Line":
        """weight x this map + (1 - weight) x the other, cause by cause. Shape: weight (J,)."""

        def mean(mine: Tensor, theirs: Tensor) -> Tensor:
            share = weight.reshape(-1, *(1,) * (mine.ndim - 1))
            # where, not a product alone: a map of weight 0 may have no finite numbers.
            return torch.where(share > 0, share * mine + (1.0 - share) * theirs, theirs)

        return Line(
            mean(self.intercept, other.intercept),
            mean(self.slope, other.slope),
            mean(self.bend, other.bend),
            self.basis,
        )

    def put(self, into: Calibration, pattern: int) -> None:
        """Make this the map of one availability pattern."""
        into.intercept[pattern] = self.intercept
        into.log_slope[pattern] = self.slope.log()
        into.bend[pattern] = self.bend


def fit_line(group: GroupGrid, log_rate: Tensor, labels: GroupLabels) -> Line:
    """The map that fits out-of-fold log-rates best, by maximum posterior likelihood.

    The likelihood falls apart into causes; each has four numbers (two known at once), found by Fisher scoring.

    Shape: log_rate (N, J, K), uncalibrated; rows outside the risk set count nothing.
    """
    inside = labels.inside
    if not bool(inside.any()):
        return Line.identity(group)
    kept = labels.take(inside.nonzero()[:, 0])
    found = [_fit_cause(group, log_rate[inside, j].numpy(), kept, j) for j in range(len(group.causes))]
    intercept, slope, first, second = torch.from_numpy(np.array(found)).T
    return Line(intercept, slope, torch.stack([first, second], dim=1), group.bend_basis)


def _fit_cause(group: GroupGrid, log_rate: Floats, labels: GroupLabels, j: int) -> tuple[float, float, float, float]:
    """Intercept, slope and the two bends of one cause. Shape: log_rate (N, K), all rows inside."""
    exposure = (labels.exposure * labels.widths_years).numpy()
    event = np.zeros_like(log_rate)
    event[np.arange(len(event)), labels.interval.numpy()] = labels.event[:, j].numpy()
    # The shift acts at the centre: there it is nearly independent of the slope.
    centre = float(log_rate[:, : group.end_of[-1] + 1].mean())
    beyond = log_rate - centre
    bends = [np.broadcast_to(one, log_rate.shape) for one in group.bend_basis.numpy()]
    active = [0, 1] if group.known_at_once else [0, 1, 2, 3]
    spread = np.array([_SPREAD_SHIFT, _SPREAD_SLOPE, _SPREAD_BEND, _SPREAD_BEND])

    def posterior(theta: Floats) -> tuple[float, Floats, Floats]:
        """Value, and its derivative and information by the calibrated log-rate, (N, K)."""
        eta = theta[0] + centre + np.exp(theta[1]) * beyond + theta[2] * bends[0] + theta[3] * bends[1]
        likelihood, score, information = _pieces(np.minimum(eta, _MOST), exposure, event, labels.known_at_once)
        return likelihood - float(np.sum((theta / spread) ** 2)) / 2, score, information

    theta = np.zeros(4)
    value, score, information = posterior(theta)
    for _ in range(_NEWTON_STEPS):
        slopes = [np.ones_like(beyond), np.exp(theta[1]) * beyond, *bends]
        gradient = np.array([float(np.sum(score * slopes[a])) for a in active]) - (theta / spread**2)[active]
        hessian = np.array([[float(np.sum(information * slopes[a] * slopes[b])) for b in active] for a in active])
        step = np.zeros(4)
        step[active] = np.linalg.solve(hessian + np.diag(1.0 / spread[active] ** 2), gradient)
        size = 1.0
        while size > 1e-6 and not (trial := posterior(theta + size * step))[0] >= value:
            size /= 2
        if size <= 1e-6:
            break
        moved, theta = trial[0] - value, theta + size * step
        value, score, information = trial
        if moved < 1e-9 * (1.0 + abs(value)):
            break
    slope = float(np.exp(theta[1]))
    return float(theta[0] + (1.0 - slope) * centre), slope, float(theta[2]), float(theta[3])


def _pieces(eta: Floats, exposure: Floats, event: Floats, known_at_once: bool) -> tuple[float, Floats, Floats]:
    """Log-likelihood (a sum), its derivative and expected information by each log-rate."""
    rate = np.exp(eta) * exposure
    if not known_at_once:
        return float(np.sum(event * eta) - np.sum(rate)), event - rate, rate
    rate = np.clip(rate, 1e-12, 500.0)
    odds = 1.0 / np.expm1(rate)
    value = np.where(event > 0, np.log(-np.expm1(-rate)), -rate)
    return float(value.sum()), np.where(event > 0, rate * odds, -rate), rate**2 * odds


def stretch_for_the_mean(own: Tensor, others: Tensor, inside: Tensor, members: int) -> Tensor:
    """How much steeper the map of the mean of the members is than the map of one of them, per cause; 1 or more.

    With noise of variance s^2 in each member, a log-rate of one varies by V over rows, and the mean by
    V - (1 - 1/R) s^2, while their covariance with the truth is the same: so the slopes are as 1 to
    V / (V - (1 - 1/R) s^2). s^2 is judged by own - others, which varies by s^2 R / (R - 1).

    Args:
        own: the member that never saw the row.   others: the mean of the other members.

    Shape: own, others (N, J, K), inside (N,), result (J,).
    Source: Fuller 1987, Measurement Error Models, section 1.1 (regression dilution).
    """
    if members < 2 or int(inside.sum()) < 2:
        return own.new_ones(own.shape[1])
    varies = own[inside].var(dim=0).mean(dim=1)
    noise = (own - others)[inside].square().mean(dim=(0, 2)) * (members - 1) / members
    rest = varies - (1 - 1 / members) * noise
    stretch = torch.where(rest > 0, varies / rest.clamp_min(1e-12), torch.full_like(varies, _MOST_STRETCH))
    return torch.where(varies > 1e-12, stretch, torch.ones_like(varies)).clamp(1.0, _MOST_STRETCH)


def for_the_mean(one: Line, stretch: Tensor, log_rate: Tensor, labels: GroupLabels) -> Line:
    """The map of one member with a stretched slope, for members whose risks are averaged.

    The stretch alone would raise the mean risk: a member's rate is the exponential of a log-rate that now varies more.
    So the intercept is lowered until the expected number of events on these rows is again that of `one`.

    Shape: stretch (J,), log_rate (N, J, K), the out-of-fold log-rates that `one` was fitted on.
    """
    if not bool((labels.exposure > 0).any()):
        return one
    told = labels.exposure.sum(dim=0) > 0
    centre = log_rate[labels.inside][..., told].mean(dim=(0, 2))
    slope = one.slope * stretch
    steeper = Line(one.intercept + (one.slope - slope) * centre, slope, one.bend, one.basis)
    shift = _shift_to(one(log_rate), steeper(log_rate), labels)
    return Line(steeper.intercept + shift, slope, one.bend, one.basis)


def _shift_to(wanted: Tensor, got: Tensor, labels: GroupLabels) -> Tensor:
    """What to add to `got` so that it expects as many events of each cause as `wanted`. Shape: (N, J, K) -> (J,)."""
    weight = labels.exposure[:, None, :] * labels.widths_years
    if not bool(weight.sum() > 0):
        return torch.zeros(wanted.shape[1], dtype=wanted.dtype)
    if not labels.known_at_once:
        return (weight * wanted.exp()).sum(dim=(0, 2)).log() - (weight * got.exp()).sum(dim=(0, 2)).log()
    target = (weight * -torch.expm1(-wanted.exp())).sum(dim=(0, 2))
    shift = torch.zeros_like(target)
    for _ in range(_NEWTON_STEPS):  # the expected number of yeses rises smoothly with the shift
        rate = (got + shift[:, None]).exp()
        expected = (weight * -torch.expm1(-rate)).sum(dim=(0, 2))
        shift = shift + (target - expected) / (weight * rate * torch.exp(-rate)).sum(dim=(0, 2))
    return shift
