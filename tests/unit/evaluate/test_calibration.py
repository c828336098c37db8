"""Calibration metrics find the miscalibration that was planted, and their floor is what true risks reach."""

import numpy as np
import pytest

from riskpred.evaluate.calibration import (
    citl,
    ici,
    ici_floor,
    ici_floor_now,
    intercept_and_slope,
    reliability,
    slope,
)
from riskpred.evaluate.censoring import Undefined, at_horizon
from riskpred.evaluate.discrimination import uno_c
from riskpred.evaluate.regression import Scaled


def cloglog(risk):
    return np.log(-np.log1p(-risk))


def simulated(size, seed=1):
    """True 5-year risks of a cause with competing death and people leaving; constant hazards."""
    generator = np.random.default_rng(seed)
    own = np.exp(generator.normal(-3.2, 0.9, size))
    death = np.full(size, 0.03)
    leave = generator.exponential(12.0, size)
    event = generator.exponential(1.0, size) / (own + death)
    which = np.where(generator.random(size) < own / (own + death), 1, 2)
    time = np.minimum(event, leave)
    status = np.where(event <= leave, which, 0).astype(np.int8)
    risk = own / (own + death) * -np.expm1(-5.0 * (own + death))
    return risk, time, status


def test_true_risks_are_calibrated_though_people_die_and_leave():
    risk, time, status = simulated(20_000)
    outcome, weight = at_horizon(time, status, 5.0)
    assert citl(risk, outcome, weight) == pytest.approx(0.0, abs=0.05)
    assert slope(risk, outcome, weight) == pytest.approx(1.0, abs=0.06)
    floor = ici_floor(risk, time, status, 5.0)
    assert floor.shape == (20,)
    assert ici(risk, outcome, weight) < 2 * floor.mean()


def test_planted_miscalibration_is_recovered():
    risk, time, status = simulated(20_000)
    outcome, weight = at_horizon(time, status, 5.0)
    distorted = -np.expm1(-np.exp((cloglog(risk) - 0.4) / 0.7))  # the map back is 0.4 + 0.7 x
    a, b = intercept_and_slope(distorted, outcome, weight)
    assert (a, b) == pytest.approx((0.4, 0.7), abs=0.1)
    doubled = -np.expm1(-2.0 * -np.log1p(-risk))
    assert citl(doubled, outcome, weight) == pytest.approx(-np.log(2.0), abs=0.05)
    shifted = np.clip(risk + 0.05, 0, 1)
    assert ici(shifted, outcome, weight) == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize(("link", "scale"), [("cloglog", cloglog), ("logit", lambda risk: np.log(risk / (1 - risk)))])
def test_risks_to_the_power_of_one_and_a_half_are_found_out(link, scale):
    """A planted risk^1.5: too low and too spread; the map back is recovered, and what it says is then calibrated."""
    generator = np.random.default_rng(5)
    truth = generator.beta(2, 6, 160_000)
    happened, ones = (generator.random(160_000) < truth).astype(np.float64), np.ones(160_000)
    planted = truth**1.5
    a, b = intercept_and_slope(planted, happened, ones, link)
    assert (a, b) == pytest.approx(intercept_and_slope(planted, truth, ones, link), abs=0.06)  # as of endless people
    assert citl(planted, happened, ones, link) > 0.3  # too low
    assert b < 0.9  # too spread
    floor = ici_floor_now(truth).mean()
    assert ici(planted, happened, ones) > 10 * floor
    eta = a + b * scale(planted)
    mended = -np.expm1(-np.exp(eta)) if link == "cloglog" else 1 / (1 + np.exp(-eta))
    assert citl(mended, happened, ones, link) == pytest.approx(0.0, abs=1e-6)
    assert slope(mended, happened, ones, link) == pytest.approx(1.0, abs=1e-6)
    assert ici(mended, happened, ones) < 0.15 * ici(planted, happened, ones)


def test_a_start_near_the_solution_changes_nothing_but_the_way():
    risk, time, status = simulated(3_000)
    outcome, weight = at_horizon(time, status, 5.0)
    scaled = Scaled.of(risk, "cloglog")
    cold = scaled.both(outcome, weight)
    assert scaled.both(outcome, weight, (0.4, 0.7)) == pytest.approx(cold, abs=1e-7)
    assert scaled.intercept(outcome, weight, 0.8) == pytest.approx(scaled.intercept(outcome, weight), abs=1e-7)


def test_counting_death_as_leaving_would_read_as_risks_too_low_for_nobody():
    """The weights of at_horizon keep deaths in; treating them as censored overstates what happens."""
    risk, time, status = simulated(20_000)
    outcome, weight = at_horizon(time, status, 5.0)
    naive_outcome, naive_weight = at_horizon(time, np.where(status == 2, 0, status).astype(np.int8), 5.0)
    right = np.average(outcome, weights=weight)
    naive = np.average(naive_outcome, weights=naive_weight)
    assert right == pytest.approx(risk.mean(), rel=0.04)
    assert naive > right * 1.05


def test_permuted_risks_rank_like_a_coin():
    risk, time, status = simulated(5_000)
    shuffled = np.random.default_rng(0).permutation(risk)
    assert uno_c(risk, time, status, 5.0) > 0.68
    assert uno_c(shuffled, time, status, 5.0) == pytest.approx(0.5, abs=0.03)


def test_the_floor_of_risks_known_at_once_falls_with_the_sample():
    risk = np.random.default_rng(2).beta(1, 9, 4_000)
    small, large = ici_floor_now(risk[:400]).mean(), ici_floor_now(risk).mean()
    assert large < 0.5 * small
    assert np.array_equal(ici_floor_now(risk, seed=7), ici_floor_now(risk, seed=7))


def test_the_reliability_curve_lies_on_the_diagonal_for_a_certain_outcome():
    risk = np.r_[np.zeros(50), np.ones(50)]
    curve = reliability(risk, risk, np.ones(100))
    assert curve.observed == pytest.approx(curve.risk, abs=1e-12)
    assert curve.people.sum() == 100


def test_what_cannot_be_computed_says_why():
    ones = np.ones(30)
    with pytest.raises(Undefined, match="only one class"):
        citl(np.full(30, 0.1), np.zeros(30), ones)
    with pytest.raises(Undefined, match="equal"):
        slope(np.full(30, 0.1), np.r_[np.ones(5), np.zeros(25)], ones)
    with pytest.raises(Undefined, match="no finite solution"):
        slope(np.linspace(0.1, 0.9, 30), np.r_[np.zeros(15), np.ones(15)], ones, "logit")
    with pytest.raises(Undefined, match="nobody"):
        reliability(np.full(3, 0.1), np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match="between 0 and 1"):
        citl(np.full(3, 1.1), np.zeros(3), np.ones(3))
