"""Each row's latest readable image at or before prediction_time becomes prepared pixels."""

from pathlib import Path

import numpy as np

from riskpred.features.batch import MISSING, REJECTED, STALE, USED, ImageInput, InputReject, Receipt
from riskpred.features.plan import ImagePlan
from riskpred.imaging.paths import ImageProblem, inside
from riskpred.imaging.prepare import Prepared, prepare
from riskpred.imaging.read import read_image
from riskpred.records.chunk import DAY_US, STATIC, ImageRow, SubjectChunk
from riskpred.records.cohort import CohortRows

MISSING_IMAGE = ("image",)
"""missing_features of a row that has no image to use."""


def image(
    chunk: SubjectChunk, rows: CohortRows, plan: ImagePlan, image_root: Path
) -> tuple[ImageInput, Receipt, tuple[InputReject, ...]]:
    """Pixels of every row, the receipt, and one reject per image that could not be read.

    Taken is the latest image of the plan's types in the window; where that cannot be read, the next older one that is
    not stale. An undated image is in every window, never stale, and older than every dated one. Receipt: n counts
    visible images; latest_time is that of the image used, else of the latest visible one.
    """
    rows_n = len(rows)
    pixels = np.zeros((rows_n, plan.size, plan.size), dtype=np.float32)
    spacing = np.full((rows_n, 2), np.nan)
    time = np.full(rows_n, STATIC, dtype=np.int64)
    image_id = [""] * rows_n
    code, n, latest = np.full(rows_n, MISSING, np.int8), np.zeros(rows_n, np.int64), np.full(rows_n, STATIC, np.int64)
    rejects: list[InputReject] = []
    # Rows of one subject follow one another and often share an image: keep what this subject's files gave.
    read: dict[str, Prepared | None] = {}
    current = -1
    for r in range(rows_n):
        subject, now = int(rows.subject[r]), int(rows.prediction_time[r])
        if subject != current:
            current, read = subject, {}
        visible = visible_images(chunk.images[subject], plan, now)
        n[r] = len(visible)
        if not visible:
            continue
        latest[r], code[r] = visible[-1].time, REJECTED
        for row in reversed(visible):
            if is_stale(row, plan, now):
                # Only the first can make the row stale: after a reject the row lost an image that was in time.
                code[r] = STALE if row is visible[-1] else REJECTED
                break
            if row.image_id not in read:
                read[row.image_id] = _prepared(row, plan, image_root, rejects)
            prepared = read[row.image_id]
            if prepared is not None:
                pixels[r], spacing[r] = prepared.pixels, prepared.spacing_mm
                image_id[r], time[r], latest[r], code[r] = row.image_id, row.time, row.time, USED
                break
    receipt = Receipt(code, n, latest, (code != USED)[:, None], MISSING_IMAGE)
    return ImageInput(pixels, tuple(image_id), time, spacing), receipt, tuple(rejects)


def visible_images(images: tuple[ImageRow, ...], plan: ImagePlan, now: int) -> list[ImageRow]:
    """Images of the plan's types in its window that ends at `now`, oldest first, undated ones before all."""
    oldest = STATIC if plan.window_days is None else now - plan.window_days * DAY_US
    return [
        row
        for row in images
        if row.image_type in plan.image_types and row.time <= now and (row.time == STATIC or row.time > oldest)
    ]


def is_stale(row: ImageRow, plan: ImagePlan, now: int) -> bool:
    if plan.stale_after_days is None or row.time == STATIC:
        return False
    return now - row.time > plan.stale_after_days * DAY_US


def _prepared(row: ImageRow, plan: ImagePlan, image_root: Path, rejects: list[InputReject]) -> Prepared | None:
    try:
        return prepare(read_image(inside(image_root, row.path)), plan.size)
    except ImageProblem as problem:
        rejects.append(InputReject("images", row.image_id, row.subject_id, problem.reason, "path", problem.wanted))
        return None
