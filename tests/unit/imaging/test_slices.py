"""Slices in picture files of their own: one volume a pattern of names, in the order of their numbers, masks alike."""

from pathlib import Path

import duckdb
import numpy as np
import pytest
from PIL import Image

from riskpred.config.imaging import Recipe
from riskpred.config.model import parse
from riskpred.config.segmentation import SegmentationStage
from riskpred.errors import ConfigError
from riskpred.imaging.decode import Wanted, decode_one
from riskpred.imaging.inspect import FileLook
from riskpred.imaging.paths import ImageProblem
from riskpred.imaging.prepare import Prepared
from riskpred.imaging.read import read_picture
from riskpred.imaging.targets import target_of
from riskpred.records.annotations import annotations
from riskpred.records.image_path import folder_and_names, named_like
from riskpred.records.ingest import run_ingest
from riskpred.records.warehouse import Warehouse

STUDY = """
study: heads
as_of: 2020-01-01T00:00:00
anchor: {date: 2020-01-01T00:00:00}
tables:
  - name: people
    file: people.csv
    subject: person
    time: {offset: [0]}
    images:
      - {image_id: person, path: "slices/{name}_*.png", image_type: MR, pixels: true, allow_rejects: 1.0}
    annotations:
      - {image_id: person, label: tumour, mask: {path: "masks/{name}_*.png"}, allow_rejects: 1.0}
"""
RECIPE = Recipe.of(size=8, volume="slices", slices=20)


def write_head(source: Path, name: str, numbers: tuple[int, ...] = (1, 2, 10), side: int = 8) -> None:
    """Slices whose first pixel says their number, and masks of the pixel in the number's column."""
    for folder in ("slices", "masks"):
        (source / folder).mkdir(parents=True, exist_ok=True)
    for number in numbers:
        pixels = np.arange(side * side, dtype=np.uint8).reshape(side, side)
        pixels[0, 0] = number
        Image.fromarray(pixels).save(source / "slices" / f"{name}_{number}.png")
        mask = np.zeros((side, side), np.uint8)
        mask[3, number % side] = 255
        Image.fromarray(mask).save(source / "masks" / f"{name}_{number}.png")


def ingested(tmp_path: Path, people: str, config: str = STUDY) -> dict[str, str]:
    """Ingest into tmp_path/w.duckdb; reasons of rejects by mapping."""
    study = tmp_path / "study"
    study.mkdir(exist_ok=True)
    (study / "ingest.yaml").write_text(config)
    (tmp_path / "source" / "people.csv").write_text(people)
    with FileLook(0) as look:
        run_ingest(str(study), tmp_path / "source", tmp_path / "w.duckdb", look=look)
    with duckdb.connect(str(tmp_path / "w.duckdb"), read_only=True) as connection:
        return dict(connection.execute("SELECT row_key || ' ' || field, reason FROM rejects").fetchall())


def test_a_path_with_a_star_names_a_folder_and_names() -> None:
    assert folder_and_names("a/b/P7_*.png") == ("a/b", "P7_*.png")
    assert folder_and_names("a/b*/P7.png") == ("a/b*/P7.png", None)


def test_names_are_taken_by_their_numbers_and_nothing_else(tmp_path: Path) -> None:
    write_head(tmp_path, "P7", (10, 9, 1, 100))
    folder = tmp_path / "slices"
    for other in ("P70_1.png", "P7_1.jpg", ".P7_3.png", "XP7_4.png", "P7_5.png.part"):
        (folder / other).write_bytes(b"")
    (folder / "P7_6.png").symlink_to(folder / "P7_1.png")
    (folder / "P7_7.png").mkdir()
    assert [path.name for path in named_like(folder, "P7_*.png")] == ["P7_1.png", "P7_9.png", "P7_10.png", "P7_100.png"]
    assert named_like(folder, "P?_1.png") == [], "a star is the only letter that means another"
    assert named_like(folder, "P[7]_*.png") == []
    (folder / ("a" * 200)).touch()
    assert named_like(folder, "*a" * 60 + "*b") == [], "and ends, however many there are"


@pytest.mark.parametrize("channels", ["grey", "rgb"])
def test_slices_become_one_volume(tmp_path: Path, channels: str) -> None:
    write_head(tmp_path, "P7")
    found = read_picture(tmp_path / "slices", channels, "P7_*.png")
    assert found.array.shape == (1 if channels == "grey" else 3, 3, 8, 8)
    assert found.array[0, :, 0, 0].tolist() == [1, 2, 10]
    assert np.isnan(found.spacing_mm).all()
    assert found.notes == ("7 numbers between those of the first and the last slice have no file",)
    write_head(tmp_path, "P7", tuple(range(3, 10)))
    assert read_picture(tmp_path / "slices", channels, "P7_*.png").notes == ()


def test_slices_that_make_no_volume_say_why(tmp_path: Path) -> None:
    write_head(tmp_path, "P7")
    write_head(tmp_path, "P8", (1,), side=9)
    (tmp_path / "slices" / "P9_1.png").write_bytes((tmp_path / "slices" / "P7_1.png").read_bytes()[:60])
    for names, reason in (("P*.png", "mixed_geometry"), ("P5_*.png", "series_missing"), ("P9_*.png", "unreadable")):
        found = decode_one(Wanted(tmp_path, "slices", RECIPE, (), names)).result
        assert isinstance(found, ImageProblem)
        assert found.reason == reason


def test_each_person_is_one_image_whose_mask_lies_on_it(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_head(source, "A")
    write_head(source, "AB", (3, 4))
    (source / "masks" / "lonely.txt").write_text("")
    rejects = ingested(tmp_path, "person,name\n1,A\n2,AB\n3,gone\n4,*\n5,\n")
    assert sorted(rejects.values()) == ["file_missing", "file_missing", "no_such_image", "path_refused"]
    with Warehouse.open(tmp_path / "w.duckdb") as warehouse:
        rows = [row for chunk in warehouse.chunks() for images in chunk.images for row in images]
        marks = annotations(warehouse)
    assert [(row.subject_id, row.path, row.series) for row in rows] == [
        (1, "slices", "A_*.png"),
        (2, "slices", "AB_*.png"),
    ]
    with duckdb.connect(str(tmp_path / "w.duckdb"), read_only=True) as connection:
        frames = connection.execute("SELECT frames, count(DISTINCT pixel_digest) FROM images GROUP BY 1 ORDER BY 1")
        assert frames.fetchall() == [(2, 1), (3, 1)]
    stage = parse(
        SegmentationStage,
        {"image_types": ["MR"], "labels": {1: "tumour"}, "size": 8, "volume": "slices", "slices": 20},
        "stage",
    )
    for row, numbers in zip(rows, ((1, 2, 10), (3, 4)), strict=True):
        known = decode_one(Wanted(source, row.path, RECIPE, (), row.series))
        assert isinstance(known.result, Prepared)
        assert known.content == row.sha256, "a night finds by the table what it made of the files"
        target = target_of(stage, marks[row.subject_id, row.image_id], known.result, source)
        assert [tuple(at) for at in np.argwhere(target)] == [(s, 3, number % 8) for s, number in enumerate(numbers)]


@pytest.mark.parametrize("path", ["{name}_*.png", "slices/*/{name}.png"])
def test_a_star_elsewhere_than_in_the_names_of_a_folder_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "source").mkdir()
    for folder in ("slices", "masks"):
        study = STUDY.replace(f"{folder}/{{name}}_*.png", path)
        with pytest.raises(ConfigError) as raised:
            ingested(tmp_path, "person,name\n1,A\n", study)
        assert "slices/{patient}_*.png" in str(raised.value.got)


def test_content_and_stamp_are_those_of_its_own_slices(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_head(source, "A")
    write_head(source, "B")

    def known() -> list[tuple[str | None, str | None]]:
        ingested(tmp_path, "person,name\n1,A\n2,B\n")
        with duckdb.connect(str(tmp_path / "w.duckdb")) as connection:
            content = [one for (one,) in connection.execute("SELECT sha256 FROM images ORDER BY image_id").fetchall()]
            connection.execute("UPDATE images SET sha256 = NULL")
        with Warehouse.open(tmp_path / "w.duckdb") as warehouse:
            stamps = [row.stamp for chunk in warehouse.chunks() for images in chunk.images for row in images]
        return list(zip(content, stamps, strict=True))

    before = known()
    write_head(source, "B", (2,))
    Image.fromarray(np.full((8, 8), 9, np.uint8)).save(source / "slices" / "B_3.png")
    after = known()
    assert after[0] == before[0]
    assert all(one != other for one, other in zip(after[1], before[1], strict=True))
