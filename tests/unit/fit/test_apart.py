"""Modalities that learn apart: each as if the others were not there."""

from dataclasses import replace

import numpy as np
import torch

from riskpred.config.network import TabularEncoder
from riskpred.features.batch import SeriesInput
from riskpred.fit.grid import learn_layout
from riskpred.fit.members import fit_members, stopping_rows, training_data
from riskpred.fit.train import alone, member_log_rates, train_member
from riskpred.model.risk import RiskModel


def test_each_modality_is_seen_once_by_itself_where_it_is_there() -> None:
    present = {"a": torch.tensor([True, True, False]), "b": torch.tensor([True, False, True])}
    first, second = alone(present)
    assert torch.equal(first["a"], present["a"])
    assert not bool(first["b"].any())
    assert torch.equal(second["b"], present["b"])
    assert not bool(second["a"].any())


def test_what_the_spline_knows_already_is_learned_apart_and_only_apart(make_rows, plan, outcomes, quick) -> None:
    """The last step of every series is the age that the spline has: together, nothing is left to say of it."""
    rows = make_rows(1200, effect=1.2)
    series, tabular = rows.batch.inputs["series"], rows.batch.inputs["tabular"]
    has = np.diff(series.start) > 0
    values = series.values.copy()
    values[series.start[1:][has] - 1] = tabular.values[has, :1]
    same = SeriesInput(series.start, series.time, values)
    rows = replace(rows, batch=replace(rows.batch, inputs={**rows.batch.inputs, "series": same}))
    layout = learn_layout(outcomes, rows, quick.intervals)
    by_itself = {}
    for apart in (True, False):
        training = quick.training.model_copy(
            update={"epochs": 8, "learning_rate": 0.01, "modality_dropout": 0.0, "apart": apart}
        )
        config = quick.model_copy(update={"training": training})
        data = training_data(RiskModel(config, plan, layout), rows)
        stops = stopping_rows(data, 0.15, seed=1)
        member, _ = train_member(config, plan, layout, data, stops, 1, lambda: None)
        only = data.with_present(alone(data.present)[1]).inputs
        sent = member.encode(only)
        rate = member.log_rates(sent, {name: given.present for name, given in only.items()})[0][has, 0, 0]
        by_itself[apart] = np.corrcoef(rate.numpy(), tabular.values[has, 0])[0, 1]
    assert by_itself[True] > 0.8
    assert by_itself[False] < 0.6


def test_without_a_residual_tabular_rows_say_what_their_base_says(make_rows, plan, outcomes, quick) -> None:
    """Batches without a picture or a step have nothing that learns."""
    rows = make_rows(200)
    absent = np.zeros(200, bool)
    rows = replace(rows, batch=replace(rows.batch, present={**rows.batch.present, "series": absent, "image": absent}))
    encoders = {**quick.encoders, "tabular": TabularEncoder(members=2, width=8, depth=1, residual=False)}
    training = quick.training.model_copy(update={"apart": True})
    config = quick.model_copy(update={"encoders": encoders, "training": training})
    layout = learn_layout(outcomes, rows, quick.intervals)
    data = training_data(RiskModel(config, plan, layout), rows)
    member, _ = train_member(config, plan, layout, data, stopping_rows(data, 0.15, seed=1), 1, lambda: None)
    for whole, base in zip(member_log_rates(member, data), member_log_rates(member, data, base_only=True), strict=True):
        torch.testing.assert_close(whole, base)


def test_a_model_whose_modalities_learn_apart_has_no_joint_term_and_says_the_same_by_both_ways(
    make_rows, plan, outcomes, quick
) -> None:
    rows = make_rows(300)
    config = quick.model_copy(update={"training": quick.training.model_copy(update={"apart": True})})
    model = fit_members(config, plan, learn_layout(outcomes, rows, quick.intervals), rows, seed=1).model
    assert all(model.member(r).joint is None for r in range(model.members))
    inputs = model.tensors(rows.batch)
    slow = model.member_risks(model.encode(inputs), {name: given.present for name, given in inputs.items()})
    fast = model.predict(rows.batch).member
    np.testing.assert_allclose(fast, slow.numpy(), atol=1e-9)
