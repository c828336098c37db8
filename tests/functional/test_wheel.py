"""The wheel alone, without the checkout beside it, runs the demo from simulation to report."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PRODUCTS = {"source", "warehouse.duckdb", "bundle", "scores.duckdb", "report", "truth.parquet", "evaluation.html"} | {
    "true_contributions.parquet",
    "true_findings.parquet",
}
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
# As many members, each of fewer passes: what is asked is whether all is there, not how good it is. The demo as it is
# shipped runs in test_demo.py (slow).
SHORTER = {"epochs: 25": "epochs: 2", "patience: 8": "patience: 1"}
DEMO = """
from pathlib import Path
import riskpred
from riskpred.cli import main

assert Path(riskpred.__file__).is_relative_to(Path.cwd()), riskpred.__file__
raise SystemExit(main(["demo", "D", "--subjects", "200"]))
"""


def run(*words: str | Path, **more: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, REPOSITORY)
    (built,) = folder.glob("riskpred-*.whl")
    return built


def test_the_wheel_holds_every_shipped_file_and_no_test(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    for folder in ("schemas", "configs"):
        shipped = {
            f"riskpred/_shipped/{path.relative_to(REPOSITORY)}" for path in (REPOSITORY / folder).rglob("*.yaml")
        }
        assert len(shipped) > 5
        assert shipped <= inside
    modules = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "riskpred").rglob("*.py")}
    assert modules <= inside
    assert {name.split("/")[0].split("-")[0] for name in inside} == {"riskpred"}


def test_the_demo_runs_from_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    run(*PIP, "install", "--no-deps", "--no-index", "--target", tmp_path, wheel)
    network = tmp_path / "riskpred" / "_shipped" / "configs" / "studies" / "hospital" / "network.yaml"
    text = network.read_text()
    for before, after in SHORTER.items():
        assert before in text
        text = text.replace(before, after)
    network.write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    told = run(sys.executable, "-c", DEMO, cwd=tmp_path, env=environment, timeout=240)
    assert "all accounted for" in told.stdout
    assert {path.name for path in (tmp_path / "D").iterdir() if not path.name.startswith(".")} == PRODUCTS
    assert any((tmp_path / "D" / "report").rglob("*.html"))
    assert (tmp_path / "D" / "bundle" / "manifest.json").is_file()
