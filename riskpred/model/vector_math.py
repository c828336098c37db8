"""Exponentials in plain arithmetic, so that the compiler computes several rows at a time.

The library's own exp takes one number at a time, and a night's fusion is mostly exponentials. These are as exact
(some 1e-16 of the result) and as strict: NaN stays NaN, and what is too large is infinite.
"""

import numpy as np
from numpy.typing import NDArray

from riskpred.records.compiled import contracted

_PER_LOG2 = 1.4426950408889634
_LOG2_HIGH, _LOG2_LOW = 0.6931471803691238, 1.9082149292705877e-10
"""log 2 in two parts: the first has zeros at its end, so that whole multiples of it are exact."""
_ROUNDS = 6755399441055744.0
"""1.5 x 2^52: a number added to it is rounded, and stands in its last bits as an integer."""
_PER_LOG2_32, _ROUNDS_32 = np.float32(_PER_LOG2), np.float32(12582912.0)
_LOG2_HIGH_32, _LOG2_LOW_32 = np.float32(0.693145751953125), np.float32(1.428606765330187e-06)
"""The same three for float32."""
_SHUT = np.float32(80.0)
_LEAST, _MOST = -708.0, 709.78
_SMALL = 0.35
_FROM_THERE = 20.0
"""From here on torch's softplus is its argument, and so is ours."""


@contracted
def _expm1_per_x(r: float) -> float:
    """(exp(r) - 1) / r for abs(r) <= 0.35: the series to the 13th power, 1e-17 from the whole."""
    q = 1.0 / 87178291200.0
    q = q * r + 1.0 / 6227020800.0
    q = q * r + 1.0 / 479001600.0
    q = q * r + 1.0 / 39916800.0
    q = q * r + 1.0 / 3628800.0
    q = q * r + 1.0 / 362880.0
    q = q * r + 1.0 / 40320.0
    q = q * r + 1.0 / 5040.0
    q = q * r + 1.0 / 720.0
    q = q * r + 1.0 / 120.0
    q = q * r + 1.0 / 24.0
    q = q * r + 1.0 / 6.0
    q = q * r + 0.5
    return q * r + 1.0


@contracted
def exp(x: float) -> float:
    """e to the power of x; 0 below -708, infinite above 709.78.

    Source: Cody & Waite 1980, Software Manual for the Elementary Functions, chapter 6 (reduction by log 2 in 2 parts).
    """
    held = _LEAST if x < _LEAST else x
    held = _MOST if held > _MOST else held
    rounded = held * _PER_LOG2 + _ROUNDS
    times = rounded - _ROUNDS
    r = (held - times * _LOG2_HIGH) - times * _LOG2_LOW
    # Half the power of two twice: the largest one alone would not be a number.
    power = np.float64(rounded).view(np.int64) << 52
    scale = np.int64(power + np.int64(1022 << 52)).view(np.float64)
    result = 0.0 if x < _LEAST else float((1.0 + r * _expm1_per_x(r)) * scale * 2.0)
    return np.inf if x > _MOST else result


@contracted
def exp32(x: np.float32) -> np.float32:
    """e to the power of a float32 between -87 and 88, as a float32."""
    rounded = x * _PER_LOG2_32 + _ROUNDS_32
    times = rounded - _ROUNDS_32
    r = (x - times * _LOG2_HIGH_32) - times * _LOG2_LOW_32
    q = np.float32(1.0 / 5040.0)
    q = q * r + np.float32(1.0 / 720.0)
    q = q * r + np.float32(1.0 / 120.0)
    q = q * r + np.float32(1.0 / 24.0)
    q = q * r + np.float32(1.0 / 6.0)
    q = q * r + np.float32(0.5)
    q = q * r + np.float32(1.0)
    scale = np.int32((np.float32(rounded).view(np.int32) << np.int32(23)) + np.int32(127 << 23)).view(np.float32)
    return np.float32((np.float32(1.0) + r * q) * scale)


@contracted
def silu_added(x: NDArray[np.float32], bias: NDArray[np.float32]) -> None:
    """silu(x + bias) in the place of every float32 number. Shape: x (M, N, B), bias (M, N)."""
    for m in range(x.shape[0]):
        for n in range(x.shape[1]):
            line, more = x[m, n], bias[m, n]
            for b in range(len(line)):
                one = line[b] + more
                # Beyond 80 a sigmoid is 0 or 1 to float32.
                held = -_SHUT if one > _SHUT else -one
                held = _SHUT if one < -_SHUT else held
                line[b] = one / (np.float32(1.0) + exp32(held))


@contracted
def exp_rows(x: NDArray[np.float64], result: NDArray[np.float64]) -> None:
    """exp of every number. Shape: x and result (N,)."""
    for i in range(len(x)):
        result[i] = exp(x[i])


@contracted
def silu_rows(x: NDArray[np.float64]) -> None:
    """x / (1 + exp(-x)) in the place of every number. Shape: x (N,)."""
    for i in range(len(x)):
        x[i] = x[i] / (1.0 + exp(-x[i]))


@contracted
def softplus_rows(x: NDArray[np.float64], result: NDArray[np.float64]) -> None:
    """log(1 + exp(x)) of every number; as torch's, x itself above 20. Shape: x and result (N,)."""
    # In two loops: one as long as both would no longer be computed for several rows at a time.
    for i in range(len(x)):
        result[i] = exp(-x[i] if x[i] > 0.0 else x[i])
    for i in range(len(x)):
        # log(1 + y) = 2 artanh(s), s = y / (2 + y) <= 1/3: the series to its 17th term, 1e-18 from the whole.
        s = result[i] / (2.0 + result[i])
        square = s * s
        q = 1.0 / 33.0
        q = q * square + 1.0 / 31.0
        q = q * square + 1.0 / 29.0
        q = q * square + 1.0 / 27.0
        q = q * square + 1.0 / 25.0
        q = q * square + 1.0 / 23.0
        q = q * square + 1.0 / 21.0
        q = q * square + 1.0 / 19.0
        q = q * square + 1.0 / 17.0
        q = q * square + 1.0 / 15.0
        q = q * square + 1.0 / 13.0
        q = q * square + 1.0 / 11.0
        q = q * square + 1.0 / 9.0
        q = q * square + 1.0 / 7.0
        q = q * square + 1.0 / 5.0
        q = q * square + 1.0 / 3.0
        q = q * square + 1.0
        exact = 2.0 * s * q + (x[i] if x[i] > 0.0 else 0.0)
        result[i] = x[i] if x[i] > _FROM_THERE else exact


@contracted
def share_lost_rows(total: NDArray[np.float64], result: NDArray[np.float64]) -> None:
    """(1 - exp(-total)) / total of every number that is not negative; 1 where it is 0. Shape: total and result (N,)."""
    for i in range(len(total)):
        result[i] = exp(-total[i])
    for i in range(len(total)):
        small = total[i] if total[i] < _SMALL else _SMALL
        result[i] = _expm1_per_x(-small) if total[i] < _SMALL else (1.0 - result[i]) / total[i]
