"""values.py: sentinels, value maps, units, ranges, and what is a number."""

from typing import Any

import polars as pl
import pytest

from riskpred.config.ingest import ValueSpec
from riskpred.errors import ConfigError
from riskpred.records.ingest.values import canonical, check_units, read_value, text_of


def read(spec: dict[str, Any], values: Any, sentinels: tuple[Any, ...] = (), unit: Any = None) -> list[Any]:
    """What becomes of each value: "missing", a reason, or (suffix, number, text)."""
    frame = pl.DataFrame({"v": values, "u": unit if unit is not None else [None] * len(values)})
    config = ValueSpec.model_validate(spec, strict=False)
    value = read_value(config, sentinels, "v", "u" if unit is not None else None, frame.schema)
    found = frame.select(
        value.missing.alias("missing"),
        value.bad.alias("bad"),
        value.suffix.alias("suffix"),
        value.numeric.alias("number"),
        value.text.alias("text"),
    )
    return [
        "missing" if missing else bad or (suffix, None if number is None else round(number, 4), text)
        for missing, bad, suffix, number, text in found.iter_rows()
    ]


def test_numbers_in_text_and_in_typed_columns() -> None:
    bad = "not_a_number"
    assert read({}, ["1.5", " 2 ", "1e3", "x", "3,5", "inf", "-inf", "nan", "", " ", None]) == [
        ("", 1.5, None),
        ("", 2.0, None),
        ("", 1000.0, None),
        *[bad] * 5,
        *["missing"] * 3,
    ]
    assert read({}, [1.5, float("nan"), float("-inf"), None]) == [("", 1.5, None), bad, bad, "missing"]
    assert read({}, [7, None]) == [("", 7.0, None), "missing"]


def test_too_large_for_float32_is_out_of_range() -> None:
    assert read({}, ["1e39"]) == ["out_of_range"]


@pytest.mark.parametrize("values", [["7", "7.0", "7.00", "8"], [7.0, 7.0, 7.0, 8.0], [7, 7, 7, 8]])
def test_a_sentinel_is_found_however_it_is_written(values: list[Any]) -> None:
    assert read({"missing": [7]}, values) == ["missing", "missing", "missing", ("", 8.0, None)]
    assert read({}, values, sentinels=(7.0,)) == ["missing", "missing", "missing", ("", 8.0, None)]


def test_sentinels_of_text_infinity_and_tiny_numbers() -> None:
    assert read({"missing": ["-inf", "NA"]}, ["-inf", "NA", "1"]) == ["missing", "missing", ("", 1.0, None)]
    assert read({"missing": ["inf"]}, [float("inf")]) == ["missing"]
    assert read({"missing": [5.397605346934028e-79]}, [5.397605346934028e-79]) == ["missing"]


def test_value_maps() -> None:
    spec = {"values": {"1": "Yes", "2": "No"}, "store": "text"}
    assert read(spec, [1.0, 2.0, 3.0, None]) == [("", None, "Yes"), ("", None, "No"), "unknown_value", "missing"]
    assert read({**spec, "store": "code"}, ["1", "2.0"]) == [("//Yes", None, None), ("//No", None, None)]
    assert read({"values": {"low": -1, "high": 1}}, ["low", "high", "1"]) == [
        ("", -1.0, None),
        ("", 1.0, None),
        "unknown_value",
    ]


def test_leading_zeros_are_part_of_a_code() -> None:
    assert read({"values": {"001": "heart"}, "store": "text"}, ["001", "1"]) == [("", None, "heart"), "unknown_value"]
    assert canonical("001") == "001"
    assert canonical(7.0) == canonical("7.0") == canonical(7) == "7"


def test_booleans() -> None:
    spec = {"values": {"true": 1, "false": 0}}
    assert read(spec, [True, False, None]) == [("", 1.0, None), ("", 0.0, None), "missing"]


def test_units_are_converted_by_the_row_or_by_the_source() -> None:
    spec = {"unit": "mmol/L", "units": {"mg/dL": 0.02586}, "range": [1, 15]}
    assert read(spec, ["5", "200", "5", "5"], unit=["mmol/L", "mg/dL", "g/L", ""]) == [
        ("", 5.0, None),
        ("", 5.172, None),
        "unknown_unit",
        "unknown_unit",
    ]
    assert read({**spec, "source_unit": "mg/dL"}, ["200"]) == [("", 5.172, None)]
    assert read({**spec, "source_unit": "mg/dL"}, ["200", "5"], unit=["", "mmol/L"]) == [
        ("", 5.172, None),
        ("", 5.0, None),
    ]


def test_the_range_is_inclusive_and_holds_after_conversion() -> None:
    spec = {"unit": "cm", "units": {"m": 100}, "source_unit": "m", "range": [50, 250]}
    assert read(spec, ["0.5", "2.5", "0.499", "2.51"]) == [
        ("", 50.0, None),
        ("", 250.0, None),
        "out_of_range",
        "out_of_range",
    ]
    assert read({"range": [None, 1]}, ["-5", "2"]) == [("", -5.0, None), "out_of_range"]


def test_what_ingest_yaml_may_not_say() -> None:
    with pytest.raises(ConfigError, match="source_unit g/L has no factor to mg/dL"):
        check_units(ValueSpec(unit="mg/dL", source_unit="g/L"), "here")
    with pytest.raises(ConfigError, match="maps to text, but the mapping stores a number"):
        check_units(ValueSpec(values={"1": "Yes"}), "here")


def test_text_as_it_is_compared() -> None:
    frame = pl.DataFrame(
        {"f": [7.0, 7.25, 1e20], "s": [" a ", "", "7.0"], "d": pl.Series(["x", None, "x"], dtype=pl.Categorical)}
    )
    assert frame.select(text_of("f", frame.schema["f"])).to_series().to_list()[:2] == ["7", "7.25"]
    assert frame.select(text_of("s", frame.schema["s"])).to_series().to_list() == ["a", None, "7"]
    assert frame.select(text_of("d", frame.schema["d"])).to_series().to_list() == ["x", None, "x"]
