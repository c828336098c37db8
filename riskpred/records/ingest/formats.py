"""File formats beside CSV, Parquet and DuckDB that a source table may be written in, read whole into rows.

A reader gets SOURCE and all files that match, and gives a frame of named columns: one row per thing that a mapping
makes a fact of. It raises ValueError for a file that is not what it should be, with no more of it than its name.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import polars as pl

from riskpred.errors import ConfigError
from riskpred.records.ingest.annotation_formats import SETS

Reader = Callable[[Path, Sequence[Path]], pl.DataFrame]


def _json(root: Path, paths: Sequence[Path]) -> pl.DataFrame:
    """Arrays of flat objects."""
    return pl.concat([pl.read_json(path, infer_schema_length=None) for path in paths], how="diagonal")


FORMATS: Final[dict[str, Reader]] = {"json": _json, **SETS}
"""Reader by the name that `format` of a table in ingest.yaml gives it."""


def reader_of(format: str | None, where: str) -> Reader | None:
    """The reader of a table's files; None where DuckDB reads them. Raises: ConfigError: there is no such format."""
    if format is None:
        return None
    if format not in FORMATS:
        raise ConfigError(
            f"{where}: format {format} is unknown.",
            wanted=f"one of {', '.join(sorted(FORMATS))}; none for CSV, Parquet and DuckDB",
            do="correct it",
        )
    return FORMATS[format]
