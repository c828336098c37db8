"""Fits one calibration map on out-of-fold log-rates: the likelihood of the network, shrunk to the identity.

A row's out-of-fold log-rate is that of one member; a risk is the mean of all. The mean has less noise, so the slope
that is right for one member would draw the mean too close to the average: `for_the_mean` takes that back.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riskpred.fit.losses import GroupLabels
from riskpred.model.calibration import Calibration, bent
from riskpred.model.incidence import cumulative_incidence
from riskpred.model.layout import BASES, GroupGrid

Floats = NDArray[np.float64]

_SPREAD_SHIFT, _SPREAD_SLOPE = 1.0, 0.5
"""SDs of normal priors on the shift at the knot and on log b, each averaged over the points of time, ..."""
_APART_SHIFT, _APART_SLOPE = 0.5, 0.3
"""... on how far one point departs from that, ..."""
_SPREAD_BEND = 0.3
"""... and on the bend. Against a likelihood that is a sum over events they weigh nothing with hundreds of events, and
keep the map near the identity with a handful."""
_MOST_STRETCH = 1.5
"""Limit of the correction for the mean: beyond it the members disagree so much that the estimate says little."""
_LEAST_WIDTH = 1e-3
"""Of a bend, where all log-rates are the same."""
_NEWTON_STEPS = 100
_LEVEL_STEPS = 50
_EM_STEPS, _EM_ENOUGH = 60, 1e-5
"""Of classes; log-rates that move by less are there."""
_FITTING_STEPS = 500
_MOST = 30.0
"""Log-rates are kept below this on the way to the optimum."""


@dataclass(frozen=True)
class Line:
    """One map of one group, as `Calibration` has it: intercept + slope x bent log-rate, at each point of time.

    Shape: intercept, slope (J, 3), bend, knot, width (J,), basis (3, K).
    """

    intercept: Tensor
    slope: Tensor
    bend: Tensor
    knot: Tensor
    width: Tensor
    basis: Tensor

    @classmethod
    def straight(cls, intercept: Tensor, slope: Tensor, group: GroupGrid) -> "Line":
        """The same straight line at every time. Shape: intercept, slope (J,)."""
        zero = torch.zeros_like(intercept)
        a, b = intercept[:, None].expand(-1, BASES), slope[:, None].expand(-1, BASES)
        return cls(a, b, zero, zero, zero + 1.0, group.time_basis)

    @classmethod
    def identity(cls, group: GroupGrid) -> "Line":
        zero = torch.zeros(len(group.causes), dtype=torch.float64)
        return cls.straight(zero, zero + 1.0, group)

    def __call__(self, log_rate: Tensor) -> Tensor:
        """Shape: (N, J, K) -> (N, J, K)."""
        beyond = bent(log_rate, self.bend[:, None], self.knot[:, None], self.width[:, None])
        return self.intercept @ self.basis + (self.slope @ self.basis) * beyond

    def mixed(self, other: "Line", weight: Tensor) -> "Line":
        """The numbers of this map by weight, those of another of the same knots for the rest. Shape: weight (J,)."""
        assert torch.equal(self.knot, other.knot)
        assert torch.equal(self.width, other.width)
        numbers = {name: (getattr(self, name), getattr(other, name)) for name in ("intercept", "slope", "bend")}
        return replace(other, **{name: _share(weight, *pair) for name, pair in numbers.items()})

    def put(self, into: Calibration, pattern: int) -> None:
        """Make this the map of one availability pattern; the knots are those of all patterns."""
        into.intercept[pattern] = self.intercept
        into.log_slope[pattern] = self.slope.log()
        into.bend[pattern] = self.bend
        into.knot.copy_(self.knot)
        into.width.copy_(self.width)


def fit_line(group: GroupGrid, log_rate: Tensor, labels: GroupLabels, like: Line | None = None) -> Line:
    """The map that fits out-of-fold log-rates best, by maximum posterior likelihood.

    The likelihood falls apart into causes; each has seven numbers (three known at once), found by Fisher scoring.
    That of classes does not: there it is done again and again, with the moments that the last maps expect (EM).

    Args:
        like: map whose knots to use; without it they are at the mean log-rate, one SD wide.

    Shape: log_rate (N, J, K), uncalibrated; rows outside the risk set count nothing.
    """
    inside = labels.inside
    if not bool(inside.any()):
        return like or Line.identity(group)  # nothing to learn
    kept, told = labels.take(inside.nonzero()[:, 0]), group.end_of[-1] + 1
    shown = log_rate[inside][..., :told].transpose(0, 1).flatten(1)
    knot = like.knot if like else shown.mean(dim=1)
    width = like.width if like else shown.std(dim=1, correction=0).clamp_min(_LEAST_WIDTH)
    rates = log_rate[inside]

    def fitted(judged: GroupLabels) -> Line:
        found = []
        for j in range(len(group.causes)):
            rows = judged.counted(j).nonzero()[:, 0]
            given = rates[rows, j].numpy(), judged.take(rows)
            found.append(_fit_cause(group, *given, j, float(knot[j]), float(width[j])))
        theta = torch.from_numpy(np.array(found))
        slope = theta[:, BASES:-1].exp()
        return Line(theta[:, :BASES] + knot[:, None], slope, theta[:, -1], knot, width, group.time_basis)

    line = fitted(kept.apart())
    for _ in range(_EM_STEPS if kept.classes else 0):
        last, line = line, fitted(kept.apart((line(rates).exp() * kept.widths_years).sum(dim=(1, 2))))
        if float((line(rates) - last(rates)).abs().max()) < _EM_ENOUGH:
            break
    return line


def _fit_cause(group: GroupGrid, log_rate: Floats, labels: GroupLabels, j: int, knot: float, width: float) -> Floats:
    """Shifts at the knot, log-slopes and bend of one cause, (7,). Shape: log_rate (N, K), all rows inside."""
    exposure = (labels.exposure * labels.widths_years).numpy()
    event = np.zeros_like(log_rate)
    event[np.arange(len(event)), labels.interval.numpy()] = labels.event[:, j].numpy()
    basis, beyond = group.time_basis.numpy(), log_rate - knot
    above = width * (np.logaddexp(0.0, beyond / width) - np.log(2.0))
    precision = np.zeros((2 * BASES + 1, 2 * BASES + 1))
    precision[:BASES, :BASES] = _precision(_SPREAD_SHIFT, _APART_SHIFT)
    precision[BASES:-1, BASES:-1] = _precision(_SPREAD_SLOPE, _APART_SLOPE)
    precision[-1, -1] = 1.0 / _SPREAD_BEND**2

    def posterior(theta: Floats) -> tuple[float, Floats, Floats]:
        """Value, gradient and expected information by theta, (7,) and (7, 7)."""
        slopes, bend = np.exp(theta[BASES:-1])[:, None] * basis, theta[-1]
        slope = slopes.sum(axis=0)
        curve = np.exp(-bend) * beyond + 2.0 * np.sinh(bend) * above
        by_bend = slope * (2.0 * np.cosh(bend) * above - np.exp(-bend) * beyond)
        eta = np.minimum(knot + theta[:BASES] @ basis + slope * curve, _MOST)
        likelihood, score, information = _pieces(eta, exposure, event, labels.known_at_once)
        # eta moves with a shift by basis, with a log-slope by slopes x curve, with the bend by by_bend.
        by_slope = slopes @ (score * curve).sum(axis=0)
        gradient = np.concatenate([basis @ score.sum(axis=0), by_slope, [np.sum(score * by_bend)]])
        hessian = precision.copy()
        weighted, bends = information * curve, information * by_bend
        hessian[:BASES, :BASES] += basis * information.sum(axis=0) @ basis.T
        hessian[BASES:-1, BASES:-1] += slopes * (weighted * curve).sum(axis=0) @ slopes.T
        hessian[-1, -1] += float(np.sum(bends * by_bend))
        corner = basis * weighted.sum(axis=0) @ slopes.T
        edge = np.array([*basis @ bends.sum(axis=0), *slopes @ (bends * curve).sum(axis=0)])
        hessian[:BASES, BASES:-1] += corner
        hessian[BASES:-1, :BASES] += corner.T
        hessian[-1, :-1] += edge
        hessian[:-1, -1] += edge
        pull = precision @ theta
        return likelihood - float(theta @ pull) / 2, gradient - pull, hessian

    theta = np.zeros(2 * BASES + 1)
    value, gradient, hessian = posterior(theta)
    for _ in range(_NEWTON_STEPS):
        step = np.linalg.solve(hessian, gradient)
        size = 1.0 / max(1.0, float(np.abs(step).max()))  # slopes are exponentials: no leap
        while size > 1e-6 and not (trial := posterior(theta + size * step))[0] >= value:
            size /= 2
        if size <= 1e-6:
            break
        moved, theta = trial[0] - value, theta + size * step
        value, gradient, hessian = trial
        if moved < 1e-9 * (1.0 + abs(value)):
            break
    return theta


def _precision(spread: float, apart: float) -> Floats:
    """Of three numbers, independent with SD `apart` but for their mean, which has SD `spread`.

    Shape: (3, 3).
    """
    mean = np.full((BASES, BASES), 1.0 / BASES)
    result: Floats = mean / BASES / spread**2 + (np.eye(BASES) - mean) / apart**2
    return result


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
    So the intercepts are lowered until the events expected of these rows at each point of time are again those of
    `one`.

    Shape: stretch (J,), log_rate (N, J, K), the out-of-fold log-rates that `one` was fitted on.
    """
    if not bool((labels.exposure > 0).any()):
        return one
    told = labels.exposure.sum(dim=0) > 0
    straight = replace(one, intercept=torch.zeros_like(one.intercept), slope=torch.ones_like(one.slope))
    centre = straight(log_rate[labels.inside])[..., told].mean(dim=(0, 2))[:, None]
    slope = one.slope * stretch[:, None]
    steeper = replace(one, intercept=one.intercept + (one.slope - slope) * centre, slope=slope)
    shift = _shift_to(_expected(one(log_rate), labels), steeper(log_rate), labels, one.basis)
    return replace(steeper, intercept=steeper.intercept + shift)


def blended(new: Line, old: Line, weight: Tensor, log_rate: Tensor, labels: GroupLabels) -> Line:
    """The new map as far as its weight goes, the old one of the same knots for the rest, cause by cause.

    Averaged numbers need not make an average map, so its level is set: at each point of time it expects as many events
    of these rows as weight x the new map and (1 - weight) x the old one together.

    Shape: weight (J,), log_rate (N, J, K).
    """
    line = new.mixed(old, weight)
    wanted = _share(weight, _expected(new(log_rate), labels), _expected(old(log_rate), labels))
    shift = _shift_to(wanted, line(log_rate), labels, line.basis)
    return replace(line, intercept=torch.where(weight[:, None] > 0, line.intercept + shift, old.intercept))


def _share(weight: Tensor, mine: Tensor, theirs: Tensor) -> Tensor:
    """weight x mine + (1 - weight) x theirs. Shape: weight (J,), others (J, ...)."""
    share = weight.reshape(-1, *(1,) * (mine.ndim - 1))
    # where, not a product alone: a map of weight 0 may have no finite numbers.
    return torch.where(share > 0, share * mine + (1.0 - share) * theirs, theirs)


def _expected(log_rate: Tensor, labels: GroupLabels) -> Tensor:
    """Events expected of each cause by interval (known at once: the number of yeses). Shape: (N, J, K) -> (J, K)."""
    rate = log_rate.exp()
    if labels.classes:
        rate = cumulative_incidence(log_rate, labels.widths_years)
    elif labels.known_at_once:
        rate = -torch.expm1(-rate)
    return (labels.weight() * rate).sum(dim=0)


def _shift_to(wanted: Tensor, got: Tensor, labels: GroupLabels, basis: Tensor) -> Tensor:
    """What to add to `got` at each point of time so that it expects as many events there as `wanted`.

    An interval between two points counts for both as their basis says.

    Shape: wanted (J, K), got (N, J, K), basis (3, K), result (J, 3).
    """
    shift = torch.zeros(len(wanted), BASES, dtype=wanted.dtype)
    weight, expected = labels.weight(), _expected(got, labels)
    if labels.classes:
        return _shift_of_classes(wanted, got, labels)
    for _ in range(_LEVEL_STEPS):  # what is expected rises smoothly with the shift
        if labels.known_at_once:
            moved = got + shift @ basis
            now, rises = _expected(moved, labels), (weight * torch.exp(moved - moved.exp())).sum(dim=0)
        else:
            now = rises = expected * torch.exp(shift @ basis)
        slope = torch.einsum("pk,jk,qk->jpq", basis, rises, basis)
        lacking = ((wanted - now) @ basis.T)[..., None]
        # Points that share all their intervals are told apart by nothing: pinv moves them together.
        step = (torch.linalg.pinv(slope, hermitian=True) @ lacking)[..., 0].clamp(-1.0, 1.0)
        shift = shift + step
        if float(step.abs().max()) < 1e-10:
            break
    return shift


def _shift_of_classes(wanted: Tensor, got: Tensor, labels: GroupLabels) -> Tensor:
    """As `_shift_to`, by proportional fitting: each class's rate is scaled by what it lacks, until none lacks."""
    shift = torch.zeros(len(wanted), BASES, dtype=wanted.dtype)
    least = torch.finfo(wanted.dtype).tiny
    for _ in range(_FITTING_STEPS):
        now = _expected(got + shift[:, :1], labels)
        step = torch.log(wanted[:, 0].clamp_min(least) / now[:, 0].clamp_min(least)).clamp(-1.0, 1.0)
        shift[:, 0] += step
        if float(step.abs().max()) < 1e-10:
            break
    return shift
