"""Annotated images of a split: read, prepared and drawn as targets; and what a bundle finds in them."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from riskpred.config.segmentation import SegmentationStage
from riskpred.evaluate.findings import ImageScore, score_image, stage_metrics
from riskpred.evaluate.gather import Evaluated
from riskpred.features.look import wanted
from riskpred.imaging.decode import decode_one
from riskpred.imaging.lesions import lesions
from riskpred.imaging.paths import ImageProblem
from riskpred.imaging.prepare import Prepared
from riskpred.imaging.targets import is_marked, target_of
from riskpred.model.bundle import Bundle
from riskpred.model.threads import one_thread
from riskpred.progress import Progress, Silent
from riskpred.records.annotations import Annotation, ImageKey, annotations
from riskpred.records.chunk import ImageRow
from riskpred.records.warehouse import Warehouse

CARD_KEY = "segmentation"
"""Entry of the card: stage -> images, subjects, left_out, labels, quality (`stage_metrics`, out of fold)."""


@dataclass
class Marked:
    """Annotated images of one stage: prepared pixels, which lie on disk (a study's need not fit into memory), and the
    target of each, (Z, H, W) uint8.

    left_out: reason -> images that could not be used.
    """

    rows: list[ImageRow] = field(default_factory=list)
    pairs: list[tuple[Prepared, NDArray[np.uint8]]] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)


def marked_images(
    stage: SegmentationStage,
    warehouse: Warehouse,
    subjects: NDArray[np.int64],
    marks: Mapping[ImageKey, Sequence[Annotation]],
    pixels: BinaryIO,
    progress: Progress | None = None,
) -> Marked:
    """Annotated images of a stage, of these subjects, prepared; one that cannot be read costs itself.

    Args: pixels: a file that takes what is prepared; kept open as long as the pairs are read.
    """
    progress = progress or Silent()
    mine = set(subjects.tolist())
    of_stage = {key: some for key, some in marks.items() if key[0] in mine and is_marked(stage, some)}
    people = np.array(sorted({subject for subject, _ in of_stage}), np.int64)
    found = Marked()
    for chunk in warehouse.chunks(subjects=people):
        for row in (row for images in chunk.images for row in images):
            some = of_stage.get((row.subject_id, row.image_id))
            if some is None or row.image_type not in stage.image_types:
                continue
            try:
                prepared, target = _pair(stage, warehouse, row, some)
            except ImageProblem as problem:
                found.left_out[problem.reason] = found.left_out.get(problem.reason, 0) + 1
                continue
            found.rows.append(row)
            found.pairs.append((_on_disk(prepared, pixels), target))
            progress.step("read annotated images", len(found.rows), len(of_stage))
    return found


def split_findings(
    bundle: Bundle, warehouse: Warehouse, evaluated: Evaluated, progress: Progress | None = None
) -> dict[str, list[dict[str, Any]]]:
    """Stage -> `stage_metrics` on the annotated images of the people evaluated; {} without a stage.

    For a bundle's own people it is what their fit found out of fold. A stage without an annotated image has no rows.
    """
    if not bundle.segmenters:
        return {}
    if evaluated.prediction_time is None:
        return {stage: list(said["quality"]) for stage, said in bundle.card.get(CARD_KEY, {}).items()}
    progress, marks, subjects = progress or Silent(), annotations(warehouse), np.unique(evaluated.subject_id)
    found: dict[str, list[dict[str, Any]]] = {}
    for name, stage in bundle.config.imaging.segmentation.items():
        scores: list[ImageScore] = []
        with tempfile.TemporaryFile() as pixels, one_thread():
            marked = marked_images(stage, warehouse, subjects, marks, pixels, progress)
            for i, (row, (prepared, target)) in enumerate(zip(marked.rows, marked.pairs, strict=True)):
                said = lesions(bundle.segmenters[name].probabilities(prepared), prepared.grid, stage)
                scores += score_image(row.subject_id, stage, said, prepared, target)
                progress.step("evaluate: findings", i + 1, len(marked.rows))
        found[name] = stage_metrics(scores)
    return found


def _pair(
    stage: SegmentationStage, warehouse: Warehouse, row: ImageRow, marks: Sequence[Annotation]
) -> tuple[Prepared, NDArray[np.uint8]]:
    """Raises: ImageProblem."""
    result = decode_one(wanted(stage, row, warehouse.image_root)).result
    if isinstance(result, ImageProblem):
        raise result
    assert isinstance(result, Prepared), "no file's bytes were called known"
    return result, target_of(stage, marks, result, warehouse.image_root)


def _on_disk(prepared: Prepared, file: BinaryIO) -> Prepared:
    """The same with pixels that the system reads as they are asked for."""
    pixels = np.ascontiguousarray(prepared.pixels, np.float32)
    at = file.seek(0, 2)
    file.write(pixels.tobytes())
    file.flush()
    # Copy on write: torch wants arrays that it may write to.
    mapped = np.memmap(file, np.float32, "c", at, pixels.shape)
    return replace(prepared, pixels=mapped)
