"""Fundus phantoms in the layouts of APTOS 2019 and Messidor-2."""

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.phantoms.fundus import SIDE, fundus

SHARES = (0.36, 0.16, 0.22, 0.13, 0.13)
"""Of grades 0 to 4; APTOS has .49, .10, .27, .05, .08: rare grades are more frequent here, to be measured at all."""


def grades_of(images: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Grades in random order, each in its share and at least twice."""
    counts = np.maximum(2, np.rint(np.array(SHARES) * images)).astype(np.int64)
    counts[0] = max(2, images - int(counts[1:].sum()))
    found: NDArray[np.int64] = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    return found


def write_aptos(folder: Path, images: int, seed: int, side: int = SIDE) -> NDArray[np.int64]:
    """train.csv and train_images/<id_code>.png; the grades, in the order of the rows."""
    rng = np.random.default_rng(seed)
    grades = grades_of(images, rng)
    (folder / "train_images").mkdir(parents=True)
    with (folder / "train.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id_code", "diagnosis"])
        for grade in grades.tolist():
            code = rng.bytes(6).hex()
            table.writerow([code, grade])
            Image.fromarray(fundus(grade, rng, side)).save(folder / "train_images" / f"{code}.png")
    return grades


def write_messidor2(folder: Path, images: int, seed: int, side: int = SIDE) -> NDArray[np.int64]:
    """messidor_data.csv and IMAGES/; every twelfth image could not be graded. Returns the grades, -1 = none."""
    rng = np.random.default_rng(seed)
    grades = grades_of(images, rng)
    (folder / "IMAGES").mkdir(parents=True)
    found = []
    with (folder / "messidor_data.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image_id", "adjudicated_dr_grade", "adjudicated_dme", "adjudicated_gradable"])
        for number, grade in enumerate(grades.tolist()):
            name = f"20060411_{58000 + number}_0200_PP.png" if number % 2 else f"IM{number:06d}.JPG"
            gradable = number % 12 != 11
            oedema = int(grade >= 2 and rng.random() < 0.4)
            table.writerow([name, grade if gradable else "", oedema if gradable else "", int(gradable)])
            Image.fromarray(fundus(grade, rng, side)).save(folder / "IMAGES" / name, quality=92)
            found.append(grade if gradable else -1)
    return np.array(found, dtype=np.int64)
