"""How a night's inputs and risks differ from training and from the last nights: its rows of `drift`."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from duckdb import DuckDBPyConnection
from numpy.typing import NDArray

from riskpred.features.batch import FeatureBatch
from riskpred.model.drift_reference import RISK_CELLS, DriftReference, RiskCells, Watched, cells_of
from riskpred.records.compiled import compiled
from riskpred.records.schema import table_schema
from riskpred.score.drift_statistics import DriftLimits, Flag, psi, psi_flag, rate_flag
from riskpred.score.layout import computed_schema

TRAINING: Final = "training"
LAST_RUNS: Final = "last_7_runs"
RUNS: Final = 7

STATUSES: Final = ("used", "missing", "stale", "rejected")
"""Of a receipt. A used_rate is told but never flagged: what moves it is one of the others."""

_READ: Final = 100_000

_FINE: Final = 2**40
"""Steps of a risk in which they are added up."""

Row = dict[str, Any]
Key = tuple[str | None, ...]


def feature_bin_rows(batch: FeatureBatch, reference: DriftReference) -> pa.Table:
    """Rows of feature_bins, one per row of the batch; none where the bundle watches no input."""
    schema = computed_schema("feature_bins").arrow()
    rows, width = len(batch), len(reference.features)
    if not width:
        return schema.empty_table()
    offsets = np.arange(rows + 1, dtype=np.int32) * np.int32(width)
    cells = np.ascontiguousarray(cells_of(reference, batch))
    bins = pa.BinaryArray.from_buffers(pa.binary(), rows, [None, pa.py_buffer(offsets), pa.py_buffer(cells)])
    return pa.table([pa.array(batch.subject_id), bins], schema=schema)


def drift_rows(
    connection: DuckDBPyConnection,
    run_id: str,
    reference: DriftReference,
    *,
    as_of: int,
    bundle_sha256: str,
    site: str,
    limits: DriftLimits | None = None,
) -> pa.Table:
    """Rows of drift, from the run's stored feature_bins, input_receipts and risk_scores.

    Earlier nights are the last 7 published runs of the same bundle at or before `as_of` (UTC microseconds): another
    bundle has other cells. What is compared with is their mean, not their sum: they hold the same people. Where the
    bundle says nothing of its training inputs there are no rows of features, and rates have no reference in training.
    """
    limits = limits or DriftLimits()
    tonight = Tonight(
        features=_feature_counts(connection, run_id, reference.features),
        modalities=_receipt_counts(connection, run_id),
        risks=_risk_counts(connection, run_id),
    )
    earlier = _Earlier(_earlier_rows(connection, run_id, as_of, bundle_sha256))
    rows: list[Row] = []
    for feature, counts in zip(reference.features, tonight.features, strict=True):
        rows += _feature(feature, counts.tolist(), earlier, limits)
    for modality in dict.fromkeys([*reference.modalities, *tonight.modalities]):
        known = reference.modalities.get(modality)
        rows += _modality(modality, known, tonight.modalities.get(modality, {}), earlier, limits)
    for one in reference.risks:
        rows += _risk(
            one, *tonight.risks.get((one.outcome, one.horizon_years), ([0] * RISK_CELLS, None)), earlier, limits
        )
    schema = table_schema("scores", "drift").arrow()
    whole = [{"run_id": run_id, "site": site, **row} for row in rows]
    return pa.table([pa.array([row.get(f.name) for row in whole], f.type) for f in schema], schema=schema)


@dataclass(frozen=True)
class Tonight:
    """Counts of a run. features: per watched input, the cells; modalities: modality -> status -> subjects.

    risks: (outcome, horizon_years) -> subjects in each tenth of the out-of-fold risks, and the mean risk.
    """

    features: list[NDArray[np.int64]]
    modalities: dict[str, dict[str, int]]
    risks: dict[tuple[str, float], tuple[list[int], float | None]]


def drift_said(rows: pa.Table, reference: DriftReference) -> str:
    """One line for the night's summary: what is flagged, most urgent first, or that nothing is."""
    found = [row for row in rows.to_pylist() if row["flag"]]
    found.sort(key=lambda row: row["flag"] != "alarm")
    names = [f"{row['flag']} {name_of(row)} {row['statistic']} against {row['against']}" for row in found]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    said = "drift: " + (", ".join(names[:5]) + more if names else "nothing flagged")
    return said if reference.features else f"{said}; this bundle keeps no inputs of training to compare with: fit again"


def name_of(row: Row) -> str:
    """What a row of drift is about, in words: `tabular age_years`, `series`, `stroke 5 years`."""
    if row["kind"] == "risk":
        years = f"{row['horizon_years']:g}"
        return f"{row['outcome']} now" if years == "0" else f"{row['outcome']} {years} year{'s' * (years != '1')}"
    return " ".join(str(row[key]) for key in ("modality", "feature") if row[key] is not None)


class _Earlier:
    """Rows against training of earlier runs, by what they are about: each run has told of itself there."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows: dict[Key, list[Row]] = {}
        for row in rows:
            self._rows.setdefault(_key(row), []).append(row)

    def counts(self, about: Row) -> list[float] | None:
        """Mean number in each cell; None without earlier runs."""
        kept = [json.loads(row["counts"]) for row in self._rows.get(_key(about), ()) if row["counts"]]
        return np.mean(kept, axis=0).tolist() if kept else None

    def rate(self, about: Row) -> tuple[float | None, float | None]:
        """The rate over all, and subjects per run."""
        kept = [row for row in self._rows.get(_key(about), ()) if row["tonight"] is not None]
        if not kept:
            return None, None
        n = np.array([row["n_tonight"] for row in kept], dtype=np.float64)
        return float(np.average([row["tonight"] for row in kept], weights=n)), float(n.mean())


def _key(row: Row) -> Key:
    about = ("kind", "modality", "feature", "outcome", "horizon_years", "statistic")
    return tuple(None if row.get(name) is None else str(row[name]) for name in about)


def _earlier_rows(connection: DuckDBPyConnection, run_id: str, as_of: int, bundle_sha256: str) -> list[Row]:
    names = table_schema("scores", "drift").names
    columns = ", ".join(f'd."{name}"' for name in names)
    found = connection.execute(
        f"""
        WITH last AS (
            SELECT run_id FROM runs
            WHERE status = 'published' AND bundle_sha256 = $bundle AND run_id <> $run
                AND as_of <= make_timestamp($as_of::BIGINT)
            ORDER BY as_of DESC, finished_at DESC, run_id LIMIT {RUNS}
        )
        SELECT {columns} FROM drift d JOIN last USING (run_id) WHERE d.against = '{TRAINING}' ORDER BY ALL
        """,
        {"bundle": bundle_sha256, "run": run_id, "as_of": as_of},
    ).fetchall()
    return [dict(zip(names, row, strict=True)) for row in found]


def _feature(feature: Watched, counts: list[int], earlier: _Earlier, limits: DriftLimits) -> list[Row]:
    """Stability of the values that are there, and the share of missing ones."""
    about = {"kind": "feature", "modality": feature.modality, "feature": feature.name}
    everyone = sum(counts)
    missing = counts[-1] / everyone if everyone else None
    rows = []
    last = earlier.counts({**about, "statistic": "psi"})
    for against, before in ((TRAINING, list(feature.counts)), (LAST_RUNS, last)):
        if before is None:
            continue
        rows.append(_psi_row(about, against, before[:-1], counts[:-1], limits))
        total = sum(before)
        rate = before[-1] / total if total else None
        rows.append(_rate_row(about, "missing_rate", against, (rate, total), (missing, everyone), limits))
    rows[0]["counts"] = json.dumps(counts)  # all that later nights need to know of this one
    return rows


def _modality(modality: str, known: Any, counts: dict[str, int], earlier: _Earlier, limits: DriftLimits) -> list[Row]:
    """Shares of receipts by status."""
    everyone = sum(counts.values())
    rows = []
    for status in STATUSES:
        about = {"kind": "modality", "modality": modality}
        statistic = f"{status}_rate"
        rate = counts.get(status, 0) / everyone if everyone else None
        total = sum(known.values()) if known else None
        before = (known.get(status, 0) / total, total) if known and total else (None, None)
        for against, reference in ((TRAINING, before), (LAST_RUNS, earlier.rate({**about, "statistic": statistic}))):
            if against == TRAINING or reference[1] is not None:
                row = _rate_row(about, statistic, against, reference, (rate, everyone), limits)
                rows.append({**row, "flag": None} if status == "used" else row)
    return rows


def _risk(one: RiskCells, counts: list[int], mean: float | None, earlier: _Earlier, limits: DriftLimits) -> list[Row]:
    """Stability over tenths of the out-of-fold risks, and the mean risk, which is told but not flagged."""
    about = {"kind": "risk", "outcome": one.outcome, "horizon_years": one.horizon_years}
    rows = []
    last = earlier.counts({**about, "statistic": "psi"})
    for against, before in ((TRAINING, list(one.counts)), (LAST_RUNS, last)):
        if before is not None:
            rows.append(_psi_row(about, against, before, counts, limits))
    rows[0]["counts"] = json.dumps(counts)
    number = sum(counts)
    means = ((TRAINING, (one.mean, sum(one.counts))), (LAST_RUNS, earlier.rate({**about, "statistic": "mean_risk"})))
    for against, (reference, n) in means:
        if n is not None:
            rows.append(_row(about, "mean_risk", against, reference, mean, n, number, None))
    return rows


def _psi_row(about: Row, against: str, before: Sequence[float], counts: Sequence[int], limits: DriftLimits) -> Row:
    value, n_before, n = psi(before, counts), sum(before), sum(counts)
    cells = sum(1 for b, c in zip(before, counts, strict=True) if b or c)
    return _row(about, "psi", against, None, value, n_before, n, psi_flag(value, cells, n_before, n, limits))


def _rate_row(
    about: Row,
    statistic: str,
    against: str,
    before: tuple[float | None, float | None],
    now: tuple[float | None, int],
    limits: DriftLimits,
) -> Row:
    return _row(about, statistic, against, before[0], now[0], before[1], now[1], rate_flag(*before, *now, limits))


def _row(
    about: Row,
    statistic: str,
    against: str,
    reference: float | None,
    tonight: float | None,
    n_reference: float | None,
    n_tonight: int,
    flag: Flag | None,
) -> Row:
    return {
        **about,
        "statistic": statistic,
        "against": against,
        "reference": reference,
        "tonight": tonight,
        "n_reference": None if n_reference is None else round(n_reference),
        "n_tonight": n_tonight,
        "flag": flag,
    }


def _feature_counts(
    connection: DuckDBPyConnection, run_id: str, features: Sequence[Watched]
) -> list[NDArray[np.int64]]:
    """Subjects in each cell of each input."""
    width = len(features)
    found = np.zeros((width, 256), dtype=np.int64)
    if width:
        reader = connection.sql(
            "SELECT bins FROM feature_bins WHERE run_id = $run", params={"run": run_id}
        ).to_arrow_reader(_READ)
        for batch in reader:
            # The cast refuses a row of another length, so that no byte is read as another input's.
            fixed = batch.column(0).cast(pa.binary(width))
            start = fixed.offset * width
            cells = np.frombuffer(fixed.buffers()[1], dtype=np.uint8)[start : start + len(fixed) * width]
            _count_cells(cells.reshape(len(fixed), width), found)
    assert not any(row[feature.cells :].any() for row, feature in zip(found, features, strict=True)), (
        "a cell that the reference does not have"
    )
    return [row[: feature.cells] for row, feature in zip(found, features, strict=True)]


@compiled
def _count_cells(cells: NDArray[np.uint8], found: NDArray[np.int64]) -> None:
    """Adds to found (W, 256) how often each cell stands in each column. Shape: cells (n, W)."""
    for row in range(cells.shape[0]):
        for column in range(cells.shape[1]):
            found[column, cells[row, column]] += 1


def _receipt_counts(connection: DuckDBPyConnection, run_id: str) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for modality, status, count in connection.execute(
        "SELECT modality, status, count(*) FROM input_receipts WHERE run_id = ? GROUP BY ALL ORDER BY ALL", [run_id]
    ).fetchall():
        found.setdefault(modality, {})[status] = count
    return found


def _risk_counts(
    connection: DuckDBPyConnection, run_id: str
) -> dict[tuple[str, float], tuple[list[int], float | None]]:
    """By tenth of the out-of-fold risks, which `percentile` says."""
    counts: dict[tuple[str, float], list[int]] = {}
    total: dict[tuple[str, float], float] = {}
    # Whole numbers: a sum of fractions depends, in its last digits, on which thread was first.
    for outcome, years, cell, count, risk in connection.execute(
        f"""
        SELECT outcome, horizon_years, least(floor(percentile * {RISK_CELLS}), {RISK_CELLS - 1})::INTEGER AS cell,
            count(*), sum((risk * {_FINE})::BIGINT)::DOUBLE / {_FINE}
        FROM risk_scores WHERE run_id = ? GROUP BY ALL ORDER BY ALL
        """,
        [run_id],
    ).fetchall():
        counts.setdefault((outcome, years), [0] * RISK_CELLS)[cell] = count
        total[outcome, years] = total.get((outcome, years), 0.0) + risk
    return {target: (cells, total[target] / sum(cells)) for target, cells in counts.items()}
