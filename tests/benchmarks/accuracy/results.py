"""Reads the parts of a set back and scores them: by fold what is paired, pooled over folds what needs everyone."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from riskpred.evaluate.calibration import citl, ici, ici_floor, ici_floor_now, intercept_and_slope
from riskpred.evaluate.censoring import DAYS_PER_YEAR, Undefined
from riskpred.evaluate.regression import Link
from tests.benchmarks.accuracy.rows import View
from tests.benchmarks.accuracy.scores import Weighted, by_row, fold_scores, observed
from tests.benchmarks.accuracy.sets import SETS, BenchmarkSet
from tests.benchmarks.accuracy.store import About, about, parts_of, read_follow_up
from tests.benchmarks.accuracy.task import ALL_INPUTS, Floats

EVERYONE: Final = "everyone"

Model = tuple[str, str]
"""(method, scenario)."""


@dataclass(frozen=True)
class SetResults:
    """What is there of one set.

    Shape: fold: repeat -> (N,).   risk: (model, outcome) -> repeat -> (N, H), NaN where no part is there; low, high:
    of the same form, for the one method that has them.   abouts: method -> parts, in the order of their names.
        left_out: parts of other rows.   folder: of the whole benchmark.
    """

    spec: BenchmarkSet
    views: Mapping[str, View]
    fold: Mapping[int, NDArray[np.int64]]
    rows: pl.DataFrame
    risk: Mapping[tuple[Model, str], Mapping[int, Floats]]
    low: Mapping[tuple[Model, str], Mapping[int, Floats]]
    high: Mapping[tuple[Model, str], Mapping[int, Floats]]
    abouts: Mapping[str, tuple[About, ...]]
    left_out: int
    folder: Path

    @property
    def models(self) -> tuple[Model, ...]:
        return tuple(dict.fromkeys(model for model, _ in self.risk))

    def subsets(self) -> dict[str, NDArray[np.bool_]]:
        """Everyone, and the set's age bands. Shape: (N,) each."""
        age = self.rows["age_years"].to_numpy()
        bands = {name: (age >= low) & (age < high) for name, (low, high) in self.spec.subsets.items()}
        return {EVERYONE: np.ones(len(age), np.bool_), **bands}

    def inner(self, method: str, outcome: str) -> tuple[float, float] | None:
        """Mean inner (rank, error) over the parts of a method; None where it has none."""
        found = [one.inner[outcome] for one in self.abouts.get(method, ()) if outcome in one.inner]
        if not found:
            return None
        return float(np.nanmean([one["rank"] for one in found])), float(np.nanmean([one["error"] for one in found]))


@dataclass(frozen=True)
class Scores:
    """Scores of one model for one outcome on some rows.

    by_fold: (repeat, fold) -> metric -> value, metrics as `fold_scores`.   sizes: (repeat, fold) -> (train, test).
    pooled: metric@horizon -> mean over repeats of ici, ici_floor, slope, citl.   rows, events: by the last horizon.
    """

    by_fold: dict[tuple[int, int], dict[str, float]] = field(default_factory=dict)
    sizes: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    pooled: dict[str, float] = field(default_factory=dict)
    rows: int = 0
    events: int = 0

    def values(self, metric: str) -> Floats:
        """Of all folds that have it."""
        return np.array([one[metric] for one in self.by_fold.values() if metric in one])

    def mean(self, metric: str) -> float:
        """NaN where no fold has it."""
        found = self.values(metric)
        return float(found.mean()) if len(found) else float("nan")


def read(folder: Path, set_name: str) -> SetResults | None:
    """Everything of a set that was made from its present rows; None where there is nothing.

    Parts of other rows (an older warehouse or study) are left out and counted.
    """
    parts = list(parts_of(folder, set_name))
    if not parts:
        return None
    rows, known = read_follow_up(folder, set_name)
    views = {
        name: View(
            name,
            tuple(kind["horizons_years"]),
            kind["known_at_once"],
            rows[f"time_days:{name}"].to_numpy(),
            rows[f"status:{name}"].to_numpy(),
        )
        for name, kind in known.outcomes.items()
    }
    values: dict[str, dict[tuple[Model, str], dict[int, Floats]]] = {"risk": {}, "low": {}, "high": {}}
    abouts: dict[str, list[About]] = {}
    left_out = 0
    for name, path in parts:
        made = about(path)
        if made is None or made.rows != known.rows or f"fold_{name.repeat}" not in rows.columns:
            left_out += 1
            continue
        abouts.setdefault(name.method, []).append(made)
        table = pl.read_parquet(path)
        for (scenario, outcome), block in table.partition_by("scenario", "outcome", as_dict=True).items():
            view = views[str(outcome)]
            for column, found in values.items():
                if block[column].is_null().all():
                    continue
                key = ((name.method, str(scenario)), str(outcome))
                shape = (len(rows), len(view.horizons_years))
                target = found.setdefault(key, {}).setdefault(name.repeat, np.full(shape, np.nan))
                for h, years in enumerate(view.horizons_years):
                    one = block.filter(pl.col("horizon_years") == years)
                    target[one["row"].to_numpy(), h] = one[column].to_numpy()
    if not abouts:
        return None
    fold = {r: rows[f"fold_{r}"].to_numpy() for r in range(99) if f"fold_{r}" in rows.columns}
    kept = {method: tuple(found) for method, found in abouts.items()}
    return SetResults(
        SETS[set_name], views, fold, rows, values["risk"], values["low"], values["high"], kept, left_out, folder
    )


def scored(results: SetResults, model: Model, outcome: str, subset: str = EVERYONE, floors: bool = True) -> Scores:
    """All scores of one model for one outcome on one subset of the rows.

    Weights come from the training rows of each fold, everyone among them, whatever the subset.

    Args:
        floors: also the floor of the ICI, which takes most of the time.
    """
    view, inside = results.views[outcome], results.subsets()[subset]
    found = Scores(
        rows=int((inside & (view.status >= 0)).sum()),
        events=int((inside & (view.status == 1) & (view.time_days <= view.horizons_years[-1] * DAYS_PER_YEAR)).sum()),
    )
    pooled: dict[str, list[float]] = {}
    for repeat, risk in results.risk.get((model, outcome), {}).items():
        fold = results.fold[repeat]
        there = np.isfinite(risk).all(axis=1) & inside
        for one in np.unique(fold[there & (fold >= 0)]):
            test = (fold == one) & there
            train = view.take(fold != one)
            found.by_fold[repeat, int(one)] = fold_scores(risk[test], view.take(test), observed(train))
            found.sizes[repeat, int(one)] = (int((train.status >= 0).sum()), int((view.status[test] >= 0).sum()))
        for h, years in enumerate(view.horizons_years):
            answer = by_row(fold, view, years)
            for metric, value in _pooled(risk[:, h], view, years, answer, there, floors):
                pooled.setdefault(f"{metric}@{years:g}", []).append(value)
    found.pooled.update({name: float(np.mean(values)) for name, values in pooled.items()})
    return found


def _pooled(
    risk: Floats, view: View, years: float, answer: Weighted, there: NDArray[np.bool_], floors: bool
) -> Iterator[tuple[str, float]]:
    """Calibration of the out-of-fold risks of one repeat at one horizon; what is undefined is left out."""
    known = there & (answer.weight > 0)
    given = risk[known], answer.outcome[known], answer.weight[known]
    link: Link = "logit" if view.known_at_once else "cloglog"
    try:
        yield "ici", ici(*given)
        yield "citl", citl(*given, link)
        yield "slope", intercept_and_slope(*given, link)[1]
        yield "mean_risk", float(risk[there & (view.status >= 0)].mean())
        yield "observed", float(np.average(given[1], weights=given[2]))
        if floors:
            rows = there & (view.status >= 0)
            if view.known_at_once:
                yield "ici_floor", float(ici_floor_now(risk[rows]).mean())
            else:
                floor = ici_floor(risk[rows], view.time_days[rows], view.status[rows], years * DAYS_PER_YEAR)
                yield "ici_floor", float(floor.mean())
    except Undefined:
        return


def main_model(method: str) -> Model:
    """A method with all inputs."""
    return method, ALL_INPUTS
