"""One encoding of a batch, and all that a night says of it: risk, interval, percentile, reference, reasons."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from riskpred.explain.coalitions import modality_reasons
from riskpred.features.batch import FeatureBatch
from riskpred.model.scope import Measured

if TYPE_CHECKING:
    from riskpred.model.bundle import Bundle

BATCH_SIZE = 512
"""Subjects in the network at a time; changes no risk beyond 1e-6."""


@dataclass(frozen=True)
class Assessed:
    """B subjects, Q targets, M modalities. Risks are 0 to 1; contributions are risk points.

    Shape: risk, low, high, reference, percentile: (B, Q); contribution: (B, Q, M); measured: B rows, for scope flags.
    """

    risk: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    reference: NDArray[np.float64]
    percentile: NDArray[np.float64]
    contribution: NDArray[np.float64]
    measured: Measured

    @property
    def finite(self) -> NDArray[np.bool_]:
        """(B, Q) whether every number of a risk is finite."""
        numbers = np.stack([self.risk, self.low, self.high, self.reference, self.percentile])
        return np.asarray(np.isfinite(numbers).all(axis=0) & np.isfinite(self.contribution).all(axis=-1))


def assess(bundle: "Bundle", batch: FeatureBatch, batch_size: int = BATCH_SIZE) -> Assessed:
    """Risks and modality reasons of a batch; each subject is encoded once, coalitions only fuse."""
    model = bundle.model
    inputs = model.tensors(batch)
    member, reference, contribution, measured = [], [], [], []
    for rows in torch.split(torch.arange(len(batch)), batch_size):
        some = {name: given.take(rows) for name, given in inputs.items()}
        with torch.no_grad():
            sent = model.encode(some)
        measured.append(bundle.scope.measure(model.plan, some, sent, bundle.reference))
        reasons = modality_reasons(model, sent, bundle.reference, {name: given.present for name, given in some.items()})
        member.append(reasons.member)
        reference.append(reasons.reference)
        contribution.append(reasons.contribution)
    predicted = model.with_interval(np.concatenate(member, axis=1))
    return Assessed(
        risk=predicted.risk,
        low=predicted.low,
        high=predicted.high,
        reference=np.concatenate(reference),
        percentile=bundle.percentile(predicted.risk),
        contribution=np.concatenate(contribution),
        measured=Measured.joined(measured),
    )
