"""The table of metrics that `evaluate` prints: one row per model, outcome, horizon, subgroup, window and metric."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypedDict

import numpy as np
from numpy.typing import NDArray

from riskpred.evaluate.blanking import WINDOWS, beyond, conditional_risk, people_at
from riskpred.evaluate.censoring import DAYS_PER_YEAR, OUTCOME, Floats, Undefined, at_horizon
from riskpred.evaluate.coverage import grouped_coverage, rank_agreement, true_coverage
from riskpred.evaluate.decision import decisions, thresholds_within
from riskpred.evaluate.gather import MODEL, Evaluated
from riskpred.evaluate.intervals import resamples_for
from riskpred.evaluate.measure import FLOOR, ONLY, Key, Measured, People, bootstrapped, measure
from riskpred.evaluate.subgroups import WITH, Partition, hidden_cells, partitions
from riskpred.progress import Progress, Silent

TRUTH: Final = "truth"
"""`model` of the rows in which the true risks of simulated people are judged like a model's: the best possible."""

NET_BENEFIT: Final = "net_benefit"

_ORDER: Final = (
    *("uno_c", "harrell_c", "auc", "ibs", "ipa", "brier", "citl", "slope", "ici", FLOOR, NET_BENEFIT),
    *("coverage", "coverage_grouped", "rank_agreement", "share_of_oracle"),
)

_SMALL: Final = "fewer than 10 people with or without the outcome: not shown"
_SECOND: Final = "not shown: a smaller group could be worked out from it"


class Metric(TypedDict):
    """One row of {"metrics": [...]}; subgroup null = everyone, value null with a reason.

    blanking_days: the window after prediction_time within which nothing counts; that of outcomes.yaml but in the rows
    on the sensitivity to it. threshold: of a net benefit, else null.
    """

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
    threshold: float | None


def metrics(
    evaluated: Evaluated, *, seed: int = 1, resamples: int | None = None, progress: Progress | None = None
) -> list[Metric]:
    """Every metric of every model: for everyone, by age, sex and which modalities were there, by blanking window.

    Intervals hold 90 %: a bootstrap by subject with `resamples` draws (default 200, fewer for large splits). A model
    named "a - b" is the paired difference on the same draws. With true risks, `coverage` is the share of people whose
    interval holds theirs, and `coverage_grouped` the share of 20 groups of risk whose incidence lies where the interval
    promises; without, `coverage` is the latter. `share_of_oracle` is (C - .5) / (C of the true risks - .5), C being
    uno_c, or auc when known at once. `net_benefit` stands once per threshold, for everyone.

    Rows without a risk from every model compared are left out of all.
    """
    progress = progress or Silent()
    groups = partitions(evaluated.pattern, evaluated.age_years, evaluated.sex)
    outcomes = list(dict.fromkeys(outcome for outcome, _ in evaluated.targets))
    steps, done = len(outcomes) * (2 + sum(len(one.labels) for one in groups)), 0
    rows: list[Metric] = []

    def step() -> None:
        nonlocal done
        done += 1
        progress.step("evaluate: metrics", done, steps)

    for outcome in outcomes:
        table = _Table(evaluated, outcome, seed, resamples)
        rows += table.everyone()
        step()
        rows += table.windows()
        step()
        for partition in groups:
            rows += table.subgroups(partition, step)
    return rows


class _Table:
    """The rows of one outcome."""

    def __init__(self, evaluated: Evaluated, outcome: str, seed: int, resamples: int | None) -> None:
        self.evaluated, self.outcome, self.seed, self.asked_resamples = evaluated, outcome, seed, resamples
        self.columns = [q for q, (name, _) in enumerate(evaluated.targets) if name == outcome]
        self.all = np.ones(len(evaluated), dtype=np.bool_)
        self.window = evaluated.blanking_days.get(outcome, 0)

    def resamples(self, people: People) -> int:
        return self.asked_resamples or resamples_for(len(people))

    def everyone(self) -> list[Metric]:
        kept, people, risks = people_of(self.evaluated, self.outcome, self.all)
        found = measure(people, risks, self.resamples(people), self.seed)
        found |= self._intervals_held(people, risks, kept, frozenset())
        if TRUTH in risks:
            found |= _against_truth(people, risks, found)
        rows: list[Metric] = []
        for model in dict.fromkeys([*risks, *(key[0] for key in found)]):
            for h, years in enumerate(people.horizons_years):
                reason = people.too_few(years) if model in risks else None
                rows += self._rows(people, found, model, h, reason, _named(model, people))
        return rows + self._net_benefits(people, risks)

    def subgroups(self, partition: Partition, step: Callable[[], None]) -> list[Metric]:
        """Rows of every group of a partition of everyone; too small ones and their complements hidden."""
        cells = [people_of(self.evaluated, self.outcome, partition.of == label) for label in partition.labels]
        counts = [len(people) for _, people, _ in cells]
        horizons = cells[0][1].horizons_years
        hidden = [hidden_cells(counts, [people.events(years) for _, people, _ in cells]) for years in horizons]
        rows: list[Metric] = []
        for g, (label, (kept, people, risks)) in enumerate(zip(partition.labels, cells, strict=True)):
            if not label.startswith(WITH):  # one modality alone is of interest by which were there
                risks = {name: risk for name, risk in risks.items() if not name.endswith(ONLY)}
            skip = frozenset(h for h in range(len(horizons)) if hidden[h].events[g])
            found = measure(people, risks, self.resamples(people), self.seed, skip=skip)
            found |= self._intervals_held(people, risks, kept, skip)
            for model in dict.fromkeys([*risks, *(key[0] for key in found)]):
                for h in range(len(horizons)):
                    reason = None
                    if h in skip and model in risks:
                        reason = _SMALL if hidden[h].small[g] else _SECOND
                    for row in self._rows(people, found, model, h, reason, _named(model, people), subgroup=label):
                        row["n"] = None if hidden[h].people[g] else row["n"]
                        row["events"] = None if hidden[h].events[g] else row["events"]
                        rows.append(row)
            step()
        return rows

    def windows(self) -> list[Metric]:
        """How ranking, accuracy and calibration change with the blanking window, for everyone."""
        rows: list[Metric] = []
        for window in WINDOWS:
            lost = window < self.window and self.evaluated.prediction_time is None  # kept predictions hold no more
            if window == self.window or lost or self.outcome in self.evaluated.known_at_once:
                continue
            _, base, risks = people_of(self.evaluated, self.outcome, self.all, blanking_days=min(window, self.window))
            risks = {name: risk for name, risk in risks.items() if name != TRUTH and not name.endswith(ONLY)}
            inside = beyond(base, window)
            people = people_at(base, inside, window)
            ranked = {name: risk[:, inside] for name, risk in risks.items()}
            named, why = ("uno_c", "auc", "ibs", "brier", "ici"), None
            found = measure(people, ranked, self.resamples(people), self.seed, only=frozenset(named[:2]))
            try:
                judged = {
                    name: np.stack([conditional_risk(base, one, window)[inside] for one in risk])
                    for name, risk in risks.items()
                }
                found |= measure(people, judged, self.resamples(people), self.seed, only=frozenset(named[2:]))
            except Undefined as undefined:
                why = str(undefined)
            for model in dict.fromkeys([*risks, *(key[0] for key in found)]):
                for h, years in enumerate(people.horizons_years):
                    reason = (people.too_few(years) or why) if model in risks else None
                    rows += self._rows(people, found, model, h, reason, named, window=window)
        return rows

    def _net_benefits(self, people: People, risks: Mapping[str, Floats]) -> list[Metric]:
        judged = {name: risk for name, risk in risks.items() if not name.endswith(ONLY)}
        first = judged.get(MODEL, next(iter(judged.values()), None))
        rows: list[Metric] = []
        for h, years in enumerate(people.horizons_years):
            thresholds = () if first is None or not len(people) else thresholds_within(first[:, :, h].mean(axis=0))
            reason = people.too_few(years)
            if not reason and thresholds:
                try:
                    found = decisions(people, judged, h, thresholds, self.resamples(people), self.seed)
                except Undefined as undefined:
                    reason = str(undefined)
                else:
                    for name, values in found.items():
                        for threshold, measured in zip(thresholds, values, strict=True):
                            row = self._row(people, name, years, NET_BENEFIT, measured)
                            row["threshold"] = threshold
                            rows.append(row)
                    continue
            nothing = Measured(None, reason=reason or "no threshold lies among the risks")
            rows += [self._row(people, name, years, NET_BENEFIT, nothing) for name in judged]
        return rows

    def _intervals_held(
        self, people: People, risks: Mapping[str, Floats], kept: NDArray[np.int64], skip: frozenset[int]
    ) -> dict[Key, Measured]:
        found: dict[Key, Measured] = {}
        if MODEL not in risks:
            return found
        for h, years in enumerate(people.horizons_years):
            if h in skip or people.too_few(years) is not None:
                continue
            ways: dict[str, Callable[[People, Floats, NDArray[np.int64], int], float]] = {}
            if self.evaluated.truth is not None and self.evaluated.low is not None:
                ways["coverage"] = self._true_coverage
            if self.evaluated.member is not None:
                ways["coverage_grouped" if ways else "coverage"] = self._grouped_coverage
            for metric, way in ways.items():
                try:
                    found[MODEL, h, metric] = Measured(way(people, risks[MODEL][0, :, h], kept, h))
                except Undefined as undefined:
                    found[MODEL, h, metric] = Measured(None, reason=str(undefined))
        return found

    def _true_coverage(self, people: People, risk: Floats, kept: NDArray[np.int64], h: int) -> float:
        truth, low, high = (
            values[kept, self.columns[h]]
            for values in (self.evaluated.truth, self.evaluated.low, self.evaluated.high)
            if values is not None  # asked for only where they are
        )
        return true_coverage(truth, low, high)

    def _grouped_coverage(self, people: People, risk: Floats, kept: NDArray[np.int64], h: int) -> float:
        assert self.evaluated.member is not None, "asked for only where they are"
        if people.known_at_once:
            outcome, weight = (people.status == OUTCOME).astype(np.float64), np.ones(len(people))
        else:
            outcome, weight = at_horizon(people.time_days, people.status, people.horizons_years[h] * DAYS_PER_YEAR)
        return grouped_coverage(risk, self.evaluated.member[:, kept, self.columns[h]], outcome, weight)

    def _rows(
        self,
        people: People,
        found: Mapping[Key, Measured],
        model: str,
        h: int,
        reason: str | None,
        named: Sequence[str],
        *,
        subgroup: str | None = None,
        window: int | None = None,
    ) -> list[Metric]:
        """One row per metric found, or, where there is a reason why none was, per metric that it would have had."""
        given = {metric: found[m, at, metric] for m, at, metric in found if m == model and at == h}
        if reason:
            mine = [metric for metric in named if metric not in given and metric in _named(model, people)]
            given |= {metric: Measured(None, reason=reason) for metric in mine}
        return [
            self._row(people, model, people.horizons_years[h], metric, given[metric], subgroup, window)
            for metric in sorted(given, key=_ORDER.index)
        ]

    def _row(
        self,
        people: People,
        model: str,
        years: float,
        metric: str,
        measured: Measured,
        subgroup: str | None = None,
        window: int | None = None,
    ) -> Metric:
        return Metric(
            model=model,
            split=self.evaluated.split,
            outcome=self.outcome,
            horizon_years=years,
            subgroup=subgroup,
            blanking_days=self.window if window is None else window,
            metric=metric,
            value=measured.value,
            low=measured.low,
            high=measured.high,
            n=len(people),
            events=people.events(years),
            reason=measured.reason,
            threshold=None,
        )


def people_of(
    evaluated: Evaluated, outcome: str, inside: NDArray[np.bool_], blanking_days: int | None = None
) -> tuple[NDArray[np.int64], People, dict[str, Floats]]:
    """Rows at risk of one outcome with every model's risk of it, as People and model -> (R, n, H).

    Args: blanking_days: only rows followed beyond this window; default that of the study.
    Shape: inside (N,); the first result (n,) holds the rows' positions.
    """
    window = evaluated.blanking_days.get(outcome, 0) if blanking_days is None else blanking_days
    columns = [q for q, (name, _) in enumerate(evaluated.targets) if name == outcome]
    all_risks = dict(evaluated.risks)
    if evaluated.truth is not None:
        all_risks[TRUTH] = evaluated.truth[None]
    risks = {model: risk[:, :, columns] for model, risk in all_risks.items()}
    risks = {model: risk for model, risk in risks.items() if np.isfinite(risk).any()}
    keep = inside & (evaluated.status[outcome] >= 0)
    for risk in risks.values():
        keep = keep & np.isfinite(risk).all(axis=(0, 2))
    if window:
        keep = keep & (evaluated.time_days[outcome] > window)
    kept = np.flatnonzero(keep)
    people = People(
        horizons_years=tuple(evaluated.targets[q][1] for q in columns),
        known_at_once=outcome in evaluated.known_at_once,
        subject_id=evaluated.subject_id[kept],
        time_days=evaluated.time_days[outcome][kept],
        status=evaluated.status[outcome][kept],
        from_days=float(window),
    )
    return kept, people, {model: risk[:, kept] for model, risk in risks.items()}


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
    return named if model.endswith(ONLY) else (*named, FLOOR)
