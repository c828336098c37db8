"""Each study of a published image set, from its owner's layout on: phantoms in that layout, one command, tables."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from riskpred.cli import main
from tests.phantoms.bones import bone
from tests.phantoms.brains import write_brats, write_brats_survival
from tests.phantoms.breasts import write_cbis_ddsm
from tests.phantoms.fractures import write_fracatlas
from tests.phantoms.hearts import write_coca
from tests.phantoms.lungs import write_lidc, write_luna16
from tests.phantoms.retina import write_aptos, write_messidor2
from tests.phantoms.ultrasounds import write_busi

Write = Callable[[Path, int, int], Any]
WRITERS: dict[str, tuple[Write, int, str]] = {
    "busi": (write_busi, 9, "US"),
    "aptos": (write_aptos, 14, "OP"),
    "messidor2": (write_messidor2, 24, "OP"),
    "fracatlas": (write_fracatlas, 12, "DX"),
    "luna16": (write_luna16, 3, "CT"),
    "lidc": (write_lidc, 3, "CT"),
    "coca": (write_coca, 4, "CT"),
    "cbis_ddsm": (write_cbis_ddsm, 6, "MG"),
    "brats": (write_brats, 3, "MR"),
    "brats_survival": (write_brats_survival, 3, "MR"),
}

Marks = Callable[[Any], dict[str, int]]
MARKS: dict[str, Marks] = {
    "fracatlas": lambda cracked: {"polygon": int(cracked.sum()), "none": int((1 - cracked).sum())},
    "luna16": lambda scans: {
        "sphere": sum(len(scan.nodules) for scan in scans.values()),
        "none": sum(not scan.nodules for scan in scans.values()),
    },
    "cbis_ddsm": lambda people: {"mask": 2 * len(people)},
    "brats": lambda heads: {"mask": 3 * len(heads)},
    "brats_survival": lambda heads: {"mask": 3 * len(heads)},
}
"""How many annotations of each kind there are, from what the writer returned; lidc and coca have tests of their own."""


@pytest.mark.parametrize("study", WRITERS)
def test_the_owners_layout_is_ingested_by_the_study_as_it_is(study: str, tmp_path: Path) -> None:
    write, people, image_type = WRITERS[study]
    truth = write(tmp_path / "source", people, 3)
    warehouse = tmp_path / "w.duckdb"
    assert main(["ingest", study, "--from", str(tmp_path / "source"), "--into", str(warehouse)]) == 0
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        counts = connection.sql("SELECT count(DISTINCT subject_id), list(DISTINCT image_type) FROM images").fetchall()
        entered = connection.sql("SELECT count(DISTINCT subject_id) FROM events WHERE code = 'STUDY_ENTRY'").fetchall()
        assert counts == [(people, [image_type])]
        assert entered == [(people,)]
        assert connection.sql("SELECT count(*) FROM rejects").fetchall() == [(0,)]
        marks = dict(connection.sql("SELECT kind, count(*) FROM annotations GROUP BY kind").fetchall())
    if study in MARKS:
        assert marks == MARKS[study](truth)


def test_outlines_of_readers_name_their_series_and_their_slice(tmp_path: Path) -> None:
    scans = write_lidc(tmp_path / "source", 3, 3)
    warehouse = tmp_path / "w.duckdb"
    assert main(["ingest", "lidc", "--from", str(tmp_path / "source"), "--into", str(warehouse)]) == 0
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        images = connection.sql(
            "SELECT frames, body_part, round(slice_spacing_mm, 6), row_spacing_mm FROM images GROUP BY ALL"
        ).fetchall()
        marks = connection.sql(
            "SELECT source_id, kind, z_mm FROM annotations JOIN subject_map USING (subject_id) ORDER BY ALL"
        ).fetchall()
    assert images == [(32, "CHEST", 4.0, 2.8)]
    for patient, scan in scans.items():
        mine = [(kind, z) for who, kind, z in marks if who == patient]
        if not scan.nodules:
            assert mine == [("none", None)], "four readers drew nothing: looked at, no lesion"
        for kind, z in mine if scan.nodules else []:
            assert kind == "polygon"
            slice_ = (z - scan.origin_mm[2]) / 4.0
            assert abs(slice_ - round(slice_)) < 1e-3
            # Readers draw up to a tenth beyond it.
            assert min(abs(z - one.z_mm) - 0.6 * one.diameter_mm for one in scan.nodules) <= 0
    assert sum(kind == "polygon" for _, kind, _ in marks) >= 6


def test_grades_come_through_as_they_were_drawn(tmp_path: Path) -> None:
    grades = write_messidor2(tmp_path / "source", 24, 5)
    warehouse = tmp_path / "w.duckdb"
    assert main(["ingest", "messidor2", "--from", str(tmp_path / "source"), "--into", str(warehouse)]) == 0
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        found = connection.sql(
            "SELECT numeric_value::INT, count(*)::INT FROM events WHERE code = 'GRADE//DIABETIC_RETINOPATHY' "
            "GROUP BY 1 ORDER BY 1"
        ).fetchall()
    values, counts = np.unique(grades[grades >= 0], return_counts=True)
    assert found == list(zip(values.tolist(), counts.tolist(), strict=True))


def test_calcium_is_scored_from_its_outlines_and_absent_is_none(tmp_path: Path) -> None:
    hearts = write_coca(tmp_path / "source", 4, 2)
    warehouse = tmp_path / "w.duckdb"
    assert main(["ingest", "coca", "--from", str(tmp_path / "source"), "--into", str(warehouse)]) == 0
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        scored = connection.sql("SELECT count(*), min(numeric_value) FROM events WHERE code = 'CT//AGATSTON_SCORE'")
        (number, least) = scored.fetchall()[0]
        spheres = connection.sql("SELECT count(*) FROM annotations WHERE kind = 'sphere'").fetchall()[0][0]
    assert number == sum(bool(heart.specks) for heart in hearts.values())
    assert least > 0
    assert spheres >= sum(len(heart.specks) for heart in hearts.values())


def test_an_outlined_crack_is_a_dark_line_in_a_bone() -> None:
    rng, side, steps = np.random.default_rng(4), 192, (-7, 0, 7)
    seen = []
    for _ in range(40):
        made = bone(True, rng)
        along = np.gradient(made.crack, axis=0)
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        for step in steps:
            at = np.clip((made.crack + step * along[:, ::-1] * (1, -1))[3:-3].round().astype(int), 0, side - 1)
            seen.append(float(made.pixels[at[:, 0], at[:, 1]].mean()))
    before, crack, after = np.array(seen).reshape(-1, len(steps)).mean(axis=0)
    assert crack < 0.85 * min(before, after)
    assert min(before, after) > 90, "bone on both sides of it"
