"""What people marked in images: the warehouse's optional table `annotations`, by image."""

import json
from dataclasses import dataclass
from typing import Any, Final

from riskpred.records.warehouse import Warehouse

NONE: Final = "none"
"""Kind and label of a row that says that an image was looked at and has no lesion."""

_COLUMNS: Final = (
    "image_id", "subject_id", "lesion", "label", "kind", "path", "mask_value", "x_mm", "y_mm", "z_mm", "diameter_mm",
    "row", "col", "height_px", "width_px", "slice", "points",
)  # fmt: skip


@dataclass(frozen=True)
class Annotation:
    """One row of `annotations`; what each field means stands in schemas/warehouse/annotations.yaml."""

    image_id: str
    subject_id: int
    lesion: int
    label: str
    kind: str
    path: str | None = None
    mask_value: int | None = None
    x_mm: float | None = None
    y_mm: float | None = None
    z_mm: float | None = None
    diameter_mm: float | None = None
    row: float | None = None
    col: float | None = None
    height_px: float | None = None
    width_px: float | None = None
    slice: float | None = None
    points: tuple[tuple[float, float], ...] = ()


ImageKey = tuple[int, str]
"""subject_id, image_id."""


def annotations(warehouse: Warehouse) -> dict[ImageKey, tuple[Annotation, ...]]:
    """Rows by image, by lesion; {} without the table."""
    there = warehouse.columns("annotations")
    if not there:
        return {}
    named = ", ".join(f'"{name}"' if name in there else f'NULL AS "{name}"' for name in _COLUMNS)
    found: dict[ImageKey, list[Annotation]] = {}
    for row in warehouse.query(f"SELECT {named} FROM annotations ORDER BY subject_id, image_id, lesion, label"):
        given = dict(zip(_COLUMNS, row, strict=True))
        one = Annotation(**{**given, "points": _points(given["points"])})
        found.setdefault((one.subject_id, one.image_id), []).append(one)
    return {key: tuple(rows) for key, rows in found.items()}


def _points(text: Any) -> tuple[tuple[float, float], ...]:
    """Corners of a polygon; () where there are none, or they cannot be read: whoever draws it says so."""
    try:
        return tuple((float(row), float(col)) for row, col in json.loads(text)) if isinstance(text, str) else ()
    except (ValueError, TypeError):
        return ()
