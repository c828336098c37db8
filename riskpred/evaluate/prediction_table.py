"""Reads predictions made elsewhere, ours or in the schema of meds-evaluation, and finds each evaluated row's risk."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from riskpred.errors import InputError
from riskpred.evaluate.censoring import Floats
from riskpred.evaluate.gather import Evaluated

KEYS: Final = ("subject_id", "outcome", "horizon_years")
RISKS: Final = ("risk", "predicted_boolean_probability")
"""Column that holds the risk: ours, or meds-evaluation's; the first that is there is read."""

TIME: Final = "prediction_time"
WHICH: Final = "model"
_WANTED: Final = (
    f"columns {', '.join(KEYS)} and {' or '.join(RISKS)}; {TIME} where a subject has several rows, {WHICH} where the "
    "table holds several models"
)


@dataclass(frozen=True)
class PredictionTable:
    """A prediction table as read. model, outcome: (T,) text; time: (T,) int64 UTC microseconds, None where not given;
    risk: (T,), NaN where null; models in order of appearance."""

    models: tuple[str, ...]
    model: NDArray[np.str_]
    subject_id: NDArray[np.int64]
    outcome: NDArray[np.str_]
    horizon_years: Floats
    time: NDArray[np.int64] | None
    risk: Floats


def read_table(path: Path) -> PredictionTable:
    """A prediction table: the columns of KEYS, one of RISKS, and prediction_time and model where there are such.

    A null risk is no risk.
    Raises: InputError: unreadable, a column missing or of another type, a null key, a risk outside 0..1.
    """
    try:
        table = pacsv.read_csv(path) if ".csv" in path.suffixes else pq.read_table(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(
            f"{path}: not readable as a prediction table.",
            wanted=f"Parquet, or CSV in a file named .csv, with {_WANTED}",
            got=type(error).__name__,
            do="correct --against, or write the table again",
        ) from None
    risk_column = next((name for name in RISKS if name in table.column_names), None)
    missing = [name for name in KEYS if name not in table.column_names]
    if missing or risk_column is None:
        raise InputError(
            f"{path}: columns missing: {', '.join([*missing, *([] if risk_column else [' or '.join(RISKS)])])}.",
            wanted=_WANTED,
            got=", ".join(table.column_names) or "no columns",
            do="rename or add them, as in SELECT *, 'cancer' AS outcome, 5.0 AS horizon_years",
        )
    subject = _column(table, "subject_id", pa.int64(), path)
    outcome = _column(table, "outcome", pa.string(), path)
    horizon = _column(table, "horizon_years", pa.float64(), path)
    time = _column(table, TIME, pa.timestamp("us"), path) if TIME in table.column_names else None
    models = _column(table, WHICH, pa.string(), path) if WHICH in table.column_names else None
    keys = {"subject_id": subject, "outcome": outcome, "horizon_years": horizon, TIME: time, WHICH: models}
    for name, column in keys.items():
        if column is not None and column.null_count:
            raise InputError(
                f"{path}: {name} is null in {column.null_count:,} of {table.num_rows:,} rows.",
                wanted="a value in every row",
                do="remove or complete those rows",
            )
    risk = _column(table, risk_column, pa.float64(), path).to_numpy(zero_copy_only=False).astype(np.float64)
    outside = int(np.sum(np.isfinite(risk) & ((risk < 0) | (risk > 1)) | np.isinf(risk)))
    if outside:
        raise InputError(
            f"{path}: {risk_column} is no probability in {outside:,} of {table.num_rows:,} rows.",
            wanted="0 to 1, or null for no risk",
            do="divide percentages by 100; a score that is no probability cannot be compared here",
        )
    named = np.full(table.num_rows, path.stem) if models is None else np.array(models.to_pylist(), dtype=np.str_)
    return PredictionTable(
        models=tuple(dict.fromkeys(named.tolist())),
        model=named,
        subject_id=subject.to_numpy(),
        outcome=np.array(outcome.to_pylist(), dtype=np.str_),
        horizon_years=horizon.to_numpy(),
        time=None if time is None else time.cast(pa.int64()).to_numpy(),
        risk=risk,
    )


def _column(table: pa.Table, name: str, wanted: pa.DataType, path: Path) -> pa.ChunkedArray:
    """One column in the type that is wanted, times with a zone as UTC. Raises: InputError, naming both types."""
    column = table.column(name).combine_chunks() if table.num_rows else table.column(name)
    got = column.type
    if pa.types.is_dictionary(got):
        column = column.cast(got.value_type)
    # A float holds no subject_id beyond 2^53: it would be another person's.
    lossy = pa.types.is_integer(wanted) and not pa.types.is_integer(column.type)
    try:
        if lossy and not pa.types.is_null(column.type):
            raise pa.ArrowInvalid("a subject_id that is no integer")
        if pa.types.is_timestamp(wanted) and pa.types.is_timestamp(got) and got.tz is not None:
            column = column.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
        return column.cast(wanted)
    except (pa.ArrowException, ValueError):
        raise InputError(
            f"{path}: {name} has another type.",
            wanted=str(wanted) + (" (UTC)" if pa.types.is_timestamp(wanted) else ""),
            got=str(got),
            do="cast the column; subject_id is the warehouse's (see subject_map there)",
        ) from None


def risks_at(table: PredictionTable, model: str, evaluated: Evaluated, path: Path) -> Floats:
    """Risks of one model of the table at the evaluated rows and targets. Shape: (N, Q)."""
    assert evaluated.prediction_time is not None, "rows without a time cannot be found in a table"
    of_model = table.model == model
    subjects, subject = np.unique(evaluated.subject_id, return_inverse=True)
    if table.time is None:
        several = int((np.bincount(subject) > 1).sum())
        if several:
            raise InputError(
                f"{path}: without {TIME} it cannot be told which row of a subject a risk belongs to.",
                wanted=f"a column {TIME} (UTC)",
                got=f"{several:,} of {len(subjects):,} subjects evaluated at several times",
                do=f"add {TIME} to the table",
            )
        row_time, table_time = np.zeros(len(evaluated), np.int64), np.zeros(len(table.risk), np.int64)
    else:
        row_time, table_time = evaluated.prediction_time, table.time
    times, at = np.unique(row_time, return_inverse=True)
    key = subject.astype(np.int64) * len(times) + at
    order = np.argsort(key)
    found = np.full((len(evaluated), len(evaluated.targets)), np.nan)
    known = 0
    for q, (outcome, years) in enumerate(evaluated.targets):
        mine = of_model & (table.outcome == outcome) & (np.abs(table.horizon_years - years) < 1e-9)
        who, when = _place(subjects, table.subject_id[mine]), _place(times, table_time[mine])
        there = (who >= 0) & (when >= 0)
        wanted = who[there] * len(times) + when[there]
        rows = _place(key[order], wanted)
        inside = rows >= 0
        places = order[rows[inside]]
        twice = len(places) - len(np.unique(places))
        if twice:
            raise InputError(
                f"{path}: {twice:,} rows stand twice for {outcome} within {years:g} years.",
                wanted=f"one row per {', '.join((*KEYS, TIME))}" + (f" and {WHICH}" if len(table.models) > 1 else ""),
                do=f"remove the repeats, or tell models apart in a column {WHICH}",
            )
        found[places, q] = table.risk[mine][there][inside]
        known += len(places)
    if not known:
        raise InputError(
            f"{path}: none of its {int(of_model.sum()):,} rows is evaluated here.",
            wanted=f"the same subjects, {'' if table.time is None else 'prediction times, '}outcomes and horizons",
            got=f"{len(evaluated):,} evaluated rows; targets "
            + ", ".join(f"{outcome} {years:g}" for outcome, years in evaluated.targets),
            do="give the predictions of these people; subject_id is the warehouse's",
        )
    return found


def _place(values: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Position of each wanted number among rising values, -1 where it is not among them. Shape: (W,)."""
    place = np.minimum(np.searchsorted(values, wanted), len(values) - 1)
    return np.where(values[place] == wanted, place, -1).astype(np.int64)
