"""times.py: timestamps, days, offsets, zones."""

from datetime import datetime
from typing import Any

import polars as pl
import pytest

from riskpred.config.ingest import TimeSpec
from riskpred.records.ingest.times import ANCHOR, local_microseconds, microseconds, read_time


def read(spec: dict[str, Any], columns: dict[str, Any], kind: str = "measurement", zone: str = "UTC") -> list[Any]:
    """(time as ISO text or None, reason or None) of each row."""
    frame = pl.DataFrame(columns)
    known = read_time(TimeSpec.model_validate(spec, strict=False), kind, zone, frame.schema)  # type: ignore[arg-type]
    found = frame.select(known.time.alias("time"), known.bad.alias("bad"))
    return [(None if time is None else time.isoformat(), bad) for time, bad in found.iter_rows()]


LATE = "23:59:59.999999"


@pytest.mark.parametrize(
    ("text", "measured", "diagnosed"),
    [
        ("2020-05-01", "2020-05-01T00:00:00", f"2020-05-01T{LATE}"),
        (" 2020-05-01 ", "2020-05-01T00:00:00", f"2020-05-01T{LATE}"),
        ("2020-05-01 00:00", "2020-05-01T00:00:00", "2020-05-01T00:00:00"),
        ("2020-05-01T13:45:10.5", "2020-05-01T13:45:10.500000", "2020-05-01T13:45:10.500000"),
        ("2020-05-01T13:45:10Z", "2020-05-01T13:45:10", "2020-05-01T13:45:10"),
        ("2020-05-01T13:45:10+02:00", "2020-05-01T11:45:10", "2020-05-01T11:45:10"),
        ("2020-05-01 13:45-0330", "2020-05-01T17:15:00", "2020-05-01T17:15:00"),
    ],
)
def test_iso_text_and_the_rule_for_days(text: str, measured: str, diagnosed: str) -> None:
    assert read({"column": "t"}, {"t": [text]}) == [(measured, None)]
    for kind in ("diagnosis", "death", "leaving"):
        assert read({"column": "t"}, {"t": [text]}, kind) == [(diagnosed, None)]


@pytest.mark.parametrize("text", ["01.05.2020", "2020-13-01", "2020-02-30", "yesterday", "2020", "2020-05-01 25:00"])
def test_text_that_is_no_time(text: str) -> None:
    assert read({"column": "t"}, {"t": [text]}) == [(None, "not_a_time")]


def test_no_time_and_static() -> None:
    assert read({"column": "t"}, {"t": ["", None]}) == [(None, "no_time")] * 2
    assert read({"static": True}, {"t": ["x"]}) == [(None, None)]


@pytest.mark.parametrize(
    ("format", "text", "expected"),
    [
        ("%d.%m.%Y", "01.05.2020", f"2020-05-01T{LATE}"),
        ("%d.%m.%Y %H:%M", "01.05.2020 13:45", "2020-05-01T13:45:00"),
        ("%Y-%m-%dT%H:%M:%S%z", "2020-05-01T13:45:00+0200", "2020-05-01T11:45:00"),
    ],
)
def test_stated_formats(format: str, text: str, expected: str) -> None:
    assert read({"column": "t", "format": format}, {"t": [text, "no"]}, "diagnosis") == [
        (expected, None),
        (None, "not_a_time"),
    ]


def test_typed_columns() -> None:
    moment = datetime(2020, 5, 1, 13, 45)
    assert read({"column": "t"}, {"t": [moment.date()]}, "diagnosis") == [(f"2020-05-01T{LATE}", None)]
    assert read({"column": "t"}, {"t": [moment]}, "diagnosis") == [("2020-05-01T13:45:00", None)]
    aware = pl.Series([moment]).dt.replace_time_zone("Europe/Berlin")
    assert read({"column": "t"}, {"t": aware}, zone="Asia/Tokyo") == [("2020-05-01T11:45:00", None)]
    assert read({"column": "t"}, {"t": [20200501]}) == [(None, "not_a_time")]


def test_local_times_become_utc() -> None:
    cases = {
        "2020-01-01": "2019-12-31T23:00:00",
        "2020-07-01 12:00": "2020-07-01T10:00:00",
        "2020-10-25 02:30": "2020-10-25T01:30:00",  # shown twice: the later moment, never visible too early
        "2020-03-29 02:30": "2020-03-29T01:30:00",  # skipped: one hour later, 03:30 summer time
    }
    found = read({"column": "t"}, {"t": list(cases)}, zone="Europe/Berlin")
    assert found == [(utc, None) for utc in cases.values()]
    assert read({"column": "t"}, {"t": ["2020-07-01"]}, "death", "Europe/Berlin") == [
        ("2020-07-01T21:59:59.999999", None)
    ]


def at(anchor: datetime | None, **columns: Any) -> dict[str, Any]:
    return {ANCHOR: pl.Series([anchor], dtype=pl.Datetime("us")), **columns}


NOON = datetime(2020, 1, 1, 12, 0)


@pytest.mark.parametrize(
    ("offset", "unit", "columns", "expected"),
    [
        (["n"], "days", {"n": [3]}, "2020-01-04T00:00:00"),
        (["-n"], "days", {"n": ["3"]}, "2019-12-29T00:00:00"),
        (["n", "-m", 1.5], "days", {"n": [3.0], "m": [1.0]}, "2020-01-05T00:00:00"),
        (["n"], "months", {"n": [12]}, "2020-12-31T00:00:00"),
        (["-n"], "years", {"n": [20]}, "2000-01-01T00:00:00"),
        (["n"], "hours", {"n": [1.5]}, "2020-01-01T13:30:00"),
        ([-22], "hours", {"n": [0]}, "2019-12-31T14:00:00"),
        (["n"], "minutes", {"n": ["0.5"]}, "2020-01-01T12:00:30"),
        (["anchor_row.n", "-n"], "days", {"anchor_row.n": [5.0], "n": [2]}, "2020-01-04T00:00:00"),
    ],
)
def test_offsets_from_an_anchor(offset: list[Any], unit: str, columns: dict[str, Any], expected: str) -> None:
    assert read({"offset": offset, "unit": unit}, at(NOON, **columns)) == [(expected, None)]


def test_an_offset_in_days_is_known_to_the_day() -> None:
    assert read({"offset": ["n"]}, at(NOON, n=[1]), "death") == [(f"2020-01-02T{LATE}", None)]
    hours = read({"offset": ["n"], "unit": "hours"}, at(NOON, n=[1]), "death")
    assert hours == [("2020-01-01T13:00:00", None)]


@pytest.mark.parametrize(
    ("anchor", "columns", "reason"),
    [
        (NOON, {"n": [None]}, "no_time"),
        (NOON, {"n": [" "]}, "no_time"),
        (NOON, {"n": ["soon"]}, "not_a_time"),
        (NOON, {"n": [float("inf")]}, "not_a_time"),
        (NOON, {"n": [1e9]}, "not_a_time"),
        (None, {"n": [1]}, "no_anchor"),
    ],
)
def test_offsets_that_give_no_time(anchor: datetime | None, columns: dict[str, Any], reason: str) -> None:
    assert read({"offset": ["n"]}, at(anchor, **columns)) == [(None, reason)]


def test_a_subject_without_an_anchor_row_has_no_day_0() -> None:
    columns = {"anchor_row.n": pl.Series([None], dtype=pl.Float64)}
    assert read({"offset": ["anchor_row.n"]}, at(NOON, **columns)) == [(None, "no_anchor")]


def test_moments_of_the_configuration() -> None:
    moment = datetime(2020, 7, 1)
    assert microseconds(moment, "Europe/Berlin") == microseconds(moment) - 2 * 3_600_000_000  # type: ignore[operator]
    assert local_microseconds(moment, "Europe/Berlin") == microseconds(moment)
    assert microseconds(None) is None
