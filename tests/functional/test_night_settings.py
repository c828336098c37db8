"""`riskpred score --config night.yaml`: settings, log and metrics file through the command line."""

import json
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest

from riskpred.cli import main

PERSON, VALUE, NAME = 424_242_424, 777.125, "Smith-John"


@pytest.fixture
def folder(tiny: Any, tmp_path: Path) -> Path:
    """A warehouse with one planted person of recognisable values, and settings beside it."""
    warehouse = tmp_path / "w.duckdb"
    shutil.copy(tiny.warehouse, warehouse)
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute(
            "INSERT INTO events (subject_id, time, code, numeric_value, text_value, unit) VALUES "
            f"({PERSON}, '2018-01-02', 'ENTRY', NULL, NULL, NULL),"
            f" ({PERSON}, '2018-02-02', 'LAB//CHOL', {VALUE}, '{NAME}', 'mmol/L')"
        )
        connection.execute(
            "INSERT INTO images (image_id, subject_id, time, image_type, path, sha256)"
            f" VALUES ('{NAME}', {PERSON}, '2018-02-02', 'DX', '{NAME}.png', NULL)"
        )
    (tmp_path / "night.yaml").write_text("explain: 3\nlogs: {log_file: night.jsonl, metrics_file: night.prom}\n")
    return tmp_path


def _words(tiny: Any, folder: Path, *more: str) -> list[str]:
    words = [str(folder / "w.duckdb"), "--model", str(tiny.bundle), "--into", str(folder / "s.duckdb")]
    return ["score", *words, "--image-root", str(tiny.source), "--config", str(folder / "night.yaml"), *more]


def test_log_and_metrics_tell_of_a_night_and_never_of_a_patient(
    tiny: Any, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_words(tiny, folder, "--force", "--json")) == 0
    said = capsys.readouterr()
    ledger = json.loads(said.out)
    lines = [json.loads(line) for line in (folder / "night.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["night_planned", "part_done", "part_done", "gate", "published"]
    assert (lines[0]["engine"], lines[0]["workers"] > 0) == ("local", True)
    assert lines[-1]["scored_pairs"] == ledger["scored_pairs"] > 0
    assert lines[-1]["rejects"] == {"file_missing": 1}
    assert {line["run_id"] for line in lines} == {ledger["run_id"]}
    metrics = (folder / "night.prom").read_text()
    assert 'riskpred_night_status{scores="s.duckdb",status="published"} 1' in metrics
    assert 'riskpred_night_rejects{scores="s.duckdb",reason="file_missing"} 1' in metrics
    for told in (said.err, json.dumps(lines), metrics):
        for secret in (str(PERSON), str(VALUE), NAME):
            assert secret not in told
    with duckdb.connect(str(folder / "s.duckdb"), read_only=True) as scores:
        told = scores.execute("SELECT count(DISTINCT subject_id) FROM explanations WHERE level = 'feature'").fetchall()
    assert told == [(3,)], "explain of the file, not the default"


def test_a_refused_and_a_failed_night_are_told_and_keep_the_last_success(
    tiny: Any, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_words(tiny, folder, "--force")) == 0
    success = [line for line in (folder / "night.prom").read_text().splitlines() if "last_success" in line]
    settings = folder / "night.yaml"
    settings.write_text(settings.read_text() + "gates: {max_rejected_share: 0.0}\n")
    with duckdb.connect(str(folder / "w.duckdb")) as connection:
        connection.execute(f"INSERT INTO events (subject_id, time, code) VALUES ({PERSON + 1}, '2018-01-02', 'ENTRY')")
        # Age is known of everyone else: this one has nothing at all.
    assert main(_words(tiny, folder, "--force", "--rescore", "all")) == 13
    lines = [json.loads(line)["event"] for line in (folder / "night.jsonl").read_text().splitlines()]
    assert lines[-2:] == ["gate", "refused"]
    metrics = (folder / "night.prom").read_text()
    assert 'status="refused"} 1' in metrics
    assert 'riskpred_night_exit_code{scores="s.duckdb"} 13' in metrics
    assert [line for line in metrics.splitlines() if "last_success" in line] == success
    assert main(_words(tiny, folder)) == 12
    assert json.loads((folder / "night.jsonl").read_text().splitlines()[-1])["error"] == "BundleError"
    capsys.readouterr()


def test_an_unknown_setting_is_exit_10_and_a_dry_run_writes_nothing(
    tiny: Any, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path.name for path in folder.iterdir())
    assert main(_words(tiny, folder, "--force", "--dry-run", "--json")) == 0
    planned = json.loads(capsys.readouterr().out)
    assert (planned["to_compute"], planned["to_carry"], planned["subjects"]) == (301, 0, 301)
    assert planned["model_seconds"] > 0
    assert sorted(path.name for path in folder.iterdir()) == before
    (folder / "night.yaml").write_text("explian: 3\n")
    assert main(_words(tiny, folder, "--force")) == 10
    assert "explian" in capsys.readouterr().err
