"""Rows of `evidence`: what the page draws of an explained subject: series values, the image, where it spoke up."""

import io
import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from riskpred.explain.reasons import REGION, decimal, schema_without_run
from riskpred.explain.regions import measured, outline
from riskpred.features.batch import FeatureBatch, ImageInput, SeriesInput
from riskpred.features.plan import FeaturePlan, SeriesPlan
from riskpred.records.chunk import STATIC

LARGEST_PICTURE = 64 * 1024


def series_rows(batch: FeatureBatch, plan: FeaturePlan, modality: str, rows: NDArray[np.int64]) -> pa.Table:
    """One row per visible value of each channel of a series, for the subjects in `rows` (places in the batch)."""
    given, spec = batch.inputs[modality], plan.modalities[modality]
    assert isinstance(given, SeriesInput), modality
    assert isinstance(spec, SeriesPlan), modality
    length = np.diff(given.start)
    steps = np.flatnonzero(np.isin(np.repeat(np.arange(len(batch)), length), rows))
    subject = np.repeat(batch.subject_id, length)[steps]
    step, channel = np.nonzero(~np.isnan(given.values[steps]))
    return _rows(
        "series",
        subject_id=subject[step],
        name=np.array([c.code for c in spec.channels], dtype=object)[channel],
        time=given.time[steps][step],
        value=decimal(given.values[steps][step, channel]),
        unit=np.array([c.unit for c in spec.channels], dtype=object)[channel],
        picture=[None] * len(step),
        outline=[None] * len(step),
        note=[None] * len(step),
    )


def image_rows(batch: FeatureBatch, modality: str, rows: NDArray[np.int64], mask: NDArray[np.bool_]) -> pa.Table:
    """One row per image: the prepared picture, the outlines of its regions, their place and size.

    Args:
        mask: the regions of each picture, as `Picture` has them. Shape: (len(rows), regions, H, W).
    """
    given = batch.inputs[modality]
    assert isinstance(given, ImageInput), modality
    drawn = [_drawn(given.pixels[row], given.spacing_mm[row], mask[at]) for at, row in enumerate(rows.tolist())]
    return _rows(
        "image",
        subject_id=batch.subject_id[rows],
        name=np.array([given.image_id[row] for row in rows.tolist()], dtype=object),
        time=given.time[rows],
        value=np.full(len(rows), None, dtype=object),
        unit=np.full(len(rows), None, dtype=object),
        picture=[picture for picture, _, _ in drawn],
        outline=[outlines for _, outlines, _ in drawn],
        note=[note for _, _, note in drawn],
    )


def png(pixels: NDArray[np.float32]) -> tuple[bytes, float]:
    """PNG of at most 64 KiB of pixels in 0..1, and the factor by which it had to be made smaller. Shape: (H, W)."""
    picture = Image.fromarray((np.clip(pixels, 0, 1) * 255).round().astype(np.uint8))
    factor = 1.0
    while True:
        stream = io.BytesIO()
        small = picture.resize((max(1, round(picture.width * factor)), max(1, round(picture.height * factor))))
        (picture if factor == 1.0 else small).save(stream, format="PNG", optimize=True)
        if stream.tell() <= LARGEST_PICTURE:
            return stream.getvalue(), factor
        factor /= 2


def _drawn(
    pixels: NDArray[np.float32], spacing_mm: NDArray[np.float64], mask: NDArray[np.bool_]
) -> tuple[bytes, str | None, str]:
    """PNG, outline and note of one picture."""
    picture, factor = png(pixels)
    height, width = (max(1, round(side * factor)) for side in pixels.shape)
    spacing = None if np.isnan(spacing_mm).any() else (spacing_mm[0] / factor, spacing_mm[1] / factor)
    regions = [(REGION.format(place), region) for place, region in enumerate(mask, start=1) if region.any()]
    outlines = [{"region": name, "polygon": (outline(region) * factor).tolist()} for name, region in regions]
    note = {
        "height_px": height,
        "width_px": width,
        "spacing_mm": None if spacing is None else [round(float(one), 6) for one in spacing],
        "regions": [measured(name, region, factor, spacing) for name, region in regions],
    }
    return picture, json.dumps(outlines) if outlines else None, json.dumps(note)


def _rows(kind: str, time: NDArray[np.int64], **columns: NDArray[np.generic] | Sequence[object]) -> pa.Table:
    every: dict[str, object] = {
        **columns,
        "kind": pa.repeat(kind, len(time)),
        "time": pa.array(time, mask=time == STATIC).cast(pa.timestamp("us")),
    }
    schema = schema_without_run("evidence")
    return pa.table([pa.array(every[f.name], type=f.type) for f in schema], schema=schema)
