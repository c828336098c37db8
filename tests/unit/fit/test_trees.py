"""Boosted trees find what splines cannot say, ask one modality each, and stay away where events are few."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from riskpred.config.network import NetworkConfig, TabularEncoder
from riskpred.config.outcomes import Outcome, OutcomesConfig, PredictionTimes, Rule
from riskpred.features.batch import FeatureBatch, Receipt, TabularInput
from riskpred.features.plan import FeatureColumn, FeaturePlan, TabularPlan
from riskpred.fit.data import Rows
from riskpred.fit.grid import learn_layout
from riskpred.fit.members import fit_members, training_data
from riskpred.fit.spline_base import Choice
from riskpred.fit.train import learn_preprocessing
from riskpred.fit.trees import fit_trees, tree_log_rates
from riskpred.model.risk import RiskModel


def column(name: str) -> FeatureColumn:
    return FeatureColumn(name, name, "last", None, None, name, False, ())


PLAN = FeaturePlan(
    {"first": TabularPlan((column("a"), column("b"))), "second": TabularPlan((column("c"), column("d")))}
)
OUTCOMES = OutcomesConfig(
    prediction_times=PredictionTimes(days_after_entry=(0,)),
    horizons_years=(1.0, 3.0),
    outcomes={"x": Outcome(display="x", rule=Rule(codes=("X",)))},
)


def rows_with(n: int, seed: int = 0) -> tuple[Rows, np.ndarray]:
    """Rows whose log-rate is the product of the signs of a and b, plus d, and that log-rate."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 4)).astype(np.float32)
    linear = np.sign(values[:, 0]) * np.sign(values[:, 1]) + 0.5 * values[:, 3]
    time, left = rng.exponential(4.0 / np.exp(linear)), rng.uniform(0.5, 6, n)
    cause = np.where(time < left, 1, 0).astype(np.int8)
    now = np.zeros(n, np.int64)
    present = {"first": np.ones(n, bool), "second": np.arange(n) % 5 > 0}
    receipt = Receipt(np.zeros(n, np.int8), now, now, np.zeros((n, 0), bool), ())
    batch = FeatureBatch(
        subject_id=np.arange(n, dtype=np.int64),
        prediction_time=now,
        inputs={
            name: TabularInput(values[:, 2 * m : 2 * m + 2], np.zeros((n, 2), np.int64))
            for m, name in enumerate(PLAN.modalities)
        },
        present=present,
        receipts={name: receipt for name in present},
        rejects=(),
    )
    duration = {"x": np.minimum(time, left) * 365.25}
    return Rows(batch, {"x": cause}, duration, {"x": np.ones(n, bool)}, batch.subject_id, np.full(n, 50.0)), linear


CONFIG = NetworkConfig(
    encoders={name: TabularEncoder(members=2, width=8, depth=1, trees=150) for name in PLAN.modalities},
    embedding=4, intervals=4, members=2,
)  # fmt: skip


def fitted(n: int, later: bool = False):  # type: ignore[no-untyped-def]
    rows, linear = rows_with(n)
    model = RiskModel(CONFIG, PLAN, learn_layout(OUTCOMES, rows, 4))
    data, member = training_data(model, rows), model.member(0)
    learn_preprocessing(member, data)
    stops = np.arange(n) % 7 == 0
    trees = fit_trees(member, data, stops, {"first": 150, "second": 150}, [Choice(1.0, later)] * 2, seed=8_000_000_000)
    return member, data, trees, linear


def test_they_find_an_interaction_of_columns_of_one_modality() -> None:
    member, data, trees, linear = fitted(3000)
    (rates,) = tree_log_rates(member, trees, data)
    assert np.corrcoef(rates[:, 0, 1].numpy(), linear)[0, 1] > 0.85


def test_a_tree_asks_one_modality_and_says_nothing_where_it_is_absent() -> None:
    member, data, trees, _ = fitted(1500)
    assert all(len(forest) > 0 for forest in trees.forests.values())
    (rates,) = tree_log_rates(member, trees, data)
    second = data.inputs["second"]
    other = replace(data, inputs={**data.inputs, "second": second.with_values(second.values + 9.0)})
    (changed,) = tree_log_rates(member, trees, other)
    moved = (rates != changed).any(dim=(1, 2)) if rates.ndim == 2 else (rates != changed).flatten(1).any(dim=1)
    assert not moved[~second.present].any(), "an absent modality was read"
    assert moved[second.present].any()


def test_death_and_rare_outcomes_get_none() -> None:
    _, _, trees, _ = fitted(1500)
    assert trees.grown[0].tolist() == [True, False], "the outcome has trees, death as its competitor has none"
    _, _, few, _ = fitted(16)
    assert few.grown[0].tolist() == [False, False]
    assert all(len(forest) == 0 for forest in few.forests.values())


def test_a_fitted_model_uses_them_where_they_help() -> None:
    rows, _ = rows_with(3000)
    found = fit_members(CONFIG, PLAN, learn_layout(OUTCOMES, rows, 4), rows, seed=1)
    assert float(found.shares[0].trees[0]) > 0.6
    test, truth = rows_with(1000, seed=5)
    assert np.corrcoef(np.log(found.model.predict(test.batch).risk[:, 1]), truth)[0, 1] > 0.85


@pytest.mark.parametrize("trees", [0, 50])
def test_rounds_can_be_switched_off(
    trees: int, make_rows: Callable[..., Rows], plan: FeaturePlan, quick: NetworkConfig, outcomes: OutcomesConfig
) -> None:
    tabular = quick.encoders["tabular"].model_copy(update={"trees": trees})
    config = quick.model_copy(update={"encoders": {**quick.encoders, "tabular": tabular}})
    rows = make_rows(300)
    found = fit_members(config, plan, learn_layout(outcomes, rows, 4), rows, seed=1)
    count = sum(len(found.model.member(r).encoders["tabular"].trees.forest) for r in range(2))
    assert (count > 0) == (trees > 0)
    assert torch.stack([one.trees.sum() for one in found.shares]).sum() > 0 or trees == 0


def test_a_column_without_a_value_is_no_error() -> None:
    rows, _ = rows_with(800)
    first = rows.batch.inputs["first"]
    assert isinstance(first, TabularInput)
    values = first.values.copy()
    values[:, 1] = np.nan
    inputs = {**rows.batch.inputs, "first": replace(first, values=values)}
    lacking = replace(rows, batch=replace(rows.batch, inputs=inputs))
    found = fit_members(CONFIG, PLAN, learn_layout(OUTCOMES, lacking, 4), lacking, seed=1)
    assert np.isfinite(found.model.predict(lacking.batch).risk).all()


def test_known_at_once_trees_say_the_rate_behind_a_chance() -> None:
    from riskpred.fit.trees import _PersonTimes

    chance = np.array([0.1, 0.5, 0.8])
    asked = _PersonTimes(np.zeros((3, 1)), np.ones(3), np.ones(3), np.zeros(3, bool))
    # On average a chance's worth of rows says yes: the mean is then -log(1 - chance).
    assert chance * asked.latent(chance).event == pytest.approx(-np.log1p(-chance))
