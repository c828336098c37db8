"""What all peers share in choosing their settings: inner folds, the scores that compare peers, the last touches."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from riskpred.evaluate.calibration import intercept_and_slope
from riskpred.evaluate.censoring import Undefined
from tests.benchmarks.accuracy.peers.problem import INNER_FOLDS, Problem, inner_folds, problems
from tests.benchmarks.accuracy.rows import View, views
from tests.benchmarks.accuracy.scores import Weighted, error_score, observed, rank_score, rising
from tests.benchmarks.accuracy.task import ALL_INPUTS, Floats, Inner, Result, Task


@dataclass(frozen=True)
class Solved:
    """risk: (m, H) of the test rows. left_out: (n, H) of the training rows, each by a fit on the other inner folds."""

    risk: Floats
    left_out: Floats
    settings: Mapping[str, Any] = field(default_factory=dict)


def per_outcome(task: Task, solve: Callable[[Problem], Solved]) -> Result:
    """Solve each outcome by itself and put the risks together; risks never fall with the horizon."""
    risks, scores, settings = [], {}, {}
    for problem, inside in problems(task):
        solved = solve(problem)
        risks.append(rising(solved.risk))
        left_out = np.zeros((len(inside), solved.left_out.shape[1]))
        left_out[inside] = rising(solved.left_out)
        view = next(one for one in views(task.config.outcomes, task.train) if one.outcome == problem.view.outcome)
        scores[problem.view.outcome] = inner_scores(left_out, view, inner_folds(task.train, task.seed))
        settings[problem.view.outcome] = dict(solved.settings)
    return Result({ALL_INPUTS: np.concatenate(risks, axis=1)}, inner=scores, settings=settings)


def inner_scores(left_out: Floats, view: View, inner: NDArray[np.int64]) -> Inner:
    """Rank and error of inner out-of-fold risks: means over the inner folds; NaN where none is defined.

    Shape: left_out (N, H) of all training rows; view, inner (N,).
    """
    ranks, errors = [], []
    seen = observed(view)
    for k in range(INNER_FOLDS):
        here = np.flatnonzero(inner == k)
        try:
            ranks.append(rank_score(left_out[here], view.take(here), seen))
            errors.append(error_score(left_out[here], view.take(here), seen))
        except Undefined:
            continue
    return Inner(float(np.mean(ranks)) if ranks else np.nan, float(np.mean(errors)) if errors else np.nan)


def log_loss(risk: Floats, answer: Weighted, rows: NDArray[np.bool_]) -> float:
    """Weighted log loss over some rows: the criterion of the methods that predict one horizon. Shape: (n,) each."""
    inside = rows & (answer.weight > 0)
    p, y, w = np.clip(risk[inside], 1e-6, 1 - 1e-6), answer.outcome[inside], answer.weight[inside]
    return float(-np.sum(w * (y * np.log(p) + (1 - y) * np.log1p(-p))) / max(w.sum(), 1e-9))


def share(answer: Weighted, rows: NDArray[np.bool_]) -> float:
    """Weighted share with the outcome, half a person from 0 and 1: the risk where nothing can be fitted."""
    inside = rows & (answer.weight > 0)
    return float(((answer.weight * answer.outcome)[inside].sum() + 0.5) / (answer.weight[inside].sum() + 1.0))


@dataclass(frozen=True)
class Recalibration:
    """Per horizon (a, b) of cloglog(p) = a + b cloglog(risk), fitted on risks that were left out."""

    lines: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, left_out: Floats, problem: Problem) -> "Recalibration":
        """The identity where there are fewer than 30 outcomes or no rising line.

        Source: Cox 1958, Biometrika 45:562-565; on the complementary log-log scale as `riskpred evaluate`.
        """
        lines = []
        everyone = np.ones(len(left_out), np.bool_)
        for h, answer in enumerate(problem.answers):
            line = (0.0, 1.0)
            if problem.events(everyone, h) >= 30:
                inside = answer.weight > 0
                risk = np.clip(left_out[inside, h], 1e-5, 1 - 1e-5)
                try:
                    found = intercept_and_slope(risk, answer.outcome[inside], answer.weight[inside])
                    line = found if found[1] > 0.1 else line
                except Undefined:
                    pass
            lines.append(line)
        return cls(tuple(lines))

    def __call__(self, risk: Floats) -> Floats:
        """Shape: (n, H) -> the same."""
        scale = np.log(-np.log1p(-np.clip(risk, 1e-5, 1 - 1e-5)))
        a, b = np.array(self.lines).T
        return np.asarray(-np.expm1(-np.exp(np.clip(a + b * scale, -30.0, 3.0))), dtype=np.float64)


class Staged(Protocol):
    """A fit on two thirds of the training part. curve: (R,) loss on the rest after 1, 2, ... R rounds (R = 1: none)."""

    @property
    def curve(self) -> Floats: ...

    def predict(self, rows: NDArray[np.bool_], rounds: int) -> Floats:
        """Of the training rows of a mask, with so many rounds at most. Shape: (rows,) or (rows, H)."""
        ...


Candidate = TypeVar("Candidate")


@dataclass(frozen=True)
class Choice(Generic[Candidate]):
    """The settings with the least mean loss over the inner folds, and the rounds at which it is reached.

    left_out: (n,) or (n, H), each training row as predicted by the inner fit that never saw it, with those rounds.
    """

    candidate: Candidate
    rounds: int
    loss: float
    left_out: Floats


def choose(
    candidates: Iterable[Candidate],
    fitted: Callable[[Candidate, NDArray[np.bool_], NDArray[np.bool_]], Staged],
    problem: Problem,
) -> Choice[Candidate]:
    """Best of the candidates; rounds come from the mean curve, so that no fold picks its own.

    Args:
        fitted: (candidate, rows to fit on, rows to score) -> a fit.
    """
    best: Choice[Candidate] | None = None
    for candidate in candidates:
        stages = [fitted(candidate, fits, scores) for fits, scores in problem.parts()]
        length = min(len(stage.curve) for stage in stages)
        curve = np.mean([stage.curve[:length] for stage in stages], axis=0)
        at = int(np.argmin(curve))
        if best is not None and curve[at] >= best.loss:
            continue
        parts = [stage.predict(scores, at + 1) for stage, (_, scores) in zip(stages, problem.parts(), strict=True)]
        left_out = np.zeros((len(problem.train), *parts[0].shape[1:]))
        for (_, scores), part in zip(problem.parts(), parts, strict=True):
            left_out[scores] = part
        best = Choice(candidate, at + 1, float(curve[at]), left_out)
    assert best is not None, "there is at least one candidate"
    return best
