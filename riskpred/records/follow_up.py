"""The loops behind cohort.py: over each row's events once, what held at prediction_time and what came first after.

Compiled; arrays in, arrays out. All times are UTC microseconds, STATIC = undated.
"""

import numpy as np
from numpy.typing import NDArray

from riskpred.records.chunk import DAY_US, STATIC
from riskpred.records.compiled import compiled

_STATIC = np.int64(STATIC)
_DAY = np.int64(DAY_US)
_NEVER: np.int64 = np.int64(np.iinfo(np.int64).max)

OK, NOT_ENTERED, DEAD, LEFT, PREVALENT, AGE = 0, 1, 2, 3, 4, 5
"""Index into cohort.REASONS."""


@compiled
def first_time(start: NDArray[np.int64], time: NDArray[np.int64], marked: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Time of each subject's first marked event, STATIC where there is none. Shape: (S + 1,), (E,), (E,) -> (S,)."""
    first = np.full(len(start) - 1, _STATIC, dtype=np.int64)
    for s in range(len(start) - 1):
        for e in range(start[s], start[s + 1]):
            if marked[e]:
                first[s] = time[e]
                break
    return first


ENTRY, LEAVING, DEATH, BIRTH = 1, 2, 4, 8
"""Bits of what a code means to the cohort; each outcome's labels have a further bit, from FIRST_LABEL on."""
FIRST_LABEL = 4
MOST_OUTCOMES = 59


@compiled
def first_dated(
    start: NDArray[np.int64], time: NDArray[np.int64], code: NDArray[np.int32], wanted: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Time of each subject's first dated event of a wanted code, STATIC where there is none.

    Shape: (S + 1,), (E,), (E,), (C,) -> (S,).
    """
    first = np.full(len(start) - 1, _STATIC, dtype=np.int64)
    for s in range(len(start) - 1):
        for e in range(start[s], start[s + 1]):
            if wanted[code[e]] and time[e] != _STATIC:
                first[s] = time[e]
                break
    return first


@compiled
def judge(
    start: NDArray[np.int64],
    time: NDArray[np.int64],
    code: NDArray[np.int32],
    numeric_value: NDArray[np.float64],
    text: NDArray[np.int32],
    meaning: NDArray[np.int64],
    first_is_entry: bool,
    needs_value: NDArray[np.bool_],
    least: NDArray[np.float64],
    most: NDArray[np.float64],
    needs_text: NDArray[np.bool_],
    accepted: NDArray[np.bool_],
    group_of: NDArray[np.int64],
    cause_of: NDArray[np.int64],
    known_at_once: NDArray[np.bool_],
    ordered: NDArray[np.bool_],
    causes: NDArray[np.int64],
    lookback: NDArray[np.int64],
    absent_is_no: NDArray[np.bool_],
    subject: NDArray[np.int64],
    prediction_time: NDArray[np.int64],
    data_until: int,
    by_age: bool,
    age_low: int,
    age_high: int,
) -> tuple[NDArray[np.int8], NDArray[np.float64], NDArray[np.int8], NDArray[np.int64], NDArray[np.int64]]:
    """Reason, duration, cause, entry time and valid_until of each row.

    Args:
        start, time, code, numeric_value, text: of the chunk.
        meaning: (C,) bits of what each code means: ENTRY, LEAVING, DEATH, BIRTH, and 1 << FIRST_LABEL + k for a label
            of outcome k.   first_is_entry: no code is an entry; the first dated event other than a birth is.
        needs_value, least, most: (K,) whether an outcome's label needs a number, and which meet its rule.
        needs_text, accepted: (K,), (K, T) whether it needs a text, and which meet its rule.
        group_of, cause_of, lookback, absent_is_no: (K,) of each outcome.
        known_at_once, ordered, causes: (G,) of each risk group; causes counts death, which is the last.
        subject, prediction_time: (R,).   age_low, age_high: microseconds since birth, inclusive, read if by_age.

    Shape: (G, R) int8, (G, R) float64 days, (G, R) int8, (R,), (R,).
    """
    rows, groups, outcomes = len(subject), len(causes), len(group_of)
    reason = np.zeros((groups, rows), dtype=np.int8)
    duration = np.full((groups, rows), np.nan)
    cause = np.full((groups, rows), -1, dtype=np.int8)
    entry_time = np.full(rows, _STATIC, dtype=np.int64)
    valid_until = np.full(rows, _STATIC, dtype=np.int64)
    prevalent = np.zeros(groups, dtype=np.bool_)
    event_at = np.zeros(groups, dtype=np.int64)
    event_cause = np.zeros(groups, dtype=np.int64)
    answer = np.zeros(groups, dtype=np.int64)
    for r in range(rows):
        now = prediction_time[r]
        day = now // _DAY * _DAY
        entered, left_once, dead, birth_known = False, False, False, False
        last_entry, last_leaving, birth_time, first = _STATIC, _STATIC, _STATIC, _STATIC
        death_at, leaving_at, change = _NEVER, _NEVER, _NEVER
        prevalent[:] = False
        event_at[:] = _NEVER
        event_cause[:] = 0
        answer[:] = -1
        for e in range(start[subject[r]], start[subject[r] + 1]):
            t, means = time[e], meaning[code[e]]
            if first_is_entry and t != _STATIC and not means & BIRTH and (first == _STATIC or t == first):
                first = t
                means |= ENTRY
            if means == 0:
                continue
            if t <= now:
                if means & ENTRY:
                    if not entered:
                        entry_time[r] = t
                    entered, last_entry = True, t
                if means & LEAVING:
                    left_once, last_leaving = True, t
                dead = dead or means & DEATH != 0
                if means & BIRTH and not birth_known and t != _STATIC:
                    birth_known, birth_time = True, t
            else:
                if means & DEATH and death_at == _NEVER:
                    death_at = t
                if means & LEAVING and leaving_at == _NEVER:
                    leaving_at = t
                if means & (ENTRY | LEAVING | DEATH) or (by_age and means & BIRTH):
                    change = min(change, t)
            if means >> FIRST_LABEL == 0:
                continue
            for k in range(outcomes):
                if not means >> (FIRST_LABEL + k) & 1:
                    continue
                value = numeric_value[e]
                if (needs_value[k] and np.isnan(value)) or (needs_text[k] and text[e] < 0):
                    continue  # without what its rule judges it was not measured
                met = (not needs_value[k] or least[k] <= value <= most[k]) and (
                    not needs_text[k] or accepted[k, text[e]]
                )
                g = group_of[k]
                if known_at_once[g]:
                    if t == _STATIC or (day - lookback[k] <= t < day + _DAY):
                        if not met:
                            answer[g] = max(answer[g], 0)
                        elif ordered[g] or answer[g] <= 0:
                            answer[g] = max(answer[g], cause_of[k])  # of grades the highest
                        else:
                            answer[g] = min(answer[g], cause_of[k])  # of classes the first in the file
                elif met:
                    if t <= now:
                        prevalent[g] = True
                    else:
                        change = min(change, t)
                        if t < event_at[g] or (t == event_at[g] and cause_of[k] < event_cause[g]):
                            event_at[g], event_cause[g] = t, cause_of[k]

        # Undated entry and undated leaving tie, as do dated ones of one moment: leaving comes last.
        left = left_once and last_entry <= last_leaving
        right_age = not by_age or (birth_known and age_low <= now - birth_time <= age_high)
        if by_age and birth_known:
            # A limit that is not given is STATIC or the greatest integer: compare before adding, or it would overflow.
            if age_low != _STATIC and birth_time + age_low > now:
                change = min(change, birth_time + age_low)
            if age_high != _NEVER and birth_time + age_high >= now:
                change = min(change, birth_time + age_high + 1)
        # Who entered and died stays so; who died without an entry may yet be found to have entered.
        if not (dead and entered) and change != _NEVER:
            valid_until[r] = change

        end = leaving_at if leaving_at < data_until else data_until
        for g in range(groups):
            if not entered:
                reason[g, r] = NOT_ENTERED
            elif dead:
                reason[g, r] = DEAD
            elif left:
                reason[g, r] = LEFT
            elif prevalent[g]:
                reason[g, r] = PREVALENT
            elif not right_age:
                reason[g, r] = AGE
            elif known_at_once[g]:
                k = 0
                while group_of[k] != g:
                    k += 1
                if answer[g] < 0 and absent_is_no[k] and day <= data_until:
                    answer[g] = 0
                if answer[g] >= 0:
                    cause[g, r], duration[g, r] = answer[g], 0.0
            else:
                until, what = max(end, now), 0
                if event_at[g] <= death_at and event_at[g] <= end:
                    until, what = event_at[g], event_cause[g]
                elif death_at <= end:
                    until, what = death_at, causes[g]
                cause[g, r], duration[g, r] = what, (until - now) / _DAY
    return reason, duration, cause, entry_time, valid_until
