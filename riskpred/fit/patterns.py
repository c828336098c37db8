"""Calibration by availability pattern: a risk without its image is to be as honest as one with it.

Three maps are made of out-of-fold log-rates, from the most people to the fewest: of everyone with what they have
(pooled); of everyone who has at least the pattern's modalities, with only these (reduced); of those who have just the
pattern (own). Each later one replaces the one before it in proportion to its events, in full from 100 on. So a pattern
that nobody had in training is honest as well, as far as what is missing at random.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riskpred.fit.losses import GroupLabels
from riskpred.fit.recalibrate import Line, blended, fit_line, for_the_mean, stretch_for_the_mean
from riskpred.fit.train import TrainingData
from riskpred.model.calibration import Calibration, pattern_index
from riskpred.model.layout import Layout
from riskpred.model.network import Sent
from riskpred.model.risk import RiskModel

ENOUGH_EVENTS = 100
"""Events of a cause from which on a map of its own counts in full (design: weight min(1, events / 100))."""

_ALL_SUBSETS = 5
"""With so many modalities or fewer every subset gets its map; with more, those that occur and those one short."""


@dataclass(frozen=True)
class OutOfFold:
    """Log-rates of N rows, per group (N, J, K): own, by the member that never saw the row; rest, mean of the others."""

    own: list[Tensor]
    rest: list[Tensor]


@dataclass(frozen=True)
class Maps:
    """Maps of one member's log-rates, and of the mean of all. Per group: pattern -> Line."""

    one: list[dict[int, Line]]
    mean: list[dict[int, Line]]


def out_of_fold(
    model: RiskModel,
    sent: Sequence[Sent],
    fold: NDArray[np.int64],
    present: Mapping[str, Tensor],
    rows: Tensor | None = None,
) -> OutOfFold:
    """Log-rates with the modalities `present`, from what every member's encoders sent for the same rows.

    Args:
        sent: one per member, within one member: (N, G) and (N, D).   rows: which of them; default all.
    """
    layout, members = model.layout, model.members
    at = torch.arange(len(fold)) if rows is None else rows
    own: list[Tensor] = [torch.zeros(()) for _ in layout.groups]
    total = list(own)
    here = {name: flags[at] for name, flags in present.items()}
    for r in range(members):
        some = {name: type(one)(one.coefficients[at], one.embedding[at]) for name, one in sent[r].items()}
        with torch.no_grad():
            rates = model.member(r).log_rates(some, here)
        left_out = torch.from_numpy(fold == r)[at][:, None, None]
        for g, rate in enumerate(rates):
            own[g] = torch.where(left_out, rate, own[g])
            total[g] = total[g] + rate
    return OutOfFold(own, [(total[g] - own[g]) / max(1, members - 1) for g in range(len(own))])


def fit_patterns(
    model: RiskModel, data: TrainingData, sent: Sequence[Sent], fold: NDArray[np.int64], pooled_only: bool = False
) -> Maps:
    """Maps for every pattern; those for the mean are put into the model.

    Args:
        pooled_only: one map for all patterns (to show what the maps by pattern are worth).
    """
    layout, present = model.layout, data.present
    names = model.modalities
    index = pattern_index(present, names)
    everyone = out_of_fold(model, sent, fold, present)
    pooled = [_both(layout, g, everyone, data.labels[g], model.members) for g in range(len(layout.groups))]
    one = [dict.fromkeys(range(2 ** len(names)), first) for first, _ in pooled]
    mean = [dict.fromkeys(range(2 ** len(names)), second) for _, second in pooled]
    for pattern in [] if pooled_only or len(names) == 1 else _patterns(index, len(names)):
        has = (index & pattern) == pattern
        reduced = {name: has & bool(pattern >> m & 1) for m, name in enumerate(names)}
        rows = has.nonzero()[:, 0]
        if not len(rows):
            continue
        found = out_of_fold(model, sent, fold, reduced, rows)
        exact = index[rows] == pattern
        for g in range(len(layout.groups)):
            labels, knots = data.labels[g].take(rows), pooled[g][0]
            both = _both(layout, g, found, labels, model.members, knots)
            _replace(one[g], mean[g], pattern, both, found.own[g], labels)
            own = labels.take(exact.nonzero()[:, 0])
            if bool((_weight(own) > 0).any()) and not bool(exact.all()):
                just = OutOfFold([rate[exact] for rate in found.own], [rate[exact] for rate in found.rest])
                both = _both(layout, g, just, own, model.members, knots)
                _replace(one[g], mean[g], pattern, both, just.own[g], own)
    for calibration, lines in zip(model.calibrations, mean, strict=True):
        assert isinstance(calibration, Calibration)
        for pattern, line in lines.items():
            line.put(calibration, pattern)
    return Maps(one, mean)


def apply(lines: Mapping[int, Line], log_rate: Tensor, index: Tensor) -> Tensor:
    """Each row through the map of its pattern. Shape: log_rate (N, J, K), index (N,)."""
    result = log_rate.clone()
    for pattern in set(index.tolist()):
        rows = index == pattern
        result[rows] = lines[pattern](log_rate[rows])
    return result


def _replace(
    one: dict[int, Line],
    mean: dict[int, Line],
    pattern: int,
    new: tuple[Line, Line],
    log_rate: Tensor,
    labels: GroupLabels,
) -> None:
    """Put new maps in place of a pattern's old ones, as far as the weight of the people they were fitted on goes."""
    weight = _weight(labels)
    if not bool((weight > 0).any()):
        return
    one[pattern] = blended(new[0], one[pattern], weight, log_rate, labels)
    mean[pattern] = blended(new[1], mean[pattern], weight, log_rate, labels)


def _both(
    layout: Layout, g: int, found: OutOfFold, labels: GroupLabels, members: int, like: Line | None = None
) -> tuple[Line, Line]:
    """The map of one member, and that of the mean of all; `like`: map whose knots they have."""
    one = fit_line(layout.groups[g], found.own[g], labels, like)
    # Beyond the last horizon members may differ by whether they were trained there, which says nothing of their noise.
    told = layout.groups[g].end_of[-1] + 1
    stretch = stretch_for_the_mean(found.own[g][..., :told], found.rest[g][..., :told], labels.inside, members)
    return one, for_the_mean(one, stretch, found.own[g], labels)


def _weight(labels: GroupLabels) -> Tensor:
    """min(1, events / 100) of each cause. Shape: (J,)."""
    events = labels.event[labels.inside].sum(dim=0)
    return (events / ENOUGH_EVENTS).clamp(max=1.0)


def _patterns(index: Tensor, modalities: int) -> list[int]:
    """Patterns that get maps of their own, without the empty one."""
    if modalities <= _ALL_SUBSETS:
        return list(range(1, 2**modalities))
    every = 2**modalities - 1
    found = {*index.tolist(), every}
    found |= {sum(1 << m for m in kept) for kept in combinations(range(modalities), modalities - 1)}
    return sorted(found - {0})
