"""`ingest` of folders and a DICOMDIR: each image or series once, what does not belong refused, no patient tag kept."""

import shutil
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import generate_uid

from tests.phantoms.export import PIXELS, SECRETS, write, write_series
from tests.unit.imaging.conftest import PACS


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
    write_series(export / "ct", series)

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
    for secret in (*SECRETS, series.encode()):
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

    config = PACS.replace("path: export", "path: export/DICOMDIR").replace(
        "    wanted: {CR: {body_parts: [CHEST], views: [PA, AP]}, CT: {}}\n", ""
    )
    summary, images, rejects, _ = pacs(config)

    assert [(row[0].removeprefix("export/"), row[1], row[3], row[6]) for row in images] == [
        ("77654033/CR1/6154", 1, "CR", 1),
        ("77654033/CR2/6247", 1, "CR", 1),
        ("77654033/CR3/6278", 1, "CR", 1),
        ("98892001/CT5N", 2, "CT", 5),
        ("98892003/MR1/15820", 2, "MR", 1),
        ("98892003/MR1/4919", 2, "MR", 1),
        ("98892003/MR1/5641", 2, "MR", 1),
        ("98892003/MR2/15970", 2, "MR", 1),
    ]
    assert [(key.removeprefix("export/"), reason) for key, reason in rejects] == [
        ("77654033/CT2", "missing_slices"),
        ("98892001/CT2N", "mixed_orientations"),
        ("98892003/MR2", "mixed_orientations"),
        ("98892003/MR2", "mixed_orientations"),
        ("98892003/MR700", "mixed_orientations"),
    ], "localisers: planes that cross are no volume"
    assert (summary.sources[0].rows, summary.sources[0].facts) == (31, 13)


def test_a_file_named_as_an_image_that_is_none_is_refused_not_ignored(pacs, tmp_path: Path) -> None:
    export = tmp_path / "source" / "export"
    write(export / "a.dcm")
    whole = (export / "a.dcm").read_bytes()
    lost = {"empty.dcm": b"", "cut.DCM": whole[:100], "bare.dicom": whole[132:], "p.png": b"", "v.nii.gz": whole[:10]}
    for name, data in lost.items():
        (export / name).write_bytes(data)
    (export / "notes.txt").write_bytes(b"")
    (export / "LOCKFILE").write_bytes(whole[:10])

    summary, images, rejects, _ = pacs()

    assert [row[0] for row in images] == ["export/a.dcm"]
    assert dict(rejects) == {f"export/{name}": "unreadable" for name in lost}
    assert summary.sources[0].ignored == 2


def test_a_file_that_a_dicomdir_names_and_that_is_no_image_is_refused(pacs, tmp_path: Path) -> None:
    from pydicom.data import get_testdata_file

    there = Path(str(get_testdata_file("DICOMDIR"))).parent
    shutil.copytree(there, tmp_path / "source" / "export")
    (tmp_path / "source" / "export" / "77654033" / "CR1" / "6154").write_bytes(b"")
    (tmp_path / "source" / "people.csv").write_text("pacs,person\n77654033,1\n98890234,2\n")

    summary, _, rejects, _ = pacs(PACS.replace("path: export", "path: export/DICOMDIR"))

    assert ("export/77654033/CR1/6154", "unreadable") in rejects
    assert summary.sources[0].ignored == 0
