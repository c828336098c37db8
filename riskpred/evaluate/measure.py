"""All metrics of several models for one outcome on one set of people, with intervals and paired differences."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from riskpred.evaluate.brier import brier, ibs, ipa
from riskpred.evaluate.calibration import ici_floor, ici_floor_now, smoothed
from riskpred.evaluate.censoring import DAYS_PER_YEAR, OUTCOME, Floats, Undefined
from riskpred.evaluate.discrimination import concordance, ranked_auc
from riskpred.evaluate.intervals import interval, resampled_counts
from riskpred.evaluate.regression import Link, Scaled
from riskpred.evaluate.timeline import Ranks, Timeline, weights

MIN_EVENTS: Final = 10
"""Fewest people with and without the outcome for a metric to be given: below it its interval spans most values."""

TIMED: Final = ("uno_c", "harrell_c", "auc", "ibs", "ipa", "brier", "citl", "slope", "ici")
AT_ONCE: Final = ("auc", "ipa", "brier", "citl", "slope", "ici")
RANKING: Final = ("uno_c", "auc", "ibs", "brier")
"""Metrics of which a difference between two models is given, and the only ones of a single modality."""

FLOOR: Final = "ici_floor"

ONLY: Final = " only"
"""Ends the name of a model that sees one modality: "riskpred:tabular only"."""


@dataclass(frozen=True)
class People:
    """One outcome on n rows. horizons_years: (H,), (0.0,) when known at once. subject_id, time_days, status: (n,).

    from_days: end of the blanking window; nobody's follow-up ends within it. Times and horizons count from
        prediction_time all the same.
    """

    horizons_years: tuple[float, ...]
    known_at_once: bool
    subject_id: NDArray[np.int64]
    time_days: Floats
    status: NDArray[np.int8]
    from_days: float = 0.0

    def __len__(self) -> int:
        return len(self.status)

    def events(self, horizon_years: float) -> int:
        """Rows seen to have the outcome by the horizon."""
        inside = self.known_at_once or self.time_days <= horizon_years * DAYS_PER_YEAR
        return int(np.sum((self.status == OUTCOME) & inside))

    def too_few(self, horizon_years: float) -> str | None:
        """Why no metric is given at this horizon; None when there are enough."""
        if 0 < int(horizon_years * DAYS_PER_YEAR) <= self.from_days:
            return "the blanking window reaches the horizon"
        events = self.events(horizon_years)
        if events < MIN_EVENTS:
            return f"{events} with the outcome, at least {MIN_EVENTS} needed"
        if len(self) - events < MIN_EVENTS:
            return f"{len(self) - events} without the outcome, at least {MIN_EVENTS} needed"
        return None


@dataclass(frozen=True)
class Measured:
    """One metric: its value and 90 % interval, or the reason why there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


def bootstrapped(model: str, known_at_once: bool) -> tuple[str, ...]:
    """Metrics of a model that have a bootstrap interval."""
    mine = AT_ONCE if known_at_once else TIMED
    return tuple(metric for metric in mine if metric in RANKING) if model.endswith(ONLY) else mine


Key = tuple[str, int, str]
"""(model, index of the horizon, metric)."""


def measure(
    people: People,
    risks: Mapping[str, Floats],
    resamples: int,
    seed: int,
    *,
    only: frozenset[str] | None = None,
    skip: frozenset[int] = frozenset(),
) -> dict[Key, Measured]:
    """Every metric of every model at every horizon.

    Args:
        risks: model -> (R, n, H); with R repeats a metric is the mean of its value in each.
        resamples: bootstrap resamples of subjects; the same for every model. Also gives, as the model "a - b", the
            difference between the first model and each other one in RANKING.
        only: metrics wanted; default all.   skip: indices of horizons that are not wanted.

    The floor of the ICI has as interval the middle 90 % of its simulations.
    """
    horizons = [h for h, years in enumerate(people.horizons_years) if h not in skip and people.too_few(years) is None]
    asked = [
        (model, h, metric)
        for model in risks
        for h in horizons
        for metric in bootstrapped(model, people.known_at_once)
        if only is None or metric in only
    ]
    if not asked:
        return {}
    bench, reasons = _Bench(people, risks, {(model, h) for model, h, _ in asked}), dict[Key, str]()
    point = bench.values(asked, None, reasons)
    drawn = [bench.values(asked, count, {}) for count in resampled_counts(people.subject_id, resamples, seed)]
    found: dict[Key, Measured] = {}
    for key in asked:
        if key in point:
            found[key] = _with_interval(point[key], [values.get(key, np.nan) for values in drawn], key[2] == "ici")
        else:
            found[key] = Measured(None, reason=reasons[key])
    found |= _differences(tuple(risks), point, drawn)
    for model, risk in risks.items():
        if not model.endswith(ONLY) and (only is None or FLOOR in only):
            for h in horizons:
                found[model, h, FLOOR] = _floor(people, risk[:, :, h], people.horizons_years[h], seed)
    return found


class _Bench:
    """People and risks with all that does not change from resample to resample worked out once."""

    def __init__(self, people: People, risks: Mapping[str, Floats], wanted: Collection[tuple[str, int]]) -> None:
        self.people, self.risks = people, risks
        self.link: Link = "logit" if people.known_at_once else "cloglog"
        self.outcome = (people.status == OUTCOME).astype(np.float64)
        self.days = [years * DAYS_PER_YEAR for years in people.horizons_years]
        self.timeline = None if people.known_at_once else Timeline.of(people.time_days, people.status)
        self.horizons = [] if self.timeline is None else [self.timeline.at(days) for days in self.days]
        self.ranks = {(m, h): [Ranks.of(one[:, h]) for one in risks[m]] for m, h in wanted}
        self.scaled = {(m, h): [Scaled.of(one[:, h], self.link) for one in risks[m]] for m, h in wanted}
        self.starts: dict[tuple[str, int, int], tuple[float, float]] = {}
        self.levels: dict[tuple[str, int, int], float] = {}

    def values(self, asked: Sequence[Key], count: Floats | None, reasons: dict[Key, str]) -> dict[Key, float]:
        """Values of the metrics asked for; one that is undefined is absent, and its reason noted.

        The first call is on the sample itself: it leaves starting points for the regressions of later ones.
        """
        staying = None if self.timeline is None else self.timeline.staying(count)
        views: list[_View | str] = []
        for h in range(len(self.days)):
            try:
                views.append(self._view(h, staying, count))
            except Undefined as undefined:
                views.append(str(undefined))
        found: dict[Key, float] = {}
        for key in asked:
            model, h, metric = key
            try:
                values = [self._value(model, h, r, metric, views, count) for r in range(len(self.risks[model]))]
                found[key] = float(np.mean(values))
            except Undefined as undefined:
                reasons[key] = str(undefined)
        return found

    def _view(self, h: int, staying: Floats | None, count: Floats | None) -> "_View":
        """Outcome and weight at one horizon."""
        if staying is None:
            weight = np.ones(len(self.people)) if count is None else count
            return _View(self.outcome, weight, None)
        horizon = self.horizons[h]
        return _View(horizon.outcome, weights(horizon, staying, count), staying)

    def _value(
        self, model: str, h: int, repeat: int, metric: str, views: Sequence["_View | str"], count: Floats | None
    ) -> float:
        view = views[h]
        if isinstance(view, str):
            raise Undefined(view)
        outcome, weight = view.outcome, view.weight
        if metric == "ibs":
            return self._ibs(model, h, repeat, views)
        ranks, scaled = self.ranks[model, h][repeat], self.scaled[model, h][repeat]
        if metric in ("uno_c", "harrell_c"):
            assert self.timeline is not None, "a concordance over time needs follow-up"
            staying = view.staying if metric == "uno_c" else None
            return concordance(ranks, self.timeline, self.days[h], staying, count)
        if metric == "auc":
            return ranked_auc(ranks, outcome, weight)
        if metric in ("brier", "ipa"):
            return (brier if metric == "brier" else ipa)(ranks.risk, outcome, weight)
        if metric == "citl":
            level = scaled.intercept(outcome, weight, self.levels.get((model, h, repeat), 0.0))
            if count is None:
                self.levels[model, h, repeat] = level
            return level
        if metric == "slope":
            both = scaled.both(outcome, weight, self.starts.get((model, h, repeat)))
            if count is None:
                self.starts[model, h, repeat] = both
            return both[1]
        assert metric == "ici", metric
        return smoothed(ranks, outcome, weight, count).gap

    def _ibs(self, model: str, last: int, repeat: int, views: Sequence["_View | str"]) -> float:
        """The integral from the end of the blanking window (prediction_time without one); horizons within it drop."""
        scores, after = [], []
        for h in range(last + 1):
            years, view = self.people.horizons_years[h] - self.people.from_days / DAYS_PER_YEAR, views[h]
            if years <= 0:
                continue
            if isinstance(view, str):
                raise Undefined(view)
            scores.append(brier(self.risks[model][repeat][:, h], view.outcome, view.weight))
            after.append(years)
        return ibs(np.array(scores), np.array(after))


@dataclass(frozen=True)
class _View:
    """What a resample says at one horizon. Shape: outcome, weight (n,); staying (K + 1,), None when known at once."""

    outcome: Floats
    weight: Floats
    staying: Floats | None


def _with_interval(value: float, drawn: Sequence[float], distance: bool = False) -> Measured:
    bounds = interval(np.array(drawn), value if distance else None) if drawn else None
    return Measured(value, *bounds) if bounds else Measured(value)


def _differences(
    models: Sequence[str], point: Mapping[Key, float], drawn: Sequence[Mapping[Key, float]]
) -> dict[Key, Measured]:
    found: dict[Key, Measured] = {}
    for other in models[1:]:
        for model, h, metric in point:
            theirs = (other, h, metric)
            if model == models[0] and metric in RANKING and theirs in point:
                both = [values.get((model, h, metric), np.nan) - values.get(theirs, np.nan) for values in drawn]
                found[f"{model} - {other}", h, metric] = _with_interval(point[model, h, metric] - point[theirs], both)
    return found


def _floor(people: People, risk: Floats, years: float, seed: int) -> Measured:
    try:
        if people.known_at_once:
            values = np.concatenate([ici_floor_now(one, seed) for one in risk])
        else:
            days = years * DAYS_PER_YEAR
            values = np.concatenate([ici_floor(one, people.time_days, people.status, days, seed) for one in risk])
    except Undefined as undefined:
        return Measured(None, reason=str(undefined))
    low, high = np.quantile(values, [0.05, 0.95])
    return Measured(float(values.mean()), float(low), float(high))
