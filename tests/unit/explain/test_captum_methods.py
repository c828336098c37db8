"""Captum's methods, as reasons are held against them: exact where the model is linear, and free of the trees."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from riskpred.explain.captum_methods import DEEP_LIFT, GRADIENT_SHAP, captum_contributions
from riskpred.explain.faithfulness import agreement, longest
from riskpred.explain.removal import People, contributions


@pytest.mark.parametrize("method", [DEEP_LIFT, GRADIENT_SHAP])
def test_they_speak_of_the_same_function_from_the_same_baseline(
    random_bundle: Callable[[int], Any], small_batch: Any, method: str
) -> None:
    people = People.of(random_bundle(2), small_batch[1])
    targets = longest(people.model)
    theirs, own = captum_contributions(people, targets, method), contributions(people, targets)
    assert theirs.shape == own.shape
    assert np.isfinite(theirs).all()
    still = ~np.repeat(people.movable[:, None], len(targets), axis=1)
    assert (theirs[still] == 0).all()
    assert np.nanmedian(agreement(theirs, own, people.movable)) > 0.7, (
        "a gradient, whatever it lacks, looks the same way"
    )
