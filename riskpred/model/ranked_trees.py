"""Trees prepared for many rows at once: each threshold becomes a rank, and a block of rows walks one tree in step.

A column's thresholds are sorted once; a row's code in that column is how many of them lie below its value, so that
`value <= threshold` is `code <= rank`, one byte against one byte. A tree that asks for the point of time becomes one
tree per point. Same trees, same leaves: only the order in which leaves are added differs from walking tree by tree.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from riskpred.records.compiled import compiled

_BLOCK = 256
"""Rows that walk together: their codes, places and sums stay in the first cache."""


class Trees(Protocol):
    """The arrays of `model.trees.Forest`."""

    @property
    def column(self) -> NDArray[np.int64]: ...
    @property
    def threshold(self) -> NDArray[np.float64]: ...
    @property
    def missing_left(self) -> NDArray[np.bool_]: ...
    @property
    def left(self) -> NDArray[np.int64]: ...
    @property
    def right(self) -> NDArray[np.int64]: ...
    @property
    def value(self) -> NDArray[np.float64]: ...
    @property
    def root(self) -> NDArray[np.int64]: ...
    @property
    def cause(self) -> NDArray[np.int64]: ...
    @property
    def timed(self) -> NDArray[np.bool_]: ...


@dataclass(frozen=True)
class RankedTrees:
    """T trees without the point of time; nodes and leaves of each in preorder, so that parents come first.

    A row that reached a node stands at that node's first leaf; going right moves it to the right child's first leaf.

    Shape:
        limit: (H,) float64, thresholds, column after column, rising.   limit_start: (W + 1,) int64, each column's.
        code: (N,) int64, which code a node asks: column c, or W + c where a missing value goes left.
        rank: (N,) of a threshold among its column's.   first, right_first: (N,) leaves within the tree.
        start: (T + 1,) int64, each tree's nodes.   leaf_start: (T + 1,) int64, its leaves in `value`, float64.
        sum_of: (T,) int64, which of the causes x (1 + points) sums it adds to: per cause first what holds at every
            point of time, then each point's own.
    `rank` and codes have one type, and `first` another, as small as they can be.
    """

    limit: NDArray[np.float64]
    limit_start: NDArray[np.int64]
    code: NDArray[np.int64]
    rank: NDArray[Any]
    first: NDArray[Any]
    right_first: NDArray[Any]
    start: NDArray[np.int64]
    leaf_start: NDArray[np.int64]
    value: NDArray[np.float64]
    sum_of: NDArray[np.int64]
    causes: int
    points: int

    @classmethod
    def of(cls, trees: Trees, columns: int, causes: int, points: int) -> "RankedTrees":
        """Prepare trees that ask `columns` columns, and the point of time as column number `columns`."""
        asked = [
            np.unique(trees.threshold[trees.column == c]) if (trees.column == c).any() else np.zeros(0)
            for c in range(columns)
        ]
        grown, sum_of = [], []
        for root, cause, timed in zip(trees.root.tolist(), trees.cause.tolist(), trees.timed.tolist(), strict=True):
            for point in range(points) if timed else (None,):
                grown.append(_preorder(trees, root, columns, point, asked))
                sum_of.append(cause * (1 + points) + (0 if point is None else 1 + point))
        # Trees of one sum follow one another, in the order given, so that its row of sums stays at hand.
        order = sorted(range(len(grown)), key=lambda t: sum_of[t])
        nodes = [node for t in order for node in grown[t].nodes]
        leaves = [grown[t].leaves for t in order]
        most_leaves = max((len(one) for one in leaves), default=0)
        code, rank, first, right_first = (np.array(part, np.int64) for part in zip(*nodes, strict=True)) if nodes else (
            np.zeros(0, np.int64) for _ in range(4)
        )  # fmt: skip
        place, small = _smallest(most_leaves), _smallest(max((len(one) for one in asked), default=0))
        return cls(
            limit=np.concatenate([*asked, np.zeros(0)]),
            limit_start=np.cumsum([0, *(len(one) for one in asked)]).astype(np.int64),
            code=code,
            rank=rank.astype(small),
            first=first.astype(place),
            right_first=right_first.astype(place),
            start=np.cumsum([0, *(len(grown[t].nodes) for t in order)]).astype(np.int64),
            leaf_start=np.cumsum([0, *(len(one) for one in leaves)]).astype(np.int64),
            value=np.array([value for one in leaves for value in one], np.float64),
            sum_of=np.array([sum_of[t] for t in order], np.int64),
            causes=causes,
            points=points,
        )

    def predict(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum over each cause's trees at each point of time. Shape: values (B, W), NaN = missing; result (B, G)."""
        result: NDArray[np.float64] = _walk(
            values,
            self.limit,
            self.limit_start,
            self.code,
            self.rank,
            self.first,
            self.right_first,
            self.start,
            self.leaf_start,
            self.value,
            self.sum_of,
            self.causes,
            self.points,
        )
        return result


@dataclass
class _Grown:
    """One tree without the point of time: (code, rank, first, right_first) of each node, and the leaves' values."""

    nodes: list[tuple[int, int, int, int]]
    leaves: list[float]


def _preorder(trees: Trees, root: int, columns: int, point: int | None, asked: Sequence[NDArray[np.float64]]) -> _Grown:
    grown = _Grown([], [])

    def visit(node: int) -> None:
        column = int(trees.column[node])
        if column < 0:
            grown.leaves.append(float(trees.value[node]))
        elif column == columns:
            assert point is not None, "only a timed tree asks for the point of time"
            visit(int((trees.left if point <= trees.threshold[node] else trees.right)[node]))
        else:
            rank = int(np.searchsorted(asked[column], trees.threshold[node]))
            code, first, place = column + columns * bool(trees.missing_left[node]), len(grown.leaves), len(grown.nodes)
            grown.nodes.append((code, rank, first, -1))
            visit(int(trees.left[node]))
            grown.nodes[place] = (code, rank, first, len(grown.leaves))
            visit(int(trees.right[node]))

    visit(root)
    return grown


def _smallest(largest: int) -> type[np.unsignedinteger[Any]]:
    """The smallest type that holds 0 to `largest`, and one more for a missing value."""
    return next(kind for kind in (np.uint8, np.uint16, np.uint32) if largest < np.iinfo(kind).max)


@compiled
def _walk(
    values: NDArray[np.float64],
    limit: NDArray[np.float64],
    limit_start: NDArray[np.int64],
    code: NDArray[np.int64],
    rank: NDArray[Any],
    first: NDArray[Any],
    right_first: NDArray[Any],
    start: NDArray[np.int64],
    leaf_start: NDArray[np.int64],
    value: NDArray[np.float64],
    sum_of: NDArray[np.int64],
    causes: int,
    points: int,
) -> NDArray[np.float64]:
    rows, wide = len(values), len(limit_start) - 1
    result = np.empty((rows, causes * points))
    codes = np.zeros((2 * wide, _BLOCK), rank.dtype)
    place = np.zeros(_BLOCK, first.dtype)
    sums = np.zeros((causes * (1 + points), _BLOCK))
    x = np.zeros(_BLOCK)
    for begin in range(0, rows, _BLOCK):
        n = min(_BLOCK, rows - begin)
        for c in range(wide):
            low, high = codes[wide + c], codes[c]
            for r in range(n):
                x[r] = values[begin + r, c]
                low[r] = 0
            for h in range(limit_start[c], limit_start[c + 1]):
                threshold = limit[h]
                for r in range(n):
                    low[r] += x[r] > threshold
            # Above every rank: a missing value goes right wherever the first code is asked, left where the second is.
            above = limit_start[c + 1] - limit_start[c]
            for r in range(n):
                high[r] = above if np.isnan(x[r]) else low[r]
        sums[:] = 0.0
        for tree in range(len(sum_of)):
            for r in range(n):
                place[r] = 0
            for node in range(start[tree], start[tree + 1]):
                own, k, here, right = codes[code[node]], rank[node], first[node], right_first[node]
                for r in range(n):
                    place[r] = right if (place[r] == here) & (own[r] > k) else place[r]
            total, leaves = sums[sum_of[tree]], value[leaf_start[tree] : leaf_start[tree + 1]]
            for r in range(n):
                total[r] += leaves[place[r]]
        for cause in range(causes):
            every = sums[cause * (1 + points)]
            for point in range(points):
                own_sum = sums[cause * (1 + points) + 1 + point]
                for r in range(n):
                    result[begin + r, cause * points + point] = every[r] + own_sum[r]
    return result
