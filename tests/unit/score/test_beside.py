"""Beside reasons a night keeps guideline equations, what is missing, what would change; explaining later adds them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from riskpred.config.guideline import GuidelineConfig
from riskpred.config.model import parse
from riskpred.config.words import Both, CodeWords, Improve, StudyWords, UnitWords
from riskpred.fit.ranges import learn_ranges
from riskpred.score.explain_run import explain

BESIDE = (
    "SELECT subject_id, kind, name, time, value, unit, note FROM evidence WHERE kind = 'guideline' ORDER BY ALL",
    "SELECT * EXCLUDE run_id FROM missing_impact ORDER BY ALL",
    "SELECT * EXCLUDE run_id FROM changes ORDER BY ALL",
)
GUIDELINE = {
    "equations": {"cardio": ["prevent_total_cvd_10", "score2"]},
    "inputs": {
        "sbp": {"codes": ["SBP"], "units": {"mm[Hg]": 1}},
        "total_cholesterol": {"codes": ["CHOL"], "units": {"mmol/L": 1}},
        "hdl": {"assume": 1.3, "because": "a test"},
        "smoking": {"assume": 0, "because": "a test"},
        "diabetes": {"assume": 0, "because": "a test"},
    },
}


@pytest.fixture
def telling(random_bundle: Callable[[int], Any], small_batch: Any) -> Any:
    """A bundle that has words, ranges and guideline equations."""
    made, (plan, batch) = random_bundle(3), small_batch
    codes = {
        code: CodeWords(
            name=Both(en=code, zh=code), improve=Improve(towards="lower"), units={unit: UnitWords(limit=limit)}
        )
        for code, unit, limit in (("CHOL", "mmol/L", 4.0), ("SBP", "mm[Hg]", 120.0))
    }
    words, beside = StudyWords(codes=codes), parse(GuidelineConfig, GUIDELINE, "guideline.yaml")
    config = made.config.model_copy(update={"words": words, "guideline": beside})
    return replace(made, config=config, ranges=learn_ranges(plan, batch, fewest=5))


def test_a_night_and_a_later_explanation_tell_the_same_once(
    tmp_path: Path, small_hospital: Any, night: Callable[..., Any], rows: Callable[..., Any], telling: Any
) -> None:
    warehouse = small_hospital.write("w.duckdb")
    whole, later = tmp_path / "whole.duckdb", tmp_path / "later.duckdb"
    night(warehouse, whole, bundle=telling, explain=30)
    night(warehouse, later, bundle=telling, explain=0)
    found = [rows(whole, sql) for sql in BESIDE]
    assert all(found), "each is there"
    assert [rows(later, sql) for sql in BESIDE] == [[], [], []]
    for _ in range(2):  # explaining anew replaces
        explain(later, warehouse, Path("bundle"), top=30)
        assert [rows(later, sql) for sql in BESIDE] == found
    explained = rows(whole, "SELECT DISTINCT subject_id FROM explanations WHERE level = 'feature'")
    scored = rows(whole, "SELECT DISTINCT subject_id FROM risk_scores WHERE outcome = 'cardio'")
    guided = [row[0] for row in found[0]]
    assert set(guided) == {who for (who,) in set(explained) & set(scored)}
    assert len(guided) == 2 * len(set(guided)), "one row an equation"
    for _, _, name, _, value, unit, note in found[0]:
        told = json.loads(note)
        assert told["applies"] == (value is not None), name
        assert told["applies"] or told["problems"], name
        assert unit == "probability"
    assert any(row[4] is not None for row in found[0]), "someone has all inputs of SCORE2"
    assert all(row[4] is None for row in found[0] if row[2].startswith("PREVENT")), (
        "blood pressure treatment is missing"
    )


def test_a_bundle_without_them_tells_nothing_of_them(
    tmp_path: Path, small_hospital: Any, night: Callable[..., Any], rows: Callable[..., Any]
) -> None:
    into = tmp_path / "scores.duckdb"
    night(small_hospital.write("w.duckdb"), into, explain=3)
    assert [rows(into, sql) for sql in BESIDE] == [[], [], []]


def test_a_record_before_the_year_one_stops_neither_the_night_nor_the_report(
    tmp_path: Path, small_hospital: Any, night: Callable[..., Any], rows: Callable[..., Any], telling: Any
) -> None:
    """One wrong date of one person costs nobody else anything."""
    import duckdb

    from riskpred.report.write import write_report

    warehouse, into = small_hospital.write("w.duckdb"), tmp_path / "scores.duckdb"
    with duckdb.connect(str(warehouse)) as connection:
        for subject, code in ((103, "MEDS_BIRTH"), (104, "CHOL")):
            connection.execute(
                "UPDATE events SET time = '0044-03-15 (BC)' WHERE subject_id = ? AND code = ?", [subject, code]
            )
    night(warehouse, into, bundle=telling, explain=60)
    guided = "SELECT note FROM evidence WHERE kind = 'guideline' AND subject_id = 103 AND name LIKE 'SCORE2%'"
    ((note,),) = rows(into, guided)
    assert any("age 20" in problem for problem in json.loads(note)["problems"]), "an age that nobody has"
    assert write_report(into, tmp_path / "report").pages == 60
