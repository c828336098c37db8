"""Writes the simulated hospital's radiographs as DICOM files, the same bytes for the same seed."""

from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from riskpred.progress import Progress
from riskpred.records.simulate.draws import Draws
from riskpred.records.simulate.radiographs import FIELD_MM, Anatomy, render

SIZE: Final = {"CR": 96, "DX": 112}
"""Pixels a side: the cassette system stores 8 bits, the newer digital one 12 of 16."""

_STORAGE = {"CR": ComputedRadiographyImageStorage, "DX": DigitalXRayImageStorageForPresentation}
_BITS = {"CR": 8, "DX": 12}
_BLOCK: Final = 128


def write_radiographs(
    folder: Path, rows: pl.DataFrame, shown: Anatomy, draws: Draws, seed: int, progress: Progress
) -> None:
    """Render and write one file per row.

    Args:
        folder: the source folder; the column `file` is relative to it.
        rows: index, number (1, 2, 3 of the subject), patient, machine (CR or DX), taken_at, file, inverted, shrink
            (factor on the nodule's radius).
        shown: anatomy of all subjects, by `index`.
        seed: part of the UIDs.
    """
    (folder / "images").mkdir(exist_ok=True)
    done = 0
    for machine, size in SIZE.items():
        of_machine = rows.filter(pl.col("machine") == machine)
        for block in of_machine.iter_slices(_BLOCK):
            anatomy = shown.take(block["index"].to_numpy())
            anatomy.nodule[:, 2] *= block["shrink"].to_numpy()
            noise = [
                draws.of_subject(f"image noise {number}", index).standard_normal((size, size))
                for index, number in block.select("index", "number").iter_rows()
            ]
            pictures = render(anatomy, size, np.stack(noise))
            for picture, row in zip(pictures, block.iter_rows(named=True), strict=True):
                _dataset(picture, row, machine, seed).save_as(folder / row["file"], enforce_file_format=True)
            done += len(block)
            progress.step("simulate images", done, len(rows))


def truncate(file: Path) -> None:
    """Cut a file in the middle of its pixels, as a transfer that broke off leaves it."""
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def _dataset(picture: NDArray[np.float64], row: dict[str, object], machine: str, seed: int) -> Dataset:
    bits = _BITS[machine]
    level = 2**bits - 1
    stored = np.round((1 - picture if row["inverted"] else picture) * level)
    data = Dataset()
    data.SOPClassUID = _STORAGE[machine]
    # 2.25 is the root for UIDs made from an integer, without registration; a leading 0 would be invalid.
    uid = f"2.25.9{seed:06d}{row['index']:09d}{row['number']}"
    data.SOPInstanceUID = f"{uid}3"
    data.StudyInstanceUID = f"{uid}1"
    data.SeriesInstanceUID = f"{uid}2"
    data.PatientName = "SIMULATED^PERSON"
    data.PatientID = row["patient"]
    taken = str(row["taken_at"])
    data.StudyDate = data.AcquisitionDate = taken[:10].replace("-", "")
    data.StudyTime = data.AcquisitionTime = taken[11:16].replace(":", "") + "00"
    data.Modality = machine
    data.BodyPartExamined = "CHEST"
    data.ViewPosition = "PA"
    data.Manufacturer = "riskpred simulated hospital"
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME1" if row["inverted"] else "MONOCHROME2"
    data.Rows, data.Columns = picture.shape
    spacing = FIELD_MM / picture.shape[0]
    data.PixelSpacing = [f"{spacing:.4f}", f"{spacing:.4f}"]
    data.BitsAllocated = 8 if bits == 8 else 16
    data.BitsStored, data.HighBit, data.PixelRepresentation = bits, bits - 1, 0
    data.WindowCenter, data.WindowWidth = level // 2, level
    data.PixelData = stored.astype(np.uint8 if bits == 8 else "<u2").tobytes()
    data["PixelData"].VR = "OB" if bits == 8 else "OW"
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta = meta
    return data
