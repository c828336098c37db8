"""Paired differences over shared folds with the Nadeau-Bengio interval, and the single peer that inner folds chose."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from tests.benchmarks.accuracy.methods import PEERS
from tests.benchmarks.accuracy.results import Scores, SetResults
from tests.benchmarks.accuracy.task import Floats


@dataclass(frozen=True)
class Difference:
    """Mean of ours - theirs over J folds with its two-sided 95 % interval; below, above: one-sided 95 % bounds.

    Interval and bounds are NaN for fewer than two folds.
    """

    mean: float
    low: float
    high: float
    below: float
    above: float
    folds: int


def nadeau_bengio(differences: Floats, test_to_train: float) -> Difference:
    """Corrected t interval of a mean over resampled folds, whose training parts overlap.

    Variance of the mean = (1 / J + n_test / n_train) x the sample variance of the J differences, J - 1 degrees.

    Args:
        differences: (J,), one per fold of every repeat.   test_to_train: n_test / n_train.
    Source: Nadeau & Bengio 2003, Mach Learn 52:239-281; for repeated folds Bouckaert & Frank 2004, PAKDD.
    Example:
        >>> found = nadeau_bengio(np.array([0.01, 0.03]), 0.25)
        >>> round(found.mean, 3), round(found.high - found.mean, 4)
        (0.02, 0.1556)
    """
    folds = len(differences)
    mean = float(differences.mean()) if folds else float("nan")
    if folds < 2:
        nothing = float("nan")
        return Difference(mean, nothing, nothing, nothing, nothing, folds)
    error = float(np.sqrt((1.0 / folds + test_to_train) * differences.var(ddof=1)))
    both, one = (float(student.ppf(level, folds - 1)) * error for level in (0.975, 0.95))
    return Difference(mean, mean - both, mean + both, mean - one, mean + one, folds)


def paired(ours: Scores, theirs: Scores, metric: str) -> Difference:
    """Ours - theirs on the folds that both have."""
    return paired_mean([(ours, theirs)], metric)


def paired_mean(pairs: Sequence[tuple[Scores, Scores]], metric: str) -> Difference:
    """The same for a set with several outcomes: the difference of a fold is the mean over its outcomes."""
    shared = [
        key for key in pairs[0][0].by_fold if all(metric in one.by_fold.get(key, {}) for pair in pairs for one in pair)
    ]
    found = [[a.by_fold[key][metric] - b.by_fold[key][metric] for key in shared] for a, b in pairs]
    ratios = [test / train for key in shared for train, test in [pairs[0][0].sizes[key]]]
    return nadeau_bengio(np.mean(found, axis=0) if shared else np.zeros(0), float(np.mean(ratios)) if ratios else 0.0)


def chosen_peers(results: SetResults, outcome: str) -> Mapping[str, str]:
    """ "rank" and "error" -> the single peer with the best mean inner score over all folds of the set.

    No test row enters the choice: inner scores come from three inner folds of each training part, at the settings that
    the peer itself had chosen.
    """
    found: dict[str, str] = {}
    inner = {peer: scores for peer in PEERS if (scores := results.inner(peer, outcome)) is not None}
    ranked = {peer: rank for peer, (rank, _) in inner.items() if np.isfinite(rank)}
    wrong = {peer: error for peer, (_, error) in inner.items() if np.isfinite(error)}
    if ranked:
        found["rank"] = max(ranked, key=lambda peer: ranked[peer])
    if wrong:
        found["error"] = min(wrong, key=lambda peer: wrong[peer])
    return found


def best_peers(scores: Mapping[str, Scores]) -> Mapping[str, str]:
    """ "rank" and "error" -> the peer that turned out best on the test folds: a choice nobody could have made."""
    there = {peer: scores[peer] for peer in PEERS if peer in scores and scores[peer].by_fold}
    if not there:
        return {}
    return {
        "rank": max(there, key=lambda peer: there[peer].mean("rank")),
        "error": min(there, key=lambda peer: there[peer].mean("error")),
    }
