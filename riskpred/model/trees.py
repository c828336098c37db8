"""The tree term of a tabular encoder: boosted regression trees on the log-rate scale, kept as arrays.

Trees find thresholds and interactions that splines lack; they have no gradient, so an explanation moves along their
output and spreads it by TreeSHAP (explain/tree_shap.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from riskpred.model.layout import BASES
from riskpred.model.ranked_trees import RankedTrees
from riskpred.model.tensors import TabularTensors, Vocabulary, column_owner


@dataclass(frozen=True)
class Forest:
    """Trees of all causes, node after node; a row goes left where its value <= threshold.

    Shape:
        column: (N,) int64, column of `TabularTensors.values` that is asked, W = the point of time, -1 = a leaf.
        threshold, value: (N,) float64, value is what a leaf adds to the log-rate.
        missing_left: (N,) bool, where a row without the value goes.   left, right: (N,) int64, positions of nodes.
        root, cause: (T,) int64, first node of each tree, and the cause it speaks for (over all groups).
        timed: (T,) bool, whether it asks for the point of time.
    """

    column: NDArray[np.int64]
    threshold: NDArray[np.float64]
    missing_left: NDArray[np.bool_]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    value: NDArray[np.float64]
    root: NDArray[np.int64]
    cause: NDArray[np.int64]
    timed: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.root)

    @classmethod
    def empty(cls) -> "Forest":
        number, real, flag = np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.bool_)
        return cls(number, real, flag, number, number, real, number, number, flag)

    @classmethod
    def joined(cls, parts: Sequence["Forest"]) -> "Forest":
        """Forests one after the other."""
        moved, nodes = [cls.empty()], 0
        for part in parts:
            moved.append(
                cls(
                    part.column,
                    part.threshold,
                    part.missing_left,
                    part.left + nodes,
                    part.right + nodes,
                    part.value,
                    part.root + nodes,
                    part.cause,
                    part.timed,
                )
            )
            nodes += len(part.column)
        return cls(*(np.concatenate([getattr(part, one.name) for part in moved]) for one in fields(cls)))

    def predict(self, values: NDArray[np.float64], causes: int) -> NDArray[np.float64]:
        """Sum over each cause's trees at each point of time. Shape: values (B, W), NaN = missing; result (B, G)."""
        return RankedTrees.of(self, values.shape[1], causes, BASES).predict(values)


class TreeTerm(nn.Module):
    """What the trees of one tabular modality add to the log-rates, 0 on average over training rows.

    Starts without trees; `fit` sets them with `take`. Their output is multiplied by the weight that the combination
    with the other terms gave each cause.

    Shape: TabularTensors of B rows -> (B, G) float64, coefficients of the J causes over all groups.
    Example:
        >>> from types import SimpleNamespace as Column
        >>> term = TreeTerm([Column(vocabulary=())], causes=2)
        >>> one = torch.ones(3, 1)
        >>> term(TabularTensors(one, one > 0, one[:, 0] > 0)).shape
        torch.Size([3, 6])
    """

    weight: Tensor
    mean: Tensor
    _ranked: RankedTrees | None  # prepared when first asked, and kept as long as the trees are

    def __init__(self, columns: Sequence[Vocabulary], causes: int) -> None:
        super().__init__()
        self.owner = torch.tensor(column_owner(columns), dtype=torch.int64)
        self.causes = causes
        self.register_buffer("weight", torch.zeros(causes, dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(causes * BASES, dtype=torch.float64))
        self._put(Forest.empty())

    @property
    def forest(self) -> Forest:
        return Forest(*(self.get_buffer(one.name).numpy() for one in fields(Forest)))

    def take(self, forest: Forest, mean: Tensor, weight: Tensor) -> None:
        """Set the trees, the mean of their output over training rows, (G,), and the weight of each cause, (J,)."""
        self._put(forest)
        self.mean.copy_(mean)
        self.weight.copy_(weight)

    def forward(self, tabular: TabularTensors) -> Tensor:
        """Weighted output, or that of `tabular.trees` where an explanation moves along it."""
        raw = tabular.trees if tabular.trees is not None else self.raw(tabular)
        return self._weighted(raw)

    def raw(self, tabular: TabularTensors) -> Tensor:
        """Unweighted output of the trees. Shape: (B, G) float64; no gradient."""
        return self._raw(self.asked(tabular))

    def weighted(self, asked: NDArray[np.float64]) -> Tensor:
        """As `forward`, of columns that were made ready by `asked`: they are the same for every member."""
        return self._weighted(self._raw(asked))

    def _weighted(self, raw: Tensor) -> Tensor:
        return (raw - self.mean) * self.weight.repeat_interleave(BASES)

    def _raw(self, asked: NDArray[np.float64]) -> Tensor:
        if not len(self.get_buffer("root")):
            return torch.zeros(len(asked), self.causes * BASES, dtype=torch.float64)
        if self._ranked is None:
            self._ranked = RankedTrees.of(self.forest, asked.shape[1], self.causes, BASES)
        return torch.from_numpy(self._ranked.predict(asked))

    def asked(self, tabular: TabularTensors) -> NDArray[np.float64]:
        """The columns that trees ask, NaN where the feature is missing. Shape: (B, W)."""
        values = tabular.values.detach().double()
        missing = torch.full((), torch.nan, dtype=torch.float64)
        result: NDArray[np.float64] = torch.where(tabular.observed[:, self.owner], values, missing).numpy()
        return result

    def _put(self, forest: Forest) -> None:
        self._ranked = None
        for one in fields(Forest):
            array = np.array(getattr(forest, one.name))
            self.register_buffer(one.name, torch.from_numpy(array))

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """How many trees there are is told by the file that is loaded."""
        self._ranked = None
        for one in fields(Forest):
            if prefix + one.name in state_dict:
                self.register_buffer(one.name, torch.zeros_like(state_dict[prefix + one.name]))
        super()._load_from_state_dict(state_dict, prefix, *rest)
