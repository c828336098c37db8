"""Fits the calibration maps on pooled out-of-fold log-rates: the likelihood of the network, shrunk to the identity.

A row's out-of-fold log-rate is that of one member; a risk is the mean of all. The mean has less noise, so the slope
that is right for one member would draw the mean too close to the average: `for_the_mean` takes that back.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from riskpred.fit.losses import GroupLabels, negative_log_likelihood
from riskpred.model.calibration import Calibration
from riskpred.model.layout import GroupGrid

_SPREAD_SHIFT, _SPREAD_SLOPE, _SPREAD_BEND = 1.0, 0.5, 0.5
"""SDs of normal priors on the shift at the mean log-rate, log b and c. Against a likelihood that is a sum over events
they weigh nothing with hundreds of events, and keep the map near the identity with a handful."""
_MOST_STRETCH = 1.5
"""Limit of the correction for the mean: beyond it the members disagree so much that the estimate says little."""
_NEWTON_STEPS = 20


def fit_calibration(group: GroupGrid, log_rate: Tensor, labels: GroupLabels) -> Calibration:
    """The map that fits out-of-fold log-rates best, by maximum posterior likelihood.

    Shape: log_rate (N, J, K), uncalibrated; rows outside the risk set count nothing.
    """
    map_ = Calibration(group)
    inside = labels.inside
    if not bool(inside.any()):
        return map_
    centre = log_rate[inside].mean(dim=(0, 2))
    shift = torch.zeros_like(map_.intercept, requires_grad=True)
    log_slope = torch.zeros_like(map_.log_slope, requires_grad=True)
    bend = torch.zeros_like(map_.bend, requires_grad=True)

    def intercept() -> Tensor:
        # The shift acts at the centre: there it is nearly independent of the slope.
        return shift + (1.0 - log_slope.exp()) * centre

    def loss() -> Tensor:
        calibrated = intercept()[:, None] + log_slope.exp()[:, None] * log_rate + bend @ map_.basis
        prior = (
            (shift / _SPREAD_SHIFT).square().sum()
            + (log_slope / _SPREAD_SLOPE).square().sum()
            + (bend / _SPREAD_BEND).square().sum()
        ) / 2
        return negative_log_likelihood(calibrated, labels).sum() + prior

    scale = max(1.0, float(labels.event.sum()))
    optimiser = torch.optim.LBFGS(
        [shift, log_slope, bend],
        max_iter=100,
        tolerance_grad=1e-8,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss() / scale
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        map_.intercept.copy_(intercept())
        map_.log_slope.copy_(log_slope)
        map_.bend.copy_(bend)
    return map_


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


def for_the_mean(
    group: GroupGrid, one: Calibration, stretch: Tensor, log_rate: Tensor, labels: GroupLabels
) -> Calibration:
    """The map of one member with a stretched slope, for members whose risks are averaged.

    The stretch alone would raise the mean risk: a member's rate is the exponential of a log-rate that now varies more.
    So the intercept is lowered until the expected number of events on these rows is again that of `one`.

    Shape: stretch (J,), log_rate (N, J, K), the out-of-fold log-rates that `one` was fitted on.
    """
    map_ = Calibration(group)
    map_.load_state_dict(one.state_dict())
    if bool(labels.inside.any()):
        centre = log_rate[labels.inside].mean(dim=(0, 2))
        map_.log_slope.add_(stretch.log())
        map_.intercept.add_(one.log_slope.exp() * (1.0 - stretch) * centre)
        map_.intercept.add_(_shift_to(one(log_rate), map_(log_rate), labels))
    return map_


def _shift_to(wanted: Tensor, got: Tensor, labels: GroupLabels) -> Tensor:
    """What to add to `got` so that it expects as many events of each cause as `wanted`. Shape: (N, J, K) -> (J,)."""
    weight = labels.exposure[:, None, :] * labels.widths_years
    if not labels.known_at_once:
        return (weight * wanted.exp()).sum(dim=(0, 2)).log() - (weight * got.exp()).sum(dim=(0, 2)).log()
    target = (weight * -torch.expm1(-wanted.exp())).sum(dim=(0, 2))
    shift = torch.zeros_like(target)
    for _ in range(_NEWTON_STEPS):  # the expected number of yeses rises smoothly with the shift
        rate = (got + shift[:, None]).exp()
        expected = (weight * -torch.expm1(-rate)).sum(dim=(0, 2))
        shift = shift + (target - expected) / (weight * rate * torch.exp(-rate)).sum(dim=(0, 2))
    return shift


def fit_calibrations(
    groups: Sequence[GroupGrid], log_rates: Sequence[Tensor], labels: Sequence[GroupLabels]
) -> list[Calibration]:
    """One map per group. Shape: per group (N, J, K)."""
    return [fit_calibration(*one) for one in zip(groups, log_rates, labels, strict=True)]
