"""Learns where the training data end: ages, follow-up, availability, amount of input, and how far rows lie apart."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from riskpred.evaluate.censoring import MIN_UNCENSORED, observation
from riskpred.fit.data import Rows, stratified_folds
from riskpred.fit.train import TrainingData
from riskpred.model.calibration import pattern_index
from riskpred.model.layout import DAYS_PER_YEAR, Layout
from riskpred.model.likeness import Cloud, fused_embedding, input_profile
from riskpred.model.network import Sent
from riskpred.model.risk import RiskModel
from riskpred.model.scope import LEAST_PEOPLE, Scope, count_inputs

NOMINAL: Final = 0.005
"""Share of people like the training ones that is flagged unlike_training: few enough for a flag to be read."""
_UNIT: Final = 0.01
"""Tail of training rows whose least distance is the unit of a view: the two views weigh alike where it counts."""
_OWN_ROWS: Final = 200
"""Rows that a pattern needs for a cloud and limit of its own: 199 are the fewest with a 99.5 % quantile."""
_FOLDS: Final = 5
"""Distances are those of rows that a cloud did not learn from: it lies nearer to its own rows than to new ones."""
_MOST_ROWS: Final = 50_000
"""More rows, evenly spread, would sharpen no quantile that matters."""
_AGE_TAIL: Final = 0.001
_AGE_TAIL_ROWS: Final = 1000
"""Ages range from the 0.1 % to the 99.9 % quantile, so that one wrong birth does not widen the range; the extremes of
fewer rows, where such a quantile lies between them."""
_FEW_INPUTS_TAIL: Final = 0.01
_FEW_INPUTS_SHARE: Final = 0.5
"""Too few inputs: fewer than 99 % of training rows had, and fewer than half of what the median one had. The first
alone would flag 1 % wherever records are full, the second alone whole clinics that record little."""
_ROWS_AT_ONCE: Final = 1024


def learn_scope(model: RiskModel, data: TrainingData, rows: Rows, reference: Sent, seed: int) -> Scope:
    """The scope of a fitted model, from the rows it was made from.

    Args:
        reference: mean of what each modality sends (fit/profile.py).   seed: of the folds.
    """
    low, high = age_ranges(model.layout, rows)
    pattern = pattern_index(data.present, model.modalities).numpy()
    some = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _MOST_ROWS)).astype(np.int64))
    embedding, profile = _views(model, data, reference, some)
    fold = stratified_folds(rows.together[some], np.zeros(len(some), np.int64), _FOLDS, seed)
    kinds, which = np.unique(pattern, return_inverse=True)
    likeness = _likeness(embedding, profile, which[some], len(kinds), fold)
    return Scope(
        age_low=low,
        age_high=high,
        age_missing=np.asarray(np.isnan(rows.age_years).mean(), np.float64),
        beyond_follow_up=beyond_follow_up(model.layout, rows),
        least_inputs=np.asarray(least_inputs(count_inputs(model.plan, data.inputs)), np.int64),
        pattern=kinds,
        people=np.array([len(np.unique(rows.subject_id[which == k])) for k in range(len(kinds))], np.int64),
        limit=likeness.limit,
        own=likeness.own,
        embedding=likeness.embedding,
        inputs=likeness.inputs,
        units=likeness.units,
    )


def age_ranges(layout: Layout, rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest age of each target's risk set, NaN where no age is known. Shape: (Q,), (Q,)."""
    ends = []
    for group in layout.groups:
        ages = rows.age_years[(rows.cause[group.name] >= 0) & ~np.isnan(rows.age_years)]
        tail = _AGE_TAIL if len(ages) >= _AGE_TAIL_ROWS else 0.0
        ends.append(np.quantile(ages, [tail, 1.0 - tail]) if len(ages) else np.full(2, np.nan))
    found = np.array([ends[group] for group, _, _ in layout.where])
    return found[:, 0], found[:, 1]


def beyond_follow_up(layout: Layout, rows: Rows) -> NDArray[np.bool_]:
    """Whether hardly anyone could be observed to each target's horizon. Shape: (Q,).

    The share still under observation is Kaplan and Meier's of leaving: who had an event or died has not left. Too few
    are 5 %, or fewer people than LEAST_PEOPLE out of those at risk. Known at once there is no follow-up.
    """
    found = np.zeros(len(layout.targets), np.bool_)
    for q, (name, horizon) in enumerate(layout.targets):
        group = layout.group_of(name)
        cause = rows.cause[group.name]
        inside = cause >= 0
        if group.known_at_once or not inside.any():
            continue
        seen = observation(rows.duration_days[group.name][inside], (cause[inside] > 0).astype(np.int8))
        share = float(seen.before(horizon * DAYS_PER_YEAR))
        people = share * len(np.unique(rows.subject_id[inside]))
        found[q] = share < MIN_UNCENSORED or people < LEAST_PEOPLE
    return found


def least_inputs(count: NDArray[np.int64]) -> int:
    """Fewer inputs than this are too few. Shape: (N,) of `count_inputs`."""
    usual = float(np.quantile(count, _FEW_INPUTS_TAIL, method="lower"))
    return int(np.ceil(min(usual, _FEW_INPUTS_SHARE * float(np.median(count)))))


def upper(values: NDArray[np.float64], share: float) -> float:
    """The number that `share` of new values like these exceed: the k-th smallest, k = (n + 1)(1 - share) rounded up.

    With fewer than 1 / share - 1 values the largest, which a larger share exceeds.

    Source: Vovk, Gammerman & Shafer 2005, Algorithmic Learning in a Random World (split conformal quantile).
    """
    at = int(np.ceil((len(values) + 1) * (1.0 - share)))
    return float(np.sort(values)[min(at, len(values)) - 1])


def _views(
    model: RiskModel, data: TrainingData, reference: Sent, index: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fused embeddings (R, n, D) and input profiles (n, P) of the given rows."""
    embedding, profile = [], []
    for at in torch.split(torch.from_numpy(index), _ROWS_AT_ONCE):
        inputs = {name: given.take(at) for name, given in data.inputs.items()}
        with torch.no_grad():
            sent = model.encode(inputs)
        embedding.append(fused_embedding(sent, reference, {name: given.present for name, given in inputs.items()}))
        profile.append(input_profile(model.plan, inputs))
    return np.concatenate(embedding, axis=1), np.concatenate(profile)


@dataclass(frozen=True)
class _Likeness:
    """Fields of Scope by these names."""

    limit: NDArray[np.float64]
    own: NDArray[np.int64]
    embedding: Cloud
    inputs: Cloud
    units: NDArray[np.float64]


def _likeness(
    embedding: NDArray[np.float64],
    profile: NDArray[np.float64],
    which: NDArray[np.int64],
    patterns: int,
    fold: NDArray[np.int64],
) -> _Likeness:
    """Clouds, units and limits. `which`: (n,) each row's place among the patterns."""
    often = np.bincount(which, minlength=patterns) >= _OWN_ROWS
    own = np.append(np.where(often, np.cumsum(often), 0), 0).astype(np.int64)  # cloud 0 is that of all rows

    def clouds(rows: NDArray[np.bool_]) -> tuple[Cloud, Cloud]:
        parts = [rows] + [rows & (which == k) for k in np.flatnonzero(often)]
        members = [Cloud.stacked([Cloud.learn(member[part]) for member in embedding]) for part in parts]
        return Cloud.stacked(members), Cloud.learn(profile[rows])

    distances = np.zeros((2, len(which)))
    for left_out in range(_FOLDS):
        here = fold == left_out
        near, inputs = clouds(~here)
        distances[1, here] = inputs.distance(profile[here])
        for cloud in range(1 + int(often.sum())):
            mine = here & (own[which] == cloud)
            distances[0, mine] = near[cloud].distance(embedding[:, mine]).mean(axis=0)
    units = np.array([upper(view, _UNIT) or 1.0 for view in distances])
    unlikeness = (distances / units[:, None]).max(axis=0)
    whole = upper(unlikeness, NOMINAL)
    limits = [upper(unlikeness[which == k], NOMINAL) if often[k] else whole for k in range(patterns)]
    return _Likeness(np.array([*limits, whole]), own, *clouds(np.ones(len(which), np.bool_)), units)
