"""Scope flags of a night: people planted outside of what the tiny study was fitted on, from warehouse to page."""

import re
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest

from riskpred.cli import main
from riskpred.model.scope import FLAGS

OLD, LITTLE, ABSURD, BARE, UNKNOWN = 11, 12, 13, 14, 15
PLANT = f"""
UPDATE events SET time = time - INTERVAL 130 YEAR WHERE subject_id = {OLD} AND code = 'MEDS_BIRTH';
DELETE FROM events WHERE subject_id = {LITTLE} AND code NOT IN ('ENTRY', 'MEDS_BIRTH');
UPDATE events SET numeric_value = 45.7 WHERE subject_id = {ABSURD} AND code = 'LAB//CHOL';
INSERT INTO events (subject_id, time, code, numeric_value, unit)
    SELECT {ABSURD}, time + INTERVAL 1 DAY, 'LAB//CHOL', 45.7, 'mmol/L'
    FROM events WHERE subject_id = {ABSURD} AND code = 'ENTRY';
DELETE FROM events WHERE subject_id = {BARE} AND code <> 'ENTRY';
INSERT INTO events (subject_id, time, code, numeric_value, unit)
    SELECT {BARE}, time + INTERVAL 120 DAY, 'VITAL//SBP', 131, 'mm[Hg]'
    FROM events WHERE subject_id = {BARE} AND code = 'ENTRY';
DELETE FROM events WHERE subject_id = {UNKNOWN} AND code = 'MEDS_BIRTH';
DELETE FROM images WHERE subject_id IN ({LITTLE}, {BARE});
"""
PLANTED = (OLD, LITTLE, ABSURD, BARE, UNKNOWN)


def asked(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute(sql).fetchall()


@pytest.fixture(scope="module")
def nights(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Scores as the tiny study is, and with the planted people."""
    folder = tmp_path_factory.mktemp("scope")
    planted = folder / "planted.duckdb"
    shutil.copy(tiny.warehouse, planted)
    with duckdb.connect(str(planted)) as connection:
        connection.execute(PLANT)
    for warehouse, into in ((tiny.warehouse, "before"), (planted, "after")):
        words = ["--model", str(tiny.bundle), "--into", str(folder / f"{into}.duckdb"), "--explain", "0"]
        assert main(["score", str(warehouse), *words, "--image-root", str(tiny.source), "--force"]) == 0
    return folder / "before.duckdb", folder / "after.duckdb"


def flags_of(scores: Path, subject: int) -> set[str]:
    rows = asked(scores, f"SELECT unnest(scope_flags) FROM risk_scores WHERE subject_id = {subject}")
    return {flag for (flag,) in rows}


@pytest.mark.parametrize(
    ("subject", "flag"),
    [
        (OLD, "age_outside_training"),
        (LITTLE, "too_few_inputs"),
        (ABSURD, "unlike_training"),
        (BARE, "availability_unseen"),
        (BARE, "age_unknown"),
        (UNKNOWN, "age_unknown"),
    ],
)
def test_a_planted_person_carries_the_flag_on_every_risk(nights: tuple[Path, Path], subject: int, flag: str) -> None:
    before, after = nights
    assert flag not in flags_of(before, subject)
    carried = f"SELECT DISTINCT list_contains(scope_flags, '{flag}') FROM risk_scores WHERE subject_id = {subject}"
    assert asked(after, carried) == [(True,)]


def test_nothing_changes_for_anybody_else(nights: tuple[Path, Path]) -> None:
    others = (
        "SELECT subject_id, outcome, horizon_years, risk, risk_low, risk_high, percentile, scope_flags "
        f"FROM risk_scores WHERE subject_id NOT IN {PLANTED} ORDER BY ALL"
    )
    before, after = (asked(scores, others) for scores in nights)
    assert len(before) == len(after) > 1000
    for one, other in zip(before, after, strict=True):
        assert other[3:7] == pytest.approx(one[3:7], abs=1e-9)
        assert (*other[:3], other[7]) == (*one[:3], one[7])


def test_few_of_the_people_themselves_are_unlike(nights: tuple[Path, Path]) -> None:
    share = "SELECT avg(list_contains(scope_flags, 'unlike_training')::INT) FROM risk_scores"
    assert asked(nights[0], share)[0][0] < 0.03
    ever = "SELECT count(*) FROM risk_scores WHERE list_contains(scope_flags, 'horizon_beyond_follow_up')"
    assert asked(nights[0], ever) == [(0,)], "everyone was followed for more than four years"


def test_flags_are_names_in_one_order_and_hold_no_value_of_a_patient(nights: tuple[Path, Path]) -> None:
    for (flags,) in asked(nights[1], "SELECT DISTINCT scope_flags FROM risk_scores"):
        assert flags == [flag for flag in FLAGS if flag in flags]
        assert all(re.fullmatch("[a-z_]+", flag) for flag in flags)


def test_the_same_night_by_other_chunks_has_the_same_flags(
    tiny: Any, nights: tuple[Path, Path], tmp_path: Path
) -> None:
    from riskpred.config.night import NightConfig
    from riskpred.score.run import score

    score(
        tiny.warehouse,
        tiny.bundle,
        tmp_path / "s.duckdb",
        settings=NightConfig(explain=0),
        force=True,
        batch_size=7,
        chunk_size=31,
    )
    flags = "SELECT subject_id, outcome, horizon_years, scope_flags FROM risk_scores ORDER BY ALL"
    assert asked(tmp_path / "s.duckdb", flags) == asked(nights[0], flags)


def test_score_says_how_many_pairs_carry_which_flag(
    tiny: Any, nights: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into = tmp_path / "s.duckdb"
    words = [
        "--model",
        str(tiny.bundle),
        "--into",
        str(into),
        "--explain",
        "0",
        "--image-root",
        str(tiny.source),
        "--force",
    ]
    assert main(["score", str(tiny.warehouse), *words]) == 0
    said = capsys.readouterr().err
    pairs = asked(
        into,
        "SELECT flag, count(DISTINCT (subject_id, outcome)) FROM (SELECT *, unnest(scope_flags) AS flag "
        "FROM risk_scores) GROUP BY flag",
    )
    (line,) = [line for line in said.splitlines() if "scope_flags" in line]
    assert pairs
    for flag, count in pairs:
        assert f"{flag} {count:,}" in line


def test_the_page_says_it_in_words(nights: tuple[Path, Path], tmp_path: Path) -> None:
    for subject, words in ((OLD, "Older or younger than the people"), (ABSURD, "These records differ")):
        into = tmp_path / str(subject)
        assert main(["report", str(nights[1]), "--into", str(into), "--subject", str(subject)]) == 0
        (page,) = [path for path in into.glob("*.html") if len(path.stem) == 12]
        text = page.read_text(encoding="utf-8")
        assert "Read with care." in text
        assert words in text
