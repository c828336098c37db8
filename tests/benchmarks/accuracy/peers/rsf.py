"""Random survival forest on the subdistribution, recalibrated; a random forest where the outcome is known at once."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sksurv.ensemble import RandomSurvivalForest

from riskpred.evaluate.censoring import DAYS_PER_YEAR
from tests.benchmarks.accuracy.peers.problem import Problem
from tests.benchmarks.accuracy.peers.tuning import Recalibration, Solved, choose, log_loss, per_outcome
from tests.benchmarks.accuracy.task import Floats, Result, Task

_LEAVES: Final = (15, 50)
_INNER_TREES: Final = 40
_TREES: Final = 120
_SAMPLE: Final = 3_000
"""Most rows of one tree: a forest of small trees costs little in accuracy and much less time."""
_TIMES: Final = 40
"""Event times are rounded up to so many quantiles (and the horizons): the log-rank test barely notices."""


def fit(task: Task) -> Result:
    return per_outcome(task, solve)


def solve(problem: Problem) -> Solved:
    """The least size of a leaf is chosen by inner folds; forests are too timid, so risks are recalibrated by them."""
    forest = _Forest(problem)
    found = choose([leaf for leaf in _LEAVES if leaf * 4 <= len(problem.train)] or _LEAVES[:1], forest.stage, problem)
    line = Recalibration.of(found.left_out, problem)
    everyone = np.ones(len(problem.train), np.bool_)
    risk = forest.fitted(found.candidate, everyone, _TREES, problem.test.one_hot())
    return Solved(line(risk), line(found.left_out), {"leaf": found.candidate, "lines": line.lines})


@dataclass(frozen=True)
class _Fitted:
    """Risks of all training rows by one inner forest."""

    risk: Floats
    curve: Floats

    def predict(self, rows: NDArray[np.bool_], rounds: int) -> Floats:
        return self.risk[rows]


class _Forest:
    def __init__(self, problem: Problem) -> None:
        self.problem, self.values = problem, problem.train.one_hot()
        if not problem.view.known_at_once:
            time, event = problem.at_risk
            days = np.array(problem.view.horizons_years) * DAYS_PER_YEAR
            inside = event & (time <= days[-1])
            cuts = np.quantile(time[inside], np.linspace(0, 1, _TIMES + 1)[1:], method="higher")
            cuts = np.unique(np.concatenate([cuts, days, [days[-1] + 1.0]]))
            at = np.minimum(np.searchsorted(cuts, time, side="left"), len(cuts) - 1)
            self.days = days
            self.answer = np.array(
                list(zip(event & (time <= days[-1]), np.maximum(cuts[at], 1e-3), strict=True)),
                dtype=[("event", bool), ("time", float)],
            )

    def stage(self, candidate: int, fits: NDArray[np.bool_], scores: NDArray[np.bool_]) -> _Fitted:
        risk = np.zeros((len(self.values), len(self.problem.view.horizons_years)))
        risk[scores] = self.fitted(candidate, fits, _INNER_TREES, self.values[scores])
        loss = [log_loss(risk[:, h], answer, scores) for h, answer in enumerate(self.problem.answers)]
        return _Fitted(risk, np.array([np.mean(loss)]))

    def fitted(self, leaf: int, fits: NDArray[np.bool_], trees: int, wanted: Floats) -> Floats:
        """Risks of the wanted rows by a forest on some training rows. Shape: wanted (k, W), result (k, H)."""
        rows = int(fits.sum())
        settings = {
            "n_estimators": trees,
            "min_samples_leaf": leaf,
            "max_features": "sqrt",
            "max_samples": min(_SAMPLE, rows),
            "n_jobs": 1,
            "random_state": self.problem.seed,
        }
        if self.problem.view.known_at_once:
            forest = RandomForestClassifier(**settings)
            answer = self.problem.answers[0]
            forest.fit(self.values[fits], answer.outcome[fits].astype(int))
            if len(forest.classes_) < 2:
                return np.full((len(wanted), 1), float(forest.classes_[0]))
            return np.asarray(forest.predict_proba(wanted)[:, 1:])
        survival = RandomSurvivalForest(**settings).fit(self.values[fits], self.answer[fits])
        curves = survival.predict_survival_function(wanted, return_array=True)
        last = np.searchsorted(survival.unique_times_, self.days, side="right") - 1
        return np.where(last >= 0, 1.0 - curves[:, np.maximum(last, 0)], 0.0)
