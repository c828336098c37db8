"""Mammograms with a mass or calcifications, in the layout of CBIS-DDSM (TCIA, classic directories)."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tests.phantoms.drawing import blot, clouds

SHAPE = (160, 112)


@dataclass(frozen=True)
class Mammogram:
    """pixels: (H, W) uint16.   mask: (H, W) bool, the abnormality.   box: its rows and columns with a margin."""

    pixels: NDArray[np.uint16]
    mask: NDArray[np.bool_]

    @property
    def box(self) -> tuple[slice, slice]:
        rows, cols = (np.flatnonzero(self.mask.any(axis=axis)) for axis in (1, 0))
        return slice(max(0, rows[0] - 6), rows[-1] + 7), slice(max(0, cols[0] - 6), cols[-1] + 7)


def mammogram(kind: str, malignant: bool, left: bool, rng: np.random.Generator) -> Mammogram:
    """One view: half an ellipse of fat and strands, a mass (spiculated if malignant) or a cluster of specks."""
    rows, cols = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(np.float64)
    height, depth = SHAPE[0] * rng.uniform(0.42, 0.47), SHAPE[1] * rng.uniform(0.75, 0.9)
    reach = np.hypot((rows - SHAPE[0] / 2) / height, cols / depth)
    breast = np.clip((1.0 - reach) * 12, 0, 1)
    picture = breast * (0.35 + 0.1 * clouds(rng, SHAPE, 9.0) + 0.06 * np.abs(clouds(rng, SHAPE, 2.5)))
    row, col = SHAPE[0] / 2 + rng.uniform(-0.45, 0.45) * height, rng.uniform(0.25, 0.6) * depth
    if kind == "mass":
        radius = rng.uniform(7, 12)
        shape = blot(rng, SHAPE, row, col, radius)
        picture += 0.3 * ndimage.gaussian_filter(shape, 1.0)
        if malignant:
            angle, away = np.arctan2(rows - row, cols - col), np.hypot(rows - row, cols - col)
            spikes = np.cos(angle * rng.integers(7, 12) + rng.uniform(0, 6)) > 0.75
            picture += 0.18 * spikes * np.exp(-(((away - radius) / (0.7 * radius)) ** 2)) * (away > radius * 0.8)
        mask = shape > 0.5
    else:
        mask, count = np.zeros(SHAPE, bool), int(rng.integers(8, 16) if malignant else rng.integers(3, 6))
        for _ in range(count):
            at = np.array([row, col]) + rng.normal(0, 5, 2)
            speck = blot(rng, SHAPE, at[0], at[1], rng.uniform(0.8, 1.5))
            picture += 0.5 * speck
            mask |= speck > 0.5
        mask = ndimage.binary_dilation(mask, iterations=4)
    picture = picture * breast + rng.normal(0, 0.01, SHAPE)
    pixels = np.clip(picture * 45000, 0, 65535).astype(np.uint16)
    return Mammogram(pixels if left else pixels[:, ::-1].copy(), mask if left else mask[:, ::-1].copy())


def write_cbis_ddsm(folder: Path, people: int, seed: int) -> dict[str, bool]:
    """The four tables and CBIS-DDSM/; whether each person has a malignant abnormality."""
    rng, answers = np.random.default_rng(seed), {}
    folder.mkdir(parents=True)
    tables = {}
    for kind, density in (("mass", "breast_density"), ("calc", "breast density")):
        shape = ("mass shape", "mass margins") if kind == "mass" else ("calc type", "calc distribution")
        for part in ("train", "test"):
            tables[kind, part] = [
                [
                    *("patient_id", density, "left or right breast", "image view", "abnormality id"),
                    *("abnormality type", *shape, "assessment", "pathology", "subtlety"),
                    *("image file path", "cropped image file path", "ROI mask file path"),
                ]
            ]
    for number in range(people):
        kind, part = ("mass", "calc")[number % 2], "test" if number % 5 == 4 else "train"
        patient, malignant, side = f"P_{number:05d}", bool(rng.random() < 0.5), ("LEFT", "RIGHT")[number // 2 % 2]
        pathology = "MALIGNANT" if malignant else rng.choice(["BENIGN", "BENIGN_WITHOUT_CALLBACK"])
        answers[patient] = malignant
        for view in ("CC", "MLO"):
            made = mammogram("mass" if kind == "mass" else "calc", malignant, side == "LEFT", rng)
            full = f"{kind.capitalize()}-{'Training' if part == 'train' else 'Test'}_{patient}_{side}_{view}"
            paths = []
            for suffix, pixels in (
                ("", made.pixels),
                ("_1", made.pixels[made.box]),
                ("_1", made.mask.astype(np.uint8) * 255),
            ):
                study, series = _uid(rng), _uid(rng)
                paths.append(
                    f"{full}{suffix}/{study}/{series}/{'000001' if pixels.dtype == np.uint8 else '000000'}.dcm"
                )
                _dicom(folder / "CBIS-DDSM" / paths[-1], pixels, patient, side, view, rng)
            row = [patient, 2, side, view, 1, "mass" if kind == "mass" else "calcification", "ROUND", "OBSCURED", 4]
            tables[kind, part].append([*row, pathology, 3, *paths[:2], paths[2] + "\n"])  # as the owner's tables do
    for (kind, part), rows in tables.items():
        with (folder / f"{kind}_case_description_{part}_set.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    return answers


def _uid(rng: np.random.Generator) -> str:
    return f"1.3.6.1.4.1.9590.100.1.2.{rng.integers(10**17, 10**18)}"


def _dicom(
    path: Path, pixels: NDArray[np.generic], patient: str, side: str, view: str, rng: np.random.Generator
) -> None:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = SecondaryCaptureImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = _uid(rng)
    data.SeriesInstanceUID, data.StudyInstanceUID = path.parent.name, path.parent.parent.name
    data.Modality, data.PatientID, data.PatientName = "MG", patient, ""
    data.BodyPartExamined, data.PatientOrientation, data.Laterality = "BREAST", view, side[0]
    data.Rows, data.Columns = pixels.shape
    bits = 8 * pixels.dtype.itemsize
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = bits, bits, bits - 1, 0
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.PixelData = np.ascontiguousarray(pixels).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
