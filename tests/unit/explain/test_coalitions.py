"""Shapley values over modalities: against the definition, and what they must add up to."""

from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch

from riskpred.explain.coalitions import POINTS, coalitions, modality_reasons, shapley_weight, value


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_contributions_sum_to_risk_minus_reference(
    random_bundle: Callable[[int], Any], small_batch: Any, seed: int
) -> None:
    bundle, (_, batch) = random_bundle(seed), small_batch
    inputs = bundle.model.tensors(batch)
    present = {name: given.present for name, given in inputs.items()}
    profile = bundle.profiles.places(batch)
    reasons = modality_reasons(bundle.model, bundle.model.encode(inputs), bundle.profiles.sent, present, profile)
    difference = POINTS * (reasons.member.mean(axis=0) - reasons.reference)
    assert np.abs(reasons.contribution.sum(axis=-1) - difference).max() < 1e-9
    assert np.abs(difference).max() > 1, "a random model whose modalities say nothing tests nothing"
    for m, name in enumerate(bundle.model.modalities):
        absent = ~batch.present[name]
        assert absent.any()
        assert not reasons.contribution[absent, :, m].any()


def test_values_are_the_mean_gain_over_all_orders(random_bundle: Callable[[int], Any], small_batch: Any) -> None:
    bundle, (_, batch) = random_bundle(5), small_batch
    model = bundle.model
    inputs = model.tensors(batch)
    present, sent = {name: given.present for name, given in inputs.items()}, model.encode(inputs)
    reasons = modality_reasons(model, sent, bundle.reference, present)
    for m, name in enumerate(model.modalities):
        gains = []
        for order in permutations(model.modalities):
            before = order[: order.index(name)]
            gains.append(
                value(model, sent, bundle.reference, present, (*before, name))
                - value(model, sent, bundle.reference, present, before)
            )
        expected = POINTS * torch.stack(gains).mean(dim=0).numpy()
        assert np.allclose(reasons.contribution[:, :, m], expected, atol=1e-9)


def test_weights_of_all_coalitions_of_the_others_sum_to_one() -> None:
    for modalities in range(1, 6):
        others = tuple("abcdef"[: modalities - 1])
        total = sum(shapley_weight(len(inside), modalities) for inside in coalitions(others))
        assert total == pytest.approx(1)


def test_half_the_batch_gives_the_same_reasons(random_bundle: Callable[[int], Any], small_batch: Any) -> None:
    from riskpred.score.assess import assess

    bundle, (_, batch) = random_bundle(1), small_batch
    whole, halves = assess(bundle, batch, 512), assess(bundle, batch, 7)
    for name in ("risk", "low", "high", "reference"):
        assert np.allclose(getattr(whole, name), getattr(halves, name), atol=1e-6, rtol=0), name
    assert np.allclose(whole.contribution, halves.contribution, atol=1e-4, rtol=0)
