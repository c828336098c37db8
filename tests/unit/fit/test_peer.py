"""The peer finds what was planted, keeps its numbers through a bundle, and takes what is missing."""

import numpy as np
import pytest
import torch

from riskpred.config.model import parse
from riskpred.config.outcomes import OutcomesConfig
from riskpred.evaluate.censoring import aalen_johansen, at_horizon
from riskpred.evaluate.discrimination import auc, uno_c
from riskpred.features.batch import FeatureBatch, TabularInput
from riskpred.features.plan import FeatureColumn, FeaturePlan, TabularPlan
from riskpred.fit.peer import baseline_cuts, fit_peer, subject_folds
from riskpred.model.layout import GroupGrid, Layout
from riskpred.model.peer import COX, LOGISTIC, Peer

PLAN = FeaturePlan(
    {
        "tabular": TabularPlan(
            (
                FeatureColumn("age", "age", "last", None, "years", "age", False),
                FeatureColumn("sex", "sex", "last", None, None, "sex", False, ("F", "M")),
            )
        )
    }
)
OUTCOMES = parse(
    OutcomesConfig,
    {
        "prediction_times": {"days_after_entry": [0]},
        "horizons_years": [1.0, 5.0],
        "outcomes": {
            "heart": {"display": "heart", "rule": {"codes": ["H"]}, "competing_set": "both"},
            "low": {"display": "low", "rule": {"codes": ["L"]}, "known_at_once": True},
            "cancer": {"display": "cancer", "rule": {"codes": ["C"]}, "competing_set": "both"},
        },
    },
    "test",
)


def people(size, seed=1):
    """Age raises heart in a U, sex raises cancer; death and leaving for everyone alike. Days."""
    generator = np.random.default_rng(seed)
    age = generator.uniform(40, 80, size)
    sex = generator.integers(0, 2, size).astype(np.float64)
    rate = np.stack([0.02 * np.exp(0.006 * (age - 60) ** 2 - 0.5), 0.01 * np.exp(1.2 * sex), np.full(size, 0.02)])
    event = generator.exponential(1.0, size) / rate.sum(axis=0)
    which = 1 + (generator.random(size) > np.cumsum(rate / rate.sum(axis=0), axis=0)).sum(axis=0)
    leave = generator.uniform(2, 12, size)
    time, cause = np.minimum(event, leave) * 365.25, np.where(event <= leave, which, 0).astype(np.int8)
    values = np.stack([age, sex], axis=1).astype(np.float32)
    values[::17, 0] = np.nan
    batch = FeatureBatch(
        np.arange(size),
        np.zeros(size, dtype=np.int64),
        {"tabular": TabularInput(values, np.zeros((size, 2), dtype=np.int64))},
        {"tabular": np.ones(size, dtype=bool)},
        {},
        (),
    )
    low = (generator.random(size) < 1 / (1 + np.exp(2 - 0.006 * (age - 60) ** 2))).astype(np.int8)
    return batch, {"both": time, "low": np.zeros(size)}, {"both": cause, "low": low}


@pytest.fixture(scope="module")
def fitted():
    batch, duration, cause = people(3_000)
    return fit_peer(batch, PLAN, duration, cause, OUTCOMES, seed=1)


def test_targets_stand_in_the_order_of_outcomes_yaml(fitted):
    assert fitted.targets == (("heart", 1.0), ("heart", 5.0), ("low", 0.0), ("cancer", 1.0), ("cancer", 5.0))
    assert fitted.name == COX
    assert [fitted.name_of(name) for name in ("heart", "low", "cancer")] == [COX, LOGISTIC, COX]


def test_on_new_people_it_ranks_and_is_calibrated(fitted):
    batch, duration, cause = people(6_000, seed=2)
    risk = fitted.predict(batch)
    heart = np.select([cause["both"] == 1, cause["both"] > 1], [1, 2], 0).astype(np.int8)
    cancer = np.select([cause["both"] == 2, cause["both"] > 0], [1, 2], 0).astype(np.int8)
    days = 5 * 365.25
    age = batch.inputs["tabular"].values[:, 0].astype(np.float64)
    best = uno_c(np.nan_to_num((age - 60) ** 2, nan=130.0), duration["both"], heart, days)
    assert uno_c(risk[:, 1], duration["both"], heart, days) > best - 0.015  # a U in age: no straight line could
    assert best > 0.65
    assert uno_c(risk[:, 4], duration["both"], cancer, days) > 0.60
    for column, status in ((1, heart), (4, cancer)):
        observed = aalen_johansen(duration["both"], status, np.array([days]))[0]
        assert risk[:, column].mean() == pytest.approx(observed, rel=0.1)
    assert auc(risk[:, 2], cause["low"].astype(np.float64), np.ones(6_000)) > 0.6
    assert np.all(risk[:, 1] >= risk[:, 0])
    assert np.all((risk > 0) & (risk < 1))
    assert np.all(risk[:, 1] + risk[:, 4] < 1)


def test_without_features_it_is_aalen_johansen():
    batch, duration, cause = people(1_500)
    nothing = FeatureBatch(batch.subject_id, batch.prediction_time, {}, {}, {}, ())
    risk = fit_peer(nothing, FeaturePlan({}), duration, cause, OUTCOMES).predict(nothing)
    heart = np.select([cause["both"] == 1, cause["both"] > 1], [1, 2], 0).astype(np.int8)
    outcome, weight = at_horizon(duration["both"], heart, 5 * 365.25)
    assert risk[0, 1] == pytest.approx(np.average(outcome, weights=weight), rel=0.01)
    assert risk[0, 2] == pytest.approx(cause["low"].mean(), abs=0.001)


def test_state_comes_back_the_same(fitted):
    batch, _, _ = people(50, seed=3)
    grid = GroupGrid("both", ("heart", "cancer"), ("heart", "cancer", "death"), False, (1.0, 5.0), (0.0, 1.0, 5.0))
    now = GroupGrid("low", ("low",), ("low",), True, (0.0,), (0.0, 1.0))
    layout = Layout((grid, now), ("heart", "low", "cancer"))
    tensors, description = fitted.state()
    assert all(isinstance(value, torch.Tensor) for value in tensors.values())
    back = Peer.from_state(tensors, description, PLAN, layout)
    assert back.targets == fitted.targets
    assert np.array_equal(back.predict(batch), fitted.predict(batch))


def test_a_person_without_tabular_data_gets_a_risk(fitted):
    batch, _, _ = people(5, seed=4)
    absent = FeatureBatch(
        batch.subject_id, batch.prediction_time, batch.inputs, {"tabular": np.zeros(5, dtype=bool)}, {}, ()
    )
    risk = fitted.predict(absent)
    assert np.all(np.isfinite(risk))
    assert np.allclose(risk, risk[0])


def test_rows_outside_the_risk_set_and_rare_causes_do_no_harm():
    batch, duration, cause = people(400)
    cause = {name: values.copy() for name, values in cause.items()}
    cause["both"][:100] = -1
    duration["both"][:100] = np.nan
    cause["both"][cause["both"] == 2] = 0  # nobody has cancer
    cause["low"][:] = 0
    risk = fit_peer(batch, PLAN, duration, cause, OUTCOMES).predict(batch)
    assert np.all(risk[:, 3:] == 0)
    assert np.all((risk[:, 2] > 0) & (risk[:, 2] < 0.01))


def test_folds_keep_a_subject_together():
    subject = np.repeat(np.arange(50), 3)
    folds = subject_folds(subject, 5, seed=1)
    assert all(len(set(folds[subject == one])) == 1 for one in range(50))
    assert np.bincount(folds).tolist() == [30] * 5


def test_baseline_cuts_hold_the_horizons():
    cuts = baseline_cuts(np.arange(1.0, 5_000.0), [365.25, 1826.25])
    assert len(cuts) <= 202
    assert {365.25, 1826.25} <= set(cuts)
    assert cuts[-1] == 1826.25
