"""Ingest of an export, for tests of what becomes of its images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from riskpred.imaging.inspect import FileLook
from riskpred.records.ingest import run_ingest

PACS = """
study: pacs
timezone: Europe/Berlin
folders:
  - name: export
    path: export
    subject: PatientID
    subject_map: {file: people.csv, identifier: pacs, subject: person}
    wanted: {CR: {body_parts: [CHEST], views: [PA, AP]}, CT: {}}
    checks: {inverted: allow}
    allow_rejects: 1.0
"""


@pytest.fixture
def pacs(tmp_path: Path) -> Callable[..., Any]:
    source = tmp_path / "source"
    source.mkdir()
    (source / "people.csv").write_text("pacs,person\nSECRET-7,7\n")

    def ingest(config: str = PACS, workers: int = 0) -> tuple[Any, list[Any], list[Any], bytes]:
        study = tmp_path / "study"
        study.mkdir(exist_ok=True)
        (study / "ingest.yaml").write_text(config)
        into = tmp_path / "w.duckdb"
        with FileLook(workers) as look:
            summary = run_ingest(str(study), source, into, look=look)
        with duckdb.connect(str(into), read_only=True) as connection:
            images = connection.execute(
                "SELECT path, subject_id, time::VARCHAR, image_type, body_part, view, frames, row_spacing_mm,"
                " col_spacing_mm, pixel_digest, image_id, series FROM images ORDER BY path, series"
            ).fetchall()
            rejects = connection.execute("SELECT row_key, reason FROM rejects ORDER BY 1").fetchall()
        return summary, images, rejects, into.read_bytes()

    return ingest
