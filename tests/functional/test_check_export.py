"""`riskpred check` of an export: what its files say of themselves, by image type."""

import json
from pathlib import Path

import pytest
from pydicom.uid import generate_uid

from riskpred.cli import main
from tests.phantoms.export import write, write_series

INGEST = """
study: pacs
folders:
  - name: export
    path: export
    subject: PatientID
    subject_map: {file: people.csv, identifier: pacs, subject: person}
    wanted: {CR: {views: [PA, AP]}, CT: {}}
    checks: {inverted: allow}
    allow_rejects: 1.0
tables:
  - name: marks
    file: marks.csv
    annotations:
      - {image_uid: uid, label: lump, sphere: {x_mm: x, y_mm: y, z_mm: z, diameter_mm: d}}
"""


@pytest.fixture
def warehouse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    export, thick, thin = tmp_path / "source" / "export", generate_uid(), generate_uid()
    write(export / "a.dcm", ImageLaterality="L")
    write(export / "b.dcm", ViewPosition="AP", PixelSpacing=[0.2, 0.2], AcquisitionDate="20210701")
    write(export / "c.dcm", ViewPosition="AP", BodyPartExamined="")
    write(export / "d.dcm", ViewPosition="LL")
    write_series(export / "scans", thick, 3, "a{}.dcm", 1)
    write_series(export / "scans", thin, 5, "b{}.dcm", 2)
    (tmp_path / "source" / "people.csv").write_text("pacs,person\nSECRET-7,7\n")
    (tmp_path / "source" / "marks.csv").write_text(f"uid,x,y,z,d\n{thick},1,2,3,8\n{thick},4,5,3,8\n")
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "ingest.yaml").write_text(INGEST)
    into = tmp_path / "w.duckdb"
    assert main(["ingest", str(tmp_path / "study"), "--from", str(tmp_path / "source"), "--into", str(into)]) == 0
    capsys.readouterr()
    return into


def test_each_type_shows_parts_views_sides_spacing_frames_and_marks(
    warehouse: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(warehouse), "--json"]) == 0
    radiographs, scans = json.loads(capsys.readouterr().out)["image_types"]
    assert (radiographs["image_type"], radiographs["images"], radiographs["subjects"]) == ("CR", 3, 1)
    assert radiographs["body_parts"] == {"CHEST": 2, "not said": 1}
    assert radiographs["views"] == {"AP": 2, "PA": 1}
    assert radiographs["lateralities"] == {"not said": 2, "L": 1}
    assert (radiographs["spacing_mm"], radiographs["with_spacing"]) == ([0.2, 0.5], 3)
    assert (radiographs["frames"], radiographs["annotated"]) == ([1, 1], 0)
    assert (radiographs["first"][:10], radiographs["last"][:10]) == ("2020-07-01", "2021-07-01")
    assert (scans["images"], scans["frames"], scans["slice_spacing_mm"]) == (2, [3, 5], [2.0, 2.0])
    assert scans["annotated"] == 1, "two lesions of one image"


def test_the_table_says_it_in_words(warehouse: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(warehouse)]) == 0
    said = capsys.readouterr().out
    (line,) = [line for line in said.splitlines() if line.split()[:1] == ["CR"]]
    assert " ".join(line.split()) == "CR 3 1 CHEST 2 AP 2, PA 1 L 1 1 0.2 to 0.5 not said 0 2020-07-01 2021-07-01"
    assert "images there" not in said
    assert "not under the image root" not in said
    assert "unwanted_view" in said
    assert "SECRET" not in said
