"""A classifier per horizon with IPCW weights: what the boosted and the logistic peers share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.accuracy.peers.problem import INNER_FOLDS, Problem
from tests.benchmarks.accuracy.peers.tuning import Solved, Staged, choose, share
from tests.benchmarks.accuracy.task import Floats

ROUNDS: Final = 800
"""Most rounds of boosting."""

PATIENCE: Final = 50
"""Rounds without a better loss after which an inner fit stops."""

_FEWEST: Final = 2 * INNER_FOLDS
"""Outcomes (and others) below which a horizon gets its share alone: an inner fold may hold none."""

Candidate = TypeVar("Candidate")
Given = TypeVar("Given", contravariant=True)


@dataclass(frozen=True)
class Labelled:
    """Training rows whose answer at one horizon is known. place: (k,) in the problem; outcome 0 or 1, weight (k,)."""

    place: NDArray[np.int64]
    outcome: Floats
    weight: Floats


class Classifier(Protocol[Given]):
    """A library's classifier on this problem's features."""

    def stage(self, candidate: Given, fits: Labelled, stops: Labelled) -> Staged:
        """Fit, and stop early on `stops` where the method has rounds."""
        ...

    def final(self, candidate: Given, fits: Labelled, rounds: int) -> Floats:
        """Fit with so many rounds; the risks of the test rows. Shape: (m,)."""
        ...


def solve(problem: Problem, candidates: Sequence[Candidate], classifier: Classifier[Candidate]) -> Solved:
    """Settings are chosen at the last horizon, rounds at each. A competing event is a known "no" with its weight."""
    horizons = len(problem.view.horizons_years)
    risk = np.zeros((len(problem.test), horizons))
    left_out = np.zeros((len(problem.train), horizons))
    everyone = np.ones(len(problem.train), np.bool_)
    asked, rounds = list(candidates), []
    for h in reversed(range(horizons)):
        events = problem.events(everyone, h)
        known = int((problem.answers[h].weight > 0).sum())
        if min(events, known - events) < _FEWEST:
            risk[:, h] = left_out[:, h] = share(problem.answers[h], everyone)
            continue
        found = choose(asked, _stages(problem, h, classifier), problem)
        asked = [found.candidate]
        rounds.append(found.rounds)
        left_out[:, h] = found.left_out
        risk[:, h] = classifier.final(found.candidate, labelled(problem, h, everyone), found.rounds)
    return Solved(risk, left_out, {"candidate": str(asked[0]), "rounds": rounds[::-1]})


def _stages(
    problem: Problem, h: int, classifier: Classifier[Candidate]
) -> Callable[[Candidate, NDArray[np.bool_], NDArray[np.bool_]], Staged]:
    def fitted(candidate: Candidate, fits: NDArray[np.bool_], scores: NDArray[np.bool_]) -> Staged:
        return classifier.stage(candidate, labelled(problem, h, fits), labelled(problem, h, scores))

    return fitted


def labelled(problem: Problem, h: int, rows: NDArray[np.bool_]) -> Labelled:
    """Rows of a mask whose answer at horizon h is known; weights of mean 1."""
    answer = problem.answers[h]
    place = np.flatnonzero(rows & (answer.weight > 0))
    weight = answer.weight[place]
    return Labelled(place, answer.outcome[place], weight / weight.mean())
