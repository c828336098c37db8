"""Parts on disk: the predictions of one method on one fold, written whole or not at all, with what made them."""

import json
import os
import resource
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from riskpred.model.layout import Target
from tests.benchmarks.accuracy.rows import SetRows
from tests.benchmarks.accuracy.task import ALL_INPUTS, Result

_KEY: Final = b"riskpred.benchmark"

PREDICTIONS: Final = pa.schema(
    [
        ("set", pa.dictionary(pa.int8(), pa.string())),
        ("repeat", pa.int16()),
        ("fold", pa.int16()),
        ("row", pa.int32()),
        ("subject", pa.int64()),
        ("method", pa.dictionary(pa.int8(), pa.string())),
        ("scenario", pa.dictionary(pa.int8(), pa.string())),
        ("outcome", pa.dictionary(pa.int8(), pa.string())),
        ("horizon_years", pa.float64()),
        ("risk", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
    ]
)
"""One row per test row, scenario and target. `row` numbers the rows of the set's follow-up file; low, high: the 90 %
interval, null for peers and for scenarios with inputs taken away."""


@dataclass(frozen=True)
class PartName:
    """What a part is of."""

    set: str
    repeat: int
    fold: int
    method: str

    def path(self, folder: Path) -> Path:
        return folder / "parts" / self.set / self.method / f"r{self.repeat}f{self.fold}.parquet"


@dataclass(frozen=True)
class About:
    """Kept in the part's Parquet metadata.

    code: `Method.fingerprint`.   rows: `SetRows.digest`.   seconds: of the fit and the predictions.
    peak_mb: most memory of the process so far.   inner: outcome -> {"rank", "error"} of inner folds.
    settings: what inner folds chose.
    """

    code: str
    rows: str
    seconds: float
    peak_mb: float
    inner: dict[str, dict[str, float]]
    settings: dict[str, Any]


def is_done(folder: Path, name: PartName, code: str, rows: str) -> bool:
    """Whether the part is there and was made by this very code from these very rows."""
    path = name.path(folder)
    found = about(path) if path.is_file() else None
    return found is not None and (found.code, found.rows) == (code, rows)


def about(path: Path) -> About | None:
    """What is known of a part without reading its rows; None for a file of another form, which is then made again."""
    try:
        return About(**json.loads(pq.read_metadata(path).metadata[_KEY]))
    except (pa.ArrowException, TypeError, KeyError, ValueError):
        return None


def write_part(
    folder: Path,
    name: PartName,
    row: NDArray[np.int64],
    subject: NDArray[np.int64],
    targets: tuple[Target, ...],
    result: Result,
    code: str,
    rows: str,
    seconds: float,
) -> None:
    """Write one part, in place of an older one. Shape: row, subject (n,), of the test rows."""
    blocks = []
    for scenario, risk in result.risk.items():
        whole = scenario == ALL_INPUTS
        for q, (outcome, horizon) in enumerate(targets):
            blocks.append(
                {
                    "row": row,
                    "subject": subject,
                    "scenario": [scenario] * len(row),
                    "outcome": [outcome] * len(row),
                    "horizon_years": np.full(len(row), horizon),
                    "risk": risk[:, q],
                    "low": result.low[:, q] if whole and result.low is not None else [None] * len(row),
                    "high": result.high[:, q] if whole and result.high is not None else [None] * len(row),
                }
            )
    known = {"set": name.set, "repeat": name.repeat, "fold": name.fold, "method": name.method}
    tables = [
        pa.table(
            [
                pa.array([known[field.name]] * len(row) if field.name in known else block[field.name], field.type)
                for field in PREDICTIONS
            ],
            schema=PREDICTIONS,
        )
        for block in blocks
    ]
    inner = {outcome: asdict(scores) for outcome, scores in result.inner.items()}
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    kept = About(code, rows, round(seconds, 2), round(peak_mb, 1), inner, dict(result.settings))
    table = pa.concat_tables(tables).unify_dictionaries()
    _publish(table.replace_schema_metadata({_KEY: json.dumps(asdict(kept), default=float).encode()}), name.path(folder))


@dataclass(frozen=True)
class AboutRows:
    """Kept beside a set's follow-up. outcomes: name -> {"horizons_years", "known_at_once"}; rows: the digest."""

    rows: str
    outcomes: dict[str, dict[str, Any]]


def write_follow_up(folder: Path, given: SetRows, rows: str, repeats: int, folds: int) -> None:
    """What happened to each row of a set, and the fold of each row in each repeat: once per set."""
    columns: dict[str, Any] = {
        "row": np.arange(len(given.rows), dtype=np.int32),
        "subject": given.rows.subject_id,
        "age_years": given.rows.age_years,
        "pattern": given.pattern(),
        "prediction_time": given.rows.batch.prediction_time,
    }
    for repeat in range(given.repeats(repeats)):
        columns[f"fold_{repeat}"] = given.fold(repeat, folds)
    kinds = {}
    for view in given.views():
        columns[f"time_days:{view.outcome}"] = view.time_days
        columns[f"status:{view.outcome}"] = view.status
        kinds[view.outcome] = {"horizons_years": view.horizons_years, "known_at_once": view.known_at_once}
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    described = {_KEY: json.dumps(asdict(AboutRows(rows, kinds))).encode()}
    _publish(table.replace_schema_metadata(described), follow_up_path(folder, given.spec.name))


def follow_up_path(folder: Path, set_name: str) -> Path:
    return folder / "follow_up" / f"{set_name}.parquet"


def read_follow_up(folder: Path, set_name: str) -> tuple[pl.DataFrame, AboutRows]:
    """Rows of a set in the order of `row`, and what they are."""
    path = follow_up_path(folder, set_name)
    return pl.read_parquet(path), AboutRows(**json.loads(pq.read_metadata(path).metadata[_KEY]))


def parts_of(folder: Path, set_name: str) -> Iterator[tuple[PartName, Path]]:
    """Every part of a set that is there."""
    for path in sorted((folder / "parts" / set_name).glob("*/r*f*.parquet")):
        repeat, fold = path.stem[1:].split("f")
        yield PartName(set_name, int(repeat), int(fold), path.parent.name), path


def _publish(table: pa.Table, path: Path) -> None:
    """Write beside the place and rename: a reader, or a run that was killed, never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        pq.write_table(table, staging, compression="zstd")
        os.replace(staging, path)
    finally:
        staging.unlink(missing_ok=True)
