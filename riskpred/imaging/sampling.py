"""Values of a regular grid at the places of another one: area averages where it is coarser, linear where finer."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse


def axis_weights(count: int, wanted: int, offset: float, scale: float) -> sparse.csr_array:
    """Share of each of `count` values in `wanted` new ones, the i-th of which lies at index offset + scale * i.

    A new value is the mean of what it covers where scale is above 1 either way, else the line between its neighbours;
    beyond the ends the last value goes on for half of what a value covers, then there is nothing (a row of 0).

    Shape: (wanted, count).
    Example:
        >>> axis_weights(6, 2, 1.0, 3.0).toarray().round(2)
        array([[0.33, 0.33, 0.33, 0.  , 0.  , 0.  ],
               [0.  , 0.  , 0.  , 0.33, 0.33, 0.33]])
        >>> axis_weights(2, 4, -0.25, 0.5).toarray()
        array([[1.  , 0.  ],
               [0.75, 0.25],
               [0.25, 0.75],
               [0.  , 1.  ]])
    """
    at = offset + scale * np.arange(wanted)
    wide = abs(scale)
    if wide > 1.0:
        first, last = at - wide / 2, at + wide / 2
        reach = int(np.ceil(wide)) + 1
        columns = np.floor(first + 0.5).astype(np.int64)[:, None] + np.arange(reach)
        shares = np.minimum(last[:, None], columns + 0.5) - np.maximum(first[:, None], columns - 0.5)
        shares = np.where((columns >= 0) & (columns < count), np.maximum(shares, 0.0), 0.0)
        # A sliver of rounding is nothing: a value that lies outside must not become the last one.
        total = shares.sum(axis=1, keepdims=True)
        shares = np.divide(shares, total, out=np.zeros_like(shares), where=total > 1e-9)
    else:
        inside = (at > -0.5 - 1e-9) & (at < count - 0.5 + 1e-9)
        held = np.clip(at, 0.0, count - 1.0)
        below = np.minimum(np.floor(held), max(count - 2, 0))
        part = held - below
        columns = below.astype(np.int64)[:, None] + np.arange(2)
        shares = np.stack([1.0 - part, part], axis=1) * inside[:, None]
    there = shares > 0
    rows = np.broadcast_to(np.arange(wanted)[:, None], columns.shape)
    return sparse.csr_array((shares[there], (rows[there], columns[there])), shape=(wanted, count))


def nearest_index(count: int, wanted: int, offset: float, scale: float) -> NDArray[np.int64]:
    """Place of the value nearest to each of `wanted` new ones; -1 outside."""
    at = np.floor(offset + scale * np.arange(wanted) + 0.5).astype(np.int64)
    return np.where((at >= 0) & (at < count), at, -1)


def sampled(
    array: NDArray[np.generic],
    shape: Sequence[int],
    offset: Sequence[float] | NDArray[np.float64],
    scale: Sequence[float] | NDArray[np.float64],
    nearest: bool = False,
) -> NDArray[np.generic]:
    """The last axes of an array at new places, axis by axis; outside of it 0.

    Args:
        shape, offset, scale: per axis; new index i lies at index offset + scale * i.
        nearest: the value nearest to each place, in the array's own type; else float32.
    """
    first = array.ndim - len(shape)
    # The axis that shrinks most goes first: less is left to do for the others.
    order = sorted(range(len(shape)), key=lambda k: shape[k] / array.shape[first + k])
    for k in order:
        axis, count, wanted = first + k, array.shape[first + k], shape[k]
        o, s = float(offset[k]), float(scale[k])
        if count == wanted and o == 0.0 and s == 1.0:
            continue
        if nearest:
            places = nearest_index(count, wanted, o, s)
            array = np.take(array, np.maximum(places, 0), axis)
            array[(slice(None),) * axis + (places < 0,)] = 0
        else:
            array = _along(array, axis_weights(count, wanted, o, s), axis)
    return array if nearest else np.ascontiguousarray(array, dtype=np.float32)


def _along(array: NDArray[np.generic], weights: sparse.csr_array, axis: int) -> NDArray[np.float32]:
    front = np.moveaxis(np.asarray(array, dtype=np.float32), axis, 0)
    flat = front.reshape(front.shape[0], -1)
    found = np.asarray(weights.astype(np.float32) @ flat).reshape(weights.shape[0], *front.shape[1:])
    return np.moveaxis(found, 0, axis)
