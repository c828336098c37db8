"""Calibration by availability: a risk without a modality is as honest as one with it, seen in training or not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from riskpred.evaluate.censoring import aalen_johansen
from riskpred.features.batch import FeatureBatch
from riskpred.fit.grid import learn_layout
from riskpred.fit.members import fit_members, training_data
from riskpred.fit.patterns import OutOfFold, _both
from riskpred.fit.recalibrate import Line
from riskpred.model.calibration import pattern_index
from riskpred.model.risk import RiskModel
from tests.unit.fit.test_trees import CONFIG, OUTCOMES, PLAN, rows_with


def without(batch: FeatureBatch, name: str) -> FeatureBatch:
    return replace(batch, present={**batch.present, name: np.zeros(len(batch), bool)})


@pytest.fixture(scope="module")
def everyone_has_all():  # type: ignore[no-untyped-def]
    rows, _ = rows_with(3000)
    return replace(rows, batch=replace(rows.batch, present=dict.fromkeys(rows.batch.present, np.ones(len(rows), bool))))


def slope_and_large(model, rows, batch):  # type: ignore[no-untyped-def]
    from riskpred.evaluate.calibration import citl, slope
    from riskpred.evaluate.censoring import at_horizon

    risk = model.predict(batch).risk[:, 1]
    known, weight = at_horizon(rows.duration_days["x"], rows.cause["x"], 3 * 365.25)
    return slope(risk, known, weight), citl(risk, known, weight)


def test_a_modality_that_nobody_lacked_may_be_missing(everyone_has_all) -> None:  # type: ignore[no-untyped-def]
    rows = everyone_has_all
    config = CONFIG.model_copy(update={"training": CONFIG.training.model_copy(update={"modality_dropout": 0.0})})
    layout = learn_layout(OUTCOMES, rows, 4)
    test, _ = rows_with(4000, seed=9)
    lacking = without(test.batch, "first")
    honest = fit_members(config, PLAN, layout, rows, seed=1).model
    b, a = slope_and_large(honest, test, lacking)
    assert b == pytest.approx(1.0, abs=0.25)
    assert a == pytest.approx(0.0, abs=0.12)


def test_one_pooled_map_can_be_asked_for(everyone_has_all) -> None:  # type: ignore[no-untyped-def]
    config = CONFIG.model_copy(update={"pooled_calibration": True})
    model = fit_members(config, PLAN, learn_layout(OUTCOMES, everyone_has_all, 4), everyone_has_all, seed=1).model
    assert len(model.calibrations[0].log_slope[1:, 0].unique(dim=0)) == 1


def test_each_pattern_has_the_map_of_its_people(everyone_has_all) -> None:  # type: ignore[no-untyped-def]
    model = fit_members(CONFIG, PLAN, learn_layout(OUTCOMES, everyone_has_all, 4), everyone_has_all, seed=1).model
    slope = model.calibrations[0].log_slope[:, 0].mean(dim=-1)
    assert len(slope) == 4
    assert len({round(float(one), 6) for one in slope[1:]}) == 3


def test_mean_incidence_is_that_of_aalen_and_johansen(everyone_has_all) -> None:  # type: ignore[no-untyped-def]
    # Rare enough that a risk is no extreme one: it then depends little on how the rates of few people are spread.
    days = {"x": np.minimum(6.0 * everyone_has_all.duration_days["x"], 6 * 365.25)}
    cause = {"x": np.where(days["x"] < 6 * 365.25, everyone_has_all.cause["x"], 0).astype(np.int8)}
    rows = replace(everyone_has_all, duration_days=days, cause=cause)
    found = fit_members(CONFIG, PLAN, learn_layout(OUTCOMES, rows, 4), rows, seed=1)
    for q, years in enumerate((1.0, 3.0)):
        observed = aalen_johansen(rows.duration_days["x"], rows.cause["x"], np.array([years * 365.25]))[0]
        assert found.out_of_fold[:, q].mean() == pytest.approx(observed, abs=0.005)


def test_the_number_of_a_pattern_tells_what_is_there() -> None:
    present = {"a": torch.tensor([True, False, True]), "b": torch.tensor([False, True, True])}
    assert pattern_index(present, ("a", "b")).tolist() == [1, 2, 3]


def test_a_map_of_no_weight_leaves_no_trace() -> None:
    group = learn_layout(OUTCOMES, rows_with(300)[0], 4).groups[0]
    line = Line.identity(group)
    nothing = replace(line, intercept=torch.full_like(line.intercept, torch.nan))
    mixed = nothing.mixed(line, torch.zeros(2, dtype=torch.float64))
    assert not mixed.intercept.any()


def test_rows_without_follow_up_give_no_map_of_their_own() -> None:
    rows, _ = rows_with(600)
    present = dict(rows.batch.present)
    present["second"] = np.arange(600) < 3
    days = {"x": np.where(present["second"], 0.0, rows.duration_days["x"])}
    cause = {"x": np.where(present["second"], 0, rows.cause["x"]).astype(np.int8)}
    few = replace(rows, batch=replace(rows.batch, present=present), duration_days=days, cause=cause)
    found = fit_members(CONFIG, PLAN, learn_layout(OUTCOMES, few, 4), few, seed=1)
    assert np.isfinite(found.model.predict(few.batch).risk).all()


def test_what_members_say_beyond_the_horizon_moves_no_map(everyone_has_all) -> None:  # type: ignore[no-untyped-def]
    layout = learn_layout(OUTCOMES, everyone_has_all, 4)
    group = layout.groups[0]
    assert group.intervals > group.end_of[-1] + 1, "follow-up goes on after the last horizon"
    model = RiskModel(CONFIG, PLAN, layout)
    data = training_data(model, everyone_has_all)
    labels = data.up_to(layout).labels[0]
    own = torch.randn(len(everyone_has_all), len(group.causes), group.intervals, dtype=torch.float64)
    rest = own + 0.1 * torch.randn_like(own)
    before = _both(layout, 0, OutOfFold([own], [rest]), labels, 2)
    own, rest = own.clone(), rest.clone()
    own[..., group.end_of[-1] + 1 :] -= 20.0
    after = _both(layout, 0, OutOfFold([own], [rest]), labels, 2)
    for one, other in zip(before, after, strict=True):
        assert one.slope.numpy() == pytest.approx(other.slope.numpy())
        assert one.intercept.numpy() == pytest.approx(other.intercept.numpy())
