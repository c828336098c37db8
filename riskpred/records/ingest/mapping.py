"""Applies one mapping of ingest.yaml to rows: every row gives one fact, accepted, missing, ignored or refused."""

from dataclasses import dataclass, field

import polars as pl

from riskpred.config.ingest import ROW, LongMapping, Scalar, SourceTable, TimeSpec, ValueSpec
from riskpred.errors import ConfigError
from riskpred.records.ingest.identifiers import SUBJECT
from riskpred.records.ingest.times import read_time, terms
from riskpred.records.ingest.values import (
    NOTHING,
    accepted_units,
    canonical,
    check_units,
    equals_any,
    number_of,
    read_value,
    text_of,
)

STATUS = "#status"
"""Fact's fate: null = accepted, "missing", "ignored", else the reason of its reject."""

UNIT_SEEN = "#unit"
"""Unit as the source writes it, of facts refused for their unit."""

FACT_COLUMNS = (ROW, SUBJECT, STATUS, "time", "code", "numeric_value", "text_value", "unit", UNIT_SEEN)

TABLE_ALLOWED = 0.05
"""Share of a table's rows that may be no rows, or hold a code that is not listed."""


@dataclass(frozen=True)
class Mapping:
    """One code of ingest.yaml, wide or long, with the table's defaults filled in. `where` is its place in the file."""

    where: str
    code: str
    spec: ValueSpec
    time: TimeSpec
    column: str | None = None
    unit_column: str | None = None
    when: dict[str, tuple[Scalar, ...]] = field(default_factory=dict)
    sentinels: tuple[Scalar, ...] = ()

    @property
    def columns(self) -> set[str]:
        """Source columns it reads, those of its time excepted."""
        return {name for name in (self.column, self.unit_column, *self.when) if name is not None}


@dataclass(frozen=True)
class Long:
    """A long mapping taken apart: one Mapping per listed code; None = declared ignored."""

    where: str
    code_column: str
    codes: dict[str, Mapping | None]
    unknown: str


def event_mappings(table: SourceTable) -> list[Mapping]:
    """The wide mappings of a table. Raises: ConfigError: no time, a unit without a factor."""
    found = []
    for number, item in enumerate(table.events):
        where = f"ingest.yaml, tables.{table.name}.events.{number} ({item.code})"
        check_units(item, where)
        time = _time(item.time or table.time, where)
        found.append(
            Mapping(where, item.code, item, time, item.column, item.unit_column, dict(item.when), table.missing)
        )
    return found


def long_mappings(table: SourceTable) -> list[Long]:
    """The long mappings of a table. Raises: ConfigError: no time, a unit without a factor."""
    found = []
    for number, item in enumerate(table.long):
        where = f"ingest.yaml, tables.{table.name}.long.{number}"
        found.append(Long(where, item.code_column, _long_codes(table, item, where), item.unknown))
    return found


def apply(mapping: Mapping, frame: pl.DataFrame, zone: str) -> pl.DataFrame:
    """One fact per row of `frame`: FACT_COLUMNS.

    What is declared ignored is never judged, what is missing never refused; then subject, time and value are judged
    in this order, so a reject has one reason.
    """
    schema = frame.schema
    value = NOTHING
    if mapping.column is not None:
        value = read_value(mapping.spec, mapping.sentinels, mapping.column, mapping.unit_column, schema)
    known = read_time(mapping.time, mapping.spec.kind, zone, schema)
    meant = pl.lit(True)
    for column, values in mapping.when.items():
        meant = meant & equals_any(text_of(column, schema[column]), number_of(column, schema[column]), values)
    # Where the time is all that an event has, an empty time, or a sentinel in it, says that it did not happen.
    missing = value.missing if mapping.column is not None else known.empty | _told_absent(mapping, schema)
    status = (
        pl.when(~meant)
        .then(pl.lit("ignored"))
        .when(missing)
        .then(pl.lit("missing"))
        .when(pl.col(SUBJECT).is_null())
        .then(pl.lit("no_subject"))
        .when(known.bad.is_not_null())
        .then(known.bad)
        .otherwise(value.bad)
    )
    unit_seen = pl.lit(None, dtype=pl.String)
    if mapping.unit_column is not None:
        unit_seen = text_of(mapping.unit_column, schema[mapping.unit_column])
    return frame.select(
        pl.col(ROW),
        pl.col(SUBJECT),
        status.cast(pl.String).alias(STATUS),
        known.time.alias("time"),
        pl.concat_str(pl.lit(mapping.code), value.suffix).alias("code"),
        value.numeric.alias("numeric_value"),
        value.text.alias("text_value"),
        pl.lit(value.unit, dtype=pl.String).alias("unit"),
        unit_seen.alias(UNIT_SEEN),
    )


def _told_absent(mapping: Mapping, schema: pl.Schema) -> pl.Expr:
    """Whether a column of the time holds a sentinel of this mapping (the table's are of values)."""
    absent = pl.lit(False)
    for column in (mapping.time.column, *(name for _, name in terms(mapping.time))):
        if column is not None:
            text, number = text_of(column, schema[column]), number_of(column, schema[column])
            absent = absent | equals_any(text, number, mapping.spec.missing)
    return absent


def apply_long(long: Long, frame: pl.DataFrame, zone: str) -> list[tuple[Mapping | None, pl.DataFrame]]:
    """Facts of each code that occurs; with None those of ignored and of unknown codes."""
    key = "#key"
    keyed = frame.with_columns(text_of(long.code_column, frame.schema[long.code_column]).fill_null("").alias(key))
    facts: list[tuple[Mapping | None, pl.DataFrame]] = []
    for (code,), rows in keyed.partition_by(key, as_dict=True, maintain_order=True).items():
        mapping = long.codes.get(str(code))
        if mapping is not None:
            facts.append((mapping, apply(mapping, rows, zone)))
            continue
        ignored = str(code) in long.codes or long.unknown == "ignore"
        facts.append((None, unread(rows, "ignored" if ignored else "unknown_code")))
    return facts


def unread(rows: pl.DataFrame, status: str) -> pl.DataFrame:
    """Facts that share one fate and no content."""
    return rows.select(
        pl.col(ROW),
        pl.col(SUBJECT),
        pl.lit(status).alias(STATUS),
        pl.lit(None, dtype=pl.Datetime("us")).alias("time"),
        pl.lit(None, dtype=pl.String).alias("code"),
        pl.lit(None, dtype=pl.Float32).alias("numeric_value"),
        pl.lit(None, dtype=pl.String).alias("text_value"),
        pl.lit(None, dtype=pl.String).alias("unit"),
        pl.lit(None, dtype=pl.String).alias(UNIT_SEEN),
    )


def wanted(mapping: Mapping, reason: str) -> str:
    """What would have been accepted, as rejects and errors say it; never a person's value."""
    low, high = mapping.spec.range or (None, None)
    unit = f" {mapping.spec.unit}" if mapping.spec.unit else ""
    if low is None or high is None:
        bounds = f"at most {high:g}" if low is None and high is not None else f"at least {low or 0:g}"
    else:
        bounds = f"{low:g} to {high:g}"
    offset = mapping.time.offset is not None
    return {
        "no_subject": "an identifier of the person",
        "no_time": "a time for every value",
        "not_a_time": "a number of " + mapping.time.unit
        if offset
        else "a time" + (f" as {mapping.time.format}" if mapping.time.format else " in ISO 8601"),
        "no_anchor": "a day 0 for the subject",
        "not_a_number": "a finite number",
        "unknown_value": f"one of the {len(mapping.spec.values or {})} listed values",
        "unknown_unit": " or ".join(accepted_units(mapping.spec)) or "no unit",
        "out_of_range": f"{bounds}{unit}" if mapping.spec.range else "a number that fits float32",
    }[reason]


def refused_field(mapping: Mapping, reason: str, subject: str) -> str:
    """Column or code that a reject names."""
    if reason == "no_subject":
        return subject
    if reason in ("no_time", "not_a_time", "no_anchor") and mapping.time.column is not None:
        return mapping.time.column
    return mapping.code


def _time(time: TimeSpec | None, where: str) -> TimeSpec:
    if time is None:
        raise ConfigError(
            f"{where}: no time.", wanted="`time` in the mapping or in its table", do="add it; static: true is one"
        )
    return time


def _long_codes(table: SourceTable, item: LongMapping, where: str) -> dict[str, Mapping | None]:
    codes: dict[str, Mapping | None] = {}
    for key, spec in item.codes.items():
        place = f"{where}.codes.{key}"
        if isinstance(spec, str):
            codes[canonical(key)] = None
            continue
        check_units(spec, place)
        time = _time(item.time or table.time, place)
        unit_column = item.unit_column if item.value_column is not None else None
        codes[canonical(key)] = Mapping(place, spec.code, spec, time, item.value_column, unit_column, {}, table.missing)
    return codes
