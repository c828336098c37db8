"""A penalty for each tabular modality, where a study asks for it: noise beside what tells."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from riskpred.config.network import NetworkConfig, TabularEncoder
from riskpred.config.outcomes import OutcomesConfig
from riskpred.features.batch import TabularInput
from riskpred.features.plan import FeatureColumn, FeaturePlan, TabularPlan
from riskpred.fit.data import Rows
from riskpred.fit.grid import learn_layout
from riskpred.fit.members import stopping_rows, training_data
from riskpred.fit.train import set_base, train_member
from riskpred.model.risk import RiskModel

NOISY = 12
"""Columns of the modality that says nothing."""


@pytest.mark.parametrize("asked", [False, True])
def test_a_modality_of_noise_weighs_less_where_the_study_asks(
    make_rows: Callable[..., Rows], plan: FeaturePlan, outcomes: OutcomesConfig, quick: NetworkConfig, asked: bool
) -> None:
    rows = make_rows(250, effect=1.2)
    draw = np.random.default_rng(1)
    tells, noise = rows.batch.inputs["tabular"], draw.normal(size=(250, NOISY)).astype(np.float32)
    assert isinstance(tells, TabularInput)
    names = [f"n{k}" for k in range(NOISY)]
    columns = tuple(FeatureColumn(name, name, "last", None, None, name, False, ()) for name in names)
    two = FeaturePlan({"tabular": plan.modalities["tabular"], "noise": TabularPlan(columns)}, plan.units)
    there = rows.batch.present["tabular"]
    batch = replace(
        rows.batch,
        inputs={"tabular": tells, "noise": TabularInput(noise, np.zeros(noise.shape, tells.time.dtype))},
        present={"tabular": there, "noise": there},
        receipts={"tabular": rows.batch.receipts["tabular"], "noise": rows.batch.receipts["tabular"]},
    )
    rows = replace(rows, batch=batch)
    encoder = TabularEncoder(members=2, width=8, depth=1)
    training = quick.training.model_copy(update={"ridge_by_modality": asked, "epochs": 1})
    config = quick.model_copy(update={"encoders": {"tabular": encoder, "noise": encoder}, "training": training})
    layout = learn_layout(outcomes, rows, config.intervals)
    data = training_data(RiskModel(config, two, layout), rows)
    member, choices = train_member(config, two, layout, data, stopping_rows(data, 0.15, 1), 1, lambda: None)
    assert [bool(one.scales) for one in choices] == [asked] * len(choices)
    if asked:
        heart = choices[0]
        assert heart.scales[1] < heart.scales[0]
        weight = member.encoders["noise"].spline_weight[:, 0].numpy()
        told = member.encoders["tabular"].spline_weight[:, 0].numpy()
        assert np.abs(weight).max() < 0.3 * np.abs(told).max()
    # With next to no penalty it does not matter what columns were multiplied by on the way.
    found = []
    for scales in ((), (0.5, 0.3)):
        set_base(member, data, [replace(one, ridge=1e-7, scales=scales) for one in choices])
        found.append(torch.cat([member.encoders[name].spline_weight for name in ("tabular", "noise")]).numpy())
    np.testing.assert_allclose(found[1], found[0], rtol=1e-2, atol=1e-3)
