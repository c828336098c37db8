"""LightGBM classifier per horizon with IPCW weights; leaves chosen, rounds stopped by inner folds."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import lightgbm
import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.accuracy.peers import horizons
from tests.benchmarks.accuracy.peers.horizons import PATIENCE, ROUNDS, Labelled
from tests.benchmarks.accuracy.peers.problem import Problem
from tests.benchmarks.accuracy.peers.tuning import Solved, per_outcome
from tests.benchmarks.accuracy.task import Floats, Result, Task

_LEAVES: Final = (3, 6, 12)


def fit(task: Task) -> Result:
    return per_outcome(task, solve)


def solve(problem: Problem) -> Solved:
    return horizons.solve(problem, _LEAVES, _LightGbm(problem))


@dataclass(frozen=True)
class _Fitted:
    booster: lightgbm.Booster
    values: Floats
    curve: Floats

    def predict(self, rows: NDArray[np.bool_], rounds: int) -> Floats:
        return np.asarray(self.booster.predict(self.values[rows], num_iteration=rounds, num_threads=1))


@dataclass(frozen=True)
class _LightGbm:
    problem: Problem

    @cached_property
    def _data(self) -> lightgbm.Dataset:
        """All training rows, binned once; parts are views of it."""
        whole = lightgbm.Dataset(
            self.problem.train.values,
            categorical_feature=self.problem.train.categorical,
            free_raw_data=False,
            params={
                "verbosity": -1,
                "max_bin": 127,
                "num_threads": 1,
                "min_data_in_bin": 3,
                "feature_pre_filter": False,
            },
        )
        return whole.construct()

    def _part(self, rows: Labelled) -> lightgbm.Dataset:
        part = self._data.subset(rows.place.tolist())
        part.construct()
        part.set_label(rows.outcome)
        part.set_weight(rows.weight)
        return part

    def _settings(self, leaves: int, rows: int) -> dict[str, Any]:
        return {
            "objective": "binary",
            "learning_rate": 0.03,
            "num_leaves": leaves,
            "min_data_in_leaf": int(np.clip(rows // 60, 5, 50)),
            "bagging_fraction": 0.8,
            "bagging_freq": 1,
            "feature_fraction": 0.6,
            "lambda_l2": 5.0,
            "cat_smooth": 20.0,
            "num_threads": 1,
            "verbosity": -1,
            "seed": self.problem.seed,
            "deterministic": True,
            "force_row_wise": True,
        }

    def stage(self, candidate: int, fits: Labelled, stops: Labelled) -> _Fitted:
        curve: dict[str, dict[str, list[float]]] = {}
        booster = lightgbm.train(
            self._settings(candidate, len(fits.place)),
            self._part(fits),
            ROUNDS,
            valid_sets=[self._part(stops)],
            valid_names=["stops"],
            callbacks=[
                lightgbm.record_evaluation(curve),
                lightgbm.early_stopping(PATIENCE, verbose=False),
            ],
        )
        return _Fitted(booster, self.problem.train.values, np.array(curve["stops"]["binary_logloss"]))

    def final(self, candidate: int, fits: Labelled, rounds: int) -> Floats:
        booster = lightgbm.train(self._settings(candidate, len(fits.place)), self._part(fits), rounds)
        return np.asarray(booster.predict(self.problem.test.values, num_threads=1))
