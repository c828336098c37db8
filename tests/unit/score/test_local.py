"""Worker processes of a night: what they import, and what is said of one that cannot begin."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import riskpred
from riskpred.errors import BundleError
from riskpred.score import local
from riskpred.score.compute import RISKS, Common, Task, tasks_of
from riskpred.score.local import _Team
from riskpred.score.plan import Night
from riskpred.score.worker import Place

IMPORTS = """
import multiprocessing, os, sys
from pathlib import Path
import numpy as np
from riskpred.errors import BundleError
from riskpred.score.compute import RISKS, Common, tasks_of
from riskpred.score.local import _Team
from riskpred.score.plan import Night
from riskpred.score.worker import Place

if __name__ == "__main__":
    place = Place(Path("w"), Path("no bundle"), None, None)
    common = Common(Night("r", 0, 0, "", ""), Path("p"), b"", 0, 1, 1)
    try:
        with _Team(place, common, tasks_of(RISKS, np.arange(4), 2, 0), 2, print) as team:
            team.work(None)
    except BundleError:
        print("PYTHONSAFEPATH" in os.environ)
"""


def test_a_worker_that_cannot_begin_says_why(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It was taken for one that the system had killed."""
    place = Place(tmp_path / "w.duckdb", tmp_path / "no bundle", None, None)
    common = Common(Night("r", 0, 0, "", ""), tmp_path, b"", 0, 1, 1)
    with (
        _Team(place, common, tasks_of(RISKS, np.arange(4), 2, 0), 2, lambda *_: None) as team,
        pytest.raises(BundleError, match="no bundle"),
    ):
        team.work(None)
    assert capfd.readouterr().err == "", "and without a traceback"


def test_workers_import_nothing_from_where_the_night_runs(tmp_path: Path) -> None:
    here, script = tmp_path / "here", tmp_path / "elsewhere" / "night.py"
    for name in ("riskpred", "duckdb"):
        (here / name).mkdir(parents=True)
        (here / name / "__init__.py").write_text(f"open({str(tmp_path / name)!r}, 'w').close(); raise SystemExit(1)")
    script.parent.mkdir()
    script.write_text(IMPORTS)
    ours = {**os.environ, "PYTHONPATH": str(Path(riskpred.__file__).parents[1])}
    run = subprocess.run([sys.executable, str(script)], cwd=here, capture_output=True, text=True, timeout=120, env=ours)
    assert (run.returncode, run.stdout) == (0, "False\n"), run.stderr[-800:]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "here"], "nothing of it was loaded"


@pytest.mark.parametrize(("worth", "starts"), [(0.2, True), (20.0, False)])
def test_others_are_started_when_the_work_left_is_worth_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worth: float, starts: bool
) -> None:
    class Slow:
        """100 parts of two chunks, each 10 ms."""

        def make(self, task: Task) -> Iterator[int]:
            for done in (1, 2):
                time.sleep(0.01)
                yield done

    started: list[int] = []
    monkeypatch.setattr(local, "WORTH_SECONDS", worth)
    monkeypatch.setattr(_Team, "_start", lambda team: started.append(len(team.left)))
    place = Place(tmp_path / "w.duckdb", tmp_path / "b", None, None)
    common = Common(Night("r", 0, 0, "", ""), tmp_path, b"", 0, 1, 1)
    heard: list[tuple[int, bool]] = []
    tasks = tasks_of(RISKS, np.arange(200), 2, 0)
    with _Team(place, common, tasks, 3, lambda *one: heard.append(one)) as team:
        team.work(Slow(), at_once=False)  # type: ignore[arg-type]
    assert sum(done for done, _ in heard) == 200
    assert sum(finished for _, finished in heard) == 100
    if starts:
        assert started[0] > 50, "soon, not when most is done"
    assert bool(started) == starts
