"""The dirty rows planted in the simulated hospital's files, and what ingest must make of each.

Dirt stands beside the good rows and never replaces one, so that the true risk, which is given everything that
`ingest` keeps, does not depend on it. A truncated radiograph is newer than a readable one of the same subject.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray


@dataclass(frozen=True)
class Planted:
    """One kind of dirty row: how often, where, and what must become of it.

    found_as: "reject" (at ingest), "repeat" (at ingest) or "unreadable" (when the image is opened); reason: the
    reason code of the reject.
    """

    kind: str
    file: str
    count: int
    found_as: str
    reason: str | None


OFFSETS: Final = {
    "unknown unit": 7,
    "text where a number belongs": 23,
    "absurd value": 41,
    "row without subject": 59,
    "unparsable date": 77,
    "missing image file": 95,
    "truncated image file": 105,
    "duplicate row": 120,
}
"""Kind -> place within each block of `dirt_every` subjects, so that more subjects only add dirt."""


def soiled(kind: str, subjects: int, every: int) -> NDArray[np.int64]:
    """Indices of the subjects beside whose rows this kind of dirt stands."""
    return np.arange(OFFSETS[kind], subjects, every)


def soiled_among(kind: str, eligible: NDArray[np.bool_], every: int) -> NDArray[np.int64]:
    """As `soiled`, but in each block the first subject from the offset on that is `eligible`. Shape: (N,) bool in."""
    found = []
    for first in soiled(kind, len(eligible), every):
        block = np.flatnonzero(eligible[first : first - OFFSETS[kind] + every])
        if len(block):
            found.append(first + block[0])
    return np.array(found, dtype=np.int64)


def dirty_vitals(vitals: pl.DataFrame, present: NDArray[np.bool_], every: int) -> tuple[pl.DataFrame, list[Planted]]:
    """Dirt of vitals.csv, in its final columns but with `index` for the subject; present: (N,) has a series."""
    subjects = len(present)
    text = soiled("text where a number belongs", subjects, every)
    absurd = soiled("absurd value", subjects, every)
    twice = soiled_among("duplicate row", present, every)
    rows = pl.concat(
        [
            _vital(text, "heart_rate", "refused", "/min"),
            _vital(absurd, "systolic", "1320", "mmHg"),
            vitals.filter(pl.col("index").is_in(twice.tolist())).unique("index", keep="first", maintain_order=True),
        ]
    )
    return rows, [
        Planted("text where a number belongs", "vitals.csv", len(text), "reject", "not_a_number"),
        Planted("absurd value", "vitals.csv", len(absurd), "reject", "out_of_range"),
        Planted("duplicate row", "vitals.csv", len(twice), "repeat", None),
    ]


def dirty_labs(subjects: int, every: int) -> tuple[pl.DataFrame, list[Planted]]:
    """Dirt of labs.parquet: index (null = no subject), day, test, value, unit."""
    unit = soiled("unknown unit", subjects, every)
    nobody = soiled("row without subject", subjects, every)
    rows = pl.DataFrame(
        {
            "index": [*unit.tolist(), *[None] * len(nobody)],
            "day": [-40] * (len(unit) + len(nobody)),
            "test": ["ldl"] * (len(unit) + len(nobody)),
            "value": [3.1] * len(unit) + [2.9] * len(nobody),
            "unit": ["g/gal"] * len(unit) + ["mmol/L"] * len(nobody),
        },
        schema={"index": pl.Int64, "day": pl.Int64, "test": pl.String, "value": pl.Float64, "unit": pl.String},
    )
    return rows, [
        Planted("unknown unit", "labs.parquet", len(unit), "reject", "unknown_unit"),
        Planted("row without subject", "labs.parquet", len(nobody), "reject", "no_subject"),
    ]


def dirty_diagnoses(subjects: int, every: int) -> tuple[pl.DataFrame, list[Planted]]:
    """Dirt of diagnoses.csv, in its final columns but with `index` for the subject."""
    rows = soiled("unparsable date", subjects, every)
    frame = pl.DataFrame({"index": rows}, schema={"index": pl.Int64}).select(
        "index", code=pl.lit("I10"), diagnosed_on=pl.lit("31.02.2013")
    )
    return frame, [Planted("unparsable date", "diagnoses.csv", len(rows), "reject", "not_a_time")]


def _vital(index: NDArray[np.int64], name: str, value: str, unit: str) -> pl.DataFrame:
    return pl.DataFrame({"index": index}, schema={"index": pl.Int64}).select(
        "index",
        measured_at=pl.lit("2014-06-15T08:05:00"),
        name=pl.lit(name),
        value=pl.lit(value),
        unit=pl.lit(unit),
    )
