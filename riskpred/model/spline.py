"""Restricted cubic splines of tabular features as a standardised design matrix: the additive base reads it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from riskpred.errors import ShapeMismatch
from riskpred.model.tensors import TabularTensors, Vocabulary, column_owner, expand

_KNOT_QUANTILES = {3: (0.10, 0.50, 0.90), 4: (0.05, 0.35, 0.65, 0.95), 5: (0.05, 0.275, 0.5, 0.725, 0.95)}
_TAIL = 0.001
"""Values beyond this quantile of the training values, at either end, count as that quantile: no extrapolation."""
_RARE = 0.1
"""Least SD an indicator is divided by (that of a 1 % category): the ridge then shrinks rarer ones more."""


def knot_quantiles(knots: int) -> tuple[float, ...]:
    """Where Harrell puts the knots: fixed quantiles of the values.

    Source: Harrell 2015, Regression Modeling Strategies, 2nd ed., table 2.3; evenly spaced from .05 to .95 above 5.
    """
    return _KNOT_QUANTILES.get(knots) or tuple(np.linspace(0.05, 0.95, knots).tolist())


def restricted_cubic(x: Tensor, knots: Tensor) -> Tensor:
    """Restricted cubic spline terms: x itself, and knots - 2 terms that are cubic inside, linear beyond the end knots.

    Shape: x (...), knots (..., k) rising, broadcast against x[..., None]; result (..., k - 1).
    Source: Harrell 2015, equation 2.25, divided by (t_k - t_1)^2 as in Hmisc::rcspline.eval(norm = 2).
    Example:
        >>> restricted_cubic(torch.tensor([3.0]), torch.tensor([0.0, 1.0, 2.0]))
        tensor([[3., 3.]])
    """
    first, before_last, last = knots[..., :1], knots[..., -2:-1], knots[..., -1:]
    width = last - first
    # In units of the knots' span: cubes of raw laboratory values would cancel in floating point.
    u, t = (x[..., None] - first) / width, (knots[..., :-2] - first) / width
    b, e = (before_last - first) / width, torch.ones_like(last)
    cube_t, cube_b, cube_e = ((u - at).clamp_min(0.0) ** 3 for at in (t, b, e))
    curved = cube_t - cube_b * (e - t) / (e - b) + cube_e * (b - t) / (e - b)
    return torch.cat([x[..., None], curved * width], dim=-1)


class ColumnsRead(NamedTuple):
    """Places in `TabularTensors`: columns of numeric features and those features, columns of categories and theirs."""

    numeric: tuple[int, ...]
    numeric_feature: tuple[int, ...]
    hot: tuple[int, ...]
    hot_feature: tuple[int, ...]


class SplineDesign(nn.Module):
    """Design matrix of F tabular features: spline terms, one-hot categories, missing indicators; mean 0, SD 1.

    Columns: (knots - 1) terms per numeric feature, one per category, one missing indicator per feature, in this order.
    A missing feature has 0 in its terms and 1 (before standardising) in its indicator. A term that did not vary in
    training, and the curved terms of a feature with too few distinct values for its knots, are 0. Differentiable
    in values; float64.

    Shape: TabularTensors of B rows -> (B, P).
    Example:
        >>> from types import SimpleNamespace as Column
        >>> columns = [Column(vocabulary=()), Column(vocabulary=("F", "M"))]
        >>> values = np.array([[1.0, 0], [2, 1], [4, 1], [7, 0], [np.nan, 1]])
        >>> design = SplineDesign.learn(values, columns, knots=3)
        >>> design.matrix(torch.tensor(values)).shape
        torch.Size([5, 6])
    """

    knots: Tensor
    curved: Tensor
    low: Tensor
    high: Tensor
    mean: Tensor
    gain: Tensor

    def __init__(self, columns: Sequence[Vocabulary], knots: int) -> None:
        super().__init__()
        self.columns = tuple(columns)
        owner = column_owner(columns)
        numeric = [feature for feature, column in enumerate(columns) if not column.vocabulary]
        self._numeric_columns = [at for at, feature in enumerate(owner) if feature in set(numeric)]
        self._category_columns = [at for at, feature in enumerate(owner) if feature not in set(numeric)]
        self._numeric_features, self._category_features = numeric, [owner[at] for at in self._category_columns]
        self.width = len(numeric) * (knots - 1) + len(self._category_columns) + len(columns)
        self.register_buffer("knots", torch.arange(knots, dtype=torch.float64).repeat(len(numeric), 1))
        self.register_buffer("curved", torch.zeros(len(numeric), dtype=torch.bool))
        self.register_buffer("low", torch.full((len(numeric),), -torch.inf, dtype=torch.float64))
        self.register_buffer("high", torch.full((len(numeric),), torch.inf, dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(self.width, dtype=torch.float64))
        self.register_buffer("gain", torch.zeros(self.width, dtype=torch.float64))

    @classmethod
    def learn(
        cls, values: NDArray[np.floating] | Tensor, columns: Sequence[Vocabulary], knots: int = 4
    ) -> "SplineDesign":
        """Knots, limits, means and scales from training values (N, F), NaN = missing, a category = its index."""
        design = cls(columns, knots)
        design.learn_columns(*expand(torch.as_tensor(np.asarray(values, np.float64)), columns))
        return design

    def learn_columns(self, values: Tensor, observed: Tensor) -> None:
        """The same from columns as `TabularTensors` has them: values (N, W) with 0 for missing, observed (N, F)."""
        values, knots = values.double(), self.knots.shape[1]
        for i, (at, feature) in enumerate(zip(self._numeric_columns, self._numeric_features, strict=True)):
            self._learn_feature(i, values[observed[:, feature], at].numpy(), knots)
        raw, weight = self._raw(values, observed), self._observed_by_term(observed)
        count = weight.sum(0).clamp_min(1.0)
        mean = (raw * weight).sum(0) / count
        deviation = (((raw - mean) ** 2 * weight).sum(0) / count).sqrt()
        varies = deviation > 1e-9 * (1.0 + mean.abs())
        is_term = torch.arange(self.width) < len(self._numeric_features) * (knots - 1)
        scale = torch.where(is_term, deviation, deviation.clamp_min(_RARE))
        self.mean.copy_(mean)
        self.gain.copy_(torch.where(varies, 1.0 / scale.clamp_min(1e-300), torch.zeros_like(scale)))

    def _learn_feature(self, i: int, seen: NDArray[np.float64], knots: int) -> None:
        if not len(seen):
            return
        self.low[i], self.high[i] = (float(q) for q in np.quantile(seen, [_TAIL, 1.0 - _TAIL]))
        distinct = np.unique(np.clip(seen, float(self.low[i]), float(self.high[i])))
        at = np.quantile(seen, knot_quantiles(knots))
        if len(np.unique(at)) < knots and len(distinct) > knots:
            # Many ties (counts with mostly zeros): quantiles of the distinct values still see the tail.
            at = np.quantile(distinct, knot_quantiles(knots))
        if len(distinct) > knots and np.diff(at).min() > 1e-6 * (at[-1] - at[0]):
            self.curved[i] = True
            self.knots[i] = torch.from_numpy(at)

    def forward(self, tabular: TabularTensors) -> Tensor:
        """Design matrix of tensors as an encoder gets them."""
        return self._standardised(tabular.values.double(), tabular.observed)

    def matrix(self, values: Tensor) -> Tensor:
        """Design matrix of features with NaN for missing and category indices. Shape: (N, F) -> (N, P)."""
        return self._standardised(*expand(values.double(), self.columns))

    @property
    def columns_read(self) -> "ColumnsRead":
        """Which columns and features its terms are of."""
        return ColumnsRead(
            tuple(self._numeric_columns),
            tuple(self._numeric_features),
            tuple(self._category_columns),
            tuple(self._category_features),
        )

    @property
    def active(self) -> Tensor:
        """Which of the P columns can differ from 0. Shape: (P,) bool."""
        return self.gain > 0

    def _standardised(self, values: Tensor, observed: Tensor) -> Tensor:
        return (self._raw(values, observed) - self.mean) * self.gain * self._observed_by_term(observed)

    def _raw(self, values: Tensor, observed: Tensor) -> Tensor:
        if values.shape[1] != len(self._numeric_columns) + len(self._category_columns):
            raise ShapeMismatch(
                "values must have one column per numeric feature and per category, "
                f"{len(self._numeric_columns) + len(self._category_columns)}; got {values.shape[1]}"
            )
        x = values[:, self._numeric_columns].clamp(self.low, self.high)
        terms = restricted_cubic(x, self.knots)
        terms = torch.cat([terms[..., :1], terms[..., 1:] * self.curved[:, None]], dim=-1)
        return torch.cat([terms.flatten(1), values[:, self._category_columns], (~observed).double()], dim=1)

    def _observed_by_term(self, observed: Tensor) -> Tensor:
        per_feature = observed.double()
        numeric = per_feature[:, self._numeric_features].repeat_interleave(self.knots.shape[1] - 1, dim=1)
        return torch.cat([numeric, per_feature[:, self._category_features], torch.ones_like(per_feature)], dim=1)
