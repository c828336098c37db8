"""Are reasons true: the simulated hospital of 20,000, its held-out people, against the oracle."""

from pathlib import Path

import numpy as np
import polars as pl

from riskpred.evaluate.true_reasons import (
    CONTRIBUTIONS,
    FINDINGS,
    agreement_with_truth,
    by_code,
    modality_table,
    pointing_games,
    read_true,
    true_codes,
    true_modalities,
)
from riskpred.explain.faithfulness import longest, rank_correlations
from riskpred.explain.permutation import quick_shapley
from riskpred.explain.removal import People, contributions
from riskpred.model.threads import one_thread
from tests.benchmarks.night.results import Attempts, Figures
from tests.benchmarks.reasons import data

PEOPLE = 600
PERMUTED = 200


def measure(work: Path, attempts: Attempts) -> Figures:
    """Spearman's correlation of each person's table with the true one, median over people; the pointing game."""
    del attempts
    found = data.made(work, data.HOSPITAL)
    assert found.truth is not None
    bundle, batch, _ = data.people(found, PEOPLE)
    table, nodules = read_true(found.truth, CONTRIBUTIONS), read_true(found.truth, FINDINGS)
    assert table is not None
    assert nodules is not None
    model, people, targets = bundle.model, People.of(bundle, batch), longest(bundle.model)
    with one_thread():
        own = contributions(people, targets)
        by_outcome = agreement_with_truth(bundle, batch, people, own, table)
        # The whole table of a person: every modality, outcome and horizon; every code and outcome at its last horizon.
        said, there = modality_table(bundle, batch)
        true = true_modalities(batch, model.targets, model.modalities, table)
        counted = (np.isfinite(true) & there[:, None]).reshape(len(batch), -1) & (there.sum(1) > 1)[:, None]
        whole = rank_correlations(said.reshape(len(batch), -1), true.reshape(len(batch), -1), counted)
        feature, acting = _whole(people, batch, own, table)
        some = people.take(np.arange(PERMUTED))
        shapley, _ = _whole(some, _first(batch, PERMUTED), quick_shapley(some, targets, 24), table)
        games = pointing_games(people, batch, nodules, targets)
    names = [model.targets[q][0] for q in targets]
    return {
        "people": len(batch),
        "modality_whole_table": data.quantiles(whole),
        "feature_whole_table": data.quantiles(feature),
        "feature_whole_table_acting": data.quantiles(acting),
        "feature_whole_table_by_shapley_values_of_the_model": data.quantiles(shapley),
        "by_outcome": {
            kind: {name: data.quantiles(values[:, t]) for t, name in enumerate(names)}
            for kind, values in zip(("modality", "feature", "feature_acting"), by_outcome, strict=True)
        },
        "pointing": {
            names[t]: {
                "nodules": len(games[q].inside),
                "outlined": int(np.isfinite(games[q].inside).sum()),
                "in_region_1": float(np.nanmean(games[q].inside)),
                "in_any_region": float(np.nanmean(games[q].in_any)),
                "region_1_share_of_picture": games[q].share,
            }
            for t, q in enumerate(targets)
        },
        "mean_abs_points_true_and_ours": {
            name: [
                [round(float(np.nanmean(np.abs(v[:, q, m][there[:, m]]))), 2) for q in targets] for v in (true, said)
            ]
            for m, name in enumerate(model.modalities)
        },
    }


def _first(batch, rows: int):  # type: ignore[no-untyped-def]
    from riskpred.features.join import take

    return take(batch, np.arange(rows))


def _whole(people: People, batch, own: np.ndarray, table: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[no-untyped-def]
    """Over a person's codes and outcomes together: all, and those that change a true risk."""
    targets = [people.model.targets[q] for q in longest(people.model)]
    codes, mine = by_code(people, own)
    moves = by_code(people, people.movable[:, None, :].astype(float))[1] > 0
    true = true_codes(batch, targets, codes, table)
    known = np.isfinite(true) & moves
    flat = [
        one.reshape(len(batch), -1) for one in (mine, np.nan_to_num(true), known, known & (np.nan_to_num(true) != 0))
    ]
    return rank_correlations(flat[0], flat[1], flat[2]), rank_correlations(flat[0], flat[1], flat[3])
