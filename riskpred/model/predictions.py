"""Predictions kept in a bundle for rows that did not train the member that made them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Predictions:
    """N predictions: out of fold (one per row), or of a cross-validation (one per row and repeat).

    Shape:
        row: (N,) int64, position in the rows of the fit (subject_id, then prediction_time, ascending).
        repeat, fold: (N,) int64; repeat is 0 out of fold.
        subject: (N,) int64, salted hash of (site, subject_id): equal hashes are one person.
        risk, peer_risk: (N, Q) float64, by target; peer_risk is NaN where no peer was fitted.
        cause: (N, groups) int8, as in CohortRows; -1 = not in the group's risk set.
        duration_days: (N, groups) float64, NaN where cause is -1.
        present: (N, M) bool, by modality in the plan's order.
    """

    row: NDArray[np.int64]
    repeat: NDArray[np.int64]
    fold: NDArray[np.int64]
    subject: NDArray[np.int64]
    risk: NDArray[np.float64]
    peer_risk: NDArray[np.float64]
    cause: NDArray[np.int8]
    duration_days: NDArray[np.float64]
    present: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.row)

    def state(self, prefix: str) -> dict[str, Tensor]:
        """Its arrays as tensors, each named prefix.field."""
        return {
            f"{prefix}.{one.name}": torch.from_numpy(np.ascontiguousarray(getattr(self, one.name)))
            for one in fields(self)
        }

    @classmethod
    def from_state(cls, state: dict[str, Tensor], prefix: str) -> "Predictions":
        return cls(**{one.name: state[f"{prefix}.{one.name}"].numpy() for one in fields(cls)})

    def one_per_subject(self, group: int) -> NDArray[np.int64]:
        """Positions of each subject's latest row in the group's risk set, one repeat's worth."""
        here = np.flatnonzero((self.cause[:, group] >= 0) & (self.repeat == self.repeat.min(initial=0)))
        order = here[np.lexsort((self.row[here], self.subject[here]))]
        last = np.ones(len(order), bool)
        last[:-1] = self.subject[order][1:] != self.subject[order][:-1]
        latest: NDArray[np.int64] = order[last].astype(np.int64)
        return latest


def joined(parts: Sequence[Predictions]) -> Predictions:
    """Several tables of predictions one after the other."""
    return Predictions(
        **{one.name: np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(Predictions)}
    )
