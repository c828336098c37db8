"""The house shows what it does: one-way imports, small rooms, no drawers, nothing at the top that does not belong."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "riskpred"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "_shipped" not in path.parts)
LONGEST = 450  # lines; style.md asks for about 100 to 400
DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc", "base", "tools", "core"}
TOP = {
    "pyproject.toml", "riskpred", "schemas", "configs", "tests", "notebooks", "README.md", "LICENSE", ".gitignore",
    ".ci", "constraints.txt",
}  # fmt: skip


def test_imports_go_one_way() -> None:
    lint = Path(sys.executable).with_name("lint-imports")  # of this environment, whether or not it is on the PATH
    run = subprocess.run([str(lint), "--no-cache"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


def test_contract_covers_every_room() -> None:
    layers = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    rooms = {path.stem if path.is_file() else path.name for path in PACKAGE.iterdir()}
    rooms -= {"__init__", "__pycache__", "py", "_shipped"}
    assert rooms == set(layers["layers"])


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_has_a_purpose_and_a_size(module: Path) -> None:
    text = module.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST
    assert module.stem not in DRAWERS, "a drawer, not a room"
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), "the first line says what the module is for"


def test_top_level_is_what_the_user_fixed() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    ).stdout.splitlines()
    if not listed:
        pytest.skip("not a git checkout")
    assert {name.split("/")[0] for name in listed} <= TOP


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from riskpred.cli import main; main(['--help']);"
        "print(sorted(set(sys.modules) & {'torch','numpy','pandas','polars','duckdb','sklearn','shap','captum'}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


def test_only_evaluate_reads_what_is_true_of_simulated_people() -> None:
    """The demo writes it, `evaluate --truth` reads it; nothing that fits or scores knows it."""
    words = ("true_contributions", "true_findings", "truth.parquet", "with_truth", "true_reasons")
    readers = {str(path.relative_to(PACKAGE)) for path in MODULES if any(word in path.read_text() for word in words)}
    rooms = {"evaluate", "records/simulate", "cli/demo.py", "cli/evaluate.py"}
    assert {name for name in readers if not any(name.startswith(room) for room in rooms)} == set()
    assert "evaluate/true_reasons.py" in readers
