"""Joins the true risks of a simulated hospital to evaluated rows; nothing else in the product reads them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from riskpred.errors import InputError
from riskpred.evaluate.gather import Evaluated
from riskpred.records.schema import table_schema


def with_truth(evaluated: Evaluated, path: Path) -> Evaluated:
    """The same rows with the true risk of each target, NaN where the file has none.

    Args: path: Parquet as schemas/truth.yaml says.
    Raises: InputError: no such file, not of that schema, no row of it is evaluated here, or the rows are a bundle's
        own predictions, which keep no prediction time to join by.
    """
    if evaluated.prediction_time is None:
        raise InputError(
            f"{path}: true risks cannot be joined to the split {evaluated.split}.",
            wanted="a split of the warehouse",
            do="leave out --truth, or choose another --split",
        )
    schema = table_schema(".", "truth")
    if not path.is_file():
        raise InputError(
            f"{path}: no such file.", wanted="truth.parquet of a simulated hospital", do="run `riskpred demo`"
        )
    try:
        table = pq.read_table(path, columns=schema.names).cast(schema.arrow())
    except (pa.ArrowException, KeyError, OSError) as error:
        raise InputError(
            f"{path}: not a file of true risks.",
            wanted=f"Parquet with columns {', '.join(schema.names)}",
            got=type(error).__name__,
            do="give the truth.parquet that was made with this warehouse",
        ) from None
    targets = {target: q for q, target in enumerate(evaluated.targets)}
    place = {
        key: i
        for i, key in enumerate(zip(evaluated.subject_id.tolist(), evaluated.prediction_time.tolist(), strict=True))
    }
    truth = np.full((len(evaluated), len(targets)), np.nan)
    columns = [table.column(name) for name in ("subject_id", "outcome", "horizon_years")]
    times = table.column("prediction_time").cast(pa.int64())
    for subject, outcome, horizon, time, risk in zip(
        *(column.to_pylist() for column in (*columns, times, table.column("risk"))), strict=True
    ):
        row, target = place.get((subject, time)), targets.get((outcome, horizon))
        if row is not None and target is not None:
            truth[row, target] = risk
    if not np.isfinite(truth).any():
        raise InputError(
            f"{path}: none of its {table.num_rows:,} rows is evaluated here.",
            wanted="the same subjects, outcomes, horizons and prediction times",
            got=f"{len(evaluated):,} evaluated rows, {len(targets)} targets",
            do="give the truth.parquet that was made with this warehouse",
        )
    return replace(evaluated, truth=truth)
