"""When, without new data, what a row reads will change: an event becomes visible, leaves a window, or turns stale."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from riskpred.features.image import is_stale, visible_images
from riskpred.features.plan import BUILTIN, FeaturePlan, ImagePlan, SeriesPlan, TabularPlan
from riskpred.records.chunk import DAY_US, STATIC, SubjectChunk
from riskpred.records.cohort import BIRTH_CODE, CohortRows
from riskpred.records.compiled import code_mask, compiled

_STATIC = np.int64(STATIC)
_NEVER = np.int64(np.iinfo(np.int64).max)


def next_change(chunk: SubjectChunk, rows: CohortRows, plan: FeaturePlan) -> NDArray[np.int64]:
    """The first moment after prediction_time at which a row's inputs may differ, nothing new being recorded.

    That is when an already recorded event or image of the plan becomes visible, leaves one of its windows, or (a
    series' or image's latest) becomes older than stale_after_days. Ages (age_years, age_days, ...) grow all the time
    and do not count; max_score_age_days bounds them.

    Shape: (R,) int64 UTC microseconds, STATIC = never.
    """
    watched = _watched(plan, chunk.codes)
    change = next_event_change(
        chunk.start, chunk.time, chunk.numeric_value, chunk.code, *watched, rows.subject, rows.prediction_time
    )
    for modality in plan.modalities.values():
        if isinstance(modality, ImagePlan):
            for r, (subject, now) in enumerate(zip(rows.subject.tolist(), rows.prediction_time.tolist(), strict=True)):
                moments = _image_moments(chunk, subject, modality, now)
                change[r] = min([int(change[r]), *moments])
    change[change == _NEVER] = STATIC
    return change


def valid_until(chunk: SubjectChunk, rows: CohortRows, plan: FeaturePlan) -> NDArray[np.int64]:
    """The earlier of next_change and of the cohort's own valid_until. Shape: (R,), STATIC = never."""
    return earlier(next_change(chunk, rows, plan), rows.valid_until)


def earlier(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """The earlier of two moments of each row, STATIC = never. Shape: (R,)."""
    none = (one == STATIC) | (other == STATIC)
    return np.where(none, np.maximum(one, other), np.minimum(one, other))


def _image_moments(chunk: SubjectChunk, subject: int, plan: ImagePlan, now: int) -> list[int]:
    later = [row.time for row in chunk.images[subject] if row.image_type in plan.image_types and row.time > now]
    moments = later[:1]
    for row in visible_images(chunk.images[subject], plan, now):
        if row.time == STATIC:
            continue
        if plan.window_days is not None:
            moments.append(row.time + plan.window_days * DAY_US)
        if plan.stale_after_days is not None and not is_stale(row, plan, now):
            moments.append(row.time + plan.stale_after_days * DAY_US + 1)
    return moments


_Watched = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]


def _watched(plan: FeaturePlan, codes: tuple[str, ...]) -> _Watched:
    """Which codes are in which windows: (C + 1,) starts into (n,) watches; (W,) window, (W,) stale, (W,) is a series.

    Microseconds, -1 = none.
    """
    watches: dict[tuple[str, int | None, int | None, bool], int] = {}
    for place, modality in enumerate(plan.modalities.values()):
        if isinstance(modality, TabularPlan):
            for column in modality.columns:
                code = column.code
                if column.aggregate == BUILTIN:
                    code = BIRTH_CODE if code == "age_years" else ""
                watches.setdefault((code, column.window_days, None, False), len(watches))
        elif isinstance(modality, SeriesPlan):
            # The latest step of a whole series turns stale, whichever channel it is of: one watch for all channels.
            watches[f"{place}", modality.window_days, modality.stale_after_days, True] = len(watches)
    return _compiled_watches(tuple(watches), _series_codes(plan), codes)


def _series_codes(plan: FeaturePlan) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple(
        (f"{place}", tuple(channel.code for channel in modality.channels))
        for place, modality in enumerate(plan.modalities.values())
        if isinstance(modality, SeriesPlan)
    )


@lru_cache(maxsize=16)
def _compiled_watches(
    watches: tuple[tuple[str, int | None, int | None, bool], ...],
    series_codes: tuple[tuple[str, tuple[str, ...]], ...],
    codes: tuple[str, ...],
) -> _Watched:
    of_series = dict(series_codes)
    feeds: list[list[int]] = [[] for _ in codes]
    for w, (code, _, _, is_series) in enumerate(watches):
        for c in np.flatnonzero(code_mask(codes, of_series[code] if is_series else (code,))):
            feeds[c].append(w)
    return (
        np.cumsum([0] + [len(feed) for feed in feeds]).astype(np.int64),
        np.array([w for feed in feeds for w in feed], dtype=np.int64),
        np.array([-1 if days is None else days * DAY_US for _, days, _, _ in watches], dtype=np.int64),
        np.array([-1 if days is None else days * DAY_US for _, _, days, _ in watches], dtype=np.int64),
        np.array([is_series for _, _, _, is_series in watches], dtype=np.bool_),
    )


@compiled
def next_event_change(
    start: NDArray[np.int64],
    time: NDArray[np.int64],
    numeric_value: NDArray[np.float64],
    code: NDArray[np.int32],
    watch_start: NDArray[np.int64],
    watches: NDArray[np.int64],
    window: NDArray[np.int64],
    stale: NDArray[np.int64],
    is_series: NDArray[np.bool_],
    subject: NDArray[np.int64],
    prediction_time: NDArray[np.int64],
) -> NDArray[np.int64]:
    """First later moment at which a watched event becomes visible, leaves a window or turns stale. Shape: (B,)."""
    change = np.full(len(subject), _NEVER, dtype=np.int64)
    newest = np.full(len(window), _STATIC, dtype=np.int64)
    for r in range(len(subject)):
        now = prediction_time[r]
        newest[:] = _STATIC
        for e in range(start[subject[r]], start[subject[r] + 1]):
            t, c = time[e], code[e]
            if t == _STATIC or watch_start[c] == watch_start[c + 1]:
                continue
            if t > now:
                change[r] = min(change[r], t)
                break
            for i in range(watch_start[c], watch_start[c + 1]):
                w = watches[i]
                if window[w] >= 0 and t + window[w] > now:
                    change[r] = min(change[r], t + window[w])
                if is_series[w] and not np.isnan(numeric_value[e]):
                    newest[w] = t
        for w in range(len(window)):
            if stale[w] >= 0 and newest[w] != _STATIC and newest[w] + stale[w] + 1 > now:
                change[r] = min(change[r], newest[w] + stale[w] + 1)
    return change
