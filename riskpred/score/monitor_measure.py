"""Observed against predicted, by outcome and horizon: what the published risks were worth."""

from contextlib import suppress
from typing import Any, Final, TypedDict

import numpy as np

from riskpred.evaluate.censoring import DAYS_PER_YEAR, OUTCOME, Floats, Undefined
from riskpred.evaluate.gather import MODEL, Evaluated
from riskpred.evaluate.intervals import interval, resampled_counts, resamples_for
from riskpred.evaluate.measure import Measured, People, measure
from riskpred.evaluate.metrics import people_of
from riskpred.evaluate.picture import pictures
from riskpred.evaluate.subgroups import SMALL_CELL
from riskpred.evaluate.timeline import Timeline, weights
from riskpred.progress import Progress, Silent
from riskpred.score.monitor import Followed

FEW: Final = f"fewer than {SMALL_CELL} people with or without the outcome: not shown"

ZERO: Final = "every predicted risk is 0"

MEASURES: Final = ("observed", "ratio", "citl", "slope", "auc")
"""With a 90 % bootstrap interval by subject each. ratio: observed over predicted."""


class Matured(TypedDict):
    """One outcome and horizon of one bundle. n: predictions with a mature horizon; subjects: people behind them.

    observed: Aalen-Johansen incidence by the horizon, death competing. predicted: the mean published risk.
    events: those seen; null, like all that tells it, where fewer than 10 people have or lack the outcome.
    """

    bundle: str
    version: str
    outcome: str
    display: str
    horizon_years: float
    n: int
    subjects: int
    events: int | None
    predicted: float | None
    measures: dict[str, dict[str, float | str | None]]
    reason: str | None


def judge(
    followed: Followed, *, seed: int = 1, resamples: int | None = None, progress: Progress | None = None
) -> list[Matured]:
    """Every target with at least one mature prediction."""
    progress = progress or Silent()
    rows = []
    for q in range(len(followed.targets)):
        evaluated = one_target(followed, q)
        outcome, years = followed.targets[q]
        people, risk = _people(evaluated, outcome)
        if len(people):
            draws = resamples or resamples_for(len(people))
            rows.append(_matured(followed, outcome, years, people, risk, draws, seed))
        progress.step("monitor: metrics", q + 1, len(followed.targets))
    return rows


def draw(followed: Followed, outcome: str, horizon_years: float, seed: int = 1) -> dict[str, Any] | None:
    """Geometry of the calibration picture, as on the page of `evaluate`; None where there are too few events."""
    return pictures(one_target(followed, followed.targets.index((outcome, horizon_years))), outcome, seed=seed)[0]


def one_target(followed: Followed, q: int) -> Evaluated:
    """The predictions of one target that are mature, as `evaluate` takes them."""
    outcome, years = followed.targets[q]
    mature = np.isfinite(followed.risk[:, q])
    own = next(group for group in followed.outcomes.groups if outcome in group.outcomes)
    return Evaluated(
        split="published",
        targets=((outcome, years),),
        known_at_once=frozenset([outcome] if own.known_at_once else []),
        subject_id=followed.subject_id[mature],
        prediction_time=followed.prediction_time[mature],
        risks={MODEL: followed.risk[None, mature, q : q + 1]},
        time_days={outcome: followed.time_days[outcome][mature]},
        status={outcome: followed.status[outcome][mature]},
        pattern=np.full(int(mature.sum()), "published"),
        blanking_days={outcome: own.blanking_days} if own.blanking_days else {},
    )


def _people(evaluated: Evaluated, outcome: str) -> tuple[People, Floats]:
    """Those at risk, and their risks (n,)."""
    _, people, risks = people_of(evaluated, outcome, np.ones(len(evaluated), dtype=np.bool_))
    return people, risks[MODEL][0, :, 0] if MODEL in risks else np.zeros(0)


def _matured(
    followed: Followed, outcome: str, years: float, people: People, risk: Floats, draws: int, seed: int
) -> Matured:
    subjects, too_few = len(np.unique(people.subject_id)), people.too_few(years)
    with_it = people.subject_id[_came(people, years)]
    without = people.subject_id[~_came(people, years)]
    hidden = min(len(np.unique(with_it)), len(np.unique(without))) < SMALL_CELL
    found: dict[str, Measured] = {}
    if not hidden and too_few is None:
        found = _observed(people, risk, years, draws, seed)
        rest = measure(people, {MODEL: risk[None, :, None]}, draws, seed, only=frozenset(MEASURES))
        found |= {metric: value for (_, _, metric), value in rest.items()}
    return Matured(
        bundle=followed.bundle_name,
        version=followed.bundle_version,
        outcome=outcome,
        display=followed.outcomes.outcomes[outcome].display,
        horizon_years=years,
        n=len(people),
        subjects=subjects,
        events=None if hidden else people.events(years),
        predicted=float(risk.mean()) if subjects >= SMALL_CELL else None,
        measures={
            name: {"value": one.value, "low": one.low, "high": one.high, "reason": one.reason}
            for name in MEASURES
            for one in [found.get(name, Measured(None, reason=FEW if hidden else too_few))]
        },
        reason=FEW if hidden else too_few,
    )


def _came(people: People, years: float) -> Any:
    return (people.status == OUTCOME) & (people.known_at_once | (people.time_days <= years * DAYS_PER_YEAR))


def _observed(people: People, risk: Floats, years: float, draws: int, seed: int) -> dict[str, Measured]:
    """Incidence by the horizon, and over the mean risk, each with its interval."""
    incidence, mean = _Incidence(people, years), float(risk.mean())
    try:
        value = incidence(None)
    except Undefined as undefined:
        return {name: Measured(None, reason=str(undefined)) for name in ("observed", "ratio")}
    drawn, ratio = np.full(draws, np.nan), np.full(draws, np.nan)
    for number, count in enumerate(resampled_counts(people.subject_id, draws, seed)):
        with suppress(Undefined):  # stays NaN; with more than 5 % of these there is no interval
            drawn[number] = incidence(count)
            ratio[number] = drawn[number] / float(np.average(risk, weights=count))
    return {
        "observed": Measured(value, *(interval(drawn) or (None, None))),
        "ratio": Measured(value / mean, *(interval(ratio) or (None, None)))
        if mean > 0
        else Measured(None, reason=ZERO),
    }


class _Incidence:
    """Aalen-Johansen by one horizon, of any resample: the weighted share with the outcome (see `at_horizon`)."""

    def __init__(self, people: People, years: float) -> None:
        self._known = (people.status == OUTCOME).astype(np.float64)
        self._timeline = None if people.known_at_once else Timeline.of(people.time_days, people.status)
        self._horizon = None if self._timeline is None else self._timeline.at(years * DAYS_PER_YEAR)

    def __call__(self, count: Floats | None) -> float:
        """Shape: count (n,), how often each row counts. Raises: Undefined, when too few are followed so far."""
        if self._timeline is None or self._horizon is None:
            return float(np.average(self._known, weights=count))
        weight = weights(self._horizon, self._timeline.staying(count), count)
        return float(np.sum(weight * self._horizon.outcome) / np.sum(weight))
