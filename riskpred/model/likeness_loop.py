"""The loops behind likeness.py and percentiles: fused embeddings, distances from a cloud, ranks. Rows lie innermost."""

import numpy as np
from numpy.typing import NDArray

from riskpred.records.compiled import contracted

_BLOCK = 64
LARGEST = 1e30
"""Larger numbers count as this one: an infinite value is far away, not a number that cannot be compared."""

_Array = NDArray[np.float64]


@contracted
def add_embedding(embedding: _Array, reference: _Array, present: NDArray[np.bool_], total: _Array) -> None:
    """Add embedding - reference where a row has the modality. Shape: (R, D, B), (R, D), (B,) -> (R, D, B)."""
    for r in range(total.shape[0]):
        for d in range(total.shape[1]):
            given, line, mean = embedding[r, d], total[r, d], reference[r, d]
            for b in range(len(present)):
                line[b] += given[b] - mean if present[b] else 0.0


@contracted
def mean_distance(
    values: _Array, rows: NDArray[np.int64], centre: _Array, gain: _Array, whitening: _Array, result: _Array
) -> None:
    """Fill `result` at `rows` with the mean over clouds of each row's distance; a value that is NaN adds nothing.

    Shape: values (R, P, B), rows (n,), centre and gain (R, P), whitening (R, P, P), result (B,).
    """
    clouds, columns = centre.shape
    z = np.zeros((columns, _BLOCK))
    turned = np.zeros(_BLOCK)
    square = np.zeros(_BLOCK)
    whole = np.zeros(_BLOCK)
    for first in range(0, len(rows), _BLOCK):
        some = rows[first : first + _BLOCK]
        whole[:] = 0.0
        for r in range(clouds):
            for p in range(columns):
                given, line, middle, times = values[r, p], z[p], centre[r, p], gain[r, p]
                for b in range(len(some)):
                    x = given[some[b]]
                    x = -LARGEST if x < -LARGEST else x
                    x = LARGEST if x > LARGEST else x
                    scaled = (x - middle) * times
                    line[b] = 0.0 if np.isnan(scaled) else scaled
            square[:] = 0.0
            for q in range(columns):
                turned[:] = 0.0
                for p in range(columns):
                    weight, line = whitening[r, p, q], z[p]
                    for b in range(_BLOCK):
                        turned[b] += weight * line[b]
                for b in range(_BLOCK):
                    square[b] += turned[b] * turned[b]
            for b in range(_BLOCK):
                whole[b] += np.sqrt(square[b])
        for b in range(len(some)):
            result[some[b]] = whole[b] / clouds


@contracted
def ranks(known: _Array, begin: NDArray[np.int64], value: _Array, result: _Array) -> None:
    """Share of rising `known` numbers that lie below each value, between 0 and 1.

    Args: begin: (N + 1,) how many of them lie below 0, 1 / N, 2 / N, ...: where to look.
    Shape: known (K,), value and result (B,).
    """
    cells = len(begin) - 1
    for b in range(len(value)):
        x = value[b]
        if np.isnan(x):
            result[b] = 1.0  # as numpy sorts it: above every number
            continue
        cell = 0 if x <= 0.0 else (int(x * cells) if x < 1.0 else cells - 1)
        cell = min(cell, cells - 1)
        low, high = begin[cell], begin[cell + 1]
        # Rounding may have put a value at a cell's edge into its neighbour.
        while low > 0 and known[low - 1] >= x:
            low -= 1
        while high < len(known) and known[high] < x:
            high += 1
        while low < high:
            middle = (low + high) >> 1
            if known[middle] < x:
                low = middle + 1
            else:
                high = middle
        result[b] = low / len(known)
