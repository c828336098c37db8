"""A chunk's events up to prediction_time become the columns of a tabular modality."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from riskpred.features.batch import MISSING, USED, Receipt, TabularInput
from riskpred.features.plan import BUILTIN, FeatureColumn, TabularPlan
from riskpred.features.windows import AGGREGATES, NO_CATEGORY, UNKNOWN_CATEGORY, aggregate_rows
from riskpred.records.chunk import DAY_US, STATIC, SubjectChunk
from riskpred.records.cohort import BIRTH_CODE, CohortRows
from riskpred.records.compiled import code_mask


@dataclass(frozen=True)
class Slots:
    """A plan met with a dictionary of codes: which events feed which column. Shapes: features/windows.py."""

    start: NDArray[np.int64]
    slots: NDArray[np.int64]
    window: NDArray[np.int64]
    category: NDArray[np.int64]
    lookups: tuple[tuple[str, tuple[str, ...]], ...]
    by_code: NDArray[np.bool_]
    code_category: NDArray[np.int64]
    column_slot: NDArray[np.int64]
    column_aggregate: NDArray[np.int64]


def tabular(chunk: SubjectChunk, rows: CohortRows, plan: TabularPlan) -> tuple[TabularInput, Receipt]:
    """Values of every column at every row, and the receipt; the modality is used where a value is not missing.

    days_since_entry counts from rows.entry_time; it is missing where the entry is undated.
    """
    slots = slots_of(plan, chunk.codes)
    values, times, n, latest = aggregate_rows(
        chunk.start,
        chunk.time,
        chunk.numeric_value,
        chunk.code,
        chunk.text,
        slots.start,
        slots.slots,
        slots.window,
        slots.category,
        slots.by_code,
        slots.code_category,
        _text_categories(chunk.texts, slots),
        slots.column_slot,
        slots.column_aggregate,
        rows.subject,
        rows.prediction_time,
        chunk.codes.index(BIRTH_CODE) if BIRTH_CODE in chunk.codes else -1,
    )
    for f, column in enumerate(plan.columns):
        if column.code == "days_since_entry" and column.aggregate == BUILTIN:
            dated = rows.entry_time != STATIC
            since = (rows.prediction_time[dated] - rows.entry_time[dated]) / DAY_US
            values[dated, f], times[:, f] = since, rows.entry_time
    missing = np.isnan(values)
    used: NDArray[np.bool_] = np.logical_not(missing.all(axis=1))
    code = np.where(used, USED, MISSING).astype(np.int8)
    receipt = Receipt(code, n, latest, missing, tuple(column.name for column in plan.columns))
    return TabularInput(values, times), receipt


@lru_cache(maxsize=16)
def slots_of(plan: TabularPlan, codes: tuple[str, ...]) -> Slots:
    """Slots of a plan for one dictionary of codes; found once and kept."""
    keys: dict[tuple[str, int | None, tuple[str, ...]], int] = {}
    lookups: dict[tuple[str, tuple[str, ...]], int] = {}
    column_slot = [_slot(column, keys) for column in plan.columns]
    category = []
    for code, _, vocabulary in keys:
        category.append(lookups.setdefault((code, vocabulary), len(lookups)) if vocabulary else -1)
    feeds: list[list[int]] = [[] for _ in codes]
    for (pattern, _, _), slot in keys.items():
        for c in np.flatnonzero(code_mask(codes, (pattern,))):
            feeds[c].append(slot)
    code_category = np.full((len(lookups), len(codes)), NO_CATEGORY, dtype=np.int64)
    for (pattern, vocabulary), y in lookups.items():
        if pattern.endswith("*"):
            ends = [code.removeprefix(pattern[:-1]) if code.startswith(pattern[:-1]) else "" for code in codes]
            code_category[y] = _places(ends, vocabulary)
    return Slots(
        start=np.cumsum([0] + [len(feed) for feed in feeds]).astype(np.int64),
        slots=np.array([slot for feed in feeds for slot in feed], dtype=np.int64),
        window=np.array([-1 if days is None else days * DAY_US for _, days, _ in keys], dtype=np.int64),
        category=np.array(category, dtype=np.int64),
        lookups=tuple(lookups),
        by_code=np.array([pattern.endswith("*") for pattern, _ in lookups], dtype=np.bool_),
        code_category=code_category,
        column_slot=np.array(column_slot, dtype=np.int64),
        column_aggregate=np.array(
            [AGGREGATES.index(column.code if column.aggregate == BUILTIN else column.aggregate) if slot >= 0 else -1
             for column, slot in zip(plan.columns, column_slot, strict=True)],
            dtype=np.int64,
        ),
    )  # fmt: skip


def _slot(column: FeatureColumn, keys: dict[tuple[str, int | None, tuple[str, ...]], int]) -> int:
    """The column's slot, made when it is new; -1 where no event is read."""
    if column.aggregate == BUILTIN and column.code == "days_since_entry":
        return -1
    code = BIRTH_CODE if column.aggregate == BUILTIN else column.code
    return keys.setdefault((code, column.window_days, column.vocabulary), len(keys))


def _text_categories(texts: tuple[str, ...], slots: Slots) -> NDArray[np.int64]:
    """Category of each text of the chunk in each lookup. Shape: (Y, T)."""
    found = np.full((len(slots.lookups), len(texts)), NO_CATEGORY, dtype=np.int64)
    for y, (pattern, vocabulary) in enumerate(slots.lookups):
        if not pattern.endswith("*"):
            found[y] = _places(texts, vocabulary)
    return found


def _places(texts: tuple[str, ...] | list[str], vocabulary: tuple[str, ...]) -> list[int]:
    place = {text: i for i, text in enumerate(vocabulary)}
    return [place.get(text, UNKNOWN_CATEGORY) if text else NO_CATEGORY for text in texts]
