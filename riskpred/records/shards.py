"""A warehouse as a folder of MEDS Parquet shards: its layout, how it is written, and which state it is in.

data/000.parquet ...          events; a subject lies in one file, contiguous, sorted; files by ascending subject
metadata/                     dataset.json, codes.parquet, subject_splits.parquet, as MEDS 0.4 has them
images.parquet                as the table `images`
riskpred/                     every other table of schemas/warehouse/, and manifest.json: shards and SHA-256 of files
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from riskpred import __version__
from riskpred.errors import InputError
from riskpred.records.connection import tables_of
from riskpred.records.contents import KEPT, write_contents
from riskpred.records.schema import table_schema, tables

MANIFEST: Final = "riskpred/manifest.json"
EVENTS_PER_SHARD: Final = 5_000_000
"""Where no number of shards is asked for: some 100,000 people with 50 events each, about 50 MB."""
_FORMAT: Final = 1
_MEDS_VERSION: Final = "0.4.1"
_BATCH = 131_072
_OWN_PLACE = {"images": "images.parquet", "subject_splits": "metadata/subject_splits.parquet"}


@dataclass(frozen=True)
class Shard:
    """One file of events. Every subject_id, also of someone without an event, is in the range of exactly one shard."""

    name: str
    first_subject: int
    last_subject: int
    subjects: int
    events: int


def table_file(table: str) -> str:
    """Where a table other than `events` lies in the folder."""
    return _OWN_PLACE.get(table, f"riskpred/{table}.parquet")


def write_shards(connection: duckdb.DuckDBPyConnection, folder: Path, shards: int | None) -> None:
    """Write the warehouse that stands in the connection as files of an empty folder.

    Args:
        shards: how many, of about equally many events, at most one a subject; default: by EVENTS_PER_SHARD.
    """
    for part in ("data", "metadata", "riskpred"):
        (folder / part).mkdir()
    cut = _cut(connection, shards)
    columns = table_schema("warehouse", "events").arrow()
    # MEDS has text_value as large_string.
    columns = columns.set(columns.get_field_index("text_value"), pa.field("text_value", pa.large_string()))
    for shard in cut:
        where = f"WHERE subject_id BETWEEN {shard.first_subject} AND {shard.last_subject}"
        _export(connection, f"SELECT {_cast(columns)} FROM events {where}", columns, folder / shard.name)
    sums = {shard.name: _sha256(folder / shard.name) for shard in cut}
    write_contents(connection, state_of(sums))
    there = tables_of(connection)
    for name in tables("warehouse"):
        if name != "events" and name in there:
            columns = table_schema("warehouse", name).arrow()
            sql = f"SELECT {_cast(columns)} FROM {name}"
            _export(connection, sql, columns, folder / table_file(name))
    _write_meds_metadata(connection, folder)
    sums |= {table_file(name): _sha256(folder / table_file(name)) for name in KEPT}
    manifest = {"format": _FORMAT, "shards": [asdict(shard) for shard in cut], "sha256": sums}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> tuple[tuple[Shard, ...], dict[str, str]] | None:
    """Shards and SHA-256 by file; None for a folder that another tool made.

    Raises: InputError, when there is a manifest that this release cannot read.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        assert found["format"] == _FORMAT
        return tuple(Shard(**shard) for shard in found["shards"]), dict(found["sha256"])
    except (ValueError, KeyError, TypeError, AssertionError):
        raise InputError(
            f"{path}: not readable as a manifest of this release.", wanted=f"format {_FORMAT}", do="ingest again"
        ) from None


def state_of(sums: dict[str, str]) -> str:
    """State of the events: hash over the names and SHA-256 of data/."""
    listed = "\n".join(f"{name} {digest}" for name, digest in sorted(sums.items()) if name.startswith("data/"))
    return hashlib.sha256(listed.encode()).hexdigest()


def state_found(folder: Path, opened: Sequence[str], sums: dict[str, str]) -> str | None:
    """State of the folder as it is: the files opened are read and hashed, of the others the manifest is believed.

    Hashing reads some 2 GB a second; a kept table is hashed once a process, unless its file changed. None where a kept
    table is not the one that was written.
    """
    there = {f"data/{path.relative_to(folder / 'data').as_posix()}" for path in data_files(folder)}
    if there != {name for name in sums if name.startswith("data/")}:
        return None
    if any(_sha256_once(folder / table_file(name)) != sums.get(table_file(name)) for name in KEPT):
        return None
    return state_of({**sums, **{name: _sha256(folder / name) for name in opened}})


def data_files(folder: Path) -> list[Path]:
    """Files of events, by name; MEDS allows folders among them."""
    return sorted((folder / "data").rglob("*.parquet"))


def _cut(connection: duckdb.DuckDBPyConnection, shards: int | None) -> list[Shard]:
    sql = "SELECT subject_id, count(*) FROM events GROUP BY 1 UNION ALL SELECT DISTINCT subject_id, 0 FROM images"
    found = connection.sql(f"SELECT subject_id, sum(n)::BIGINT FROM ({sql}) t(subject_id, n) GROUP BY 1 ORDER BY 1")
    table = found.to_arrow_table()
    subject: NDArray[np.int64] = table.column(0).to_numpy()
    events: NDArray[np.int64] = table.column(1).to_numpy()
    wanted = shards or math.ceil(int(events.sum()) / EVENTS_PER_SHARD)
    parts = max(1, min(wanted, len(subject)))
    # A subject without events weighs something too, so that no shard is empty.
    weight = np.cumsum(events + 1)
    ends = np.searchsorted(weight, weight[-1] * np.arange(1, parts) / parts) + 1
    ends = np.clip(ends, np.arange(1, parts), len(subject) - np.arange(parts - 1, 0, -1))
    ends = np.maximum.accumulate(ends - np.arange(parts - 1)) + np.arange(parts - 1)
    edges = [0, *ends.tolist(), len(subject)]
    low, high = int(np.iinfo(np.int64).min), int(np.iinfo(np.int64).max)
    width = max(3, len(str(parts - 1)))
    return [
        Shard(
            name=f"data/{number:0{width}}.parquet",
            first_subject=int(subject[first]) if number else low,
            last_subject=int(subject[last]) - 1 if last < len(subject) else high,
            subjects=last - first,
            events=int(events[first:last].sum()),
        )
        for number, (first, last) in enumerate(pairwise(edges))
    ]


def _write_meds_metadata(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    columns = pa.schema(
        [
            pa.field("code", pa.string(), nullable=False),
            pa.field("description", pa.string()),
            pa.field("parent_codes", pa.list_(pa.string())),
        ]
    )
    sql = "SELECT DISTINCT code, NULL::VARCHAR, NULL::VARCHAR[] FROM code_dictionary ORDER BY code"
    _export(connection, sql, columns, folder / "metadata" / "codes.parquet")
    study, ingested_at = connection.execute("SELECT min(study), max(ingested_at) FROM ingests").fetchall()[0]
    about = {
        "dataset_name": study,
        "etl_name": "riskpred",
        "etl_version": __version__,
        "meds_version": _MEDS_VERSION,
        "created_at": (ingested_at or datetime.now(UTC)).isoformat(),
        "code_modifier_columns": ["unit"],
    }
    path = folder / "metadata" / "dataset.json"
    path.write_text(json.dumps({key: value for key, value in about.items() if value}, indent=2), encoding="utf-8")


def _cast(columns: pa.Schema) -> str:
    return ", ".join(
        f"{name}::VARCHAR" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else name
        for name, kind in zip(columns.names, columns.types, strict=True)
    )


def _export(connection: duckdb.DuckDBPyConnection, sql: str, columns: pa.Schema, path: Path) -> None:
    with pq.ParquetWriter(path, columns) as writer:
        for batch in connection.sql(sql).to_arrow_reader(_BATCH):
            arrays = [column.cast(kind) for column, kind in zip(batch.columns, columns.types, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=columns))


def _sha256_once(path: Path) -> str:
    """As `_sha256`, but the same file is read once a process: who opens shard after shard would read gigabytes each."""
    status = path.stat()
    return _sha256_of(path, status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=32)
def _sha256_of(path: Path, inode: int, size: int, mtime_ns: int) -> str:
    return _sha256(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
