"""Trains a study's segmentation stages, and finds lesions in training images by networks that never saw the subject.

Training must see findings as good as scoring will: were they made by a network that learned from the subject's own
mask, the risk model would trust them too much.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from riskpred.config.segmentation import ImagingConfig, SegmentationStage
from riskpred.errors import InputError
from riskpred.evaluate.findings import ImageScore, score_image, stage_metrics
from riskpred.features.findings import FindingSource
from riskpred.features.look import look, wanted
from riskpred.features.looked import Looked
from riskpred.fit.data import stratified_folds
from riskpred.fit.segmentation import Example, fit_segmentation
from riskpred.imaging.decode import decode_one
from riskpred.imaging.lesions import lesions
from riskpred.imaging.paths import ImageProblem
from riskpred.imaging.prepare import Prepared
from riskpred.imaging.segment import Segmenter
from riskpred.imaging.targets import is_marked, target_of
from riskpred.progress import Progress
from riskpred.records.annotations import Annotation, ImageKey, annotations
from riskpred.records.chunk import ImageRow
from riskpred.records.warehouse import Warehouse

CARD_KEY: Final = "segmentation"
"""Entry of the card: stage -> images, subjects and lesions annotated, images left out, and quality out of fold."""

_UNMARKED, _EMPTY, _LESION = range(3)


class CrossFitted(FindingSource):
    """Findings of training subjects, each by the network that its fold did not train; remembered.

    Args: folds: stage -> subject_id -> fold.   models: stage -> segmenter of each fold.
    """

    def __init__(
        self,
        config: ImagingConfig,
        folds: Mapping[str, Mapping[int, int]],
        models: Mapping[str, Sequence[Segmenter]],
    ) -> None:
        super().__init__(config)
        self._folds, self._models = folds, models
        self._known: dict[tuple[str, Path, ImageRow], Looked | ImageProblem] = {}

    def looked(self, stage: str, images: Sequence[ImageRow], image_root: Path) -> list[Looked | ImageProblem]:
        """What each image shows to a network that never saw its subject."""
        return [self._one(stage, row, image_root) for row in images]

    def of(self, stage: str, subject_id: int) -> Segmenter:
        """The network that never saw a subject of training."""
        return self._models[stage][self._folds[stage][subject_id]]

    def _one(self, stage: str, row: ImageRow, image_root: Path) -> Looked | ImageProblem:
        key = stage, image_root, row
        if key not in self._known:
            segmenter = self.of(stage, row.subject_id)
            result = decode_one(wanted(segmenter.stage, row, image_root)).result
            assert result is not None, "no file's bytes were called known"
            found = result if isinstance(result, ImageProblem) else look(segmenter, result, row, image_root)
            self._known[key] = found
        return self._known[key]


@dataclass(frozen=True)
class FittedStages:
    """segmenters: of each stage, for new subjects.   source: findings of the training subjects.   card: of CARD_KEY."""

    segmenters: dict[str, Segmenter]
    source: CrossFitted
    card: dict[str, Any]


@dataclass
class Marked:
    """Annotated images of one stage, their pixels on disk: all of a study's need not fit into memory.

    left_out: reason -> images that could not be used.
    """

    rows: list[ImageRow] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)


def fit_stages(
    config: ImagingConfig, warehouse: Warehouse, subjects: NDArray[np.int64], seed: int, progress: Progress
) -> FittedStages | None:
    """Every stage of imaging.yaml, trained on what was marked in the images of these subjects; None without a stage.

    Raises: InputError, when no image of a stage's types is annotated with its labels.
    """
    if not config.segmentation:
        return None
    marks = annotations(warehouse)
    groups = warehouse.groups()
    together = np.array([groups.get(one, one) for one in subjects.tolist()], np.int64)
    segmenters: dict[str, Segmenter] = {}
    folds: dict[str, dict[int, int]] = {}
    models: dict[str, Sequence[Segmenter]] = {}
    card: dict[str, Any] = {}
    for name, stage in config.segmentation.items():
        with tempfile.TemporaryFile() as pixels:
            marked = marked_images(stage, warehouse, subjects, marks, pixels, progress)
            _refuse_none(name, stage, marked, warehouse)
            fold = stratified_folds(together, _what_is_marked(subjects, marked), stage.folds, seed)
            folds[name] = dict(zip(subjects.tolist(), fold.tolist(), strict=True))
            own = np.array([folds[name][row.subject_id] for row in marked.rows], np.int64)
            fitted = fit_segmentation(stage, marked.examples, own, seed, progress)
            segmenters[name], models[name] = fitted.segmenter, fitted.fold_models
            scores = out_of_fold(stage, marked, own, fitted.fold_models, progress)
        card[name] = {
            "images": len(marked.rows),
            "subjects": len({row.subject_id for row in marked.rows}),
            "left_out": marked.left_out,
            "labels": list(stage.names),
            "quality": stage_metrics(scores),
        }
    return FittedStages(segmenters, CrossFitted(config, folds, models), card)


def marked_images(
    stage: SegmentationStage,
    warehouse: Warehouse,
    subjects: NDArray[np.int64],
    marks: Mapping[ImageKey, Sequence[Annotation]],
    pixels: Any,
    progress: Progress | None = None,
) -> Marked:
    """Annotated images of a stage, of these subjects, prepared; one that cannot be read costs itself.

    Args: pixels: a binary file that takes what is prepared; kept open as long as the examples are read.
    """
    mine = set(subjects.tolist())
    of_stage = {key: some for key, some in marks.items() if key[0] in mine and is_marked(stage, some)}
    people = np.array(sorted({subject for subject, _ in of_stage}), np.int64)
    found = Marked()
    for chunk in warehouse.chunks(subjects=people):
        for row in (row for images in chunk.images for row in images):
            if (row.subject_id, row.image_id) not in of_stage or row.image_type not in stage.image_types:
                continue
            try:
                example = _example(stage, row, of_stage[row.subject_id, row.image_id], warehouse.image_root)
            except ImageProblem as problem:
                found.left_out[problem.reason] = found.left_out.get(problem.reason, 0) + 1
                continue
            found.rows.append(row)
            found.examples.append(_on_disk(example, pixels))
            if progress is not None:
                progress.step("read annotated images", len(found.rows), len(of_stage))
    return found


def out_of_fold(
    stage: SegmentationStage, marked: Marked, fold: NDArray[np.int64], models: Sequence[Segmenter], progress: Progress
) -> list[ImageScore]:
    """What each annotated image's own network, which never saw its subject, finds in it against what is marked."""
    scores: list[ImageScore] = []
    for i, (row, example) in enumerate(zip(marked.rows, marked.examples, strict=True)):
        prepared = example.prepared
        found = lesions(models[fold[i]].probabilities(prepared), prepared.grid, stage, prepared.slices)
        scores += score_image(row.subject_id, stage, found, prepared, example.target)
        progress.step("judge segmentation", i + 1, len(marked.rows))
    return scores


def _example(stage: SegmentationStage, row: ImageRow, marks: Sequence[Annotation], image_root: Path) -> Example:
    """Raises: ImageProblem."""
    result = decode_one(wanted(stage, row, image_root)).result
    if isinstance(result, ImageProblem):
        raise result
    assert isinstance(result, Prepared), "no file's bytes were called known"
    return Example(result, target_of(stage, marks, result, image_root))


def _on_disk(example: Example, file: Any) -> Example:
    """The same with pixels that the system reads as they are asked for."""
    pixels = np.ascontiguousarray(example.prepared.pixels, np.float32)
    at = file.seek(0, 2)
    file.write(pixels.tobytes())
    file.flush()
    # Copy on write: torch wants arrays that it may write to.
    mapped = np.memmap(file, np.float32, "c", at, pixels.shape)
    return Example(replace(example.prepared, pixels=mapped), example.target)


def _what_is_marked(subjects: NDArray[np.int64], marked: Marked) -> NDArray[np.int64]:
    """What each subject has: folds are stratified by it."""
    has: dict[int, int] = {}
    for row, example in zip(marked.rows, marked.examples, strict=True):
        has[row.subject_id] = max(has.get(row.subject_id, _UNMARKED), _LESION if example.target.any() else _EMPTY)
    return np.array([has.get(one, _UNMARKED) for one in subjects.tolist()], np.int64)


def _refuse_none(name: str, stage: SegmentationStage, marked: Marked, warehouse: Warehouse) -> None:
    with_lesion = len({r.subject_id for r, e in zip(marked.rows, marked.examples, strict=True) if e.target.any()})
    if with_lesion < 2:
        said = ", ".join(f"{reason}: {count:,}" for reason, count in sorted(marked.left_out.items()))
        raise InputError(
            f"{warehouse.path}: segmentation {name} has nothing to learn from.",
            wanted=f"images ({', '.join(stage.image_types)}) of 2 subjects or more of train and tuning with "
            f"{', '.join(stage.names)} marked in `annotations`",
            got=f"{len(marked.rows):,} annotated images, {with_lesion:,} subjects with a lesion"
            + (f"; left out: {said}" if said else ""),
            do="ingest annotations, or remove the stage from imaging.yaml",
        )
