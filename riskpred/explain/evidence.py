"""Rows of `evidence`: what the page draws of an explained subject: series values, the image, where it spoke up."""

import io
import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from riskpred.explain.picture import Picture
from riskpred.explain.reasons import REGION, decimal, schema_without_run
from riskpred.explain.regions import REGIONS, measured, outline
from riskpred.features.batch import FeatureBatch, ImageInput, SeriesInput
from riskpred.features.plan import FeaturePlan, ImagePlan, SeriesPlan
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


def image_rows(
    given: ImageInput,
    spec: ImagePlan,
    modality: str,
    subject_id: NDArray[np.int64],
    picture: Picture,
    share: NDArray[np.float64],
) -> pa.Table:
    """One row per image, a subject's latest first: what is shown of it, the outlines of its regions, their place and
    size, and what the image weighs among those of its subject.

    Args:
        given: pictures of B subjects, `subject_id` (B,); picture: what is shown of them.
        share: (T,) attention weight of each picture.
    """
    order = np.lexsort((picture.place, picture.row))
    drawn = [_drawn(given, spec, modality, picture, p, share) for p in order.tolist()]
    at = picture.at[order]
    return _rows(
        "image",
        subject_id=subject_id[picture.row[order]],
        name=np.array([given.image_id[place] for place in at.tolist()], dtype=object),
        time=given.time[at],
        value=np.full(len(at), None, dtype=object),
        unit=np.full(len(at), None, dtype=object),
        picture=[picture for picture, _, _ in drawn],
        outline=[outlines for _, outlines, _ in drawn],
        note=[note for _, _, note in drawn],
    )


def png(pixels: NDArray[np.float32]) -> tuple[bytes, float]:
    """PNG of at most 64 KiB of pixels in 0..1, and the factor by which it had to be made smaller.

    Shape: (H, W), or (3, H, W) red, green and blue.
    """
    levels = (np.clip(pixels, 0, 1) * 255).round().astype(np.uint8)
    picture = Image.fromarray(levels if levels.ndim == 2 else np.ascontiguousarray(np.moveaxis(levels, 0, -1)))
    factor = 1.0
    while True:
        stream = io.BytesIO()
        small = picture.resize((max(1, round(picture.width * factor)), max(1, round(picture.height * factor))))
        (picture if factor == 1.0 else small).save(stream, format="PNG", optimize=True)
        if stream.tell() <= LARGEST_PICTURE:
            return stream.getvalue(), factor
        factor /= 2


def _drawn(
    given: ImageInput, spec: ImagePlan, modality: str, picture: Picture, p: int, share: NDArray[np.float64]
) -> tuple[bytes, str | None, str]:
    """PNG, outline and note of one picture of those shown."""
    at, (row, first) = int(picture.at[p]), (int(picture.row[p]), int(picture.place[p]) * REGIONS)
    pixels = given.pixels[at]
    flat = pixels[:, picture.slice[p]] if pixels.ndim == 4 else pixels
    data, factor = png(flat if spec.channels == "rgb" else flat[picture.channel[p]])
    height, width = (max(1, round(side * factor)) for side in flat.shape[1:])
    spacing_mm = given.spacing_mm[at, 1:]
    spacing = None if np.isnan(spacing_mm).any() else (spacing_mm[0] / factor, spacing_mm[1] / factor)
    numbers = picture.number[row, first : first + REGIONS].tolist()
    regions = [(REGION.format(k), mask) for k, mask in zip(numbers, picture.mask[p], strict=True) if mask.any()]
    outlines = [{"region": name, "polygon": (outline(region) * factor).tolist()} for name, region in regions]
    start, step = given.slices[at]
    file_slice = start + step * picture.slice[p]
    of_image = given.image_number == given.image_number[at]
    note: dict[str, object] = {
        "height_px": height,
        "width_px": width,
        "spacing_mm": None if spacing is None else [round(float(one), 6) for one in spacing],
        "regions": [measured(name, region, factor, spacing) for name, region in regions],
        "modality": modality,
        "weight": round(float(share[of_image].sum()), 4),
        "slice": round(float(file_slice)) if spec.volume != "middle" and np.isfinite(file_slice) else None,
        "channel": spec.channels[picture.channel[p]] if isinstance(spec.channels, tuple) else None,
    }
    return data, json.dumps(outlines) if outlines else None, json.dumps(note)


def _rows(kind: str, time: NDArray[np.int64], **columns: NDArray[np.generic] | Sequence[object]) -> pa.Table:
    every: dict[str, object] = {
        **columns,
        "kind": pa.repeat(kind, len(time)),
        "time": pa.array(time, mask=time == STATIC).cast(pa.timestamp("us")),
    }
    schema = schema_without_run("evidence")
    return pa.table([pa.array(every[f.name], type=f.type) for f in schema], schema=schema)
