"""The digest of a night's risks: the same rows, in whatever order they are stored, give the same hex.

One streaming pass over rows; the same function reads what was computed and what was stored, so the two can be compared.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from duckdb import DuckDBPyConnection
from numpy.typing import NDArray

from riskpred.records.compiled import compiled
from riskpred.score.layout import SCHEMA

_NUMBERS: Final = ("horizon_years", "risk", "risk_low", "risk_high", "reference_risk", "percentile")
_TEXTS: Final = ("outcome", "reference_group", "scope_flags")
COLUMNS: Final = ("subject_id", "prediction_time", *_NUMBERS, *_TEXTS)
"""Columns of risk_scores that a digest speaks of: all but run_id, scored_at and carried."""

_AT_ONCE = 131_072
_MASK = 2**64 - 1
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_SHIFT_1, _SHIFT_2, _SHIFT_3 = np.uint64(30), np.uint64(27), np.uint64(31)
# One odd factor per column: a product with it loses nothing, and their sum needs no chain of products.
_FACTORS = tuple(
    np.uint64(int.from_bytes(hashlib.blake2b(f"{k}".encode(), digest_size=8).digest(), "little") | 1)
    for k in range(len(COLUMNS) + 1)
)


@dataclass(frozen=True)
class Content:
    """Digest of some rows of risk_scores; `+` joins those of disjoint rows.

    rows: how many.   first, second: sums modulo 2^64 of two independent hashes of each row.
    falling: neighbours of one subject and outcome whose risk or interval falls with the horizon.
    """

    rows: int = 0
    first: int = 0
    second: int = 0
    falling: int = 0

    def __add__(self, other: "Content") -> "Content":
        return Content(
            self.rows + other.rows,
            (self.first + other.first) & _MASK,
            (self.second + other.second) & _MASK,
            self.falling + other.falling,
        )

    def __sub__(self, other: "Content") -> "Content":
        """What is left when some of the rows are taken away."""
        return Content(
            self.rows - other.rows,
            (self.first - other.first) & _MASK,
            (self.second - other.second) & _MASK,
            self.falling - other.falling,
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the sums, 64 hex characters."""
        return hashlib.sha256(f"{self.rows} {self.first} {self.second}".encode()).hexdigest()


def content_of(rows: Iterable[pa.RecordBatch]) -> Content:
    """Digest of rows that have COLUMNS; texts may be plain or dictionaries, scope_flags a list or comma-joined text."""
    total = Content()
    for batch in rows:
        if not batch.num_rows:
            continue
        numbers = [np.ascontiguousarray(_plain(batch, name), dtype=np.float64) for name in _NUMBERS]
        texts = [_hashed(batch.column(name)) for name in _TEXTS]
        times = batch.column("prediction_time").cast(pa.int64()).to_numpy(zero_copy_only=False)
        subject = batch.column("subject_id").to_numpy(zero_copy_only=False)
        horizon, risk, low, high, reference, percentile = numbers
        first, second, falling = _sums(subject, times, horizon, risk, low, high, reference, percentile, *texts)
        total += Content(batch.num_rows, int(first), int(second), int(falling))
    return total


def stored_content(connection: DuckDBPyConnection, rows: str) -> Content:
    """Digest of stored rows of risk_scores; memory stays constant.

    Args: rows: an SQL subquery that has COLUMNS, in an order in which a subject's rows are neighbours.
    """
    # As ENUM texts arrive as dictionaries: half the time of the pass.
    columns = ", ".join(
        (
            *(f'"{name}"' for name in COLUMNS if name not in _TEXTS),
            *(_as_enum(connection, name) for name in ("outcome", "reference_group")),
            "CASE WHEN len(scope_flags) = 0 THEN NULL ELSE array_to_string(scope_flags, ',') END AS scope_flags",
        )
    )
    return content_of(connection.sql(f"SELECT {columns} FROM {rows}").to_arrow_reader(_AT_ONCE))


def _as_enum(connection: DuckDBPyConnection, column: str) -> str:
    found = connection.execute(f'SELECT DISTINCT "{column}" FROM {SCHEMA}.risk_scores ORDER BY 1').fetchall()
    names = ", ".join("'" + str(name).replace("'", "''") + "'" for (name,) in found)
    return f'"{column}"::ENUM({names}) AS "{column}"' if found else f'"{column}"'


def _plain(batch: pa.RecordBatch, name: str) -> NDArray[np.float64]:
    numbers: NDArray[np.float64] = batch.column(name).to_numpy(zero_copy_only=False)
    return numbers


def _hashed(column: pa.Array) -> NDArray[np.uint64]:
    """Hash of each text; 0 for none. Shape: (N,)."""
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        column = pc.binary_join(column, ",")
    if not pa.types.is_dictionary(column.type):
        if column.null_count == len(column):
            return np.zeros(len(column), dtype=np.uint64)
        column = column.dictionary_encode()
    known = [0 if not text else _hash(text) for text in column.dictionary.to_pylist()]
    table = np.array([*known, 0], dtype=np.uint64)
    place = pc.fill_null(column.indices.cast(pa.int32()), len(known)).to_numpy(zero_copy_only=False)
    hashes: NDArray[np.uint64] = table[place]
    return hashes


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


@compiled
def _mixed(value: np.uint64) -> np.uint64:
    # Source: the finaliser of SplitMix64 (Steele, Lea & Flood 2014).
    value = (value ^ (value >> _SHIFT_1)) * _MIX_1
    value = (value ^ (value >> _SHIFT_2)) * _MIX_2
    return np.uint64(value ^ (value >> _SHIFT_3))


@compiled
def _sums(
    subject: NDArray[np.int64],
    time: NDArray[np.int64],
    horizon: NDArray[np.float64],
    risk: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    reference: NDArray[np.float64],
    percentile: NDArray[np.float64],
    outcome: NDArray[np.uint64],
    group: NDArray[np.uint64],
    flags: NDArray[np.uint64],
) -> tuple[np.uint64, np.uint64, int]:
    first, second, falling = np.uint64(0), np.uint64(0), 0
    horizons, risks, lows = horizon.view(np.uint64), risk.view(np.uint64), low.view(np.uint64)
    highs, references, percentiles = high.view(np.uint64), reference.view(np.uint64), percentile.view(np.uint64)
    for i in range(len(subject)):
        row = np.uint64(subject[i]) * _FACTORS[0] + np.uint64(time[i]) * _FACTORS[1]
        row += horizons[i] * _FACTORS[2] + risks[i] * _FACTORS[3] + lows[i] * _FACTORS[4] + highs[i] * _FACTORS[5]
        row += references[i] * _FACTORS[6] + percentiles[i] * _FACTORS[7]
        row += outcome[i] * _FACTORS[8] + group[i] * _FACTORS[9] + flags[i] * _FACTORS[10]
        first += _mixed(row)
        second += _mixed(row * _FACTORS[11] + risks[i])
        if i and subject[i] == subject[i - 1] and outcome[i] == outcome[i - 1]:
            up = 1.0 if horizon[i] > horizon[i - 1] else -1.0
            if up * (risk[i] - risk[i - 1]) < 0 or up * (low[i] - low[i - 1]) < 0 or up * (high[i] - high[i - 1]) < 0:
                falling += 1
    return first, second, falling
