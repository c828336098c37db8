"""Trains a study's segmentation stages, and finds lesions in training images by networks that never saw the subject.

Training must see findings as good as scoring will: were they made by a network that learned from the subject's own
mask, the risk model would trust them too much.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from riskpred.config.segmentation import ImagingConfig, SegmentationStage
from riskpred.errors import InputError
from riskpred.evaluate.findings import ImageScore, score_image, stage_metrics
from riskpred.evaluate.marked import Marked, marked_images
from riskpred.features.findings import FindingSource
from riskpred.features.look import look, measured, wanted
from riskpred.features.looked import Looked
from riskpred.fit.data import stratified_folds
from riskpred.fit.segmentation import Example, fit_segmentation
from riskpred.imaging.decode import decode_one
from riskpred.imaging.lesions import lesions
from riskpred.imaging.paths import ImageProblem
from riskpred.imaging.radiomics import Radiomics
from riskpred.imaging.segment import Segmenter
from riskpred.progress import Progress
from riskpred.records.annotations import annotations
from riskpred.records.chunk import ImageRow
from riskpred.records.warehouse import Warehouse

_UNMARKED, _EMPTY, _LESION = range(3)


Key = tuple[str, Path, ImageRow]
"""Stage, image root, image."""


class CrossFitted(FindingSource):
    """Findings of training subjects, each by the network that its fold did not train; remembered.

    Radiomics learn from nobody: the same for everyone.

    Args: folds: stage -> subject_id -> fold.   models: stage -> segmenter of each fold.   known: (stage, image root,
        image) -> what was found already.
    """

    def __init__(
        self,
        config: ImagingConfig,
        folds: Mapping[str, Mapping[int, int]],
        models: Mapping[str, Sequence[Segmenter]],
        known: Mapping[Key, Looked | ImageProblem] | None = None,
    ) -> None:
        super().__init__(config)
        self._folds, self._models = folds, models
        self._known = dict(known or {})

    def looked(self, stage: str, images: Sequence[ImageRow], image_root: Path) -> list[Looked | ImageProblem]:
        """What each image shows to a network that never saw its subject."""
        return [self._one(stage, row, image_root) for row in images]

    def of(self, stage: str, subject_id: int) -> Segmenter:
        """The network that never saw a subject of training."""
        return self._models[stage][self._folds[stage][subject_id]]

    def _one(self, stage: str, row: ImageRow, image_root: Path) -> Looked | ImageProblem:
        key = stage, image_root, row
        if key not in self._known:
            measured = self.config.radiomics.get(stage)
            looker = self.of(stage, row.subject_id) if measured is None else Radiomics(measured)
            result = decode_one(wanted(looker.stage, row, image_root)).result
            assert result is not None, "no file's bytes were called known"
            found = result if isinstance(result, ImageProblem) else look(looker, result, row, image_root)
            self._known[key] = found
        return self._known[key]


@dataclass(frozen=True)
class FittedStages:
    """segmenters: of each stage, for new subjects.   source: findings of training subjects.   card: its entry."""

    segmenters: dict[str, Segmenter]
    source: CrossFitted
    card: dict[str, Any]


def fit_stages(
    config: ImagingConfig, warehouse: Warehouse, subjects: NDArray[np.int64], seed: int, progress: Progress
) -> FittedStages | None:
    """Every stage of imaging.yaml, segmentation trained on what was marked in images of these subjects; None without.

    Raises: InputError, when no image of a stage's types is annotated with its labels.
    """
    if not config.stages:
        return None
    if not config.segmentation:
        return FittedStages({}, CrossFitted(config, {}, {}), {})
    marks = annotations(warehouse)
    groups = warehouse.groups()
    together = np.array([groups.get(one, one) for one in subjects.tolist()], np.int64)
    segmenters: dict[str, Segmenter] = {}
    folds: dict[str, dict[int, int]] = {}
    models: dict[str, Sequence[Segmenter]] = {}
    card: dict[str, Any] = {}
    known: dict[Key, Looked | ImageProblem] = {}
    for name, stage in config.segmentation.items():
        with tempfile.TemporaryFile() as pixels:
            marked = marked_images(stage, warehouse, subjects, marks, pixels, progress)
            _refuse_none(name, stage, marked, warehouse)
            fold = stratified_folds(together, _what_is_marked(subjects, marked), stage.folds, seed)
            folds[name] = dict(zip(subjects.tolist(), fold.tolist(), strict=True))
            own = np.array([folds[name][row.subject_id] for row in marked.rows], np.int64)
            examples = [Example(*one) for one in marked.pairs]
            fitted = fit_segmentation(stage, examples, own, seed, progress)
            segmenters[name], models[name] = fitted.segmenter, fitted.fold_models
            scores, looked = out_of_fold(stage, marked, own, fitted.fold_models, warehouse.image_root, progress)
        known |= {(name, warehouse.image_root, row): one for row, one in zip(marked.rows, looked, strict=True)}
        card[name] = {
            "images": len(marked.rows),
            "subjects": len({row.subject_id for row in marked.rows}),
            "left_out": marked.left_out,
            "labels": list(stage.names),
            "quality": stage_metrics(scores),
        }
    return FittedStages(segmenters, CrossFitted(config, folds, models, known), card)


def out_of_fold(
    stage: SegmentationStage,
    marked: Marked,
    fold: NDArray[np.int64],
    models: Sequence[Segmenter],
    image_root: Path,
    progress: Progress,
) -> tuple[list[ImageScore], list[Looked | ImageProblem]]:
    """What each annotated image's own network, which never saw its subject, finds in it against what is marked; and
    the same as features will read it, so that no image is looked at twice."""
    scores: list[ImageScore] = []
    looked: list[Looked | ImageProblem] = []
    for i, (row, (prepared, target)) in enumerate(zip(marked.rows, marked.pairs, strict=True)):
        found = lesions(models[fold[i]].probabilities(prepared), prepared.grid, stage)
        scores += score_image(row.subject_id, stage, found, prepared, target)
        looked.append(measured(stage, found, prepared, row, image_root))
        progress.step("judge segmentation", i + 1, len(marked.rows))
    return scores, looked


def _what_is_marked(subjects: NDArray[np.int64], marked: Marked) -> NDArray[np.int64]:
    """What each subject has: folds are stratified by it."""
    has: dict[int, int] = {}
    for row, (_, target) in zip(marked.rows, marked.pairs, strict=True):
        has[row.subject_id] = max(has.get(row.subject_id, _UNMARKED), _LESION if target.any() else _EMPTY)
    return np.array([has.get(one, _UNMARKED) for one in subjects.tolist()], np.int64)


def _refuse_none(name: str, stage: SegmentationStage, marked: Marked, warehouse: Warehouse) -> None:
    with_lesion = len(
        {row.subject_id for row, (_, target) in zip(marked.rows, marked.pairs, strict=True) if target.any()}
    )
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
