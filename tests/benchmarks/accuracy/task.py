"""What a method is given for one fold, and what it gives back."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from riskpred.config.study import ModelConfig
from riskpred.features.batch import FeatureBatch
from riskpred.features.plan import FeaturePlan
from riskpred.fit.data import Rows
from riskpred.model.layout import Target
from tests.benchmarks.accuracy.sets import BenchmarkSet

Floats = NDArray[np.float64]

ALL_INPUTS: Final = "all inputs"
"""The scenario in which nothing is taken away at scoring."""


@dataclass(frozen=True)
class Task:
    """Training and test rows of one fold. `seed` depends on set, repeat and fold only, not on the method."""

    spec: BenchmarkSet
    config: ModelConfig
    plan: FeaturePlan
    train: Rows
    test: Rows
    seed: int

    @property
    def targets(self) -> tuple[Target, ...]:
        """(outcome, horizon_years) in the order of outcomes.yaml x rising horizons."""
        groups = {name: group for group in self.config.outcomes.groups for name in group.outcomes}
        return tuple((name, h) for name in self.config.outcomes.outcomes for h in groups[name].horizons_years)


@dataclass(frozen=True)
class Inner:
    """What the inner folds said about the chosen settings: rank = Uno's C or AUC, error = IBS or Brier score."""

    rank: float
    error: float


@dataclass(frozen=True)
class Result:
    """Risks of the test rows.

    risk: scenario -> (n, Q), columns as `Task.targets`.   low, high: (n, Q) of the scenario ALL_INPUTS, or None.
    inner: outcome -> scores of inner folds (peers only).   settings: what was chosen, for the record.
    """

    risk: Mapping[str, Floats]
    low: Floats | None = None
    high: Floats | None = None
    inner: Mapping[str, Inner] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


def without(batch: FeatureBatch, modalities: tuple[str, ...]) -> FeatureBatch:
    """The batch as if these modalities had not been recorded. Names that the plan lacks are ignored."""
    gone = {name: np.zeros(len(batch), np.bool_) for name in modalities if name in batch.present}
    return replace(batch, present={**batch.present, **gone})
