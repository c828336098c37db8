"""Bad inputs as a person meets them on the command line: what is said, the exit code, and that nothing half is left.

The others of the nine (missing column, wrong unit, text where a number belongs, unknown YAML key, empty table) stand
in test_ingest_cli.py.
"""

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from riskpred.cli import main

DUCKDB_OPEN = "import duckdb, sys; c = duckdb.connect(sys.argv[1])"
RISKPRED_WRITES = (
    "import sys; from pathlib import Path; from riskpred.records.publish import staged; "
    "block = staged(Path(sys.argv[1])); block.__enter__()"
)


def asked(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def content(folder: Path) -> dict[str, str]:
    """Every file below a folder, with its digest."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def truncate(picture: Path) -> None:
    data = picture.read_bytes()
    picture.write_bytes(data[: len(data) // 2])


@contextmanager
def another_process(program: str, path: Path) -> Iterator[None]:
    """Runs `program` with the path as its argument, and keeps it where it is until the block ends."""
    holding = f"{program}; print('held', flush=True); sys.stdin.readline()"
    with subprocess.Popen(
        [sys.executable, "-c", holding, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            yield
        finally:
            holder.kill()


def test_a_truncated_image_costs_that_image_and_nothing_else(
    tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, warehouse, into = tmp_path / "source", tmp_path / "w.duckdb", tmp_path / "s.duckdb"
    shutil.copytree(tiny.source, source)
    header, *lines = (source / "images.csv").read_text().splitlines()
    only, newest, whole = (line.split(",") for line in lines[:3])
    # The second has an older picture, whole, from some days before.
    shutil.copy(source / "images" / f"{newest[2]}.png", source / "images" / "older.png")
    (source / "images.csv").write_text("\n".join([header, *lines, f"{newest[0]},2018-01-01,older"]) + "\n")
    for _, _, name in (only, newest):
        truncate(source / "images" / f"{name}.png")

    assert main(["ingest", str(tiny.study), "--from", str(source), "--into", str(warehouse)]) == 0
    assert (
        main(["score", str(warehouse), "--model", str(tiny.bundle), "--into", str(into), "--explain", "5", "--force"])
        == 0
    )
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    rejects = "SELECT source, row_key, subject_id, reason, field FROM rejects ORDER BY row_key"
    expected = sorted(("images", name, int(person), "unreadable", "path") for person, _, name in (only, newest))
    assert asked(into, rejects) == expected
    receipts = "SELECT subject_id, status, n FROM input_receipts WHERE modality = 'image' AND subject_id IN (?, ?, ?)"
    people = [int(row[0]) for row in (only, newest, whole)]
    with duckdb.connect(str(into), read_only=True) as scores:
        found = {person: (status, n) for person, status, n in scores.execute(receipts, people).fetchall()}
        risks = scores.execute("SELECT DISTINCT subject_id FROM risk_scores WHERE subject_id IN (?, ?, ?)", people)
        assert {row[0] for row in risks.fetchall()} == set(people), "a risk for each of them"
    assert found == dict(zip(people, [("rejected", 1), ("used", 2), ("used", 1)], strict=True))
    assert asked(into, "SELECT count(*) FROM eligibility WHERE status = 'rejected'") == [(0,)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".s.duckdb.images", "s.duckdb", "source", "w.duckdb"]


def test_one_changed_byte_in_any_file_of_a_bundle_is_exit_12(
    tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny.bundle, bundle)
    # No part of the bundle, and --force helps where it is damaged: tests/unit/score/test_promotion.py.
    (bundle / "evaluation.json").unlink(missing_ok=True)
    names = sorted(path.name for path in bundle.iterdir())
    assert len(names) >= 10
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    scores = [str(tiny.warehouse), "--model", str(bundle), "--into", str(outputs / "scores.duckdb")]
    for name in names:
        whole = (bundle / name).read_bytes()
        # A manifest is judged by its own text: there the byte is the first one.
        at = 0 if name == "manifest.json" else len(whole) // 2
        (bundle / name).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert main(["score", *scores]) == 12, name
        said = capsys.readouterr()
        assert said.out == ""
        assert "Traceback" not in said.err
        assert f"{name}: damaged." in said.err or f"{name}: not the file that was written." in said.err
        assert "do      copy the bundle again, or fit again" in said.err
        assert list(outputs.iterdir()) == []
        (bundle / name).write_bytes(whole)
    assert main(["score", *scores, "--explain", "0", "--force"]) == 0, "whole again"


def test_a_missing_required_feature_is_exit_12(tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    warehouse, into = tmp_path / "w.duckdb", tmp_path / "s.duckdb"
    shutil.copy(tiny.warehouse, warehouse)
    words = ["score", str(warehouse), "--model", str(tiny.bundle), "--into", str(into), "--explain", "0", "--force"]
    assert main(words) == 0
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("DELETE FROM events WHERE code = 'LAB//CHOL'")
    capsys.readouterr()
    before = content(tmp_path)
    assert main(words) == 12
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-4:-2] == [
        f"riskpred score: {warehouse}: 1 required code never recorded: LAB//CHOL.",
        "  wanted  each feature marked `required` in features.yaml at least once",
    ]
    assert "do      ingest the missing data" in said.err
    assert content(tmp_path) == before, "the scores of the night before stay"
    assert main(["fit", str(tiny.study), str(warehouse), "--into", str(tmp_path / "b")]) == 12
    assert "1 required code never recorded: LAB//CHOL." in capsys.readouterr().err
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    ("program", "got"),
    [
        (DUCKDB_OPEN, "another program has it open for writing"),
        (RISKPRED_WRITES, r"another riskpred is writing it: riskpred, process \d+ on .+, since 0 minutes"),
    ],
    ids=["open in duckdb", "written by another night"],
)
def test_scores_locked_by_another_process_is_exit_15(
    tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], program: str, got: str
) -> None:
    into = tmp_path / "s.duckdb"
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
    digest = "SELECT run_id, content_digest FROM runs"
    published = asked(into, digest)
    with another_process(program, into):
        capsys.readouterr()
        before = content(tmp_path)
        assert main(words) == 15
        said = capsys.readouterr()
        assert said.out == ""
        what, wanted, found, do = said.err.splitlines()[-4:]
        assert re.fullmatch(f"  got     {got}", found), found
        assert [what, wanted, do] == [
            f"riskpred score: {into}: locked; nothing was changed.",
            "  wanted  a file that no other program has open for writing",
            "  do      wait for that program or close it, then run again; readers never lock a published file",
        ]
        assert content(tmp_path) == before
    assert main(words) == 0, "a killed holder locks nothing"
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [".s.duckdb.images", "s.duckdb"], "what the killed writer left is cleared"
    assert asked(into, digest) == published
