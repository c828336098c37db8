"""Fold r neither trains nor stops member r: nothing that is known of its people reaches that member.

Only the pooled numbers do that all out-of-fold rows choose together: shares per cause, here held fixed, and the
calibration.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from riskpred.config.network import NetworkConfig
from riskpred.config.outcomes import OutcomesConfig
from riskpred.features.batch import TabularInput
from riskpred.features.plan import FeaturePlan
from riskpred.fit import members
from riskpred.fit.data import Rows, stratified_folds
from riskpred.fit.grid import learn_layout
from riskpred.fit.members import Fitted, fit_members
from riskpred.fit.stack import Shares
from riskpred.fit.train import TrainingData
from riskpred.model.layout import Layout

Make = Callable[..., Rows]
Refit = Callable[[Rows], Fitted]
N = 240


@pytest.fixture(scope="module")
def rows(make_rows: Make) -> Rows:
    return make_rows(N)


@pytest.fixture(scope="module")
def deal(rows: Rows) -> NDArray[np.int64]:
    """The fold of each row, the same in every fit here: folds are stratified by labels, which these tests change."""
    return stratified_folds(rows.subject_id, rows.labels(), 2, seed=1)


@pytest.fixture(scope="module")
def layout(rows: Rows, outcomes: OutcomesConfig) -> Layout:
    return learn_layout(outcomes, rows, 4)


@pytest.fixture(scope="module")
def refit(rows: Rows, deal: NDArray[np.int64], layout: Layout, plan: FeaturePlan, quick: NetworkConfig) -> Refit:
    """Fits with seed 1 and folds as dealt."""

    def dealt(subject_id: NDArray[np.int64], labels: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
        return deal if len(subject_id) == N else stratified_folds(subject_id, labels, folds, seed)

    def even(spline: torch.Tensor, *rest: object) -> Shares:
        half = torch.full((spline.shape[1],), 0.5, dtype=torch.float64)
        return Shares(half, half)

    def fitted(changed: Rows) -> Fitted:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(members, "stratified_folds", dealt)
            patch.setattr(members, "fit_shares", even)
            return fit_members(quick, plan, layout, changed, seed=1)

    return fitted


@pytest.fixture(scope="module")
def fitted(refit: Refit, rows: Rows) -> Fitted:
    return refit(rows)


def other_labels(rows: Rows, here: NDArray[np.bool_]) -> Rows:
    """`here` other causes, at other times."""
    cause = {
        name: np.where(here & (now >= 0), now.max() - now, now).astype(np.int8) for name, now in rows.cause.items()
    }
    days = {name: np.where(here, 0.5 * now, now) for name, now in rows.duration_days.items()}
    return dataclasses.replace(rows, cause=cause, duration_days=days)


def other_inputs(rows: Rows, here: NDArray[np.bool_]) -> Rows:
    """`here` other values of every number."""
    tabular = rows.batch.inputs["tabular"]
    assert isinstance(tabular, TabularInput)
    values = tabular.values.copy()
    values[here, :3] = 3 * values[here, :3] + 2
    inputs = {**rows.batch.inputs, "tabular": TabularInput(values, tabular.time)}
    return dataclasses.replace(rows, batch=dataclasses.replace(rows.batch, inputs=inputs))


def same(one: Fitted, other: Fitted, member: int) -> bool:
    first, second = (each.model.networks[member].state_dict() for each in (one, other))
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("change", [other_labels, other_inputs])
@pytest.mark.parametrize("fold", [0, 1])
def test_a_fold_reaches_every_member_but_its_own(
    fitted: Fitted,
    refit: Refit,
    rows: Rows,
    deal: NDArray[np.int64],
    change: Callable[[Rows, NDArray[np.bool_]], Rows],
    fold: int,
) -> None:
    again = refit(change(rows, deal == fold))
    assert (again.fold == deal).all()
    assert same(again, fitted, fold), "the fold left out changed the member"
    assert not same(again, fitted, 1 - fold), "the fold trains the other member"


def test_a_member_is_given_nobody_of_its_fold(
    monkeypatch: pytest.MonkeyPatch, refit: Refit, rows: Rows, deal: NDArray[np.int64]
) -> None:
    given: list[tuple[set[int], int]] = []
    train = members.train_member

    def noted(config: Any, plan: Any, layout: Any, data: TrainingData, stops: NDArray[np.bool_], *more: Any) -> Any:
        given.append((set(data.together.tolist()), int(stops.sum())))
        return train(config, plan, layout, data, stops, *more)

    monkeypatch.setattr(members, "train_member", noted)
    refit(rows)
    for r, (subjects, stopping) in enumerate(given):
        assert subjects == set(rows.subject_id[deal != r].tolist())
        assert 0 < stopping < len(subjects) / 2
    assert len(given) == 2
