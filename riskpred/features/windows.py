"""The loop behind tabular.py: each row's visible events once, into every window, then every aggregate out of them.

Compiled; arrays in, arrays out. A slot is one code pattern in one window; several columns may share it.
"""

from typing import get_args

import numpy as np
from numpy.typing import NDArray

from riskpred.config.features import Aggregate
from riskpred.records.chunk import DAY_US, STATIC
from riskpred.records.cohort import YEAR_DAYS
from riskpred.records.compiled import compiled

AGGREGATES = (
    *("last", "age_days", "count", "mean", "slope", "min", "max", "ever", "first_age_days", "span_days", "change"),
    "age_years",
)
"""Number of each aggregate in the loop is its place here; age_years is the built-in, over MEDS_BIRTH."""

NO_CATEGORY, UNKNOWN_CATEGORY = -1, -2
"""Codes of a category lookup: the event has none; it has one that training never saw."""

_STATIC = np.int64(STATIC)
_DAY = float(DAY_US)
_YEAR = float(DAY_US) * YEAR_DAYS
(_LAST, _AGE_DAYS, _COUNT, _MEAN, _SLOPE, _MIN, _MAX, _EVER, _FIRST_AGE, _SPAN, _CHANGE, _AGE_YEARS) = range(
    len(AGGREGATES)
)
assert set(AGGREGATES) == {*get_args(Aggregate), "age_years"}, "the loop knows every aggregate of features.yaml"


@compiled
def aggregate_rows(
    start: NDArray[np.int64],
    time: NDArray[np.int64],
    numeric_value: NDArray[np.float64],
    code: NDArray[np.int32],
    text: NDArray[np.int32],
    slot_start: NDArray[np.int64],
    slots: NDArray[np.int64],
    window: NDArray[np.int64],
    category: NDArray[np.int64],
    by_code: NDArray[np.bool_],
    code_category: NDArray[np.int64],
    text_category: NDArray[np.int64],
    column_slot: NDArray[np.int64],
    column_aggregate: NDArray[np.int64],
    subject: NDArray[np.int64],
    prediction_time: NDArray[np.int64],
    birth: int,
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Values, times behind them, number of visible events, and time of the latest, of each row.

    Args:
        start, time, numeric_value, code, text: of the chunk.
        slot_start, slots: (C + 1,), (n,): code c feeds slots[slot_start[c]:slot_start[c + 1]].
        window: (Z,) microseconds of each of the Z slots, -1 = the whole past.
        category: (Z,) which category lookup a slot reads, -1 = numeric values.
        by_code: (Y,) whether lookup y reads the code or the text.
        code_category, text_category: (Y, C), (Y, T): category of a code or text, NO_CATEGORY or UNKNOWN_CATEGORY.
        column_slot, column_aggregate: (F,); column_slot -1 = filled by the caller (left NaN).
        subject, prediction_time: (B,).
        birth: code of the birth, -1 = none: it says nothing of how old the data are, so it is never the latest.

    Shape: (B, F) float32, (B, F) int64, (B,), (B,).
    An undated event is in every window and older than every dated one.
    """
    n_rows, n_slots, n_columns = len(subject), len(window), len(column_slot)
    values = np.full((n_rows, n_columns), np.float32(np.nan), dtype=np.float32)
    times = np.full((n_rows, n_columns), _STATIC, dtype=np.int64)
    used = np.zeros(n_rows, dtype=np.int64)
    latest = np.full(n_rows, _STATIC, dtype=np.int64)

    count = np.zeros(n_slots, dtype=np.int64)  # events
    newest = np.zeros(n_slots, dtype=np.int64)  # latest dated event
    oldest = np.zeros(n_slots, dtype=np.int64)  # first dated event
    measured = np.zeros(n_slots, dtype=np.int64)  # events with a value
    last = np.zeros(n_slots)
    last_time = np.zeros(n_slots, dtype=np.int64)
    before = np.zeros(n_slots)  # the latest value of an earlier time than the last, NaN = none
    total = np.zeros(n_slots)
    low = np.zeros(n_slots)
    high = np.zeros(n_slots)
    dated = np.zeros(n_slots, dtype=np.int64)  # dated events with a value, for the slope
    origin = np.zeros(n_slots, dtype=np.int64)
    mean_t = np.zeros(n_slots)
    mean_v = np.zeros(n_slots)
    spread_t = np.zeros(n_slots)
    spread_tv = np.zeros(n_slots)

    for r in range(n_rows):
        now = prediction_time[r]
        count[:] = 0
        measured[:] = 0
        dated[:] = 0
        for e in range(start[subject[r]], start[subject[r] + 1]):
            t = time[e]
            if t > now:
                break
            c = code[e]
            visible = False
            for i in range(slot_start[c], slot_start[c + 1]):
                z = slots[i]
                if window[z] >= 0 and t != _STATIC and t <= now - window[z]:
                    continue
                visible = True
                if count[z] == 0:
                    newest[z], oldest[z] = _STATIC, _STATIC
                count[z] += 1
                if t != _STATIC:
                    newest[z] = t
                    if oldest[z] == _STATIC:
                        oldest[z] = t
                value = numeric_value[e]
                y = category[z]
                if y >= 0:
                    found = NO_CATEGORY
                    if by_code[y]:
                        found = code_category[y, c]
                    elif text[e] >= 0:
                        found = text_category[y, text[e]]
                    if found == NO_CATEGORY:
                        continue
                    value = float(found) if found >= 0 else np.nan
                elif np.isnan(value):
                    continue
                # From here on the event has a value; an unknown category takes the last one's place, as missing.
                measured[z] += 1
                if measured[z] == 1:
                    before[z] = np.nan
                elif t > last_time[z]:
                    before[z] = last[z]
                last[z], last_time[z] = value, t
                if y >= 0:
                    continue
                if measured[z] == 1:
                    total[z], low[z], high[z] = value, value, value
                else:
                    total[z] += value
                    low[z], high[z] = min(low[z], value), max(high[z], value)
                if t == _STATIC:
                    continue
                dated[z] += 1
                if dated[z] == 1:
                    origin[z], mean_t[z], mean_v[z], spread_t[z], spread_tv[z] = t, 0.0, value, 0.0, 0.0
                else:
                    # Running means (Welford): sums of squares would lose a day among decades.
                    years = (t - origin[z]) / _YEAR
                    step = years - mean_t[z]
                    mean_t[z] += step / dated[z]
                    mean_v[z] += (value - mean_v[z]) / dated[z]
                    spread_t[z] += step * (years - mean_t[z])
                    spread_tv[z] += step * (value - mean_v[z])
            if visible:
                used[r] += 1
                if t != _STATIC and c != birth:
                    latest[r] = t

        for f in range(n_columns):
            z, what = column_slot[f], column_aggregate[f]
            if z < 0:
                continue
            if what in (_COUNT, _EVER):
                values[r, f] = count[z] if what == _COUNT else min(count[z], 1)
                if count[z] > 0:
                    times[r, f] = newest[z]
            elif what in (_AGE_DAYS, _FIRST_AGE, _SPAN, _AGE_YEARS):
                if count[z] > 0 and newest[z] != _STATIC:
                    times[r, f] = newest[z]
                    if what == _AGE_DAYS:
                        values[r, f] = (now - newest[z]) / _DAY
                    elif what == _SPAN:
                        values[r, f] = (newest[z] - oldest[z]) / _DAY
                    else:
                        times[r, f] = oldest[z]
                        values[r, f] = (now - oldest[z]) / (_DAY if what == _FIRST_AGE else _YEAR)
            elif what == _SLOPE:
                if dated[z] >= 2 and spread_t[z] > 0:
                    values[r, f], times[r, f] = spread_tv[z] / spread_t[z], last_time[z]
            elif measured[z] > 0:
                value = last[z]
                if what == _MEAN:
                    value = total[z] / measured[z]
                elif what == _MIN:
                    value = low[z]
                elif what == _MAX:
                    value = high[z]
                elif what == _CHANGE:
                    value = last[z] - before[z]
                if not np.isnan(value):
                    values[r, f], times[r, f] = value, last_time[z]
    return values, times, used, latest
