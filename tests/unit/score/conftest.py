"""The night run on the small hospital with a bundle of random weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from riskpred.config.night import NightConfig
from riskpred.score.run import NightSummary, score


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
        settings = NightConfig().overridden(**{"explain": 5, "workers": 1, "images": {"cache": False}} | changed)
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
