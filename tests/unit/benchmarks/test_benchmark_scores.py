"""Scores equal riskpred's own where training and test rows are the same; what peers share gives what it should."""

import numpy as np
import pytest

from riskpred.evaluate.brier import brier, ibs
from riskpred.evaluate.calibration import intercept_and_slope
from riskpred.evaluate.censoring import aalen_johansen, at_horizon
from riskpred.evaluate.discrimination import uno_c
from tests.benchmarks.accuracy.peers.problem import Features, Problem
from tests.benchmarks.accuracy.peers.tuning import Recalibration, choose
from tests.benchmarks.accuracy.rows import View
from tests.benchmarks.accuracy.scores import by_row, fold_scores, observed, rising, weighted

HORIZONS = (1.0, 2.0, 5.0)


def people(n: int, seed: int, timid: float = 1.0) -> tuple[View, np.ndarray]:
    """n people with an outcome, a competing event and leaving; and their risks, true for `timid` = 1."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=n)
    outcome, competing = draw.exponential(1 / (0.1 * np.exp(x))), draw.exponential(12.0, n)
    leaving = draw.uniform(1.0, 9.0, n)
    time = np.minimum(np.minimum(outcome, competing), leaving)
    status = np.where(time == outcome, 1, np.where(time == competing, 2, 0)).astype(np.int8)
    rate = 0.1 * np.exp(timid * x)
    risk = np.stack([-np.expm1(-rate * h) for h in HORIZONS], axis=1)
    return View("illness", HORIZONS, False, time * 365.25, status), risk


def problem_of(view: View) -> Problem:
    nothing = Features(np.zeros((len(view.status), 0)), ())
    return Problem(nothing, nothing, view, np.arange(len(view.status)) % 3, 1)


def test_scores_equal_riskpreds_own_with_censoring_of_the_same_rows() -> None:
    view, risk = people(800, 1)
    found = fold_scores(risk, view, observed(view))
    days = np.array(HORIZONS) * 365.25
    expected = [brier(risk[:, h], *at_horizon(view.time_days, view.status, days[h])) for h in range(3)]
    assert found["rank"] == pytest.approx(uno_c(risk[:, -1], view.time_days, view.status, days[-1]), abs=1e-12)
    assert found["error"] == pytest.approx(ibs(np.array(expected), np.array(HORIZONS)), abs=1e-12)
    assert found["brier@2"] == pytest.approx(expected[1], abs=1e-12)


def test_weights_of_every_row_come_from_the_folds_it_was_not_in() -> None:
    view, _ = people(600, 2)
    fold = np.arange(600) % 3
    everyone = by_row(fold, view, 2.0)
    test = fold == 1
    own = weighted(view.take(test), 2.0, observed(view.take(~test)))
    assert (everyone.weight[test] == own.weight).all()
    assert (everyone.weight != at_horizon(view.time_days, view.status, 2 * 365.25)[1]).any()


def test_rows_not_at_risk_change_no_score() -> None:
    view, risk = people(300, 3)
    more = View("illness", HORIZONS, False, np.append(view.time_days, 0.0), np.append(view.status, -1).astype(np.int8))
    assert fold_scores(np.vstack([risk, risk[:1]]), more, observed(more)) == fold_scores(risk, view, observed(view))


def test_subdistribution_gives_the_crude_incidence() -> None:
    view, _ = people(20_000, 4)
    time, event = problem_of(view).at_risk
    assert (time >= view.time_days).all()
    assert (event == (view.status == 1)).all()
    one_event = aalen_johansen(time, event.astype(np.int8), np.array([5 * 365.25]))
    crude = aalen_johansen(view.time_days, view.status, np.array([5 * 365.25]))
    assert one_event == pytest.approx(crude, abs=0.006)


def test_recalibration_undoes_risks_that_are_too_timid() -> None:
    view, risk = people(6_000, 5, timid=0.5)
    problem = problem_of(view)
    found = rising(Recalibration.of(risk, problem)(risk))
    for h in range(3):
        answer = problem.answers[h]
        inside = answer.weight > 0
        a, b = intercept_and_slope(found[inside, h], answer.outcome[inside], answer.weight[inside])
        assert a == pytest.approx(0.0, abs=0.05)
        assert b == pytest.approx(1.0, abs=0.05)
    assert (np.diff(found, axis=1) >= 0).all()


class Stage:
    """Predicts the number of rounds; its loss is least at round 1 for the fold it knows, later on the whole."""

    def __init__(self, curve: list[float]) -> None:
        self.curve = np.array(curve)

    def predict(self, rows: np.ndarray, rounds: int) -> np.ndarray:
        return np.full(int(rows.sum()), float(rounds))


def test_rounds_come_from_the_mean_curve_not_from_each_fold() -> None:
    curves = iter([[1.0, 2.0, 2.0, 9.0], [3.0, 1.0, 2.0], [3.0, 1.5, 2.0, 0.0]])
    view, _ = people(30, 6)
    found = choose(["only"], lambda candidate, fits, scores: Stage(next(curves)), problem_of(view))
    assert (found.candidate, found.rounds, found.loss) == ("only", 2, 1.5)
    assert (found.left_out == 2.0).all()
