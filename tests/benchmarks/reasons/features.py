"""Feature reasons beside Captum and SHAP: the same people, the same function, the same 12 targets, one thread."""

import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from riskpred.explain.attribution import (
    TOLERANCE_POINTS,
    TOLERANCE_SHARE,
    ModalityWorth,
    integrated_gradients,
    within_modality,
)
from riskpred.explain.faithfulness import agreement
from riskpred.explain.permutation import permutation_shapley
from riskpred.explain.removal import People, contributions, owner_of, worth_of
from riskpred.model.tensors import ImageTensors, ModalityTensors, SeriesTensors
from riskpred.model.threads import one_thread
from tests.benchmarks.night.results import Attempts, Figures
from tests.benchmarks.reasons import data

PEOPLE = 64
SHAP_PEOPLE = 3
POINTS = 16
LONG_RUN = 40
CAPTUM_STEPS = 50
"""Captum's own default of IntegratedGradients."""
SHAP_DEFAULT = 10
"""Permutations of shap.PermutationExplainer where nothing is said."""
REPEATS = 3
"""Each way is timed so often, in turns; the quickest counts: others use the machine, too."""
_ROWS = 512
"""Points x people in the network at once, for us and for Captum."""


def measure(work: Path, attempts: Attempts) -> Figures:
    """People a second of each way, tabular and series; how far their sums are off; agreement with a long run."""
    del attempts
    found = data.made(work, data.HOSPITAL)
    bundle, batch, _ = data.people(found, PEOPLE)
    people, targets = People.of(bundle, batch), list(range(len(bundle.model.targets)))
    names = [name for name, given in people.inputs.items() if not isinstance(given, ImageTensors)]
    with one_thread():
        seconds: dict[str, list[float]] = {}
        held: dict[str, float] = {}
        ways: dict[str, Callable[[], float | None]] = {
            "same_points": lambda: _at_points(people, names, targets),
            "captum_same_points": lambda: _captum(people, names, targets, POINTS),
            "converged": lambda: _converged(people, names, targets),
            "captum_default": lambda: _captum(people, names, targets, CAPTUM_STEPS),
        }
        for way in ways.values():
            way()  # compiled and warm
        for _ in range(REPEATS):
            for name, way in ways.items():
                started = time.perf_counter()
                share = way()
                seconds.setdefault(name, []).append(time.perf_counter() - started)
                if share is not None:
                    held[name] = share
        own = contributions(people, targets)
        some = people.take(np.arange(SHAP_PEOPLE))
        permutation_shapley(some.take(np.arange(1)), targets, 1)  # imported and warm
        started = time.perf_counter()
        short = permutation_shapley(some, targets, SHAP_DEFAULT)
        ours_under_shap = time.perf_counter() - started
        started = time.perf_counter()
        _shap_of_the_model(some, names, targets)
        shap_s = time.perf_counter() - started
        long = permutation_shapley(some, targets, LONG_RUN)
        together = agreement(own[:SHAP_PEOPLE], long, some.movable)
        themselves = agreement(short, long, some.movable)
    rate = {name: PEOPLE / min(times) for name, times in seconds.items()}
    return {
        "people": PEOPLE,
        "targets": len(targets),
        "points": POINTS,
        "people_per_s": rate,
        "shap_people_per_s": SHAP_PEOPLE / shap_s,
        "shap_on_our_batched_function_people_per_s": SHAP_PEOPLE / ours_under_shap,
        "within_the_remainder": held,
        "ratio_same_points": rate["same_points"] / rate["captum_same_points"],
        "ratio_default": rate["converged"] / rate["captum_default"],
        "ratio_shap": rate["converged"] / (SHAP_PEOPLE / shap_s),
        "spearman_long_run": data.quantiles(together),
        "spearman_shap_default_with_its_long_run": data.quantiles(themselves),
        "long_run_permutations": LONG_RUN,
    }


def _here(people: People, name: str) -> People:
    return people.take(np.flatnonzero(people.inputs[name].present.numpy()))


def _at_points(people: People, names: list[str], targets: list[int]) -> None:
    """Ours, all targets from one encoding of the path, at POINTS points."""
    for name in names:
        some = _here(people, name)
        worth, given, start = worth_of(some, name, targets), some.inputs[name], some.start[name]
        path = worth.trees(given, start)
        owner = owner_of(people.model, name)
        for rows in torch.split(torch.arange(len(some)), _ROWS // POINTS):
            part = given.take(rows)
            cut = given.with_values(start).take(rows).values

            def reduce(a: Tensor, owner: Tensor | None = owner) -> Tensor:
                return a if owner is None else a.new_zeros(len(a), int(owner.max()) + 1).index_add_(1, owner, a)

            along = None if path is None else path.take(rows)
            integrated_gradients(worth, part, cut, rows, POINTS, reduce, along)


def _converged(people: People, names: list[str], targets: list[int]) -> float:
    """Ours as the night runs it, points doubled where a remainder is too large; share of people within it."""
    held = np.ones(len(people), dtype=bool)
    for name in names:
        some, here = _here(people, name), np.flatnonzero(people.inputs[name].present.numpy())
        nobody = np.zeros(len(some), dtype=np.int64)
        within = within_modality(
            worth_of(some, name, targets), some.inputs[name], some.baseline[name], owner_of(people.model, name), nobody
        )
        held[here] &= within.within_tolerance.all(axis=1)
    return float(held.mean())


def _shap_of_the_model(people: People, names: list[str], targets: list[int]) -> None:
    """shap.PermutationExplainer as one would call it: W by the model's own forward pass, one person at a time."""
    import shap

    for name in names:
        some, owner = _here(people, name), owner_of(people.model, name)
        worth, given, start = worth_of(some, name, targets), some.inputs[name], some.start[name]
        mine = [player.place for player in people.players if player.modality == name]
        for person in range(len(some)):

            def ask(own: np.ndarray, person: int = person) -> np.ndarray:
                row = torch.full((len(own),), person)
                part, flags = given.take(row), torch.from_numpy(own > 0.5)  # noqa: B023
                keep = flags[:, owner] if owner is not None else flags[:, None, :]  # noqa: B023
                base = given.with_values(start).take(row).values  # noqa: B023
                with torch.no_grad():
                    return worth(part.with_values(torch.where(keep, part.values, base)), row).numpy()  # noqa: B023

            masker = shap.maskers.Independent(np.zeros((1, len(mine))), max_samples=1)
            explainer = shap.PermutationExplainer(ask, masker, seed=1)
            explainer(np.ones((1, len(mine))), max_evals=SHAP_DEFAULT * (2 * len(mine) + 1), silent=True)


def _captum(people: People, names: list[str], targets: list[int], steps: int) -> float:
    """Captum looped over targets; the share of people whose sums keep the promise.

    Captum integrates the path of what has a gradient; trees have none, so it is held to W with the trees standing
    still.
    """
    from captum.attr import IntegratedGradients

    held = np.ones(len(people), dtype=bool)
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
                    internal_batch_size=_ROWS,
                )
                sums.append(said.flatten(1).sum(dim=1).detach().double())
        with torch.no_grad():
            gain = still(given, index) - still(given.with_values(start), index)
            total = worth(given, index)
        off = (torch.stack(sums, dim=1) - gain).abs()
        allowed = torch.clamp(TOLERANCE_SHARE * total.abs(), min=TOLERANCE_POINTS)
        held[rows.numpy()] &= (off <= allowed).all(dim=1).numpy()
    return float(held.mean())


def _without_trees(worth: ModalityWorth, given: ModalityTensors, start: Tensor) -> Callable[..., Tensor]:
    """W with the trees of a tabular modality saying what they say of the subject, wherever its values are."""
    path = worth.trees(given, start)
    if path is None:
        return worth
    from dataclasses import replace

    def still(moved: ModalityTensors, row: Tensor) -> Tensor:
        return worth(replace(moved, trees=path.end[row]), row)  # type: ignore[type-var]

    return still
