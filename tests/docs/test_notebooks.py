"""Every notebook runs as written on simulated people, without a warning; none is stored with outputs."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SYNTHETIC = ROOT / "tests" / "unit" / "report" / "synthetic_scores.py"


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = importlib.util.spec_from_file_location("notebook_synthetic_scores", SYNTHETIC)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    write: Callable[..., Path] = module.write_scores
    return write(tmp_path_factory.mktemp("scores") / "scores.duckdb", subjects=60, explained=20)


def _run(notebook: Path, into: Path, scores: Path) -> Any:
    """Execute a copy, in the notebook's own folder, with warnings on."""
    environment = {**os.environ, "RISKPRED_SCORES": str(scores), "PYTHONWARNINGS": "default", "MPLBACKEND": ""}
    environment = {key: value for key, value in environment.items() if value}
    copy = into / notebook.name
    copy.write_bytes(notebook.read_bytes())
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "jupyter", "execute", "--inplace", str(copy)],
        cwd=into, env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return nbformat.read(copy, as_version=4)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_without_outputs(notebook: Path) -> None:
    for cell in nbformat.read(notebook, as_version=4).cells:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None


def test_the_first_night_answers_its_questions(scores: Path, tmp_path: Path) -> None:
    ran = _run(ROOT / "notebooks" / "01_first_night.ipynb", tmp_path, scores)
    outputs = [output for cell in ran.cells if cell.cell_type == "code" for output in cell.outputs]
    said = [output.text for output in outputs if output.output_type == "stream" and output.name == "stderr"]
    assert said == []
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    shown = "\n".join(output.get("data", {}).get("text/plain", "") for output in outputs)
    for expected in ("run-of-21-november", "prevalent", "LAB//HDL", "change_points", "cardiovascular"):
        assert expected in shown
    tables = [output for output in outputs if "text/html" in output.get("data", {})]
    assert len(tables) >= 9


def _outputs(ran: Any) -> tuple[list[Any], str, int]:
    """Outputs of all cells, their plain text, and how many pictures are among them; nothing was said on stderr."""
    outputs = [output for cell in ran.cells if cell.cell_type == "code" for output in cell.outputs]
    assert [output.text for output in outputs if output.output_type == "stream" and output.name == "stderr"] == []
    shown = "\n".join(output.get("data", {}).get("text/plain", "") or output.get("text", "") for output in outputs)
    return outputs, shown, sum("image/png" in output.get("data", {}) for output in outputs)


def test_reasons_of_a_cohort_are_read_from_the_tables_alone(scores: Path, tmp_path: Path) -> None:
    ran = _run(ROOT / "notebooks" / "02_reading_reasons.ipynb", tmp_path, scores)
    _, shown, pictures = _outputs(ran)
    assert pictures == 5, "beeswarm, waterfall, who stands where, groups, moments"
    for expected in ("run-of-21-november", "'people': 20", "largest gap", "aged", "VITAL//SBP"):
        assert expected in shown
    code = "\n".join(cell.source for cell in ran.cells if cell.cell_type == "code")
    assert "torch" not in code
    assert "riskpred" not in code.replace("riskpred-demo", "").replace("riskpred demo", ""), "the tables are enough"


def test_a_model_is_built_from_yaml_and_compared_with_its_peer(scores: Path, tmp_path: Path) -> None:
    _, shown, pictures = _outputs(_run(ROOT / "notebooks" / "03_building_a_model.ipynb", tmp_path, scores))
    assert pictures == 1
    for expected in ("'name': 'my_study'", "riskpred", "spline_cox", "observed over expected", "not provided"):
        assert expected in shown
    assert "LAB//FERRITIN" in shown, "check names the feature that this hospital does not measure"
    assert "An exercise; nobody is treated by it." in shown, "card.yaml stands in the card"
