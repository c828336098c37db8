"""Reasons added later: the same rows as on the night itself, only where the inputs are still the same."""

import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from riskpred.errors import BundleError, InputError, RiskpredError
from riskpred.score.explain_run import explain

Night = Callable[..., Any]
Rows = Callable[..., list[tuple[Any, ...]]]

FEATURES = "SELECT * FROM explanations WHERE level <> 'modality' ORDER BY ALL"
EVIDENCE = "SELECT * FROM evidence ORDER BY ALL"


def test_later_reasons_are_those_of_the_night(tmp_path: Path, small_hospital: Any, night: Night, rows: Rows) -> None:
    warehouse = small_hospital.write("w.duckdb")
    whole, later = tmp_path / "whole.duckdb", tmp_path / "later.duckdb"
    night(warehouse, whole, explain=4)
    night(warehouse, later, explain=0)
    assert rows(later, FEATURES) == []
    risks = rows(later, "SELECT * FROM risk_scores ORDER BY ALL")
    added = explain(later, warehouse, Path("bundle"), top=4)
    assert (added.subjects, added.replaced) == (4, 0)
    assert rows(later, FEATURES) == rows(whole, FEATURES)
    levels = "SELECT DISTINCT level FROM explanations ORDER BY 1"
    assert rows(later, levels) == [("feature",), ("modality",), ("moment",), ("region",)]
    assert rows(later, EVIDENCE) == rows(whole, EVIDENCE)
    assert rows(later, "SELECT * FROM risk_scores ORDER BY ALL") == risks
    assert explain(later, warehouse, Path("bundle"), top=4).replaced == 4
    assert rows(later, FEATURES) == rows(whole, FEATURES), "twice adds nothing"


def test_one_subject_is_added_beside_the_others(tmp_path: Path, small_hospital: Any, night: Night, rows: Rows) -> None:
    warehouse, into = small_hospital.write("w.duckdb"), tmp_path / "scores.duckdb"
    night(warehouse, into, explain=2)
    explained = "SELECT DISTINCT subject_id FROM explanations WHERE level = 'feature' ORDER BY 1"
    before = {row[0] for row in rows(into, explained)}
    other = next(subject for subject in range(101, 161) if subject not in before)
    explain(into, warehouse, Path("bundle"), subject=other)
    assert {row[0] for row in rows(into, explained)} == before | {other}


def test_reasons_added_while_a_night_was_unfinished_are_not_told_twice(
    tmp_path: Path, small_hospital: Any, night: Night, rows: Rows, as_of_us: int
) -> None:
    """Its finished parts hold them, too: whom tonight stands on yesterday's rows had none yet when it was cut off."""

    class CutOff:
        def step(self, stage: str, done: int, total: int | None = None) -> None:
            if stage == "publish":
                raise KeyboardInterrupt

    warehouse, into, whole = small_hospital.write("w.duckdb"), tmp_path / "scores.duckdb", tmp_path / "whole.duckdb"
    night(warehouse, whole, explain=4)
    tonight = {"as_of": as_of_us + 1, "explain": 4, "max_score_age_days": 10_000}
    night(warehouse, into, explain=0, max_score_age_days=10_000)
    with pytest.raises(KeyboardInterrupt):
        night(warehouse, into, progress=CutOff(), **tonight)
    explain(into, warehouse, Path("bundle"), top=2)
    done = night(warehouse, into, **tonight)
    assert (done.computed, done.explained) == (0, 4)
    assert any("were removed: they are of other subjects" in note for note in done.notes)
    (of_whole,) = rows(whole, "SELECT run_id FROM runs")[0]
    for told in (
        "subject_id, outcome, horizon_years, modality, feature FROM explanations "
        "WHERE level = 'feature' AND run_id = '{}' ORDER BY ALL",
        "subject_id, kind, name FROM evidence WHERE run_id = '{}' ORDER BY ALL",
    ):
        found = rows(into, "SELECT " + told.format(done.ledger["run_id"]))
        assert found == rows(whole, "SELECT " + told.format(of_whole))


def test_what_does_not_fit_is_refused_and_changes_nothing(
    tmp_path: Path, small_hospital: Any, night: Night, rows: Rows, random_bundle: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse, into = small_hospital.write("w.duckdb"), tmp_path / "scores.duckdb"
    night(warehouse, into, explain=1)
    before = into.read_bytes()
    more = [*small_hospital.events, (120, datetime(2030, 1, 1), "SBP", 140.0, None)]
    changed = small_hospital.write("changed.duckdb", events=more)
    gone = small_hospital.write("gone.duckdb", events=[event for event in small_hospital.events if event[0] != 120])

    def refused(kind: type[RiskpredError], said: str, **asked: Any) -> None:
        with pytest.raises(kind, match=said):
            explain(asked.pop("scores", into), asked.pop("warehouse", warehouse), Path("bundle"), **asked)
        assert into.read_bytes() == before
        assert [path.name for path in tmp_path.iterdir()] == ["scores.duckdb"]

    refused(InputError, "changed since", warehouse=changed, subject=120)
    refused(InputError, "changed since", warehouse=gone, subject=120)
    refused(InputError, "no risk of the subject", subject=198)
    refused(InputError, "no such file", scores=tmp_path / "none.duckdb", subject=120)
    monkeypatch.setattr("riskpred.score.explain_run.load_bundle", lambda _: random_bundle(2))
    refused(BundleError, "not the bundle of the run", subject=120)


DIES = """
import os, sys
from pathlib import Path
from riskpred.records.publish import locked
with locked(Path(sys.argv[1]), "riskpred score"):
    os._exit(9)
"""


def test_a_dead_owner_of_the_lock_is_named(tmp_path: Path, small_hospital: Any, night: Night) -> None:
    warehouse, into = small_hospital.write("w.duckdb"), tmp_path / "scores.duckdb"
    night(warehouse, into, explain=0)
    said: list[str] = []
    explain(into, warehouse, Path("bundle"), top=1, say=said.append)
    assert said == []
    with subprocess.Popen([sys.executable, "-c", DIES, str(into)]) as owner:
        owner.wait()
    explain(into, warehouse, Path("bundle"), top=1, say=said.append)
    (told,) = said
    assert told.startswith(f"{into}: lock taken over from riskpred score, process {owner.pid} on ")
    with subprocess.Popen([sys.executable, "-c", DIES, str(into)]) as owner:
        owner.wait()
    (later,) = (note for note in night(warehouse, into, explain=0).notes if "lock" in note)
    assert later == told.replace(*(str(pid) for pid in (pid_of(told), owner.pid))), "a night says the same"


def pid_of(told: str) -> int:
    return int(told.split("process ")[1].split()[0])
