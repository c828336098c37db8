"""Reads when a fact was known: timestamps, dates, offsets from an anchor; local time -> UTC; the rule for days.

A local time that the clocks show twice is read as the later of the two moments (nothing is visible before it was
known); one that they skip is read as one hour later. Text without a time of day, a DATE column, and an offset in days,
months or years are known to the day; a timestamp is not, even one at midnight.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import polars as pl

from riskpred.config.ingest import Kind, TimeSpec
from riskpred.records.ingest.values import empty_of, number_of, text_of

ANCHOR = "#anchor"
"""Column with each row's day 0, local time without zone."""

ANCHOR_ROW = "anchor_row."
_US = pl.Datetime("us")
_NULL_TIME = pl.lit(None, dtype=_US)
_ISO = r"^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2})(:\d{2}(?:\.\d{1,9})?)? ?(Z|[+-]\d{2}:?\d{2})?)?$"
_TIME_DIRECTIVES = re.compile(r"%[HIklMSTRrXcsfpP+]|%\.")
_DAYS = {"days": 1.0, "months": 30.4375, "years": 365.25}
_MINUTES = {"minutes": 1.0, "hours": 60.0}
_FAR_DAYS = 1_000_000.0
_LATE = ("diagnosis", "death", "leaving")


@dataclass(frozen=True)
class WhenKnown:
    """Expressions for one mapping's time (UTC, null = static or bad).

    empty: the source says no time.   bad: a reason code, null where the time can be used.
    """

    time: pl.Expr
    empty: pl.Expr
    bad: pl.Expr


def read_time(spec: TimeSpec, kind: Kind, zone: str, schema: pl.Schema) -> WhenKnown:
    """Expressions that read the time of a fact of this kind."""
    late = kind in _LATE
    if spec.static:
        return WhenKnown(_NULL_TIME, pl.lit(False), pl.lit(None, dtype=pl.String))
    if spec.column is not None:
        empty = empty_of(spec.column, schema[spec.column])
        time = parsed(spec.column, schema[spec.column], spec.format, zone, late)
        bad = pl.when(empty).then(pl.lit("no_time")).when(time.is_null()).then(pl.lit("not_a_time"))
        return WhenKnown(time, empty, bad)
    assert spec.offset is not None
    return _offset(spec, late, zone, schema)


def parsed(column: str, dtype: pl.DataType, format: str | None, zone: str, late: bool) -> pl.Expr:
    """UTC time of a timestamp or date column; null where it cannot be read. `late`: a day counts at its end."""
    if dtype == pl.Date:
        return to_utc(_day(pl.col(column).cast(_US), late), zone)
    if isinstance(dtype, pl.Datetime):
        value = pl.col(column).dt.cast_time_unit("us")
        if dtype.time_zone is not None:
            return value.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return to_utc(value, zone)
    text = text_of(column, dtype)
    if format is None:
        return _iso(text, zone, late)
    if not _TIME_DIRECTIVES.search(format):
        return to_utc(_day(text.str.to_date(format, strict=False).cast(_US), late), zone)
    if "%z" in format or "%:z" in format:
        aware = text.str.to_datetime(format, time_unit="us", time_zone="UTC", strict=False)
        return aware.dt.replace_time_zone(None)
    return to_utc(text.str.to_datetime(format, time_unit="us", strict=False), zone)


def to_utc(local: pl.Expr, zone: str) -> pl.Expr:
    """Local wall-clock time -> UTC, by the rule in the module's docstring."""
    if zone == "UTC":
        return local

    def moment(wall: pl.Expr) -> pl.Expr:
        aware = wall.dt.replace_time_zone(zone, ambiguous="latest", non_existent="null")
        return aware.dt.convert_time_zone("UTC").dt.replace_time_zone(None)

    return pl.coalesce(moment(local), moment(local + pl.duration(hours=1)))


def to_local(utc: pl.Expr, zone: str) -> pl.Expr:
    """UTC -> local wall-clock time, without zone."""
    if zone == "UTC":
        return utc
    return utc.dt.replace_time_zone("UTC").dt.convert_time_zone(zone).dt.replace_time_zone(None)


def microseconds(moment: datetime | None, zone: str = "UTC") -> int | None:
    """UTC microseconds of a moment of ingest.yaml; one without an offset is in `zone`."""
    if moment is None:
        return None
    return _since_epoch(moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone)))


def local_microseconds(moment: datetime, zone: str) -> int:
    """Wall-clock microseconds in `zone` of a moment of ingest.yaml; one without an offset is already local."""
    local = moment.astimezone(ZoneInfo(zone)) if moment.tzinfo else moment
    return _since_epoch(local.replace(tzinfo=UTC))


def _since_epoch(moment: datetime) -> int:
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def terms(spec: TimeSpec | None) -> list[tuple[float, str]]:
    """Column terms of an offset: (sign, column); columns of the anchor row keep their prefix."""
    if spec is None or spec.offset is None:
        return []
    names = [term for term in spec.offset if isinstance(term, str)]
    return [(-1.0, name[1:].strip()) if name.startswith("-") else (1.0, name) for name in names]


def _offset(spec: TimeSpec, late: bool, zone: str, schema: pl.Schema) -> WhenKnown:
    assert spec.offset is not None
    total = pl.lit(float(sum(term for term in spec.offset if not isinstance(term, str))))
    empty, no_anchor = pl.lit(False), pl.col(ANCHOR).is_null()
    for sign, column in terms(spec):
        total = total + sign * number_of(column, schema[column])
        if column.startswith(ANCHOR_ROW):
            no_anchor = no_anchor | pl.col(column).is_null()
        else:
            empty = empty | empty_of(column, schema[column])
    if spec.before:
        total = -total.abs()
    if spec.unit in _DAYS:
        days = (total * _DAYS[spec.unit] + 0.5).floor()
        near = pl.when(days.abs() <= _FAR_DAYS).then(days).cast(pl.Int64)
        time = to_utc(_day(pl.col(ANCHOR).dt.truncate("1d") + pl.duration(days=near), late), zone)
    else:
        minutes = total * _MINUTES[spec.unit]
        near = pl.when(minutes.abs() <= _FAR_DAYS * 1440).then((minutes * 60e6 + 0.5).floor()).cast(pl.Int64)
        time = to_utc(pl.col(ANCHOR), zone) + pl.duration(microseconds=near)
    bad = (
        pl.when(empty)
        .then(pl.lit("no_time"))
        .when(no_anchor)
        .then(pl.lit("no_anchor"))
        .when(time.is_null())
        .then(pl.lit("not_a_time"))
    )
    return WhenKnown(time, empty, bad)


def _day(midnight: pl.Expr, late: bool) -> pl.Expr:
    return midnight + pl.duration(microseconds=86_400_000_000 - 1) if late else midnight


def _iso(text: pl.Expr, zone: str, late: bool) -> pl.Expr:
    day, clock = text.str.extract(_ISO, 1), text.str.extract(_ISO, 2)
    seconds, offset = text.str.extract(_ISO, 3).fill_null(":00"), text.str.extract(_ISO, 4)
    wall = pl.concat_str(day, pl.lit("T"), clock, seconds).str.to_datetime(
        "%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False
    )
    digits = offset.str.replace(":", "")
    ahead = digits.str.slice(1, 2).cast(pl.Int64, strict=False) * 60 + digits.str.slice(3, 2).cast(
        pl.Int64, strict=False
    )
    east = pl.when(offset == "Z").then(0).when(digits.str.starts_with("-")).then(-ahead).otherwise(ahead)
    midnight = day.str.to_date("%Y-%m-%d", strict=False).cast(_US)
    return (
        pl.when(clock.is_null())
        .then(to_utc(_day(midnight, late), zone))
        .when(offset.is_null())
        .then(to_utc(wall, zone))
        .otherwise(wall - pl.duration(minutes=east))
    )
