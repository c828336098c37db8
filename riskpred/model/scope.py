"""Where the people a model was made from end: what it learned of them, and the warnings on a risk that lies outside.

A flag says that the training data have little to say about this risk; it changes no risk. Flags name a rule, never a
patient's value. The tables of `risk_scores`, README and the report's words list the same names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riskpred.features.plan import FeaturePlan, TabularPlan
from riskpred.model.calibration import pattern_index
from riskpred.model.likeness import Cloud, fused_embedding, input_profile
from riskpred.model.network import Sent
from riskpred.model.tensors import ModalityTensors, SeriesTensors, TabularTensors

SEEN_IN_TRAINING: Final = "seen_in_training"
AGE_OUTSIDE_TRAINING: Final = "age_outside_training"
AGE_UNKNOWN: Final = "age_unknown"
HORIZON_BEYOND_FOLLOW_UP: Final = "horizon_beyond_follow_up"
UNLIKE_TRAINING: Final = "unlike_training"
AVAILABILITY_UNSEEN: Final = "availability_unseen"
TOO_FEW_INPUTS: Final = "too_few_inputs"

FLAGS: Final = (
    SEEN_IN_TRAINING,
    AGE_OUTSIDE_TRAINING,
    AGE_UNKNOWN,
    HORIZON_BEYOND_FOLLOW_UP,
    UNLIKE_TRAINING,
    AVAILABILITY_UNSEEN,
    TOO_FEW_INPUTS,
)
"""Every flag, in the order in which a row lists them."""

AGE_UNKNOWN_USUAL: Final = 0.05
"""An unknown age is remarkable where a smaller share of training rows had none: of what is common among the people it
was made from a model knows as much as of anything else."""
LEAST_PEOPLE: Final = 20
"""Training subjects that must have had a combination of modalities (and, in fit/scope.py, been followed to a horizon):
below it one or two people decide."""

_CLOUDS: Final = ("embedding", "inputs")

_ALWAYS_THERE: Final = frozenset({"count", "ever"})
"""Aggregates that are a number for everyone, 0 where nothing was recorded: they say nothing of how much was."""


@dataclass(frozen=True)
class Measured:
    """What flags need to know of B rows, beside their ages.

    Shape: pattern (B,) int64 of `pattern_index`; inputs (B,) int64, how many inputs have a value (`count_inputs`);
        unlikeness (B,) float64, as `Scope.measure` says.
    """

    pattern: NDArray[np.int64]
    inputs: NDArray[np.int64]
    unlikeness: NDArray[np.float64]

    @classmethod
    def joined(cls, parts: list["Measured"]) -> "Measured":
        """Rows one after the other."""
        return cls(*(np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(cls)))


@dataclass(frozen=True)
class Scope:
    """What is known of the training rows. Q targets, K availability patterns that occurred, ascending.

    Shape and meaning:
        age_low, age_high: (Q,) years, limits of the risk set's ages; NaN where no age was known.
        age_missing: () share of training rows whose age was not known.
        beyond_follow_up: (Q,) bool, too few training subjects were under observation at the horizon.
        least_inputs: () int64, fewer inputs than this are too few.
        pattern: (K,) int64 of `pattern_index`.   people: (K,) int64, training subjects that had it.
        limit: (K + 1,) greatest unlikeness of each pattern that is not flagged; the last is that of all rows, for
            patterns that never occurred.
        own: (K + 1,) int64, which of the H clouds of embeddings a pattern's rows are compared with.
        embedding: H clouds x R members in D columns.   inputs: one cloud in the columns of `input_profile`.
        units: (2,) distance in either view that is exceeded by 1 % of training rows; distances are in these units.
    """

    age_low: NDArray[np.float64]
    age_high: NDArray[np.float64]
    age_missing: NDArray[np.float64]
    beyond_follow_up: NDArray[np.bool_]
    least_inputs: NDArray[np.int64]
    pattern: NDArray[np.int64]
    people: NDArray[np.int64]
    limit: NDArray[np.float64]
    own: NDArray[np.int64]
    embedding: Cloud
    inputs: Cloud
    units: NDArray[np.float64]

    def measure(
        self, plan: FeaturePlan, inputs: Mapping[str, ModalityTensors], sent: Sent, reference: Sent
    ) -> Measured:
        """What flags need, from tensors and what was sent of them already.

        Unlikeness is the larger of two distances, each in units of its own 1 % tail: that of the fused embedding (mean
        over members), where combinations show that the model reacts to, and that of the raw inputs, where values show
        that encoders cut off. An encoder that learned nothing still sends a random view of its inputs.
        """
        present = {name: given.present for name, given in inputs.items()}
        pattern = pattern_index(present, tuple(plan.modalities)).numpy()
        return Measured(
            pattern,
            count_inputs(plan, inputs),
            self.unlikeness(fused_embedding(sent, reference, present), input_profile(plan, inputs), pattern),
        )

    def unlikeness(
        self, embedding: NDArray[np.float64], profile: NDArray[np.float64], pattern: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Shape: embedding (R, B, D), profile (B, P), pattern (B,); result (B,)."""
        near, far, own = np.zeros(len(pattern)), np.zeros(len(pattern)), self.own[self._place(pattern)]
        for cloud in np.unique(own):
            self.embedding[int(cloud)].mean_distance(embedding, np.flatnonzero(own == cloud), near)
        self.inputs.mean_distance(profile[None], np.arange(len(pattern)), far)
        return np.asarray(np.maximum(near / self.units[0], far / self.units[1]))

    def flags(
        self, measured: Measured, age_years: NDArray[np.float64], seen_in_training: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Which of FLAGS hold for each risk.

        Shape: B rows of `measured`; age_years (B,) at prediction_time, NaN = not known; seen_in_training (B,);
            result (B, Q, len(FLAGS)).
        """
        place = self._place(measured.pattern)
        people = np.append(self.people, 0)[place]
        known = ~np.isnan(age_years)
        rows = {
            SEEN_IN_TRAINING: seen_in_training,
            # Not "greater": what cannot be compared is not like the training rows either.
            UNLIKE_TRAINING: ~(measured.unlikeness <= self.limit[place]),
            AVAILABILITY_UNSEEN: people < LEAST_PEOPLE,
            TOO_FEW_INPUTS: measured.inputs < self.least_inputs,
        }
        found = np.zeros((len(place), len(self.beyond_follow_up), len(FLAGS)), dtype=np.bool_)
        for flag, holds in rows.items():
            found[:, :, FLAGS.index(flag)] = holds[:, None]
        age = np.where(known, age_years, 0.0)[:, None]
        outside = known[:, None] & ((age < self.age_low) | (age > self.age_high))
        unknown = ~known[:, None] & ~np.isnan(self.age_low) & (self.age_missing < AGE_UNKNOWN_USUAL)
        found[:, :, FLAGS.index(AGE_OUTSIDE_TRAINING)] = outside
        found[:, :, FLAGS.index(AGE_UNKNOWN)] = unknown
        found[:, :, FLAGS.index(HORIZON_BEYOND_FOLLOW_UP)] = self.beyond_follow_up
        return found

    def _place(self, pattern: NDArray[np.int64]) -> NDArray[np.int64]:
        """Position of each row's pattern, K for one that never occurred. Shape: (B,)."""
        place = np.searchsorted(self.pattern, pattern)
        known = np.append(self.pattern, -1)[place] == pattern
        return np.where(known, place, len(self.pattern)).astype(np.int64)

    def state(self) -> dict[str, Tensor]:
        """Its arrays as tensors; a cloud's are named cloud.array."""
        arrays: dict[str, Any] = {one.name: getattr(self, one.name) for one in fields(self)}
        for name in _CLOUDS:
            cloud = arrays.pop(name)
            arrays |= {f"{name}.{part.name}": getattr(cloud, part.name) for part in fields(Cloud)}
        return {name: torch.from_numpy(np.array(array, order="C")) for name, array in arrays.items()}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "Scope":
        arrays = {name: tensor.numpy() for name, tensor in state.items()}
        found: dict[str, Any] = {name: array for name, array in arrays.items() if "." not in name}
        for name in _CLOUDS:
            found[name] = Cloud(**{part.name: arrays[f"{name}.{part.name}"] for part in fields(Cloud)})
        return cls(**found)


def count_inputs(plan: FeaturePlan, inputs: Mapping[str, ModalityTensors]) -> NDArray[np.int64]:
    """How many inputs of each row have a value: features that can be missing, series channels, images. Shape: (B,)."""
    found = []
    for name, part in plan.modalities.items():
        given = inputs[name]
        if isinstance(given, TabularTensors):
            assert isinstance(part, TabularPlan)
            can_miss = [f for f, column in enumerate(part.columns) if column.aggregate not in _ALWAYS_THERE]
            count = given.observed[:, can_miss].sum(dim=1)
        elif isinstance(given, SeriesTensors):
            count = given.observed.any(dim=1).sum(dim=1)
        else:
            count = torch.ones(len(given.present), dtype=torch.int64)
        found.append(torch.where(given.present, count, 0))
    return np.asarray(torch.stack(found).sum(dim=0).numpy(), dtype=np.int64)
