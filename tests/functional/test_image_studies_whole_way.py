"""Each image study on phantoms in its owner's layout, from ingest to a night: findings in place, risks that are risks.

Only sizes, steps, epochs and folds differ from the packaged YAML (tests/tiny_studies.py).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from numpy.typing import NDArray

from riskpred.cli import main
from tests.phantoms.brains import ENHANCING, NECROSIS, OEDEMA, Head, write_brats, write_brats_survival
from tests.phantoms.breasts import write_cbis_ddsm
from tests.phantoms.ct import CtPhantom
from tests.phantoms.fractures import write_fracatlas
from tests.phantoms.hearts import SPACING_MM, write_coca
from tests.phantoms.lungs import write_lidc, write_luna16
from tests.phantoms.retina import write_aptos, write_messidor2
from tests.phantoms.ultrasounds import write_busi
from tests.tiny_studies import tiny

SEED = 3
ACCEPTED = (0, 14)
"""Exit codes of a night that was published; 14: somebody eligible got no risk."""


@dataclass(frozen=True)
class Way:
    """What a study made of its phantoms.   truth: what their writer returned."""

    study: Path
    warehouse: Path
    bundle: Path
    scores: Path
    truth: Any

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Of the night."""
        with duckdb.connect(str(self.scores), read_only=True) as connection:
            return connection.execute(sql).fetchall()

    def score(self) -> int:
        """One more night of the same moment; its exit code."""
        words = ["score", self.warehouse, "--model", self.bundle, "--into", self.scores, "--explain", "1", "--force"]
        return main([str(word) for word in words])


def way(study: str, write: Callable[[Path, int, int], Any], people: int, folder: Path) -> Way:
    """Ingest, fit and score, and what holds of every night."""
    truth = write(folder / "source", people, SEED)
    made = Way(tiny(study, folder / "study"), folder / "w.duckdb", folder / "bundle", folder / "s.duckdb", truth)
    ingest = ["ingest", made.study, "--from", folder / "source", "--into", made.warehouse]
    assert main([str(word) for word in ingest]) == 0
    assert main([str(word) for word in ("fit", made.study, made.warehouse, "--into", made.bundle)]) == 0
    assert made.score() in ACCEPTED
    assert made.rows("SELECT count(*) FROM rejects") == [(0,)]
    everyone = made.rows("SELECT outcome, count(DISTINCT subject_id) FROM risk_scores GROUP BY outcome")
    assert everyone
    assert {number for _, number in everyone} == {people}
    wrong = "NOT (0 <= risk_low AND risk_low <= risk AND risk <= risk_high AND risk_high <= 1)"
    assert made.rows(f"SELECT count(*) FROM risk_scores WHERE {wrong}") == [(0,)]
    return made


def never_rise(made: Way, outcomes: Sequence[str]) -> None:
    """Risks of a grade or more fall from grade to grade, for everyone, and are not all alike."""
    found = dict(made.rows("SELECT outcome, list(risk ORDER BY subject_id) FROM risk_scores GROUP BY outcome"))
    risks = np.array([found[name] for name in outcomes])
    assert (np.diff(risks, axis=0) <= 1e-12).all()
    assert (np.diff(risks, axis=0) < 0).any()


@pytest.mark.parametrize("study", ["aptos", "messidor2"])
def test_grades_of_a_night_never_rise(study: str, tmp_path: Path) -> None:
    made = way(study, {"aptos": write_aptos, "messidor2": write_messidor2}[study], 24, tmp_path)
    never_rise(made, [f"retinopathy_{grade}" for grade in (1, 2, 3, 4)])
    if study == "messidor2":
        assert made.rows("SELECT count(*) FROM risk_scores WHERE outcome = 'macular_oedema'") == [(24,)]


def test_an_ultrasound_has_a_risk(tmp_path: Path) -> None:
    way("busi", write_busi, 24, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_views_of_a_breast_are_read_and_searched(tmp_path: Path) -> None:
    made = way("cbis_ddsm", write_cbis_ddsm, 20, tmp_path)
    used = made.rows("SELECT DISTINCT status, n FROM input_receipts WHERE modality = 'image'")
    assert used == [("used", 2)], "CC and MLO"
    views = dict(
        made.rows("SELECT image_id, count(*) FROM findings WHERE label IN ('mass', 'calcification') GROUP BY 1")
    )
    assert len(views) >= 20, "something is found in half of the 40 pictures or more"


Place = tuple[NDArray[np.float64], float, float]
"""Centre (LPS, mm), how far from it counts as found, diameter in mm."""


def nodules(scans: Mapping[str, CtPhantom]) -> dict[str, list[Place]]:
    return {
        key: [(np.array([n.x_mm, n.y_mm, n.z_mm]), n.diameter_mm / 2, n.diameter_mm) for n in scan.nodules]
        for key, scan in scans.items()
    }


def hits(made: Way, places: Mapping[str, Sequence[Place]], by: str) -> tuple[float, NDArray[np.float64], int]:
    """Share of lesions found, (distance, diameter error) of each that is, and false alarms.

    Args: by: SQL expression for the key of `places`.
    """
    found = made.rows(f"SELECT {by}, x_mm, y_mm, z_mm, longest_diameter_mm FROM findings")
    errors: dict[tuple[str, int], tuple[float, float]] = {}
    false = 0
    for key, x, y, z, diameter in found:
        away = [float(np.linalg.norm(centre - (x, y, z))) for centre, *_ in places[key]]
        nearest = int(np.argmin(away)) if away else -1
        if away and away[nearest] <= places[key][nearest][1]:
            errors[key, nearest] = (away[nearest], diameter - places[key][nearest][2])
        else:
            false += 1
    return len(errors) / sum(map(len, places.values())), np.array(list(errors.values())), false


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("study", ["luna16", "lidc"])
def test_nodules_of_a_chest_are_found_where_they_are(study: str, tmp_path: Path) -> None:
    made = way(study, {"luna16": write_luna16, "lidc": write_lidc}[study], 18, tmp_path)
    # LIDC names a series by a hash: who it is stands in the subject map.
    people = dict(_map(made))
    with duckdb.connect(str(made.warehouse), read_only=True) as connection:
        images = connection.execute("SELECT image_id, subject_id FROM images").fetchall()
    places = {image: nodules(made.truth)[people[subject]] for image, subject in images}
    share, errors, false = hits(made, places, "image_id")
    assert share >= 0.5
    assert errors[:, 0].mean() < 2.5, "mm from the middle"
    assert np.abs(errors[:, 1]).mean() < 4.0, "mm of diameter, at voxels of 2.8 x 2.8 x 4 mm"
    assert false <= len(places), "a false alarm a scan, of networks that trained for seconds"
    # The night after reads nothing anew.
    digest = made.rows("SELECT content_digest FROM runs")
    assert made.score() in ACCEPTED
    assert made.rows("SELECT content_digest FROM runs") == digest


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("study", ["brats", "brats_survival"])
def test_parts_of_a_tumour_are_found_and_measured(study: str, tmp_path: Path) -> None:
    made = way(study, {"brats": write_brats, "brats_survival": write_brats_survival}[study], 12, tmp_path)
    heads: list[Head] = made.truth
    values = {"necrosis": NECROSIS, "oedema": OEDEMA, "enhancing_tumour": ENHANCING}
    found = made.rows(
        "SELECT image_id, label, sum(volume_mm3), arg_max(x_mm, area_px), arg_max(y_mm, area_px), "
        "arg_max(z_mm, area_px) FROM findings GROUP BY ALL"
    )
    assert {label for _, label, *_ in found} == set(values)
    ratios: list[float] = []
    for image, label, volume, x, y, z in found:
        number = int(image.rsplit("_", 1)[1])
        parts = heads[number if study == "brats" else number - 1].parts
        where = np.argwhere(parts == values[label])
        ratios.append(volume / len(where))
        if label == "enhancing_tumour":
            # The file's x runs to the right and y to the front, from 0 down: in LPS a voxel's index is its place.
            assert np.linalg.norm(where.mean(axis=0) - (x, y, z)) < 3.0
    assert 0.7 < np.median(ratios) < 1.3
    if study == "brats_survival":
        longer = made.rows(
            "SELECT count(*) FROM risk_scores one JOIN risk_scores two USING (subject_id, outcome) "
            "WHERE one.horizon_years = 1 AND two.horizon_years = 2 AND two.risk >= one.risk"
        )
        assert longer == [(12,)]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_calcium_is_found_and_graded(tmp_path: Path) -> None:
    made = way("coca", write_coca, 24, tmp_path)
    never_rise(made, [f"calcium_{level}" for level in (1, 100, 400)])
    spacing = np.array(SPACING_MM)
    places = {
        number: [
            (np.array(heart.scan.origin_mm) + (np.array(s.index) * spacing)[::-1], s.radius_mm + 3.0, 2 * s.radius_mm)
            for s in heart.specks
        ]
        for number, heart in made.truth.items()
    }
    share, errors, _ = hits(made, places, "image_id")
    assert share >= 0.6
    assert errors[:, 0].mean() < 4.0, "mm; a slice is 3"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_crack_is_outlined_in_pixels(tmp_path: Path) -> None:
    made = way("fracatlas", write_fracatlas, 30, tmp_path)
    found = made.rows("SELECT row, col, area_px, confidence, x_mm, longest_diameter_mm FROM findings")
    assert found
    for row, col, area, confidence, x_mm, diameter in found:
        assert 0 <= row < 192
        assert 0 <= col < 192
        assert area > 0
        assert 0 < confidence <= 1
        assert (x_mm, diameter) == (None, None), "a JPEG says no spacing"
    receipts = made.rows("SELECT DISTINCT status FROM input_receipts WHERE modality = 'findings'")
    assert receipts == [("used",)]


def _map(made: Way) -> list[tuple[int, str]]:
    with duckdb.connect(str(made.warehouse), read_only=True) as connection:
        return connection.execute("SELECT subject_id, source_id FROM subject_map").fetchall()
