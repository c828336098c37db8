"""XGBoost with the Cox loss on the subdistribution, recalibrated; binary:logistic where known at once."""

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import xgboost
from numpy.typing import NDArray

from riskpred.evaluate.censoring import DAYS_PER_YEAR
from riskpred.fit.peer import CoxData
from tests.benchmarks.accuracy.peers.horizons import PATIENCE, ROUNDS
from tests.benchmarks.accuracy.peers.problem import Problem
from tests.benchmarks.accuracy.peers.tuning import (
    Choice,
    Recalibration,
    Solved,
    Staged,
    choose,
    log_loss,
    per_outcome,
)
from tests.benchmarks.accuracy.task import Floats, Result, Task

Candidate: TypeAlias = tuple[int, float]
"""(depth, min_child_weight)."""

_DEPTHS: Final = (2, 3, 4)
_LIGHT, _HEAVY = 2.0, 10.0


def fit(task: Task) -> Result:
    return per_outcome(task, solve)


def solve(problem: Problem) -> Solved:
    """Follow-up to its end or to the last horizon, whichever gave the better risks of inner folds."""
    found = [_solve(problem, days) for days in _follow_ups(problem)]
    everyone = np.ones(len(problem.train), np.bool_)

    def loss(solved: Solved) -> float:
        return float(
            np.mean([log_loss(solved.left_out[:, h], answer, everyone) for h, answer in enumerate(problem.answers)])
        )

    return min(found, key=loss)


def _solve(problem: Problem, until_days: float) -> Solved:
    """Depth first, then whether leaves must be heavier. Baseline and calibration come from margins left out."""
    boosted = _XgBoost(problem, until_days)
    found = choose([(depth, _LIGHT) for depth in _DEPTHS], boosted.stage, problem)
    heavier = choose([(found.candidate[0], _HEAVY)], boosted.stage, problem)
    found = min(found, heavier, key=lambda choice: choice.loss)
    margin = boosted.final(found)
    settings = {
        "depth": found.candidate[0],
        "min_child_weight": found.candidate[1],
        "rounds": found.rounds,
        "until_days": until_days,
    }
    if problem.view.known_at_once:
        left_out, risk = (1.0 / (1.0 + np.exp(-one))[:, None] for one in (found.left_out, margin))
        return Solved(risk, left_out, settings)
    hazard = boosted.baseline(found.left_out)
    left_out, risk = (-np.expm1(-hazard[None, :] * np.exp(one)[:, None]) for one in (found.left_out, margin))
    line = Recalibration.of(left_out, problem)
    return Solved(line(risk), line(left_out), settings | {"lines": line.lines})


def _follow_ups(problem: Problem) -> list[float]:
    """Days after which follow-up is not used: never, and the last horizon where a tenth of the events lie later."""
    if problem.view.known_at_once:
        return [np.inf]
    time, event = problem.at_risk
    last = problem.view.horizons_years[-1] * DAYS_PER_YEAR
    later = float((event & (time > last)).sum()) / max(float(event.sum()), 1.0)
    return [np.inf, last] if later > 0.1 else [np.inf]


@dataclass(frozen=True)
class _Fitted:
    booster: xgboost.Booster
    matrix: xgboost.DMatrix
    fits: NDArray[np.bool_]
    curve: Floats
    centred: bool

    def predict(self, rows: NDArray[np.bool_], rounds: int) -> Floats:
        margin = _margin(self.booster, self.matrix, rounds)
        # A Cox margin has no origin of its own: folds are compared from the mean of the rows each was fitted on.
        return (margin - margin[self.fits].mean() if self.centred else margin)[rows]


class _XgBoost:
    """Fits on the features with one-hot categories."""

    def __init__(self, problem: Problem, until_days: float) -> None:
        self.problem = problem
        self.values = problem.train.one_hot()
        self.now = problem.view.known_at_once
        if self.now:
            self.label, self.weight = problem.answers[0].outcome, problem.answers[0].weight
        else:
            time, event = problem.at_risk
            self.time, self.event = np.minimum(time, until_days), event & (time <= until_days)
            # The sign of the label says whether the event was seen; a time of 0 has none.
            self.label = np.where(self.event, 1.0, -1.0) * np.maximum(self.time, 0.5)
            self.weight = np.ones(len(time))

    def _settings(self, candidate: Candidate) -> dict[str, Any]:
        depth, weight = candidate
        return {
            "objective": "binary:logistic" if self.now else "survival:cox",
            "eval_metric": "logloss" if self.now else "cox-nloglik",
            "eta": 0.03,
            "max_depth": depth,
            "min_child_weight": weight,
            "subsample": 0.8,
            "colsample_bytree": 0.6,
            "lambda": 2.0,
            "tree_method": "hist",
            "max_bin": 128,
            "nthread": 1,
            "seed": self.problem.seed,
        }

    def _matrix(self, rows: NDArray[np.bool_]) -> xgboost.DMatrix:
        return xgboost.DMatrix(self.values[rows], self.label[rows], weight=self.weight[rows], nthread=1)

    def stage(self, candidate: Candidate, fits: NDArray[np.bool_], scores: NDArray[np.bool_]) -> Staged:
        curve: dict[str, dict[str, list[float]]] = {}
        booster = xgboost.train(
            self._settings(candidate),
            self._matrix(fits),
            ROUNDS,
            evals=[(self._matrix(scores), "stops")],
            early_stopping_rounds=PATIENCE,
            evals_result=curve,
            verbose_eval=False,
        )
        losses = np.array(next(iter(curve["stops"].values())))
        return _Fitted(booster, xgboost.DMatrix(self.values, nthread=1), fits, losses, not self.now)

    def final(self, found: Choice[Candidate]) -> Floats:
        """Margins of the test rows by a fit on all training rows. Shape: (m,)."""
        everyone = np.ones(len(self.values), np.bool_)
        matrix = self._matrix(everyone)
        booster = xgboost.train(self._settings(found.candidate), matrix, found.rounds)
        test = _margin(booster, xgboost.DMatrix(self.problem.test.one_hot(), nthread=1), found.rounds)
        return test if self.now else test - _margin(booster, matrix, found.rounds).mean()

    def baseline(self, margin: Floats) -> Floats:
        """Breslow's cumulative hazard at the horizons, for a margin of 0. Shape: margin (n,), result (H,)."""
        data = CoxData.of(margin[:, None], self.time, self.event)
        steps = data.baseline(np.ones(1))
        days = np.array(self.problem.view.horizons_years) * DAYS_PER_YEAR
        passed = np.searchsorted(data.event_time, days, side="right")
        return np.concatenate([[0.0], np.cumsum(steps)])[passed]


def _margin(booster: xgboost.Booster, matrix: xgboost.DMatrix, rounds: int) -> Floats:
    last = min(rounds, booster.num_boosted_rounds())
    return np.asarray(booster.predict(matrix, output_margin=True, iteration_range=(0, last)), dtype=np.float64)
