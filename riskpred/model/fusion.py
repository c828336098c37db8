"""Calibrated risks of every combination of what modalities sent, in one compiled pass over blocks of rows.

The same arithmetic as `RiskModel.member_risks`, which stays where a gradient is wanted: a test holds the two against
each other. What does not differ between rows is done once: each group's reference in the joint term, and its risk where
no modality speaks for itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from riskpred.model.calibration import Calibration, pattern_index
from riskpred.model.fusion_loop import fuse
from riskpred.model.layout import BASES, Layout
from riskpred.model.network import Sent

if TYPE_CHECKING:
    from riskpred.model.risk import RiskModel

_Array = NDArray[np.float64]


@dataclass(frozen=True)
class Fusion:
    """All above the encoders as arrays: joint term, baseline, calibration and time grid of R members.

    C causes over all groups, K intervals up to the last horizon (of the longest group), P availability patterns, H
    hidden numbers of the joint term (0 where there is none).

    Shape:
        inner: (R, D, H).   inner_bias: (R, H).   outer: (R, H, G).   outer_bias: (R, G).
        baseline: (R, C, K).   basis: (C, 3, K).   years: (C, K).
        slope, intercept: (P, C, K).   bend: (P, C).   knot, width: (C,).
        group_start: (groups + 1,) causes of each group.   intervals: (groups,).
        target: (C, K) which target ends there, -1 = none.   ordered: (groups,) bool, causes are grades.
    """

    inner: _Array
    inner_bias: _Array
    outer: _Array
    outer_bias: _Array
    baseline: _Array
    basis: _Array
    years: _Array
    slope: _Array
    intercept: _Array
    bend: _Array
    knot: _Array
    width: _Array
    group_start: NDArray[np.int64]
    intervals: NDArray[np.int64]
    target: NDArray[np.int64]
    ordered: NDArray[np.bool_]
    targets: int
    modalities: tuple[str, ...]

    @classmethod
    def of(cls, model: "RiskModel") -> "Fusion":
        """The arrays of a model as it is now; they do not follow it."""
        layout, members = model.layout, [model.member(r) for r in range(model.members)]
        causes, grids = range(layout.causes), [_wide(group.time_basis, len(group.causes)) for group in layout.groups]
        calibrations = [one for one in model.calibrations if isinstance(one, Calibration)]
        target = np.full((layout.causes, _intervals(layout)), -1, np.int64)
        for q, (g, j, k) in enumerate(layout.where):
            target[layout.cause_slices()[g].start + j, k] = q
        joints = [member.joint for member in members if member.joint is not None]
        return cls(
            inner=_stacked([one.inner.weight.T for one in joints], (len(members), 0, 0)),
            inner_bias=_stacked([one.inner.bias for one in joints], (len(members), 0)),
            outer=_stacked([one.outer.weight.T for one in joints], (len(members), 0, layout.coefficients)),
            outer_bias=_stacked([one.outer.bias for one in joints], (len(members), layout.coefficients)),
            baseline=np.stack(
                [_placed(layout, [_array(member.baseline(g)) for g in range(len(grids))]) for member in members]
            ),
            basis=np.stack([_placed(layout, [grid[p] for grid in grids]) for p in range(BASES)], axis=1),
            years=_placed(layout, [_wide(group.widths_years, len(group.causes)) for group in layout.groups]),
            slope=_placed(layout, [_array(one.log_slope.exp() @ one.basis) for one in calibrations]),
            intercept=_placed(layout, [_array(one.intercept @ one.basis) for one in calibrations]),
            bend=np.concatenate([_array(one.bend) for one in calibrations], axis=1),
            knot=np.concatenate([_array(one.knot) for one in calibrations]),
            width=np.concatenate([_array(one.width) for one in calibrations]),
            group_start=np.array([*(part.start for part in layout.cause_slices()), len(causes)], np.int64),
            intervals=np.array([max(group.end_of) + 1 for group in layout.groups], np.int64),
            target=target,
            ordered=np.array([group.ordered for group in layout.groups], np.bool_),
            targets=len(layout.targets),
            modalities=model.modalities,
        )

    def member_risks(self, sent: Sent, present: Mapping[str, Tensor]) -> _Array:
        """As `RiskModel.member_risks`, without a gradient. Shape: (R, B, Q)."""
        return self._run(sent, None, present, None)[0]

    def coalition_risks(
        self, sent: Sent, reference: Sent, present: Mapping[str, Tensor], group: NDArray[np.int64] | None = None
    ) -> tuple[_Array, _Array]:
        """Risk of each member with everything that is there, and v(S) of every coalition S, the mean over members.

        Args:
            reference: of each of N groups, (R, N, G) and (R, N, D).
            group: (B,) whose reference stands for each row; None = there is one for all.
        Shape: (R, B, Q) and (2^M, B, Q); bit m of S is set where modality m (in the model's order) speaks for itself.
            A modality that a row lacks changes nothing: v of S with it and of S without it are the same number.
        """
        return self._run(sent, reference, present, group)

    def _run(
        self, sent: Sent, reference: Sent | None, present: Mapping[str, Tensor], group: NDArray[np.int64] | None
    ) -> tuple[_Array, _Array]:
        pattern = pattern_index(present, self.modalities).numpy()
        order = np.argsort(pattern, kind="stable")
        known, begin = np.unique(pattern[order], return_index=True)
        # Rows innermost: encoders of all members say it so, and nothing is moved twice.
        coefficients = np.stack([sent[name].coefficients.detach().mT.numpy() for name in self.modalities])
        embedding = np.stack([sent[name].embedding.detach().mT.numpy() for name in self.modalities])
        modalities, members, _, rows = coefficients.shape
        if reference is None:  # only what is there is asked: nothing is read in its place
            mean_coefficients = np.zeros((1, *coefficients.shape[:3]))
            mean_embedding = np.zeros((1, *embedding.shape[:3]))
        else:
            parts = [reference[name] for name in self.modalities]
            mean_coefficients = np.stack([_array(one.coefficients) for one in parts]).transpose(2, 0, 1, 3)
            mean_embedding = np.stack([_array(one.embedding) for one in parts]).transpose(2, 0, 1, 3)
        if group is None:
            assert len(mean_coefficients) == 1, "with several references each row must say whose is its own"
            group = np.zeros(rows, np.int64)
        member = np.empty((members, rows, self.targets))
        value = np.zeros((0 if reference is None else 2**modalities, rows, self.targets))
        fuse(
            coefficients,
            embedding,
            np.ascontiguousarray(mean_coefficients),
            np.ascontiguousarray(mean_embedding),
            np.ascontiguousarray(group, dtype=np.int64),
            order,
            known,
            np.append(begin, rows).astype(np.int64),
            self.inner,
            self.inner_bias,
            self.outer,
            self.outer_bias,
            self.baseline,
            self.basis,
            self.years,
            self.slope,
            self.intercept,
            self.bend,
            self.knot,
            self.width,
            self.group_start,
            self.intervals,
            self.target,
            self.ordered,
            member,
            value,
        )
        return member, value


def _array(tensor: Tensor) -> _Array:
    return np.ascontiguousarray(tensor.detach().numpy(), dtype=np.float64)


def _stacked(parts: Sequence[Tensor], empty: tuple[int, ...]) -> _Array:
    return np.stack([_array(part) for part in parts]) if parts else np.zeros(empty)


def _intervals(layout: Layout) -> int:
    return max(max(group.end_of) + 1 for group in layout.groups)


def _wide(values: Tensor | _Array, causes: int) -> _Array:
    """The same for every cause of a group. Shape: (..., K) -> (..., J, K)."""
    return np.repeat(np.asarray(values)[..., None, :], causes, axis=-2)


def _placed(layout: Layout, parts: Sequence[_Array]) -> _Array:
    """(..., J, K) of each group -> (..., C, K) over all groups, cut to the intervals up to the last horizon."""
    whole = np.zeros((*parts[0].shape[:-2], layout.causes, _intervals(layout)))
    for group, part, where in zip(layout.groups, parts, layout.cause_slices(), strict=True):
        last = max(group.end_of) + 1
        whole[..., where, :last] = part[..., :last]
    return whole
