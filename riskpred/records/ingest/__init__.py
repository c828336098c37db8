"""Mapped CSV, Parquet or DuckDB sources -> MEDS events, images, splits; every fact accounted for."""

from riskpred.records.ingest.account import SourceCount
from riskpred.records.ingest.run import IngestSummary, run_ingest

__all__ = ["IngestSummary", "SourceCount", "run_ingest"]
