"""Ultrasound pictures of breasts with no lesion, a smooth or a spiky one, in the layout of BUSI."""

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from tests.phantoms.drawing import blot, clouds

LABELS = ("normal", "benign", "malignant")
SHAPE = (96, 112)


def ultrasound(label: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Layers of tissue in speckle; a dark lesion, spiky and with a shadow beneath if malignant. Shape: SHAPE."""
    rows = np.arange(SHAPE[0])[:, None] / SHAPE[0]
    layers = 0.45 + 0.12 * np.sin(rows * rng.uniform(8, 25) + 2.0 * clouds(rng, SHAPE, 14.0))
    tissue = layers + 0.14 * clouds(rng, SHAPE, 7.0)
    if label != "normal":
        row, col, radius = rng.uniform(30, 60), rng.uniform(25, 85), rng.uniform(9, 17)
        inside = blot(rng, SHAPE, row, col, radius)
        if label == "malignant":
            for _ in range(5):
                at = rng.uniform(0, 2 * np.pi)
                inside = np.maximum(
                    inside, blot(rng, SHAPE, row + radius * np.sin(at), col + radius * np.cos(at), radius / 3)
                )
            below = np.clip((np.arange(SHAPE[0])[:, None] - row) / 20, 0, 1) * inside.any(axis=0)
            tissue = tissue * (1 - 0.6 * ndimage.gaussian_filter(below.astype(np.float64), 2.0))
        tissue = tissue * (1 - 0.85 * ndimage.gaussian_filter(inside, 0.8))
    speckle = ndimage.gaussian_filter(rng.rayleigh(1.0, SHAPE), 0.7)
    return np.asarray(np.clip(tissue * speckle * 150, 0, 255), np.uint8)


def write_busi(folder: Path, images: int, seed: int) -> list[str]:
    """images.csv and images/<label>_<number>.png; the labels, in the order of the table."""
    rng, labels = np.random.default_rng(seed), [LABELS[number % len(LABELS)] for number in range(images)]
    (folder / "images").mkdir(parents=True)
    with (folder / "images.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "label"])
        for number, label in enumerate(labels):
            name = f"images/{label}_{number + 1}.png"
            Image.fromarray(ultrasound(label, rng)).save(folder / name)
            table.writerow([name, label])
    return labels
