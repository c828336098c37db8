"""Fixtures of the report tests: a synthetic scores file and a strict reader of pages."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import pytest


def _beside(name: str) -> ModuleType:
    key = f"report_tests_{name}"
    if key not in sys.modules:
        spec = importlib.util.spec_from_file_location(key, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[key] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[key]


@pytest.fixture(scope="session")
def write_scores() -> Callable[..., Path]:
    """`synthetic_scores.write_scores`."""
    return _beside("synthetic_scores").write_scores


@pytest.fixture(scope="session")
def scores(tmp_path_factory: pytest.TempPathFactory, write_scores: Callable[..., Path]) -> Path:
    """A scores file of 24 simulated people, 12 of them explained; tests only read it."""
    return write_scores(tmp_path_factory.mktemp("scores") / "scores.duckdb")


@pytest.fixture(scope="session")
def read_page() -> Callable[[str], Any]:
    """HTML text -> Page."""
    return _beside("html_reader").Page


@pytest.fixture(scope="session")
def ask(scores: Path) -> Callable[..., list[dict[str, Any]]]:
    """SQL over the session's scores file -> rows as dicts."""

    def query(sql: str, *values: object, path: Path = scores) -> list[dict[str, Any]]:
        with duckdb.connect(str(path), read_only=True) as connection:
            cursor = connection.execute(sql, list(values))
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    return query
