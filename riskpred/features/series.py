"""A chunk's events up to prediction_time become the irregular steps of a series modality."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from riskpred.features.batch import MISSING, STALE, USED, Receipt, SeriesInput
from riskpred.features.plan import SeriesPlan
from riskpred.features.steps import count_steps, fill_steps
from riskpred.records.chunk import DAY_US, SubjectChunk
from riskpred.records.cohort import CohortRows
from riskpred.records.compiled import code_mask


def series(chunk: SubjectChunk, rows: CohortRows, plan: SeriesPlan) -> tuple[SeriesInput, Receipt]:
    """Steps of every row, and the receipt.

    A step is a distinct time of dated numeric events of the channels in the window; the latest max_steps are kept. A
    row whose latest step is older than stale_after_days has none: the receipt says stale. n counts measurements in the
    window. missing_features names channels that the kept steps never measure, and, as `CODE: 3 not numeric`, events
    that could not be read as a number.
    """
    start, channels = channels_of(plan, chunk.codes)
    window = -1 if plan.window_days is None else plan.window_days * DAY_US
    place = (
        *(chunk.start, chunk.time, chunk.numeric_value, chunk.code),
        *(start, channels, len(plan.channels), window, rows.subject, rows.prediction_time),
    )
    steps, n, latest, not_numeric = count_steps(*place)
    kept = np.minimum(steps, plan.max_steps)
    stale = np.zeros(len(rows), dtype=np.bool_)
    if plan.stale_after_days is not None:
        stale[steps > 0] = rows.prediction_time[steps > 0] - latest[steps > 0] > plan.stale_after_days * DAY_US
    kept[stale] = 0
    step_start = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
    times, values, there = fill_steps(*place, steps, step_start)
    notes = {
        r: tuple(
            f"{channel.code}: {count} not numeric"
            for channel, count in zip(plan.channels, not_numeric[r].tolist(), strict=True)
            if count
        )
        for r in np.flatnonzero(not_numeric.any(axis=1)).tolist()
    }
    code = np.where(stale, STALE, np.where(kept > 0, USED, MISSING)).astype(np.int8)
    receipt = Receipt(code, n, latest, ~there, tuple(channel.code for channel in plan.channels), notes)
    return SeriesInput(step_start, times, values), receipt


@lru_cache(maxsize=16)
def channels_of(plan: SeriesPlan, codes: tuple[str, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which channels each code of a dictionary feeds, as (C + 1,) starts into (n,) channels; found once and kept."""
    feeds: list[list[int]] = [[] for _ in codes]
    for i, channel in enumerate(plan.channels):
        for c in np.flatnonzero(code_mask(codes, (channel.code,))):
            feeds[c].append(i)
    start = np.cumsum([0] + [len(feed) for feed in feeds]).astype(np.int64)
    return start, np.array([i for feed in feeds for i in feed], dtype=np.int64)
