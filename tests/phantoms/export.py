"""DICOM files as an archive exports them, with a patient's name and number in every one."""

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

PIXELS = np.random.default_rng(0).integers(100, 3000, (64, 48)).astype(np.uint16)
SECRETS = (b"SECRET-7", b"Doe^Jane")
"""What must never leave the files: PatientID and PatientName of each."""


def write(path: Path, pixels: np.ndarray = PIXELS, **tags: Any) -> None:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    meta.MediaStorageSOPInstanceUID = tags.get("SOPInstanceUID", generate_uid())
    made = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    made.PatientID, made.PatientName = "SECRET-7", "Doe^Jane"
    made.Modality, made.BodyPartExamined, made.ViewPosition = "CR", "CHEST", "PA"
    made.AcquisitionDate, made.AcquisitionTime = "20200701", "120000"
    made.SeriesInstanceUID = generate_uid()
    made.Rows, made.Columns = pixels.shape
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 0
    made.PixelSpacing = [0.5, 0.25]
    made.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(made, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path, enforce_file_format=True)


def write_series(folder: Path, uid: str, slices: int = 3, name: str = "{}.dcm", seed: int = 1, **tags: Any) -> None:
    """A CT series of that SeriesInstanceUID, 2 mm apart; `name` of its files takes the slice."""
    rng = np.random.default_rng(seed)
    for z in range(slices):
        place = {"ImagePositionPatient": [0, 0, 2.0 * z], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
        pixels = rng.integers(100, 3000, PIXELS.shape).astype(np.uint16)
        about = {"Modality": "CT", "SeriesInstanceUID": uid, "InstanceNumber": z + 1, **place, **tags}
        write(folder / name.format(z), pixels, **about)
