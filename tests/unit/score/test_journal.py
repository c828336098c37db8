"""The night's log: what a line holds, what it refuses, what it survives, and that no patient's value gets into it."""

import json
import multiprocessing
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from riskpred.errors import BundleError, OutputError
from riskpred.score.journal import EVENTS, Journal, ledger_fields


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_line_is_one_json_object_with_time_event_and_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "night.jsonl"
    with Journal(path) as journal:
        journal("night_planned", subjects=7, to_compute=2, numeric_path="fp32", rescore=False, took_over=None)
        journal.bind("0123456789abcdef")
        journal("part_done", part=1, parts=2, seconds=0.1234567891, rejects={"not_a_number": 3})
        # Flushed line by line: what a killed night did can be read.
        first, second = lines(path)
    assert first.keys() == {"time", "event", "pid", "subjects", "to_compute", "numeric_path", "rescore"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", first["time"])
    assert (first["event"], first["rescore"]) == ("night_planned", False)
    assert second["run_id"] == "0123456789abcdef"
    assert (second["seconds"], second["rejects"]) == (0.123457, {"not_a_number": 3})
    assert capsys.readouterr() == ("", "")


def test_a_later_night_is_appended(tmp_path: Path) -> None:
    path = tmp_path / "night.jsonl"
    for number in (1, 2):
        with Journal(path) as journal:
            journal("note", code="unfinished_parts", count=number)
    assert [line["count"] for line in lines(path)] == [1, 2]


def test_an_error_is_its_class_and_code_never_its_text(tmp_path: Path) -> None:
    path = tmp_path / "night.jsonl"
    with Journal(path) as journal:
        journal.failed(BundleError("Smith has 7.31", got="Smith"), stage="plan")
        journal.failed(duckdb.ConversionException("Could not convert string 'Smith'"))
    assert "Smith" not in path.read_text()
    first, second = lines(path)
    assert (first["error"], first["exit_code"], first["stage"]) == ("BundleError", 12, "plan")
    assert second["error"] == "ConversionException"
    assert "exit_code" not in second


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        ("news", {}),
        ("part_done", {"path": "x"}),
        ("failed", {"error": "Could not convert string 'Smith' to INT32"}),
        ("failed", {"error": "no risk for the subject 4711 of tonight"}),
        ("note", {"code": "Müller"}),
        ("published", {"rejects": {"value 'x' of Smith": 1}}),
        ("note", {"code": "a\nb"}),
        ("note", {"code": "x" * 81}),
    ],
)
def test_what_could_hold_a_value_is_our_bug(tmp_path: Path, event: str, fields: dict[str, Any]) -> None:
    for path in (tmp_path / "night.jsonl", None):  # also where no log is written: tests then find it
        with Journal(path) as journal, pytest.raises(AssertionError) as caught:
            journal(event, **fields)
        assert "Smith" not in str(caught.value)
    assert (tmp_path / "night.jsonl").read_text() == ""


def test_without_a_file_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    with Journal(None) as journal:
        journal.bind("x")
        journal("gate", gate="max_rejected_share", passed=True)
    assert journal.problem is None
    assert capsys.readouterr() == ("", "")


def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent" / "night.jsonl"):
        with pytest.raises(OutputError, match="log file cannot be written") as caught:
            Journal(path)
        assert caught.value.exit_code == 15


def test_a_disk_that_fills_ends_the_log_not_the_night() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    with Journal(Path("/dev/full")) as journal:
        journal("note", code="a")
        journal("note", code="b")
    assert journal.problem == "/dev/full: the log ends early (No space left on device)"


def test_only_its_maker_writes(tmp_path: Path) -> None:
    path = tmp_path / "night.jsonl"
    with Journal(path) as journal:
        worker = multiprocessing.get_context("fork").Process(target=_writes, args=(journal,))
        worker.start()
        worker.join()
        assert worker.exitcode == 3
    assert path.read_text() == ""


def _writes(journal: Journal) -> None:
    import os

    try:
        journal("note", code="from_a_worker")
    except AssertionError:
        os._exit(3)
    os._exit(0)


def test_a_ledger_row_gives_its_counts_and_no_more() -> None:
    row: dict[str, object] = {"subjects": 3, "risk_rows": 9, "model_card": {"x": "y"}, "bundle_name": "small"}
    assert ledger_fields("published", row) == {"subjects": 3, "risk_rows": 9}
    assert {"run_id", "time", "pid", "event", "promotion"}.isdisjoint(set().union(*EVENTS.values()))


def test_no_value_of_a_dirty_night_is_in_its_log(
    tmp_path: Path, small_hospital: Any, night: Callable[..., Any], as_of_us: int
) -> None:
    """A night over planted names, numbers and paths, and all that its tables offer to be logged."""
    start = small_hospital.events[0][1] or next(event[1] for event in small_hospital.events if event[1])
    subject, path = 424_242_424_242, "Smith-John-1951.png"
    planted = [
        (subject, start, "ENTRY", None, None),
        (subject, start + timedelta(days=1), "CHOL", float("nan"), "Smith, John"),
        (subject, start + timedelta(days=2), "SBP", 731.4375, "Smith, John"),
        (subject, start + timedelta(days=3), "HR", float("inf"), None),
    ]
    image = ("Smith-image", subject, start + timedelta(days=4), "DX", path)
    hospital = replace(
        small_hospital, events=[*small_hospital.events, *planted], images=[*small_hospital.images, image]
    )
    into, log = tmp_path / "scores.duckdb", tmp_path / "night.jsonl"
    summary = night(hospital.write("dirty.duckdb"), into)
    with duckdb.connect(str(into), read_only=True) as connection:
        rejects = dict(connection.execute("SELECT reason, count(*) FROM rejects GROUP BY reason").fetchall())
        names = connection.execute("SELECT row_key FROM rejects").fetchall()
    assert ("Smith-image",) in names, "the night must have met the dirty rows"
    with Journal(log) as journal:
        journal("night_planned", **ledger_fields("night_planned", summary.ledger), promoted="forced")
        journal.bind(str(summary.ledger["run_id"]))
        journal(
            "published",
            **ledger_fields("published", summary.ledger) | {"pairs": summary.pairs, "rejects": rejects},
            stages=summary.seconds,
            scope_flags=summary.scope_flags,
        )
        journal.failed(ValueError("Smith, John: 731.4375"))
    text = log.read_text()
    assert lines(log)[1]["rejects"] == rejects
    for value in ("Smith", "John", "731.4", str(subject), path):
        assert value not in text
