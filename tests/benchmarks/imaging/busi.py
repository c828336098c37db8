"""AUC and calibration of the study `busi` by riskpred's own cross-validation, against hand features with an SVM.

python -m tests.benchmarks.imaging.busi --into FOLDER

Nothing but the study's YAML decides what is fitted. The SVM's folds are those of the bundle: near-copies stay together.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage.feature import graycomatrix, graycoprops, hog, local_binary_pattern
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from riskpred.cli import main as riskpred
from riskpred.config.imaging import Recipe
from riskpred.evaluate.calibration import ici, ici_floor_now
from riskpred.evaluate.discrimination import auc
from riskpred.imaging.decode import Wanted, decode_one
from riskpred.imaging.prepare import Prepared
from riskpred.model.bundle import Bundle, load_bundle
from riskpred.records.warehouse import Warehouse

AUC, ICI_OVER_FLOOR = 0.91, 1.5
SIZE = 128
"""Pixels a side that the hand features read: those of the files."""


_GRID = {"svc__C": [1.0, 3.0, 10.0], "svc__gamma": [0.3, 1.0, 3.0]}
"""Of the SVM: gamma as a multiple of 1 / features."""


def main() -> None:
    """Ingests and fits where FOLDER has no bundle yet, fits the SVM on the same folds, prints one table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--study", default="busi", help="a packaged study, or a folder of YAML")
    into: Path = parser.parse_args().into
    study: str = parser.parse_args().study
    into.mkdir(parents=True, exist_ok=True)
    root = Path(os.environ.get("RISKPRED_TEST_DATA", "../shared/data")) / "busi"
    warehouse, bundle = into / "warehouse.duckdb", into / "bundle"
    start = time.perf_counter()
    if not warehouse.exists():
        _verb("ingest", study, "--from", str(root), "--into", str(warehouse))
    if not bundle.exists():
        _verb("fit", study, str(warehouse), "--into", str(bundle), "--seed", "1")
    print(f"fit: {time.perf_counter() - start:.0f} s")
    print(table(load_bundle(bundle), warehouse))


def _verb(*arguments: str) -> None:
    if code := riskpred(list(arguments)):
        raise SystemExit(f"{arguments[0]}: exit {code}")


def table(bundle: Bundle, warehouse: Path) -> str:
    """Markdown: AUC per fold, pooled, and calibration, of riskpred and of the SVM."""
    kept = bundle.cross_validation
    assert kept is not None, "the study is cross-validated"
    cause = kept.cause[:, 0] == 1
    features, together = hand_features(warehouse)
    assert len(features) == len(kept.row) == len(np.unique(kept.row)), "each image is left out once"
    features, together = features[kept.row], together[kept.row]
    ours = np.asarray(kept.risk[:, 0], np.float64)
    svm = svm_risk(features, cause, kept.fold, together)
    lines = [
        "| what | AUC, mean of folds | pooled | each fold | ICI | floor | ICI / floor |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, risk in (("riskpred", ours), ("hand features + SVM", svm), ("riskpred's peer", kept.peer_risk[:, 0])):
        each = [_auc(risk[kept.fold == k], cause[kept.fold == k]) for k in np.unique(kept.fold)]
        far, floor = _ici(risk, cause)
        lines.append(
            f"| {name} | {np.mean(each):.4f} | {_auc(risk, cause):.4f} | {' '.join(f'{one:.3f}' for one in each)} "
            f"| {far:.4f} | {floor:.4f} | {far / floor:.2f} |"
        )
    return "\n".join(lines)


def _auc(risk: NDArray[np.float64], yes: NDArray[np.bool_]) -> float:
    return auc(risk, yes.astype(np.float64), np.ones(len(risk)))


def _ici(risk: NDArray[np.float64], yes: NDArray[np.bool_]) -> tuple[float, float]:
    there = np.ones(len(risk))
    return ici(risk, yes.astype(np.float64), there), float(np.mean(ici_floor_now(risk)))


def hand_features(warehouse: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Of each person's one image, by subject_id as the rows of a fit: what is described of it; its group of copies."""
    with Warehouse.open(warehouse) as source:
        subjects = np.array(sorted(source.splits()), np.int64)
        groups = source.groups()
        rows = [images[0] for chunk in source.chunks(subjects=subjects) for images in chunk.images]
        assert [row.subject_id for row in rows] == subjects.tolist(), "one image a person"
        found = [described(_pixels(source.image_root, row.path)) for row in rows]
    return np.stack(found), np.array([groups.get(one, one) for one in subjects.tolist()], np.int64)


def _pixels(root: Path, path: str) -> NDArray[np.float64]:
    result = decode_one(Wanted(root, path, Recipe.of(size=SIZE))).result
    assert isinstance(result, Prepared), "every image of the set can be read"
    return result.pixels[0, 0].astype(np.float64)


def described(picture: NDArray[np.float64]) -> NDArray[np.float64]:
    """HOG (16-pixel cells), grey-level co-occurrence, local binary patterns and histogram of one picture in 0..1."""
    levels = np.clip(picture * 32, 0, 31).astype(np.uint8)
    counted = graycomatrix(
        levels, [1, 2, 4, 8], [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4], 32, symmetric=True, normed=True
    )
    texture = [graycoprops(counted, one).ravel() for one in ("contrast", "homogeneity", "energy", "correlation")]
    byte = (picture * 255).round().astype(np.uint8)
    patterns = []
    for points, radius in ((8, 1), (16, 2), (24, 3)):
        coded = local_binary_pattern(byte, points, radius, "uniform").astype(np.int64)
        patterns.append(np.bincount(coded.ravel(), minlength=points + 2) / coded.size)
    histogram = np.histogram(picture, 16, (0.0, 1.0))[0] / picture.size
    gradients = hog(picture, 9, (16, 16), (2, 2), feature_vector=True)
    return np.concatenate([gradients, *texture, *patterns, histogram])


def svm_risk(
    features: NDArray[np.float64], yes: NDArray[np.bool_], fold: NDArray[np.int64], together: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Risk of each row by an RBF SVM that saw no row of its fold; C, gamma and Platt's map by inner grouped folds."""
    risk = np.full(len(yes), np.nan)
    for k in np.unique(fold):
        train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        inner = list(StratifiedGroupKFold(4, shuffle=True, random_state=1).split(train, yes[train], together[train]))
        grid = {**_GRID, "svc__gamma": [one / features.shape[1] for one in _GRID["svc__gamma"]]}
        search = GridSearchCV(make_pipeline(StandardScaler(), SVC()), grid, scoring="roc_auc", cv=inner)
        search.fit(features[train], yes[train])
        best = search.best_estimator_
        assert best is not None
        # Platt's map from scores of rows that did not train the SVM that scored them.
        score = cross_val_predict(best, features[train], yes[train], cv=inner, method="decision_function")
        map_ = LogisticRegression(C=1e6).fit(score[:, None], yes[train])
        risk[test] = map_.predict_proba(best.decision_function(features[test])[:, None])[:, 1]
    return risk


if __name__ == "__main__":
    main()
