"""Shapley values by shap's PermutationExplainer: an independent check of the feature reasons, on a few people.

It asks the same question of the same function: W of a modality (what its Shapley value would be), from the same
attribution baseline, one person at a time, all targets at once.
"""

import warnings
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from riskpred.explain.removal import Asked, Floats, People

LONG_RUN: Final = 25
"""Permutations, each read forwards and backwards, of a person and modality."""


def permutation_shapley(people: People, targets: Sequence[int], permutations: int = LONG_RUN, seed: int = 1) -> Floats:
    """What shap says each player adds within its modality. Shape: (B, T, F) risk points."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)  # of matplotlib, by the plots that shap brings along
        import shap

    asked, players = Asked(people), people.players
    found = np.zeros((len(people), len(targets), len(players)))
    for modality in people.model.modalities:
        mine = np.array([f for f, player in enumerate(players) if player.modality == modality])
        for subject in np.flatnonzero(people.movable[:, mine].any(axis=1)).tolist():
            moves = mine[people.movable[subject, mine]]

            def worth(
                own: NDArray[np.float64], s: int = subject, m: str = modality, at: NDArray[np.int64] = moves
            ) -> Floats:
                kept = np.ones((len(own), len(players)), dtype=np.bool_)
                kept[:, at] = own > 0.5
                return asked.worth(m, np.full(len(own), s), kept)[:, list(targets)]

            if len(moves) == 1:  # nothing to permute
                both = worth(np.array([[0.0], [1.0]]))
                found[subject, :, moves[0]] = both[1] - both[0]
                continue
            masker = shap.maskers.Independent(np.zeros((1, len(moves))), max_samples=1)
            explainer = shap.PermutationExplainer(worth, masker, seed=seed)
            said = explainer(np.ones((1, len(moves))), max_evals=permutations * (2 * len(moves) + 1), silent=True)
            found[subject][:, moves] = said.values[0].T
    return found


def quick_shapley(people: People, targets: Sequence[int], permutations: int = 4, seed: int = 1) -> Floats:
    """The same estimate without shap, a few people at once: what a night can spare. Shape: (B, T, F) risk points.

    Each permutation is read forwards and backwards, as shap does.
    """
    asked, generator, players = Asked(people), np.random.default_rng(seed), people.players
    found = np.zeros((len(people), len(targets), len(players)))
    for modality in people.model.modalities:
        mine = np.array([f for f, player in enumerate(players) if player.modality == modality])
        here = np.flatnonzero(people.movable[:, mine].any(axis=1))
        turns = 0 if not len(here) else permutations if len(mine) > 1 else 1
        for _ in range(turns):
            order = generator.permutation(mine)
            for turn in (order, order[::-1]):
                kept = np.ones((len(here), len(mine) + 1, len(players)), dtype=np.bool_)
                kept[:, :, mine] = False
                for place, player in enumerate(turn.tolist()):
                    kept[:, place + 1 :, player] = True
                worth = asked.worth(modality, np.repeat(here, len(mine) + 1), kept.reshape(-1, len(players)))
                gained = np.diff(worth.reshape(len(here), len(mine) + 1, -1)[:, :, list(targets)], axis=1)
                found[here[:, None], :, turn[None, :]] += gained / (2 * turns)
    return found
