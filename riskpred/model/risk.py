"""The model a bundle holds: all members with the calibration, from a batch of features to risks with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from riskpred.config.network import NetworkConfig
from riskpred.features.batch import FeatureBatch
from riskpred.features.plan import FeaturePlan, TabularPlan
from riskpred.model.attention import age_terms, attention
from riskpred.model.calibration import Calibration, pattern_index
from riskpred.model.fusion import Fusion
from riskpred.model.image import ImageEncoder
from riskpred.model.incidence import group_risks
from riskpred.model.layout import Layout, Target, never_rising, running_maximum
from riskpred.model.network import Member, Sent, SentOne
from riskpred.model.paths import evaluator
from riskpred.model.tensors import ImageTensors, ModalityTensors, TabularTensors, tensors_of

Z90: Final = 1.645
"""Normal quantile of a two-sided 90 % interval."""
_LEAST, _MOST = 1e-12, 1.0 - 1e-12
"""Risks are kept this far from 0 and 1 on the complementary log-log scale, where those two have no place."""

_PICTURES_AT_ONCE = 64


@dataclass(frozen=True)
class Prediction:
    """Risks of B rows for Q targets, by R members.

    Shape: risk, low, high (B, Q); member (R, B, Q); float64.
    """

    risk: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    member: NDArray[np.float64]


class RiskModel(nn.Module):
    """Calibrated risks by the mean of R members. Encoders work in float32, everything above them in float64.

    widening: (Q,) factor c of the interval of each target, 1 or more; `fit` sets it.

    Shape: FeatureBatch of B rows -> Prediction.
    Example: see tests/unit/model/test_risk.py, which builds one from a plan and a layout.
    """

    widening: Tensor

    def __init__(self, config: NetworkConfig, plan: FeaturePlan, layout: Layout) -> None:
        super().__init__()
        self.layout, self.plan = layout, plan
        # Starting weights are drawn and replaced: nobody's random numbers should depend on that.
        with torch.random.fork_rng(devices=[]):
            self.networks = nn.ModuleList(Member(config, plan, layout) for _ in range(config.members))
        self.calibrations = nn.ModuleList(Calibration(group, len(plan.modalities)) for group in layout.groups)
        self.register_buffer("widening", torch.ones(len(layout.targets), dtype=torch.float64))
        self.eval()

    @property
    def targets(self) -> tuple[Target, ...]:
        """(outcome, horizon_years): outcomes.yaml's order x rising horizons."""
        return self.layout.targets

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.plan.modalities)

    @property
    def members(self) -> int:
        return len(self.networks)

    def member(self, index: int) -> Member:
        found = self.networks[index]
        assert isinstance(found, Member)
        return found

    def tensors(self, batch: FeatureBatch) -> dict[str, ModalityTensors]:
        """Tensors of each modality, the same for every member."""
        return {
            name: tensors_of(batch, name, part.columns if isinstance(part, TabularPlan) else ())
            for name, part in self.plan.modalities.items()
        }

    def encode(self, inputs: Mapping[str, ModalityTensors]) -> Sent:
        """What each modality sends, by member: (R, B, G) and (R, B, D). Differentiable in each `values`."""
        each = [
            self.member(r).encode({name: _of_member(given, r) for name, given in inputs.items()})
            for r in range(self.members)
        ]
        return {
            name: SentOne(
                torch.stack([sent[name].coefficients for sent in each]),
                torch.stack([sent[name].embedding for sent in each]),
            )
            for name in self.modalities
            if name in inputs
        }

    def shares(self, modality: str, given: ImageTensors) -> Tensor:
        """What each picture weighs in its row, the mean over members; those of a row sum to 1. Shape: (T,) float64."""
        terms = age_terms(given.start, given.age_days)
        each = []
        for r in range(self.members):
            encoder = self.member(r).encoders[modality]
            assert isinstance(encoder, ImageEncoder), modality
            with torch.no_grad():
                blocks = torch.split(given.values, _PICTURES_AT_ONCE) if given.sent is None else ()
                said = torch.cat([encoder.said(some) for some in blocks]) if given.sent is None else given.sent[:, r]
                each.append(attention(said[:, -1].double(), given.start, terms, encoder.age_weight))
        return torch.stack(each).mean(dim=0)

    def member_risks(self, sent: Sent, present: Mapping[str, Tensor]) -> Tensor:
        """Calibrated risk of each target by each member, from what was sent.

        Args:
            sent: per modality (R, B, G) and (R, B, D); rows where it is not present are not read.
            present: per modality (B,) bool.
        Shape: result (R, B, Q).
        """
        risks, pattern = [], pattern_index(present, self.modalities)
        for r in range(self.members):
            one = {name: SentOne(part.coefficients[r], part.embedding[r]) for name, part in sent.items()}
            risks.append(self.risks_from_log_rates(self.member(r).log_rates(one, present), pattern))
        return torch.stack(risks)

    def risks_from_log_rates(self, log_rates: list[Tensor], pattern: Tensor) -> Tensor:
        """Uncalibrated log-rates of each group, (B, J, K), of rows with that availability, to risks (B, Q)."""
        incidence = [
            group_risks(calibration(eta, pattern), group)
            for group, calibration, eta in zip(self.layout.groups, self.calibrations, log_rates, strict=True)
        ]
        return torch.stack([incidence[g][:, j, k] for g, j, k in self.layout.where], dim=-1)

    def predict(self, batch: FeatureBatch, batch_size: int = 512) -> Prediction:
        """Risks with 90 % intervals; at most `batch_size` rows are in the network at a time."""
        inputs, encoders, fusion = self.tensors(batch), evaluator(self), Fusion.of(self)
        found = []
        for rows in torch.split(torch.arange(len(batch)), batch_size):
            some = {name: given.take(rows) for name, given in inputs.items()}
            found.append(
                fusion.member_risks(encoders.encode(some), {name: part.present for name, part in some.items()})
            )
        member = np.concatenate(found, axis=1) if found else np.zeros((self.members, 0, len(self.targets)))
        return self.with_interval(member)

    def with_interval(self, member: NDArray[np.float64]) -> Prediction:
        """Mean of the members and its widened interval. Shape: member (R, B, Q)."""
        return with_interval(member, self.targets, self.widening.numpy(), self.layout.ladders)


def _of_member(given: ModalityTensors, r: int) -> ModalityTensors:
    """What member r reads: where the output of every member's trees or image encoder is given, its own."""
    if isinstance(given, ImageTensors) and given.sent is not None:
        return replace(given, sent=given.sent[:, r])
    if isinstance(given, TabularTensors) and given.trees is not None:
        return replace(given, trees=given.trees[:, r])
    return given


def with_interval(
    member: NDArray[np.float64],
    targets: tuple[Target, ...],
    widening: NDArray[np.float64] | float = 1.0,
    ladders: Sequence[Sequence[int]] = (),
) -> Prediction:
    """Mean of the members, and its 90 % interval from how far they differ.

    On the complementary log-log scale: risk +- 1.645 x widening x `jackknife_error`; then the running maximum over
    horizons, and of ordered grades the running minimum from the lowest up.

    Args: ladders: positions of the grades of each ordered set (`Layout.ladders`).
    Shape: member (R, B, Q), widening (Q,).
    """
    risk = member.mean(axis=0)
    spread = jackknife_error(_cloglog(member)) * widening
    middle = _cloglog(risk)
    low, high = (-np.expm1(-np.exp(middle + sign * Z90 * spread)) for sign in (-1.0, 1.0))
    low, high = (running_maximum(bound, targets) for bound in (np.minimum(low, risk), np.maximum(high, risk)))
    low, high = never_rising(low, ladders), never_rising(high, ladders)
    return Prediction(risk, np.minimum(low, risk), high, member)


def jackknife_error(member: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard error of the mean of R members that each leave out one of R groups of subjects.

    It is (R - 1) / sqrt(R) times their SD. Members share most of their subjects, so their SD alone is too small.

    Shape: (R, ...) -> (...).
    Source: Kott 2001, J Off Stat 17:521-526 (delete-a-group jackknife).
    Example:
        >>> float(round(jackknife_error(np.array([1.0, 2.0, 3.0, 4.0])), 4))
        1.9365
    """
    members = len(member)
    return np.asarray(member.std(axis=0, ddof=1) * (members - 1) / np.sqrt(members))


def _cloglog(risk: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = np.log(-np.log1p(-np.clip(risk, _LEAST, _MOST)))
    return result
