"""Tumours in MR of 110 people (lgg_mri), as the packaged study outlines, places and measures them: 5-fold by person.

    python -m tests.benchmarks.imaging.lgg_segmentation --into FOLDER [--fold K]

Each fold's network is kept in FOLDER, so that a run that was cut off goes on where it was; the figures are written once
all folds are there.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from riskpred.config.segmentation import SegmentationStage
from riskpred.config.study import ModelConfig, load_model_config
from riskpred.evaluate.marked import Marked, marked_images
from riskpred.fit.data import stratified_folds, training_subjects
from riskpred.fit.findings import CrossFitted
from riskpred.fit.segmentation import Example, train_network
from riskpred.imaging.inspect import FileLook
from riskpred.imaging.lesions import Lesion, lesions
from riskpred.imaging.segment import Segmenter
from riskpred.model.threads import one_thread
from riskpred.records.annotations import annotations
from riskpred.records.ingest import run_ingest
from riskpred.records.warehouse import Warehouse

STUDY, STAGE, SEED = "lgg_mri", "tumour_outline", 20261128
NEAR_PX, LARGE_PX, AREA_SHARE, VOLUME_SHARE = 5.0, 100, 0.2, 0.3

TARGETS = {
    "dice_mean": 0.82,
    "dice_median": 0.86,
    "centroid_within_5_px": 0.87,
    "large_centroid_within_5_px": 0.95,
    "large_centroid_and_area_within_20_percent": 0.72,
    "volume_within_30_percent": 0.85,
    "absent_called_absent": 0.96,
}


def ingested(into: Path) -> Path:
    """The study's warehouse, made where FOLDER has none."""
    warehouse = into / "warehouse.duckdb"
    if not warehouse.is_file():
        into.mkdir(parents=True, exist_ok=True)
        root = os.environ.get("RISKPRED_TEST_DATA")
        data = (Path(root) if root else Path(__file__).parents[3].parent / "shared" / "data") / STUDY
        with FileLook() as look:
            run_ingest(STUDY, data, warehouse, look=look)
    return warehouse


def folds_of(source: Warehouse, stage: SegmentationStage) -> dict[int, int]:
    """Fold of each person, drawn as `fit` draws it: all of them have a tumour."""
    subjects = training_subjects(source)
    fold = stratified_folds(subjects, np.full(len(subjects), 2), stage.folds, SEED)
    return dict(zip(subjects.tolist(), fold.tolist(), strict=True))


def run_fold(stage: SegmentationStage, marked: Marked, own: NDArray[np.int64], fold: int, into: Path) -> None:
    """Train on the other folds, and keep the network."""
    examples = [Example(*pair) for pair, k in zip(marked.pairs, own, strict=True) if k != fold]
    started = time.process_time()

    def told(step: int) -> None:
        if step % 100 == 0:
            print(
                f"fold {fold}: step {step} of {stage.training.steps}, {time.process_time() - started:.0f} s", flush=True
            )

    part = into / f"fold_{fold}.part"
    Segmenter(stage, (train_network(stage, examples, SEED + fold, told),)).save(part)
    part.replace(into / f"fold_{fold}")


def cross_fitted(config: ModelConfig, source: Warehouse, into: Path) -> CrossFitted:
    """Findings of each person by the network that never saw that person's mask, once all folds are there."""
    stage = config.imaging.segmentation[STAGE]
    models = [Segmenter.load(into / f"fold_{fold}") for fold in range(stage.folds)]
    assert all(model.stage == stage for model in models), "the folds are those of the study as it is"
    return CrossFitted(config.imaging, {STAGE: folds_of(source, stage)}, {STAGE: models})


def found_in(found: Sequence[Lesion], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """All pixels of an image's lesions. Shape: (S, H, W)."""
    mask = np.zeros(shape, np.bool_)
    for lesion in found:
        here = tuple(slice(a, a + n) for a, n in zip(lesion.corner, lesion.mask.shape, strict=True))
        mask[here] |= lesion.mask
    return mask


def figures(found: dict[str, NDArray[np.bool_]], truth: dict[str, NDArray[np.bool_]]) -> dict[str, Any]:
    """What the target table asks. A person without any tumour pixel has a Dice of 1 if nothing was found, else 0."""
    dice, volume, near, near_large, sized, absent = [], [], [], [], [], []
    for name, mask in truth.items():
        guess = found[name]
        both = int(mask.sum()) + int(guess.sum())
        dice.append(2 * int((mask & guess).sum()) / both if both else 1.0)
        if mask.any():
            volume.append(abs(int(guess.sum()) / int(mask.sum()) - 1) <= VOLUME_SHARE)
        for ours, theirs in zip(guess, mask, strict=True):
            if not theirs.any():
                absent.append(not ours.any())
                continue
            away = np.inf
            if ours.any():
                away = float(np.linalg.norm(np.argwhere(ours).mean(0) - np.argwhere(theirs).mean(0)))
            near.append(away <= NEAR_PX)
            if theirs.sum() >= LARGE_PX:
                near_large.append(away <= NEAR_PX)
                sized.append(away <= NEAR_PX and abs(int(ours.sum()) / int(theirs.sum()) - 1) <= AREA_SHARE)
    return {
        "people": len(dice),
        "people_with_tumour": len(volume),
        "tumour_slices": len(near),
        "large_tumour_slices": len(near_large),
        "empty_slices": len(absent),
        "dice_mean": float(np.mean(dice)),
        "dice_median": float(np.median(dice)),
        "centroid_within_5_px": float(np.mean(near)),
        "large_centroid_within_5_px": float(np.mean(near_large)),
        "large_centroid_and_area_within_20_percent": float(np.mean(sized)),
        "volume_within_30_percent": float(np.mean(volume)),
        "absent_called_absent": float(np.mean(absent)),
    }


def main(words: list[str] | None = None) -> int:
    """Train the folds that are missing; once all are there, print and write the figures. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.imaging.lgg_segmentation", description=__doc__)
    parser.add_argument("--into", type=Path, required=True, help="folder of warehouse, folds and figures.json")
    parser.add_argument("--fold", type=int, help="this fold alone")
    given = parser.parse_args(words)
    config, into = load_model_config(STUDY), given.into
    stage = config.imaging.segmentation[STAGE]
    with one_thread(), Warehouse.open(ingested(into)) as source, tempfile.TemporaryFile() as pixels:
        marked = marked_images(stage, source, training_subjects(source), annotations(source), pixels)
        fold_of = folds_of(source, stage)
        own = np.array([fold_of[row.subject_id] for row in marked.rows], np.int64)
        for fold in range(stage.folds) if given.fold is None else [given.fold]:
            if not (into / f"fold_{fold}").is_dir():
                run_fold(stage, marked, own, fold, into)
        if not all((into / f"fold_{fold}").is_dir() for fold in range(stage.folds)):
            return 0
        looker = cross_fitted(config, source, into)
        found, truth = {}, {}
        for row, (prepared, target) in zip(marked.rows, marked.pairs, strict=True):
            said = lesions(looker.of(STAGE, row.subject_id).probabilities(prepared), prepared.grid, stage)
            found[row.image_id], truth[row.image_id] = found_in(said, target.shape), target > 0
    result = figures(found, truth)
    text = json.dumps(
        {name: {"figure": value, "target": TARGETS.get(name)} for name, value in result.items()}, indent=1
    )
    (into / "figures.json").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
