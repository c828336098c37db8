"""`ingest` of folders and a DICOMDIR: each image or series once, what does not belong refused, no patient tag kept."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from riskpred.imaging.inspect import FileLook
from riskpred.records.ingest import run_ingest

PIXELS = np.random.default_rng(0).integers(100, 3000, (64, 48)).astype(np.uint16)
CONFIG = """
study: pacs
timezone: Europe/Berlin
folders:
  - name: export
    path: export
    subject: PatientID
    subject_map: {file: people.csv, identifier: pacs, subject: person}
    wanted: {CR: {body_parts: [CHEST], views: [PA, AP]}, CT: {}}
    checks: {inverted: allow}
    allow_rejects: 1.0
"""


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


@pytest.fixture
def pacs(tmp_path: Path) -> Callable[..., Any]:
    source = tmp_path / "source"
    source.mkdir()
    (source / "people.csv").write_text("pacs,person\nSECRET-7,7\n")

    def ingest(config: str = CONFIG) -> tuple[Any, list[Any], list[Any], bytes]:
        study = tmp_path / "study"
        study.mkdir(exist_ok=True)
        (study / "ingest.yaml").write_text(config)
        into = tmp_path / "w.duckdb"
        with FileLook(workers=0) as look:
            summary = run_ingest(str(study), source, into, look=look)
        with duckdb.connect(str(into), read_only=True) as connection:
            images = connection.execute(
                "SELECT path, subject_id, time::VARCHAR, image_type, body_part, view, frames, row_spacing_mm,"
                " col_spacing_mm, pixel_digest, image_id FROM images ORDER BY path"
            ).fetchall()
            rejects = connection.execute("SELECT row_key, reason FROM rejects ORDER BY 1").fetchall()
        return summary, images, rejects, into.read_bytes()

    return ingest


def test_images_series_and_what_does_not_belong(pacs, tmp_path: Path) -> None:
    export = tmp_path / "source" / "export"
    write(export / "a.dcm")
    write(export / "lateral.dcm", ViewPosition="LL")
    write(export / "hand.dcm", BodyPartExamined="HAND")
    write(export / "mr.dcm", Modality="MR")
    write(export / "nobody.dcm", PatientID="OTHER")
    write(export / "text.dcm", BurnedInAnnotation="YES")
    write(export / "blank.dcm", np.full((64, 48), 7, np.uint16))
    write(export / "strip.dcm", np.tile(PIXELS, (1, 5))[:20])
    write(export / "undated.dcm", AcquisitionDate="", AcquisitionTime="")
    (export / "notes.txt").write_text("no image")
    series = generate_uid()
    for z in range(3):
        more = {"ImagePositionPatient": [0, 0, 2.0 * z], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
        write(export / "ct" / f"{z}.dcm", Modality="CT", SeriesInstanceUID=series, InstanceNumber=z + 1, **more)

    summary, images, rejects, written = pacs()

    assert [row[:9] for row in images] == [
        ("export/a.dcm", 7, "2020-07-01 10:00:00", "CR", "CHEST", "PA", 1, 0.5, 0.25),
        ("export/ct", 7, "2020-07-01 10:00:00", "CT", "CHEST", "PA", 3, 0.5, 0.25),
    ]
    assert dict(rejects) == {
        "export/lateral.dcm": "unwanted_view",
        "export/hand.dcm": "unwanted_body_part",
        "export/mr.dcm": "unwanted_image_type",
        "export/nobody.dcm": "no_subject",
        "export/text.dcm": "burned_in_annotation",
        "export/blank.dcm": "blank",
        "export/strip.dcm": "cropped",
        "export/undated.dcm": "no_time",
    }
    (count,) = summary.sources
    assert (count.rows, count.facts, count.images, count.rejects, count.ignored) == (13, 11, 2, 8, 1)
    for secret in (b"SECRET-7", b"Doe^Jane", series.encode()):
        assert secret not in written


def test_equal_pixels_have_one_digest_under_another_header_and_compression(pacs, tmp_path: Path) -> None:
    export = tmp_path / "source" / "export"
    write(export / "a.dcm")
    write(export / "b.dcm", PatientName="Other^Name", StudyDate="19990101")
    packed = pydicom.dcmread(export / "b.dcm")
    packed.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
    packed.SOPInstanceUID = packed.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    packed.save_as(export / "c.dcm")
    write(export / "d.dcm", PIXELS + 1)
    shutil.copy(export / "a.dcm", export / "z.dcm")

    summary, images, _, _ = pacs()

    digests = [row[9] for row in images]
    assert len(images) == 4, "the same file under another name is a repeat"
    assert summary.sources[0].repeats == 1
    assert digests[0] == digests[1] == digests[2] != digests[3]


def test_a_dicomdir_names_its_files(pacs, tmp_path: Path) -> None:
    from pydicom.data import get_testdata_file

    there = Path(str(get_testdata_file("DICOMDIR"))).parent
    shutil.copytree(there, tmp_path / "source" / "export")
    (tmp_path / "source" / "people.csv").write_text("pacs,person\n77654033,1\n98890234,2\n")

    config = CONFIG.replace("path: export", "path: export/DICOMDIR").replace(
        "    wanted: {CR: {body_parts: [CHEST], views: [PA, AP]}, CT: {}}\n", ""
    )
    summary, images, rejects, _ = pacs(config)

    assert summary.sources[0].rows == 31
    assert {row[1] for row in images} <= {1, 2}
    assert len(images) + len(rejects) == summary.sources[0].facts
    assert images
