"""Metrics against values from textbooks, from scikit-learn, and worked out by hand (the working is in each test)."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from riskpred.evaluate.brier import brier, ibs, ipa
from riskpred.evaluate.calibration import citl, intercept_and_slope
from riskpred.evaluate.censoring import aalen_johansen, at_horizon, observation
from riskpred.evaluate.discrimination import auc, harrell_c, uno_c

# Acute myelogenous leukaemia, maintained arm: Miller 1981, Survival Analysis, p. 49; R: survival::aml.
AML_WEEKS = np.array([9, 13, 13, 18, 23, 28, 31, 34, 45, 48, 161], dtype=np.float64)
AML_STATUS = np.array([1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 0], dtype=np.int8)


def test_without_competing_events_the_cumulative_incidence_is_one_minus_kaplan_meier_of_aml():
    # R: summary(survfit(Surv(time, status) ~ 1, aml, subset = x == "Maintained"))$surv
    published = [0.909, 0.818, 0.716, 0.614, 0.491, 0.368, 0.184]
    at = np.array([9.0, 13, 18, 23, 31, 34, 48])
    assert 1 - aalen_johansen(AML_WEEKS, AML_STATUS, at) == pytest.approx(published, abs=5e-4)


def test_staying_under_observation_in_aml():
    # Leaving at 13 (10 at risk, 1 relapse at 13 goes first: 9), at 28 (6), at 45 (3), at 161 (1).
    seen = observation(AML_WEEKS, AML_STATUS)
    after = [8 / 9, 8 / 9 * 5 / 6, 8 / 9 * 5 / 6 * 2 / 3]
    assert seen.before(np.array([13.0, 13.5, 28.5, 161.0])) == pytest.approx([1.0, *after])
    assert seen.before(200.0) == 0.0


def test_aalen_johansen_of_a_worked_example_with_two_causes():
    # Ten people; at risk 10, 9, 8, 7, 6, 5, 4. S before each event: 1, .9, .8, .8*6/7, .8*6/7*5/6 ...
    time = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    status = np.array([1, 2, 0, 1, 2, 0, 1, 0, 0, 0], dtype=np.int8)
    first = [1 / 10, 1 / 10 + 0.8 / 7, 1 / 10 + 0.8 / 7 + 0.8 * 6 / 7 * 5 / 6 / 4]
    second = [0.0, 0.9 / 9, 0.9 / 9 + 0.8 * 6 / 7 / 6]
    assert aalen_johansen(time, status, np.array([1.0, 4.5, 7.0])) == pytest.approx(first)
    assert aalen_johansen(time, status, np.array([1.0, 2.0, 6.0]), cause=2) == pytest.approx(second)


def test_uno_c_of_a_worked_example_with_a_competing_event_and_censoring():
    # Four people: outcome at 1, left at 2, outcome at 3, competing event at 2.5; horizon 4. Risks .4 .3 .2 .3.
    time = np.array([1.0, 2.0, 3.0, 2.5])
    status = np.array([1, 0, 1, 2], dtype=np.int8)
    risk = np.array([0.4, 0.3, 0.2, 0.3])
    # G: leaving at 2 with 3 at risk: 2/3 afterwards. Case at 1 (G- = 1): controls all three, all concordant: 3.
    # Case at 3 (G- = 2/3): control only the competing one (G- = 2/3), discordant: weight 9/4.
    assert uno_c(risk, time, status, 4.0) == pytest.approx(3 / (3 + 9 / 4))
    assert harrell_c(risk, time, status, 4.0) == pytest.approx(3 / 4)
    # Truncated before 3, only the first case counts.
    assert uno_c(risk, time, status, 2.9) == pytest.approx(1.0)


def test_uno_is_harrell_when_nobody_leaves_and_half_for_ties():
    generator = np.random.default_rng(3)
    time = generator.exponential(1000, 300)
    status = generator.choice(np.array([1, 2], dtype=np.int8), 300)
    risk = generator.random(300)
    assert uno_c(risk, time, status, 1500.0) == pytest.approx(harrell_c(risk, time, status, 1500.0), abs=1e-12)
    assert uno_c(np.full(300, 0.2), time, status, 1500.0) == pytest.approx(0.5, abs=1e-12)


def test_auc_and_brier_without_censoring_are_scikit_learns():
    generator = np.random.default_rng(4)
    risk = np.round(generator.random(500), 2)  # with ties
    happened = (generator.random(500) < risk).astype(np.float64)
    ones = np.ones(500)
    assert auc(risk, happened, ones) == pytest.approx(roc_auc_score(happened, risk), abs=1e-12)
    assert brier(risk, happened, ones) == pytest.approx(brier_score_loss(happened, risk), abs=1e-12)
    weight = generator.random(500)
    assert auc(risk, happened, weight) == pytest.approx(roc_auc_score(happened, risk, sample_weight=weight), abs=1e-12)


def test_brier_with_censoring_by_hand():
    # Outcome at 1 (weight 1), left at 2 (0), competing at 3 and free at 4 (weight 3/2 each): see at_horizon's example.
    time, status = np.array([1.0, 2, 3, 4]), np.array([1, 0, 2, 0], dtype=np.int8)
    outcome, weight = at_horizon(time, status, 3.5)
    risk = np.array([0.5, 0.9, 0.2, 0.1])
    assert brier(risk, outcome, weight) == pytest.approx((0.25 + 1.5 * 0.04 + 1.5 * 0.01) / 4)
    assert ipa(risk, outcome, weight) == pytest.approx(1 - (0.25 + 0.06 + 0.015) / 4 / (0.25 * 0.75))


def test_ibs_by_hand():
    assert ibs(np.array([0.02, 0.03, 0.04]), np.array([1.0, 3.0, 5.0])) == pytest.approx((0.01 + 0.05 + 0.07) / 5)


def test_logit_calibration_is_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    generator = np.random.default_rng(5)
    risk = generator.uniform(0.05, 0.9, 800)
    happened = (generator.random(800) < risk**1.5).astype(np.float64)
    score = np.log(risk / (1 - risk))
    fitted = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(score[:, None], happened)
    a, b = intercept_and_slope(risk, happened, np.ones(800), "logit")
    assert (a, b) == pytest.approx((fitted.intercept_[0], fitted.coef_[0, 0]), abs=1e-5)


def test_citl_on_the_log_rate_scale_recovers_a_closed_form():
    # With one risk p for all, cloglog(mean outcome) = a + cloglog(p) exactly.
    happened = np.r_[np.ones(30), np.zeros(170)]
    a = citl(np.full(200, 0.2), happened, np.ones(200))
    assert a == pytest.approx(np.log(-np.log(1 - 0.15)) - np.log(-np.log(1 - 0.2)), abs=1e-9)
