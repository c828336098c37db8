"""Fixtures of the functional tests."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def few_draws() -> Iterator[None]:
    """Intervals of 20 resamples, not 200, which are most of the time of an evaluation; how many there are and what they
    cover is asked in tests/unit/evaluate."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("riskpred.evaluate.intervals.RESAMPLES", 20)
        patch.setattr("riskpred.evaluate.intervals._FEWEST", 20)
        yield
