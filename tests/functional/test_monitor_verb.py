"""`riskpred monitor` on the tiny study: risks of a past night against what its warehouse knows of the years after."""

import json
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from riskpred.cli import main

Json = dict[str, Any]
LATER = "2021-01-01"
"""A second night, whose three-year horizon the warehouse's data_until (2023-01-01) does not reach."""


@pytest.fixture(scope="module")
def published(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two nights of the tiny study, 2018-07-01 and LATER. Tests change copies."""
    into = tmp_path_factory.mktemp("monitor") / "scores.duckdb"
    words = [
        "score",
        str(tiny.warehouse),
        "--model",
        str(tiny.bundle),
        "--into",
        str(into),
        "--explain",
        "0",
        "--force",
    ]
    assert main(words) == 0
    assert main([*words, "--as-of", LATER]) == 0
    return into


@pytest.fixture
def changed(published: Path, tmp_path: Path, as_tables: Callable[[Path], Path]) -> Callable[..., Path]:
    """changed(sql, ...): a copy of the scores file, in plain tables, after these statements."""

    def change(*statements: str) -> Path:
        copy = tmp_path / "scores.duckdb"
        shutil.copy(published, copy)
        as_tables(copy)
        with duckdb.connect(str(copy)) as connection:
            for statement in statements:
                connection.execute(statement)
        return copy

    return change


@pytest.fixture
def told(tiny: Any, capsys: pytest.CaptureFixture[str]) -> Callable[..., Json]:
    """told(scores): the JSON that the verb prints."""

    def look(scores: Path, *words: str) -> Json:
        capsys.readouterr()
        assert main(["monitor", str(scores), str(tiny.warehouse), "--json", *words]) == 0
        found: Json = json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(word))
        return found

    return look


def row_of(found: Json, outcome: str, years: float) -> Json:
    (row,) = [
        row
        for model in found["models"]
        for row in model["matured"]
        if (row["outcome"], row["horizon_years"]) == (outcome, years)
    ]
    return dict(row)


def test_observed_is_what_followed(published: Path, told: Any, tiny: Any) -> None:
    found = told(published)
    row = row_of(found, "stroke", 3.0)
    sql = f"""
        WITH p AS (SELECT DISTINCT subject_id, prediction_time, risk FROM risk_scores
                   WHERE outcome = 'stroke' AND horizon_years = 3 AND prediction_time < '{LATER}')
        SELECT count(*), avg(risk), count(*) FILTER (WHERE EXISTS (
            FROM w.events e WHERE e.subject_id = p.subject_id AND e.code = 'DX//STROKE'
                AND e.time <= p.prediction_time + INTERVAL 1095 DAYS + INTERVAL 18 HOURS)) FROM p
    """
    with duckdb.connect(str(published), read_only=True) as connection:
        connection.execute(f"ATTACH '{tiny.warehouse}' AS w (READ_ONLY)")
        n, mean, events = connection.execute(sql).fetchall()[0]
    assert (row["n"], row["events"]) == (n, events)
    assert row["predicted"] == pytest.approx(mean)
    # Nobody leaves the tiny study, so Aalen-Johansen is the plain share.
    observed = row["measures"]["observed"]
    assert observed["value"] == pytest.approx(events / n)
    assert observed["low"] < events / n < observed["high"]
    assert row["measures"]["ratio"]["value"] == pytest.approx(events / n / mean)
    assert all(row["measures"][name]["low"] is not None for name in ("citl", "slope", "auc"))


def test_known_at_once_is_judged_at_once(published: Path, told: Any) -> None:
    found = told(published)
    row = row_of(found, "low_mood", 0.0)
    assert row["events"] > 10
    (model,) = found["models"]
    assert model["left_out"]["low_mood"]["not measured"] >= 10
    assert model["seen_in_training"] > 0


def test_a_horizon_not_reached_is_said_and_not_judged(published: Path, told: Any) -> None:
    found = told(published)
    (model,) = found["models"]
    immature = {(one["outcome"], one["horizon_years"]): one for one in model["immature"]}
    assert immature.keys() == {("stroke", 3.0), ("tumour", 3.0)}
    one = immature["stroke", 3.0]
    assert one["first_until"][:10] == one["last_until"][:10] == "2024-01-01"
    with duckdb.connect(str(published), read_only=True) as connection:
        sql = "SELECT count(*) FROM risk_scores WHERE outcome = 'stroke' AND horizon_years = ? AND prediction_time >= ?"
        assert connection.execute(sql, [3.0, LATER]).fetchall() == [(one["rows"],)]
        (both,) = connection.execute(sql, [1.0, "2018-01-01"]).fetchall()[0]
    assert row_of(found, "stroke", 1.0)["n"] == both, "one year is mature for both nights"
    assert row_of(found, "stroke", 3.0)["n"] == both - one["rows"]


def test_planted_miscalibration_is_seen(published: Path, changed: Any, told: Any) -> None:
    before = row_of(told(published), "tumour", 3.0)
    halved = row_of(told(changed("UPDATE risk_scores SET risk = risk / 2 WHERE outcome = 'tumour'")), "tumour", 3.0)
    assert halved["measures"]["ratio"]["value"] == pytest.approx(2 * before["measures"]["ratio"]["value"])
    assert halved["measures"]["ratio"]["low"] > 1, "the interval excludes a right model"
    assert halved["measures"]["citl"]["low"] > 0
    assert halved["measures"]["auc"]["value"] == before["measures"]["auc"]["value"]


def test_a_carried_row_is_the_prediction_it_was(published: Path, changed: Any, told: Any) -> None:
    """A third night that only carried the first: nothing new was predicted."""
    first = "(SELECT run_id FROM runs ORDER BY as_of LIMIT 1)"
    carried = changed(
        f"INSERT INTO runs SELECT * REPLACE ('third' AS run_id, as_of + INTERVAL 1 DAY AS as_of) FROM runs "
        f"WHERE run_id = {first}",
        f"INSERT INTO risk_scores SELECT * REPLACE ('third' AS run_id, true AS carried) FROM risk_scores "
        f"WHERE run_id = {first}",
    )
    expected, found = told(published), told(carried)
    assert found["runs"] == expected["runs"] + 1
    assert found["models"][0]["matured"] == expected["models"][0]["matured"]
    assert found["models"][0]["immature"] == expected["models"][0]["immature"]


def test_a_night_of_which_only_the_ledger_is_left_asks_nothing(published: Path, changed: Any, told: Any) -> None:
    retired = changed(
        "INSERT INTO runs SELECT * REPLACE ('old' AS run_id, 'ff' AS bundle_sha256, '{}' AS model_card, "
        "as_of - INTERVAL 1 YEAR AS as_of) FROM runs LIMIT 1"
    )
    expected, found = told(published), told(retired)
    assert found["models"] == expected["models"]
    assert found["runs"] == expected["runs"]


def test_of_two_risks_for_one_moment_the_newest_counts(published: Path, changed: Any, told: Any) -> None:
    first = "(SELECT run_id FROM runs ORDER BY as_of LIMIT 1)"
    anew = changed(
        f"INSERT INTO runs SELECT * REPLACE ('anew' AS run_id, finished_at + INTERVAL 1 HOUR AS finished_at) FROM runs "
        f"WHERE run_id = {first}",
        f"INSERT INTO risk_scores SELECT * REPLACE ('anew' AS run_id, risk / 4 AS risk) FROM risk_scores "
        f"WHERE run_id = {first}",
    )
    before, after = row_of(told(published), "stroke", 3.0), row_of(told(anew), "stroke", 3.0)
    assert after["n"] == before["n"]
    assert after["predicted"] == pytest.approx(before["predicted"] / 4)


def test_few_people_are_not_shown(changed: Any, told: Any, tiny: Any, capsys: pytest.CaptureFixture[str]) -> None:
    few = changed("DELETE FROM risk_scores WHERE subject_id % 40 <> 1 AND outcome = 'stroke'")
    row = row_of(told(few), "stroke", 3.0)
    assert row["events"] is None
    assert row["predicted"] is None
    assert {one["value"] for one in row["measures"].values()} == {None}
    assert main(["monitor", str(few), str(tiny.warehouse)]) == 0
    assert "fewer than 10 people with or without the outcome: not shown" in capsys.readouterr().out


def test_nothing_mature_is_said(changed: Any, tiny: Any, capsys: pytest.CaptureFixture[str]) -> None:
    none = changed(
        f"DELETE FROM risk_scores WHERE prediction_time < '{LATER}' OR outcome = 'low_mood' OR horizon_years < 3",
        f"DELETE FROM runs WHERE as_of < '{LATER}'",
    )
    assert main(["monitor", str(none), str(tiny.warehouse)]) == 0
    said = capsys.readouterr().out
    assert "no horizon is mature yet" in said
    assert "not mature yet, but on 2024-01-01" in said


def test_an_older_ledger_needs_the_bundle(
    changed: Any, told: Any, tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], published: Path
) -> None:
    older = changed("UPDATE runs SET model_card = '{}'")
    assert main(["monitor", str(older), str(tiny.warehouse)]) == 12
    assert "name it with --model" in capsys.readouterr().err
    matured = [model["matured"] for model in told(older, "--model", str(tiny.bundle))["models"]]
    assert matured == [model["matured"] for model in told(published)["models"]]
    other = changed("UPDATE runs SET model_card = '{}', bundle_sha256 = 'ffff'")
    assert main(["monitor", str(other), str(tiny.warehouse), "--model", str(tiny.bundle)]) == 12


def test_refusals_have_their_exit_codes(tiny: Any, published: Path, changed: Any, tmp_path: Path) -> None:
    warehouse, scores = str(tiny.warehouse), str(published)
    assert main(["monitor", str(tmp_path / "none.duckdb"), warehouse]) == 11
    assert main(["monitor", warehouse, warehouse]) == 11
    assert main(["monitor", scores, str(tmp_path / "none.duckdb")]) == 11
    assert main(["monitor", scores, warehouse, "--into", str(tmp_path / "page.txt")]) == 15
    assert main(["monitor", scores]) == 2
    assert main(["monitor", str(changed("DELETE FROM runs")), warehouse]) == 11
    assert main(["monitor", str(changed("ALTER TABLE drift DROP COLUMN counts")), warehouse]) == 11


def with_drift(scores: Path, tiny: Any, shifted: bool) -> None:
    """The two nights' rows of drift, the newest with cholesterol 2 mmol/L higher if `shifted`."""
    from dataclasses import replace

    from riskpred.features.batch import TabularInput
    from riskpred.features.build import build
    from riskpred.model.bundle import load_bundle
    from riskpred.model.drift_reference import drift_reference_of
    from riskpred.records.cohort import cohort
    from riskpred.records.warehouse import Warehouse
    from riskpred.score.drift import drift_rows, feature_bin_rows

    bundle = load_bundle(tiny.bundle)
    reference = drift_reference_of(bundle)
    with Warehouse.open(tiny.warehouse) as source, duckdb.connect(str(scores)) as connection:
        connection.execute("DELETE FROM drift")
        connection.execute("DELETE FROM feature_bins")
        runs = connection.execute("SELECT run_id, epoch_us(as_of) FROM runs ORDER BY as_of").fetchall()
        (chunk,) = source.chunks()
        rows = cohort(chunk, bundle.config.outcomes, source.data_until, runs[0][1])
        for number, (run, as_of) in enumerate(runs):
            batch = build(chunk, rows, bundle.plan, source.image_root)
            if shifted and number == 1:
                given = batch.inputs["tabular"]
                assert isinstance(given, TabularInput)
                higher = TabularInput(given.values + np.array([0, 0, 2], np.float32), given.time)
                batch = replace(batch, inputs={**batch.inputs, "tabular": higher})
            connection.register("bins", feature_bin_rows(batch, reference))
            connection.execute("INSERT INTO feature_bins SELECT ?, * FROM bins", [run])
            found = drift_rows(connection, run, reference, as_of=as_of, bundle_sha256=bundle.sha256, site=source.site)
            connection.register("found", found)
            connection.execute("INSERT INTO drift SELECT * FROM found")


def flags_of_features(found: Json) -> set[tuple[str, str, str]]:
    return {(f["name"], f["statistic"], f["against"]) for f in found["drift"]["flags"] if f["kind"] == "feature"}


def test_drift_of_the_newest_night_and_its_course(
    changed: Any, told: Any, tiny: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = changed()
    with_drift(scores, tiny, shifted=False)
    # In training every image was 141 days old, 150 days after the entry; at one date for all it is not.
    as_it_was = {("image age_days", "psi", "training")}
    assert flags_of_features(told(scores)) == as_it_was
    with_drift(scores, tiny, shifted=True)
    found = told(scores)
    cholesterol = "tabular LAB//CHOL:last"
    shifted = flags_of_features(found) - as_it_was
    assert shifted == {(cholesterol, "psi", "training"), (cholesterol, "psi", "last_7_runs")}
    (flag,) = [f for f in found["drift"]["flags"] if f["name"] == cholesterol and f["against"] == "training"]
    assert flag["trend"][-1] == flag["tonight"] > 1 > 0.1 > flag["trend"][0]
    assert found["drift"]["nights"][-1] == f"{LATER}T00:00:00"
    assert main(["monitor", str(scores), str(tiny.warehouse)]) == 0
    assert f"alarm  {cholesterol}" in capsys.readouterr().out


class Tags(HTMLParser):
    """Checks that every tag that opens closes, and gathers what pictures say."""

    def __init__(self) -> None:
        super().__init__()
        self.open_tags: list[str] = []
        self.said: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br", "rect", "line", "circle", "polyline", "polygon"):
            self.open_tags.append(tag)
        if tag == "svg":
            self.said.append(dict(attrs)["aria-label"] or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open_tags.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass


def test_the_page_shows_the_table_and_a_picture_per_target(
    changed: Any, tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores, into = changed(), tmp_path / "monitor.html"
    with_drift(scores, tiny, shifted=True)
    assert main(["monitor", str(scores), str(tiny.warehouse), "--into", str(into)]) == 0
    table, html = capsys.readouterr().out, into.read_text(encoding="utf-8")
    assert "default-src 'none'" in html
    assert "<script" not in html
    checker = Tags()
    checker.feed(html)
    assert checker.open_tags == []
    assert len(checker.said) == 5
    assert all("predicted risk and observed incidence" in text for text in checker.said)
    (line,) = [line for line in table.splitlines() if line.startswith("Stroke") and "3 years" in line]
    for cell in [cell.strip() for cell in line.split("  ") if cell.strip()]:
        assert cell in html, cell
    assert "tabular LAB//CHOL:last" in html
