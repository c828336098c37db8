"""TreeSHAP of a tabular encoder's trees against each subject's own attribution baseline.

Trees have no gradient. An explanation moves along their output from the baseline to the subject, and spreads that move
over features by interventional Shapley values with the baseline as the one reference, so that they add up to the move
exactly. shap.TreeExplainer computes the same, but for one reference at a time and per column; here every subject has
its own reference, and the columns of one category are one player. A test holds the two against each other.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riskpred.model.layout import BASES
from riskpred.model.risk import RiskModel
from riskpred.model.tabular import TabularEncoder
from riskpred.model.tensors import TabularTensors
from riskpred.model.trees import TreeTerm
from riskpred.records.compiled import compiled

_MOST_PLAYERS = 24
_MOST_PATHS = 32
"""Most features that part on one path and most open paths: far beyond the depth of trees that `fit` grows."""


@dataclass(frozen=True)
class TreePath:
    """What the trees say at both ends of the path, and each feature's share of the move.

    Shape: start, end (B, R, G), R members; share (B, R, G, F), its sum over features is end - start.
    """

    start: Tensor
    end: Tensor
    share: Tensor

    def take(self, index: Tensor) -> "TreePath":
        return TreePath(self.start[index], self.end[index], self.share[index])


def tree_path(model: RiskModel, modality: str, inputs: TabularTensors, baseline: Tensor) -> TreePath | None:
    """The path of B subjects from the baseline values (B, W) to their own; None where no member has trees."""
    each = [_trees(model, r, modality) for r in range(model.members)]
    if not any(len(trees.forest) for trees in each):
        return None
    origin, features = inputs.with_values(baseline), inputs.observed.shape[1]
    return TreePath(
        start=torch.stack([trees.raw(origin) for trees in each], dim=1),
        end=torch.stack([trees.raw(inputs) for trees in each], dim=1),
        share=torch.stack([torch.from_numpy(shapley(trees, inputs, origin, features)) for trees in each], dim=1),
    )


def shapley(trees: TreeTerm, inputs: TabularTensors, origin: TabularTensors, features: int) -> NDArray[np.float64]:
    """Shapley value of each feature for the trees' output, going from origin to inputs.

    Shape: B rows each; result (B, G, features), unweighted as `TreeTerm.raw`.
    Source: Lundberg et al. 2020, Nat Mach Intell 2:56-67 (interventional TreeSHAP, one reference).
    """
    forest = trees.forest
    result: NDArray[np.float64] = _shapley(
        trees.asked(inputs),
        trees.asked(origin),
        np.append(trees.owner.numpy(), -1),
        forest.column,
        forest.threshold,
        forest.missing_left,
        forest.left,
        forest.right,
        forest.value,
        forest.root,
        forest.cause,
        forest.timed,
        trees.causes,
        BASES,
        features,
        _factorials(),
    )
    return result


def _trees(model: RiskModel, r: int, modality: str) -> TreeTerm:
    encoder = model.member(r).encoders[modality]
    assert isinstance(encoder, TabularEncoder)
    return encoder.trees


def _factorials() -> NDArray[np.float64]:
    return np.cumprod(np.concatenate([[1.0], np.arange(1.0, 2 * _MOST_PLAYERS)]))


@compiled
def _shapley(
    values: NDArray[np.float64],
    origin: NDArray[np.float64],
    owner: NDArray[np.int64],
    column: NDArray[np.int64],
    threshold: NDArray[np.float64],
    missing_left: NDArray[np.bool_],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    value: NDArray[np.float64],
    root: NDArray[np.int64],
    cause: NDArray[np.int64],
    timed: NDArray[np.bool_],
    causes: int,
    points: int,
    features: int,
    factorial: NDArray[np.float64],
) -> NDArray[np.float64]:
    rows, wide = values.shape
    result = np.zeros((rows, causes * points, features))
    # A path remembers which features took their own value (side 1) and which the origin's (side 0) where they part.
    node_at = np.zeros(_MOST_PATHS, np.int64)
    parted = np.zeros(_MOST_PATHS, np.int64)
    player = np.zeros((_MOST_PATHS, _MOST_PLAYERS), np.int64)
    side = np.zeros((_MOST_PATHS, _MOST_PLAYERS), np.int64)
    for row in range(rows):
        for tree in range(len(root)):
            for point in range(points if timed[tree] else 1):
                top = 1
                node_at[0], parted[0] = root[tree], 0
                while top > 0:
                    top -= 1
                    node, many = node_at[top], parted[top]
                    if column[node] < 0:
                        own = 0
                        for i in range(many):
                            own += side[top, i]
                        rest = many - own
                        for i in range(many):
                            if side[top, i] == 1:
                                share = factorial[own - 1] * factorial[rest] / factorial[many]
                            else:
                                share = -factorial[own] * factorial[rest - 1] / factorial[many]
                            for at in range(points):
                                if at == point or not timed[tree]:
                                    place = cause[tree] * points + at
                                    result[row, place, player[top, i]] += share * value[node]
                        continue
                    asked = column[node]
                    if asked == wide:
                        mine = float(point) <= threshold[node]
                        theirs = mine
                    else:
                        x, o = values[row, asked], origin[row, asked]
                        mine = missing_left[node] if np.isnan(x) else x <= threshold[node]
                        theirs = missing_left[node] if np.isnan(o) else o <= threshold[node]
                    if mine == theirs:
                        node_at[top] = left[node] if mine else right[node]
                        top += 1
                        continue
                    known = -1
                    for i in range(many):
                        if player[top, i] == owner[asked]:
                            known = side[top, i]
                    if known >= 0:
                        goes_left = mine if known == 1 else theirs
                        node_at[top] = left[node] if goes_left else right[node]
                        top += 1
                        continue
                    for i in range(many):
                        player[top + 1, i], side[top + 1, i] = player[top, i], side[top, i]
                    player[top, many], side[top, many] = owner[asked], 1
                    player[top + 1, many], side[top + 1, many] = owner[asked], 0
                    node_at[top] = left[node] if mine else right[node]
                    node_at[top + 1] = left[node] if theirs else right[node]
                    parted[top], parted[top + 1] = many + 1, many + 1
                    top += 2
    return result
