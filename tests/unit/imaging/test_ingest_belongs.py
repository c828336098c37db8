"""What of an export does not belong: each image costs itself, with a reason and what was wanted; nobody is named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from riskpred.errors import ConfigError, InputError
from riskpred.records.ingest import run_ingest
from tests.phantoms.export import PIXELS, SECRETS, write
from tests.unit.imaging.conftest import PACS

PEOPLE = """tables:
  - {name: people, file: people.csv, subject: person, time: {static: true}, events: [{code: ON_THE_MAP}]}
"""
ALL = PACS.replace("    wanted: {CR: {body_parts: [CHEST], views: [PA, AP]}, CT: {}}\n", "") + PEOPLE
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def chest() -> np.ndarray:
    """Bright spine between dark lungs, in 16 bits."""
    found = np.full((80, 80), 0.5)
    found[10:60, 10:32], found[10:60, 48:70] = 0.15, 0.15
    found += np.random.default_rng(0).normal(0, 0.02, found.shape)
    return (found.clip(0, 1) * 4000).astype(np.uint16)


def breast() -> np.ndarray:
    """A half disc on black air, brightest in its middle."""
    rows, cols = np.indices((80, 60))
    depth = 1 - np.hypot(rows - 40, cols) / 35
    return np.where(depth > 0, 300 + 2000 * depth, 0).astype(np.uint16)


def fate(pacs: Any, config: str = ALL) -> str | None:
    """Why the one image is refused; None where it is kept."""
    _, images, rejects, _ = pacs(config)
    assert len(images) + len(rejects) == 1
    return rejects[0][1] if rejects else None


@pytest.mark.parametrize(
    ("pixels", "tags"),
    [
        (chest(), {}),
        (breast(), {"Modality": "MG", "BodyPartExamined": "BREAST", "ViewPosition": "CC"}),
    ],
    ids=["chest", "breast"],
)
def test_an_inverted_picture_is_refused_unless_allowed(pacs, tmp_path, pixels, tags) -> None:
    path, strict = tmp_path / "source" / "export" / "a.dcm", ALL.replace("inverted: allow", "inverted: refuse")
    write(path, pixels, **tags)
    assert fate(pacs, strict) is None
    write(path, 4000 - pixels, **tags)
    assert fate(pacs, strict) == "inverted"
    assert fate(pacs) is None
    write(path, 4000 - pixels, PhotometricInterpretation="MONOCHROME1", **tags)
    assert fate(pacs, strict) is None, "a file that says so is turned over"


def test_a_lateral_chest_is_not_judged_as_a_frontal_one(pacs, tmp_path) -> None:
    write(tmp_path / "source" / "export" / "a.dcm", 4000 - chest(), ViewPosition="LL")
    assert fate(pacs, ALL.replace("inverted: allow", "inverted: refuse")) is None


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"BurnedInAnnotation": "YES"}, "burned_in_annotation"),
        ({"BurnedInAnnotation": "NO"}, None),
        ({}, None),
        ({"Modality": "US"}, "burned_in_annotation"),
        ({"Modality": "US", "BurnedInAnnotation": "NO"}, None),
        ({"SOPClassUID": CAPTURE}, "burned_in_annotation"),
        ({"ConversionType": "SD"}, "burned_in_annotation"),
        ({"ConversionType": "SD", "BurnedInAnnotation": "NO"}, None),
    ],
)
def test_text_in_the_pixels_is_refused_where_it_is_said_or_likely(pacs, tmp_path, tags, reason) -> None:
    write(tmp_path / "source" / "export" / "a.dcm", **tags)
    assert fate(pacs) == reason
    assert fate(pacs, ALL.replace("    checks:", "    burned_in: allow\n    checks:")) is None


@pytest.mark.parametrize(
    ("wanted", "tags", "reason"),
    [
        ("{DX: {}}", {}, "unwanted_image_type"),
        ("{CR: {}}", {"Modality": "OT"}, "unwanted_image_type"),
        ("{CR: {body_parts: [chest]}}", {"BodyPartExamined": "HAND"}, "unwanted_body_part"),
        ("{CR: {body_parts: [chest]}}", {}, None),
        ("{CR: {body_parts: [CHEST]}}", {"BodyPartExamined": ""}, "unwanted_body_part"),
        ("{CR: {body_parts: [CHEST], unsaid: accept}}", {"BodyPartExamined": ""}, None),
        ("{CR: {views: [PA, AP]}}", {"ViewPosition": "LL"}, "unwanted_view"),
        ("{CR: {views: [LATERAL]}}", {"ViewPosition": "RL"}, None),
        ("{CR: {lateralities: [L]}}", {"ImageLaterality": "R"}, "unwanted_laterality"),
        ("{CR: {lateralities: [L]}}", {"Laterality": "L"}, None),
        ("{CR: {lateralities: [L], unsaid: accept}}", {}, None),
    ],
)
def test_type_part_view_and_side_are_those_wanted(pacs, tmp_path, wanted, tags, reason) -> None:
    write(tmp_path / "source" / "export" / "a.dcm", **tags)
    assert fate(pacs, ALL.replace("    checks:", f"    wanted: {wanted}\n    checks:")) == reason


def collimated(share: float) -> np.ndarray:
    """Content in the upper left corner, the rest even."""
    found = np.zeros((100, 100), np.uint16)
    side = round(100 * share**0.5)
    found[:side, :side] = np.random.default_rng(0).integers(500, 3000, (side, side))
    return found


@pytest.mark.parametrize(
    ("pixels", "checks", "reason"),
    [
        (np.tile(PIXELS, (1, 5))[:20], "", "cropped"),
        (np.tile(PIXELS, (1, 5))[:20], ", longest_to_shortest: 20", None),
        (collimated(0.1), "", "cropped"),
        (collimated(0.1), ", least_content: 0.05", None),
        (collimated(0.5), "", None),
        (PIXELS, ", least_mm: 12.5", "cropped"),  # 64 x 0.5 and 48 x 0.25 mm
        (PIXELS, ", least_mm: 11.5", None),
        (np.full((64, 48), 9, np.uint16), "", "blank"),
    ],
)
def test_a_strip_a_corner_or_nothing_is_refused(pacs, tmp_path, pixels, checks, reason) -> None:
    write(tmp_path / "source" / "export" / "a.dcm", pixels)
    assert fate(pacs, ALL.replace("inverted: allow", f"inverted: allow{checks}")) == reason


def moment(pacs: Any, time: str = "", **more: str) -> Any:
    """UTC time of the one image, or why it has none."""
    config = ALL.replace("    checks:", f"    time: {time}\n    checks:") if time else ALL
    _, images, rejects, _ = pacs(config)
    return rejects[0][1] if rejects else images[0][2]


NO_DAY = {"AcquisitionDate": "", "AcquisitionTime": ""}


@pytest.mark.parametrize(
    ("tags", "time", "found"),
    [
        ({}, "", "2020-07-01 10:00:00"),
        ({"AcquisitionDateTime": "20200102030405+0500"}, "", "2020-01-01 22:04:05"),
        ({"TimezoneOffsetFromUTC": "-0300"}, "", "2020-07-01 15:00:00"),
        ({**NO_DAY, "StudyDate": "20190101", "StudyTime": "1000"}, "", "2019-01-01 09:00:00"),
        ({**NO_DAY, "ContentDate": "20180101", "StudyDate": "20190101"}, "", "2017-12-31 23:00:00"),
        ({"StudyDate": "20190101", "StudyTime": "1000"}, "{tags: [study]}", "2019-01-01 09:00:00"),
        (NO_DAY, "", "no_time"),
        ({"StudyDate": "19000101"}, "{tags: [study]}", "no_time"),  # stands for unknown
        ({}, "{static: true}", None),
    ],
)
def test_the_time_is_that_of_the_first_tag_that_has_one(pacs, tmp_path, tags, time, found) -> None:
    write(tmp_path / "source" / "export" / "a.dcm", **tags)
    assert moment(pacs, time) == found


@pytest.mark.parametrize(
    ("match", "named"), [("path", "export/a.b.dcm"), ("name", "a.b.dcm"), ("stem", "a"), ("name", "other.dcm")]
)
def test_the_time_may_stand_in_a_table(pacs, tmp_path, match, named) -> None:
    write(tmp_path / "source" / "export" / "a.b.dcm")
    (tmp_path / "source" / "times.csv").write_text(f"image,day\n{named},03.02.2015 08:00\n")
    table = f"{{file: times.csv, image: image, match: {match}, column: day, format: '%d.%m.%Y %H:%M'}}"
    assert moment(pacs, f"{{table: {table}}}") == ("no_time" if named == "other.dcm" else "2015-02-03 07:00:00")


def test_subject_time_and_type_may_stand_in_the_path(pacs, tmp_path) -> None:
    folder = tmp_path / "source" / "export" / "case_12"
    folder.mkdir(parents=True)
    for name in ("20150203_us_l", "undated"):
        Image.fromarray((PIXELS % 255).astype(np.uint8)).save(folder / f"{name}.png")
    pattern = r"case_(?P<subject>\d+)/(?P<time>\d{8})?_?(us)?_?(?P<laterality>[lr])?"
    _, images, rejects, _ = pacs(f"""
study: paths
folders:
  - name: paths
    path: export
    subject: pattern
    pattern: '{pattern}'
    time: {{pattern: "%Y%m%d"}}
    image_type: US
    allow_rejects: 1.0
""")
    assert [row[:4] for row in images] == [("export/case_12/20150203_us_l.png", 12, "2015-02-03 00:00:00", "US")]
    assert rejects == [("export/case_12/undated.png", "no_time")]


def test_an_error_says_how_many_and_nobody(pacs, tmp_path) -> None:
    export = tmp_path / "source" / "export"
    write(export / "a.dcm")
    write(export / "b.dcm", PatientID="SECRET-9")
    with pytest.raises(InputError) as raised:
        pacs(ALL.replace("allow_rejects: 1.0", "allow_rejects: 0.1"))
    text = str(raised.value)
    assert "1 of 2" in text
    assert "no subject" in text
    assert not any(secret.decode() in text for secret in (*SECRETS, b"SECRET-9"))
    assert not (tmp_path / "w.duckdb").exists()


def test_an_error_counts_each_reason_and_all_together(pacs, tmp_path) -> None:
    export = tmp_path / "source" / "export"
    for name in "abc":
        write(export / f"{name}.dcm")
    write(export / "d.dcm", PatientID="OTHER")
    write(export / "e.dcm", np.full((64, 48), 9, np.uint16))
    with pytest.raises(InputError) as raised:
        pacs(ALL.replace("allow_rejects: 1.0", "allow_rejects: 0.1"))
    assert "1 of 5 rows (all reasons together 40.0 %, allowed 10 %)" in str(raised.value), "1 of 5 alone is 20 %"


def test_a_map_in_which_one_identifier_is_two_people_is_refused(pacs, tmp_path) -> None:
    write(tmp_path / "source" / "export" / "a.dcm")
    (tmp_path / "source" / "people.csv").write_text("pacs,person\nSECRET-7,7\nSECRET-7,8\n")
    with pytest.raises(InputError, match="stands for several people") as raised:
        pacs()
    assert "SECRET" not in str(raised.value)


def test_a_decoder_that_dies_costs_its_image(pacs, tmp_path, monkeypatch) -> None:
    """Files are opened in another process: here Pillow dies of one picture, as a codec with a fault would."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal\n"
        "from PIL import Image\n"
        "whole = Image.open\n"
        "def open_(stream, *args, **more):\n"
        "    picture = whole(stream, *args, **more)\n"
        "    if picture.size == (7, 7):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return picture\n"
        "Image.open = open_\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "source" / "export"
    folder.mkdir()
    Image.fromarray(np.eye(7, dtype=np.uint8)).save(folder / "2.png")
    for name in ("1", "3"):
        Image.fromarray((PIXELS % 255).astype(np.uint8)).save(folder / f"{name}.png")
    _, images, rejects, _ = pacs(
        """
study: paths
folders:
  - name: paths
    path: export
    subject: pattern
    pattern: 'export/(?P<subject>.).png'
    time: {static: true}
    image_type: OP
    allow_rejects: 1.0
""",
        workers=1,
    )
    assert [row[0] for row in images] == ["export/1.png", "export/3.png"]
    assert rejects == [("export/2.png", "decoder_crashed")]


def test_without_someone_who_opens_files_it_says_what_to_pass(tmp_path: Path) -> None:
    (tmp_path / "ingest.yaml").write_text(PACS + "splits: {near_copies: 0.9}\n")
    with pytest.raises(ConfigError, match=r"folders\.export, splits\.near_copies: asks for what is in image") as raised:
        run_ingest(str(tmp_path), tmp_path, tmp_path / "w.duckdb")
    assert "FileLook" in str(raised.value)


def test_when_nothing_is_left_it_says_why(pacs, tmp_path) -> None:
    write(tmp_path / "source" / "export" / "a.dcm", Modality="OT")
    write(tmp_path / "source" / "export" / "b.dcm", BurnedInAnnotation="YES")
    with pytest.raises(InputError, match="no fact of any source became an event or an image") as raised:
        pacs(ALL.replace(PEOPLE, ""))
    assert "1 refused as burned_in_annotation, 1 refused as unwanted_image_type" in str(raised.value)
