"""From marked pictures to a finding on the page: fit, score, evaluate, explain, report, forget; known discs."""

import json
import shutil
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from typer.testing import CliRunner

from riskpred.cli.app import app
from riskpred.errors import BundleError
from riskpred.evaluate.marked import CARD_KEY
from riskpred.features.build import build
from riskpred.fit.run import fit
from riskpred.model.bundle import Bundle, load_bundle
from riskpred.records.chunk import STATIC
from riskpred.records.cohort import cohort
from riskpred.records.digest import subject_digests
from riskpred.records.warehouse import Warehouse
from riskpred.score.explain_run import explain
from riskpred.score.plan import parse_time
from riskpred.score.run import NightSummary, score
from tests.circles import HELD_OUT, SUBJECTS, Hospital, circles

MOMENT = parse_time("2025-01-10")
Row = tuple[Any, ...]


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    return circles(tmp_path_factory.mktemp("circles"))


@pytest.fixture(scope="module")
def bundle(hospital: Hospital) -> Bundle:
    return fit(str(hospital.study), hospital.warehouse, hospital.warehouse.parent / "bundle", seed=1)


def night(hospital: Hospital, bundle: Bundle, scores: Path, moment: int = MOMENT, **more: Any) -> NightSummary:
    return score(hospital.warehouse, bundle.path, scores, moment, force=True, **more)


@pytest.fixture(scope="module")
def scored(hospital: Hospital, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    scores = tmp_path_factory.mktemp("scored") / "scores.duckdb"
    night(hospital, bundle, scores)
    return scores


@pytest.fixture
def copied(scored: Path, tmp_path: Path) -> Path:
    """The published night and its cache, to be changed."""
    for path in scored.parent.iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path / path.name)
    return tmp_path / scored.name


def rows(scores: Path, sql: str) -> list[Row]:
    with duckdb.connect(str(scores), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_findings_are_where_the_discs_are(hospital: Hospital, scored: Path) -> None:
    found = {row[0]: row[1:] for row in rows(
        scored, "SELECT image_id, subject_id, lesion, label, row, col, area_px, confidence, x_mm, longest_diameter_mm, "
        "mean_intensity FROM findings"
    )}  # fmt: skip
    assert set(found) == {disc.image_id for disc in hospital.discs if disc.radius}
    for disc in hospital.discs:
        if disc.radius:
            subject, lesion, label, row, col, area, confidence, x_mm, diameter, intensity = found[disc.image_id]
            assert (subject, lesion, label, x_mm, diameter) == (disc.subject_id, 1, "disc", None, None)
            assert abs(row - disc.row) < 1
            assert abs(col - disc.col) < 1
            assert area == pytest.approx(disc.pixels, rel=0.2)
            assert 0.5 < confidence <= 1
            assert 150 < intensity < 200


def features(hospital: Hospital, bundle: Bundle, subjects: tuple[int, ...]) -> dict[int, dict[str, float]]:
    """Tabular features of each subject at the moment of the night."""
    with Warehouse.open(hospital.warehouse) as source:
        source.finder = bundle.finder
        (chunk,) = source.chunks(subjects=np.array(subjects))
        found = cohort(chunk, bundle.config.outcomes, source.data_until, MOMENT)
        batch = build(chunk, found, bundle.plan, source.image_root)
    names = [column.name for column in bundle.plan.modalities["tabular"].columns]
    table = batch.inputs["tabular"].values
    return {int(s): dict(zip(names, row.tolist(), strict=True)) for s, row in zip(batch.subject_id, table, strict=True)}


def test_growth_since_the_image_before_is_a_feature(hospital: Hospital, bundle: Bundle) -> None:
    for subject, row in features(hospital, bundle, HELD_OUT).items():
        before, after = (hospital.of(f"s{subject}v{visit}") for visit in (0, 1))
        assert row["FINDING//disc//count:last"] == (1 if after.radius else 0), (
            "looked at, nothing found: 0, not missing"
        )
        assert row["FINDING//disc//total_area_px:last"] == pytest.approx(after.pixels, rel=0.2, abs=1)
        grown = after.pixels - before.pixels
        assert row["FINDING//disc//total_area_px:change"] == pytest.approx(grown, abs=0.2 * after.pixels + 1)
    units = {column.name: column.unit for column in bundle.plan.modalities["tabular"].columns}
    assert units["FINDING//disc//total_area_px:change"] == "pixels"


def test_the_bundle_knows_how_good_its_segmentation_is(bundle: Bundle) -> None:
    said = bundle.card[CARD_KEY]["discs"]
    values = {row["metric"]: row["value"] for row in said["quality"]}
    assert (said["images"], said["subjects"], said["left_out"]) == (64, 32, {}), "held_out is never read"
    assert values["dice_mean"] > 0.9
    assert values["sensitivity_at_1_fp"] > 0.95
    assert values["absent_called_absent"] > 0.9
    assert values["position_error_px"] < 1


@pytest.mark.parametrize("harm", ["changed", "missing"])
def test_a_segmenter_is_part_of_what_the_manifest_protects(bundle: Bundle, tmp_path: Path, harm: str) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(bundle.path, copy)
    load_bundle(copy)
    weights = copy / "segmenter-discs.safetensors"
    if harm == "missing":
        weights.unlink()
    else:
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(data)
    with pytest.raises(BundleError, match=r"segmenter-discs\.safetensors: not the file that was written"):
        load_bundle(copy)


def test_nobody_looks_twice_at_the_same_bytes(hospital: Hospital, bundle: Bundle, copied: Path) -> None:
    before = rows(copied, "SELECT * EXCLUDE run_id FROM findings ORDER BY image_id")
    digest = rows(copied, "SELECT content_digest FROM runs")
    again = night(hospital, bundle, copied, rescore=True)
    assert "images: 80 known from earlier nights, 0 read" in again.notes
    assert rows(copied, "SELECT * EXCLUDE run_id FROM findings ORDER BY image_id") == before
    assert rows(copied, "SELECT content_digest FROM runs") == digest


def test_carried_people_keep_their_findings(hospital: Hospital, bundle: Bundle, copied: Path) -> None:
    first = rows(copied, "SELECT * EXCLUDE run_id FROM findings ORDER BY image_id")
    second = night(hospital, bundle, copied, parse_time("2025-01-11"))
    assert second.carried > 30
    latest = f"run_id = '{second.ledger['run_id']}'"
    assert rows(copied, f"SELECT * EXCLUDE run_id FROM findings WHERE {latest} ORDER BY image_id") == first


@pytest.mark.parametrize("size", [1, 7])
def test_how_many_are_looked_at_together_changes_nothing(
    hospital: Hospital, bundle: Bundle, scored: Path, tmp_path: Path, size: int
) -> None:
    scores = tmp_path / "scores.duckdb"
    night(hospital, bundle, scores, chunk_size=size, batch_size=size)
    values = "SELECT subject_id, horizon_years, risk FROM risk_scores ORDER BY ALL"
    difference = np.abs(np.array(rows(scores, values)) - np.array(rows(scored, values)))
    assert difference.max() < 1e-6
    every = "SELECT image_id, lesion, row, col, area_px, confidence FROM findings ORDER BY ALL"
    assert rows(scores, every) == rows(scored, every)


def changed(hospital: Hospital, folder: Path, *statements: str) -> Hospital:
    shutil.copytree(hospital.warehouse.parent, folder)
    path = folder / hospital.warehouse.name
    with duckdb.connect(str(path)) as connection:
        for statement in statements:
            connection.execute(statement)
    return replace(hospital, warehouse=path)


def test_an_image_to_come_is_not_looked_at_and_ends_what_is_carried(
    hospital: Hospital, bundle: Bundle, scored: Path, tmp_path: Path
) -> None:
    later = changed(
        hospital,
        tmp_path / "later",
        "INSERT INTO images (image_id, subject_id, time, image_type, path) "
        "VALUES ('to_come', 33, TIMESTAMP '2025-01-12 08:00:00', 'DX', 's34v1.png')",
    )
    scores = tmp_path / "scores.duckdb"
    night(later, bundle, scores)
    values = "SELECT subject_id, horizon_years, risk FROM risk_scores ORDER BY ALL"
    assert rows(scores, values) == rows(scored, values)
    assert not rows(scores, "SELECT 1 FROM findings WHERE image_id = 'to_come'")
    until = rows(scores, "SELECT DISTINCT valid_until FROM eligibility WHERE subject_id = 33")
    assert until == [(datetime(2025, 1, 12, 8),)]


def test_an_image_that_cannot_be_read_costs_itself(hospital: Hospital, bundle: Bundle, tmp_path: Path) -> None:
    harmed = changed(hospital, tmp_path / "harmed")
    (harmed.warehouse.parent / "s33v1.png").write_bytes(b"no picture")
    scores = tmp_path / "scores.duckdb"
    summary = night(harmed, bundle, scores)
    told = rows(scores, "SELECT row_key, subject_id, reason IS NOT NULL, field FROM rejects")
    assert told == [("s33v1", 33, True, "path")]
    assert summary.pairs["died"] == {"scored": 40}
    assert rows(scores, "SELECT DISTINCT image_id FROM findings WHERE subject_id = 33") == [("s33v0",)]
    row = features(harmed, replace(bundle), HELD_OUT)[33]
    assert np.isnan(row["FINDING//disc//total_area_px:change"]), "one image has no growth: missing, not 0"
    # Readable tomorrow, perhaps: not carried.
    assert night(harmed, bundle, scores, parse_time("2025-01-11")).computed >= 1


def test_the_digest_of_a_subject_is_of_the_inputs_alone(hospital: Hospital, bundle: Bundle, scored: Path) -> None:
    with Warehouse.open(hospital.warehouse) as source:
        (chunk,) = source.chunks(subjects=np.array(SUBJECTS))
        digests = dict(zip(chunk.subject_id.tolist(), subject_digests(chunk), strict=True))
    assert dict(rows(scored, "SELECT DISTINCT subject_id, subject_digest FROM eligibility")) == digests
    assert STATIC  # the chunk has dated and static events


def test_evidence_is_drawn_and_told(hospital: Hospital, scored: Path) -> None:
    told = rows(scored, "SELECT name, value, picture, outline, note FROM evidence WHERE kind = 'finding'")
    assert {name for name, *_ in told} == {disc.image_id for disc in hospital.discs}
    for name, value, picture, outline, note in told:
        disc, said = hospital.of(name), json.loads(note)
        assert value == (1 if disc.radius else 0)
        assert said["measures"]["disc"]["count"] == value
        if disc.radius:
            assert picture.startswith(b"\x89PNG")
            (line,) = json.loads(outline)
            corners = np.array(line["polygon"])
            assert line["lesion"] == 1
            # Centre of the outline in the picture that is drawn; a pixel's centre is half a pixel from its corner.
            middle = (corners.max(axis=0) + corners.min(axis=0)) / 2
            assert np.abs(middle - (disc.row + 0.5, disc.col + 0.5)).max() < 1.5


def test_explain_draws_again(hospital: Hospital, bundle: Bundle, copied: Path) -> None:
    before = rows(
        copied, "SELECT name, outline, note FROM evidence WHERE subject_id = 33 AND kind = 'finding' ORDER BY 1"
    )
    explain(copied, hospital.warehouse, bundle.path, subject=33)
    after = rows(
        copied, "SELECT name, outline, note FROM evidence WHERE subject_id = 33 AND kind = 'finding' ORDER BY 1"
    )
    assert after == before != []


def page_of(folder: Path) -> str:
    """The one page of a person in a report."""
    (page,) = [path for path in folder.rglob("*.html") if "data-test-pseudonym" in path.read_text()]
    return page.read_text()


def test_the_page_tells_size_place_and_growth(hospital: Hospital, scored: Path, tmp_path: Path) -> None:
    report = CliRunner().invoke(app, ["report", str(scored), "--into", str(tmp_path / "en"), "--subject", "33"])
    assert report.exit_code == 0, report.output
    text = page_of(tmp_path / "en")
    disc = hospital.of("s33v1")
    assert "Found in the images" in text
    assert f"row {round(disc.row)}, column {round(disc.col)}" in text
    assert 'data-test-growth="disc"' in text
    assert text.count('class="outline-light"') == 2
    chinese = CliRunner().invoke(
        app, ["report", str(scored), "--into", str(tmp_path / "zh"), "--subject", "33", "--lang", "zh"]
    )
    assert chinese.exit_code == 0, chinese.output
    assert f"第 {round(disc.row)} 行、第 {round(disc.col)} 列" in page_of(tmp_path / "zh")


@pytest.mark.usefixtures("few_draws")
def test_evaluate_measures_findings_on_the_split(hospital: Hospital, bundle: Bundle, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(bundle.path, copy)
    page = tmp_path / "page.html"
    done = CliRunner().invoke(
        app, ["evaluate", str(copy), str(hospital.warehouse), "--json", "--faithfulness", "0", "--into", str(page)]
    )
    assert done.exit_code == 0, done.output
    metrics = {row["metric"]: row for row in json.loads(done.stdout)["findings"]["discs"]}
    assert metrics["dice_mean"]["n"] == sum(subject % 5 > 0 for subject in HELD_OUT)
    assert metrics["dice_mean"]["value"] > 0.9
    assert metrics["sensitivity"]["value"] == 1
    assert metrics["false_positives_per_image"]["value"] < 0.2
    assert "Findings against what people marked" in page.read_text()


def test_forgotten_people_leave_no_finding(copied: Path) -> None:
    cache = next(path for path in copied.parent.iterdir() if path.name.endswith(".images"))
    asked = "SELECT count(*) FROM entries WHERE subject_id = 33"
    assert rows(cache, asked) == [(2,)]
    done = CliRunner().invoke(app, ["forget", "33", "--scores", str(copied)])
    assert done.exit_code == 0, done.output
    assert rows(copied, "SELECT count(*) FROM findings WHERE subject_id = 33") == [(0,)]
    assert rows(copied, "SELECT count(*) FROM evidence WHERE subject_id = 33") == [(0,)]
    assert rows(cache, asked) == [(0,)]


def test_fit_says_what_a_stage_learned_from_and_what_of_it_was_no_use(
    hospital: Hospital, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = bundle.card[CARD_KEY]["discs"]
    odd = {**bundle.card, CARD_KEY: {"discs": {**card, "left_out": {"mask_size": 3}}}}
    monkeypatch.setattr("riskpred.fit.run.fit", lambda *_, **__: replace(bundle, card=odd))
    given = ["fit", str(hospital.study), str(hospital.warehouse), "--into", str(tmp_path / "b")]
    said = CliRunner().invoke(app, given).output
    dice = next(row["value"] for row in card["quality"] if row["metric"] == "dice_mean")
    assert (
        f"  segmentation discs: {card['images']:,} marked images of {card['subjects']:,} subjects;"
        f" left out: mask_size 3; Dice out of fold: disc {dice:.2f}\n"
    ) in said
