"""Prepared trees say exactly what walking each tree from its root says, for any tree, threshold and missing value."""

import numpy as np
import pytest
from numpy.typing import NDArray

from riskpred.model.ranked_trees import RankedTrees
from riskpred.model.trees import Forest

COLUMNS, CAUSES, POINTS = 5, 3, 3


def grown(rng: np.random.Generator, trees: int, depth: int, thresholds: int) -> Forest:
    """Random trees of random shape; half of them ask for the point of time, which is column COLUMNS."""
    nodes: list[tuple[int, float, bool, int, int, float]] = []
    roots, timed = [], []

    def node(left: int, asks_time: bool) -> int:
        place = len(nodes)
        nodes.append((-1, 0.0, False, 0, 0, float(rng.normal())))
        if left > 0 and rng.random() < (1.0 if depth > 6 else 0.8):
            column = int(rng.integers(COLUMNS + asks_time))
            limit = float(rng.integers(thresholds)) / 4 if column < COLUMNS else float(rng.choice([0.5, 1.5]))
            missing_left = bool(rng.random() < 0.5)
            children = node(left - 1, asks_time), node(left - 1, asks_time)
            nodes[place] = (column, limit, missing_left, *children, 0.0)
            if column == COLUMNS:
                timed[-1] = True
        return place

    for _ in range(trees):
        timed.append(False)
        roots.append(node(depth, bool(rng.random() < 0.5)))
    column, threshold, missing_left, left, right, value = zip(*nodes, strict=True)
    return Forest(
        np.array(column),
        np.array(threshold),
        np.array(missing_left),
        np.array(left),
        np.array(right),
        np.array(value),
        np.array(roots),
        rng.integers(CAUSES, size=trees),
        np.array(timed),
    )


def walked(forest: Forest, values: NDArray[np.float64]) -> NDArray[np.float64]:
    result = np.zeros((len(values), CAUSES, POINTS))
    for row, x in enumerate(values):
        for root, cause in zip(forest.root, forest.cause, strict=True):
            for point in range(POINTS):
                node = root
                while forest.column[node] >= 0:
                    asked = float(point) if forest.column[node] == COLUMNS else x[forest.column[node]]
                    left = forest.missing_left[node] if np.isnan(asked) else asked <= forest.threshold[node]
                    node = forest.left[node] if left else forest.right[node]
                result[row, cause, point] += forest.value[node]
    return result.reshape(len(values), -1)


def rows(rng: np.random.Generator, many: int, thresholds: int) -> NDArray[np.float64]:
    """Many values lie exactly on a threshold; some are missing or infinite."""
    values = rng.integers(-2, thresholds + 2, size=(many, COLUMNS)) / 4 + rng.choice([0.0, 0.1], size=(many, COLUMNS))
    values[rng.random(values.shape) < 0.2] = np.nan
    values[rng.random(values.shape) < 0.02] = np.inf
    values[rng.random(values.shape) < 0.02] = -np.inf
    return values


@pytest.mark.parametrize(("depth", "thresholds"), [(3, 20), (6, 20), (9, 3), (3, 2000)])
def test_it_walks_as_the_trees_say(depth: int, thresholds: int) -> None:
    # Depth 9 gives trees of more leaves than a byte counts, 2000 thresholds more ranks than a byte counts.
    rng = np.random.default_rng(depth)
    forest, values = grown(rng, 60 if depth < 9 else 3, depth, thresholds), rows(rng, 300, thresholds)
    if thresholds > 1000:
        forest = Forest.joined([forest, *(grown(rng, 60, depth, thresholds) for _ in range(30))])
        values = values[:20]
    ranked = RankedTrees.of(forest, COLUMNS, CAUSES, POINTS)
    assert (ranked.first.dtype == np.uint8) == (depth < 9)
    assert (ranked.rank.dtype == np.uint8) == (thresholds < 1000)
    assert ranked.predict(values) == pytest.approx(walked(forest, values), abs=1e-12)


def test_a_row_says_the_same_in_any_company() -> None:
    rng = np.random.default_rng(0)
    values = rows(rng, 700, 20)
    ranked = RankedTrees.of(grown(rng, 50, 3, 20), COLUMNS, CAUSES, POINTS)
    together = ranked.predict(values)
    order = rng.permutation(700)
    assert np.array_equal(ranked.predict(values[order]), together[order])
    assert np.array_equal(np.concatenate([ranked.predict(values[i : i + 1]) for i in range(20)]), together[:20])


def test_trees_that_are_single_leaves_add_their_value() -> None:
    number, real = np.zeros(1, np.int64), np.zeros(1)
    leaf = Forest(number - 1, real, real > 0, number, number, real + 2.5, number, number, real > 0)
    assert RankedTrees.of(leaf, COLUMNS, 1, POINTS).predict(np.full((2, COLUMNS), np.nan)).tolist() == [[2.5] * 3] * 2
