"""Laboratory values of the simulated hospital: the latest of each test, and the rows the laboratory writes."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from riskpred.records.simulate.draws import Draws

UNITS: Final = {
    "hba1c": ("%", "%", 1.0, 1),
    "crp": ("mg/L", "mg/dL", 10.0, 2),
    "ldl": ("mmol/L", "mg/dL", 0.02586, 0),
    "creatinine": ("umol/L", "mg/dL", 88.42, 2),
}
"""test -> unit, the other unit some laboratories use, factor from it to the unit, decimals it is reported with."""

_SPREAD: Final = {"hba1c": 0.10, "crp": 0.25, "ldl": 0.35, "creatinine": 6.0}
"""SD of a subject's earlier values around the latest one (CRP: of its logarithm)."""

HBA1C_RESISTANT: Final = 6.1
CRP_INFLAMED: Final = 6.0
"""Latest values above these mean insulin resistance and, with HbA1c below its own, inflammation (%, mg/L)."""

EARLIER: Final = 3
"""Earlier measurements of each test, at most."""


@dataclass(frozen=True)
class Labs:
    """Latest values of N subjects.

    value: test -> (N,) as stored after conversion; NaN = never measured.
    other_unit: (N,) whether the subject's laboratory reports in the other unit.
    """

    value: dict[str, NDArray[np.float64]]
    other_unit: NDArray[np.bool_]


def latest_labs(
    draws: Draws,
    terms: dict[str, NDArray[np.float64]],
    metabolic: NDArray[np.int64],
    panel: NDArray[np.bool_],
    measured: dict[str, NDArray[np.bool_]],
) -> Labs:
    """Latest value of each test, exactly as ingest will store what the laboratory reports.

    HbA1c above 6.1 % means insulin resistance and, below it, CRP above 6 mg/L inflammation: bounded noise keeps the
    three apart, so the panel (HbA1c and CRP) determines the latent. LDL and creatinine depend on the person alone.

    Args:
        terms: recorded terms of each person (age, male).
        metabolic: (N,) state of the tabular latent.
        panel: (N,) whether the panel was ever taken.
        measured: ldl, creatinine -> (N,) whether ever measured.
    """
    subjects = len(metabolic)
    noise = {name: draws.normal(f"lab {name}", subjects, limit=2.5) for name in UNITS}
    exact = {
        "hba1c": np.where(metabolic == 1, 7.0 + 0.30 * noise["hba1c"], 5.4 + 0.20 * noise["hba1c"]),
        "crp": np.where(metabolic == 2, np.exp(2.7 + 0.30 * noise["crp"]), np.exp(0.3 + 0.45 * noise["crp"])),
        "ldl": 3.2 + 0.1 * terms["male"] + 0.8 * noise["ldl"],
        "creatinine": 80 * np.exp(0.06 * terms["age"] + 0.12 * (terms["male"] - 0.5) + 0.22 * noise["creatinine"]),
    }
    there = {"hba1c": panel, "crp": panel, **measured}
    other = draws.bernoulli("lab unit", np.full(subjects, 0.25))
    return Labs(
        value={
            name: np.where(there[name], reported(name, exact[name], other) * _factor(name, other), np.nan)
            for name in UNITS
        },
        other_unit=other,
    )


def reported(name: str, value: NDArray[np.float64], other: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Value in `unit` -> the number the laboratory writes, in its own unit and with its decimals."""
    decimals = {"hba1c": 1, "crp": 1, "ldl": 2, "creatinine": 0}[name]
    return np.where(other, (value / UNITS[name][2]).round(UNITS[name][3]), value.round(decimals))


def lab_rows(labs: Labs, entry_day: NDArray[np.int64], draws: Draws) -> pl.DataFrame:
    """Rows of labs.parquet before day 0: index, day, test, value, unit; value null where the test was not done.

    A test has 1 to 1 + EARLIER dated values since entry, the latest of them the one in `labs`.
    """
    subjects = len(entry_day)
    index = np.arange(subjects)
    blocks = []
    # All tests of one visit share its day; the latest visit lies 10 to 100 days before day 0.
    visits = np.floor(draws.uniform("lab visits", subjects) * (EARLIER + 1)).astype(np.int64)
    latest = -10 - np.floor(draws.uniform("lab latest day", subjects) * 90).astype(np.int64)
    # One slot of the time since entry for each earlier visit, so that no two fall on one day.
    place = (np.arange(EARLIER) + draws.uniform("lab earlier days", subjects, EARLIER)) / EARLIER
    back = 1 + np.floor(place * (latest - entry_day - EARLIER)[:, None]).astype(np.int64)
    for name in UNITS:
        value = labs.value[name]
        shift = draws.normal(f"lab {name} earlier", subjects, EARLIER, limit=2) * _SPREAD[name]
        blocks.append(_block(index, latest, name, value, labs.other_unit, np.isfinite(value)))
        for visit in range(EARLIER):
            earlier = value * np.exp(shift[:, visit]) if name == "crp" else value + shift[:, visit]
            day = latest - back[:, visit]
            blocks.append(_block(index, day, name, earlier, labs.other_unit, (visits > visit) & np.isfinite(value)))
        # "Not done": ordered, never measured; the row is there and its value is empty.
        ordered = np.isnan(value) & (draws.uniform(f"lab {name} ordered", subjects) < 0.3)
        blocks.append(_block(index, latest, name, np.full(subjects, np.nan), labs.other_unit, ordered))
    return pl.concat(blocks)


def later_lab_rows(labs: Labs, event_day: NDArray[np.float64], draws: Draws) -> pl.DataFrame:
    """CRP rows after day 0, high before a cancer: research data hold them, and no feature may read them.

    Args:
        event_day: (N,) day of the cancer, inf for none.
    """
    subjects = len(event_day)
    day = 30 + np.floor(draws.uniform("later lab day", subjects) * 900).astype(np.int64)
    value = np.where(event_day < day + 400, 60.0, 2.0)
    taken = draws.uniform("later lab", subjects) < 0.3
    return _block(np.arange(subjects), day, "crp", value, np.zeros(subjects, dtype=np.bool_), taken)


def _factor(name: str, other: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.where(other, UNITS[name][2], 1.0)


def _block(
    index: NDArray[np.int64],
    day: NDArray[np.int64],
    name: str,
    value: NDArray[np.float64],
    other: NDArray[np.bool_],
    rows: NDArray[np.bool_],
) -> pl.DataFrame:
    unit, other_unit, _, _ = UNITS[name]
    written = reported(name, value, other)[rows]
    return pl.DataFrame(
        {
            "index": index[rows],
            "day": day[rows],
            "test": [name] * int(rows.sum()),
            "value": pl.Series(written).fill_nan(None),
            "unit": np.where(other[rows], other_unit, unit).astype(object),
        },
        schema={"index": pl.Int64, "day": pl.Int64, "test": pl.String, "value": pl.Float64, "unit": pl.String},
    )
