"""Ridge logistic regression on restricted cubic splines, one per horizon, with IPCW weights."""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from riskpred.model.spline import SplineDesign
from tests.benchmarks.accuracy.peers import horizons
from tests.benchmarks.accuracy.peers.horizons import Labelled
from tests.benchmarks.accuracy.peers.problem import Problem
from tests.benchmarks.accuracy.peers.tuning import Solved, log_loss, per_outcome
from tests.benchmarks.accuracy.scores import Weighted
from tests.benchmarks.accuracy.task import Floats, Result, Task

_PENALTIES: Final = (300.0, 100.0, 30.0, 10.0, 3.0, 1.0)
_KNOTS: Final = 4


def fit(task: Task) -> Result:
    return per_outcome(task, solve)


def solve(problem: Problem) -> Solved:
    return horizons.solve(problem, _PENALTIES, _Logistic(problem))


@dataclass(frozen=True)
class _Fitted:
    """One fit on the design matrix; no rounds."""

    matrix: Floats
    intercept: float
    beta: Floats
    curve: Floats

    def predict(self, rows: NDArray[np.bool_], rounds: int) -> Floats:
        return _risk(self.matrix[rows], self.intercept, self.beta)


@dataclass(frozen=True)
class _Logistic:
    problem: Problem

    @cached_property
    def _matrices(self) -> tuple[Floats, Floats]:
        """Design of training and test rows; knots, means and scales from the training rows (no label enters)."""
        design = SplineDesign.learn(self.problem.train.values, self.problem.train.columns, _KNOTS)
        with torch.no_grad():
            train, test = (
                design.matrix(torch.from_numpy(part.values)).numpy() for part in (self.problem.train, self.problem.test)
            )
        varies = train.std(axis=0) > 0
        return np.ascontiguousarray(train[:, varies]), np.ascontiguousarray(test[:, varies])

    def stage(self, candidate: float, fits: Labelled, stops: Labelled) -> _Fitted:
        matrix, _ = self._matrices
        intercept, beta = _coefficients(matrix, fits, candidate)
        risk = _risk(matrix[stops.place], intercept, beta)
        loss = log_loss(risk, Weighted(stops.outcome, stops.weight), np.ones(len(risk), np.bool_))
        return _Fitted(matrix, intercept, beta, np.array([loss]))

    def final(self, candidate: float, fits: Labelled, rounds: int) -> Floats:
        matrix, test = self._matrices
        return _risk(test, *_coefficients(matrix, fits, candidate))


def _coefficients(matrix: Floats, fits: Labelled, penalty: float) -> tuple[float, Floats]:
    if len(np.unique(fits.outcome)) < 2:
        share = (float(fits.outcome.sum()) + 0.5) / (len(fits.outcome) + 1.0)
        return float(np.log(share / (1 - share))), np.zeros(matrix.shape[1])
    model = LogisticRegression(C=1.0 / penalty, solver="newton-cholesky", tol=1e-6, max_iter=200)
    model.fit(matrix[fits.place], fits.outcome, sample_weight=fits.weight)
    return float(model.intercept_[0]), np.asarray(model.coef_[0], dtype=np.float64)


def _risk(matrix: Floats, intercept: float, beta: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-(intercept + matrix @ beta))), dtype=np.float64)
