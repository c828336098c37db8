"""Rows of `evidence` of kind finding: images in which a segmentation looked, some of them drawn with what it found."""

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from riskpred.config.segmentation import SegmentationStage
from riskpred.explain.evidence import png
from riskpred.explain.reasons import schema_without_run
from riskpred.features.findings import FindingSource, LookedAt, measures, numbered
from riskpred.features.look import wanted
from riskpred.imaging.decode import decode_one
from riskpred.imaging.prepare import Prepared
from riskpred.records.chunk import STATIC

KIND: Final = "finding"

_MOST_IMAGES: Final = 24
"""Images of one subject and stage that are told of: the latest."""


def finding_evidence(images: Sequence[LookedAt], source: FindingSource, image_root: Path) -> pa.Table:
    """One row per image, the latest of each subject and stage; up to three of them with a picture: the latest that
    shows something, the one before it that does, and the one that shows most.

    Args: images: by subject, stage and time, as `with_findings` gives them.
    """
    rows: list[dict[str, Any]] = []
    first = {id(one): number for one, number in zip(images, numbered(images), strict=True)}
    for (_, name), group in groupby(images, key=lambda one: (one.image.subject_id, one.stage)):
        mine, stage = list(group), source.config.segmentation.get(name)
        if stage is None:
            continue  # radiomics mark nothing that could be drawn: their values are features, which have reasons
        drawn = _to_draw(mine)
        rows += [
            _row(one, stage, first[id(one)], one in drawn, image_root)
            for one in mine
            if one in drawn or one in mine[-_MOST_IMAGES:]
        ]
    schema = schema_without_run("evidence")
    columns = {
        field.name: pa.array([row.get(field.name) for row in rows], type=field.type)
        for field in schema
        if field.name != "time"
    }
    time = np.array([row["time"] for row in rows], np.int64)
    columns["time"] = pa.array(time, mask=time == STATIC).cast(pa.timestamp("us"))
    return pa.table([columns[field.name] for field in schema], schema=schema)


def _to_draw(images: Sequence[LookedAt]) -> list[LookedAt]:
    showing = [one for one in images if one.looked.lesions]
    most = max(showing, key=_area, default=None)
    return [*showing[-2:], *([most] if most is not None and most not in showing[-2:] else [])]


def _area(one: LookedAt) -> float:
    return sum(lesion.area_px or 0.0 for lesion in one.looked.lesions)


def _row(one: LookedAt, stage: SegmentationStage, first: int, drawn: bool, image_root: Path) -> dict[str, Any]:
    note: dict[str, Any] = {
        "stage": one.stage,
        "measures": {label: measures(one.looked, label) for label in stage.names},
    }
    row: dict[str, Any] = {
        "subject_id": one.image.subject_id,
        "kind": KIND,
        "name": one.image.image_id,
        "time": one.image.time,
        "value": float(len(one.looked.lesions)),
        "unit": "lesions",
    }
    result = decode_one(wanted(stage, one.image, image_root)).result if drawn else None
    if isinstance(result, Prepared):
        picture, factor = png(_shown(result, one.looked.drawn, stage))
        height, width = (max(1, round(side * factor)) for side in result.pixels.shape[-2:])
        lines = [
            # A line goes through centres of pixels; the page counts from the picture's corner.
            {"lesion": number, "polygon": [[(r + 0.5) * factor, (c + 0.5) * factor] for r, c in line]}
            for number, lesion in enumerate(one.looked.lesions, start=first)
            for line in lesion.lines
        ]
        note |= {"height_px": height, "width_px": width, "slice": _file_slice(result, one.looked.drawn)}
        row |= {"picture": picture, "outline": json.dumps(lines) if lines else None}
    return {**row, "note": json.dumps(note)}


def _shown(prepared: Prepared, drawn: int, stage: SegmentationStage) -> NDArray[np.float32]:
    """The slice that is drawn, in grey: the mean of colours, the first of several sequences. Shape: (H, W)."""
    pixels = prepared.pixels
    channels = pixels[0, :, drawn] if pixels.ndim == 5 else pixels[drawn]
    return np.asarray(channels.mean(axis=0) if stage.channels == "rgb" else channels[0], np.float32)


def _file_slice(prepared: Prepared, drawn: int) -> float | None:
    """Slice of the file, from 0; None of a file that has one."""
    if int(prepared.grid.shape[0]) == 1:
        return None
    return float(prepared.slices[drawn]) if prepared.slices else float(prepared.grid.file_index((drawn, 0, 0))[0])
