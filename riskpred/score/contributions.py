"""Contributions of modalities as a night publishes them: what the feature reasons of the same risks must add up to."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from duckdb import DuckDBPyConnection
from numpy.typing import NDArray

from riskpred.model.layout import Target
from riskpred.score.layout import COMPUTATIONS, Rows
from riskpred.score.parts import Parts

_KEY = ("subject_id", "outcome", "horizon_years")


def of_parts(
    parts: Parts, kind: str, subjects: NDArray[np.int64], targets: Sequence[Target], modalities: Sequence[str]
) -> NDArray[np.float64]:
    """Of subjects that tonight's finished parts of a kind hold.

    Only pages with these subjects are read from disk: the rows of a batch of a part ascend by subject.

    Shape: subjects (S,), ascending; result (S, Q, M) risk points, NaN where a target has no risk.
    """
    found = []
    for table in parts.rows(kind, sorted(parts.finished(kind)), "risk_scores"):
        for batch in table.select([*_KEY, "contributions"]).to_batches():
            ids = batch.column(0).to_numpy(zero_copy_only=True)
            if not len(ids):
                continue
            near = subjects[np.searchsorted(subjects, ids[0]) : np.searchsorted(subjects, ids[-1], "right")]
            begin, end = np.searchsorted(ids, near), np.searchsorted(ids, near, "right")
            found += [batch.slice(first, last - first) for first, last in zip(begin, end, strict=True) if last > first]
    return _array([row for batch in found for row in _rows(batch)], subjects, targets, modalities)


def of_run(
    connection: DuckDBPyConnection,
    run_id: str,
    subjects: NDArray[np.int64],
    targets: Sequence[Target],
    modalities: Sequence[str],
) -> NDArray[np.float64]:
    """The same of a night that a scores file holds. Shape: as `of_parts`."""
    rows = connection.execute(
        f"SELECT {', '.join(_KEY)}, contributions, modalities FROM {Rows(run_id).of('risk_scores')} "
        f"JOIN {COMPUTATIONS} USING (computation) WHERE subject_id IN (SELECT unnest($subjects::BIGINT[]))",
        {"subjects": subjects.tolist()},
    ).fetchall()
    assert all(tuple(row[-1]) == tuple(modalities) for row in rows), "the modalities of the bundle that scored the run"
    return _array([row[:-1] for row in rows], subjects, targets, modalities)


_Row = tuple[int, str, float, list[float]]


def _rows(batch: pa.RecordBatch) -> list[_Row]:
    return list(zip(*(column.to_pylist() for column in batch.columns), strict=True))


def _array(
    rows: Sequence[_Row], subjects: NDArray[np.int64], targets: Sequence[Target], modalities: Sequence[str]
) -> NDArray[np.float64]:
    subject_at = {subject: at for at, subject in enumerate(subjects.tolist())}
    target_at = {target: at for at, target in enumerate(targets)}
    found = np.full((len(subjects), len(targets), len(modalities)), np.nan)
    for subject, outcome, horizon, contributions in rows:
        found[subject_at[subject], target_at[outcome, horizon]] = contributions
    assert not np.isnan(found).all(axis=(1, 2)).any(), "whoever is explained has modality reasons"
    return found
