"""A night as the tables tell it: who was scored and why not, what the rows hold, what carries over."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from riskpred.records.reference_group import GROUPS, WIDER

Night = Callable[..., Any]
Rows = Callable[..., list[tuple[Any, ...]]]

CONTENT = "SELECT * EXCLUDE (scored_at) FROM risk_scores ORDER BY ALL"


def test_every_pair_is_accounted_for(tmp_path: Path, small_hospital: Any, night: Night, rows: Rows) -> None:
    into = tmp_path / "scores.duckdb"
    summary = night(small_hospital.write("w.duckdb"), into)
    ledger = summary.ledger
    assert ledger["subjects"] == 64
    assert ledger["considered_pairs"] == 64 * 3 == ledger["eligible_pairs"] + ledger["out_of_scope_pairs"]
    assert ledger["eligible_pairs"] == ledger["scored_pairs"] + ledger["rejected_pairs"] + ledger["carried_pairs"]
    why = dict(
        rows(
            into,
            "SELECT subject_id * 10 + length(outcome), status || ':' || reason FROM eligibility WHERE reason NOT NULL",
        )
    )
    cardio, mood = len("cardio"), len("low_mood")
    assert why[1990 + cardio] == why[1990 + mood] == "rejected:no_usable_input"
    assert why[1980 + cardio] == why[1980 + mood] == "out_of_scope:not_entered"
    assert why[1970 + cardio] == "out_of_scope:dead"
    assert why[1960 + cardio] == "out_of_scope:prevalent"
    assert 1960 + mood not in why, "an outcome known at once has no prevalence rule"
    per_subject = "SELECT count(*) FROM risk_scores GROUP BY subject_id HAVING subject_id BETWEEN 101 AND 160"
    assert rows(into, per_subject) == [(5,)] * 60
    assert ledger["risk_rows"] == 60 * 5 + 1
    assert rows(into, "SELECT count(*) FROM input_receipts") == [(62 * 3,)]


def test_rows_hold_what_the_model_says(
    tmp_path: Path, small_hospital: Any, night: Night, rows: Rows, random_bundle: Night, small_batch: Any
) -> None:
    into = tmp_path / "scores.duckdb"
    night(small_hospital.write("w.duckdb"), into)
    bundle, (_, batch) = random_bundle(1), small_batch
    expected = bundle.model.predict(batch)
    at = batch.subject_id.tolist().index(120)
    stored = rows(into, "SELECT * FROM risk_scores WHERE subject_id = 120 ORDER BY ALL")
    by_target = {(row[2], row[3]): row for row in stored}
    for q, target in enumerate(bundle.model.targets):
        row = by_target[target]
        # Not closer: the night's images are encoded channels last, in other batches than these.
        assert row[5] == pytest.approx(expected.risk[at, q], abs=1e-6)
        assert row[6:8] == pytest.approx((expected.low[at, q], expected.high[at, q]), abs=1e-6)
        assert row[9] == bundle.profiles.names[bundle.profiles.places(batch)[at]] != "everyone"
        assert row[10] == pytest.approx(bundle.percentile(expected.risk)[at, q], abs=0.02)
        assert row[13] == []
    flags = rows(into, "SELECT DISTINCT subject_id, scope_flags FROM risk_scores WHERE len(scope_flags) > 0 ORDER BY 1")
    assert flags == [], "the bundle saw 101 and 102 at another site"


def test_seen_in_training_is_flagged_at_the_same_site(
    tmp_path: Path, small_hospital: Any, night: Night, rows: Rows
) -> None:
    into = tmp_path / "scores.duckdb"
    night(small_hospital.write("batch.duckdb"), into)  # a warehouse without `ingests` rows is named by its file
    flags = rows(into, "SELECT DISTINCT subject_id, scope_flags FROM risk_scores WHERE len(scope_flags) > 0 ORDER BY 1")
    assert flags == [(101, ["seen_in_training"]), (102, ["seen_in_training"])]


def test_the_same_night_again_gives_identical_rows(
    tmp_path: Path, small_hospital: Any, night: Night, rows: Rows
) -> None:
    warehouse, into = small_hospital.write("w.duckdb"), tmp_path / "scores.duckdb"
    first = night(warehouse, into)
    tables = {
        "risk_scores": CONTENT,
        **{t: f"SELECT * FROM {t} ORDER BY ALL" for t in ("eligibility", "explanations", "evidence", "pseudonyms")},
        "input_receipts": "SELECT * FROM input_receipts ORDER BY ALL",
    }
    before = {name: rows(into, sql) for name, sql in tables.items()}
    second = night(warehouse, into, rescore=True)
    assert second.ledger["run_id"] == first.ledger["run_id"]
    assert second.ledger["content_digest"] == first.ledger["content_digest"]
    assert rows(into, "SELECT count(*) FROM runs") == [(1,)]
    for name, sql in tables.items():
        assert rows(into, sql) == before[name], name
        assert before[name], name


def test_order_of_rows_batches_and_the_future_change_nothing(
    tmp_path: Path, small_hospital: Any, night: Night, rows: Rows
) -> None:
    from datetime import timedelta

    latest = max(time for _, time, *_ in small_hospital.events if time)
    sql = (
        "SELECT risk, risk_low, risk_high, reference_risk FROM risk_scores ORDER BY subject_id, outcome, horizon_years"
    )
    reasons = (
        "SELECT contribution FROM explanations WHERE level = 'modality' "
        "ORDER BY subject_id, outcome, horizon_years, modality"
    )
    night(small_hospital.write("w.duckdb"), tmp_path / "a.duckdb", explain=0)
    expected, because = np.array(rows(tmp_path / "a.duckdb", sql)), np.array(rows(tmp_path / "a.duckdb", reasons))
    shuffled = list(small_hospital.events)
    np.random.default_rng(1).shuffle(shuffled)
    later = [(s, latest + timedelta(days=5), "SBP", 190.0, None) for s in range(101, 161)]
    cases: dict[str, dict[str, Any]] = {
        "shuffled": {"events": shuffled},
        "future": {"events": small_hospital.events + later},
        "small batches": {"batch_size": 16, "chunk_size": 31},
    }
    for name, case in cases.items():
        warehouse = small_hospital.write("changed.duckdb", events=case.pop("events", None))
        night(warehouse, tmp_path / "b.duckdb", explain=0, **case)
        assert np.abs(np.array(rows(tmp_path / "b.duckdb", sql)) - expected).max() <= 1e-6, name
        assert np.abs(np.array(rows(tmp_path / "b.duckdb", reasons)) - because).max() <= 1e-4, name
        (tmp_path / "b.duckdb").unlink()


def test_without_images_there_is_a_risk_and_the_receipt_says_missing(
    tmp_path: Path, small_hospital: Any, night: Night, rows: Rows
) -> None:
    subject = small_hospital.images[0][1]
    into = tmp_path / "scores.duckdb"
    night(small_hospital.write("w.duckdb"), into, explain=0)
    mine = f"WHERE subject_id = {subject} AND modality = 'image'"
    assert rows(into, f"SELECT status FROM input_receipts {mine}") == [("used",)]
    said = f"SELECT abs(contribution) > 1e-6 FROM explanations {mine} AND outcome = 'cancer'"
    assert rows(into, said) == [(True,)] * 2
    into.unlink()
    night(small_hospital.write("w.duckdb", images=small_hospital.images[1:]), into, explain=0)
    assert rows(into, f"SELECT status, n, missing_features FROM input_receipts {mine}") == [("missing", 0, ["image"])]
    assert rows(into, f"SELECT DISTINCT contribution FROM explanations {mine}") == [(0.0,)]
    assert rows(into, f"SELECT count(*) FROM risk_scores WHERE subject_id = {subject}") == [(5,)]


def test_reasons_add_up_and_say_what_they_are_about(
    tmp_path: Path, small_hospital: Any, night: Night, rows: Rows
) -> None:
    into = tmp_path / "scores.duckdb"
    summary = night(small_hospital.write("w.duckdb"), into)
    assert summary.explained == 5
    worst = """
        SELECT max(abs(total - 100 * (risk - reference_risk))) FROM risk_scores JOIN (
            SELECT subject_id, outcome, horizon_years, level, sum(contribution) AS total
            FROM explanations WHERE level IN ('modality', 'feature') GROUP BY ALL
        ) USING (subject_id, outcome, horizon_years)
    """
    assert rows(into, worst)[0][0] < 0.001
    assert rows(into, "SELECT count(DISTINCT subject_id) FROM explanations WHERE level = 'feature'") == [(5,)]
    ranks = """
        SELECT count(*) FROM (
            SELECT rank, row_number() OVER (
                PARTITION BY subject_id, outcome, horizon_years, level ORDER BY abs(contribution) DESC, rank
            ) AS expected FROM explanations
        ) WHERE rank <> expected
    """
    assert rows(into, ranks) == [(0,)]
    kinds = dict(rows(into, "SELECT feature, bool_or(remainder) FROM explanations WHERE level = 'feature' GROUP BY 1"))
    assert kinds["(presence)"] is False
    assert kinds["(unexplained)"] is True
    assert {"age_years", "SBP"} <= kinds.keys()
    values = """
        SELECT count(*) FROM explanations e JOIN evidence v
            ON v.subject_id = e.subject_id AND v.name = e.feature AND v.time = e.time
        WHERE e.feature IN ('SBP', 'HR') AND (e.value <> v.value OR e.unit <> v.unit OR e.unit IS NULL)
    """
    assert rows(into, values) == [(0,)]
    sexes = rows(into, "SELECT DISTINCT text_value, value FROM explanations WHERE feature LIKE 'GENDER%'")
    assert {text for text, _ in sexes} <= {"F", "M", "GENDER//F", "GENDER//M"}
    assert all(value is None for _, value in sexes)
    pictures = rows(into, "SELECT picture, outline FROM evidence WHERE kind = 'image'")
    assert pictures
    for picture, outline in pictures:
        assert picture.startswith(b"\x89PNG")
        assert len(picture) <= 65536
        drawn = [] if outline is None else json.loads(outline)
        assert all(0 <= corner <= 16 for one in drawn for point in one["polygon"] for corner in point)


def test_moments_and_regions_add_up_to_their_features(
    tmp_path: Path, small_hospital: Any, night: Night, rows: Rows
) -> None:
    into = tmp_path / "scores.duckdb"
    assert night(small_hospital.write("w.duckdb"), into, explain=30).explained == 30
    key = "subject_id, outcome, horizon_years"
    for level, modality, of in (
        ("moment", "series", "feature NOT IN ('(presence)', '(unexplained)')"),
        ("region", "image", "feature = 'image'"),
    ):
        finer = f"SELECT {key}, sum(contribution) AS finer FROM explanations WHERE level = '{level}' GROUP BY ALL"
        above = f"""
            SELECT {key}, sum(contribution) AS above FROM explanations
            WHERE level = 'feature' AND modality = '{modality}' AND {of} GROUP BY ALL
        """
        (both,) = rows(
            into,
            f"SELECT count(*), max(abs(finer - above)), max(abs(above)), count(*) FILTER (finer IS NULL) "
            f"FROM ({above}) LEFT JOIN ({finer}) USING ({key})",
        )
        assert both[0] > 50
        assert both[1] < 1e-9
        assert both[2] > 0.5, "what says nothing tests nothing"
        assert both[3] == 0
        assert rows(into, f"SELECT DISTINCT modality FROM explanations WHERE level = '{level}'") == [(modality,)]
    moments = rows(
        into,
        "SELECT count(*), count(e.value) FROM explanations e JOIN evidence v ON v.subject_id = e.subject_id "
        "AND v.name = e.feature AND v.time = e.time AND v.value = e.value AND v.unit = e.unit "
        "WHERE level = 'moment' AND NOT remainder",
    )
    named = rows(into, "SELECT count(*) FROM explanations WHERE level = 'moment' AND NOT remainder")
    assert moments[0][0] == named[0][0] > 0, "each named moment is a value that evidence draws"
    drawn = "SELECT subject_id, outline, note FROM evidence WHERE kind = 'image'"
    regions: dict[int, set[str]] = {}
    for subject, name in rows(into, "SELECT DISTINCT subject_id, feature FROM explanations WHERE level = 'region'"):
        regions.setdefault(subject, set()).add(name)
    for subject, outline, note in rows(into, drawn):
        outlined = [] if outline is None else [one["region"] for one in json.loads(outline)]
        assert set(outlined) == {name for name in regions[subject] if name.startswith("region")}
        assert [one["region"] for one in json.loads(note)["regions"]] == outlined
    assert any(name == "region 2" for names in regions.values() for name in names)


def test_each_risk_starts_at_the_reference_of_its_own_group(
    tmp_path: Path, small_hospital: Any, night: Night, rows: Rows, random_bundle: Night, small_batch: Any
) -> None:
    into, bundle, (_, batch) = tmp_path / "scores.duckdb", random_bundle(1), small_batch
    night(small_hospital.write("w.duckdb"), into)
    named = dict(rows(into, "SELECT DISTINCT subject_id, reference_group FROM risk_scores"))
    names = [GROUPS[place] for place in batch.group.tolist()]
    assert len(set(named.values())) == len(bundle.profiles.names) > 2
    for subject, name in zip(batch.subject_id.tolist(), names, strict=True):
        stands_in = next(one for one in (name, WIDER[name], "everyone") if one in bundle.profiles.names)
        assert named[subject] == stands_in
    starts = rows(
        into,
        "SELECT outcome, horizon_years, count(DISTINCT reference_group), count(DISTINCT round(reference_risk, 9)) "
        "FROM risk_scores JOIN (SELECT subject_id FROM input_receipts GROUP BY 1 "
        "HAVING count(*) FILTER (status = 'used') = 3) USING (subject_id) GROUP BY ALL",
    )
    # Calibration here is the same for every pattern: with all modalities a start is a group's own.
    assert all(groups == different > 2 for _, _, groups, different in starts)


def test_the_top_are_those_of_highest_percentile(tmp_path: Path, small_hospital: Any, night: Night, rows: Rows) -> None:
    into = tmp_path / "scores.duckdb"
    night(small_hospital.write("w.duckdb"), into, explain=7)
    expected = """
        SELECT subject_id FROM risk_scores WHERE horizon_years IN (0, 5)
        GROUP BY 1 ORDER BY max(percentile) DESC, 1 LIMIT 7
    """
    chosen = rows(into, "SELECT DISTINCT subject_id FROM explanations WHERE level = 'feature' ORDER BY 1")
    assert chosen == sorted(rows(into, expected))


def test_other_nights_are_kept_and_compared(
    tmp_path: Path, small_hospital: Any, night: Night, rows: Rows, as_of_us: int
) -> None:
    warehouse, into = small_hospital.write("w.duckdb"), tmp_path / "scores.duckdb"
    night(warehouse, into)
    salt = rows(into, "SELECT secret FROM secrets")
    before = rows(into, CONTENT)
    second = night(warehouse, into, as_of=as_of_us + 86_400_000_000)
    assert rows(into, "SELECT count(*) FROM runs") == [(2,)]
    assert rows(into, "SELECT secret FROM secrets") == salt
    assert {str(row) for row in before} <= {str(row) for row in rows(into, CONTENT)}
    assert rows(into, "SELECT DISTINCT run_id FROM latest_risk_scores") == [(second.ledger["run_id"],)]
    assert len(rows(into, "SELECT DISTINCT subject_id, pseudonym FROM pseudonyms")) == 64
    changes = rows(into, "SELECT count(*), max(abs(change_points)) FROM risk_changes")[0]
    assert changes[0] == second.ledger["risk_rows"]
    assert 0 < changes[1] < 20
    night(warehouse, into)  # an older night scored again does not become the latest
    assert rows(into, "SELECT DISTINCT run_id FROM latest_risk_scores") == [(second.ledger["run_id"],)]


def test_views_answer(tmp_path: Path, small_hospital: Any, night: Night, rows: Rows) -> None:
    into = tmp_path / "scores.duckdb"
    summary = night(small_hospital.write("w.duckdb"), into)
    assert rows(into, "SELECT count(*) FROM latest_risk_scores") == [(summary.ledger["risk_rows"],)]
    levels = rows(into, "SELECT level, max(reason), count(DISTINCT subject_id) FROM top_reasons GROUP BY 1 ORDER BY 1")
    assert levels == [("feature", 5, 5), ("modality", 3, 56)]
    described = rows(into, "DESCRIBE meds_predictions")
    assert [(row[0], row[1]) for row in described[:8]] == [
        ("subject_id", "BIGINT"),
        ("prediction_time", "TIMESTAMP"),
        ("boolean_value", "BOOLEAN"),
        ("integer_value", "BIGINT"),
        ("float_value", "FLOAT"),
        ("categorical_value", "VARCHAR"),
        ("predicted_boolean_value", "BOOLEAN"),
        ("predicted_boolean_probability", "FLOAT"),
    ]


def test_validity_ends_with_the_window_or_after_thirty_days(
    tmp_path: Path, small_hospital: Any, night: Night, rows: Rows
) -> None:
    into = tmp_path / "scores.duckdb"
    night(small_hospital.write("w.duckdb"), into, explain=0)
    days = rows(into, "SELECT DISTINCT date_diff('day', prediction_time, valid_until) FROM eligibility ORDER BY 1 DESC")
    assert 27 <= days[0][0] < 30, "spread over the thirty days"
    assert len(days) > 20
    unborn = rows(into, "SELECT DISTINCT valid_until::VARCHAR FROM eligibility WHERE subject_id = 198")
    assert unborn == [("2026-01-10 00:00:00",)], "the entry that is already recorded makes it eligible that day"


def test_a_risk_that_is_not_finite_costs_that_subject_alone(
    tmp_path: Path,
    small_hospital: Any,
    night: Night,
    rows: Rows,
    random_bundle: Night,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    from riskpred.model.paths import Evaluator

    bundle, encode = random_bundle(9), Evaluator.encode

    def broken(self: Evaluator, inputs: Any) -> Any:
        sent, age = encode(self, inputs), inputs["tabular"].values[:, 0]
        sent["tabular"].coefficients[:, age == age.max()] = torch.nan
        return sent

    monkeypatch.setattr(Evaluator, "encode", broken)
    into = tmp_path / "scores.duckdb"
    summary = night(small_hospital.write("w.duckdb"), into, bundle=bundle, explain=0)
    lost = rows(into, "SELECT DISTINCT subject_id FROM eligibility WHERE reason = 'non_finite_risk'")
    assert len(lost) == 1
    assert summary.pairs["cancer"] == {"out_of_scope": 3, "rejected": 2, "scored": 59}
    assert rows(into, f"SELECT count(*) FROM risk_scores WHERE subject_id = {lost[0][0]}") == [(0,)]


def test_a_row_of_images_without_a_value_is_a_reject_and_costs_nobody_else(
    tmp_path: Path, small_hospital: Any, night: Night, rows: Rows
) -> None:
    warehouse = small_hospital.write("w.duckdb")
    # Chunks of the same size: on a CUDA device another size may round otherwise.
    whole = night(warehouse, tmp_path / "whole.duckdb", chunk_size=16).ledger
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("CREATE OR REPLACE TABLE images AS FROM images")
        before = connection.execute("SELECT count(*) FROM images").fetchall()[0][0]
        connection.execute(
            "INSERT INTO images (image_id, subject_id, image_type, path) VALUES"
            " ('nobody', NULL, 'DX', 'a.png'), (NULL, 120, 'DX', 'a.png'), ('lost', 121, 'DX', NULL)"
        )
    into = tmp_path / "scores.duckdb"
    ledger = night(warehouse, into, chunk_size=16).ledger
    incomplete = "SELECT * EXCLUDE (run_id) FROM rejects WHERE reason = 'incomplete_row' ORDER BY row_key"
    assert rows(into, incomplete) == [
        ("images", str(before + 2), 120, "incomplete_row", "image_id", "a value"),
        ("images", "lost", 121, "incomplete_row", "path", "a value"),
        ("images", "nobody", None, "incomplete_row", "subject_id", "a value"),
    ]
    counts = ("subjects", "scored_pairs", "rejected_pairs", "risk_rows", "content_digest")
    assert {name: ledger[name] for name in counts} == {name: whole[name] for name in counts}
