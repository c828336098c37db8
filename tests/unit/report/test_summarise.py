"""The dict behind a page: the tables' numbers, and sums that close."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from riskpred.report.read import Scores
from riskpred.report.reasons import SHOWN_GROUPS
from riskpred.report.summarise import answers, summarise

RUN = "run-of-21-november"


def _all(scores: Path) -> dict[int, dict[str, Any]]:
    with Scores.open(scores) as opened:
        return {subject: summarise(opened.run, rows) for subject, rows in opened.rows(opened.scored()).items()}


def test_every_number_is_the_tables(scores: Path, ask: Callable[..., Any]) -> None:
    summaries = _all(scores)
    rows = ask("SELECT * FROM risk_scores WHERE run_id = ?", RUN)
    shown = {
        (subject, one["outcome"], row["horizon_years"]): row
        for subject, summary in summaries.items()
        for one in summary["outcomes"]
        for row in one["horizons"]
    }
    assert len(rows) == len(shown) == 24 * 3 * 4 - 4 * sum(len(s["not_assessed"]) for s in summaries.values())
    for row in rows:
        found = shown[row["subject_id"], row["outcome"], row["horizon_years"]]
        for name in ("risk", "risk_low", "risk_high", "reference_risk", "percentile"):
            assert found[name] == row[name]


def test_reasons_sum_from_the_starting_point_to_the_risk(scores: Path) -> None:
    checked = 0
    for summary in _all(scores).values():
        for one in summary["outcomes"]:
            why, last = one["reasons"], one["horizons"][-1]
            assert why["horizon_years"] == last["horizon_years"] == 10
            total = 100 * (last["risk"] - last["reference_risk"])
            assert sum(step["contribution"] for step in why["modalities"]) == pytest.approx(total, abs=1e-9)
            assert why["modalities"][-1]["to"] == pytest.approx(last["risk"], abs=1e-9)
            if why["features"]:
                checked += 1
                assert why["raises_total"] + why["lowers_total"] + why["unnamed_total"] == pytest.approx(
                    total, abs=1e-9
                )
                for side in ("raises", "lowers"):
                    listed = sum(row["contribution"] for row in why[side])
                    assert listed + why[f"{side}_not_shown"]["contribution"] == pytest.approx(why[f"{side}_total"])
                    assert len(why[side]) <= SHOWN_GROUPS
    assert checked >= 30


def test_a_sum_that_does_not_close_is_shown_not_hidden(tmp_path: Path, write_scores: Callable[..., Path]) -> None:
    path = write_scores(tmp_path / "s.duckdb", subjects=1, explained=1)
    with duckdb.connect(str(path)) as connection:
        connection.execute("DELETE FROM explanations WHERE modality = 'tabular' AND level = 'modality'")
        connection.execute("DELETE FROM explanations WHERE modality = 'series' AND level = 'feature'")
    for one in _all(path)[910000]["outcomes"]:
        why = one["reasons"]
        assert why["modalities"][-1]["modality"] == "(gap)"
        assert why["modalities"][-1]["to"] == one["horizons"][-1]["risk"]
        series = next((step for step in why["modalities"] if step["modality"] == "series"), None)
        if series and series["contribution"]:
            whole = [row for row in why["unnamed"] if row["feature"] == "(whole)"]
            assert [row["contribution"] for row in whole] == [pytest.approx(series["contribution"])]


def test_someone_without_any_risk_still_gets_reasons_why(tmp_path: Path, write_scores: Callable[..., Path]) -> None:
    path = write_scores(tmp_path / "s.duckdb", subjects=1, explained=0)
    with duckdb.connect(str(path)) as connection:
        connection.execute("DELETE FROM risk_scores")
        connection.execute("UPDATE eligibility SET status = 'rejected', reason = 'no_usable_input'")
    with Scores.open(path) as opened:
        summary = summarise(opened.run, opened.rows([910000])[910000])
    assert summary["outcomes"] == []
    assert {row["outcome"] for row in summary["not_assessed"]} == {"cancer", "cardiovascular", "mental_health"}
    assert summary["prediction_time"] == "2026-11-21T00:00:00Z"


def test_small_risks_are_told_among_a_thousand(tmp_path: Path, write_scores: Callable[..., Path]) -> None:
    path = write_scores(tmp_path / "s.duckdb", subjects=1, explained=0)
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE risk_scores SET risk = risk / 1000, risk_low = 0, risk_high = 0.01")
    summary = _all(path)[910000]
    assert summary["denominator"] == 1000
    assert all(
        row["with_event"] + row["without_event"] == 1000 for one in summary["outcomes"] for row in one["horizons"]
    )


@pytest.mark.parametrize(
    ("column", "content", "problem"),
    [
        ("picture", b"GIF89a" + b"0" * 100, "not a PNG picture"),
        ("picture", None, "no picture of at most 64 KiB was stored"),
        ("outline", '[{"region": "region 1", "polygon": [[1, 2], [3]]}]', "the outline could not be read"),
        ("outline", '[{"region": "region 1", "polygon": [[1, 2], [3, NaN], [5, 6]]}]', "the outline could not be read"),
        ("outline", "<script>", "the outline could not be read"),
        ("outline", "[[1, 2], [3, 4], [5, 6]]", "the outline could not be read"),
        ("outline", '[{"polygon": [[1, 2], [3, 4], [5, 6]]}]', "the outline could not be read"),
    ],
)
def test_a_picture_that_cannot_be_shown_says_so(
    tmp_path: Path, write_scores: Callable[..., Path], column: str, content: object, problem: str
) -> None:
    path = write_scores(tmp_path / "s.duckdb", subjects=8, explained=8)
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"UPDATE evidence SET {column} = ? WHERE kind = 'image'", [content])
    images = [image for summary in _all(path).values() for image in summary["images"]]
    assert images
    assert {image["problem"] for image in images} == {problem}
    assert all((image["png_base64"] is None) == (column == "picture") for image in images)


def test_no_identifier_but_the_pseudonym(scores: Path) -> None:
    for subject, summary in _all(scores).items():
        text = json.dumps(summary, allow_nan=False).replace(f"IMG{subject}", "")  # the image's own source id is shown
        assert str(subject) not in text
        assert "subject_id" not in text


def test_a_carried_risk_keeps_its_own_date(tmp_path: Path, write_scores: Callable[..., Path]) -> None:
    path = write_scores(tmp_path / "s.duckdb", subjects=1, explained=0)
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "UPDATE risk_scores SET carried = true, prediction_time = ? WHERE outcome = 'cancer'",
            [datetime(2026, 10, 1)],
        )
    one = next(one for one in _all(path)[910000]["outcomes"] if one["outcome"] == "cancer")
    assert (one["carried"], one["prediction_time"]) == (True, "2026-10-01T00:00:00Z")


def test_a_set_known_at_once_is_one_answer_whose_parts_add_up() -> None:
    def defined(name: str, **more: str) -> dict[str, object]:
        return {"display": name, "known_at_once": True, **more}

    card = {
        "outcome_definitions": {
            "outcomes": {
                "g1": defined("One", ordered_set="g"),
                "g2": defined("Two", ordered_set="g"),
                "a": defined("A", competing_set="c"),
                "b": defined("B", competing_set="c"),
                "gone": defined("Gone", ordered_set="h"),
                "left": defined("Left", ordered_set="h"),
                "heart": {"display": "Heart", "competing_set": "t"},
            }
        }
    }
    risks = {"g1": 0.7, "g2": 0.2, "a": 0.5, "b": 0.3, "left": 0.1, "heart": 0.2}
    outcomes = [{"outcome": name, "display": name, "horizons": [{"risk": risk}]} for name, risk in risks.items()]
    grades, classes = answers(card, outcomes)
    assert (grades["name"], grades["ordered"]) == ("g", True)
    assert [part["share"] for part in grades["parts"]] == pytest.approx([0.3, 0.5, 0.2])
    assert [part["outcome"] for part in classes["parts"]] == [None, "a", "b"]
    assert [part["share"] for part in classes["parts"]] == pytest.approx([0.2, 0.5, 0.3])
    assert answers({"outcome_definitions": "odd"}, outcomes) == []
