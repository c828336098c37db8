"""Fixtures shared by all tests: where real data are."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Folder of one real data set: $RISKPRED_TEST_DATA/name, else ../shared/data/name; skips where there is none."""
    root = Path(os.environ.get("RISKPRED_TEST_DATA") or REPOSITORY.parent / "shared" / "data")

    def find(name: str) -> Path:
        if not (root / name).is_dir():
            pytest.skip(f"no real data: {name} is not in the real data folder")
        return root / name

    return find
