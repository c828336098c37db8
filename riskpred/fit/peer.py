"""Fits the peer: ridge spline Cox per cause (or logistic), its penalty chosen by folds of the training subjects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from riskpred.config.network import NetworkConfig, TabularEncoder
from riskpred.config.outcomes import OutcomesConfig, RiskGroup
from riskpred.features.batch import FeatureBatch
from riskpred.features.plan import FeaturePlan
from riskpred.model.layout import DAYS_PER_YEAR
from riskpred.model.peer import CoxPart, LogisticPart, Part, Peer, PeerDesign, SetPart

Floats = NDArray[np.float64]

FOLDS: Final = 5
"""Inner folds of subjects that choose the ridge penalty."""

MAX_INTERVALS: Final = 200
"""The baseline hazard is kept in at most so many event-quantile intervals (plus the horizons)."""

_NEWTON_STEPS: Final = 30


def fit_peer(
    batch: FeatureBatch,
    plan: FeaturePlan,
    duration_days: Mapping[str, Floats],
    cause: Mapping[str, NDArray[np.int8]],
    outcomes: OutcomesConfig,
    seed: int = 1,
    network: NetworkConfig | None = None,
    together: NDArray[np.int64] | None = None,
) -> Peer:
    """The peer of a bundle, from its training rows.

    Args:
        duration_days, cause: per risk group, as `CohortRows` has them; rows with cause -1 are left out of that group.
        network: network.yaml, for the spline's knots and the grid of penalties; default: their defaults.
        together: (B,) rows with one number stay in one inner fold; default: the subjects.

    Shape: batch of B rows; duration_days, cause (B,) per group.
    Follow-up is used to its end, not cut at the last horizon.
    """
    network = network or NetworkConfig()
    grid = tuple(sorted(network.training.ridge_grid, reverse=True))
    design = PeerDesign.learn(batch, plan, _knots(network))
    matrix = design.matrix(batch)
    parts: dict[str, Part] = {}
    for group in outcomes.groups:
        inside = cause[group.name] >= 0
        folds = subject_folds((batch.subject_id if together is None else together)[inside], FOLDS, seed)
        given = matrix[inside], cause[group.name][inside]
        if group.known_at_once and len(group.outcomes) > 1:
            parts[group.name] = (_fit_grades if group.ordered else _fit_classes)(*given, group, folds, grid)
        elif group.known_at_once:
            parts[group.name] = _fit_logistic(*given, group, folds, grid)
        else:
            parts[group.name] = _fit_group(*given, duration_days[group.name][inside], group, folds, grid)
    targets = tuple(
        (name, horizon)
        for name in outcomes.outcomes
        for group in outcomes.groups
        if name in group.outcomes
        for horizon in group.horizons_years
    )
    return Peer(targets, design, tuple(parts.values()))


def subject_folds(subject_id: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """Fold of each row, all rows of a subject together, folds of about equal size. Shape: (N,) -> (N,)."""
    subjects, place = np.unique(subject_id, return_inverse=True)
    shuffled = np.random.default_rng(seed).permutation(len(subjects)) % folds
    return np.asarray(shuffled[place], dtype=np.int64)


@dataclass(frozen=True)
class CoxData:
    """Rows sorted by follow-up, prepared for Newton's method with Breslow's handling of ties.

    matrix: (N, P).   passed: (N,) number of distinct event times at or before the row's own.
    event: (N,) bool.   deaths: (E,) events at each distinct event time.   event_time: (E,).
    """

    matrix: Floats
    passed: NDArray[np.int64]
    event: NDArray[np.bool_]
    deaths: Floats
    event_time: Floats

    @classmethod
    def of(cls, matrix: Floats, time: Floats, event: NDArray[np.bool_]) -> "CoxData":
        order = np.argsort(time, kind="stable")
        event_time, deaths = np.unique(time[event], return_counts=True)
        passed = np.searchsorted(event_time, time[order], side="right")
        return cls(matrix[order], passed, event[order], deaths.astype(np.float64), event_time)

    def at_risk(self, values: Floats) -> Floats:
        """Sum over those still at risk at each distinct event time. Shape: (N, ...) -> (E, ...)."""
        # Each distinct event time is somebody's own, so no group between two starts is empty.
        first = np.searchsorted(self.passed, np.arange(1, len(self.deaths) + 1))
        by_passed = np.add.reduceat(values, first, axis=0)
        return np.asarray(by_passed[::-1].cumsum(axis=0)[::-1], dtype=np.float64)

    def log_likelihood(self, beta: Floats) -> float:
        """Breslow's partial log-likelihood."""
        eta = self.matrix @ beta
        shift = float(eta.max(initial=0.0))
        inside = self.at_risk(np.exp(eta - shift))
        return float(eta[self.event].sum() - np.sum(self.deaths * (np.log(inside) + shift)))

    def derivatives(self, beta: Floats) -> tuple[Floats, Floats]:
        """Score and information of the partial log-likelihood. Shape: (P,), (P, P)."""
        eta = self.matrix @ beta
        weight = np.exp(eta - eta.max(initial=0.0))
        inside = self.at_risk(weight)
        rate = np.concatenate([[0.0], np.cumsum(self.deaths / inside)])[self.passed] * weight
        mean = self.at_risk(self.matrix * weight[:, None]) / inside[:, None]
        score = self.matrix[self.event].sum(axis=0) - rate @ self.matrix
        information = (self.matrix * rate[:, None]).T @ self.matrix - (mean * self.deaths[:, None]).T @ mean
        return score, information

    def baseline(self, beta: Floats) -> Floats:
        """Breslow's increments of the cumulative hazard at each distinct event time, for a row of 0s. Shape: (E,)."""
        return np.asarray(self.deaths / self.at_risk(np.exp(self.matrix @ beta)), dtype=np.float64)


def cox_ridge(data: CoxData, penalty: float, start: Floats) -> Floats:
    """Maximiser of partial log-likelihood - penalty / 2 |beta|^2, by Newton's method with step halving.

    Shape: start and the result (P,).
    Source: Breslow 1974, Biometrics 30:89-99 (ties); Verweij & van Houwelingen 1994, Stat Med 13:2427-2436 (ridge).
    """
    beta = start
    value = data.log_likelihood(beta) - 0.5 * penalty * float(beta @ beta)
    for _ in range(_NEWTON_STEPS):
        score, information = data.derivatives(beta)
        step = np.linalg.solve(information + penalty * np.eye(len(beta)), score - penalty * beta)
        for _halving in range(20):
            trial = beta + step
            new = data.log_likelihood(trial) - 0.5 * penalty * float(trial @ trial)
            if new >= value - 1e-10 * abs(value):
                break
            step = 0.5 * step
        else:
            return beta
        beta = trial
        if new - value < 1e-7 * (1.0 + abs(value)):
            return beta
        value = new
    return beta


def choose_penalty(
    matrix: Floats, time: Floats, event: NDArray[np.bool_], folds: NDArray[np.int64], grid: Sequence[float]
) -> float:
    """Penalty (of a falling grid) with the best cross-validated partial log-likelihood.

    l(all rows; beta without fold k) - l(rows outside k; the same beta), summed over folds, so that a fold with few
    events still counts. The largest penalty where no fold can be fitted.
    Source: Verweij & van Houwelingen 1993, Stat Med 12:2305-2314.
    """
    whole = CoxData.of(matrix, time, event)
    gain = np.zeros(len(grid))
    for fold in np.unique(folds):
        kept = folds != fold
        if not event[kept].any():
            continue
        data = CoxData.of(matrix[kept], time[kept], event[kept])
        beta = np.zeros(matrix.shape[1])
        for i, penalty in enumerate(grid):
            beta = cox_ridge(data, penalty, beta)
            gain[i] += whole.log_likelihood(beta) - data.log_likelihood(beta)
    return float(grid[int(np.argmax(gain))])


def _fit_group(
    matrix: Floats,
    cause: NDArray[np.int8],
    time: Floats,
    group: RiskGroup,
    folds: NDArray[np.int64],
    grid: Sequence[float],
) -> CoxPart:
    active = matrix.std(axis=0) > 0 if len(matrix) else np.zeros(matrix.shape[1], dtype=bool)
    used = np.ascontiguousarray(matrix[:, active])
    cuts = baseline_cuts(time[cause > 0], [h * DAYS_PER_YEAR for h in group.horizons_years])
    beta, baseline = np.zeros((matrix.shape[1], len(group.causes))), np.zeros((len(cuts), len(group.causes)))
    for j in range(len(group.causes)):
        event = cause == j + 1
        if not event.any():
            continue
        data = CoxData.of(used, time, event)
        if used.shape[1]:
            penalty = choose_penalty(used, time, event, folds, grid)
            beta[active, j] = cox_ridge(data, penalty, np.zeros(used.shape[1]))
        place = np.searchsorted(cuts, data.event_time, side="left")
        inside = place < len(cuts)
        baseline[:, j] = np.bincount(place[inside], data.baseline(beta[active, j])[inside], minlength=len(cuts))
    end = tuple(int(np.searchsorted(cuts, h * DAYS_PER_YEAR, side="left")) + 1 for h in group.horizons_years)
    return CoxPart(group.outcomes, group.horizons_years, beta, baseline, end)


def baseline_cuts(event_days: Floats, horizons_days: Sequence[float]) -> Floats:
    """Rising ends of the baseline's intervals: quantiles of event times up to the last horizon, and the horizons."""
    inside = np.unique(event_days[event_days <= horizons_days[-1]])
    if len(inside) > MAX_INTERVALS:
        inside = np.quantile(inside, np.linspace(0, 1, MAX_INTERVALS + 1)[1:], method="higher")
    return np.unique(np.concatenate([inside, horizons_days]))


def _fit_logistic(
    matrix: Floats, answer: NDArray[np.int8], group: RiskGroup, folds: NDArray[np.int64], grid: Sequence[float]
) -> LogisticPart:
    from sklearn.linear_model import LogisticRegression

    def fitted(rows: NDArray[np.bool_], penalty: float) -> tuple[float, Floats]:
        if matrix.shape[1] == 0 or len(np.unique(answer[rows])) < 2:
            # One class, or nothing to regress on: the share, half a person away from 0 and 1.
            share = (float(answer[rows].sum()) + 0.5) / (int(rows.sum()) + 1.0)
            return float(np.log(share / (1.0 - share))), np.zeros(matrix.shape[1])
        model = LogisticRegression(C=1.0 / penalty, solver="newton-cholesky", tol=1e-6, max_iter=200)
        model.fit(matrix[rows], answer[rows])
        return float(model.intercept_[0]), np.asarray(model.coef_[0], dtype=np.float64)

    loss = np.zeros(len(grid))
    for fold in np.unique(folds):
        test = folds == fold
        for i, penalty in enumerate(grid):
            intercept, beta = fitted(~test, penalty)
            score = intercept + matrix[test] @ beta
            loss[i] += float(np.sum(np.logaddexp(0.0, score) - answer[test] * score))
    intercept, beta = fitted(np.ones(len(answer), dtype=bool), float(grid[int(np.argmin(loss))]))
    return LogisticPart(group.outcomes[0], intercept, beta)


def _fit_grades(
    matrix: Floats, answer: NDArray[np.int8], group: RiskGroup, folds: NDArray[np.int64], grid: Sequence[float]
) -> SetPart:
    """Each step up on those who reached the grade before."""
    steps = []
    for number in range(1, len(group.outcomes) + 1):
        reached = answer >= number - 1
        came = (answer[reached] >= number).astype(np.int8)
        steps.append(_fit_logistic(matrix[reached], came, group, folds[reached], grid))
    intercept, beta = np.array([one.intercept for one in steps]), np.stack([one.beta for one in steps], axis=1)
    return SetPart(group.outcomes, True, intercept, beta)


def _fit_classes(
    matrix: Floats, answer: NDArray[np.int8], group: RiskGroup, folds: NDArray[np.int64], grid: Sequence[float]
) -> SetPart:
    """A multinomial regression of all classes and none of them."""
    from sklearn.linear_model import LogisticRegression

    classes = len(group.outcomes) + 1

    def fitted(rows: NDArray[np.bool_], penalty: float) -> tuple[Floats, Floats]:
        there = np.unique(answer[rows])
        # Half a person of each class: one that is absent here is not impossible.
        share = (np.bincount(answer[rows], minlength=classes) + 0.5) / (int(rows.sum()) + 0.5 * classes)
        intercept, beta = np.log(share), np.zeros((matrix.shape[1], classes))
        if matrix.shape[1] == 0 or len(there) < 2:
            return intercept, beta
        model = LogisticRegression(C=1.0 / penalty, solver="lbfgs", tol=1e-6, max_iter=500)
        model.fit(matrix[rows], answer[rows])
        if len(there) == 2:  # scikit-learn then has one row: the odds of the second against the first
            level = float(np.mean(intercept[there]))
            intercept[there] = level - model.intercept_[0] / 2, level + model.intercept_[0] / 2
            beta[:, there] = np.stack([-model.coef_[0] / 2, model.coef_[0] / 2], axis=1)
        else:
            intercept[there], beta[:, there] = model.intercept_ + float(np.mean(intercept[there])), model.coef_.T
        return intercept, beta

    loss = np.zeros(len(grid))
    for fold in np.unique(folds):
        test = folds == fold
        for i, penalty in enumerate(grid):
            intercept, beta = fitted(~test, penalty)
            score = intercept + matrix[test] @ beta
            loss[i] += float(np.sum(np.logaddexp.reduce(score, axis=1) - score[np.arange(len(score)), answer[test]]))
    intercept, beta = fitted(np.ones(len(answer), dtype=bool), float(grid[int(np.argmin(loss))]))
    return SetPart(group.outcomes, False, intercept[1:] - intercept[0], beta[:, 1:] - beta[:, :1])


def _knots(network: NetworkConfig) -> int:
    """Knots of the first tabular encoder that network.yaml sets, else the default."""
    return next(
        (encoder.knots for encoder in network.encoders.values() if isinstance(encoder, TabularEncoder)),
        TabularEncoder().knots,
    )
