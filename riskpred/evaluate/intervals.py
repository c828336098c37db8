"""Bootstrap by subject: how far a metric would move with other people of the same kind."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from riskpred.evaluate.censoring import Floats

LEVEL: Final = 0.90
"""Every interval of a metric holds the middle 90 % of its bootstrap values, as risks' intervals do."""

RESAMPLES: Final = 200

_WORK: Final = 2_000_000
_FEWEST: Final = 50


def resamples_for(rows: int) -> int:
    """How many resamples are drawn: 200, fewer (never below 50) where rows x resamples would pass two million."""
    return int(np.clip(_WORK // max(rows, 1), _FEWEST, RESAMPLES))


def resampled_counts(subject_id: NDArray[np.int64], resamples: int, seed: int) -> Iterator[Floats]:
    """How often each row counts in each resample: subjects are drawn with replacement, with all their rows.

    Shape: subject_id (N,); each item (N,). The same seed gives the same resamples, so that models are compared on
    the same people.
    Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap.
    """
    subjects, place = np.unique(subject_id, return_inverse=True)
    generator = np.random.default_rng(seed)
    for _ in range(resamples):
        drawn = generator.integers(0, len(subjects), size=len(subjects))
        yield np.bincount(drawn, minlength=len(subjects)).astype(np.float64)[place]


def interval(values: Floats, centre: float | None = None) -> tuple[float, float] | None:
    """Middle 90 % of bootstrap values; None when more than 5 % of them are undefined (NaN).

    Args: centre: of a distance (0 or more), which noise can only raise: its value on the sample itself. A resample is
        noisier than the sample, so the values are first shifted to have this mean; else the interval may miss it.

    Shape: values (resamples,).
    Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, ch. 10 (bias) and 13 (percentiles).
    """
    there = values[np.isfinite(values)]
    if not len(there) or len(there) < 0.95 * len(values):
        return None
    low, high = np.quantile(there, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    if centre is not None:
        low, high = (max(0.0, bound - float(there.mean()) + centre) for bound in (low, high))
    return float(low), float(high)
