"""One person erased from a report: their page and their line of the index; every other page stays as it is."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from riskpred.errors import InputError, OutputError
from riskpred.report.forget import forget_pages, refuse_unlike_report
from riskpred.report.write import write_report


@pytest.fixture(scope="module")
def made(scores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "r"
    write_report(scores, folder, top=5)
    return folder


@pytest.fixture
def report(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "r"))


def _someone(report: Path) -> str:
    return sorted(path.stem for path in report.glob("*.html") if path.stem != "index")[2]


def test_page_and_line_are_gone_and_all_else_is_as_it_was(report: Path) -> None:
    person = _someone(report)
    before = {path.name: path.read_bytes() for path in report.iterdir()}
    (report / f"{person}.pdf").write_bytes(b"printed")
    assert forget_pages(report, {person, "000000000000"}) == 3
    after = {path.name: path.read_bytes() for path in report.iterdir()}
    assert set(after) == set(before) - {f"{person}.html"}
    assert all(after[name] == before[name] for name in after if name != "index.html")
    index = after["index.html"].decode()
    assert person not in index
    assert "<h1>4 people, records up to" in index
    assert "These are the 4 people of highest percentile" in index
    assert index.count('<tr><th scope="row">') == 4


def test_the_index_stays_well_formed(report: Path, read_page: Callable[[str], Any]) -> None:
    forget_pages(report, {_someone(report)})
    read_page((report / "index.html").read_text())  # strict: raises where a tag is not closed


def test_twice_removes_nothing_more(report: Path) -> None:
    person = _someone(report)
    forget_pages(report, {person})
    before = (report / "index.html").read_bytes()
    assert forget_pages(report, {person}) == 0
    assert (report / "index.html").read_bytes() == before


def test_a_report_of_one_person_is_empty_afterwards(scores: Path, tmp_path: Path) -> None:
    write_report(scores, tmp_path / "one", subject=910003)
    person = _one(tmp_path / "one")
    assert forget_pages(tmp_path / "one", {person}) == 2
    assert "<h1>0 people" in (tmp_path / "one" / "index.html").read_text()


def _one(folder: Path) -> str:
    (name,) = (path.stem for path in folder.glob("*.html") if path.stem != "index")
    return name


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path / "absent", tmp_path):
        with pytest.raises(InputError, match="not a report; nothing was changed") as caught:
            refuse_unlike_report(folder)
        assert caught.value.exit_code == 11
    (tmp_path / "index.html").write_text("<h1>mine</h1>")
    with pytest.raises(InputError, match=r"no index\.html of riskpred"):
        refuse_unlike_report(tmp_path)


def test_what_a_killed_report_left_is_removed_and_a_running_one_refused(report: Path) -> None:
    left, running = report / ".riskpred-report-dead", report / ".riskpred-report-live"
    for folder in (left, running):
        folder.mkdir()
        (folder / ".lock").touch()
    lock = os.open(running / ".lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        with pytest.raises(OutputError, match="a report is being made there") as caught:
            refuse_unlike_report(report)
        assert caught.value.exit_code == 15
        assert not left.exists()
        assert running.exists()
    finally:
        os.close(lock)
    refuse_unlike_report(report)
    assert not running.exists()
