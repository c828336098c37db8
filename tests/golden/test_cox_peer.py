"""The peer's Cox regression against published coefficients."""

import numpy as np
import pytest

from riskpred.fit.peer import CoxData, cox_ridge

# Remission of leukaemia in weeks, 6-MP and placebo: Freireich et al. 1963, Blood 21:699-716; the data of Cox 1972.
MP6 = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
MP6_RELAPSE = [1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
PLACEBO = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]


def test_breslow_ties_give_the_published_coefficient_of_the_6mp_trial():
    # R: coxph(Surv(time, relapse) ~ placebo, ties = "breslow"): 1.5092, standard error 0.4096 (Efron's ties: 1.5721).
    time = np.array(MP6 + PLACEBO, dtype=np.float64)
    relapse = np.array(MP6_RELAPSE + [1] * 21, dtype=bool)
    data = CoxData.of(np.repeat([0.0, 1.0], 21)[:, None], time, relapse)
    beta = cox_ridge(data, 0.0, np.zeros(1))
    assert beta[0] == pytest.approx(1.5092, abs=5e-5)
    assert 1 / np.sqrt(data.derivatives(beta)[1][0, 0]) == pytest.approx(0.4096, abs=5e-5)


def test_a_ridge_pulls_towards_zero_and_its_score_vanishes():
    generator = np.random.default_rng(1)
    matrix = generator.normal(size=(200, 5))
    data = CoxData.of(matrix, np.round(generator.exponential(10.0, 200)), generator.random(200) < 0.6)
    free, held = cox_ridge(data, 1e-9, np.zeros(5)), cox_ridge(data, 50.0, np.zeros(5))
    assert np.linalg.norm(held) < 0.8 * np.linalg.norm(free)
    assert data.derivatives(held)[0] == pytest.approx(50.0 * held, abs=1e-3)
