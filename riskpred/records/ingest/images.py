"""Applies an image mapping to rows: the file behind each, its content's digest, and why it is refused if it is."""

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl

from riskpred.config.ingest import ROW, ImageMapping, TimeSpec
from riskpred.errors import ConfigError
from riskpred.records.image_path import image_file
from riskpred.records.ingest.identifiers import SUBJECT
from riskpred.records.ingest.mapping import STATUS
from riskpred.records.ingest.times import read_time
from riskpred.records.ingest.values import text_of

IMAGE_TYPES = ("CR", "DX", "CT", "MR", "US", "MG", "OP")
"""DICOM modality codes that `images` may hold."""

WANTED = {
    "no_subject": "an identifier of the person",
    "no_time": "a time for every image",
    "not_a_time": "a time, as ingest.yaml states it",
    "no_anchor": "a day 0 for the subject",
    "unknown_image_type": ", ".join(IMAGE_TYPES),
    "path_refused": "a regular file inside the image root",
    "file_missing": "a file inside the image root",
    "ambiguous_image_id": "one image per image_id",
}

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def path_columns(mapping: ImageMapping) -> list[str]:
    """Source columns that the path template names."""
    return _PLACEHOLDER.findall(mapping.path)


def checked_image(mapping: ImageMapping, time: TimeSpec | None, where: str) -> TimeSpec:
    """The mapping's time. Raises: ConfigError, when there is none, or the image type is no DICOM code."""
    if mapping.image_type is not None and mapping.image_type not in IMAGE_TYPES:
        raise ConfigError(
            f"{where}: image_type {mapping.image_type} is unknown.", wanted=", ".join(IMAGE_TYPES), do="correct it"
        )
    if time is None:
        raise ConfigError(f"{where}: no time.", wanted="`time` in the mapping or in its table", do="add it")
    return time


def apply_images(mapping: ImageMapping, time: TimeSpec, frame: pl.DataFrame, zone: str, root: Path) -> pl.DataFrame:
    """One fact per row: ROW, SUBJECT, STATUS (as in mapping.py), image_id, time, image_type, path, sha256."""
    schema = frame.schema
    known = read_time(time, "measurement", zone, schema)
    image_id = text_of(mapping.image_id, schema[mapping.image_id])
    kind = pl.lit(mapping.image_type, dtype=pl.String)
    if mapping.image_type_column is not None:
        kind = text_of(mapping.image_type_column, schema[mapping.image_type_column])
    path, missing = _path(mapping, schema), image_id.is_null()
    for column in path_columns(mapping):
        missing = missing | text_of(column, schema[column]).is_null()
    status = (
        pl.when(missing)
        .then(pl.lit("missing"))
        .when(pl.col(SUBJECT).is_null())
        .then(pl.lit("no_subject"))
        .when(known.bad.is_not_null())
        .then(known.bad)
        .when(~kind.is_in(IMAGE_TYPES).fill_null(False))
        .then(pl.lit("unknown_image_type"))
    )
    facts = frame.select(
        pl.col(ROW),
        pl.col(SUBJECT),
        status.cast(pl.String).alias(STATUS),
        image_id.alias("image_id"),
        known.time.alias("time"),
        kind.alias("image_type"),
        path.alias("path"),
    )
    return _with_files(facts, root)


def _path(mapping: ImageMapping, schema: pl.Schema) -> pl.Expr:
    parts: list[pl.Expr] = []
    for number, piece in enumerate(_PLACEHOLDER.split(mapping.path)):
        parts.append(text_of(piece, schema[piece]) if number % 2 else pl.lit(piece))
    return pl.concat_str(parts)


def _with_files(facts: pl.DataFrame, root: Path) -> pl.DataFrame:
    """Add sha256, and refuse rows whose file is not there."""

    def look(path: str | None) -> tuple[str | None, str | None]:
        if path is None:
            return None, None
        found = image_file(root, path)
        if isinstance(found, str):
            return found, None
        with found.open("rb") as stream:
            return None, hashlib.file_digest(stream, "sha256").hexdigest()

    with ThreadPoolExecutor(4) as pool:
        asked = [path if status is None else None for path, status in facts.select("path", STATUS).iter_rows()]
        looked = list(pool.map(look, asked))
    refused = pl.Series([reason for reason, _ in looked], dtype=pl.String)
    return facts.with_columns(
        pl.coalesce(STATUS, refused).alias(STATUS),
        pl.Series("sha256", [digest for _, digest in looked], dtype=pl.String),
    )
