"""Fits the tree term of one member: gradient-boosted trees per cause on top of that cause's bare baseline.

With a baseline hazard given, the piecewise exponential likelihood is that of Poisson counts: events with the cumulative
baseline hazard as exposure (Holford 1980, Biometrics 36:299-305). So scikit-learn's histogram boosting with Poisson
loss fits it, each person once for each point of time that follow-up reaches; trees may ask for the point of time. Known
at once, the exposure is the same for everyone. A tree asks columns of one modality only: each has one sender.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riskpred.fit.spline_base import CauseData, Choice, fit_cause
from riskpred.fit.train import TrainingData
from riskpred.model.layout import BASES, GroupGrid
from riskpred.model.network import Member
from riskpred.model.ranked_trees import RankedTrees
from riskpred.model.tabular import TabularEncoder
from riskpred.model.tensors import TabularTensors
from riskpred.model.trees import Forest

Floats = NDArray[np.float64]

_LEAST_EVENTS = 15
"""With fewer events of a cause its trees would follow single people: it gets none."""
_PATIENCE = 20
_LIKELIEST = 0.95
"""A chance above this counts as this where the rate behind a yes is reckoned."""
_BINS = 64
_REFIT = 1.1
"""Rounds of the refit on all of a member's rows, by the rounds that were best on the rows that stopped it."""


@dataclass(frozen=True)
class Style:
    """One way of boosting; a cause's trees are the mean of all styles, which differ in what they overlook."""

    depth: int
    learning_rate: float
    ridge: float
    columns: float
    leaf: int


STYLES = (
    Style(depth=2, learning_rate=0.08, ridge=5.0, columns=0.5, leaf=20),
    Style(depth=3, learning_rate=0.05, ridge=30.0, columns=0.2, leaf=50),
)


@dataclass(frozen=True)
class MemberTrees:
    """The trees of one member, not yet weighted.

    forests: modality -> trees.   mean: modality -> (G,), mean output over the training rows that have it.
    baseline: per group (J, K), log-rate per year of a row whose trees say their mean.
    grown: per group (J,) bool, causes that have trees: outcomes with enough events. Death as a competing cause has
        none: it bears on a risk through the survivors only, which the spline says well enough.
    """

    forests: dict[str, Forest]
    mean: dict[str, Tensor]
    baseline: list[Tensor]
    grown: list[Tensor]


def fit_trees(
    member: Member,
    data: TrainingData,
    stops: NDArray[np.bool_],
    rounds: dict[str, int],
    choices: list[Choice],
    seed: int,
) -> MemberTrees:
    """Trees of every cause over all tabular modalities of a member, side by side.

    Args:
        stops: (N,) rows of `data` that choose the number of rounds; afterwards all rows fit the trees.
        rounds: modality -> most rounds; 0 = no trees of that modality. They are grown side by side, so that the
            largest holds for all others.
        choices: how each cause is fitted, in order: trees see later follow-up where the spline does.
    """
    layout = member.layout
    senders = [name for name in member.modalities if rounds.get(name, 0) > 0]
    asked = {name: _columns(member, data, name) for name in senders}
    # Each modality has a column of its own for the point of time, set later: one that they shared would let a tree
    # that asks for it first go on to columns of two.
    time = np.zeros((len(stops), 1))
    values = np.concatenate([time[:, :0], *(part for one in asked.values() for part in (one, time))], axis=1)
    ends = np.cumsum([0, *(part.shape[1] + 1 for part in asked.values())])
    found: dict[str, list[Forest]] = {name: [] for name in senders}
    baselines, grown, at = [], [], 0
    short = data.up_to(layout)
    for group, first, whole in zip(layout.groups, short.labels, data.labels, strict=True):
        baseline = torch.zeros(len(group.causes), group.intervals, dtype=torch.float64)
        grows = torch.zeros(len(group.causes), dtype=torch.bool)
        for j in range(len(group.causes)):
            labels = whole if choices[at].later else first
            cause = CauseData.of(values, labels, j)
            bare = fit_cause(cause, np.inf).baseline
            baseline[j] = torch.from_numpy(bare)
            if has_trees(group, j, cause.events) and values.shape[1]:
                grows[j] = True
                rows = _person_times(cause, bare, group, stops[labels.counted(j).numpy()], ends)
                for style in STYLES:
                    start, boosted = _boosted(rows, style, max(rounds.values()), ends, at, seed, cause.known_at_once)
                    baseline[j] += start / len(STYLES)
                    for name, forest in zip(senders, boosted, strict=True):
                        found[name].append(forest)
            at += 1
        baselines.append(baseline)
        grown.append(grows)
    forests = {name: Forest.joined(parts) for name, parts in found.items()}
    mean: dict[str, Tensor] = {}
    for name, forest in forests.items():
        here = data.inputs[name].present.numpy()
        output = _output(forest, asked[name][here], at) if here.any() else np.zeros((1, layout.coefficients))
        mean[name] = torch.from_numpy(output.mean(axis=0))
    total = sum(mean.values(), start=torch.zeros(layout.coefficients, dtype=torch.float64))
    for g, (group, part) in enumerate(zip(layout.groups, layout.slices(), strict=True)):
        baselines[g] += total[part].reshape(-1, BASES) @ group.time_basis
    return MemberTrees(forests, mean, baselines, grown)


def has_trees(group: GroupGrid, j: int, events: float) -> bool:
    """Whether the cause at this position of a group gets trees."""
    return group.causes[j] in group.outcomes and events >= _LEAST_EVENTS


def _output(forest: Forest, values: NDArray[np.float64], causes: int) -> NDArray[np.float64]:
    """Sum over each cause's trees at each point of time. Shape: values (B, W), NaN = missing; result (B, G)."""
    return RankedTrees.of(forest, values.shape[1], causes, BASES).predict(np.ascontiguousarray(values, np.float64))


def tree_log_rates(member: Member, trees: MemberTrees, data: TrainingData) -> list[Tensor]:
    """What the trees alone say: log-rates per group, (N, J, K)."""
    layout = member.layout
    total = torch.zeros(len(data.together), layout.coefficients, dtype=torch.float64)
    for name, forest in trees.forests.items():
        output = torch.from_numpy(_output(forest, _columns(member, data, name), layout.causes))
        total += torch.where(data.inputs[name].present[:, None], output - trees.mean[name], 0.0)
    return [
        baseline + total[:, part].reshape(len(total), -1, BASES) @ group.time_basis
        for baseline, group, part in zip(trees.baseline, layout.groups, layout.slices(), strict=True)
    ]


def _columns(member: Member, data: TrainingData, name: str) -> Floats:
    """What the trees of a modality ask, all missing in a row that lacks it. Shape: (N, W)."""
    encoder, given = member.encoders[name], data.inputs[name]
    assert isinstance(encoder, TabularEncoder)
    assert isinstance(given, TabularTensors)
    return np.where(given.present.numpy()[:, None], encoder.trees.asked(given), np.nan)


@dataclass(frozen=True)
class _PersonTimes:
    """Rows of one cause, one per person and point of time with exposure. Shape: values (M, columns), others (M,).

    exposure: expected events by the bare baseline.
    """

    values: Floats
    event: Floats
    exposure: Floats
    stops: NDArray[np.bool_]

    def fitted_with(self, model: object, rows: NDArray[np.bool_], **validation: object) -> None:
        rate, values = self.event[rows] / self.exposure[rows], self.values[rows]
        # scikit-learn has no bins for a column without a value; a constant one has no split.
        values[:, np.isnan(values).all(axis=0)] = 0.0
        model.fit(values, rate, sample_weight=self.exposure[rows], **validation)  # type: ignore[attr-defined]

    def latent(self, expected: Floats) -> "_PersonTimes":
        """Known at once: yes counts as the events that a yes stands for, -log(1 - p) / p where p were expected.

        Poisson loss fits the mean of what it is given. Of a yes or no that is p, of this it is -log(1 - p), the rate
        that the rest of the model means.
        """
        chance = np.clip(expected, 1e-9, _LIKELIEST)
        return replace(self, event=self.event * -np.log1p(-chance) / chance)


def _person_times(
    cause: CauseData, bare: Floats, group: GroupGrid, stops: NDArray[np.bool_], ends: NDArray[np.int64]
) -> _PersonTimes:
    expected = cause.exposure * np.exp(bare)
    parts = []
    for point in np.unique(group.stratum):
        within = group.stratum == point
        exposure = expected[:, within].sum(axis=1)
        event = cause.event * within[cause.interval]
        some = exposure > 0
        at = cause.matrix[some]
        at[:, ends[1:] - 1] = float(point)
        parts.append((at, event[some], exposure[some], stops[some]))
    values, event, exposure, stopping = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _PersonTimes(values, event, exposure, stopping)


def _boosted(
    rows: _PersonTimes,
    style: Style,
    rounds: int,
    ends: NDArray[np.int64],
    cause: int,
    seed: int,
    known_at_once: bool,
) -> tuple[float, list[Forest]]:
    """Start value, and the trees of each modality; leaves are divided by the number of styles."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    stops = rows.stops
    none = 0.0, [Forest.empty() for _ in ends[1:]]
    if not rows.event[stops].any() or not rows.event[~stops].any():
        return none
    settings = {
        "loss": "poisson",
        "learning_rate": style.learning_rate,
        "max_depth": style.depth,
        "max_leaf_nodes": None,
        "min_samples_leaf": max(5, min(style.leaf, len(stops) // 25)),
        "l2_regularization": style.ridge,
        "max_features": style.columns,
        "max_bins": _BINS,
        "random_state": seed % 2**32,
        "interaction_cst": [{*range(a, b)} for a, b in itertools.pairwise(ends)],
    }
    search = HistGradientBoostingRegressor(
        max_iter=rounds, early_stopping=True, n_iter_no_change=_PATIENCE, tol=0.0, scoring="loss", **settings
    )
    rows.fitted_with(
        search,
        ~stops,
        X_val=rows.values[stops],
        y_val=rows.event[stops] / rows.exposure[stops],
        sample_weight_val=rows.exposure[stops],
    )
    best = int(np.argmax(search.validation_score_))  # entry 0 is before the first round
    if best == 0:
        return none
    final = HistGradientBoostingRegressor(max_iter=min(round(best * _REFIT), rounds), early_stopping=False, **settings)
    if known_at_once:
        rows = rows.latent(search.predict(rows.values) * rows.exposure)
    rows.fitted_with(final, np.ones(len(stops), bool))
    trees = [predictors[0].nodes for predictors in final._predictors]
    start = float(np.ravel(final._baseline_prediction)[0])
    return start, _by_sender(trees, ends, cause)


def _by_sender(trees: Sequence[NDArray[np.void]], ends: NDArray[np.int64], cause: int) -> list[Forest]:
    """scikit-learn's node tables as one forest per modality, columns counted within it, the point of time the last."""
    found: list[list[Forest]] = [[] for _ in ends[1:]]
    for nodes in trees:
        leaf = nodes["is_leaf"].astype(bool)
        column = nodes["feature_idx"].astype(np.int64)
        asked = column[~leaf]
        owner = int(np.searchsorted(ends, asked[0], side="right")) - 1 if len(asked) else 0
        assert all(ends[owner] <= c < ends[owner + 1] for c in asked), "a tree must ask one modality only"
        found[owner].append(
            Forest(
                np.where(leaf, -1, column - ends[owner]),
                nodes["num_threshold"].astype(np.float64),
                nodes["missing_go_to_left"].astype(bool),
                nodes["left"].astype(np.int64),
                nodes["right"].astype(np.int64),
                nodes["value"].astype(np.float64) / len(STYLES),
                np.zeros(1, np.int64),
                np.array([cause], np.int64),
                np.array([bool((asked == ends[owner + 1] - 1).any())]),
            )
        )
    return [Forest.joined(parts) for parts in found]
