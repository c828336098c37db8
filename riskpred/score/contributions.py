"""Contributions of modalities as a night publishes them: what the feature reasons of the same risks must add up to."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from duckdb import DuckDBPyConnection
from numpy.typing import NDArray

from riskpred.model.layout import Target
from riskpred.score.parts import Parts

_COLUMNS = ("subject_id", "outcome", "horizon_years", "modality", "contribution")


def of_parts(
    parts: Parts, kind: str, subjects: NDArray[np.int64], targets: Sequence[Target], modalities: Sequence[str]
) -> NDArray[np.float64]:
    """Of subjects that tonight's finished parts of a kind hold.

    Only pages with these subjects are read from disk: the rows of a batch of a part ascend by subject.

    Shape: subjects (S,), ascending; result (S, Q, M) risk points, NaN where a target has no risk.
    """
    found = []
    for table in parts.rows(kind, sorted(parts.finished(kind)), "explanations"):
        for batch in table.select(list(_COLUMNS)).to_batches():
            ids = batch.column(0).to_numpy(zero_copy_only=True)
            if not len(ids):
                continue
            near = subjects[np.searchsorted(subjects, ids[0]) : np.searchsorted(subjects, ids[-1], "right")]
            begin, end = np.searchsorted(ids, near), np.searchsorted(ids, near, "right")
            found += [batch.slice(first, last - first) for first, last in zip(begin, end, strict=True) if last > first]
    rows = [row for batch in found for row in _rows(pa.Table.from_batches([batch]))]
    return _array(rows, subjects, targets, modalities)


def of_run(
    connection: DuckDBPyConnection,
    run_id: str,
    subjects: NDArray[np.int64],
    targets: Sequence[Target],
    modalities: Sequence[str],
) -> NDArray[np.float64]:
    """The same of a night that a scores file holds. Shape: as `of_parts`."""
    rows = connection.execute(
        f"SELECT {', '.join(_COLUMNS)} FROM explanations WHERE run_id = $run AND level = 'modality' "
        "AND subject_id IN (SELECT unnest($subjects::BIGINT[]))",
        {"run": run_id, "subjects": subjects.tolist()},
    ).fetchall()
    return _array(rows, subjects, targets, modalities)


_Row = tuple[int, str, float, str, float]


def _rows(table: pa.Table) -> list[_Row]:
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def _array(
    rows: Sequence[_Row], subjects: NDArray[np.int64], targets: Sequence[Target], modalities: Sequence[str]
) -> NDArray[np.float64]:
    subject_at = {subject: at for at, subject in enumerate(subjects.tolist())}
    target_at = {target: at for at, target in enumerate(targets)}
    modality_at = {name: at for at, name in enumerate(modalities)}
    found = np.full((len(subjects), len(targets), len(modalities)), np.nan)
    for subject, outcome, horizon, modality, contribution in rows:
        found[subject_at[subject], target_at[outcome, horizon], modality_at[modality]] = contribution
    assert not np.isnan(found).all(axis=(1, 2)).any(), "whoever is explained has modality reasons"
    return found
