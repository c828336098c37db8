"""Arrow rows of the output tables from the arrays of one chunk; nothing here loops over subjects in Python."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from riskpred.explain.reasons import constant, one_of
from riskpred.features.batch import STATUSES, FeatureBatch, InputReject, Receipt
from riskpred.features.receipts import input_hashes
from riskpred.model.scope import FLAGS
from riskpred.records.chunk import DAY_US, STATIC
from riskpred.score.assess import Assessed
from riskpred.score.chunk import PAIR_REASONS, PAIR_STATUSES
from riskpred.score.layout import computed_schema
from riskpred.score.plan import Night

Target = tuple[str, float]


def _table(name: str, columns: dict[str, object]) -> pa.Table:
    """Arrow table as a part holds it; a column that is an Arrow dictionary of texts stays one."""
    schema = computed_schema(name).arrow()
    return pa.table({f.name: _column(columns[f.name], f.type) for f in schema})


def _column(values: object, kind: pa.DataType) -> pa.Array:
    """Values as Arrow; a dictionary of texts, or an array that has the type already, is taken as it is."""
    ready = isinstance(values, pa.DictionaryArray) or (isinstance(values, pa.Array) and values.type == kind)
    return values if ready else pa.array(values, type=kind)


def _times(time: NDArray[np.int64]) -> pa.Array:
    """Timestamps of UTC microseconds, null for STATIC."""
    static = time == STATIC
    return pa.array(time, mask=static if static.any() else None).cast(pa.timestamp("us"))


def risk_rows(
    targets: Sequence[Target],
    batch: FeatureBatch,
    assessed: Assessed,
    scored: NDArray[np.bool_],
    scope_flags: NDArray[np.bool_],
    scored_at: int,
    groups: Sequence[str],
) -> pa.Table:
    """Rows of risk_scores.

    Args: groups: names of the bundle's profiles.
    Shape: scored: (B, Q), which risks to write; scope_flags: (B, Q, flags), which of FLAGS hold.
    """
    row, target = np.nonzero(scored)
    flagged = scope_flags[row, target]
    offsets = np.concatenate([[0], np.cumsum(flagged.sum(axis=1))])
    return _table(
        "risk_scores",
        {
            "subject_id": batch.subject_id[row],
            "outcome": one_of(target, [outcome for outcome, _ in targets]),
            "horizon_years": np.array([horizon for _, horizon in targets])[target],
            "prediction_time": _times(batch.prediction_time[row]),
            "risk": assessed.risk[row, target],
            "risk_low": assessed.low[row, target],
            "risk_high": assessed.high[row, target],
            "reference_risk": assessed.reference[row, target],
            "reference_group": one_of(assessed.profile[row], groups),
            "percentile": assessed.percentile[row, target],
            "scored_at": _times(np.full(len(row), scored_at)),
            "scope_flags": pa.ListArray.from_arrays(
                pa.array(offsets, pa.int32()),
                pa.array(np.array(FLAGS, dtype=object)[np.nonzero(flagged)[1]], pa.string()),
            ),
            "contributions": _lists(assessed.contribution[row, target]),
        },
    )


def eligibility_rows(
    outcomes: Sequence[str],
    subject_id: NDArray[np.int64],
    prediction_time: NDArray[np.int64],
    digest: Sequence[str],
    valid_until: NDArray[np.int64],
    status: NDArray[np.int8],
    reason: NDArray[np.int8],
) -> pa.Table:
    """Rows of eligibility, one per (subject, outcome).

    Shape: subject_id, prediction_time, digest, valid_until: (S,); status, reason: (S, O), as in `Judged`.
    """
    wide = len(outcomes)
    return _table(
        "eligibility",
        {
            "subject_id": np.repeat(subject_id, wide),
            "outcome": one_of(np.tile(np.arange(wide), len(subject_id)), outcomes),
            "status": one_of(status.reshape(-1), PAIR_STATUSES),
            "reason": _one_or_none(reason.reshape(-1), PAIR_REASONS),
            "prediction_time": _times(np.repeat(prediction_time, wide)),
            "subject_digest": pa.array(digest, pa.string()).take(pa.array(np.repeat(np.arange(len(digest)), wide))),
            "valid_until": _times(np.repeat(valid_until, wide)),
        },
    )


def receipt_rows(batch: FeatureBatch) -> pa.Table:
    """Rows of input_receipts: what each modality of each subject had to work with."""
    hashes, names = input_hashes(batch), list(batch.receipts)
    return pa.concat_tables(
        [
            _one_modality(batch, one_of(np.full(len(batch), m), names), receipt, hashes[name])
            for m, (name, receipt) in enumerate(batch.receipts.items())
        ]
    )


def _one_modality(
    batch: FeatureBatch, modality: pa.DictionaryArray, receipt: Receipt, hashes: NDArray[np.bytes_]
) -> pa.Table:
    dated = receipt.latest_time != STATIC
    age_days = (batch.prediction_time - np.where(dated, receipt.latest_time, 0)) / DAY_US
    return _table(
        "input_receipts",
        {
            "subject_id": batch.subject_id,
            "modality": modality,
            "status": one_of(receipt.code, STATUSES),
            "n": receipt.n,
            "latest_time": _times(receipt.latest_time),
            "age_days": pa.array(age_days, mask=~dated),
            "missing_features": _missing(receipt),
            "input_hash": _fixed(hashes),
        },
    )


def _one_or_none(place: NDArray[np.int8], vocabulary: Sequence[str | None]) -> pa.DictionaryArray:
    """The text at each place of a vocabulary whose first entry is None."""
    texts = [text for text in vocabulary[1:] if text is not None]
    return pa.DictionaryArray.from_arrays(pa.array(place.astype(np.int32) - 1, mask=place == 0), pa.array(texts))


def _lists(values: NDArray[np.float64]) -> pa.ListArray:
    """The rows of a matrix as lists."""
    rows, wide = values.shape
    return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32) * wide), pa.array(values.reshape(-1)))


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
            "run_id": constant(night.run_id, len(rejects)),
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
            "run_id": constant(night.run_id, len(incomplete)),
            "source": constant("images", len(incomplete)),
            "row_key": keys,
            "subject_id": subjects,
            "reason": constant("incomplete_row", len(incomplete)),
            "field": fields,
            "wanted": constant("a value", len(incomplete)),
        },
    )


def pseudonym_rows(subject_id: NDArray[np.int64], names: Sequence[str]) -> pa.Table:
    """Rows of pseudonyms."""
    return _table(
        "pseudonyms",
        {"subject_id": subject_id, "pseudonym": list(names)},
    )
