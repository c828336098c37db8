"""Rows of `evidence`: what the page draws of an explained subject: series values, the image, where it spoke up."""

import io
import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.spatial import ConvexHull

from riskpred.explain.reasons import decimal
from riskpred.features.batch import FeatureBatch, ImageInput, SeriesInput
from riskpred.features.plan import FeaturePlan, SeriesPlan
from riskpred.records.chunk import STATIC
from riskpred.records.schema import table_schema

LARGEST_PICTURE = 64 * 1024
LEAST_POINTS = 0.1
"""A region whose pixels add less than this many risk points is not worth an outline."""

_BLUR = 1 / 32  # of the image's side: single pixels do not make a region


def series_rows(
    run_id: str, batch: FeatureBatch, plan: FeaturePlan, modality: str, rows: NDArray[np.int64]
) -> pa.Table:
    """One row per visible value of each channel of a series, for the subjects in `rows` (places in the batch)."""
    given, spec = batch.inputs[modality], plan.modalities[modality]
    assert isinstance(given, SeriesInput), modality
    assert isinstance(spec, SeriesPlan), modality
    length = np.diff(given.start)
    steps = np.flatnonzero(np.isin(np.repeat(np.arange(len(batch)), length), rows))
    subject = np.repeat(batch.subject_id, length)[steps]
    step, channel = np.nonzero(~np.isnan(given.values[steps]))
    return _rows(
        run_id,
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
    run_id: str, batch: FeatureBatch, modality: str, rows: NDArray[np.int64], attribution: NDArray[np.float64]
) -> pa.Table:
    """One row per image: the prepared picture, and the outline of the region that raises the risk most.

    Args:
        attribution: risk points per pixel. Shape: (len(rows), H, W).
    """
    given = batch.inputs[modality]
    assert isinstance(given, ImageInput), modality
    drawn = [_drawn(given.pixels[row], attribution[at]) for at, row in enumerate(rows.tolist())]
    return _rows(
        run_id,
        "image",
        subject_id=batch.subject_id[rows],
        name=np.array([given.image_id[row] for row in rows.tolist()], dtype=object),
        time=given.time[rows],
        value=np.full(len(rows), None, dtype=object),
        unit=np.full(len(rows), None, dtype=object),
        picture=[picture for picture, _ in drawn],
        outline=[outline for _, outline in drawn],
        note=[None] * len(rows),
    )


def outline_of(attribution: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Convex polygon around the region of strongest positive attribution; None where no region raises the risk.

    The map is blurred, the part above half its maximum that holds the maximum is taken.
    Shape: attribution (H, W) -> (P, 2) corners as row, column in pixels.
    """
    blurred = ndimage.gaussian_filter(attribution, sigma=_BLUR * max(attribution.shape))
    peak = np.unravel_index(int(blurred.argmax()), blurred.shape)
    if blurred[peak] <= 0:
        return None
    parts, _ = ndimage.label(blurred >= blurred[peak] / 2)
    region = parts == parts[peak]
    if attribution[region].sum() < LEAST_POINTS:
        return None
    row, column = np.nonzero(region)
    corners = np.concatenate([np.stack([row + dr, column + dc], axis=1) for dr in (0, 1) for dc in (0, 1)])
    return np.asarray(corners[ConvexHull(corners).vertices], dtype=np.float64)


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


def _drawn(pixels: NDArray[np.float32], attribution: NDArray[np.float64]) -> tuple[bytes, str | None]:
    picture, factor = png(pixels)
    corners = outline_of(attribution)
    return picture, None if corners is None else json.dumps((corners * factor).tolist())


def _rows(
    run_id: str, kind: str, time: NDArray[np.int64], **columns: NDArray[np.generic] | Sequence[object]
) -> pa.Table:
    every: dict[str, object] = {
        **columns,
        "run_id": pa.repeat(run_id, len(time)),
        "kind": pa.repeat(kind, len(time)),
        "time": pa.array(time, mask=time == STATIC).cast(pa.timestamp("us")),
    }
    schema = table_schema("scores", "evidence").arrow()
    return pa.table([pa.array(every[f.name], type=f.type) for f in schema], schema=schema)
