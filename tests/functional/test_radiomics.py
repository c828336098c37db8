"""From pictures that nobody marked to a reason on the page: fit, score, score again, report, forget; known discs."""

from pathlib import Path

import duckdb
import numpy as np
import pytest
from typer.testing import CliRunner

from riskpred.cli.app import app
from riskpred.evaluate.marked import CARD_KEY
from riskpred.features.build import build
from riskpred.fit.run import fit
from riskpred.model.bundle import Bundle, load_bundle
from riskpred.records.cohort import cohort
from riskpred.records.warehouse import Warehouse
from riskpred.score.plan import parse_time
from riskpred.score.run import score
from tests.circles import SIDE, SUBJECTS, Hospital, circles

MOMENT = parse_time("2025-01-10")
IMAGING = """
radiomics:
  plain:
    image_types: [DX]
    size: 48
    steps: [{step: window, centre: 127.5, width: 255}]
    families: [brightness, layout]
"""
FEATURES = """
modalities:
  tabular:
    kind: tabular
    features:
      - builtin: age_years
      - codes: [IMAGE//plain//brightness_mean, IMAGE//plain//layout_row_3_column_3]
        aggregates: [last, change]
"""


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    found = circles(tmp_path_factory.mktemp("circles"))
    (found.study / "imaging.yaml").write_text(IMAGING)
    (found.study / "features.yaml").write_text(FEATURES)
    return found


@pytest.fixture(scope="module")
def bundle(hospital: Hospital) -> Bundle:
    path = hospital.warehouse.parent / "bundle"
    fit(str(hospital.study), hospital.warehouse, path, seed=1)
    return load_bundle(path)


@pytest.fixture(scope="module")
def scored(hospital: Hospital, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    scores = tmp_path_factory.mktemp("scored") / "scores.duckdb"
    summary = score(hospital.warehouse, bundle.path, scores, MOMENT, force=True)
    assert "images: 0 known from earlier nights, 80 read" in summary.notes
    return scores


def test_the_features_are_what_the_discs_make_of_the_picture(hospital: Hospital, bundle: Bundle) -> None:
    with Warehouse.open(hospital.warehouse) as source:
        source.finder = bundle.finder
        (chunk,) = source.chunks(subjects=np.array(SUBJECTS))
        found = cohort(chunk, bundle.config.outcomes, source.data_until, MOMENT)
        batch = build(chunk, found, bundle.plan, source.image_root)
    names = [column.name for column in bundle.plan.modalities["tabular"].columns]
    table = batch.inputs["tabular"].values
    grown = np.array([hospital.of(f"s{s}v1").pixels - hospital.of(f"s{s}v0").pixels for s in batch.subject_id])
    change = table[:, names.index("IMAGE//plain//brightness_mean:change")]
    shows = grown > 20
    assert shows.sum() > 10
    assert np.corrcoef(change[shows], grown[shows] / SIDE**2)[0, 1] > 0.95


def test_nothing_was_trained_for_it(bundle: Bundle) -> None:
    assert bundle.segmenters == {}
    assert CARD_KEY not in bundle.card
    assert not list(bundle.path.glob("segmenter-*"))


def test_the_night_keeps_what_was_measured_and_explains_by_it(hospital: Hospital, bundle: Bundle, scored: Path) -> None:
    values = "SELECT subject_id, horizon_years, risk FROM risk_scores ORDER BY ALL"
    with duckdb.connect(str(scored), read_only=True) as connection:
        before = connection.execute(values).fetchall()
        features = connection.execute("SELECT DISTINCT feature FROM explanations WHERE level = 'feature'").fetchall()
        evidence = connection.execute("SELECT count(*) FROM evidence WHERE kind = 'finding'").fetchall()
    assert ("IMAGE//plain//brightness_mean:last",) in features
    assert evidence == [(0,)], "there is no lesion to draw"
    again = score(hospital.warehouse, bundle.path, scored, MOMENT, force=True, rescore=True)
    assert "images: 80 known from earlier nights, 0 read" in again.notes
    with duckdb.connect(str(scored), read_only=True) as connection:
        assert connection.execute(values).fetchall() == before


def test_the_page_says_it_in_words(scored: Path, tmp_path: Path) -> None:
    for language, said in (("en", "Plain image: mean brightness"), ("zh", "平均亮度")):
        into = tmp_path / language
        done = CliRunner().invoke(
            app, ["report", str(scored), "--into", str(into), "--subject", "33", "--lang", language]
        )
        assert done.exit_code == 0, done.output
        (page,) = [path for path in into.rglob("*.html") if "data-test-pseudonym" in path.read_text()]
        text = page.read_text()
        assert said in text
        assert ">IMAGE//" not in text, "codes stand in titles only"
