"""Writes what was evaluated, row by row, as Parquet that meds-evaluation and any other tool can read."""

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from riskpred.errors import InputError, OutputError
from riskpred.evaluate.censoring import CENSORED, COMPETING, DAYS_PER_YEAR, OUTCOME, Floats
from riskpred.evaluate.gather import MODEL, Evaluated
from riskpred.evaluate.in_place import in_its_place
from riskpred.records.schema import table_schema

STATUS: Final = {CENSORED: "censored", OUTCOME: "outcome", COMPETING: "competing"}
NOT_THERE: Final = "none"
"""`status` of an outcome known at once that is not there."""


def refuse_other_table(into: Path) -> None:
    """Check, before the work, that no other table than predictions would be replaced: it is somebody's data.

    Raises: OutputError, when a Parquet file with other columns is there; one that cannot be read may be replaced.
    """
    schema = table_schema(".", "predictions")
    try:
        there = pq.read_schema(into).names if into.is_file() else list(schema.names)
    except pa.ArrowException:
        return
    if there != list(schema.names):
        raise OutputError(
            f"{into}: is there already, and is no table of predictions.",
            wanted="a new name, or predictions to replace",
            got=f"Parquet with {len(there)} columns, other than schemas/predictions.yaml has",
            do="name another with --predictions; nothing was changed",
        )


def write_predictions(evaluated: Evaluated, into: Path) -> int:
    """Write every risk of every model with what followed, by schemas/predictions.yaml; whole or not at all.

    A row stands where a model gives a risk to someone `judged` for the outcome; so models may have different rows.

    Returns: how many rows.
    Raises: InputError: the rows are a bundle's own predictions, which keep neither subject nor time. OutputError: the
        file cannot be written.
    """
    if evaluated.prediction_time is None:
        raise InputError(
            f"{into}: predictions of the split {evaluated.split} cannot be written.",
            wanted="a split of the warehouse: the bundle keeps neither subjects nor times of its own predictions",
            do="leave out --predictions, or choose another --split",
        )
    schema = table_schema(".", "predictions").arrow()
    rows = 0
    with in_its_place(into, "--predictions") as beside, pq.ParquetWriter(beside, schema) as writer:
        for model in evaluated.risks:
            for q in range(len(evaluated.targets)):
                table = _of(evaluated, evaluated.prediction_time, model, q, schema)
                writer.write_table(table)
                rows += table.num_rows
    return rows


def judged(evaluated: Evaluated, outcome: str) -> NDArray[np.bool_]:
    """Rows at risk of the outcome and followed beyond the study's blanking window. Shape: (N,)."""
    window = evaluated.blanking_days.get(outcome, 0)
    at_risk: NDArray[np.bool_] = evaluated.status[outcome] >= 0
    return at_risk & (evaluated.time_days[outcome] > window) if window else at_risk


def came_by(time_days: Floats, status: NDArray[np.int8], horizon_days: float) -> tuple[NDArray[np.bool_], ...]:
    """Whether the outcome came by the horizon, and whether that is known. Shape: (N,) -> (N,), (N,)."""
    happened = (status != CENSORED) & (time_days <= horizon_days)
    return happened & (status == OUTCOME), happened | (time_days >= horizon_days)


def _of(evaluated: Evaluated, times: NDArray[np.int64], model: str, q: int, schema: pa.Schema) -> pa.Table:
    """The rows of one model and target."""
    outcome, years = evaluated.targets[q]
    risk = evaluated.risks[model][0, :, q]
    kept = np.flatnonzero(judged(evaluated, outcome) & np.isfinite(risk))
    time_days, status = evaluated.time_days[outcome][kept], evaluated.status[outcome][kept]
    at_once = outcome in evaluated.known_at_once
    if at_once:
        came, known, time_days = status == OUTCOME, np.ones(len(kept), dtype=np.bool_), np.zeros(len(kept))
    else:
        came, known = came_by(time_days, status, years * DAYS_PER_YEAR)
    words = {**STATUS, CENSORED: NOT_THERE} if at_once else STATUS
    nothing = np.full(len(kept), np.nan)
    low, high = (
        bound[kept, q] if model == MODEL and bound is not None else nothing for bound in (evaluated.low, evaluated.high)
    )
    columns = {
        "subject_id": evaluated.subject_id[kept],
        "prediction_time": times[kept],
        "boolean_value": pa.array(came, mask=~known),
        "predicted_boolean_value": pa.nulls(len(kept), pa.bool_()),
        "predicted_boolean_probability": risk[kept].astype(np.float32),
        "model": [model] * len(kept),
        "outcome": [outcome] * len(kept),
        "horizon_years": np.full(len(kept), float(years)),
        "risk": risk[kept],
        "risk_low": pa.array(low, from_pandas=True),
        "risk_high": pa.array(high, from_pandas=True),
        "time_days": time_days,
        "status": [words[int(one)] for one in status],
    }
    return pa.table([pa.array(columns[field.name]).cast(field.type) for field in schema], schema=schema)
