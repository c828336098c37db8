"""Reads a source column as text or number, and turns it into what an event stores: sentinels, value maps, units."""

import re
from dataclasses import dataclass

import polars as pl

from riskpred.config.ingest import Scalar, ValueSpec
from riskpred.errors import ConfigError

_WHOLE = r"^(-?\d+)\.0+$"


def text_of(column: str, dtype: pl.DataType) -> pl.Expr:
    """Text by which a value is compared with ingest.yaml: no surrounding blanks, 7.0 as 7, null where empty."""
    value = pl.col(column)
    if dtype == pl.Boolean:
        return pl.when(value).then(pl.lit("true")).when(~value).then(pl.lit("false"))
    text = value.cast(pl.String).str.strip_chars()
    if dtype.is_float() or dtype.is_decimal() or dtype in (pl.String, pl.Categorical, pl.Enum):
        text = text.str.replace(_WHOLE, "$1")
    return pl.when(text != "").then(text)


def empty_of(column: str, dtype: pl.DataType) -> pl.Expr:
    """Whether there is nothing: null, or text of blanks."""
    return pl.col(column).is_null() if dtype.is_numeric() else text_of(column, dtype).is_null()


def number_of(column: str, dtype: pl.DataType) -> pl.Expr:
    """Float64; null where the value is empty or is no finite number (text, NaN, infinity)."""
    value = pl.col(column)
    if dtype == pl.String or dtype in (pl.Categorical, pl.Enum):
        value = value.cast(pl.String).str.strip_chars()
    elif not (dtype.is_numeric() or dtype == pl.Boolean):
        return pl.lit(None, dtype=pl.Float64)
    number = value.cast(pl.Float64, strict=False)
    return pl.when(number.is_finite()).then(number)


def canonical(scalar: Scalar) -> str:
    """A scalar of ingest.yaml as text_of would write it."""
    if isinstance(scalar, bool):
        return str(scalar).lower()
    if isinstance(scalar, float):
        scalar = int(scalar) if scalar.is_integer() and abs(scalar) < 1e15 else scalar
    return re.sub(_WHOLE, r"\1", str(scalar).strip())


def equals_any(text: pl.Expr, number: pl.Expr, scalars: tuple[Scalar, ...]) -> pl.Expr:
    """Whether a value is one of these scalars: by its text, and for numbers also by its value (7.00, 7e0)."""
    if not scalars:
        return pl.lit(False)
    hit = text.is_in([canonical(scalar) for scalar in scalars])
    numbers = [float(scalar) for scalar in scalars if isinstance(scalar, (int, float)) and not isinstance(scalar, bool)]
    if numbers:
        hit = hit | number.is_in(numbers).fill_null(False)
    return hit.fill_null(False)


@dataclass(frozen=True)
class Read:
    """Expressions for one mapping's value. `bad` is a reason code, null where the value is accepted."""

    missing: pl.Expr
    bad: pl.Expr
    suffix: pl.Expr
    numeric: pl.Expr
    text: pl.Expr
    unit: str | None


NOTHING = Read(
    missing=pl.lit(False),
    bad=pl.lit(None, dtype=pl.String),
    suffix=pl.lit(""),
    numeric=pl.lit(None, dtype=pl.Float32),
    text=pl.lit(None, dtype=pl.String),
    unit=None,
)
"""The value of an event that has none."""


def read_value(
    spec: ValueSpec, sentinels: tuple[Scalar, ...], column: str, unit_column: str | None, schema: pl.Schema
) -> Read:
    """Expressions that read `column` as `spec` says.

    Args:
        sentinels: the table's, beside the mapping's own.
        unit_column: column with each row's unit; an empty unit counts as spec.source_unit where that is given.
    """
    text, number = text_of(column, schema[column]), number_of(column, schema[column])
    missing = empty_of(column, schema[column]) | equals_any(text, number, (*sentinels, *spec.missing))
    value_text, known = text, pl.lit(True)
    if spec.values is not None:
        mapped = {canonical(key): canonical(value) for key, value in spec.values.items()}
        value_text = text.replace_strict(list(mapped), list(mapped.values()), default=None, return_dtype=pl.String)
        known = value_text.is_not_null()
        number = value_text.cast(pl.Float64, strict=False)
    if spec.store != "number":
        bad = pl.when(~known).then(pl.lit("unknown_value"))
        if spec.store == "code":
            return Read(missing, bad, pl.concat_str(pl.lit("//"), value_text), NOTHING.numeric, NOTHING.text, None)
        return Read(missing, bad, NOTHING.suffix, NOTHING.numeric, value_text, None)
    factor = _factor(spec, unit_column, schema)
    stored = (number * factor + 0.0).cast(pl.Float32, strict=False)
    low, high = spec.range or (None, None)
    inside = stored.is_finite()
    if low is not None:
        inside = inside & (number * factor >= low)
    if high is not None:
        inside = inside & (number * factor <= high)
    judged = (
        pl.when(~known)
        .then(pl.lit("unknown_value"))
        .when(number.is_null())
        .then(pl.lit("not_a_number"))
        .when(factor.is_null())
        .then(pl.lit("unknown_unit"))
        .when(~inside)
        .then(pl.lit("out_of_range"))
    )
    return Read(missing, judged, NOTHING.suffix, stored, NOTHING.text, spec.unit)


def accepted_units(spec: ValueSpec) -> dict[str, float]:
    """Source units that are understood -> factor to the stored unit."""
    return {**({spec.unit: 1.0} if spec.unit else {}), **spec.units}


def check_units(spec: ValueSpec, where: str) -> None:
    """Raises: ConfigError, when source_unit has no factor, or a value map of a number maps to text."""
    if spec.source_unit is not None and spec.source_unit not in accepted_units(spec):
        raise ConfigError(
            f"{where}: source_unit {spec.source_unit} has no factor to {spec.unit}.",
            wanted="source_unit = unit, or its factor in `units`",
            do="add it to `units`",
        )
    if spec.values is not None and spec.store == "number":
        for value in spec.values.values():
            if isinstance(value, (str, bool)):
                raise ConfigError(
                    f"{where}: `values` maps to text, but the mapping stores a number.",
                    wanted="numbers on the right of `values`, or store: text or code",
                    do="correct `values` or `store`",
                )


def _factor(spec: ValueSpec, unit_column: str | None, schema: pl.Schema) -> pl.Expr:
    units = accepted_units(spec)
    fixed = units.get(spec.source_unit or "", 1.0)
    if unit_column is None:
        return pl.lit(fixed)
    text = text_of(unit_column, schema[unit_column])
    if spec.source_unit is not None:
        text = text.fill_null(spec.source_unit)
    return text.replace_strict(list(units), list(units.values()), default=None, return_dtype=pl.Float64)
