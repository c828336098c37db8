"""Nodules of 4 to 20 mm in drawn chest CT: found, placed and measured by a network that riskpred trained on others.

python -m tests.benchmarks.imaging.ct_phantoms [--into FILE.json] [--train N] [--test N]
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from riskpred.config.model import parse
from riskpred.config.segmentation import SegmentationStage
from riskpred.fit.segmentation import Example, fit_segmentation
from riskpred.imaging.lesions import Lesion, lesions
from riskpred.imaging.picture import Picture
from riskpred.imaging.prepare import Prepared
from riskpred.imaging.recipe import prepare_picture
from riskpred.imaging.segment import Segmenter
from riskpred.progress import Silent
from tests.phantoms.ct import CtPhantom, Nodule, ct_phantom

FALSE_POSITIVES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
"""Per scan: the points of LUNA16's FROC curve that a phantom can tell."""


STAGE = {
    "image_types": ["CT"],
    "steps": [{"step": "window", "preset": "lung"}],
    "volume": "whole",
    "labels": {1: "nodule"},
    "network": {"widths": [8, 16, 32, 64]},
    "training": {
        "steps": 2500,
        "batch_size": 8,
        "patch": [16, 32, 32],
        "learning_rate": 4e-3,
        "loss": "dice_focal",
        "small_lesions": 1.0,
        "with_lesion": 0.5,
        "average": 0.99,
        "augmentation": {"flips": ["slices", "rows", "columns"], "brightness": 0.03, "contrast": 0.05, "noise": 0.01},
    },
    "window": {"size": [64, 112, 144]},
    "lesions": {"threshold": 0.5},
    "flip_averaging": False,
    "folds": 2,
}


@dataclass(frozen=True)
class Mark:
    """One lesion found: its certainty, and the nodule it hits (None = a false alarm), with the errors then."""

    confidence: float
    hit: tuple[int, int] | None
    position_mm: float
    diameter_mm: float


def marks(scan: int, found: Sequence[Lesion], nodules: Sequence[Nodule]) -> list[Mark]:
    """A mark hits the nearest nodule if its middle lies within the nodule's radius, as LUNA16 counts."""
    result = []
    for lesion in found:
        away = [np.hypot(np.hypot(lesion.x_mm - n.x_mm, lesion.y_mm - n.y_mm), lesion.z_mm - n.z_mm) for n in nodules]
        nearest = int(np.argmin(away)) if away else -1
        if away and away[nearest] <= nodules[nearest].diameter_mm / 2:
            error = lesion.longest_diameter_mm - nodules[nearest].diameter_mm
            result.append(Mark(lesion.confidence, (scan, nearest), float(away[nearest]), error))
        else:
            result.append(Mark(lesion.confidence, None, float("nan"), float("nan")))
    return result


def sensitivity_at(found: Sequence[Mark], nodules: int, scans: int, allowed: float) -> float:
    """Share of nodules hit by marks at least as certain as the one after which false alarms pass `allowed` a scan."""
    false, hit = 0, set[tuple[int, int]]()
    for mark in sorted(found, key=lambda mark: -mark.confidence):
        if mark.hit is None:
            false += 1
            if false > allowed * scans:
                break
        else:
            hit.add(mark.hit)
    return len(hit) / nodules


def figures(segmenter: Segmenter, scans: Sequence[CtPhantom]) -> dict[str, object]:
    """What the benchmark reports of scans that trained nothing."""
    found: list[Mark] = []
    for number, scan in enumerate(scans):
        prepared = prepared_of(scan, segmenter.stage)
        given = lesions(segmenter.probabilities(prepared), prepared.grid, segmenter.stage)
        found += marks(number, given, scan.nodules)
    nodules = sum(len(scan.nodules) for scan in scans)
    best: dict[tuple[int, int], Mark] = {}
    for mark in sorted(found, key=lambda mark: mark.confidence):
        if mark.hit is not None:
            best[mark.hit] = mark
    if not best:
        raise SystemExit("no nodule was found: nothing to measure")
    position = np.array([mark.position_mm for mark in best.values()])
    diameter = np.array([mark.diameter_mm for mark in best.values()])
    return {
        "scans": len(scans),
        "nodules": nodules,
        "false_alarms_per_scan": sum(mark.hit is None for mark in found) / len(scans),
        "sensitivity_all_marks": len(best) / nodules,
        "sensitivity_at": {str(fp): sensitivity_at(found, nodules, len(scans), fp) for fp in FALSE_POSITIVES},
        "position_error_mm": {"mean": float(position.mean()), "max": float(position.max())},
        "diameter_error_mm": {
            "mean_absolute": float(np.abs(diameter).mean()),
            "mean": float(diameter.mean()),
            "max_absolute": float(np.abs(diameter).max()),
        },
    }


def prepared_of(scan: CtPhantom, stage: SegmentationStage) -> Prepared:
    """The scan as riskpred prepares one that it has read."""
    x, y, z = scan.origin_mm
    picture = Picture(
        scan.array[None].astype(np.float32), np.array(scan.spacing_mm), np.array([x, y, z]), np.eye(3)[:, ::-1], "CT"
    )
    return prepare_picture(picture, stage.recipe("CT"))


def main(words: list[str] | None = None) -> int:
    """Draw, train, measure; print the figures. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.imaging.ct_phantoms", description=__doc__)
    parser.add_argument("--into", type=Path, help="JSON file of the figures")
    parser.add_argument(
        "--model", type=Path, help="folder: the trained segmenter is kept there, and read if it is there"
    )
    parser.add_argument("--train", type=int, default=200, help="scans")
    parser.add_argument("--test", type=int, default=120, help="scans")
    parser.add_argument("--first", type=int, default=30_000, help="number of the first test scan; choices use 20000")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    stage = parse(SegmentationStage, STAGE, "ct_phantoms")
    started = time.process_time()
    if given.model and given.model.is_dir():
        # Rules for lesions train nothing: those above hold.
        segmenter = Segmenter(stage, Segmenter.load(given.model).networks)
    else:
        scans = [ct_phantom(seed) for seed in range(given.train)]
        examples = [Example(prepared_of(scan, stage), scan.mask()) for scan in scans]
        segmenter = fit_segmentation(stage, examples, np.arange(given.train) % stage.folds, 0, Silent()).segmenter
        if given.model:
            segmenter.save(given.model)
    trained = time.process_time()
    result = figures(segmenter, [ct_phantom(given.first + seed) for seed in range(given.test)])
    result["seconds"] = {"training": round(trained - started), "testing": round(time.process_time() - trained)}
    text = json.dumps(result, indent=1)
    if given.into:
        given.into.write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
