"""Checks of reasons, with known answers: a linear risk, an order that cannot be beaten, an attribution of no model."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from riskpred.explain.coalitions import modality_reasons
from riskpred.explain.faithfulness import (
    across_members,
    against_randomised,
    agreement,
    area,
    curves,
    fractions,
    is_rejected,
    longest,
    of_one_member,
    order_of,
    random_curves,
    rank_correlations,
    standardised_values,
    with_noise,
)
from riskpred.explain.permutation import permutation_shapley
from riskpred.explain.removal import Asked, People, contributions
from riskpred.model.tensors import SeriesTensors, TabularTensors


class Linear:
    """Risk = sum of weight x kept, one target; F players that can all move but the last."""

    def __init__(self, weight: Sequence[float], people: int = 2) -> None:
        self.weight = np.array(weight)
        movable = np.ones((people, len(weight)), dtype=bool)
        movable[:, -1] = False
        self.people = SimpleNamespace(movable=movable)

    def risks(self, subject: np.ndarray, kept: np.ndarray) -> np.ndarray:
        del subject
        return (kept @ self.weight)[:, None]


@pytest.fixture(scope="module")
def people(random_bundle: Callable[[int], Any], small_batch: Any) -> People:
    return People.of(random_bundle(2), small_batch[1])


@pytest.fixture(scope="module")
def own(people: People) -> np.ndarray:
    return contributions(people, longest(people.model))


def test_curves_of_a_linear_risk_are_the_sums_of_what_has_gone() -> None:
    weight = [4.0, 1.0, 2.0, 3.0, 0.0]
    asked = Linear(weight)
    order = order_of(np.tile(weight, (2, 1)), asked.people.movable)
    assert order[0].tolist() == [0, 3, 2, 1, 4]
    found = curves(asked, order, 0)
    gone = np.interp(fractions(), [0, 0.25, 0.5, 0.75, 1.0], [0.0, 4.0, 7.0, 9.0, 10.0])
    assert found.deletion == pytest.approx(np.tile(gone, (2, 1)))
    assert found.insertion == pytest.approx(np.tile(10.0 - gone, (2, 1)))
    assert area(found.deletion) == pytest.approx([6.25, 6.25])
    worst = curves(asked, order_of(-np.tile(weight, (2, 1)), asked.people.movable), 0)
    chance = random_curves(asked, 0, seed=1, orders=8)
    assert area(worst.deletion)[0] < area(chance.deletion)[0] < area(found.deletion)[0]
    assert area(worst.insertion)[0] > area(chance.insertion)[0] > area(found.insertion)[0]


def test_someone_without_anything_that_can_move_has_a_flat_curve() -> None:
    asked = Linear([1.0, 2.0])
    asked.people.movable[:] = False
    found = curves(asked, order_of(np.ones((2, 2)), asked.people.movable), 0)
    assert (found.deletion == 0).all()
    assert (found.insertion == 0).all()


def test_rank_correlations_by_hand() -> None:
    one = np.array([[1.0, 2.0, 3.0, 9.0], [1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 5.0], [0.0, 0.0, 0.0, 1.0]])
    other = np.array([[3.0, 5.0, 7.0, -9.0], [4.0, 3.0, 2.0, 1.0], [0.0, 0.0, 0.0, 7.0], [1.0, 2.0, 3.0, 1.0]])
    counted = np.array([[True, True, True, False], [True] * 4, [True, True, True, False], [True, True, True, False]])
    assert rank_correlations(one, other, counted) == pytest.approx([1.0, -1.0, 1.0, 0.0])
    assert np.isnan(rank_correlations(one[:1], other[:1], np.array([[True, False, False, False]]))).all()


def test_what_is_kept_is_the_risk_and_the_contribution_itself(
    people: People, random_bundle: Callable[[int], Any], small_batch: Any
) -> None:
    bundle, batch, asked = random_bundle(2), small_batch[1], Asked(people)
    everyone, whole = np.arange(len(people)), np.ones(people.movable.shape, dtype=bool)
    assert asked.risks(everyone, whole) == pytest.approx(100 * bundle.model.predict(batch).risk, abs=1e-4)
    with torch.no_grad():
        sent = bundle.model.encode(people.inputs)
    places = bundle.profiles.places(batch)
    reasons = modality_reasons(bundle.model, sent, bundle.profiles.sent, people.present, places)
    for m, name in enumerate(bundle.model.modalities):
        assert asked.worth(name, everyone, whole) == pytest.approx(reasons.contribution[:, :, m], abs=1e-4)


def test_contributions_add_up_to_the_move_from_the_baseline(people: People, own: np.ndarray) -> None:
    asked, targets = Asked(people), longest(people.model)
    everyone = np.arange(len(people))
    for name in people.model.modalities:
        mine = [f for f, player in enumerate(people.players) if player.modality == name]
        kept = np.ones(people.movable.shape, dtype=bool)
        without = kept.copy()
        without[:, mine] = False
        gain = asked.worth(name, everyone, kept) - asked.worth(name, everyone, without)
        assert own[:, :, mine].sum(axis=2) == pytest.approx(gain[:, targets], abs=0.02, rel=0.006)
        assert np.abs(own[:, :, mine]).max() > 0.5
    assert (own[~np.repeat(people.movable[:, None], own.shape[1], axis=1)] == 0).all()


def test_reasons_move_the_risk_before_chance_and_the_value_alone_do(people: People, own: np.ndarray) -> None:
    asked, targets = Asked(people), longest(people.model)
    for t, q in enumerate(targets):
        mine = curves(asked, order_of(np.abs(own[:, t]), people.movable), q)
        for other in (
            random_curves(asked, q, seed=1),
            curves(asked, order_of(standardised_values(people), people.movable), q),
        ):
            assert area(mine.deletion).mean() > area(other.deletion).mean()
            assert area(mine.insertion).mean() < area(other.insertion).mean()


def test_shap_agrees_and_a_wrong_attribution_does_not(people: People, own: np.ndarray) -> None:
    few, targets = people.take(np.arange(8)), longest(people.model)
    shap = permutation_shapley(few, targets, permutations=6)
    assert np.nanmedian(agreement(shap, own[:8], few.movable)) > 0.9
    assert np.nanmedian(agreement(shap, -own[:8], few.movable)) < -0.9
    # Both start at the same baseline and end at the same person.
    for name in people.model.modalities:
        mine = [f for f, player in enumerate(people.players) if player.modality == name]
        assert shap[:, :, mine].sum(axis=2) == pytest.approx(own[:8][:, :, mine].sum(axis=2), abs=0.02, rel=0.006)


def test_an_attribution_that_ignores_the_model_is_rejected(people: People, own: np.ndarray) -> None:
    targets = longest(people.model)

    def value_alone(some: People, asked_for: Sequence[int]) -> np.ndarray:
        return np.repeat(standardised_values(some)[:, None], len(asked_for), axis=1)

    ignoring = against_randomised(people, value_alone(people, targets), targets, 1, value_alone)
    assert np.nanmin(ignoring) == pytest.approx(1.0)
    assert is_rejected(ignoring)
    ours = against_randomised(people, own, targets, 1)
    assert np.isfinite(ours).mean() > 0.5
    assert not is_rejected(ours)


def test_a_model_that_ignores_its_input_is_rejected(people: People) -> None:
    """Nothing is attributed before, nothing after: an attribution that does not change explains nothing."""

    def nothing(some: People, targets: Sequence[int]) -> np.ndarray:
        return np.zeros((len(some), len(targets), len(some.players)))

    targets = longest(people.model)
    assert is_rejected(against_randomised(people, nothing(people, targets), targets, 1, nothing))


def test_noise_is_small_and_moves_nothing_that_was_not_measured(people: People, own: np.ndarray) -> None:
    moved = with_noise(people, seed=1)
    for name, given in people.inputs.items():
        other = moved.inputs[name].values
        assert not torch.equal(other, given.values)
        if isinstance(given, TabularTensors):
            owner = torch.tensor([player.place for player in people.players if player.modality == name])
            assert torch.equal(other[:, 1:3], given.values[:, 1:3]), "the columns of a category"
            unseen = ~given.observed[:, owner][:, -1]
            assert unseen.any()
            assert torch.equal(other[unseen, -1], given.values[unseen, -1])
        elif isinstance(given, SeriesTensors):
            assert torch.equal(other[~given.observed], given.values[~given.observed])
    again = contributions(moved, longest(people.model))
    assert np.nanmedian(agreement(again, own, people.movable)) > 0.9


def test_each_member_is_a_model_of_its_own(people: People, own: np.ndarray) -> None:
    targets = longest(people.model)
    risk = np.mean(
        [
            Asked(of_one_member(people, r)).risks(np.arange(len(people)), np.ones(people.movable.shape, dtype=bool))
            for r in range(people.model.members)
        ],
        axis=0,
    )
    assert risk == pytest.approx(
        Asked(people).risks(np.arange(len(people)), np.ones(people.movable.shape, dtype=bool)), abs=1e-4
    )
    found = across_members(people, own, targets)
    assert found.shape == (len(people), len(targets))
    assert np.nanmax(found) <= 1.0
    assert np.nanmin(found) < 0.99
