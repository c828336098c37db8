"""The loops behind series.py: each row's visible events into steps. Compiled; arrays in, arrays out."""

import numpy as np
from numpy.typing import NDArray

from riskpred.records.chunk import STATIC
from riskpred.records.compiled import compiled

_STATIC = np.int64(STATIC)


@compiled
def count_steps(
    start: NDArray[np.int64],
    time: NDArray[np.int64],
    numeric_value: NDArray[np.float64],
    code: NDArray[np.int32],
    channel_start: NDArray[np.int64],
    channels: NDArray[np.int64],
    n_channels: int,
    window: int,
    subject: NDArray[np.int64],
    prediction_time: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Steps (distinct times), measurements, time of the latest, and events without a number by channel, of each row.

    Args:
        start, time, numeric_value, code: of the chunk.
        channel_start, channels: (C + 1,), (n,): code c feeds channels[channel_start[c]:channel_start[c + 1]].
        window: microseconds, -1 = the whole past.
        subject, prediction_time: (B,).

    Shape: (B,), (B,), (B,), (B, n_channels).
    """
    rows = len(subject)
    steps = np.zeros(rows, dtype=np.int64)
    measured = np.zeros(rows, dtype=np.int64)
    latest = np.full(rows, _STATIC, dtype=np.int64)
    not_numeric = np.zeros((rows, n_channels), dtype=np.int64)
    for r in range(rows):
        now = prediction_time[r]
        for e in range(start[subject[r]], start[subject[r] + 1]):
            t, c = time[e], code[e]
            if t > now:
                break
            if channel_start[c] == channel_start[c + 1] or t == _STATIC or (window >= 0 and t <= now - window):
                continue
            if np.isnan(numeric_value[e]):
                for i in range(channel_start[c], channel_start[c + 1]):
                    not_numeric[r, channels[i]] += 1
                continue
            measured[r] += 1
            if t != latest[r]:
                steps[r] += 1
                latest[r] = t
    return steps, measured, latest, not_numeric


@compiled
def fill_steps(
    start: NDArray[np.int64],
    time: NDArray[np.int64],
    numeric_value: NDArray[np.float64],
    code: NDArray[np.int32],
    channel_start: NDArray[np.int64],
    channels: NDArray[np.int64],
    n_channels: int,
    window: int,
    subject: NDArray[np.int64],
    prediction_time: NDArray[np.int64],
    steps: NDArray[np.int64],
    step_start: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]:
    """Times and values of the latest steps of each row, and which channels they measure.

    Args: as count_steps, and
        steps: (B,) of count_steps.   step_start: (B + 1,): how many of them are wanted, as places in the result.

    Shape: (T,), (T, n_channels) NaN = not measured, (B, n_channels). Of several values of a channel at one time the
    last in the chunk's order stands.
    """
    total = step_start[-1]
    times = np.zeros(total, dtype=np.int64)
    values = np.full((total, n_channels), np.float32(np.nan), dtype=np.float32)
    there = np.zeros((len(subject), n_channels), dtype=np.bool_)
    for r in range(len(subject)):
        wanted = step_start[r + 1] - step_start[r]
        if wanted == 0:
            continue
        now, before = prediction_time[r], _STATIC
        place = step_start[r] - (steps[r] - wanted) - 1
        for e in range(start[subject[r]], start[subject[r] + 1]):
            t, c = time[e], code[e]
            if t > now:
                break
            if channel_start[c] == channel_start[c + 1] or t == _STATIC or (window >= 0 and t <= now - window):
                continue
            if np.isnan(numeric_value[e]):
                continue
            if t != before:
                place += 1
                before = t
            if place < step_start[r]:
                continue
            times[place] = t
            for i in range(channel_start[c], channel_start[c + 1]):
                values[place, channels[i]] = numeric_value[e]
                there[r, channels[i]] = True
    return times, values, there
