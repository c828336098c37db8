"""One encoding of a batch, and all that a night says of it: risk, interval, percentile, reference, reasons."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from riskpred.explain.coalitions import ModalityReasons, modality_reasons
from riskpred.features.batch import FeatureBatch
from riskpred.model.paths import FP32
from riskpred.model.risk import Prediction
from riskpred.model.scope import Measured
from riskpred.model.tensors import ModalityTensors

if TYPE_CHECKING:
    from riskpred.model.bundle import Bundle

BATCH_SIZE = 4096
"""Subjects in the network at a time; changes no risk beyond 1e-6."""


@dataclass(frozen=True)
class Assessed:
    """B subjects, Q targets, M modalities. Risks are 0 to 1; contributions are risk points.

    Shape: risk, low, high, reference, percentile: (B, Q); contribution: (B, Q, M); measured: B rows, for scope flags;
        profile: (B,) whose reference it is, a place in the bundle's profiles.
    """

    risk: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    reference: NDArray[np.float64]
    percentile: NDArray[np.float64]
    contribution: NDArray[np.float64]
    measured: Measured
    profile: NDArray[np.int64]

    @property
    def finite(self) -> NDArray[np.bool_]:
        """(B, Q) whether every number of a risk is finite."""
        numbers = np.stack([self.risk, self.low, self.high, self.reference, self.percentile])
        return np.asarray(np.isfinite(numbers).all(axis=0) & np.isfinite(self.contribution).all(axis=-1))


def assess(bundle: "Bundle", batch: FeatureBatch, batch_size: int = BATCH_SIZE, numeric_path: str = FP32) -> Assessed:
    """Risks and modality reasons of a batch; each subject is encoded once, coalitions only fuse."""
    model, encoders = bundle.model, bundle.evaluator(numeric_path)
    inputs, profile = model.tensors(batch), bundle.profiles.places(batch)
    member, reference, contribution, measured = [], [], [], []
    for rows in torch.split(torch.arange(len(batch)), batch_size):
        some = inputs if len(rows) == len(batch) else {name: given.take(rows) for name, given in inputs.items()}
        sent = encoders.encode(some)
        measured.append(bundle.scope.measure(model.plan, some, sent, bundle.reference))
        present = {name: given.present for name, given in some.items()}
        reasons = modality_reasons(model, sent, bundle.profiles.sent, present, profile[rows.numpy()])
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
        profile=profile,
    )


def bare_forward(
    bundle: "Bundle", inputs: Mapping[str, ModalityTensors], batch_size: int = BATCH_SIZE, numeric_path: str = FP32
) -> tuple[Prediction, ModalityReasons]:
    """What a night must at least compute of rows that are tensors in memory already: risks, intervals and reasons.

    The denominator of the night's benchmark. Percentiles, scope flags and rows to write are not part of it.
    """
    model, encoders = bundle.model, bundle.evaluator(numeric_path)
    found = []
    for rows in torch.split(torch.arange(len(next(iter(inputs.values())).present)), batch_size):
        some = {name: given.take(rows) for name, given in inputs.items()}
        present = {name: given.present for name, given in some.items()}
        found.append(modality_reasons(model, encoders.encode(some), bundle.reference, present))
    reasons = ModalityReasons(
        np.concatenate([part.member for part in found], axis=1),
        np.concatenate([part.reference for part in found]),
        np.concatenate([part.contribution for part in found]),
    )
    return model.with_interval(reasons.member), reasons
