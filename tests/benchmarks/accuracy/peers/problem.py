"""One outcome of one fold as the peers' libraries see it: a matrix of history features, times and weights."""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from riskpred.evaluate.censoring import DAYS_PER_YEAR, OUTCOME, Observation
from riskpred.features.batch import FeatureBatch, TabularInput
from riskpred.features.plan import FeatureColumn, FeaturePlan, TabularPlan
from riskpred.fit.data import Rows, stratified_folds
from tests.benchmarks.accuracy.rows import View, views
from tests.benchmarks.accuracy.scores import Weighted, observed, weighted
from tests.benchmarks.accuracy.task import Floats, Task

INNER_FOLDS: Final = 3


@dataclass(frozen=True)
class Features:
    """Columns of all tabular modalities, side by side: the same for every peer.

    values: (n, F), NaN = missing; a category is its index in the column's vocabulary.
    """

    values: Floats
    columns: tuple[FeatureColumn, ...]

    def __len__(self) -> int:
        return len(self.values)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> "Features":
        return Features(self.values[index], self.columns)

    @property
    def categorical(self) -> list[int]:
        """Positions of the categories."""
        return [f for f, column in enumerate(self.columns) if column.vocabulary]

    def one_hot(self) -> Floats:
        """A category of more than two values becomes one column per value, NaN where missing. Shape: (n, W)."""
        parts = []
        for f, column in enumerate(self.columns):
            one = self.values[:, f : f + 1]
            if len(column.vocabulary) > 2:
                hot = (one == np.arange(len(column.vocabulary))).astype(np.float64)
                one = np.where(np.isnan(one), np.nan, hot)
            parts.append(one)
        return np.concatenate(parts, axis=1) if parts else np.zeros((len(self), 0))


def features_of(batch: FeatureBatch, plan: FeaturePlan) -> Features:
    """History features of a batch; a modality that is not present is missing throughout."""
    parts: list[Floats] = [np.zeros((len(batch), 0))]
    columns: list[FeatureColumn] = []
    for name, part in plan.modalities.items():
        given = batch.inputs[name]
        if isinstance(part, TabularPlan) and isinstance(given, TabularInput):
            parts.append(np.where(batch.present[name][:, None], given.values.astype(np.float64), np.nan))
            columns += part.columns
    return Features(np.concatenate(parts, axis=1), tuple(columns))


@dataclass(frozen=True)
class Problem:
    """Training rows at risk of one outcome, and all test rows.

    Shape: view, together, inner (n,) for n training rows; inner: their fold among INNER_FOLDS, the same for all peers.
    """

    train: Features
    test: Features
    view: View
    inner: NDArray[np.int64]
    seed: int

    @cached_property
    def seen(self) -> Observation | None:
        """Censoring of all training rows: weights of inner folds come from it too, for no outcome enters it."""
        return observed(self.view)

    @cached_property
    def answers(self) -> tuple[Weighted, ...]:
        """Outcome and IPCW weight of the training rows at each horizon. A competing event is a known "no"."""
        return tuple(weighted(self.view, years, self.seen) for years in self.view.horizons_years)

    def parts(self) -> list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
        """(fitted on, scored) masks of the inner folds. Shape: (n,) each."""
        return [(self.inner != k, self.inner == k) for k in range(INNER_FOLDS)]

    def events(self, rows: NDArray[np.bool_], h: int) -> int:
        """Outcomes among these rows by horizon h."""
        one = self.answers[h]
        return int(((one.weight > 0) & (one.outcome > 0) & rows).sum())

    @cached_property
    def at_risk(self) -> tuple[Floats, NDArray[np.bool_]]:
        """Follow-up in days and event, on the subdistribution: a competing event keeps its row at risk to the end.

        The end is a leaving time drawn from the censoring curve of those who are still observed at the event, so that
        methods for one event give the crude cumulative incidence. Shape: (n,), (n,).
        Source: Ruan & Gray 2008, Stat Med 27:5709-5724 (one imputation).
        """
        time, event = self.view.time_days.copy(), self.view.status == OUTCOME
        gone = np.flatnonzero(self.view.status > OUTCOME)
        if self.seen is not None and len(gone):
            draw = np.random.default_rng(self.seed).random(len(gone))
            end = max(float(self.view.time_days.max()), self.view.horizons_years[-1] * DAYS_PER_YEAR) + 1.0
            # G falls from G(t) to the drawn share of it at the drawn time; a curve that stays above it never leaves.
            level = draw * self.seen.before(np.nextafter(time[gone], np.inf))
            at = np.searchsorted(-self.seen.level[1:], -level, side="left")
            later = np.append(self.seen.time, end)[at]
            time[gone] = np.maximum(later, time[gone])
        return time, event


def problems(task: Task) -> list[tuple[Problem, NDArray[np.bool_]]]:
    """One problem per outcome with the mask of the training rows in it. Shape: mask (N,)."""
    train, test = features_of(task.train.batch, task.plan), features_of(task.test.batch, task.plan)
    inner = inner_folds(task.train, task.seed)
    found = []
    for view in views(task.config.outcomes, task.train):
        inside = view.status >= 0
        found.append((Problem(train.take(inside), test, view.take(inside), inner[inside], task.seed), inside))
    return found


def inner_folds(train: Rows, seed: int) -> NDArray[np.int64]:
    """Grouped, stratified folds of the training part, the same for every peer. Shape: (N,)."""
    return stratified_folds(train.together, train.labels(), INNER_FOLDS, 7_000 + seed)
