"""The night run on the small hospital with a bundle of random weights."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from riskpred.config.night import NightConfig
from riskpred.score.run import NightSummary, score

HERE = {"cache": False, "decode_workers": 0}
"""A night's images are decoded in the test's own process: two processes that load for 30 small files cost more than all
else. tests/unit/imaging/test_decode.py, test_image_cache.py and the nights of tests/functional decode in workers."""


@pytest.fixture(scope="session", autouse=True)
def _what_is_loaded_is_not_collected() -> None:
    """Each night hands back memory, and a collection that looks at all that the tests have loaded takes 0.2 s."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def night(
    monkeypatch: pytest.MonkeyPatch, random_bundle: Callable[[int], Any], as_of_us: int
) -> Callable[..., NightSummary]:
    """night(warehouse, into, seed=1, ...) scores with the random bundle of that seed."""

    def run(warehouse: Path, into: Path, seed: int = 1, **options: Any) -> NightSummary:
        bundle = options.pop("bundle", None) or random_bundle(seed)
        monkeypatch.setattr("riskpred.score.prepare.load_bundle", lambda _: bundle)
        monkeypatch.setattr("riskpred.score.explain_run.load_bundle", lambda _: bundle)
        changed = {name: options.pop(name) for name in list(options) if name in NightConfig.model_fields}
        settings = NightConfig().overridden(**{"explain": 5, "workers": 1, "images": HERE} | changed)
        return score(warehouse, Path("bundle"), into, settings=settings, **{"as_of": as_of_us, "force": True} | options)

    return run


@pytest.fixture
def rows() -> Callable[..., list[tuple[Any, ...]]]:
    """rows(file, sql): what a read-only connection answers."""
    import duckdb

    def ask(path: Path, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(path), read_only=True) as connection:
            return connection.execute(sql).fetchall()

    return ask
