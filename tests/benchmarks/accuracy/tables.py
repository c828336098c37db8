"""Summarises what is there of every set as plain data: the same dict is the JSON, the markdown and the page."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from riskpred.evaluate.calibration import reliability
from tests.benchmarks.accuracy.compare import best_peers, chosen_peers, paired
from tests.benchmarks.accuracy.methods import FLOOR, METHODS, NEURAL, OURS, PEERS
from tests.benchmarks.accuracy.results import EVERYONE, Scores, SetResults, main_model, read, scored
from tests.benchmarks.accuracy.rows import config_of
from tests.benchmarks.accuracy.scores import by_row
from tests.benchmarks.accuracy.task import ALL_INPUTS

CHOSEN: Final = "chosen by inner folds"
_ORDER: Final = (OURS, *PEERS, NEURAL, FLOOR)


@dataclass(frozen=True)
class Scored:
    """A set with the scores of every model: (method, scenario) -> outcome -> subset -> scores."""

    results: SetResults
    scores: Mapping[tuple[str, str], Mapping[str, Mapping[str, Scores]]]

    def of(self, method: str, outcome: str, scenario: str = ALL_INPUTS, subset: str = EVERYONE) -> Scores:
        """Empty where there is no part."""
        return self.scores.get((method, scenario), {}).get(outcome, {}).get(subset, Scores())

    def has(self, method: str, scenario: str = ALL_INPUTS) -> bool:
        return (method, scenario) in self.scores


def score_sets(folder: Path, names: Sequence[str]) -> dict[str, Scored]:
    """All scores of the sets that have any part, in the order of the names."""
    found = {}
    for name in names:
        results = read(folder, name)
        if results is None:
            continue
        scores: dict[tuple[str, str], dict[str, dict[str, Scores]]] = {}
        for model in results.models:
            for outcome in results.views:
                for subset in results.subsets():
                    one = scored(results, model, outcome, subset, floors=model == main_model(OURS))
                    scores.setdefault(model, {}).setdefault(outcome, {})[subset] = one
        found[name] = Scored(results, scores)
    return found


def summarise(sets: Mapping[str, Scored]) -> dict[str, Any]:
    """Everything the pages show, as dicts, lists, texts and numbers (None = not there)."""
    return {name: _set(one) for name, one in sets.items()}


def _set(one: Scored) -> dict[str, Any]:
    results = one.results
    code = {name: METHODS[name].fingerprint(results.spec, config_of(results.spec)) for name in results.abouts}
    return {
        "study": results.spec.study,
        "of": results.spec.of,
        "design": results.spec.design.value,
        "parts_of_other_rows": results.left_out,
        "methods": {
            name: {
                "parts": len(abouts),
                "of_older_code": sum(about.code != code[name] for about in abouts),
                "seconds": float(np.mean([about.seconds for about in abouts])),
                "peak_mb": float(np.max([about.peak_mb for about in abouts])),
            }
            for name, abouts in sorted(results.abouts.items(), key=lambda item: _place(item[0]))
        },
        "outcomes": {outcome: _outcome(one, outcome) for outcome in results.views},
    }


def _outcome(one: Scored, outcome: str) -> dict[str, Any]:
    view = one.results.views[outcome]
    last = f"{view.horizons_years[-1]:g}"
    methods = sorted({method for method, scenario in one.scores if scenario == ALL_INPUTS}, key=_place)
    by_method = {method: one.of(method, outcome) for method in methods}
    chosen, best = dict(chosen_peers(one.results, outcome)), dict(best_peers(by_method))
    ours = one.of(OURS, outcome)
    differences = {
        method: {metric: asdict(paired(ours, theirs, metric)) for metric in ("rank", "error")}
        for method, theirs in by_method.items()
        if method != OURS and ours.by_fold
    }
    if ours.by_fold and chosen:
        differences[CHOSEN] = {
            metric: asdict(paired(ours, by_method[peer], metric))
            for metric, peer in chosen.items()
            if peer in by_method
        }
    return {
        "horizons_years": list(view.horizons_years),
        "known_at_once": view.known_at_once,
        "rows": int((view.status >= 0).sum()),
        "events": ours.events or max((s.events for s in by_method.values()), default=0),
        "chosen": chosen,
        "best": best,
        "methods": {method: _scores(scores, last) for method, scores in by_method.items()},
        "subsets": {
            subset: {
                method: _scores(one.of(method, outcome, subset=subset), last)
                for method in methods
                if one.of(method, outcome, subset=subset).by_fold
            }
            for subset in one.results.subsets()
            if subset != EVERYONE
        },
        "scenarios": {
            f"{method}, {scenario}": _scores(found[outcome][EVERYONE], last)
            for (method, scenario), found in one.scores.items()
            if scenario != ALL_INPUTS
        },
        "horizons": {
            method: {
                f"{years:g}": {
                    name: _number(scores.pooled.get(f"{name}@{years:g}", float("nan")))
                    for name in ("ici", "ici_floor", "slope", "citl", "mean_risk", "observed")
                }
                | {name: _number(scores.mean(f"{name}@{years:g}")) for name in ("auc", "brier")}
                for years in view.horizons_years
            }
            for method, scores in by_method.items()
        },
        "differences": {name: {m: _rounded(d) for m, d in found.items()} for name, found in differences.items()},
        "calibration": {
            method: curve
            for method in dict.fromkeys([OURS, *chosen.values()])
            if (curve := _curve(one.results, method, outcome)) is not None
        },
    }


def _scores(scores: Scores, last: str) -> dict[str, float | None]:
    rank = scores.values("rank")
    return {
        "folds": len(scores.by_fold),
        "rank": _number(scores.mean("rank")),
        "rank_sd": _number(float(rank.std(ddof=1)) if len(rank) > 1 else float("nan")),
        "error": _number(scores.mean("error")),
        "auc": _number(scores.mean(f"auc@{last}")),
        "brier": _number(scores.mean(f"brier@{last}")),
        **{
            name: _number(scores.pooled.get(f"{name}@{last}", float("nan")))
            for name in ("ici", "ici_floor", "slope", "citl")
        },
    }


def _curve(results: SetResults, method: str, outcome: str) -> dict[str, list[float]] | None:
    """Smoothed observed against predicted risk of the first repeat at the last horizon."""
    view, repeats = results.views[outcome], results.risk.get((main_model(method), outcome), {})
    if 0 not in repeats:
        return None
    risk = repeats[0][:, -1]
    answer = by_row(results.fold[0], view, view.horizons_years[-1])
    known = np.isfinite(risk) & (answer.weight > 0)
    curve = reliability(risk[known], answer.outcome[known], answer.weight[known])
    return {
        "risk": [round(v, 5) for v in curve.risk.tolist()],
        "observed": [round(v, 5) for v in curve.observed.tolist()],
    }


def _place(method: str) -> int:
    return _ORDER.index(method) if method in _ORDER else len(_ORDER)


def _number(value: float) -> float | None:
    return round(value, 6) if np.isfinite(value) else None


def _rounded(difference: dict[str, Any]) -> dict[str, Any]:
    return {name: _number(value) if isinstance(value, float) else value for name, value in difference.items()}
