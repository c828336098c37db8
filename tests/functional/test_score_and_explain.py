"""`riskpred score` and `riskpred explain` from the command line, on the tiny study."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest

from riskpred.cli import main


def _ask(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_a_night_from_the_command_line(tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    into = tmp_path / "scores.duckdb"
    words = [
        "score",
        str(tiny.warehouse),
        "--model",
        str(tiny.bundle),
        "--into",
        str(into),
        "--explain",
        "3",
        "--force",
    ]
    assert main([*words, "--json"]) == 0
    said = capsys.readouterr()
    ledger = json.loads(said.out)
    assert ledger["as_of"] == "2018-07-01T00:00:00", "the warehouse's own moment"
    assert ledger["considered_pairs"] == 3 * 300
    assert ledger["risk_rows"] == _ask(into, "SELECT count(*) FROM latest_risk_scores")[0][0] > 0
    assert ledger["model_card"]
    summary = ledger["summary"]
    assert (summary["computed"], summary["carried"], summary["explained"]) == (300, 0, 3)
    assert summary["pairs"]["stroke"]["scored"] + summary["pairs"]["stroke"]["out_of_scope"] == 300
    assert {"read", "model", "write", "verify"} <= summary["seconds"].keys()
    assert sum(summary["seconds"].values()) > 0 < summary["total_seconds"]
    assert f"{ledger['scored_pairs']:,} scored and 0 carried of {ledger['eligible_pairs']:,} eligible pairs" in said.err
    assert "\n  drift: " in said.err
    assert "\n  bundle tiny " in said.err
    assert _ask(into, "SELECT min(risk) >= 0 AND max(risk) <= 1 FROM risk_scores") == [(True,)]
    worst = "SELECT max(-contribution) FROM explanations WHERE feature = '(unexplained)'"
    assert _ask(into, worst)[0][0] < 0.05
    seen = (
        "SELECT list_contains(scope_flags, 'seen_in_training'), count(DISTINCT subject_id) FROM risk_scores GROUP BY 1"
    )
    flags = dict(_ask(into, seen))
    assert flags[True] > flags[False] > 0, "train and tuning subjects are flagged, held-out ones are not"

    assert main(words) == 0
    table = capsys.readouterr().out
    assert [line.split()[0] for line in table.splitlines()] == ["outcome", "low_mood", "stroke", "tumour"]
    again = _ask(into, "SELECT run_id, content_digest FROM runs")
    assert again == [(ledger["run_id"], ledger["content_digest"])]


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
    tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into = tmp_path / "scores.duckdb"
    words = ["score", str(tiny.warehouse), "--model", str(tiny.bundle), "--into", str(into), "--force", "--dry-run"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "300 subjects; nothing was written" in said
    assert re.search(r"\n  ageing    30 days with nothing new move a risk by [0-9.]+ points", said)
    assert main([*words, "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert (planned["to_compute"], planned["to_carry"]) == (300, 0)
    assert planned["workers"] == 1, "so little work starts no other process"
    assert planned["ageing"] in said
    assert list(tmp_path.iterdir()) == []


def test_what_the_study_warns_of_reaches_the_evaluation_and_the_pages(
    tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    warning = "Invented people: a risk means nothing outside the tests."
    into, report = tmp_path / "scores.duckdb", tmp_path / "report"
    assert (
        main(
            [
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
        )
        == 0
    )
    assert main(["report", str(into), "--into", str(report), "--top", "1"]) == 0
    (page,) = (path for path in report.iterdir() if len(path.stem) == 12)
    assert warning in page.read_text(encoding="utf-8")
    capsys.readouterr()
    assert main(["evaluate", str(tiny.bundle), str(tiny.warehouse), "--split", "out_of_fold"]) == 0
    assert warning in capsys.readouterr().out


def test_explain_adds_one_subject(tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    into = tmp_path / "scores.duckdb"
    common = ["--model", str(tiny.bundle)]
    assert main(["score", str(tiny.warehouse), *common, "--into", str(into), "--explain", "0", "--force"]) == 0
    capsys.readouterr()
    assert main(["explain", str(into), str(tiny.warehouse), *common, "--subject", "7", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["subjects"] == 1
    assert _ask(into, "SELECT DISTINCT subject_id FROM explanations WHERE level = 'feature'") == [(7,)]
    assert main(["explain", str(into), str(tiny.warehouse), *common]) == 2
    assert "exactly one" in capsys.readouterr().err


def test_refusals_have_their_exit_codes_and_leave_nothing(
    tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    warehouse, bundle = str(tiny.warehouse), str(tiny.bundle)
    broken = tmp_path / "broken"
    shutil.copytree(tiny.bundle, broken)
    weights = broken / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    into = str(tmp_path / "scores.duckdb")
    cases = [
        ([str(tmp_path / "none.duckdb"), "--model", bundle, "--into", into], 11, "no such file"),
        ([warehouse, "--model", bundle, "--into", into, "--as-of", "soon"], 2, "ISO 8601"),
        ([warehouse, "--model", bundle, "--into", into, "--image-root", "nowhere"], 11, "no such folder"),
        ([warehouse, "--model", str(broken), "--into", into], 12, "weights.safetensors"),
        ([warehouse, "--model", str(tmp_path), "--into", into], 12, "not a bundle"),
        ([warehouse, "--model", bundle, "--into", str(tmp_path / "no" / "s.duckdb")], 15, "no such folder"),
        ([warehouse, "--model", bundle, "--into", warehouse], 15, "warehouse itself"),
        ([warehouse, "--model", bundle], 2, "--into"),
    ]
    for words, code, said in cases:
        assert main(["score", *words]) == code, words
        out = capsys.readouterr()
        assert said in out.err
        assert out.out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken"]


def test_someone_without_any_input_is_exit_14(tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    warehouse, into = tmp_path / "w.duckdb", tmp_path / "scores.duckdb"
    shutil.copy(tiny.warehouse, warehouse)
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("DELETE FROM events WHERE subject_id = 9 AND code <> 'ENTRY'")
        connection.execute("DELETE FROM images WHERE subject_id = 9")
    assert (
        main(["score", str(warehouse), "--model", str(tiny.bundle), "--into", str(into), "--explain", "0", "--force"])
        == 14
    )
    said = capsys.readouterr()
    assert "3 of" in said.err
    assert "eligible pairs got no risk" in said.err
    assert "outcome" in said.out, "the night was published, and its table printed"
    why = _ask(into, "SELECT DISTINCT reason FROM eligibility WHERE status = 'rejected'")
    assert why == [("no_usable_input",)]


def test_nothing_of_a_patient_is_said(tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A value, an id or an image name planted in the records appears in no line of output, also after a crash."""
    warehouse, into = tmp_path / "w.duckdb", tmp_path / "scores.duckdb"
    shutil.copy(tiny.warehouse, warehouse)
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("UPDATE events SET text_value = 'Erika Mustermann' WHERE code = 'MEDS_BIRTH'")
        connection.execute("UPDATE events SET numeric_value = 7.77 WHERE code = 'LAB//CHOL'")
        connection.execute("UPDATE images SET path = 'images/erika.png', image_id = 'erika' || image_id")
    words = ["score", str(warehouse), "--model", str(tiny.bundle), "--into", str(into), "--explain", "2", "--force"]
    assert main(words) == 0
    with duckdb.connect(str(into)) as connection:
        connection.execute("UPDATE stored.eligibility SET status = 'Mustermann' WHERE subject_id = 5")
    assert main(["explain", str(into), str(warehouse), "--model", str(tiny.bundle), "--subject", "7"]) == 1
    said = capsys.readouterr()
    for secret in ("Mustermann", "7.77", "erika"):
        assert secret not in said.out + said.err
    missing = "SELECT DISTINCT status FROM input_receipts WHERE modality = 'image'"
    assert {row[0] for row in _ask(into, missing)} == {"missing", "rejected"}
    assert _ask(into, "SELECT count(*) > 0, count(DISTINCT reason) FROM rejects") == [(True, 1)]
