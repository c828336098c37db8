"""Cross-fitted members and the calibration they share: no subject calibrates a member that it trained or stopped."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riskpred.config.network import NetworkConfig, TabularEncoder
from riskpred.features.plan import FeaturePlan, TabularPlan
from riskpred.fit.data import Rows, stratified_folds
from riskpred.fit.losses import labels_on
from riskpred.fit.patterns import Maps, apply, fit_patterns, out_of_fold
from riskpred.fit.stack import Shares, fit_shares, put_shares
from riskpred.fit.train import Starts, TrainingData, member_log_rates, train_member
from riskpred.fit.trees import MemberTrees, fit_trees, tree_log_rates
from riskpred.fit.widen import widening
from riskpred.model.calibration import pattern_index
from riskpred.model.incidence import group_risks
from riskpred.model.layout import Layout
from riskpred.model.network import Sent, SentOne
from riskpred.model.risk import RiskModel
from riskpred.model.threads import one_thread

_ENCODED_AT_ONCE = 1024


@dataclass(frozen=True)
class Fitted:
    """A model, and the risk of each training row by the one member that never saw its subject, calibrated for one.

    Shape: fold (N,), the member that predicted the row; out_of_fold (N, Q).
        shares: per group, what each cause's log-rate takes of trees and residuals.
    """

    model: RiskModel
    fold: NDArray[np.int64]
    out_of_fold: NDArray[np.float64]
    shares: list[Shares]


def fit_members(
    config: NetworkConfig,
    plan: FeaturePlan,
    layout: Layout,
    rows: Rows,
    seed: int,
    on_epoch: Callable[[int], None] = lambda epochs: None,
    starts: Starts | None = None,
) -> Fitted:
    """R members, each trained on all folds but its own; weights, calibration and intervals from the left-out folds.

    Member r leaves out fold r; of the other subjects `stopping_share` stop it and the rest train it.

    Args:
        on_epoch: called with the number of epochs that are over (skipped ones count when a member stops early).
        starts: weights that every member's image networks start from (fit/pretrain_choice.py).
    """
    # The trees' many small parallel loops lose most to a second thread on a busy machine.
    with one_thread():
        return _fit_members(config, plan, layout, rows, seed, on_epoch, starts)


def _fit_members(
    config: NetworkConfig,
    plan: FeaturePlan,
    layout: Layout,
    rows: Rows,
    seed: int,
    on_epoch: Callable[[int], None],
    starts: Starts | None,
) -> Fitted:
    model = RiskModel(config, plan, layout)
    data = training_data(model, rows)
    fold = stratified_folds(rows.together, data.strata, config.members, seed)
    own: list[list[Tensor]] = [[torch.zeros(()) for _ in range(3)] for _ in layout.groups]
    trees: list[MemberTrees] = []
    for r in range(config.members):
        own_seed = seed * 1_000_003 + r + 1
        others = data.take(np.flatnonzero(fold != r))
        stops = stopping_rows(others, config.training.stopping_share, own_seed)
        on_epoch(r * config.training.epochs)
        report = _counted(on_epoch, r * config.training.epochs)
        member, choices = train_member(config, plan, layout, others, stops, own_seed, report, starts)
        trees.append(fit_trees(member, others, stops, _rounds(config, plan), choices, own_seed))
        model.networks[r] = member
        mine = np.flatnonzero(fold == r)
        left_out = data.take(mine)
        candidates = (
            member_log_rates(member, left_out, base_only=True),
            tree_log_rates(member, trees[r], left_out),
            member_log_rates(member, left_out),
        )
        for g, group in enumerate(layout.groups):
            for c, rates in enumerate(candidates):
                if r == 0:
                    own[g][c] = torch.zeros(len(fold), len(group.causes), group.intervals, dtype=torch.float64)
                own[g][c][mine] = rates[g]
    on_epoch(config.members * config.training.epochs)

    # What is out of fold judges the risks that are told: follow-up beyond the last horizon has trained, and is over.
    data = data.up_to(layout)
    shares = [
        fit_shares(own[g][0], own[g][1], own[g][2], labels, torch.stack([one.grown[g] for one in trees]).all(dim=0))
        for g, labels in enumerate(data.labels)
    ]
    for r in range(config.members):
        put_shares(model.member(r), trees[r], shares)
    model.eval().requires_grad_(False)
    sent = [encoded(model, data, r) for r in range(model.members)]
    maps = fit_patterns(model, data, sent, fold, pooled_only=config.pooled_calibration)
    risk = _out_of_fold_risks(model, data, sent, fold, maps)
    model.widening.copy_(torch.from_numpy(widening(model, data, sent, rows, risk)))
    return Fitted(model, fold, risk, shares)


def _rounds(config: NetworkConfig, plan: FeaturePlan) -> dict[str, int]:
    """Most boosting rounds of each tabular modality."""
    found = {}
    for name, part in plan.modalities.items():
        if isinstance(part, TabularPlan):
            given = config.encoders.get(name, TabularEncoder())
            assert isinstance(given, TabularEncoder)
            found[name] = given.trees
    return found


def _counted(on_epoch: Callable[[int], None], over: int) -> Callable[[], None]:
    counter = itertools.count(over + 1)
    return lambda: on_epoch(next(counter))


def encoded(model: RiskModel, data: TrainingData, r: int) -> Sent:
    """What the encoders of member r send for every row, once: (N, G) and (N, D)."""
    parts = []
    with torch.no_grad():
        for rows in torch.split(torch.arange(len(data.together)), _ENCODED_AT_ONCE):
            parts.append(model.member(r).encode({name: given.take(rows) for name, given in data.inputs.items()}))
    return {
        name: SentOne(
            torch.cat([part[name].coefficients for part in parts]), torch.cat([part[name].embedding for part in parts])
        )
        for name in model.modalities
    }


def _out_of_fold_risks(
    model: RiskModel, data: TrainingData, sent: Sequence[Sent], fold: NDArray[np.int64], maps: Maps
) -> NDArray[np.float64]:
    found = out_of_fold(model, sent, fold, data.present)
    index = pattern_index(data.present, model.modalities)
    incidence = [
        group_risks(apply(maps.one[g], found.own[g], index), group) for g, group in enumerate(model.layout.groups)
    ]
    risks: NDArray[np.float64] = torch.stack([incidence[g][:, j, k] for g, j, k in model.layout.where], -1).numpy()
    return risks


def training_data(model: RiskModel, rows: Rows) -> TrainingData:
    """Rows as tensors, with labels on the model's grids."""
    labels = [labels_on(group, rows.duration_days[group.name], rows.cause[group.name]) for group in model.layout.groups]
    return TrainingData(rows.together, rows.labels(), model.tensors(rows.batch), labels)


def stopping_rows(data: TrainingData, share: float, seed: int) -> NDArray[np.bool_]:
    """Rows kept for early stopping: about `share` of the subjects, dealt by label so that both parts have events."""
    stops: NDArray[np.bool_] = stratified_folds(data.together, data.strata, max(2, round(1.0 / share)), seed) == 0
    return stops
