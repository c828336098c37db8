"""Applies an image mapping to rows: the file behind each, what it says of itself, and why it is refused if it is."""

import hashlib
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from riskpred.config.ingest import ROW, ImageMapping, TimeSpec
from riskpred.errors import ConfigError
from riskpred.progress import Progress
from riskpred.records.image_path import ANY, content_of_files, folder_and_names, folder_content, image_file, named_like
from riskpred.records.ingest.identifiers import SUBJECT
from riskpred.records.ingest.look import UNKNOWN, Asked, Header, Look, Seen
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

LABEL = "#label"
THUMBNAIL = "#thumbnail"
WOULD_DO = "#wanted"
"""Columns of image facts beside those of `images`: label and thumbnail by which near-copies are judged, and what a
refused one should have been."""

ABOUT = {
    "body_part": pl.String,
    "view": pl.String,
    "laterality": pl.String,
    "frames": pl.Int64,
    "row_spacing_mm": pl.Float64,
    "col_spacing_mm": pl.Float64,
    "slice_spacing_mm": pl.Float64,
    "pixel_digest": pl.String,
    "notes": pl.String,
}
"""Columns of `images` that the file itself fills."""

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")

_Place = tuple[str, str | None]
"""Path and series of an image."""


@dataclass(frozen=True)
class Files:
    """Where images lie, and who opens them. look: None = nobody: what a file says of itself stays unknown.

    thumbnails: near-copies are looked for, so the pixels of every image are read.
    """

    root: Path
    look: Look | None
    progress: Progress
    thumbnails: bool = False


def path_columns(template: str) -> list[str]:
    """Source columns that a path template names."""
    return _PLACEHOLDER.findall(template)


def checked_image(mapping: ImageMapping, time: TimeSpec | None, where: str) -> TimeSpec:
    """The mapping's time. Raises: ConfigError, when there is none, or the image type is no DICOM code."""
    if mapping.image_type is not None and mapping.image_type not in IMAGE_TYPES:
        raise ConfigError(
            f"{where}: image_type {mapping.image_type} is unknown.", wanted=", ".join(IMAGE_TYPES), do="correct it"
        )
    if time is None:
        raise ConfigError(f"{where}: no time.", wanted="`time` in the mapping or in its table", do="add it")
    return time


def apply_images(mapping: ImageMapping, time: TimeSpec, frame: pl.DataFrame, zone: str, files: Files) -> pl.DataFrame:
    """One fact per row: ROW, SUBJECT, STATUS (as in mapping.py), columns of `images`, LABEL, THUMBNAIL, WOULD_DO."""
    schema = frame.schema
    known = read_time(time, "measurement", zone, schema)
    image_id = text_of(mapping.image_id, schema[mapping.image_id])
    kind = pl.lit(mapping.image_type, dtype=pl.String)
    if mapping.image_type_column is not None:
        kind = text_of(mapping.image_type_column, schema[mapping.image_type_column])
    folder, names = folder_and_names(mapping.path)
    path, incomplete = path_of(folder, schema)
    series, nameless = path_of(names or "", schema)
    missing = image_id.is_null() | incomplete | nameless
    # A `*` in a value would name the slices of others, too.
    odd = series.str.count_matches(ANY, literal=True) > (names or "").count(ANY)
    status = (
        pl.when(missing)
        .then(pl.lit("missing"))
        .when(pl.col(SUBJECT).is_null())
        .then(pl.lit("no_subject"))
        .when(known.bad.is_not_null())
        .then(known.bad)
        .when(~kind.is_in(IMAGE_TYPES).fill_null(False))
        .then(pl.lit("unknown_image_type"))
        .when(odd)
        .then(pl.lit("path_refused"))
    )
    facts = frame.select(
        pl.col(ROW),
        pl.col(SUBJECT),
        status.cast(pl.String).alias(STATUS),
        image_id.alias("image_id"),
        known.time.alias("time"),
        kind.alias("image_type"),
        path.alias("path"),
        (series if names else pl.lit(None, dtype=pl.String)).alias("series"),
        _label(mapping, schema).alias(LABEL),
    )
    return _with_looks(_with_files(facts, files.root), mapping, files)


def path_of(template: str, schema: pl.Schema) -> tuple[pl.Expr, pl.Expr]:
    """The path that a template names, and whether a column that it needs is empty."""
    parts: list[pl.Expr] = []
    for number, piece in enumerate(_PLACEHOLDER.split(template)):
        parts.append(text_of(piece, schema[piece]) if number % 2 else pl.lit(piece))
    missing = pl.lit(False)
    for column in path_columns(template):
        missing = missing | text_of(column, schema[column]).is_null()
    return pl.concat_str(parts), missing


def content_of(path: Path, files: Sequence[Path] | None = None) -> str | None:
    """SHA-256 of a file, or of a folder's files (`files`: these alone); None where a link leads out of the folder."""
    if path.is_dir():
        return folder_content(path) if files is None else content_of_files(path, files)
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def described(header: Header | None, seen: Seen | None) -> dict[str, Any]:
    """ABOUT of one image, from its header and its pixels; what pixels say goes first."""
    spacing = seen.spacing_mm if seen is not None else UNKNOWN
    if spacing == UNKNOWN and header is not None:
        spacing = header.spacing_mm
    notes = [one for one in (header and header.notes, seen and seen.notes) if one]
    return {
        "body_part": header and header.body_part,
        "view": header and header.view,
        "laterality": header and header.laterality,
        "frames": (seen and seen.frames) or (header and header.frames),
        "row_spacing_mm": spacing[1],
        "col_spacing_mm": spacing[2],
        "slice_spacing_mm": spacing[0],
        "pixel_digest": seen and seen.digest,
        "notes": "; ".join(dict.fromkeys(notes)) or None,
    }


def _label(mapping: ImageMapping, schema: pl.Schema) -> pl.Expr:
    if mapping.label is None:
        return pl.lit(None, dtype=pl.String)
    label = text_of(mapping.label, schema[mapping.label])
    return label.replace(mapping.labels) if mapping.labels else label


def _with_looks(facts: pl.DataFrame, mapping: ImageMapping, files: Files) -> pl.DataFrame:
    """Add ABOUT, THUMBNAIL and WOULD_DO, and refuse what its file says is of no use."""
    there: list[_Place] = facts.filter(pl.col(STATUS).is_null()).select("path", "series").rows()
    headers: dict[str, Header] = {}
    seen: dict[_Place, Seen] = {}
    if files.look is not None and there:
        paths = [path for path in dict.fromkeys(path for path, _ in there) if not (files.root / path).is_dir()]
        headers = dict(zip(paths, files.look.headers(files.root, paths, "image headers", files.progress), strict=True))
        if mapping.pixels or files.thumbnails:
            asked = [Asked(path, series=series) for path, series in dict.fromkeys(there)]
            looked = files.look.pixels(files.root, asked, "image pixels", files.progress)
            seen = {(one.path, one.series): found for one, found in zip(asked, looked, strict=True)}
    rows, refused = list[dict[str, Any]](), list[tuple[str | None, str | None]]()
    for path, series, kind, status in facts.select("path", "series", "image_type", STATUS).iter_rows():
        header, pixels = (headers.get(path), seen.get((path, series))) if status is None else (None, None)
        about = described(header, pixels)
        if header is not None and header.image_type not in (None, kind):
            about["notes"] = "; ".join(filter(None, (about["notes"], "the file names another modality")))
        rows.append({**about, THUMBNAIL: None if pixels is None else pixels.thumbnail})
        problem: tuple[str | None, str | None] | None = None if pixels is None else pixels.problem
        if header is not None and header.burned_in == "yes" and mapping.burned_in == "refuse":
            problem = ("burned_in_annotation", "pixels without text in them, or burned_in: allow")
        refused.append(problem or (None, None))
    reasons, would_do = zip(*refused, strict=True) if refused else ((), ())
    columns = pl.DataFrame(rows, schema={**ABOUT, THUMBNAIL: pl.Binary}).get_columns()
    return facts.with_columns(
        pl.coalesce(STATUS, pl.Series(reasons, dtype=pl.String)).alias(STATUS),
        pl.Series(WOULD_DO, would_do, dtype=pl.String),
        *columns,
    )


def _with_files(facts: pl.DataFrame, root: Path) -> pl.DataFrame:
    """Add sha256, and refuse rows whose file is not there."""

    def look(place: _Place | None) -> tuple[str | None, str | None]:
        if place is None:
            return None, None
        path, names = place
        found = image_file(root, path, folders=True)
        if isinstance(found, str):
            return found, None
        own = None if names is None else named_like(found, names) if found.is_dir() else []
        if own == []:
            return "file_missing", None
        digest = content_of(found, own)
        return (None, digest) if digest is not None else ("path_refused", None)

    with ThreadPoolExecutor(4) as pool:
        rows = facts.select("path", "series", STATUS).iter_rows()
        looked = list(pool.map(look, [(path, series) if status is None else None for path, series, status in rows]))
    refused = pl.Series([reason for reason, _ in looked], dtype=pl.String)
    return facts.with_columns(
        pl.coalesce(STATUS, refused).alias(STATUS),
        pl.Series("sha256", [digest for _, digest in looked], dtype=pl.String),
    )
