"""The additive base: ridge-penalised proportional hazards of one cause on a spline design, by Newton's method."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from riskpred.fit.losses import GroupLabels

Floats = NDArray[np.float64]

_STEPS = 50
_TOLERANCE = 1e-9
_ROUGH = 1e-6
"""Tolerance while penalties are compared: what is left to gain is far below what tells them apart."""
_LEAST_EVENTS = 5
"""With fewer events a cause gets its baseline only."""
_PRIOR_EVENTS = 0.5
"""Prior events per cause, spread evenly over intervals at the cause's mean rate: no event in an interval is no -inf."""
_SMALLER = (0.3, 0.1, 0.0)
"""What a block's columns may be multiplied by, where each block has a penalty of its own: 11 and 100 times the common
one, and none of its columns."""
_MOST = 30.0
"""Log-rates are kept below this on the way to the optimum."""


@dataclass(frozen=True)
class CauseData:
    """N rows and one cause.

    Shape: matrix (N, P), exposure (N, K) in years, event (N,) 0 or 1, interval (N,).
    """

    matrix: Floats
    exposure: Floats
    event: Floats
    interval: NDArray[np.int64]
    known_at_once: bool

    @classmethod
    def of(cls, matrix: Floats, labels: GroupLabels, cause: int) -> "CauseData":
        """Rows in the risk set, for the cause at this position of the group's causes (of classes: `apart`)."""
        labels, inside = labels.apart(), labels.counted(cause).numpy()
        return cls(
            matrix[inside],
            (labels.exposure * labels.widths_years).numpy()[inside],
            labels.event[:, cause].numpy()[inside],
            labels.interval.numpy()[inside],
            labels.known_at_once,
        )

    def take(self, rows: NDArray[np.bool_]) -> "CauseData":
        return CauseData(
            self.matrix[rows],
            self.exposure[rows],
            self.event[rows],
            self.interval[rows],
            self.known_at_once,
        )

    def scaled(self, by: Floats) -> "CauseData":
        """Columns times something. Shape: by (P,)."""
        return dataclasses.replace(self, matrix=self.matrix * by)

    @property
    def events(self) -> float:
        return float(self.event.sum())

    def prior(self) -> tuple[Floats, Floats]:
        """Prior events and prior years of exposure of each interval, at the cause's mean rate. Shape: (K,), (K,)."""
        years = self.exposure.sum(axis=0)
        events = np.full(len(years), _PRIOR_EVENTS / len(years))
        return events, events * years.sum() / (self.events + _PRIOR_EVENTS)


@dataclass(frozen=True)
class Base:
    """Log-rate per year = baseline_k + x . weight.  Shape: weight (P,), baseline (K,)."""

    weight: Floats
    baseline: Floats


def log_likelihood(base: Base, data: CauseData) -> float:
    """Log-likelihood of the rows, without penalty."""
    return float(_pieces(base, data)[0].sum())


def fit_base(data: CauseData, ridge: float, start: Base | None = None, tolerance: float = _TOLERANCE) -> Base:
    """Maximum of the log-likelihood - ridge / 2 x |weight|^2, with a weak prior on the baseline.

    Newton's method (Fisher scoring when known at once) with step halving; columns that are always 0 get weight 0.
    """
    prior_events, prior_years = data.prior()
    intervals, columns = data.exposure.shape[1], data.matrix.shape[1]
    if start is None:
        seen = np.bincount(data.interval, weights=data.event, minlength=intervals) + prior_events
        years = data.exposure.sum(axis=0) + prior_years
        start = Base(np.zeros(columns), np.log(seen / np.maximum(years, 1e-12)))

    def objective(base: Base) -> float:
        given = (prior_events * base.baseline - prior_years * np.exp(base.baseline)).sum()
        return log_likelihood(base, data) + float(given) - ridge / 2 * float(base.weight @ base.weight)

    now, value = start, objective(start)
    for _ in range(_STEPS):
        _, score, information = _pieces(now, data)
        prior_rate = prior_years * np.exp(now.baseline)
        gradient = np.concatenate(
            [
                score.sum(axis=0) + prior_events - prior_rate,
                data.matrix.T @ score.sum(axis=1) - ridge * now.weight,
            ]
        )
        hessian = np.empty((intervals + columns,) * 2)
        hessian[:intervals, :intervals] = np.diag(information.sum(axis=0) + prior_rate)
        hessian[:intervals, intervals:] = information.T @ data.matrix
        hessian[intervals:, :intervals] = hessian[:intervals, intervals:].T
        hessian[intervals:, intervals:] = (data.matrix * information.sum(axis=1)[:, None]).T @ data.matrix
        hessian[range(intervals, intervals + columns), range(intervals, intervals + columns)] += ridge
        step = np.linalg.solve(hessian, gradient)
        now, value, moved = _line_search(now, step, value, objective)
        if not moved or float(gradient @ step) < tolerance * (1.0 + abs(value)):
            break
    return now


def choose_ridge(data: CauseData, fold: NDArray[np.int64], grid: Sequence[float]) -> float:
    """The penalty whose fits on all folds but one give the left-out rows the highest likelihood.

    From the largest down, until one makes it worse: the likelihood has one peak along the way, and small penalties are
    the slowest to fit. Infinite, which means the baseline alone, where events are too few or there are no columns.

    Shape: fold (N,), aligned with the rows of `data`.
    """
    return _best_ridge(data, fold, grid)[1]


def _best_ridge(data: CauseData, fold: NDArray[np.int64], grid: Sequence[float]) -> tuple[float, float]:
    """The likelihood of left-out rows, and the penalty that reaches it."""
    if data.events < _LEAST_EVENTS or not data.matrix.shape[1]:
        return -math.inf, math.inf
    penalties = sorted(grid, reverse=True)
    parts = [(data.take(fold != left_out), data.take(fold == left_out)) for left_out in np.unique(fold)]
    starts: list[Base | None] = [None for _ in parts]
    best, chosen = -math.inf, penalties[0]
    for ridge in penalties:
        total = 0.0
        for i, (inner, outer) in enumerate(parts):
            found = fit_base(inner, ridge, starts[i], _ROUGH)
            starts[i] = found
            total += log_likelihood(found, outer)
        if total <= best:
            break
        best, chosen = total, ridge
    return best, chosen


def choose_scales(
    data: CauseData, fold: NDArray[np.int64], grid: Sequence[float], block: NDArray[np.int64], blocks: int
) -> tuple[float, tuple[float, ...]]:
    """A penalty for each block of columns: the common one, and what a block's columns are multiplied by before it.

    A block times s has 1 / s^2 times the penalty; one times 0 is left out. Each step shrinks the block that gains most,
    until none gains. A block of noise then costs little beside one that tells much, which one penalty cannot do.

    Args: blocks: how many there are, those without a column among them.
    Shape: block (P,), number of each column's block, from 0.
    Source: Boulesteix et al. 2017, Comput Math Methods Med:7691937 (penalty factors); van de Wiel et al. 2021, J Comput
    Graph Stat 30:835-847 (ridge).
    """
    scales = (1.0,) * blocks
    best, ridge = _best_ridge(data, fold, grid)
    while math.isfinite(ridge):
        tried = [
            (*_best_ridge(data.scaled(np.array(these)[block]), fold, grid), these)
            for b in range(blocks)
            for smaller in _SMALLER
            if smaller < scales[b]
            for these in [(*scales[:b], smaller, *scales[b + 1 :])]
            if any(these)
        ]
        likelihood, other, these = max(tried, default=(-math.inf, math.inf, scales))
        if likelihood <= best:
            break
        best, ridge, scales = likelihood, other, these
    return ridge, scales


@dataclass(frozen=True)
class Choice:
    """How one cause is fitted: its ridge penalty, and whether follow-up beyond the last horizon trains as well.

    scales: what each block of columns is multiplied by before the penalty; () = there is one penalty for all.
    """

    ridge: float
    later: bool
    scales: tuple[float, ...] = ()


def choose_fit(
    data: CauseData,
    whole: CauseData,
    fold: NDArray[np.int64],
    grid: Sequence[float],
    block: NDArray[np.int64] | None = None,
    blocks: int = 0,
) -> Choice:
    """The penalty, then whether later follow-up tells more of the time up to the last horizon than it misleads.

    It adds events, and misleads where what raises a risk today lowers it ten years on. The likelihood of the rows left
    out, up to the last horizon, decides.

    Args:
        data, whole: the same rows, followed to the last horizon and to the end.
        block, blocks: each column's block and their number, where each has a penalty of its own (`choose_scales`).
    Shape: fold (N,); block (P,).
    """
    scales: tuple[float, ...] = ()
    if block is None:
        ridge = choose_ridge(data, fold, grid)
    else:
        ridge, scales = choose_scales(data, fold, grid, block, blocks)
        data, whole = (one.scaled(np.array(scales)[block]) for one in (data, whole))
    if math.isinf(ridge) or whole.events <= data.events:
        return Choice(ridge, False, scales)
    gain = 0.0
    for left_out in np.unique(fold):
        inner, outer = fold != left_out, data.take(fold == left_out)
        short = fit_base(data.take(inner), ridge, tolerance=_ROUGH)
        gain += log_likelihood(fit_base(whole.take(inner), ridge, tolerance=_ROUGH), outer)
        gain -= log_likelihood(short, outer)
    return Choice(ridge, gain > 0, scales)


def fit_cause(data: CauseData, ridge: float) -> Base:
    """The base of one cause with the penalty that `choose_ridge` found."""
    if math.isinf(ridge):
        bare = dataclasses.replace(data, matrix=data.matrix[:, :0])
        return Base(np.zeros(data.matrix.shape[1]), fit_base(bare, 1.0).baseline)
    return fit_base(data, ridge)


def _pieces(base: Base, data: CauseData) -> tuple[Floats, Floats, Floats]:
    """Log-likelihood of each row (N,), its derivative and information by the log-rate of each interval (N, K)."""
    linear = np.minimum(data.matrix @ base.weight, _MOST)
    rate = np.exp(np.minimum(linear[:, None] + base.baseline, _MOST)) * data.exposure
    if data.known_at_once:
        lam = np.clip(rate, 1e-12, 500.0)
        odds = 1.0 / np.expm1(lam)
        yes = data.event[:, None]
        likelihood = np.where(yes > 0, np.log(-np.expm1(-lam)), -lam)[:, 0]
        return likelihood, np.where(yes > 0, lam * odds, -lam), lam**2 * odds
    score = -rate
    rows = np.flatnonzero(data.event)
    score[rows, data.interval[rows]] += 1.0
    likelihood = data.event * (linear + base.baseline[data.interval]) - rate.sum(axis=1)
    return likelihood, score, rate


def _line_search(now: Base, step: Floats, value: float, objective: Callable[[Base], float]) -> tuple[Base, float, bool]:
    intervals = len(now.baseline)
    size = 1.0
    while size > 1e-6:
        tried = Base(now.weight + size * step[intervals:], now.baseline + size * step[:intervals])
        reached = objective(tried)
        if np.isfinite(reached) and reached > value:
            return tried, reached, True
        size /= 2
    return now, value, False
