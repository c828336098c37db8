"""Small warehouses and sources made on the spot."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest

from riskpred.records.ingest import IngestSummary, run_ingest
from riskpred.records.schema import table_schema


@pytest.fixture
def make_warehouse(tmp_path: Path) -> Callable[..., Path]:
    """Writes a DuckDB file: events (subject, time, code, number, text, unit), images, splits, as another tool would."""

    def make(
        events: Sequence[Sequence[Any]],
        images: Sequence[Sequence[Any]] = (),
        splits: Sequence[Sequence[Any]] = (),
        name: str = "w.duckdb",
        ingests: Sequence[Sequence[Any]] = (),
    ) -> Path:
        path = tmp_path / name
        with duckdb.connect(str(path)) as connection:
            for table, rows in {
                "events": events,
                "images": images,
                "subject_splits": splits,
                "ingests": ingests,
            }.items():
                schema = table_schema("warehouse", table)
                connection.execute(schema.ddl())
                if rows:
                    # The first columns of the table; those that follow may be null.
                    given = schema.names[: len(rows[0])]
                    sql = f"INSERT INTO {table} ({', '.join(given)}) VALUES ({', '.join('?' * len(given))})"
                    connection.executemany(sql, [list(row) for row in rows])
        return path

    return make


@pytest.fixture
def ingest(tmp_path: Path) -> Callable[..., tuple[IngestSummary, Path]]:
    """Ingests text files: ingest({"a.csv": "..."}, "tables: ..."); returns the summary and the warehouse's path."""

    def run(files: dict[str, str | bytes], config: str, name: str = "w.duckdb", **more: Any) -> tuple[Any, Path]:
        source, study = tmp_path / "source", tmp_path / "study"
        source.mkdir(exist_ok=True)
        study.mkdir(exist_ok=True)
        for file, content in files.items():
            (source / file).parent.mkdir(parents=True, exist_ok=True)
            (source / file).write_bytes(content if isinstance(content, bytes) else content.encode())
        (study / "ingest.yaml").write_text(config if "study:" in config else "study: made\n" + config)
        into = tmp_path / name
        return run_ingest(str(study), source, into, **more), into

    return run


@pytest.fixture
def rows() -> Callable[..., list[tuple[Any, ...]]]:
    """Rows of a query on a DuckDB file."""

    def read(path: Path, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(path), read_only=True) as connection:
            return connection.execute(sql).fetchall()

    return read
