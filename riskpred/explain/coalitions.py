"""Exact Shapley values of a risk over modalities, from one encoding: what is fused changes, nothing is encoded twice.

v(S) is the calibrated risk (mean over members) with sent(m) for m in S, the reference for a present m outside S, and
absent modalities left absent. Above `sent` everything is float64, so the contributions sum to the risk to rounding.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from math import factorial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from riskpred.model.fusion import Fusion
from riskpred.model.network import Sent
from riskpred.model.risk import RiskModel

POINTS = 100.0
"""Risk points (percentage points) in a risk of 1."""


@dataclass(frozen=True)
class ModalityReasons:
    """Where a risk starts, and what each modality adds to it.

    Shape:
        member: (R, B, Q) calibrated risk of each member with everything the subject has.
        reference: (B, Q) v(nothing), 0 to 1.
        contribution: (B, Q, M) risk points, M in the model's order of modalities; 0 for an absent modality.
    """

    member: NDArray[np.float64]
    reference: NDArray[np.float64]
    contribution: NDArray[np.float64]


def shapley_weight(size: int, modalities: int) -> float:
    """Weight of a coalition of `size` others in the Shapley value of one of `modalities` players.

    Source: Shapley 1953, Contributions to the Theory of Games II, 307-317.
    Example:
        >>> [shapley_weight(size, 3) for size in (0, 1, 2)]
        [0.3333333333333333, 0.16666666666666666, 0.3333333333333333]
    """
    return factorial(size) * factorial(modalities - size - 1) / factorial(modalities)


def coalitions(modalities: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Every subset of the modalities, the empty one first, members in the order given."""
    for size in range(len(modalities) + 1):
        yield from combinations(modalities, size)


def fused(sent: Sent, reference: Sent, inside: tuple[str, ...]) -> Sent:
    """`sent` for the modalities inside the coalition, the reference for all others: of all rows, or of each its own.

    Shape: reference (R, 1, ...) or (R, B, ...), as `sent`.
    """
    return {
        name: one
        if name in inside
        else replace(
            one,
            coefficients=reference[name].coefficients.expand_as(one.coefficients),
            embedding=reference[name].embedding.expand_as(one.embedding),
        )
        for name, one in sent.items()
    }


def value(model: RiskModel, sent: Sent, reference: Sent, present: dict[str, Tensor], inside: tuple[str, ...]) -> Tensor:
    """v(S), shape (B, Q); differentiable in `sent` of the modalities inside."""
    risk: Tensor = model.member_risks(fused(sent, reference, inside), present).mean(dim=0)
    return risk


def modality_reasons(
    model: RiskModel,
    sent: Sent,
    reference: Sent,
    present: dict[str, Tensor],
    group: NDArray[np.int64] | None = None,
) -> ModalityReasons:
    """Risk of each member, reference risk and Shapley values of all modalities, for B subjects and Q targets at once.

    Args:
        reference: of each of N groups, (R, N, ...).   group: (B,) whose stands for each row; None = one for all.

    Absent modalities are null players: their value is exactly 0 and they leave the others' unchanged, so one sum over
    all 2^M coalitions serves subjects with any subset of modalities.
    """
    names = model.modalities
    member, value_of = Fusion.of(model).coalition_risks(sent, reference, present, group)
    contribution = np.zeros((*member.shape[1:], len(names)))
    for m in range(len(names)):
        for inside in range(2 ** len(names)):
            if not inside >> m & 1:
                weight = shapley_weight(inside.bit_count(), len(names)) * POINTS
                contribution[:, :, m] += weight * (value_of[inside | 1 << m] - value_of[inside])
    return ModalityReasons(member=member, reference=value_of[0], contribution=contribution)
