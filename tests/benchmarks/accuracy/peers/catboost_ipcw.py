"""CatBoost classifier per horizon with IPCW weights; depth chosen, rounds stopped by inner folds."""

from dataclasses import dataclass
from typing import Final

import catboost
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tests.benchmarks.accuracy.peers import horizons
from tests.benchmarks.accuracy.peers.horizons import PATIENCE, ROUNDS, Labelled
from tests.benchmarks.accuracy.peers.problem import Features, Problem
from tests.benchmarks.accuracy.peers.tuning import Solved, per_outcome
from tests.benchmarks.accuracy.task import Floats, Result, Task

_DEPTHS: Final = (2, 4, 6)


def fit(task: Task) -> Result:
    return per_outcome(task, solve)


def solve(problem: Problem) -> Solved:
    return horizons.solve(problem, _DEPTHS, _CatBoost(problem, _frame(problem.train), _frame(problem.test)))


@dataclass(frozen=True)
class _Fitted:
    model: catboost.CatBoostClassifier
    frame: pd.DataFrame
    curve: Floats

    def predict(self, rows: NDArray[np.bool_], rounds: int) -> Floats:
        return _risk(self.model, self.frame[rows], rounds)


@dataclass(frozen=True)
class _CatBoost:
    problem: Problem
    train: pd.DataFrame
    test: pd.DataFrame

    def _model(self, depth: int, rounds: int) -> catboost.CatBoostClassifier:
        return catboost.CatBoostClassifier(
            iterations=rounds,
            depth=depth,
            learning_rate=0.04,
            l2_leaf_reg=6.0,
            rsm=0.6,
            bootstrap_type="Bernoulli",
            subsample=0.8,
            border_count=64,
            boosting_type="Plain",
            boost_from_average=True,
            leaf_estimation_iterations=5,
            one_hot_max_size=12,
            max_ctr_complexity=1,
            thread_count=1,
            random_seed=self.problem.seed,
            allow_writing_files=False,
            verbose=False,
        )

    def _pool(self, rows: Labelled) -> catboost.Pool:
        return catboost.Pool(
            self.train.iloc[rows.place],
            rows.outcome.astype(int),
            cat_features=self.problem.train.categorical,
            weight=rows.weight,
            thread_count=1,
        )

    def stage(self, candidate: int, fits: Labelled, stops: Labelled) -> _Fitted:
        model = self._model(candidate, ROUNDS)
        model.fit(self._pool(fits), eval_set=self._pool(stops), early_stopping_rounds=PATIENCE, use_best_model=False)
        return _Fitted(model, self.train, np.array(model.get_evals_result()["validation"]["Logloss"]))

    def final(self, candidate: int, fits: Labelled, rounds: int) -> Floats:
        model = self._model(candidate, rounds)
        model.fit(self._pool(fits))
        return _risk(model, self.test, rounds)


def _frame(features: Features) -> pd.DataFrame:
    """Columns as CatBoost takes them: categories as text, missing ones among them."""
    names = [str(f) for f in range(len(features.columns))]
    frame = pd.DataFrame(features.values, columns=names)
    for f in features.categorical:
        values = features.values[:, f]
        frame[str(f)] = pd.Series(
            ["none" if np.isnan(value) else str(int(value)) for value in values], dtype=object, index=frame.index
        )
    return frame


def _risk(model: catboost.CatBoostClassifier, rows: pd.DataFrame, rounds: int) -> Floats:
    return np.asarray(model.predict_proba(rows, ntree_end=min(rounds, model.tree_count_), thread_count=1)[:, 1])
