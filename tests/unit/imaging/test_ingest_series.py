"""Several series in one folder, as archives export a study: each is an image of its own, read without the others."""

import shutil
from pathlib import Path

import duckdb
from pydicom.uid import generate_uid

from riskpred.config.imaging import Recipe
from riskpred.imaging.decode import Wanted, decode_one
from riskpred.imaging.paths import ImageProblem
from riskpred.imaging.prepare import Prepared
from riskpred.imaging.read import read_picture
from riskpred.records.ingest.identifiers import hashed_uid
from riskpred.records.inspection import inspect
from riskpred.records.warehouse import Warehouse
from tests.phantoms.export import SECRETS, write, write_series
from tests.unit.imaging.conftest import PACS

FIRST, SECOND = generate_uid(), generate_uid()


def write_study(export: Path) -> None:
    """Two series, a radiograph and a text in one folder; the first series alone in another."""
    write_series(export / "study", FIRST, 3, "a{}.dcm", 1)
    write_series(export / "study", SECOND, 4, "b{}.dcm", 2)
    write(export / "study" / "c.dcm")
    (export / "study" / "notes.txt").write_text("no image")


def test_each_series_of_a_folder_is_an_image(pacs, tmp_path: Path) -> None:
    write_study(tmp_path / "source" / "export")
    summary, images, rejects, written = pacs()

    assert [(row[0], row[6], row[11]) for row in images if row[3] == "CT"] == sorted(
        [("export/study", 3, hashed_uid(FIRST)), ("export/study", 4, hashed_uid(SECOND))], key=lambda row: row[2]
    )
    assert [(row[0], row[11]) for row in images if row[3] == "CR"] == [("export/study/c.dcm", None)]
    assert not rejects
    assert (summary.sources[0].rows, summary.sources[0].facts, summary.sources[0].ignored) == (9, 4, 1)
    assert not any(secret in written for secret in (*SECRETS, FIRST.encode(), SECOND.encode()))


def test_content_and_pixels_are_those_of_the_series_alone(pacs, tmp_path: Path) -> None:
    export = tmp_path / "source" / "export"
    write_study(export)
    pacs()
    with duckdb.connect(str(tmp_path / "w.duckdb"), read_only=True) as connection:
        beside = connection.execute(
            f"SELECT sha256, pixel_digest FROM images WHERE series = '{hashed_uid(FIRST)}'"
        ).fetchall()
    for other in (*export.glob("study/b*"), export / "study" / "c.dcm", export / "study" / "notes.txt"):
        other.unlink()
    pacs()
    with duckdb.connect(str(tmp_path / "w.duckdb"), read_only=True) as connection:
        alone = connection.execute("SELECT sha256, pixel_digest, series FROM images").fetchall()
    assert alone == [(*beside[0], None)]


def test_a_row_of_the_warehouse_says_which_series_is_prepared(pacs, tmp_path: Path) -> None:
    write_study(tmp_path / "source" / "export")
    pacs()
    recipe = Recipe.of(size=16)
    with Warehouse.open(tmp_path / "w.duckdb") as warehouse:
        (chunk,) = warehouse.chunks()
        rows = {row.series: row for row in chunk.images[0] if row.image_type == "CT"}
        problems = inspect(warehouse)["problems"]
    assert set(rows) == {hashed_uid(FIRST), hashed_uid(SECOND)}
    assert not {"images_missing", "images_refused"} & set(problems), "a folder is found too"
    for series, row in rows.items():
        known = decode_one(Wanted(tmp_path / "source", row.path, recipe, (), series))
        assert isinstance(known.result, Prepared)
        assert known.content == row.sha256, "a night finds by the table what it made of the file"
        assert known.result.grid.shape[0] == (3 if series == hashed_uid(FIRST) else 4)
        again = decode_one(Wanted(tmp_path / "source", row.path, recipe, (str(row.sha256),), series))
        assert again.result is None


def test_without_digests_the_stamp_tells_series_apart(pacs, tmp_path: Path) -> None:
    write_study(tmp_path / "source" / "export")
    pacs()
    with duckdb.connect(str(tmp_path / "w.duckdb")) as connection:
        connection.execute("UPDATE images SET sha256 = NULL")
    with Warehouse.open(tmp_path / "w.duckdb") as warehouse:
        (chunk,) = warehouse.chunks()
    stamps = [row.stamp for row in chunk.images[0]]
    assert len(set(stamps)) == 3
    assert all(stamps)


def test_a_series_that_is_gone_or_damaged_neighbours(tmp_path: Path) -> None:
    write_study(tmp_path)
    folder = tmp_path / "study"
    (folder / "b1.dcm").write_bytes((folder / "b1.dcm").read_bytes()[:200])
    whole = read_picture(folder, series=hashed_uid(FIRST))
    assert whole.array.shape == (1, 3, 64, 48)
    found = decode_one(Wanted(tmp_path, "study", Recipe.of(size=16), (), hashed_uid(generate_uid()))).result
    assert isinstance(found, ImageProblem)
    assert found.reason == "series_missing"


def test_ids_and_digests_do_not_depend_on_names_or_order(pacs, tmp_path: Path) -> None:
    export = tmp_path / "source" / "export"
    write_study(export)
    _, before, _, _ = pacs()
    shutil.move(export / "study", export / "moved")
    for number, path in enumerate(sorted((export / "moved").glob("*.dcm"), reverse=True)):
        path.rename(export / "moved" / f"x{number}.dcm")
    _, after, _, _ = pacs()
    assert {row[9:] for row in after} == {row[9:] for row in before}


def test_who_differs_within_a_series_is_nobody(pacs, tmp_path: Path) -> None:
    export = tmp_path / "source" / "export"
    write_series(export / "ct", FIRST)
    write(export / "ct" / "9.dcm", Modality="CT", SeriesInstanceUID=FIRST, PatientID="SECRET-8")
    (tmp_path / "source" / "people.csv").write_text("pacs,person\nSECRET-7,7\nSECRET-8,8\n")
    write(export / "a.dcm")
    _, images, rejects, _ = pacs()
    assert [row[0] for row in images] == ["export/a.dcm"]
    assert rejects == [("export/ct", "no_subject")]


def test_marks_name_a_series_by_its_uid_and_not_by_a_path_of_several(pacs, tmp_path: Path) -> None:
    write_study(tmp_path / "source" / "export")
    (tmp_path / "source" / "marks.csv").write_text(
        f"uid,folder,x,y,z,d\n{SECOND},export/study,1,2,3,8\n{SECOND},export/study/c.dcm,4,5,6,9\n"
    )
    sphere = "label: lump, sphere: {x_mm: x, y_mm: y, z_mm: z, diameter_mm: d}, allow_rejects: 1.0"
    pacs(PACS + "tables:\n  - name: marks\n    file: marks.csv\n    annotations:\n"
         f"      - {{image_uid: uid, {sphere}}}\n      - {{image_path: '{{folder}}', {sphere}}}\n")  # fmt: skip
    with duckdb.connect(str(tmp_path / "w.duckdb"), read_only=True) as connection:
        marks = connection.execute(
            "SELECT frames, x_mm FROM annotations JOIN images USING (image_id) ORDER BY 1, 2"
        ).fetchall()
        rejects = connection.execute("SELECT row_key, reason FROM rejects").fetchall()
    assert marks == [(1, 4.0), (4, 1.0), (4, 4.0)]
    assert rejects == [("1", "ambiguous_path")]
