"""Feature reasons beside Captum and SHAP: the same people, the same function, the same 12 targets, one thread."""

import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from riskpred.explain.attribution import FIRST_STEPS, TOLERANCE_POINTS, TOLERANCE_SHARE, ModalityWorth
from riskpred.explain.faithfulness import agreement
from riskpred.explain.permutation import permutation_shapley
from riskpred.explain.removal import Asked, People, contributions, worth_of
from riskpred.model.tensors import ImageTensors, ModalityTensors, SeriesTensors
from riskpred.model.threads import one_thread
from tests.benchmarks.night.results import Attempts, Figures
from tests.benchmarks.reasons import data

PEOPLE = 96
SHAP_PEOPLE = 4
LONG_RUN = 40
CAPTUM_STEPS = 50
"""Captum's own default of IntegratedGradients."""
SHAP_DEFAULT = 10
"""Permutations of shap.PermutationExplainer where nothing is said."""


def measure(work: Path, attempts: Attempts) -> Figures:
    """People a second of each way, tabular and series; how far their sums are off; agreement with a long run."""
    del attempts
    found = data.made(work, data.HOSPITAL)
    bundle, batch, _ = data.people(found, PEOPLE)
    people, targets = People.of(bundle, batch), list(range(len(bundle.model.targets)))
    names = [name for name, given in people.inputs.items() if not isinstance(given, ImageTensors)]
    with one_thread():
        contributions(people.take(np.arange(16)), targets)  # compiled and warm
        started = time.perf_counter()
        own = contributions(people, targets)
        ours = time.perf_counter() - started
        few = people.take(np.arange(32))
        looped = {steps: _captum(few, names, targets, steps) for steps in (FIRST_STEPS, CAPTUM_STEPS)}
        started = time.perf_counter()
        contributions(few, targets)
        same = time.perf_counter() - started
        shap_people = people.take(np.arange(SHAP_PEOPLE))
        permutation_shapley(shap_people.take(np.arange(1)), targets, 1)  # imported and warm
        started = time.perf_counter()
        short = permutation_shapley(shap_people, targets, SHAP_DEFAULT)
        shap_s = time.perf_counter() - started
        long = permutation_shapley(shap_people, targets, LONG_RUN)
        together = agreement(own[:SHAP_PEOPLE], long, shap_people.movable)
        themselves = agreement(short, long, shap_people.movable)
        within = _within(people, own, names, targets)
    rate = 32 / same
    return {
        "people": PEOPLE,
        "targets": len(targets),
        "ours_people_per_s": PEOPLE / ours,
        "ours_people_per_s_same_as_captum": rate,
        "captum_same_points_people_per_s": 32 / looped[FIRST_STEPS][0],
        "captum_default_people_per_s": 32 / looped[CAPTUM_STEPS][0],
        "captum_same_points_within": looped[FIRST_STEPS][1],
        "captum_default_within": looped[CAPTUM_STEPS][1],
        "ours_within": within,
        "ratio_same_points": looped[FIRST_STEPS][0] / same,
        "ratio_default": looped[CAPTUM_STEPS][0] / same,
        "shap_people_per_s": SHAP_PEOPLE / shap_s,
        "ratio_shap": PEOPLE / ours / (SHAP_PEOPLE / shap_s),
        "spearman_long_run": data.quantiles(together),
        "spearman_shap_default_with_its_long_run": data.quantiles(themselves),
        "long_run_permutations": LONG_RUN,
    }


def _captum(people: People, names: list[str], targets: list[int], steps: int) -> tuple[float, float]:
    """Seconds of Captum looped over targets, and the share of people whose sums keep the promise.

    Captum integrates the path of what has a gradient; trees have none, so it is held to W with the trees standing
    still.
    """
    from captum.attr import IntegratedGradients

    spent, held = 0.0, np.ones(len(people), dtype=bool)
    for name in names:
        rows = people.inputs[name].present.nonzero()[:, 0]
        some = people.take(rows.numpy())
        worth, given, start = worth_of(some, name, targets), some.inputs[name], some.start[name]
        still = _without_trees(worth, given, start)

        def forward(
            values: Tensor, row: Tensor, given: ModalityTensors = given, worth: ModalityWorth = still
        ) -> Tensor:
            part = given.take(row)
            if isinstance(part, SeriesTensors):
                values = values[:, : part.values.shape[1]]
            return worth(part.with_values(values), row)

        index = torch.arange(len(rows))
        explainer = IntegratedGradients(forward)
        started = time.perf_counter()
        sums = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for t in range(len(targets)):
                said = explainer.attribute(
                    given.values,
                    start,
                    target=t,
                    additional_forward_args=(index,),
                    n_steps=steps,
                    method="gausslegendre",
                    internal_batch_size=512,
                )
                sums.append(said.flatten(1).sum(dim=1).detach().double())
        spent += time.perf_counter() - started
        with torch.no_grad():
            gain = still(given, index) - still(given.with_values(start), index)
            total = worth(given, index)
        off = (torch.stack(sums, dim=1) - gain).abs()
        allowed = torch.clamp(TOLERANCE_SHARE * total.abs(), min=TOLERANCE_POINTS)
        held[rows.numpy()] &= (off <= allowed).all(dim=1).numpy()
    return spent, float(held.mean())


def _without_trees(worth: ModalityWorth, given: ModalityTensors, start: Tensor) -> Callable[..., Tensor]:
    """W with the trees of a tabular modality saying what they say of the subject, wherever its values are."""
    path = worth.trees(given, start)
    if path is None:
        return worth
    from dataclasses import replace

    def still(moved: ModalityTensors, row: Tensor) -> Tensor:
        return worth(replace(moved, trees=path.end[row]), row)  # type: ignore[type-var]

    return still


def _within(people: People, own: np.ndarray, names: list[str], targets: list[int]) -> float:
    """Share of people whose features add up within the promise."""
    asked, held = Asked(people), np.ones(len(people), dtype=bool)
    everyone = np.arange(len(people))
    for name in names:
        mine = [f for f, player in enumerate(people.players) if player.modality == name]
        kept = np.ones(people.movable.shape, dtype=bool)
        without = kept.copy()
        without[:, mine] = False
        total = asked.worth(name, everyone, kept)[:, targets]
        gain = total - asked.worth(name, everyone, without)[:, targets]
        allowed = np.maximum(TOLERANCE_POINTS, TOLERANCE_SHARE * np.abs(total))
        held &= (np.abs(own[:, :, mine].sum(axis=2) - gain) <= allowed).all(axis=1)
    return float(held.mean())
