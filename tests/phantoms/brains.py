"""Heads with a tumour of three parts in four MR sequences, in the layouts of BraTS 2021 and BraTS 2020 (survival)."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.phantoms.drawing import clouds

SEQUENCES = ("flair", "t1", "t1ce", "t2")
NECROSIS, OEDEMA, ENHANCING = 1, 2, 4
_BRIGHT = {
    "flair": {0: 0.45, NECROSIS: 0.35, OEDEMA: 0.95, ENHANCING: 0.8},
    "t1": {0: 0.6, NECROSIS: 0.25, OEDEMA: 0.45, ENHANCING: 0.5},
    "t1ce": {0: 0.6, NECROSIS: 0.25, OEDEMA: 0.45, ENHANCING: 1.0},
    "t2": {0: 0.4, NECROSIS: 0.9, OEDEMA: 0.85, ENHANCING: 0.7},
}


@dataclass(frozen=True)
class Head:
    """volumes: sequence -> (X, Y, Z) int16, 0 outside the brain.   parts: (X, Y, Z) uint8, values as BraTS has them."""

    volumes: dict[str, NDArray[np.int16]]
    parts: NDArray[np.uint8]

    def volume_mm3(self, *values: int) -> float:
        """Of parts, at the 1 mm that BraTS has."""
        return float(np.isin(self.parts, values).sum())


def head(rng: np.random.Generator, shape: tuple[int, int, int] = (56, 64, 48)) -> Head:
    """An ellipsoid of brain with an irregular tumour: dead core, enhancing rim, oedema around."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")).astype(np.float64)
    middle = (np.array(shape) - 1) / 2.0
    reach = np.sqrt(
        (((grid - middle[:, None, None, None]) / (0.46 * np.array(shape))[:, None, None, None]) ** 2).sum(0)
    )
    brain = reach < 1.0
    away = rng.normal(size=3)
    centre = middle + away / np.linalg.norm(away) * rng.uniform(0.15, 0.4) * np.array(shape) / 2
    radius = rng.uniform(5.0, 9.0)
    bulge = 1.0 + 0.18 * clouds(rng, shape, 4.0)
    distance = np.sqrt(((grid - centre[:, None, None, None]) ** 2).sum(0)) / bulge
    parts = np.zeros(shape, np.uint8)
    parts[(distance < radius * rng.uniform(1.3, 1.7)) & brain] = OEDEMA
    parts[(distance < radius) & brain] = ENHANCING
    parts[(distance < radius * rng.uniform(0.4, 0.7)) & brain] = NECROSIS
    tissue = 1.0 + 0.12 * clouds(rng, shape, 3.0)
    volumes = {}
    for name, bright in _BRIGHT.items():
        grey = np.select([parts == value for value in bright if value], [bright[v] for v in bright if v], bright[0])
        made = rng.uniform(600, 1400) * grey * tissue + rng.normal(0, 25, shape)
        volumes[name] = np.where(brain, np.clip(made, 1, 4000), 0).astype(np.int16)
    return Head(volumes, parts)


def _write(folder: Path, name: str, made: Head) -> None:
    import nibabel

    folder.mkdir(parents=True)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])  # BraTS: x to the left, y to the back
    for sequence, volume in {**made.volumes, "seg": made.parts}.items():
        nibabel.save(nibabel.Nifti1Image(volume, affine), folder / f"{name}_{sequence}.nii.gz")


def write_brats(folder: Path, people: int, seed: int) -> list[Head]:
    """BraTS2021_<number>/ and the labels of task 2; one in six has no label."""
    rng, made = np.random.default_rng(seed), []
    folder.mkdir(parents=True)
    with (folder / "train_labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["BraTS21ID", "MGMT_value"])
        for number in range(people):
            made.append(head(rng))
            name = f"BraTS2021_{number:05d}"
            _write(folder / name, name, made[-1])
            if number % 6 != 5:
                table.writerow([f"{number:05d}", number % 2])
    return made


def write_brats_survival(folder: Path, people: int, seed: int) -> list[Head]:
    """BraTS20_Training_<number>/ and survival_info.csv: the larger the tumour, the sooner death; one is still alive."""
    rng, made = np.random.default_rng(seed), []
    folder.mkdir(parents=True)
    with (folder / "survival_info.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["Brats20ID", "Age", "Survival_days", "Extent_of_Resection"])
        for number in range(1, people + 1):
            made.append(head(rng))
            name = f"BraTS20_Training_{number:03d}"
            _write(folder / name, name, made[-1])
            days = max(5, round(float(rng.exponential(900.0 * 1500.0 / made[-1].volume_mm3(NECROSIS, ENHANCING)))))
            said = "ALIVE (361 days later)" if number == 1 else str(days)
            table.writerow([name, round(float(rng.uniform(30, 80)), 3), said, rng.choice(["GTR", "STR", "NA"])])
    return made
