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
    return sorted(path.stem for path in report.glob("????????????.html"))[2]


def _index_pages(report: Path) -> list[Path]:
    return sorted(report.glob("index*.html"))


def _counts(page: Any) -> dict[str, int]:
    return {found["data-count"]: int(found["value"]) for tag, found in page.tags if "data-count" in found}


def test_page_and_lines_are_gone_and_all_else_is_as_it_was(report: Path, read_page: Callable[[str], Any]) -> None:
    person = _someone(report)
    before = {path.name: path.read_bytes() for path in report.iterdir()}
    (report / f"{person}.pdf").write_bytes(b"printed")
    orders = _index_pages(report)
    assert len(orders) == 6
    assert forget_pages(report, {person, "000000000000"}) == 2 + len(orders)
    after = {path.name: path.read_bytes() for path in report.iterdir()}
    assert set(after) == set(before) - {f"{person}.html"}
    assert all(after[name] == before[name] for name in after if not name.startswith("index"))
    for path in orders:
        index = after[path.name].decode()
        assert person not in index
        lines = [line for line in before[path.name].decode().splitlines() if line.startswith("<tr data-counts")]
        assert [line for line in index.splitlines() if line.startswith("<tr data-counts")] == [
            line for line in lines if person not in line
        ]
        page = read_page(index)  # strict: raises where a tag is not closed
        shown = [found["data-counts"].split() for tag, found in page.tags if "data-counts" in found]
        counts = _counts(page)
        assert counts["people"] == 4
        assert counts == {name: sum(name in one for one in shown) for name in counts}


def test_what_was_stopped_halfway_is_right_after_another_run(report: Path, read_page: Callable[[str], Any]) -> None:
    person = _someone(report)
    kept = {path.name: path.read_bytes() for path in _index_pages(report)}
    forget_pages(report, {person})
    whole = {path.name: path.read_bytes() for path in _index_pages(report)}
    for name in ("index.html", "index-flagged.html"):  # these had not been written yet, or had been already
        for back in (name, *(other for other in kept if other != name)):
            (report / back).write_bytes(kept[back] if back != name else whole[back])
        assert forget_pages(report, {person}) == len(kept) - 1
        assert {path.name: path.read_bytes() for path in _index_pages(report)} == whole


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
    assert 'data-count="people" value="0">0<' in (tmp_path / "one" / "index.html").read_text()


def _one(folder: Path) -> str:
    (name,) = (path.stem for path in folder.glob("????????????.html"))
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
