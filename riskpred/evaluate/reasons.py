"""The faithfulness section of an evaluation: whether the model's reasons are true, on a seeded sample of its rows.

Rows of metrics (`model` riskpred, or what it is held against: random order, the value alone, methods of Captum):
deletion_area, insertion_area (risk points, see explain/faithfulness.py), permutation_agreement, noise_agreement,
member_agreement, randomised_agreement (Spearman's correlation of a person's features, median over people), and on the
simulated hospital truth_modality, truth_feature, truth_acting_feature (the same with the true contributions) and
pointing_game (share of nodules whose centre lies in the region outlined first). All at each outcome's longest horizon.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from riskpred.evaluate.censoring import Floats
from riskpred.evaluate.gather import MODEL, Evaluated
from riskpred.evaluate.intervals import interval, resampled_counts, resamples_for
from riskpred.evaluate.metrics import Metric
from riskpred.evaluate.picture import curve_picture
from riskpred.evaluate.summary import number, within
from riskpred.explain.captum_methods import DEEP_LIFT, GRADIENT_SHAP, captum_contributions
from riskpred.explain.faithfulness import (
    Curves,
    across_members,
    against_randomised,
    agreement,
    all_curves,
    area,
    is_rejected,
    longest,
    with_noise,
)
from riskpred.explain.permutation import permutation_shapley
from riskpred.explain.removal import People, contributions
from riskpred.features.batch import FeatureBatch
from riskpred.features.build import build
from riskpred.features.join import concat, take
from riskpred.model.bundle import Bundle
from riskpred.model.threads import one_thread
from riskpred.progress import Progress, Silent
from riskpred.records.cohort import cohort, rows_at
from riskpred.records.warehouse import Warehouse

SAMPLED: Final = 200
STABLE: Final = 64
"""Of the sampled rows, on how many the reasons are made again: with noise, by each member, of a randomised model."""
PERMUTED: Final = 10
"""On how many shap's explainer runs, which takes one person at a time; each by so many permutations."""
PERMUTATIONS: Final = 15

AREAS: Final = ("deletion_area", "insertion_area")
AGREEMENTS: Final = ("permutation_agreement", "noise_agreement", "member_agreement", "randomised_agreement")
TRUTHS: Final = ("truth_modality", "truth_feature", "truth_acting_feature", "pointing_game")


REJECTED: Final = "REJECTED: a model with randomised weights would be explained much the same."

MEANINGS: Final = {
    "permutation_agreement": (
        "agreement with shap's PermutationExplainer",
        "rank correlation of a person's features with Shapley values from random orders, same baseline, same question",
    ),
    "noise_agreement": ("stability under noise", "the same, after noise of 1 % of each feature's SD"),
    "member_agreement": (
        "stability across seeds",
        "each member of the ensemble (its own seed and left-out fold) alone, against the whole; mean over members",
    ),
    "randomised_agreement": (
        "agreement with a randomised model",
        "weights shuffled: must be far from 1; at .5 or more the reasons are rejected",
    ),
    "truth_modality": ("agreement with the truth, modalities", "over a person's modalities and the outcome's horizons"),
    "truth_feature": ("agreement with the truth, features", "over all that a person has on record"),
    "truth_acting_feature": ("of these, what acts", "less what changes no true risk, whose order is chance"),
    "pointing_game": ("pointing game", "share of nodules whose centre lies in the region outlined first"),
}
"""Metric -> its name for people, and what it is."""


@dataclass(frozen=True)
class Checked:
    """B sampled rows, T targets (places in the model's order).

    curves: model -> target -> curves.   agreements: metric -> (b, T) over the first b people, NaN = not defined.
    rejected: the attribution says much the same of a randomised model.   seconds: what it took.
    """

    subject_id: NDArray[np.int64]
    targets: tuple[int, ...]
    curves: dict[str, dict[int, Curves]]
    agreements: dict[str, Floats]
    rejected: bool
    seconds: float


def check_reasons(
    bundle: Bundle, batch: FeatureBatch, seed: int = 1, progress: Progress | None = None
) -> tuple[Checked, Floats]:
    """Check the reasons of a batch; also the contributions themselves, (B, T, F) as `explain.removal` has them."""
    progress, started = progress or Silent(), time.monotonic()
    with one_thread():
        people = People.of(bundle, batch)
        targets = longest(bundle.model)
        few, fewer = (people.take(np.arange(min(most, len(people)))) for most in (STABLE, PERMUTED))
        steps: dict[str, Callable[[], Floats]] = {
            MODEL: lambda: contributions(people, targets),
            DEEP_LIFT: lambda: captum_contributions(people, targets, DEEP_LIFT, seed),
            GRADIENT_SHAP: lambda: captum_contributions(people, targets, GRADIENT_SHAP, seed),
        }
        scores: dict[str, Floats] = {}
        total = len(steps) + len(AGREEMENTS) + 1
        for name, step in steps.items():
            progress.step("evaluate: reasons", len(scores), total)
            scores[name] = step()
        own = scores[MODEL]
        agreed: dict[str, Floats] = {}
        again: dict[str, Callable[[], Floats]] = {
            "permutation_agreement": lambda: agreement(
                permutation_shapley(fewer, targets, PERMUTATIONS, seed), own[: len(fewer)], fewer.movable
            ),
            "noise_agreement": lambda: agreement(
                contributions(with_noise(few, seed), targets), own[: len(few)], few.movable
            ),
            "member_agreement": lambda: across_members(few, own[: len(few)], targets),
            "randomised_agreement": lambda: against_randomised(few, own[: len(few)], targets, seed),
        }
        for metric in AGREEMENTS:
            progress.step("evaluate: reasons", len(scores) + len(agreed), total)
            agreed[metric] = again[metric]()
        drawn = all_curves(people, scores, targets, seed)
        progress.step("evaluate: reasons", total, total)
    rejected = is_rejected(agreed["randomised_agreement"])
    spent = time.monotonic() - started
    return Checked(batch.subject_id, tuple(targets), drawn, agreed, rejected, spent), own


def sampled(
    bundle: Bundle, warehouse: Warehouse, evaluated: Evaluated, rows: int = SAMPLED, seed: int = 1
) -> FeatureBatch | None:
    """Inputs of a seeded sample of the evaluated rows, one a subject; None where they are not in the warehouse.

    The order is a random one: its first rows are a sample, too.
    """
    if evaluated.prediction_time is None:
        return None
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(evaluated))
    first = order[np.sort(np.unique(evaluated.subject_id[order], return_index=True)[1])][:rows]
    wanted = {
        (int(evaluated.subject_id[row]), int(evaluated.prediction_time[row])): place
        for place, row in enumerate(first.tolist())
    }
    batches, places = [], []
    outcomes = bundle.config.outcomes.without_blanking()
    with one_thread():
        for chunk in warehouse.chunks(subjects=np.sort(evaluated.subject_id[first])):
            found = cohort(chunk, outcomes, warehouse.data_until)
            keys = zip(chunk.subject_id[found.subject].tolist(), found.prediction_time.tolist(), strict=True)
            at = np.array([wanted.get(key, -1) for key in keys], dtype=np.int64)
            if (at >= 0).any():
                batches.append(build(chunk, rows_at(found, np.flatnonzero(at >= 0)), bundle.plan, warehouse.image_root))
                places.append(at[at >= 0])
    if not batches:
        return None
    place = np.concatenate(places)
    return take(concat(batches), np.argsort(place).astype(np.int64))


def reason_metrics(
    evaluated: Evaluated, checked: Checked, truths: Sequence["Truth"] = (), seed: int = 1
) -> list[Metric]:
    """Rows of metrics, with 90 % bootstrap intervals by subject and paired differences of areas to the others."""
    rows: list[Metric] = []
    counts = np.array(list(resampled_counts(checked.subject_id, resamples_for(len(checked.subject_id)), seed)))
    for t, q in enumerate(checked.targets):
        areas = {model: [area(one[q].deletion), area(one[q].insertion)] for model, one in checked.curves.items()}
        for metric, kind in enumerate(AREAS):
            rows += [_mean_row(evaluated, q, model, kind, values[metric], counts) for model, values in areas.items()]
            rows += [
                _mean_row(evaluated, q, f"{MODEL} - {model}", kind, areas[MODEL][metric] - values[metric], counts)
                for model, values in areas.items()
                if model != MODEL
            ]
        rows += [_median_row(evaluated, q, kind, values[:, t], seed) for kind, values in checked.agreements.items()]
    return rows + [_truth_row(evaluated, truth, seed) for truth in truths]


@dataclass(frozen=True)
class Truth:
    """One comparison with what is true of simulated people. target: place in the model's order; values: (n,) of people
    or nodules, NaN = not defined; middle: whether their median is told, else their mean."""

    metric: str
    target: int
    values: Floats
    middle: bool = True


def _row(evaluated: Evaluated, q: int, model: str, metric: str, n: int) -> Metric:
    outcome, years = evaluated.targets[q]
    return Metric(
        model=model,
        split=evaluated.split,
        outcome=outcome,
        horizon_years=years,
        subgroup=None,
        blanking_days=evaluated.blanking_days.get(outcome, 0),
        metric=metric,
        value=None,
        low=None,
        high=None,
        n=n,
        events=None,
        reason=None,
        threshold=None,
    )


def _mean_row(evaluated: Evaluated, q: int, model: str, metric: str, values: Floats, counts: Floats) -> Metric:
    row = _row(evaluated, q, model, metric, len(values))
    row["value"] = float(values.mean())
    bounds = interval(counts @ values / counts.sum(axis=1))
    row["low"], row["high"] = bounds or (None, None)
    return row


def _median_row(evaluated: Evaluated, q: int, metric: str, values: Floats, seed: int) -> Metric:
    there = values[np.isfinite(values)]
    row = _row(evaluated, q, MODEL, metric, len(there))
    if not len(there):
        row["reason"] = "nobody in the sample has two features that could be ranked"
        return row
    row["value"] = float(np.median(there))
    generator = np.random.default_rng(seed)
    drawn = np.median(there[generator.integers(0, len(there), (resamples_for(len(there)), len(there)))], axis=1)
    row["low"], row["high"] = interval(drawn) or (None, None)
    return row


def _truth_row(evaluated: Evaluated, truth: Truth, seed: int) -> Metric:
    if truth.middle:
        return _median_row(evaluated, truth.target, truth.metric, truth.values, seed)
    there = truth.values[np.isfinite(truth.values)]
    if not len(there):
        row = _row(evaluated, truth.target, MODEL, truth.metric, 0)
        row["reason"] = "no nodule in an image of the sample whose reasons outline a region"
        return row
    generator = np.random.default_rng(seed)
    index = generator.integers(0, len(there), (resamples_for(len(there)), len(there)))
    row = _row(evaluated, truth.target, MODEL, truth.metric, len(there))
    row["value"] = float(there.mean())
    row["low"], row["high"] = interval(there[index].mean(axis=1)) or (None, None)
    return row


def view(checked: Checked, rows: Sequence[Metric], evaluated: Evaluated, lacking: Sequence[str] = ()) -> dict[str, Any]:
    """What the page shows and the JSON tells beside the rows: sentences, and by outcome a table and two pictures."""
    display = evaluated.display
    outcomes = []
    for q in checked.targets:
        outcome, years = evaluated.targets[q]
        of = {
            (row["model"], row["metric"]): row
            for row in rows
            if row["outcome"] == outcome and row["horizon_years"] == years
        }
        pictures = [
            curve_picture(title, better, {model: getattr(one[q], kind) for model, one in checked.curves.items()})
            for kind, title, better in (
                ("deletion", "Features removed", "higher is better"),
                ("insertion", "Features restored", "lower is better"),
            )
        ]
        areas = [
            {
                "model": model,
                "cells": [_cell(of[model, kind]) for kind in AREAS],
                "less": [_cell(of[f"{MODEL} - {model}", kind]) if model != MODEL else "" for kind in AREAS],
            }
            for model in checked.curves
        ]
        agreed = [
            {"name": MEANINGS[kind][0], "cell": _cell(of[MODEL, kind]), "meaning": MEANINGS[kind][1], "metric": kind}
            for kind in (*AGREEMENTS, *TRUTHS)
            if (MODEL, kind) in of
        ]
        outcomes.append(
            {"display": display.get(outcome, outcome), "years": years, "pictures": pictures, "areas": areas}
            | {"agreed": agreed}
        )
    return {
        "rows": len(checked.subject_id),
        "seconds": round(checked.seconds, 1),
        "rejected": checked.rejected,
        "lacking": list(lacking),
        "outcomes": outcomes,
    }


def text_of(shown: Mapping[str, Any]) -> str:
    """The section as text for a terminal."""
    lines = [f"Whether the reasons are true of the model ({shown['rows']:,} sampled rows, {shown['seconds']:g} s)"]
    if shown["rejected"]:
        lines.append(f"  {REJECTED}")
    lines += [f"  {text}" for text in shown["lacking"]]
    for outcome in shown["outcomes"]:
        lines += ["", f"{outcome['display']}, {within(outcome['years'])}"]
        lines.append(f"  {'':<24}{'deletion (high)':<24}{'insertion (low)'}")
        lines += [f"  {one['model']:<24}{one['cells'][0]:<24}{one['cells'][1]}" for one in outcome["areas"]]
        lines += [f"  {one['name']}: {one['cell']}" for one in outcome["agreed"]]
    return "\n".join(lines)


def _cell(row: Metric) -> str:
    if row["value"] is None:
        return row["reason"] or "-"
    if row["low"] is None:
        return number(row["value"])
    return f"{number(row['value'])} ({number(row['low'])} to {number(row['high'])})"
