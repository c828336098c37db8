"""Arrow rows of the output tables from the arrays of one chunk; nothing here loops over subjects in Python."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from riskpred.features.batch import STATUSES, FeatureBatch, InputReject, Receipt
from riskpred.features.receipts import input_hashes
from riskpred.model.scope import FLAGS
from riskpred.records.chunk import DAY_US, STATIC
from riskpred.records.schema import table_schema
from riskpred.score.assess import Assessed
from riskpred.score.plan import Night

Target = tuple[str, float]


def _table(name: str, columns: dict[str, object]) -> pa.Table:
    schema = table_schema("scores", name).arrow()
    return pa.table([_column(columns[f.name], f.type) for f in schema], schema=schema)


def _column(values: object, kind: pa.DataType) -> pa.Array:
    """Values as Arrow; an array that has the type already is taken as it is."""
    return values if isinstance(values, pa.Array) and values.type == kind else pa.array(values, type=kind)


def _times(time: NDArray[np.int64]) -> pa.Array:
    """Timestamps of UTC microseconds, null for STATIC."""
    return pa.array(time, mask=time == STATIC).cast(pa.timestamp("us"))


def _same(value: object, length: int, kind: pa.DataType | None = None) -> pa.Array:
    return pa.repeat(pa.scalar(value, kind), length)


def risk_rows(
    night: Night,
    targets: Sequence[Target],
    batch: FeatureBatch,
    assessed: Assessed,
    scored: NDArray[np.bool_],
    scope_flags: NDArray[np.bool_],
    scored_at: int,
    reference_group: str,
) -> pa.Table:
    """Rows of risk_scores. `scored`: (B, Q), which risks to write; scope_flags: (B, Q, flags), which of FLAGS hold."""
    row, target = np.nonzero(scored)
    flagged = scope_flags[row, target]
    offsets = np.concatenate([[0], np.cumsum(flagged.sum(axis=1))])
    return _table(
        "risk_scores",
        {
            "run_id": _same(night.run_id, len(row)),
            "subject_id": batch.subject_id[row],
            "outcome": np.array([outcome for outcome, _ in targets], dtype=object)[target],
            "horizon_years": np.array([horizon for _, horizon in targets])[target],
            "prediction_time": _times(batch.prediction_time[row]),
            "risk": assessed.risk[row, target],
            "risk_low": assessed.low[row, target],
            "risk_high": assessed.high[row, target],
            "reference_risk": assessed.reference[row, target],
            "reference_group": _same(reference_group, len(row)),
            "percentile": assessed.percentile[row, target],
            "scored_at": _times(np.full(len(row), scored_at)),
            "carried": np.zeros(len(row), dtype=bool),
            "scope_flags": pa.ListArray.from_arrays(
                pa.array(offsets, pa.int32()),
                pa.array(np.array(FLAGS, dtype=object)[np.nonzero(flagged)[1]], pa.string()),
            ),
        },
    )


def eligibility_rows(
    night: Night,
    outcomes: Sequence[str],
    subject_id: NDArray[np.int64],
    prediction_time: NDArray[np.int64],
    digest: Sequence[str],
    valid_until: NDArray[np.int64],
    status: NDArray[np.object_],
    reason: NDArray[np.object_],
) -> pa.Table:
    """Rows of eligibility, one per (subject, outcome).

    Shape: subject_id, prediction_time, digest, valid_until: (S,); status and reason: (S, O) text, reason None = none.
    """
    wide = len(outcomes)
    return _table(
        "eligibility",
        {
            "run_id": _same(night.run_id, len(subject_id) * wide),
            "subject_id": np.repeat(subject_id, wide),
            "outcome": np.tile(np.array(outcomes, dtype=object), len(subject_id)),
            "status": status.reshape(-1),
            "reason": reason.reshape(-1),
            "prediction_time": _times(np.repeat(prediction_time, wide)),
            "subject_digest": np.repeat(np.array(digest, dtype=object), wide),
            "valid_until": _times(np.repeat(valid_until, wide)),
        },
    )


def receipt_rows(night: Night, batch: FeatureBatch) -> pa.Table:
    """Rows of input_receipts: what each modality of each subject had to work with."""
    hashes = input_hashes(batch)
    return pa.concat_tables(
        [_one_modality(night, batch, name, receipt, hashes[name]) for name, receipt in batch.receipts.items()]
    )


def _one_modality(
    night: Night, batch: FeatureBatch, name: str, receipt: Receipt, hashes: NDArray[np.bytes_]
) -> pa.Table:
    dated = receipt.latest_time != STATIC
    age_days = (batch.prediction_time - np.where(dated, receipt.latest_time, 0)) / DAY_US
    return _table(
        "input_receipts",
        {
            "run_id": _same(night.run_id, len(batch)),
            "subject_id": batch.subject_id,
            "modality": _same(name, len(batch)),
            "status": _texts(STATUSES, receipt.code),
            "n": receipt.n,
            "latest_time": _times(receipt.latest_time),
            "age_days": pa.array(age_days, mask=~dated),
            "missing_features": _missing(receipt),
            "input_hash": _fixed(hashes),
        },
    )


def _texts(vocabulary: Sequence[str], place: NDArray[np.integer]) -> pa.Array:
    """The text at each place of a vocabulary."""
    return pa.DictionaryArray.from_arrays(pa.array(place), pa.array(vocabulary, pa.string())).cast(pa.string())


def _fixed(texts: NDArray[np.bytes_]) -> pa.Array:
    """ASCII texts of one length, from the bytes they lie in."""
    offsets = np.arange(len(texts) + 1, dtype=np.int32) * texts.dtype.itemsize
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(texts)))


def _missing(receipt: Receipt) -> pa.Array:
    """Names of what was missing and the notes, a list per row."""
    if receipt.notes:  # few rows of few chunks
        return pa.array([list(names) for names in receipt.missing_features], pa.list_(pa.string()))
    row, place = np.nonzero(receipt.missing)
    offsets = np.searchsorted(row, np.arange(len(receipt.code) + 1))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), _texts(receipt.names, place.astype(np.int32)))


def reject_rows(night: Night, rejects: Sequence[InputReject]) -> pa.Table:
    """Rows of rejects: inputs that could not be used."""
    return _table(
        "rejects",
        {
            "run_id": _same(night.run_id, len(rejects)),
            "source": [r.source for r in rejects],
            "row_key": [r.row_key for r in rejects],
            "subject_id": [r.subject_id for r in rejects],
            "reason": [r.reason for r in rejects],
            "field": [r.field for r in rejects],
            "wanted": [r.wanted for r in rejects],
        },
    )


def incomplete_image_rows(night: Night, incomplete: Sequence[tuple[str, int | None, str]]) -> pa.Table:
    """Rows of rejects: rows of images that no one could read. `incomplete`: of `Warehouse.incomplete_images`."""
    keys, subjects, fields = zip(*incomplete, strict=True) if incomplete else ((), (), ())
    return _table(
        "rejects",
        {
            "run_id": _same(night.run_id, len(incomplete)),
            "source": _same("images", len(incomplete)),
            "row_key": keys,
            "subject_id": subjects,
            "reason": _same("incomplete_row", len(incomplete)),
            "field": fields,
            "wanted": _same("a value", len(incomplete)),
        },
    )


def pseudonym_rows(night: Night, subject_id: NDArray[np.int64], names: Sequence[str]) -> pa.Table:
    """Rows of pseudonyms."""
    return _table(
        "pseudonyms",
        {"run_id": _same(night.run_id, len(subject_id)), "subject_id": subject_id, "pseudonym": list(names)},
    )
