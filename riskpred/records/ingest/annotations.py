"""Applies an annotation mapping to rows: one lesion per row, of a mask, sphere, box or polygon, or none."""

import json
from pathlib import Path
from typing import Any, Final

import polars as pl

from riskpred.config.ingest import ROW
from riskpred.config.ingest_images import AnnotationMapping
from riskpred.errors import ConfigError
from riskpred.records.image_path import folder_and_names, image_file, named_like
from riskpred.records.ingest.identifiers import SUBJECT, hashed_uid
from riskpred.records.ingest.images import path_columns, path_of
from riskpred.records.ingest.mapping import STATUS
from riskpred.records.ingest.values import equals_any, number_of, text_of

LARGEST_MM: Final = 500.0
"""No lesion is larger."""

WANTED: Final = {
    "no_image": "an image that the row names",
    "no_label": "a label",
    "path_refused": "a mask that is a regular file inside the image root",
    "file_missing": "a mask inside the image root",
    "impossible_lesion": "a lesion number from 1",
    "impossible_sphere": f"a finite centre, and a diameter above 0 and up to {LARGEST_MM:g} mm",
    "impossible_box": "a corner from 0 on, and at least one pixel each way",
    "impossible_polygon": "at least three points [[row, col], ...] from 0 on",
    "unreadable_row": "one delimiter, closed quotes, as many fields as the header",
}

UNLESS_MARKED: Final = "unless_marked"
"""Kind of a staged annotation that becomes none where no other row, not even a refused one, marks its image."""

FIELDS: Final = {
    "path": pl.String,
    "mask_value": pl.Int64,
    "x_mm": pl.Float64,
    "y_mm": pl.Float64,
    "z_mm": pl.Float64,
    "diameter_mm": pl.Float64,
    "at_row": pl.Float64,
    "col": pl.Float64,
    "height_px": pl.Int64,
    "width_px": pl.Int64,
    "slice": pl.Float64,
    "points": pl.String,
}
"""Columns of a staged annotation that its kind fills."""


def annotation_columns(mapping: AnnotationMapping) -> set[str]:
    """Source columns that it reads."""
    named = {mapping.image_id, mapping.image_uid, mapping.lesion, mapping.label_column, *mapping.when}
    named |= set(path_columns(mapping.image_path or ""))
    if mapping.mask is not None:
        named |= {*path_columns(mapping.mask.path), mapping.mask.value_column}
    for spec in (mapping.sphere, mapping.box, mapping.polygon):
        named |= set(spec.model_dump().values()) if spec is not None else set()
    return {name for name in named if name is not None}


def check_annotation(mapping: AnnotationMapping, where: str) -> None:
    """Raises: ConfigError, when a label is the word for none."""
    if "none" in (mapping.label, *mapping.labels.values()):
        raise ConfigError(f"{where}: the label none says that there is no lesion.", do="use `none: true`")


def apply_annotations(mapping: AnnotationMapping, frame: pl.DataFrame, root: Path) -> pl.DataFrame:
    """One fact per row: ROW, SUBJECT (null: that of the image), STATUS, and the columns of a staged annotation.

    image_id is null where the image is named by its path; `image_path` then has that.
    """
    schema = frame.schema
    meant = pl.lit(True)
    for column, values in mapping.when.items():
        meant = meant & equals_any(text_of(column, schema[column]), number_of(column, schema[column]), values)
    image, path = _image(mapping, schema)
    kind, fields, empty, bad = _kind(mapping, schema)
    label = pl.lit(mapping.label or "none")
    if mapping.label_column is not None:
        label = text_of(mapping.label_column, schema[mapping.label_column])
        label = label.replace(mapping.labels) if mapping.labels else label
    lesion, odd = pl.lit(None, dtype=pl.Int64), pl.lit(False)
    if mapping.lesion is not None:
        number = number_of(mapping.lesion, schema[mapping.lesion])
        lesion = number.cast(pl.Int64, strict=False)
        odd = ((number < 1) | (number != number.floor()) | number.is_null()).fill_null(True)
    status = (
        pl.when(~meant)
        .then(pl.lit("ignored"))
        .when(empty)
        .then(pl.lit("missing"))
        .when(image.is_null() & path.is_null())
        .then(pl.lit("no_image"))
        .when(label.is_null())
        .then(pl.lit("no_label"))
        .when(odd)
        .then(pl.lit("impossible_lesion"))
        .when(bad)
        .then(pl.lit(f"impossible_{kind}"))
    )
    facts = frame.select(
        pl.col(ROW),
        pl.lit(None, dtype=pl.Int64).alias(SUBJECT),
        status.cast(pl.String).alias(STATUS),
        image.alias("image_id"),
        path.alias("image_path"),
        lesion.alias("lesion"),
        label.alias("label"),
        pl.lit(kind).alias("kind"),
        *(fields.get(name, pl.lit(None)).cast(dtype, strict=False).alias(name) for name, dtype in FIELDS.items()),
    )
    if mapping.image_uid is not None:
        facts = facts.with_columns(pl.col("image_id").map_elements(hashed_uid, return_dtype=pl.String))
    if mapping.polygon is not None:
        facts = _judged(facts, "points", lambda text: None if _drawn(text) else "impossible_polygon")
    if mapping.mask is not None:
        facts = _judged(facts, "path", lambda path: _unreadable(root, path))
    return facts


def _image(mapping: AnnotationMapping, schema: pl.Schema) -> tuple[pl.Expr, pl.Expr]:
    """The image's identifier (or UID), and its path; one of them is null."""
    nothing = pl.lit(None, dtype=pl.String)
    if mapping.image_path is not None:
        path, missing = path_of(mapping.image_path, schema)
        return nothing, pl.when(~missing).then(path)
    column = mapping.image_id or mapping.image_uid
    assert column is not None, "a mapping names its image"
    return text_of(column, schema[column]), nothing


def _kind(mapping: AnnotationMapping, schema: pl.Schema) -> tuple[str, dict[str, pl.Expr], pl.Expr, pl.Expr]:
    """Kind, its columns, whether the row has no annotation, and whether it has an impossible one."""

    def number(column: str | None) -> pl.Expr:
        return pl.lit(None, dtype=pl.Float64) if column is None else number_of(column, schema[column])

    def absent(columns: list[str]) -> pl.Expr:
        return pl.all_horizontal(text_of(column, schema[column]).is_null() for column in columns)

    if (mask := mapping.mask) is not None:
        path, missing = path_of(mask.path, schema)
        value = number(mask.value_column) if mask.value is None else pl.lit(mask.value)
        return "mask", {"path": path, "mask_value": value}, missing, pl.lit(False)
    if (sphere := mapping.sphere) is not None:
        fields = {name: number(column) for name, column in sphere.model_dump().items()}
        diameter = fields["diameter_mm"]
        bad = pl.any_horizontal(value.is_null() for value in fields.values())
        bad = bad | ~((diameter > 0) & (diameter <= LARGEST_MM)).fill_null(False)
        return "sphere", fields, absent(list(sphere.model_dump().values())), bad
    if (box := mapping.box) is not None:
        row, col = number(box.row), number(box.col)
        height = number(box.height_px) if box.height_px is not None else number(box.row_end) - row
        width = number(box.width_px) if box.width_px is not None else number(box.col_end) - col
        bad = ~((row >= 0) & (col >= 0) & (height >= 1) & (width >= 1)).fill_null(False)
        size = {"height_px": height.round(), "width_px": width.round()}
        corners = [column for name, column in box.model_dump().items() if column is not None and name != "slice"]
        return "box", {"at_row": row, "col": col, **size, "slice": number(box.slice)}, absent(corners), bad
    if (polygon := mapping.polygon) is not None:
        points = text_of(polygon.points, schema[polygon.points])
        fields = {"points": points, "slice": number(polygon.slice), "z_mm": number(polygon.z_mm)}
        return "polygon", fields, points.is_null(), pl.lit(False)
    return UNLESS_MARKED if mapping.none == UNLESS_MARKED else "none", {}, pl.lit(False), pl.lit(False)


def _judged(facts: pl.DataFrame, column: str, refuse: Any) -> pl.DataFrame:
    """Refuse accepted rows by what `refuse` says of one column's text."""
    found = [
        refuse(value) if status is None and value is not None else None
        for value, status in facts.select(column, STATUS).iter_rows()
    ]
    return facts.with_columns(pl.coalesce(STATUS, pl.Series(found, dtype=pl.String)).alias(STATUS))


def _unreadable(root: Path, path: str) -> str | None:
    folder, names = folder_and_names(path)
    found = image_file(root, folder, folders=names is not None)
    if isinstance(found, str):
        return found
    return "file_missing" if names is not None and not (found.is_dir() and named_like(found, names)) else None


def _drawn(text: str) -> bool:
    try:
        points = json.loads(text)
        return len(points) >= 3 and all(len(pair) == 2 and min(pair) >= 0 and max(pair) < 1e6 for pair in points)
    except (ValueError, TypeError):
        return False
