"""Lesions that somebody marked: each kind becomes its row, what cannot be is a reject with its reason."""

import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from PIL import Image

from riskpred.records.ingest import run_ingest

IMAGES = """
study: marks
as_of: 2020-01-01T00:00:00
anchor: {date: 2020-01-01T00:00:00}
tables:
  - name: images
    file: images.csv
    subject: person
    time: {offset: [0]}
    images:
      - {image_id: image, path: "{image}.png", image_type: US}
"""


def ingested(tmp_path: Path, marks: str, mapping: str, images: str = IMAGES) -> tuple[list[Any], dict[str, str], Any]:
    """Rows of `annotations`, rejects by row, and the ledger of marks.csv."""
    source, study = tmp_path / "source", tmp_path / "study"
    source.mkdir()
    study.mkdir()
    (source / "images.csv").write_text("person,image\n1,a\n2,b\n")
    for name in ("a", "b", "mask_a"):
        Image.fromarray(np.eye(16, dtype=np.uint8) * 255).save(source / f"{name}.png")
    (source / "marks.csv").write_text(marks)
    table = f"  - name: marks\n    file: marks.csv\n    annotations:\n      - {{{mapping}, allow_rejects: 1.0}}\n"
    (study / "ingest.yaml").write_text(images + table)
    summary = run_ingest(str(study), source, tmp_path / "w.duckdb")
    with duckdb.connect(str(tmp_path / "w.duckdb"), read_only=True) as connection:
        rows = connection.sql("SELECT * FROM annotations ORDER BY image_id, lesion").to_arrow_table().to_pylist()
        rejects = dict(connection.execute("SELECT row_key, reason FROM rejects").fetchall())
    (ledger,) = [one for one in summary.sources if "marks" in one.source]
    assert ledger.facts == ledger.annotations + ledger.rejects + ledger.missing + ledger.repeats + ledger.ignored
    return [{name: value for name, value in row.items() if value is not None} for row in rows], rejects, ledger


def test_a_mask_is_a_file_beside_its_image(tmp_path: Path) -> None:
    rows, rejects, _ = ingested(
        tmp_path,
        "image,mask\na,mask_a\nb,mask_b\nb,../images\n,mask_a\n",
        'image_id: image, label: lump, mask: {path: "{mask}.png", value: 255}',
    )
    assert rows == [
        {
            "image_id": "a",
            "lesion": 1,
            "subject_id": 1,
            "label": "lump",
            "kind": "mask",
            "path": "mask_a.png",
            "mask_value": 255,
        }
    ]
    assert sorted(rejects.values()) == ["file_missing", "no_image", "path_refused"]


def test_spheres_are_numbered_within_their_image(tmp_path: Path) -> None:
    rows, rejects, _ = ingested(
        tmp_path,
        "image,x,y,z,d\na,1,2,3,8\na,4,5,6,12\nb,1,2,3,0\nb,1,2,3,900\nb,1,,3,8\nb,,,,\nnobody,1,2,3,8\n",
        "image_id: image, label: nodule, sphere: {x_mm: x, y_mm: y, z_mm: z, diameter_mm: d}",
    )
    assert [(row["lesion"], row["x_mm"], row["diameter_mm"]) for row in rows] == [(1, 1.0, 8.0), (2, 4.0, 12.0)]
    assert sorted(rejects.values()) == ["impossible_sphere"] * 3 + ["no_such_image"]


def test_a_box_may_be_told_by_its_far_corner(tmp_path: Path) -> None:
    rows, rejects, _ = ingested(
        tmp_path,
        "image,top,left,bottom,right\na,2,3,10,9\na,5,5,5,9\nb,-1,0,4,4\n",
        "image_id: image, label: mass, box: {row: top, col: left, row_end: bottom, col_end: right}",
    )
    assert [(row["row"], row["col"], row["height_px"], row["width_px"]) for row in rows] == [(2.0, 3.0, 8, 6)]
    assert list(rejects.values()) == ["impossible_box"] * 2


def test_a_polygon_is_json_and_only_some_rows_count(tmp_path: Path) -> None:
    square = json.dumps([[1, 1], [1, 5], [5, 5]]).replace('"', '""')
    rows, rejects, ledger = ingested(
        tmp_path,
        f'image,kind,points,slice\na,x,"{square}",4\nb,x,"[[1, 1]]",0\nb,x,no,0\nb,y,"{square}",0\n',
        "image_id: image, label_column: kind, labels: {x: calcium}, when: {kind: [x]},"
        " polygon: {points: points, slice: slice}",
    )
    assert [(row["label"], row["slice"], json.loads(row["points"])) for row in rows] == [
        ("calcium", 4.0, [[1, 1], [1, 5], [5, 5]])
    ]
    assert list(rejects.values()) == ["impossible_polygon"] * 2
    assert ledger.ignored == 1


def test_an_image_without_lesion_is_said_by_path(tmp_path: Path) -> None:
    rows, rejects, _ = ingested(tmp_path, "image\na\nc\n", 'image_path: "{image}.png", none: true')
    assert rows == [{"image_id": "a", "lesion": 0, "subject_id": 1, "label": "none", "kind": "none"}]
    assert list(rejects.values()) == ["no_such_image"]


@pytest.mark.parametrize(
    ("marks", "found", "without_need"),
    [
        ("image,x\nb,1\nb,2\n", [("a", "none"), ("b", "sphere"), ("b", "sphere")], 1),
        ("image,x\nb,999999\n", [("a", "none")], 1),
        ("image,x\nb,\n", [("a", "none"), ("b", "none")], 0),
    ],
    ids=["marks of one", "an unusable mark is a mark", "an empty row marks nothing"],
)
def test_images_that_no_row_marks_were_looked_at(
    tmp_path: Path, marks: str, found: list[tuple[str, str]], without_need: int
) -> None:
    looked_at = IMAGES + "    annotations:\n      - {image_id: image, none: unless_marked}\n"
    sphere = "image_id: image, label: lump, sphere: {x_mm: x, y_mm: x, z_mm: x, diameter_mm: x}"
    rows, rejects, _ = ingested(tmp_path, marks, sphere, looked_at)
    assert [(row["image_id"], row["kind"]) for row in rows] == found
    assert list(rejects.values()) == ["impossible_sphere"] * ("999999" in marks)
    with duckdb.connect(str(tmp_path / "w.duckdb"), read_only=True) as connection:
        ((ignored,),) = connection.execute("SELECT ignored FROM ingests WHERE source LIKE 'images%'").fetchall()
    assert ignored == without_need


@pytest.mark.parametrize("number", ["0", "1.5", "x"])
def test_a_lesions_own_number_is_a_whole_one(tmp_path: Path, number: str) -> None:
    rows, rejects, _ = ingested(
        tmp_path,
        f"image,n,x,y,z,d\na,2,1,2,3,8\nb,{number},1,2,3,8\n",
        "image_id: image, lesion: n, label: nodule, sphere: {x_mm: x, y_mm: y, z_mm: z, diameter_mm: d}",
    )
    assert [row["lesion"] for row in rows] == [2]
    assert list(rejects.values()) == ["impossible_lesion"]
