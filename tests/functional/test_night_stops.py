"""A night that is stopped or runs short, from the command line: nothing half there, nobody left behind, work kept."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from riskpred.cli import main

PEOPLE = 6000
PARTS = 24
NIGHT = f"part_size: {PEOPLE // PARTS}\nworkers: 2\nexplain: 0\n"
EARLIER = "2018-06-30"


@dataclass(frozen=True)
class Hospital:
    """6,000 people and a bundle that reads no images, so that workers compute.

    published: a scores file with an earlier night.   digest: of tonight's risks, as they should become.
    """

    warehouse: Path
    bundle: Path
    published: Path
    digest: str

    def words(self, folder: Path, *more: str, settings: str = NIGHT) -> list[str]:
        """The command line of a night into folder/scores.duckdb."""
        (folder / "night.yaml").write_text(settings)
        words = ["score", str(self.warehouse), "--model", str(self.bundle), "--into", str(folder / "scores.duckdb")]
        return [*words, "--force", "--rescore", "all", "--config", str(folder / "night.yaml"), *more]


@pytest.fixture(scope="module")
def hospital(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    from riskpred.fit.run import fit

    root = tmp_path_factory.mktemp("stops")
    study, warehouse, bundle = root / "plain", root / "warehouse.duckdb", root / "bundle"
    study.mkdir()
    for path in tiny.study.iterdir():
        lines = path.read_text().splitlines(keepends=True)
        kept = [line for line in lines if path.stem not in ("features", "network") or not line.startswith("  image:")]
        (study / path.name).write_text("".join(kept))
    fit(str(study), tiny.warehouse, bundle, seed=1)
    warehouse.write_bytes(tiny.warehouse.read_bytes())
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute(
            "INSERT INTO events SELECT subject_id + 1000 * k, * EXCLUDE (subject_id, k) "
            "FROM events, range(1, 20) AS r(k) ORDER BY 1, time NULLS FIRST"
        )
    made = Hospital(warehouse, bundle, root / "earlier" / "scores.duckdb", "")
    for name, more in (("earlier", ("--as-of", EARLIER)), ("whole", ())):
        (root / name).mkdir()
        assert main(made.words(root / name, "--workers", "1", *more)) == 0
    return replace(made, digest=_digest(root / "whole" / "scores.duckdb"))


@pytest.fixture
def folder(tmp_path: Path, hospital: Hospital) -> Path:
    """A folder in which an earlier night is published."""
    shutil.copy(hospital.published, tmp_path / "scores.duckdb")
    return tmp_path


def _digest(scores: Path) -> str:
    with duckdb.connect(str(scores), read_only=True) as connection:
        found = connection.execute("SELECT content_digest FROM runs ORDER BY as_of DESC").fetchall()
    return str(found[0][0])


def _finished(folder: Path) -> int:
    return sum(path.suffix != ".tmp" for path in (folder / ".scores.duckdb.parts").glob("risks-*"))


def _until(holds: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What `holds` gives as soon as that is something."""
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)
    return found


def _processes() -> dict[int, tuple[int, str]]:
    """Every process that is no zombie: pid -> (pid of its parent, command line)."""
    found = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                state, parent = (place / "stat").read_text().rpartition(")")[2].split()[:2]
                command = (place / "cmdline").read_text().replace("\0", " ")
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
            if state != "Z":
                found[int(place.name)] = int(parent), command
    return found


def _below(top: int) -> set[int]:
    """Processes that were started by one, and by those."""
    every, found, todo = _processes(), set[int](), [top]
    while todo:
        above = todo.pop()
        for pid, (parent, _) in every.items():
            if parent == above and pid not in found:
                found.add(pid)
                todo.append(pid)
    return found


def _workers(top: int) -> set[int]:
    """Those that compute: children of the fork server."""
    every = _processes()
    return {pid for pid in _below(top) if "forkserver" in every.get(every.get(pid, (0, ""))[0], (0, ""))[1]}


def _hears_ctrl_c(pid: int) -> bool:
    blocked = re.search(r"SigBlk:\s*([0-9a-f]+)", (Path("/proc") / str(pid) / "status").read_text())
    assert blocked
    return not int(blocked[1], 16) & 1 << (signal.SIGINT - 1)


@pytest.fixture
def meanwhile() -> Iterator[Callable[[Callable[[], None]], None]]:
    """meanwhile(act) runs `act` beside what follows, and fails the test when it failed."""
    failed: list[BaseException] = []
    threads: list[threading.Thread] = []

    def start(act: Callable[[], None]) -> None:
        def run() -> None:
            try:
                act()
            except BaseException as error:  # noqa: BLE001  (it is raised below)
                failed.append(error)

        threads.append(threading.Thread(target=run))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join()
    assert not failed, failed


def test_a_killed_night_and_one_after_ctrl_c_leave_nobody_and_the_next_goes_on(
    hospital: Hospital, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = folder / "scores.duckdb"
    before, words = scores.read_bytes(), hospital.words(folder)

    def interrupted(stop: Callable[[int], None], parts: int) -> tuple[int, str]:
        """Exit code and stderr of a night stopped when so many parts are finished; everyone it started must end."""
        command = [sys.executable, "-c", "from riskpred.cli import run; run()", *words]
        with subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True) as night:
            started = _until(lambda: _workers(night.pid) and _below(night.pid))
            assert not [pid for pid in _workers(night.pid) if _hears_ctrl_c(pid)]
            _until(lambda: _finished(folder) >= parts)
            stop(night.pid)
            said = night.communicate(timeout=60)[1]
        _until(lambda: not started & _processes().keys(), 20)
        assert scores.read_bytes() == before
        return night.returncode, said

    # The night's own process alone, as the system does when memory is short.
    code, _ = interrupted(lambda pid: os.kill(pid, signal.SIGKILL), 1)
    assert code == -signal.SIGKILL
    there = _finished(folder)
    assert 1 <= there < PARTS - 1
    # Ctrl-C reaches everyone in front of the terminal.
    code, said = interrupted(lambda pid: os.killpg(pid, signal.SIGINT), there + 2)
    assert code == 130
    kept = _finished(folder)
    assert there + 2 <= kept < PARTS
    assert f"{kept} finished parts are kept: the same night (--as-of 2018-07-01T00:00:00), run again, goes on" in said
    assert said.endswith("riskpred score: stopped by Ctrl-C; nothing was published.\n")
    assert "Traceback" not in said
    capsys.readouterr()
    assert main(words) == 0
    resumed = re.search(r"score: ([0-9,]+) of 6,000 subjects are in finished parts", capsys.readouterr().err)
    assert resumed
    assert int(resumed[1].replace(",", "")) == kept * PEOPLE // PARTS
    assert _digest(scores) == hospital.digest


def test_sigterm_ends_a_night_as_ctrl_c_does(
    hospital: Hospital,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    meanwhile: Callable[[Callable[[], None]], None],
) -> None:
    before = (folder / "scores.duckdb").read_bytes()

    def stop() -> None:
        _until(lambda: _finished(folder))
        os.kill(os.getpid(), signal.SIGTERM)

    late: list[int] = []
    handler = signal.signal(signal.SIGTERM, lambda number, _: late.append(number))
    try:
        meanwhile(stop)
        assert main(hospital.words(folder)) == 143
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert not late, "it came when the night was over"
    said = capsys.readouterr().err
    assert re.search(r"\n[0-9]+ finished parts are kept: ", said)
    assert said.endswith("riskpred score: stopped by SIGTERM; nothing was published.\n")
    assert not _workers(os.getpid())
    assert (folder / "scores.duckdb").read_bytes() == before


@pytest.mark.parametrize("times", [1, 2])
def test_a_worker_that_is_killed_costs_time_and_the_second_one_the_night(
    hospital: Hospital,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    meanwhile: Callable[[Callable[[], None]], None],
    times: int,
) -> None:
    scores = folder / "scores.duckdb"
    before = scores.read_bytes()

    def kill() -> None:
        mine, before = os.getpid(), set[int]()
        _until(lambda: _finished(folder))
        for _ in range(times):  # the second time it is the one that was started in place of both
            there = _until(lambda known=before: _workers(mine) - known)
            before = before | there
            os.kill(min(there), signal.SIGKILL)

    meanwhile(kill)
    code = main(hospital.words(folder))
    said = capsys.readouterr().err
    assert re.search(
        r"a worker process was killed \(out of memory\?\); the [0-9]+ parts left are made one at a time", said
    )
    assert not _workers(os.getpid())
    if times == 1:
        assert code == 0
        assert _digest(scores) == hospital.digest
        return
    assert code == 15
    assert re.search(r"riskpred score: worker processes were killed twice; [0-9]+ of 24 parts are not made", said)
    assert f"{_finished(folder)} finished parts are kept" in said
    assert scores.read_bytes() == before
    assert main(hospital.words(folder, "--workers", "1")) == 0
    assert _digest(scores) == hospital.digest


def test_too_little_memory_is_said_without_a_traceback(
    hospital: Hospital, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (folder / "scores.duckdb").read_bytes()
    settings = NIGHT + "duckdb_memory: 1MB\n"
    assert main(hospital.words(folder, "--workers", "1", settings=settings)) == 15
    said = capsys.readouterr().err
    assert "what DuckDB may hold in memory was too little; nothing was published" in said
    assert "raise duckdb_memory in night.yaml" in said
    assert f"{PARTS} finished parts are kept" in said
    assert "Traceback" not in said
    assert (folder / "scores.duckdb").read_bytes() == before
    assert main(hospital.words(folder, "--workers", "1")) == 0
    assert _digest(folder / "scores.duckdb") == hospital.digest
