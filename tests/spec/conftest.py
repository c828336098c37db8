"""Reads the small tables that the spec tests are written in: one event a line, as a clinician would jot them down."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from riskpred.records.chunk import DAY_US, STATIC, SubjectChunk


def moment(text: str) -> int:
    """UTC microseconds of `2020-03-01`, `2020-03-01 10:30`, `2020-03-01 end` (its last moment), `-` (undated)."""
    if text == "-":
        return int(STATIC)
    day, _, clock = text.partition(" ")
    start = datetime.fromisoformat(day).replace(tzinfo=UTC)
    if clock == "end":
        return (start - datetime(1970, 1, 1, tzinfo=UTC)).days * DAY_US + DAY_US - 1
    hours, _, minutes = clock.partition(":")
    after = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    return int((start + after - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))


def records(table: str) -> SubjectChunk:
    """Events `subject | when | code | value`, value a number, "a text" or nothing, in any order."""
    rows = []
    for line in filter(None, (line.strip() for line in table.splitlines())):
        subject, when, code, *value = (cell.strip() for cell in line.split("|"))
        given = value[0] if value else ""
        text = given.strip('"') if given.startswith('"') else None
        number = float(given) if given and text is None else np.nan
        rows.append((int(subject), moment(when), code, number, text))
    codes = tuple(sorted({code for _, _, code, _, _ in rows}))
    texts = tuple(sorted({text for *_, text in rows if text is not None}))
    rows.sort(key=lambda row: (row[0], row[1], row[2], np.nan_to_num(row[3], nan=np.inf), row[4] or ""))
    ids = np.array(sorted({row[0] for row in rows}), dtype=np.int64)
    subject_of = np.array([row[0] for row in rows], dtype=np.int64)
    return SubjectChunk(
        subject_id=ids,
        start=np.searchsorted(subject_of, [*ids, ids[-1] + 1]).astype(np.int64),
        time=np.array([row[1] for row in rows], dtype=np.int64),
        code=np.array([codes.index(row[2]) for row in rows], dtype=np.int32),
        numeric_value=np.array([row[3] for row in rows]),
        text=np.array([-1 if row[4] is None else texts.index(row[4]) for row in rows], dtype=np.int32),
        codes=codes,
        texts=texts,
        units=(None,) * len(codes),
        images=((),) * len(ids),
    )


@pytest.fixture(scope="session", name="records")
def _records() -> Callable[[str], SubjectChunk]:
    return records


@pytest.fixture(scope="session", name="moment")
def _moment() -> Callable[[str], int]:
    return moment
