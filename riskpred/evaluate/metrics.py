"""The table of metrics that `evaluate` prints: one row per model, outcome, horizon, subgroup and metric."""

from typing import Final, TypedDict

import numpy as np
from numpy.typing import NDArray

from riskpred.evaluate.censoring import DAYS_PER_YEAR, OUTCOME, Floats, Undefined, at_horizon
from riskpred.evaluate.coverage import grouped_coverage, rank_agreement, true_coverage
from riskpred.evaluate.gather import MODEL, Evaluated
from riskpred.evaluate.intervals import resamples_for
from riskpred.evaluate.measure import ONLY, Measured, People, bootstrapped, measure
from riskpred.progress import Progress, Silent

TRUTH: Final = "truth"
"""`model` of the rows in which the true risks of simulated people are judged like a model's: the best possible."""

SMALL_CELL: Final = 10
"""In a subgroup, counts below 10 are not shown: they could point at a person."""

_ORDER: Final = (
    *("uno_c", "harrell_c", "auc", "ibs", "ipa", "brier", "citl", "slope", "ici", "ici_floor"),
    *("coverage", "rank_agreement", "share_of_oracle"),
)


class Metric(TypedDict):
    """One row of {"metrics": [...]}; subgroup null = everyone, value null with a reason."""

    model: str
    split: str
    outcome: str
    horizon_years: float
    subgroup: str | None
    blanking_days: int
    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int | None
    events: int | None
    reason: str | None


def metrics(
    evaluated: Evaluated, *, seed: int = 1, resamples: int | None = None, progress: Progress | None = None
) -> list[Metric]:
    """Every metric of every model, for everyone and by which modalities were there.

    Intervals hold 90 %: a bootstrap by subject with `resamples` draws (default 200, fewer for large splits). A model
    named "a - b" is the paired difference on the same draws. With true risks, `coverage` is the share of people whose
    interval holds theirs; without, the share of 20 groups of risk whose incidence lies where the interval promises.
    `share_of_oracle` is (C - .5) / (C of the true risks - .5), C being uno_c, or auc when known at once.

    Rows without a risk from every model compared are left out of all.
    """
    progress = progress or Silent()
    everyone = np.ones(len(evaluated), dtype=np.bool_)
    patterns = [str(pattern) for pattern in np.unique(evaluated.pattern)]
    groups: list[tuple[str | None, NDArray[np.bool_]]] = [(None, everyone)]
    if len(patterns) > 1:
        groups += [(f"with {pattern}", evaluated.pattern == pattern) for pattern in patterns]
    outcomes = list(dict.fromkeys(outcome for outcome, _ in evaluated.targets))
    rows: list[Metric] = []
    for done, outcome in enumerate(outcomes):
        for subgroup, inside in groups:
            rows += _rows(evaluated, outcome, subgroup, inside, seed, resamples)
        progress.step("evaluate: metrics", done + 1, len(outcomes))
    return rows


def _rows(
    evaluated: Evaluated,
    outcome: str,
    subgroup: str | None,
    inside: NDArray[np.bool_],
    seed: int,
    resamples: int | None,
) -> list[Metric]:
    columns = [q for q, (name, _) in enumerate(evaluated.targets) if name == outcome]
    kept, people, risks = people_of(evaluated, outcome, inside)
    found = measure(people, risks, resamples or resamples_for(len(people)), seed)
    own = risks.get(MODEL)
    for h in range(len(people.horizons_years)):
        if own is not None and people.too_few(people.horizons_years[h]) is None:
            found |= _intervals_held(evaluated, people, own[:, :, h], kept, columns[h], h)
    if TRUTH in risks:
        found |= _against_truth(people, risks, found)
    rows: list[Metric] = []
    for model in dict.fromkeys([*risks, *(key[0] for key in found)]):
        for h, years in enumerate(people.horizons_years):
            given = {metric: found[m, at, metric] for m, at, metric in found if m == model and at == h}
            reason = people.too_few(years)
            if reason and model in risks:
                small = (
                    "fewer than 10 people with or without the outcome: not shown"
                    if subgroup and _hides(people, years)
                    else reason
                )
                given = {metric: Measured(None, reason=small) for metric in _named(model, people)}
            for metric in sorted(given, key=_ORDER.index):
                rows.append(_row(evaluated.split, model, outcome, years, subgroup, metric, given[metric], people))
    return rows


def people_of(
    evaluated: Evaluated, outcome: str, inside: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], People, dict[str, Floats]]:
    """Rows at risk of one outcome with every model's risk of it, as People and model -> (R, n, H).

    Shape: inside (N,); the first result (n,) holds the rows' positions.
    """
    columns = [q for q, (name, _) in enumerate(evaluated.targets) if name == outcome]
    all_risks = dict(evaluated.risks)
    if evaluated.truth is not None:
        all_risks[TRUTH] = evaluated.truth[None]
    risks = {model: risk[:, :, columns] for model, risk in all_risks.items()}
    risks = {model: risk for model, risk in risks.items() if np.isfinite(risk).any()}
    keep = inside & (evaluated.status[outcome] >= 0)
    for risk in risks.values():
        keep = keep & np.isfinite(risk).all(axis=(0, 2))
    kept = np.flatnonzero(keep)
    people = People(
        horizons_years=tuple(evaluated.targets[q][1] for q in columns),
        known_at_once=outcome in evaluated.known_at_once,
        subject_id=evaluated.subject_id[kept],
        time_days=evaluated.time_days[outcome][kept],
        status=evaluated.status[outcome][kept],
    )
    return kept, people, {model: risk[:, kept] for model, risk in risks.items()}


def _intervals_held(
    evaluated: Evaluated, people: People, risk: Floats, kept: NDArray[np.int64], column: int, h: int
) -> dict[tuple[str, int, str], Measured]:
    try:
        if evaluated.truth is not None and evaluated.low is not None and evaluated.high is not None:
            value = true_coverage(
                evaluated.truth[kept, column], evaluated.low[kept, column], evaluated.high[kept, column]
            )
        elif evaluated.member is not None and not people.known_at_once:
            days = people.horizons_years[h] * DAYS_PER_YEAR
            outcome, weight = at_horizon(people.time_days, people.status, days)
            value = grouped_coverage(risk[0], evaluated.member[:, kept, column], outcome, weight)
        elif evaluated.member is not None:
            answer = (people.status == OUTCOME).astype(np.float64)
            value = grouped_coverage(risk[0], evaluated.member[:, kept, column], answer, np.ones(len(answer)))
        else:
            return {}
    except Undefined as undefined:
        return {(MODEL, h, "coverage"): Measured(None, reason=str(undefined))}
    return {(MODEL, h, "coverage"): Measured(value)}


def _against_truth(
    people: People, risks: dict[str, Floats], found: dict[tuple[str, int, str], Measured]
) -> dict[tuple[str, int, str], Measured]:
    """Rank agreement with the true risks, and the share of their discrimination that a model reaches."""
    rank = "auc" if people.known_at_once else "uno_c"
    result: dict[tuple[str, int, str], Measured] = {}
    for model, risk in risks.items():
        for h, years in enumerate(people.horizons_years):
            if model == TRUTH or people.too_few(years):
                continue
            try:
                agreement = rank_agreement(risk[0, :, h], risks[TRUTH][0, :, h])
                result[model, h, "rank_agreement"] = Measured(agreement)
            except Undefined as undefined:
                result[model, h, "rank_agreement"] = Measured(None, reason=str(undefined))
            mine, best = found[model, h, rank].value, found[TRUTH, h, rank].value
            if mine is not None and best is not None and best > 0.5:
                result[model, h, "share_of_oracle"] = Measured((mine - 0.5) / (best - 0.5))
            else:
                result[model, h, "share_of_oracle"] = Measured(None, reason="the true risks do not rank people here")
    return result


def _named(model: str, people: People) -> tuple[str, ...]:
    named = bootstrapped(model, people.known_at_once)
    return named if model.endswith(ONLY) else (*named, "ici_floor")


def _hides(people: People, years: float) -> bool:
    events = people.events(years)
    return any(cell < SMALL_CELL for cell in (len(people), events, len(people) - events))


def _row(
    split: str,
    model: str,
    outcome: str,
    years: float,
    subgroup: str | None,
    metric: str,
    measured: Measured,
    people: People,
) -> Metric:
    hidden = subgroup is not None and _hides(people, years)
    return Metric(
        model=model,
        split=split,
        outcome=outcome,
        horizon_years=years,
        subgroup=subgroup,
        blanking_days=0,
        metric=metric,
        value=measured.value,
        low=measured.low,
        high=measured.high,
        n=None if hidden and len(people) < SMALL_CELL else len(people),
        events=None if hidden else people.events(years),
        reason=measured.reason,
    )
