"""The spline terms of all members in one compiled pass, without writing the design matrix down.

The same arithmetic as `SplineDesign` times the weights, in float64; what is the same for every row (mean, gain and
weight of each term) is multiplied out once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riskpred.model.spline import SplineDesign
from riskpred.model.tensors import TabularTensors
from riskpred.records.compiled import contracted

_BLOCK = 64

_Array = NDArray[np.float64]


@dataclass(frozen=True)
class StackedSpline:
    """R members' designs and weights; N numeric features, H category columns, F features, J causes.

    Shape:
        column, feature: (N,), (N,) int64.   hot_column, hot_feature: (H,), (H,) int64.
        low, high: (R, N).   knots: (R, N, k).
        line, start: (R, N, J), weight of the value and what a feature that is there adds.
        curve: (R, N, k - 2, J), weight of the curved terms.   hot, hot_start: (R, H, J), likewise for categories.
        missing, there: (R, F, J), what a feature adds that is missing, or is there.
    """

    column: NDArray[np.int64]
    feature: NDArray[np.int64]
    hot_column: NDArray[np.int64]
    hot_feature: NDArray[np.int64]
    low: _Array
    high: _Array
    knots: _Array
    line: _Array
    start: _Array
    curve: _Array
    hot: _Array
    hot_start: _Array
    missing: _Array
    there: _Array

    @classmethod
    def of(cls, designs: Sequence[SplineDesign], weights: Sequence[Tensor]) -> "StackedSpline":
        """Of designs and their weights, (P, J), as they are now."""
        read = designs[0].columns_read
        numeric, hot, terms = len(read.numeric), len(read.hot), designs[0].knots.shape[1] - 1
        knots = torch.stack([design.knots for design in designs])
        weight = torch.stack([design.gain[:, None] * part for design, part in zip(designs, weights, strict=True)])
        offset = -torch.stack([design.mean for design in designs])[..., None] * weight
        members, _, causes = weight.shape
        of_terms = weight[:, : numeric * terms].reshape(members, numeric, terms, causes)
        curved = torch.stack([design.curved for design in designs])[:, :, None, None]
        span = (knots[..., -1] - knots[..., 0])[..., None, None]
        here = slice(numeric * terms, numeric * terms + hot)
        places = (np.array(part, dtype=np.int64) for part in read)
        column, feature, hot_column, hot_feature = places
        return cls(
            column=column,
            feature=feature,
            hot_column=hot_column,
            hot_feature=hot_feature,
            low=_array(torch.stack([design.low for design in designs])),
            high=_array(torch.stack([design.high for design in designs])),
            knots=_array(knots),
            line=_array(of_terms[:, :, 0]),
            start=_array(offset[:, : numeric * terms].reshape(of_terms.shape).sum(2)),
            curve=_array(of_terms[:, :, 1:] * curved * span),
            hot=_array(weight[:, here]),
            hot_start=_array(offset[:, here]),
            missing=_array(weight[:, here.stop :] + offset[:, here.stop :]),
            there=_array(offset[:, here.stop :]),
        )

    def __call__(self, tabular: TabularTensors) -> Tensor:
        """Spline part of the log-rates. Shape: B rows -> (R, J, B) float64."""
        result = np.empty((len(self.low), self.line.shape[2], len(tabular.values)))
        _add_up(
            tabular.values.detach().contiguous().numpy(),
            tabular.observed.contiguous().numpy(),
            self.column,
            self.feature,
            self.hot_column,
            self.hot_feature,
            self.low,
            self.high,
            self.knots,
            self.line,
            self.start,
            self.curve,
            self.hot,
            self.hot_start,
            self.missing,
            self.there,
            result,
        )
        return torch.from_numpy(result)


def _array(tensor: Tensor) -> _Array:
    return np.ascontiguousarray(tensor.detach().numpy(), dtype=np.float64)


@contracted
def _add_up(
    values: NDArray[np.float32],
    observed: NDArray[np.bool_],
    column: NDArray[np.int64],
    feature: NDArray[np.int64],
    hot_column: NDArray[np.int64],
    hot_feature: NDArray[np.int64],
    low: _Array,
    high: _Array,
    knots: _Array,
    line: _Array,
    start: _Array,
    curve: _Array,
    hot: _Array,
    hot_start: _Array,
    missing: _Array,
    there: _Array,
    result: _Array,
) -> None:
    members, causes, rows = result.shape
    terms = knots.shape[2] - 2
    x = np.zeros((values.shape[1], _BLOCK))
    seen = np.zeros((observed.shape[1], _BLOCK))
    held = np.zeros(_BLOCK)
    bent = np.zeros((terms, _BLOCK))
    total = np.zeros((causes, _BLOCK))
    for first in range(0, rows, _BLOCK):
        n = min(_BLOCK, rows - first)
        for c in range(len(x)):
            for b in range(n):
                x[c, b] = values[first + b, c]
        for f in range(len(seen)):
            for b in range(n):
                seen[f, b] = 1.0 if observed[first + b, f] else 0.0
        for r in range(members):
            for j in range(causes):
                total[j, :] = 0.0
                for f in range(len(seen)):
                    gone, kept = missing[r, f, j], there[r, f, j]
                    one, sum_ = seen[f], total[j]
                    for b in range(_BLOCK):
                        sum_[b] += gone + one[b] * (kept - gone)
            for i in range(len(column)):
                own, least, most = x[column[i]], low[r, i], high[r, i]
                for b in range(_BLOCK):
                    value = least if own[b] < least else own[b]
                    held[b] = most if value > most else value
                _curves(held, knots[r, i], bent)
                one = seen[feature[i]]
                for j in range(causes):
                    begin, slope, sum_ = start[r, i, j], line[r, i, j], total[j]
                    for b in range(_BLOCK):
                        sum_[b] += one[b] * (begin + slope * held[b])
                    for k in range(terms):
                        steep, term = curve[r, i, k, j], bent[k]
                        for b in range(_BLOCK):
                            sum_[b] += one[b] * (steep * term[b])
            for i in range(len(hot_column)):
                own, one = x[hot_column[i]], seen[hot_feature[i]]
                for j in range(causes):
                    begin, slope, sum_ = hot_start[r, i, j], hot[r, i, j], total[j]
                    for b in range(_BLOCK):
                        sum_[b] += one[b] * (begin + slope * own[b])
            for j in range(causes):
                for b in range(n):
                    result[r, j, first + b] = total[j, b]


@contracted
def _curves(x: _Array, knots: _Array, bent: _Array) -> None:
    """The curved terms of `restricted_cubic`, in units of the knots' span. Shape: (block,), (k,), (k - 2, block)."""
    last = len(knots) - 1
    width = knots[last] - knots[0]
    before = (knots[last - 1] - knots[0]) / width
    for k in range(last - 1):
        at = (knots[k] - knots[0]) / width
        one, two, line = (1.0 - at) / (1.0 - before), (before - at) / (1.0 - before), bent[k]
        for b in range(_BLOCK):
            u = (x[b] - knots[0]) / width
            low = u - at if u > at else 0.0
            middle = u - before if u > before else 0.0
            high = u - 1.0 if u > 1.0 else 0.0
            line[b] = low * low * low - middle * middle * middle * one + high * high * high * two
