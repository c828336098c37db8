"""Worker processes of a night: what they import, and what is said of one that cannot begin."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import riskpred
from riskpred.errors import BundleError
from riskpred.score.compute import RISKS, Common, tasks_of
from riskpred.score.local import _in_processes
from riskpred.score.plan import Night
from riskpred.score.worker import Place

IMPORTS = """
import multiprocessing, os, sys
from pathlib import Path
import numpy as np
from riskpred.errors import BundleError
from riskpred.score.compute import RISKS, Common, tasks_of
from riskpred.score.local import _in_processes
from riskpred.score.plan import Night
from riskpred.score.worker import Place

if __name__ == "__main__":
    place = Place(Path("w"), Path("no bundle"), None, None)
    common = Common(Night("r", 0, 0, "", ""), Path("p"), b"", 0, 1, 1)
    try:
        _in_processes(place, common, tasks_of(RISKS, np.arange(4), 2, 0), 2, print)
    except BundleError:
        print("PYTHONSAFEPATH" in os.environ)
"""


def test_a_worker_that_cannot_begin_says_why(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It was taken for one that the system had killed."""
    place = Place(tmp_path / "w.duckdb", tmp_path / "no bundle", None, None)
    common = Common(Night("r", 0, 0, "", ""), tmp_path, b"", 0, 1, 1)
    with pytest.raises(BundleError, match="no bundle"):
        _in_processes(place, common, tasks_of(RISKS, np.arange(4), 2, 0), 2, lambda *_: None)
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
