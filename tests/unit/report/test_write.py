"""A report is there whole or not at all, under pseudonyms, and leaves what is not its own."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from riskpred.errors import InputError, OutputError
from riskpred.report.write import write_report

AROUND = {"model.html", "index.html", "index-changed.html", "index-flagged.html"} | {
    f"index-outcome-{number}.html" for number in (1, 2, 3)
}
"""What a report of several people has beside their pages."""


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_one_page_per_explained_subject_named_by_pseudonym(
    tmp_path: Path, scores: Path, ask: Callable[..., Any]
) -> None:
    report = write_report(scores, tmp_path / "new" / "report")
    expected = ask("SELECT DISTINCT pseudonym FROM pseudonyms WHERE subject_id < 910012")
    assert _names(tmp_path / "new" / "report") == {f"{row['pseudonym']}.html" for row in expected} | AROUND
    assert report.pages == 12
    assert report.index.is_file()


def test_everyone_when_nobody_was_explained(tmp_path: Path, write_scores: Callable[..., Path]) -> None:
    path = write_scores(tmp_path / "s.duckdb", subjects=5, explained=0)
    assert write_report(path, tmp_path / "r").pages == 5


def test_top_and_subject(tmp_path: Path, scores: Path) -> None:
    assert write_report(scores, tmp_path / "top", top=3).pages == 3
    assert write_report(scores, tmp_path / "one", subject=910003).pages == 1
    assert len(_names(tmp_path / "one")) == 1 + 2, "index.html and model.html"


def test_an_unknown_subject_is_refused_and_nothing_is_made(tmp_path: Path, scores: Path) -> None:
    with pytest.raises(InputError, match="did not consider this subject") as caught:
        write_report(scores, tmp_path / "r", subject=77_777)
    assert "77777" not in str(caught.value)
    assert not (tmp_path / "r").exists()


def test_a_second_report_replaces_the_first_and_leaves_other_files(tmp_path: Path, scores: Path) -> None:
    into = tmp_path / "r"
    write_report(scores, into)
    (into / "notes.txt").write_text("mine")
    (into / "0123456789ab.html").write_text("<p>not made by us")
    write_report(scores, into, top=2)
    assert len(_names(into)) == 2 + len(AROUND) + 2
    assert {"notes.txt", "0123456789ab.html", "index.html"} <= _names(into)


def test_the_same_scores_give_the_same_bytes(tmp_path: Path, scores: Path) -> None:
    write_report(scores, tmp_path / "a")
    write_report(scores, tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_ctrl_c_leaves_the_old_report(tmp_path: Path, scores: Path) -> None:
    into = tmp_path / "r"
    write_report(scores, into, top=4)
    before = {path.name: path.read_bytes() for path in into.iterdir()}
    seen = []

    def stop(summary: dict[str, Any]) -> None:
        seen.append(summary)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_report(scores, into, each=stop)
    assert {path.name: path.read_bytes() for path in into.iterdir()} == before
    seen.clear()
    with pytest.raises(KeyboardInterrupt):
        write_report(scores, tmp_path / "fresh", each=stop)
    assert not (tmp_path / "fresh").exists()


def test_what_a_killed_report_left_is_removed_by_the_next(tmp_path: Path, scores: Path) -> None:
    into = tmp_path / "r"
    code = (
        "import os, signal, sys; from pathlib import Path; from riskpred.report.write import write_report\n"
        "write_report(Path(sys.argv[1]), Path(sys.argv[2]), each=lambda _: os.kill(os.getpid(), signal.SIGKILL))"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(scores), str(into)], check=False)
    assert killed.returncode == -signal.SIGKILL
    [left] = into.iterdir()
    assert list(left.glob("*.html")), "a page of a patient lies there"
    (into / ".riskpred-report-notes").write_text("a file is not ours")
    running: list[set[str]] = []

    def another(summary: dict[str, Any]) -> None:
        if not running:  # a report that is being made keeps its folder while another one is written
            running.append(_names(into))
            write_report(scores, into, top=2)
            running.append(_names(into))

    write_report(scores, into, top=3, each=another)
    [folder] = running[0] - {".riskpred-report-notes"}
    assert folder.startswith(".riskpred-report-")
    assert folder != left.name
    assert folder in running[1]
    assert {name for name in _names(into) if name.startswith(".")} == {".riskpred-report-notes"}


def test_a_target_that_cannot_be_written(tmp_path: Path, scores: Path) -> None:
    (tmp_path / "file").write_text("x")
    for into in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError):
            write_report(scores, into)
    assert (tmp_path / "file").read_text() == "x"


def test_the_report_loads_no_torch() -> None:
    code = "import sys, riskpred.report.write as _; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
