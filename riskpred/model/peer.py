"""The obvious model beside the network, on the same tabular features: a ridge spline Cox model, or a logistic one.

It holds numbers only: spline designs, coefficients, baseline rates. `fit` makes it, `evaluate` prints it beside the
network, the bundle keeps it as JSON and arrays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riskpred.features.batch import FeatureBatch, TabularInput
from riskpred.features.plan import FeaturePlan, TabularPlan
from riskpred.model.incidence import cumulative_incidence
from riskpred.model.layout import Layout, Target
from riskpred.model.spline import SplineDesign

Floats = NDArray[np.float64]

COX: Final = "spline_cox"
LOGISTIC: Final = "spline_logistic"

_ROWS: Final = 4096


@dataclass(frozen=True)
class PeerDesign:
    """Design matrix of a batch: the spline columns of each tabular modality, side by side.

    designs: (modality, design) in the plan's order; none at all gives a matrix without columns.
    """

    designs: tuple[tuple[str, SplineDesign], ...]

    @classmethod
    def learn(cls, batch: FeatureBatch, plan: FeaturePlan, knots: int) -> "PeerDesign":
        """Knots, means and scales from the training rows."""
        found = []
        for name, part in plan.modalities.items():
            if isinstance(part, TabularPlan):
                found.append((name, SplineDesign.learn(_values(batch, name), part.columns, knots)))
        return cls(tuple(found))

    def matrix(self, batch: FeatureBatch) -> Floats:
        """Standardised columns. Shape: (B, P) float64."""
        with torch.no_grad():
            parts = [design.matrix(torch.from_numpy(_values(batch, name))).numpy() for name, design in self.designs]
        return np.concatenate([np.zeros((len(batch), 0)), *parts], axis=1)


@dataclass(frozen=True)
class CoxPart:
    """Cause-specific proportional hazards of one risk group.

    beta: (P, J), one column per cause (death the last).
    baseline: (K, J) increments of the cumulative baseline hazard in K consecutive intervals.
    horizon_end: for each horizon, how many intervals lie before it.
    """

    outcomes: tuple[str, ...]
    horizons_years: tuple[float, ...]
    beta: Floats
    baseline: Floats
    horizon_end: tuple[int, ...]

    def risks(self, matrix: Floats) -> Floats:
        """Crude cumulative incidence of each outcome at each horizon. Shape: (B, P) -> (B, outcomes x horizons)."""
        result = np.zeros((len(matrix), len(self.outcomes), len(self.horizons_years)))
        with np.errstate(divide="ignore"):
            log_baseline = np.log(self.baseline.T)
        for start in range(0, len(matrix), _ROWS):
            some = slice(start, start + _ROWS)
            log_rate = log_baseline[None] + (matrix[some] @ self.beta)[:, :, None]
            curve = cumulative_incidence(
                torch.from_numpy(log_rate), torch.ones(len(self.baseline), dtype=torch.float64)
            )
            from_zero = np.concatenate([np.zeros((*curve.shape[:2], 1)), curve.numpy()], axis=2)
            result[some] = from_zero[:, : len(self.outcomes), list(self.horizon_end)]
        return result.reshape(len(matrix), -1)


@dataclass(frozen=True)
class LogisticPart:
    """Logistic regression for an outcome known at once. beta: (P,)."""

    outcome: str
    intercept: float
    beta: Floats

    def risks(self, matrix: Floats) -> Floats:
        """Shape: (B, P) -> (B, 1)."""
        return np.asarray(1.0 / (1.0 + np.exp(-(self.intercept + matrix @ self.beta)))[:, None], dtype=np.float64)


@dataclass(frozen=True)
class SetPart:
    """Logistic regressions for a set of outcomes known at once: classes (softmax) or grades (one step after another).

    Of classes the odds are against none of them; of grades each column is the odds of going on to a grade from the one
    before. intercept: (J,).   beta: (P, J).
    """

    outcomes: tuple[str, ...]
    ordered: bool
    intercept: Floats
    beta: Floats

    def risks(self, matrix: Floats) -> Floats:
        """Risk of each class, or of each grade or more. Shape: (B, P) -> (B, J)."""
        score = self.intercept + matrix @ self.beta
        if self.ordered:
            return np.asarray(np.cumprod(1.0 / (1.0 + np.exp(-score)), axis=1), dtype=np.float64)
        most = np.maximum(score.max(axis=1, keepdims=True), 0.0)
        odds = np.exp(score - most)
        return np.asarray(odds / (np.exp(-most) + odds.sum(axis=1, keepdims=True)), dtype=np.float64)


Part: TypeAlias = CoxPart | LogisticPart | SetPart


@dataclass(frozen=True)
class Peer:
    """Risks of the peer model for every target of the network beside it.

    Shape: predict: FeatureBatch of B rows -> (B, Q) float64, in the order of `targets`.
    """

    targets: tuple[Target, ...]
    design: PeerDesign
    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        """spline_cox, or spline_logistic where every outcome is known at once."""
        return COX if any(isinstance(part, CoxPart) for part in self.parts) else LOGISTIC

    def name_of(self, outcome: str) -> str:
        """The kind of model behind one outcome."""
        part = next(part for part in self.parts if outcome in _outcomes(part))
        return COX if isinstance(part, CoxPart) else LOGISTIC

    def predict(self, batch: FeatureBatch) -> Floats:
        """Crude cumulative incidence of each target; a row without tabular data gets the risk of its missing flags."""
        matrix = self.design.matrix(batch)
        columns: dict[Target, Floats] = {}
        for part in self.parts:
            horizons = part.horizons_years if isinstance(part, CoxPart) else (0.0,)
            risks = part.risks(matrix)
            names = [(outcome, horizon) for outcome in _outcomes(part) for horizon in horizons]
            columns.update({target: risks[:, i] for i, target in enumerate(names)})
        return np.stack([columns[target] for target in self.targets], axis=1)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What a bundle keeps: tensors by name, and a dict for JSON; `from_state` reads both back."""
        tensors: dict[str, Tensor] = {}
        designs, parts = [], []
        for i, (name, design) in enumerate(self.design.designs):
            designs.append({"modality": name, "knots": int(design.knots.shape[1])})
            tensors |= {f"design{i}.{key}": value for key, value in design.state_dict().items()}
        for i, part in enumerate(self.parts):
            tensors[f"part{i}.beta"] = torch.from_numpy(part.beta)
            entry: dict[str, Any] = {"kind": self.name_of(_outcomes(part)[0]), "outcomes": list(_outcomes(part))}
            if isinstance(part, CoxPart):
                tensors[f"part{i}.baseline"] = torch.from_numpy(part.baseline)
                entry |= {"horizons_years": list(part.horizons_years), "horizon_end": list(part.horizon_end)}
            elif isinstance(part, SetPart):
                entry |= {"set": "ordered" if part.ordered else "classes", "intercept": part.intercept.tolist()}
            else:
                entry["intercept"] = part.intercept
            parts.append(entry)
        return tensors, {"designs": designs, "parts": parts}

    @classmethod
    def from_state(
        cls, tensors: Mapping[str, Tensor], description: Mapping[str, Any], plan: FeaturePlan, layout: Layout
    ) -> "Peer":
        """The peer that `state` described; plan and layout are those of its bundle."""
        designs = []
        for i, entry in enumerate(description["designs"]):
            part = plan.modalities[entry["modality"]]
            assert isinstance(part, TabularPlan), "the peer's modalities are tabular in the plan it was fitted with"
            design = SplineDesign(part.columns, int(entry["knots"]))
            prefix = f"design{i}."
            design.load_state_dict(
                {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            )
            designs.append((str(entry["modality"]), design))
        parts: list[Part] = []
        for i, entry in enumerate(description["parts"]):
            beta = tensors[f"part{i}.beta"].numpy()
            if entry["kind"] == COX:
                parts.append(
                    CoxPart(
                        tuple(entry["outcomes"]),
                        tuple(float(h) for h in entry["horizons_years"]),
                        beta,
                        tensors[f"part{i}.baseline"].numpy(),
                        tuple(int(end) for end in entry["horizon_end"]),
                    )
                )
            elif "set" in entry:
                outcomes, intercept = tuple(entry["outcomes"]), np.array(entry["intercept"], np.float64)
                parts.append(SetPart(outcomes, entry["set"] == "ordered", intercept, beta))
            else:
                parts.append(LogisticPart(str(entry["outcomes"][0]), float(entry["intercept"]), beta))
        return cls(layout.targets, PeerDesign(tuple(designs)), tuple(parts))


def _outcomes(part: Part) -> Sequence[str]:
    return (part.outcome,) if isinstance(part, LogisticPart) else part.outcomes


def _values(batch: FeatureBatch, modality: str) -> Floats:
    given = batch.inputs[modality]
    assert isinstance(given, TabularInput), f"{modality} is tabular in the plan but not in the batch"
    # A modality that may not be used counts as wholly missing, whatever its arrays still hold.
    return np.where(batch.present[modality][:, None], given.values.astype(np.float64), np.nan)
