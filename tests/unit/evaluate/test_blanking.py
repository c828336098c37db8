"""A blanking window: who is left, what their risk is then, and that true risks stay calibrated."""

from dataclasses import replace

import numpy as np
import pytest

from riskpred.evaluate.blanking import WINDOWS, beyond, conditional_risk, people_at
from riskpred.evaluate.brier import brier
from riskpred.evaluate.calibration import citl, ici, slope
from riskpred.evaluate.censoring import at_horizon
from riskpred.evaluate.measure import People, measure
from riskpred.evaluate.metrics import metrics, people_of

YEAR = 365.25


def cohort_of(size=30_000, seed=2):
    """Constant rates of the outcome and of death, both higher in the same people; exact risks at 1 and 5 years."""
    generator = np.random.default_rng(seed)
    score = generator.normal(0.0, 0.7, size)
    own, death = np.exp(score - 2.8), np.exp(0.7 * score - 3.2)
    leave = generator.exponential(20.0, size)
    event = generator.exponential(1.0, size) / (own + death)
    which = np.where(generator.random(size) < own / (own + death), 1, 2)
    status = np.where(event <= leave, which, 0).astype(np.int8)
    people = People((1.0, 5.0), False, np.arange(size), np.minimum(event, leave) * YEAR, status)

    def by(years):
        return own / (own + death) * -np.expm1(-years * (own + death))

    return people, np.stack([by(1.0), by(5.0)], axis=1), by


def test_who_is_left_is_free_alive_and_observed_at_the_windows_end():
    people = People((1.0,), False, np.arange(5), np.array([10.0, 90.0, 91.0, 400.0, 50.0]), np.array([1, 1, 1, 0, 0]))
    assert beyond(people, 90).tolist() == [2, 3]
    assert beyond(people, 0).tolist() == [0, 1, 2, 3, 4]
    left = people_at(people, beyond(people, 90), 90)
    assert left.time_days.tolist() == [91.0, 400.0]
    assert left.from_days == 90.0
    assert people_at(people, beyond(people, 365), 365).too_few(1.0) == "the blanking window reaches the horizon"


@pytest.mark.parametrize("window", [90, 365])
def test_exact_risks_give_the_exact_risk_at_the_windows_end(window):
    people, risk, by = cohort_of()
    found = conditional_risk(people, risk, window)
    # With constant rates the risk over the rest, given free and alive then, is that of a shorter time from the start.
    wanted = by(5.0 - window / YEAR)
    assert np.abs(found[:, 1] - wanted).mean() < 0.005
    # The few whose risk of dying first is far from that of their neighbours in rank are further off.
    assert np.quantile(np.abs(found[:, 1] - wanted), 0.99) < 0.05


@pytest.mark.parametrize("window", [90, 365])
def test_exact_risks_stay_calibrated_and_unconditional_ones_do_not(window):
    people, risk, _ = cohort_of()
    rows = beyond(people, window)
    left = people_at(people, rows, window)
    outcome, weight = at_horizon(left.time_days, left.status, 5 * YEAR)
    right, plain = conditional_risk(people, risk, window)[rows, 1], risk[rows, 1]
    assert citl(right, outcome, weight) == pytest.approx(0.0, abs=0.06)
    assert slope(right, outcome, weight) == pytest.approx(1.0, abs=0.06)
    assert ici(right, outcome, weight) < ici(plain, outcome, weight)
    assert brier(right, outcome, weight) <= brier(plain, outcome, weight)
    assert citl(plain, outcome, weight) < citl(right, outcome, weight)


def test_a_horizon_within_the_window_has_no_risk_and_a_models_own_window_changes_nothing():
    people, risk, _ = cohort_of(2_000)
    assert np.isnan(conditional_risk(people, risk, 366)[:, 0]).all()
    assert conditional_risk(replace(people, from_days=90.0), risk, 90) is risk
    assert conditional_risk(people, risk, 0) is risk


def test_the_integral_of_the_brier_score_begins_at_the_windows_end():
    people, risk, _ = cohort_of(3_000)
    rows = beyond(people, 90)
    left = people_at(people, rows, 90)
    found = measure(left, {"m": risk[None, rows]}, 3, 1, only=frozenset({"ibs", "brier"}))
    first, last = found["m", 0, "brier"].value, found["m", 1, "brier"].value
    start = 90 / YEAR
    area = (1 - start) * first / 2 + 4 * (first + last) / 2
    assert found["m", 1, "ibs"].value == pytest.approx(area / (5 - start))


def test_the_table_has_rows_for_every_window_and_everyone_only(made_up):
    rows = metrics(made_up(900), resamples=5)
    other = [row for row in rows if row["blanking_days"]]
    assert {row["blanking_days"] for row in other} == set(WINDOWS) - {0}
    assert {row["subgroup"] for row in other} == {None}
    assert {row["outcome"] for row in other} == {"heart"}
    assert {row["metric"] for row in other} == {"uno_c", "auc", "ibs", "brier", "ici"}
    assert {row["model"] for row in other} == {"riskpred", "spline_cox", "riskpred - spline_cox"}
    counts = {row["blanking_days"]: row["n"] for row in other if row["horizon_years"] == 5.0}
    assert 900 > counts[90] > counts[365]
    early = [row for row in other if row["blanking_days"] == 365 and row["horizon_years"] == 1.0]
    assert {row["reason"] for row in early} == {"the blanking window reaches the horizon"}


def test_the_studys_own_window_is_that_of_every_row_but_those_on_the_sensitivity(made_up):
    evaluated = replace(made_up(900), blanking_days={"heart": 90})
    _, people, _ = people_of(evaluated, "heart", np.ones(900, dtype=bool))
    assert people.time_days.min() > 90
    rows = [row for row in metrics(evaluated, resamples=5) if row["outcome"] == "heart"]
    assert {row["blanking_days"] for row in rows if row["subgroup"]} == {90}
    plain = [row for row in rows if row["blanking_days"] == 0]
    assert {row["n"] for row in plain} == {900}
    assert {row["metric"] for row in plain} == {"uno_c", "auc", "ibs", "brier", "ici"}
    # What a bundle keeps of its own people holds nobody whose follow-up ended within its window.
    kept = replace(
        evaluated, prediction_time=None, status={**evaluated.status, "heart": evaluated.status["heart"].copy()}
    )
    kept.status["heart"][evaluated.time_days["heart"] <= 90] = -1
    assert {row["blanking_days"] for row in metrics(kept, resamples=5) if row["outcome"] == "heart"} == {90, 365}
