"""Metrics against values from textbooks, from scikit-learn, and worked out by hand (the working is in each test)."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from riskpred.evaluate.brier import brier, ibs, ipa
from riskpred.evaluate.calibration import citl, intercept_and_slope
from riskpred.evaluate.censoring import aalen_johansen, at_horizon, observation
from riskpred.evaluate.decision import net_benefit
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


# R: dcurves::dca(cancer ~ famhistory, df_binary): 750 people, 105 with cancer; of 115 with a family history 24 have it.
# Values as its authors keep them beside the Python port: github.com/MSKCC-Epi-Bio/dcurves, data/r_dca_famhistory.csv.
DCURVES_THRESHOLDS = np.array([0.01, 0.05, 0.1, 0.2, 0.3, 0.5])
DCURVES_FAMILY = [0.030774410774410774, 0.025614035087719297, 0.018518518518518517, 0.0016666666666666635]
DCURVES_FAMILY += [-0.02000000000000001, -0.08933333333333335]
DCURVES_ALL = [0.13131313131313133, 0.09473684210526317, 0.04444444444444445, -0.07499999999999998]
DCURVES_ALL += [-0.2285714285714286, -0.72]


def test_net_benefit_is_that_of_dcurves_in_r():
    family = np.r_[np.ones(115), np.zeros(635)]
    cancer = np.r_[np.ones(24), np.zeros(91), np.ones(81), np.zeros(554)]
    ones = np.ones(750)
    assert net_benefit(family, cancer, ones, DCURVES_THRESHOLDS) == pytest.approx(DCURVES_FAMILY, abs=1e-12)
    assert net_benefit(ones, cancer, ones, DCURVES_THRESHOLDS) == pytest.approx(DCURVES_ALL, abs=1e-12)


def test_net_benefit_in_its_two_published_forms_is_one():
    # Vickers & Elkin 2006: TP/n - FP/n w, w = p / (1 - p); Vickers et al. 2016, BMJ 352:i6: sensitivity x prevalence -
    # (1 - specificity) x (1 - prevalence) x w.
    from sklearn.metrics import confusion_matrix

    generator = np.random.default_rng(8)
    risk = generator.random(400)
    happened = (generator.random(400) < risk).astype(np.float64)
    for p in (0.1, 0.35):
        (tn, fp), (fn, tp) = confusion_matrix(happened, risk >= p)
        prevalence, w = (tp + fn) / 400, p / (1 - p)
        wanted = tp / (tp + fn) * prevalence - (1 - tn / (tn + fp)) * (1 - prevalence) * w
        got = net_benefit(risk, happened, np.ones(400), np.array([p]))[0]
        assert got == pytest.approx(wanted, abs=1e-12)
        assert got == pytest.approx(tp / 400 - fp / 400 * w, abs=1e-12)


def test_net_benefit_with_censoring_and_a_competing_event_by_hand():
    # The four of at_horizon's example: outcome (weight 1), left (0), competing at 3 and free at 4 (3/2 each); n = 4.
    time, status = np.array([1.0, 2, 3, 4]), np.array([1, 0, 2, 0], dtype=np.int8)
    outcome, weight = at_horizon(time, status, 3.5)
    risk = np.array([0.5, 0.9, 0.2, 0.1])
    # At 20 %: the outcome and the competing one are treated: (1 - 1.5 x 1/4) / 4. At 50 %: the outcome alone.
    assert net_benefit(risk, outcome, weight, np.array([0.2, 0.5])) == pytest.approx([(1 - 0.375) / 4, 0.25])


def test_ici_and_reliability_of_two_groups_by_hand():
    # Two risks far apart in rank (0 to .5, .5 to 1) smoothed over .08 of rank at their middle ranks .25 and .75: each
    # group borrows exp(-(.5 / .08)^2 / 2) = 3.3e-9 of the other, so the curve is the two groups' means.
    from riskpred.evaluate.calibration import ici, reliability

    risk = np.r_[np.full(100, 0.1), np.full(100, 0.4)]
    happened = np.r_[np.ones(20), np.zeros(80), np.ones(30), np.zeros(70)]
    curve = reliability(risk, happened, np.ones(200))
    assert curve.risk == pytest.approx([0.1, 0.4], abs=1e-6)
    assert curve.observed == pytest.approx([0.2, 0.3], abs=1e-6)
    assert ici(risk, happened, np.ones(200)) == pytest.approx(0.1, abs=1e-6)


def test_cumulative_incidence_of_a_textbook_example():
    # Without censoring the Aalen-Johansen estimate is the plain share (Kalbfleisch & Prentice 2002, 8.2): of 8 people
    # relapse at 1, 4, 6 and death at 2, 4, 7; one relapse ties with a death at 4; two are free at the end.
    time = np.array([1.0, 2, 4, 4, 6, 7, 9, 9])
    status = np.array([1, 2, 1, 2, 1, 2, 0, 0], dtype=np.int8)
    at = np.array([1.0, 4.0, 6.5, 8.0])
    assert aalen_johansen(time, status, at) == pytest.approx([1 / 8, 2 / 8, 3 / 8, 3 / 8], abs=1e-12)
    assert aalen_johansen(time, status, at, cause=2) == pytest.approx([0, 2 / 8, 2 / 8, 3 / 8], abs=1e-12)
