"""Cross-fitted members and the calibration they share: no subject calibrates a member that it trained or stopped."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riskpred.config.network import NetworkConfig
from riskpred.features.plan import FeaturePlan
from riskpred.fit.data import Rows, stratified_folds
from riskpred.fit.losses import labels_on
from riskpred.fit.recalibrate import fit_calibrations, for_the_mean, stretch_for_the_mean
from riskpred.fit.train import TrainingData, member_log_rates, train_member
from riskpred.model.calibration import Calibration
from riskpred.model.incidence import cumulative_incidence
from riskpred.model.layout import Layout
from riskpred.model.risk import RiskModel


@dataclass(frozen=True)
class Fitted:
    """A model, and the risk of each training row by the one member that never saw its subject, calibrated for one.

    Shape: fold (N,), the member that predicted the row; out_of_fold, base (N, Q), the latter of the spline alone.
    """

    model: RiskModel
    fold: NDArray[np.int64]
    out_of_fold: NDArray[np.float64]
    base: NDArray[np.float64]


def fit_members(
    config: NetworkConfig,
    plan: FeaturePlan,
    layout: Layout,
    rows: Rows,
    seed: int,
    on_epoch: Callable[[int], None] = lambda epochs: None,
) -> Fitted:
    """R members, each trained on all folds but its own; one calibration map per cause on the pooled left-out folds.

    Member r leaves out fold r; of the other subjects `stopping_share` stop it and the rest train it.

    Args:
        on_epoch: called with the number of epochs that are over (skipped ones count when a member stops early).
    """
    model = RiskModel(config, plan, layout)
    data = training_data(model, rows)
    fold = stratified_folds(rows.together, data.strata, config.members, seed)
    total: list[Tensor] = [torch.zeros(()) for _ in layout.groups]
    own, own_base = list(total), list(total)
    for r in range(config.members):
        own_seed = seed * 1_000_003 + r + 1
        others = data.take(np.flatnonzero(fold != r))
        stops = stopping_rows(others, config.training.stopping_share, own_seed)
        on_epoch(r * config.training.epochs)
        report = _counted(on_epoch, r * config.training.epochs)
        member = train_member(config, plan, layout, others, stops, own_seed, report)
        model.networks[r] = member
        left_out = torch.from_numpy(fold == r)[:, None, None]
        rates, base = member_log_rates(member, data), member_log_rates(member, data, base_only=True)
        for g in range(len(layout.groups)):
            total[g] = total[g] + rates[g]
            own[g] = torch.where(left_out, rates[g], own[g])
            own_base[g] = torch.where(left_out, base[g], own_base[g])
    on_epoch(config.members * config.training.epochs)

    maps = fit_calibrations(layout.groups, own, data.labels)
    base_maps = fit_calibrations(layout.groups, own_base, data.labels)
    for g, (group, labels) in enumerate(zip(layout.groups, data.labels, strict=True)):
        rest = (total[g] - own[g]) / (config.members - 1)
        stretch = stretch_for_the_mean(own[g], rest, labels.inside, config.members)
        model.calibrations[g] = for_the_mean(group, maps[g], stretch, own[g], labels)
    model.eval().requires_grad_(False)
    return Fitted(model, fold, _risks(layout, maps, own), _risks(layout, base_maps, own_base))


def _counted(on_epoch: Callable[[int], None], over: int) -> Callable[[], None]:
    counter = itertools.count(over + 1)
    return lambda: on_epoch(next(counter))


def _risks(layout: Layout, maps: list[Calibration], log_rates: list[Tensor]) -> NDArray[np.float64]:
    incidence = [
        cumulative_incidence(map_(eta), torch.from_numpy(group.widths_years))
        for group, map_, eta in zip(layout.groups, maps, log_rates, strict=True)
    ]
    risks: NDArray[np.float64] = torch.stack([incidence[g][:, j, k] for g, j, k in layout.where], dim=-1).numpy()
    return risks


def training_data(model: RiskModel, rows: Rows) -> TrainingData:
    """Rows as tensors, with labels on the model's grids."""
    labels = [labels_on(group, rows.duration_days[group.name], rows.cause[group.name]) for group in model.layout.groups]
    return TrainingData(rows.together, rows.labels(), model.tensors(rows.batch), labels)


def stopping_rows(data: TrainingData, share: float, seed: int) -> NDArray[np.bool_]:
    """Rows kept for early stopping: about `share` of the subjects, dealt by label so that both parts have events."""
    stops: NDArray[np.bool_] = stratified_folds(data.together, data.strata, max(2, round(1.0 / share)), seed) == 0
    return stops
