"""Ridge spline Cox model per cause, as `riskpred fit` keeps it beside its network; logistic where known at once."""

import numpy as np

from riskpred.fit.peer import fit_peer
from tests.benchmarks.accuracy.peers.problem import INNER_FOLDS, inner_folds
from tests.benchmarks.accuracy.peers.tuning import inner_scores
from tests.benchmarks.accuracy.rows import views
from tests.benchmarks.accuracy.task import ALL_INPUTS, Floats, Inner, Result, Task


def fit(task: Task) -> Result:
    """Cause-specific hazards with death competing; the penalty chosen by five folds of the training part."""
    inner = inner_folds(task.train, task.seed)
    left_out = np.zeros((len(task.train), len(task.targets)))
    for k in range(INNER_FOLDS):
        left_out[inner == k] = _risks(task, inner != k, inner == k)
    scores: dict[str, Inner] = {}
    for view in views(task.config.outcomes, task.train):
        own = [q for q, (outcome, _) in enumerate(task.targets) if outcome == view.outcome]
        scores[view.outcome] = inner_scores(left_out[:, own], view, inner)
    peer = fit_peer(
        task.train.batch,
        task.plan,
        task.train.duration_days,
        task.train.cause,
        task.config.outcomes,
        task.seed,
        task.config.network,
        task.train.together,
    )
    return Result({ALL_INPUTS: peer.predict(task.test.batch)}, inner=scores)


def _risks(task: Task, fitted_on: np.ndarray, scored: np.ndarray) -> Floats:
    some, rest = task.train.take(np.flatnonzero(fitted_on)), task.train.take(np.flatnonzero(scored))
    peer = fit_peer(
        some.batch,
        task.plan,
        some.duration_days,
        some.cause,
        task.config.outcomes,
        task.seed,
        task.config.network,
        some.together,
    )
    return peer.predict(rest.batch)
