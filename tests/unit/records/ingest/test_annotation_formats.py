"""Files of marked lesions as rows: COCO JSON, LIDC XML, COCA property lists, each written here by hand."""

import json
import plistlib
from pathlib import Path

import pytest

from riskpred.records.ingest.annotation_formats import (
    list_files,
    read_coca,
    read_coca_scores,
    read_coco,
    read_lidc,
)


def test_coco_gives_each_polygon_with_its_image_category_and_box(tmp_path: Path) -> None:
    path = tmp_path / "masks.json"
    path.write_text(
        json.dumps(
            {
                "images": [{"id": 7, "file_name": "IMG0000019.jpg", "height": 454, "width": 373}],
                "categories": [{"id": 1, "name": "fractured"}],
                "annotations": [
                    {
                        "id": 1,
                        "image_id": 7,
                        "category_id": 1,
                        "segmentation": [[10, 20, 30, 20, 30, 44.5], [1, 1, 2, 1, 2, 2]],
                        "bbox": [10, 20, 20, 24.5],
                    },
                    {"id": 2, "image_id": 7, "category_id": 1, "segmentation": {"counts": []}, "bbox": [1, 2, 3, 4]},
                ],
            }
        )
    )
    found = read_coco(path).to_dicts()
    assert [(one["annotation"], one["part"]) for one in found] == [(1, 1), (1, 2), (2, 1)]
    assert json.loads(found[0]["points"]) == [[20, 10], [20, 30], [44.5, 30]], "x, y in the file, row, col here"
    assert (found[0]["row"], found[0]["col"], found[0]["height_px"], found[0]["width_px"]) == (20, 10, 24.5, 20)
    assert found[2]["points"] is None
    assert {one["file_name"] for one in found} == {"IMG0000019.jpg"}


def nodule(name: str, sop_z: list[tuple[str, float]], square: tuple[int, int, int], malignancy: int | None) -> str:
    """What one reader says of one nodule: the same square (left, top, side) on each slice."""
    left, top, side = square
    corners = ((left, top), (left + side, top), (left + side, top + side), (left, top + side))
    edges = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in corners)
    rois = "".join(
        f"<roi><imageZposition>{z}</imageZposition><imageSOP_UID>{uid}</imageSOP_UID><inclusion>TRUE</inclusion>"
        f"{edges if malignancy else edges[:60]}</roi>"
        for uid, z in sop_z
    )
    said = f"<characteristics><malignancy>{malignancy}</malignancy></characteristics>" if malignancy else ""
    return f"<unblindedReadNodule><noduleID>{name}</noduleID>{said}{rois if malignancy else ''}</unblindedReadNodule>"


def lidc(folder: Path, *sessions: str) -> Path:
    path = folder / "LIDC-IDRI-0001" / "01-01-2000-NA-NA-30178" / "3000566.000000-NA-03192" / "069.xml"
    path.parent.mkdir(parents=True)
    read = "".join(f"<readingSession>{session}</readingSession>" for session in sessions)
    path.write_text(
        '<?xml version="1.0" encoding="UTF-8"?><LidcReadMessage xmlns="http://www.nih.gov"><ResponseHeader>'
        f"<SeriesInstanceUid>1.3.6.1</SeriesInstanceUid></ResponseHeader>{read}</LidcReadMessage>"
    )
    return path


def test_lidc_joins_what_readers_drew_of_one_nodule(tmp_path: Path) -> None:
    slices = [("u1", -120.0), ("u2", -122.5), ("u3", -125.0)]
    found = read_lidc(
        lidc(
            tmp_path,
            nodule("a", slices, (100, 50, 10), 4) + nodule("small", slices[:1], (300, 300, 1), None),
            nodule("x", slices[:2], (104, 52, 8), 5) + nodule("y", slices[1:2], (400, 400, 6), 2),
            nodule("q", slices[:2], (98, 49, 9), 3),
        )
    ).to_dicts()
    first = [one for one in found if one["nodule"] == 1]
    assert [one["sop_uid"] for one in first] == ["u1", "u2"], "the reader with the middle number of slices"
    assert {(one["readers"], one["malignancy"]) for one in first} == {(3, 4.0)}
    assert json.loads(first[0]["points"])[0] == [49, 98]
    (alone,) = [one for one in found if one["nodule"] == 2]
    assert (alone["readers"], alone["malignancy"], alone["z_mm"]) == (1, 2.0, -122.5)
    assert {(one["patient"], one["series_uid"]) for one in found} == {("LIDC-IDRI-0001", "1.3.6.1")}


def test_a_scan_without_a_nodule_is_one_row_and_a_radiograph_none(tmp_path: Path) -> None:
    (row,) = read_lidc(lidc(tmp_path, "", "")).to_dicts()
    assert (row["series_uid"], row["nodule"], row["points"]) == ("1.3.6.1", None, None)
    other = tmp_path / "other.xml"
    other.write_text("<IdriReadMessage/>")
    assert read_lidc(other).is_empty()
    other.write_text("<Message/>")
    with pytest.raises(ValueError, match="SeriesInstanceUid"):
        read_lidc(other)


def roi(name: str, area_cm2: float, highest: float, x: float, y: float) -> dict[str, object]:
    points = [(x, y), (x + 4, y), (x + 4, y + 4), (x, y + 4)]
    return {
        "Area": area_cm2,
        "Name": name,
        "Mean": highest - 50.0,
        "Max": highest,
        "Point_px": [f"({a:.1f}, {b:.1f})" for a, b in points],
        "Point_mm": [f"({a / 2 - 100:.2f}, {b / 2 - 90:.2f}, -181.5)" for a, b in points],
        "NumberOfPoints": 4,
        "IndexInImage": 0,
    }


def test_coca_gives_calcifications_with_place_and_score(tmp_path: Path) -> None:
    path = tmp_path / "12.xml"
    images = [
        {"ImageIndex": 20, "NumberOfROIs": 2, "ROIs": [roi("Right Coronary Artery", 0.04, 450, 200, 180)] * 1},
        {
            "ImageIndex": 21,
            "NumberOfROIs": 3,
            "ROIs": [
                roi("Left Anterior Descending Artery", 0.10, 250, 240, 170),
                roi("Left Anterior Descending Artery", 0.005, 600, 250, 170),
                roi("Left Circumflex Artery", 0.0, 300, 250, 190),
            ],
        },
    ]
    path.write_bytes(plistlib.dumps({"Images": images}))
    found = read_coca(path).to_dicts()
    assert [one["artery"][:5] for one in found] == ["Right", "Left ", "Left "], "an outline without an area is none"
    first = found[0]
    assert (first["patient"], first["image_index"], first["area_mm2"]) == ("12", 20, pytest.approx(4.0))
    assert (first["x_mm"], first["y_mm"], first["z_mm"]) == pytest.approx((1.0, 1.0, -181.5))
    assert json.loads(first["points"])[0] == [180, 200]
    (score,) = read_coca_scores(path).to_dicts()
    assert score["agatston"] == pytest.approx(4.0 * 4 + 10.0 * 2), "half a mm2 counts nothing, however dense"
    assert score["calcifications"] == 3


def test_what_is_no_property_list_is_refused_without_its_text(tmp_path: Path) -> None:
    path = tmp_path / "1.xml"
    path.write_text("name of a patient")
    with pytest.raises(ValueError, match="not a property list") as caught:
        read_coca(path)
    assert "patient" not in str(caught.value)


def test_files_are_rows_with_their_folders(tmp_path: Path) -> None:
    paths = [tmp_path / "a" / "BraTS2021_00012" / "BraTS2021_00012_seg.nii.gz", tmp_path / "1.2.840.3.mhd"]
    inside, above = list_files(tmp_path, paths).to_dicts()
    assert inside == {
        "path": "a/BraTS2021_00012/BraTS2021_00012_seg.nii.gz",
        "name": "BraTS2021_00012_seg.nii.gz",
        "stem": "BraTS2021_00012_seg",
        "folder": "BraTS2021_00012",
        "folder_2": "a",
        "folder_3": None,
        "folder_4": None,
        "folder_number": "00012",
    }
    assert (above["path"], above["stem"], above["folder"]) == ("1.2.840.3.mhd", "1.2.840.3", None)
