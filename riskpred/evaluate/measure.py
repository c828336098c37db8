"""All metrics of several models for one outcome on one set of people, with intervals and paired differences."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from riskpred.evaluate.brier import brier, ibs, ipa
from riskpred.evaluate.calibration import Link, citl, ici, ici_floor, ici_floor_now, intercept_and_slope
from riskpred.evaluate.censoring import DAYS_PER_YEAR, OUTCOME, Floats, Undefined, at_horizon
from riskpred.evaluate.discrimination import auc, harrell_c, uno_c
from riskpred.evaluate.intervals import interval, resampled_counts

MIN_EVENTS: Final = 10
"""Fewest people with and without the outcome for a metric to be given: below it its interval spans most values."""

TIMED: Final = ("uno_c", "harrell_c", "auc", "ibs", "ipa", "brier", "citl", "slope", "ici")
AT_ONCE: Final = ("auc", "ipa", "brier", "citl", "slope", "ici")
RANKING: Final = ("uno_c", "auc", "ibs", "brier")
"""Metrics of which a difference between two models is given, and the only ones of a single modality."""

ONLY: Final = " only"
"""Ends the name of a model that sees one modality: "riskpred:tabular only"."""


@dataclass(frozen=True)
class People:
    """One outcome on n rows. horizons_years: (H,), (0.0,) when known at once. subject_id, time_days, status: (n,)."""

    horizons_years: tuple[float, ...]
    known_at_once: bool
    subject_id: NDArray[np.int64]
    time_days: Floats
    status: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.status)

    def events(self, horizon_years: float) -> int:
        """Rows seen to have the outcome by the horizon."""
        inside = self.known_at_once or self.time_days <= horizon_years * DAYS_PER_YEAR
        return int(np.sum((self.status == OUTCOME) & inside))

    def too_few(self, horizon_years: float) -> str | None:
        """Why no metric is given at this horizon; None when there are enough."""
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


def measure(people: People, risks: Mapping[str, Floats], resamples: int, seed: int) -> dict[Key, Measured]:
    """Every metric of every model at every horizon.

    Args:
        risks: model -> (R, n, H); with R repeats a metric is the mean of its value in each.
        resamples: bootstrap resamples of subjects; the same for every model. Also gives, as the model "a - b", the
            difference between the first model and each other one in RANKING.

    The floor of the ICI has as interval the middle 90 % of its simulations.
    """
    asked = [
        (model, h, metric)
        for model in risks
        for h, years in enumerate(people.horizons_years)
        if people.too_few(years) is None
        for metric in bootstrapped(model, people.known_at_once)
    ]
    reasons: dict[Key, str] = {}
    point = _values(people, risks, asked, None, reasons)
    drawn = [
        _values(people, risks, asked, count, {})
        for count in (resampled_counts(people.subject_id, resamples, seed) if asked else ())
    ]
    found: dict[Key, Measured] = {}
    for key in asked:
        if key in point:
            found[key] = _with_interval(point[key], [values.get(key, np.nan) for values in drawn])
        else:
            found[key] = Measured(None, reason=reasons[key])
    found |= _differences(tuple(risks), point, drawn)
    for model, risk in risks.items():
        if not model.endswith(ONLY):
            for h, years in enumerate(people.horizons_years):
                if people.too_few(years) is None:
                    found[model, h, "ici_floor"] = _floor(people, risk[:, :, h], years, seed)
    return found


def _values(
    people: People, risks: Mapping[str, Floats], asked: Sequence[Key], count: Floats | None, reasons: dict[Key, str]
) -> dict[Key, float]:
    """Values of the metrics asked for; one that is undefined is absent, and its reason noted."""
    found: dict[Key, float] = {}
    views: dict[int, tuple[Floats, Floats] | str] = {}
    for h, years in enumerate(people.horizons_years):
        try:
            views[h] = _view(people, years, count)
        except Undefined as undefined:
            views[h] = str(undefined)
    for key in asked:
        model, h, metric = key
        days = people.horizons_years[h] * DAYS_PER_YEAR
        view = views[h]
        try:
            if isinstance(view, str):
                raise Undefined(view)
            if metric == "ibs":
                values = [_ibs(people, risk, views, h) for risk in risks[model]]
            elif metric in ("uno_c", "harrell_c"):
                rank = uno_c if metric == "uno_c" else harrell_c
                values = [rank(risk[:, h], people.time_days, people.status, days, count) for risk in risks[model]]
            else:
                link: Link = "logit" if people.known_at_once else "cloglog"
                values = [_of_view(metric, risk[:, h], *view, count, link) for risk in risks[model]]
            found[key] = float(np.mean(values))
        except Undefined as undefined:
            reasons[key] = str(undefined)
    return found


def _view(people: People, years: float, count: Floats | None) -> tuple[Floats, Floats]:
    """Outcome and weight at one horizon."""
    if people.known_at_once:
        return (people.status == OUTCOME).astype(np.float64), np.ones(len(people)) if count is None else count
    return at_horizon(people.time_days, people.status, years * DAYS_PER_YEAR, count)


def _ibs(people: People, risk: Floats, views: Mapping[int, tuple[Floats, Floats] | str], last: int) -> float:
    scores = []
    for h in range(last + 1):
        view = views[h]
        if isinstance(view, str):
            raise Undefined(view)
        scores.append(brier(risk[:, h], *view))
    return ibs(np.array(scores), np.array(people.horizons_years[: last + 1]))


def _of_view(metric: str, risk: Floats, outcome: Floats, weight: Floats, count: Floats | None, link: Link) -> float:
    plain: dict[str, Callable[[Floats, Floats, Floats], float]] = {"auc": auc, "brier": brier, "ipa": ipa}
    if metric in plain:
        return plain[metric](risk, outcome, weight)
    if metric == "citl":
        return citl(risk, outcome, weight, link)
    if metric == "slope":
        return intercept_and_slope(risk, outcome, weight, link)[1]
    assert metric == "ici", metric
    return ici(risk, outcome, weight, count)


def _with_interval(value: float, drawn: Sequence[float]) -> Measured:
    bounds = interval(np.array(drawn)) if drawn else None
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
