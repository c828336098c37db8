"""What a model is worth on a whole set of outcomes known at once: which class, or which grade, it names.

Each outcome of a set is also judged by itself, as any other (measure.py). Here the set is one answer: 0 = none of them
(below the first grade), j = the class, or the highest grade reached.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from riskpred.evaluate.censoring import OUTCOME, Floats, Undefined
from riskpred.evaluate.discrimination import ranked_auc
from riskpred.evaluate.gather import MODEL, Evaluated, OutcomeSet
from riskpred.evaluate.intervals import interval, resampled_counts, resamples_for
from riskpred.evaluate.measure import MIN_EVENTS, ONLY
from riskpred.evaluate.metrics import Metric
from riskpred.evaluate.summary import number
from riskpred.evaluate.timeline import Ranks

WORDS: Final = {
    "quadratic_kappa": "Quadratic weighted kappa",
    "accuracy": "Accuracy",
    "macro_auc": "Mean AUC",
}
DEFINITIONS: Final = (
    (
        "quadratic weighted kappa",
        "agreement with the true grade beyond chance, a miss by two grades costing four times one by one; 1 is "
        "perfect. The grade named is the expected one, rounded",
    ),
    ("accuracy", "share of people whose most likely class or grade is the true one"),
    ("mean AUC", "of classes the mean over each against the rest, of grades over each threshold"),
)
_SMALL: Final = 10


@dataclass(frozen=True)
class Answers:
    """One set on the n rows that are labelled. chances: model -> (R, n, J + 1), of none of them and of each outcome.

    Shape: subject_id, answer (n,).
    """

    one: OutcomeSet
    subject_id: NDArray[np.int64]
    answer: NDArray[np.int64]
    chances: dict[str, Floats]

    @classmethod
    def of(cls, evaluated: Evaluated, one: OutcomeSet) -> "Answers":
        """Rows with an answer and a risk of every outcome from every model that has any."""
        columns = [evaluated.targets.index((name, 0.0)) for name in one.outcomes]
        status = np.stack([evaluated.status[name] for name in one.outcomes], axis=1)
        risks = {name: risk[:, :, columns] for name, risk in evaluated.risks.items() if not name.endswith(ONLY)}
        risks = {name: risk for name, risk in risks.items() if np.isfinite(risk).all(axis=(0, 2)).any()}
        keep = (status >= 0).all(axis=1)
        for risk in risks.values():
            keep &= np.isfinite(risk).all(axis=(0, 2))
        came = status[keep] == OUTCOME
        answer = came.sum(axis=1) if one.ordered else np.where(came.any(axis=1), came.argmax(axis=1) + 1, 0)
        return cls(
            one,
            evaluated.subject_id[keep],
            answer.astype(np.int64),
            {name: _chances(risk[:, keep], one.ordered) for name, risk in risks.items()},
        )

    @property
    def classes(self) -> int:
        return len(self.one.outcomes) + 1

    @property
    def too_few(self) -> str | None:
        """Why no metric is given; None when at least two answers have enough people."""
        enough = np.bincount(self.answer, minlength=self.classes) >= MIN_EVENTS
        return None if int(enough.sum()) >= 2 else f"fewer than two answers with at least {MIN_EVENTS} people"

    def named(self, model: str) -> NDArray[np.int64]:
        """The most likely answer, by the mean over repeats. Shape: (n,)."""
        found: NDArray[np.int64] = self.chances[model].mean(axis=0).argmax(axis=1)
        return found

    def metrics(self) -> tuple[str, ...]:
        return tuple(WORDS) if self.one.ordered else ("accuracy", "macro_auc")


def _chances(risk: Floats, ordered: bool) -> Floats:
    """Shape: (R, n, J) -> (R, n, J + 1)."""
    if not ordered:
        # A foreign table of predictions may pass 1.
        return np.concatenate([np.clip(1.0 - risk.sum(axis=2, keepdims=True), 0.0, None), risk], axis=2)
    ends = np.concatenate([np.ones_like(risk[:, :, :1]), risk, np.zeros_like(risk[:, :, :1])], axis=2)
    return np.asarray(ends[:, :, :-1] - ends[:, :, 1:], dtype=np.float64)


def quadratic_kappa(true: NDArray[np.int64], named: NDArray[np.int64], classes: int, weight: Floats) -> float:
    """Cohen's kappa with quadratic weights.

    Shape: true, named (n,) from 0 below `classes`; weight (n,).
    Raises: Undefined, when all are one and the same grade.
    Source: Cohen 1968, Psychol Bull 70:213-220.
    Example:
        >>> quadratic_kappa(np.array([0, 1, 2, 2]), np.array([0, 1, 2, 1]), 3, np.ones(4))
        0.8
    """
    table = np.zeros((classes, classes))
    np.add.at(table, (true, named), weight)
    cost = np.square(np.subtract.outer(np.arange(classes), np.arange(classes))).astype(np.float64)
    chance = float((cost * np.outer(table.sum(axis=1), table.sum(axis=0))).sum()) / float(table.sum())
    if chance <= 0:
        raise Undefined("only one grade is there")
    return float(round(1.0 - float((cost * table).sum()) / chance, 12))


def set_metrics(evaluated: Evaluated, *, seed: int = 1, resamples: int | None = None) -> list[Metric]:
    """Rows of every set and model, `outcome` being the set's name; intervals as of all other metrics."""
    rows: list[Metric] = []
    for one in evaluated.sets:
        given = Answers.of(evaluated, one)
        draws = resamples or resamples_for(len(given.answer))
        counts = [] if given.too_few else list(resampled_counts(given.subject_id, draws, seed))
        for model in given.chances:
            for metric in given.metrics():
                value, bounds, reason = None, None, given.too_few
                if reason is None:
                    measure = _Measure(given, model, metric)
                    try:
                        value = measure(np.ones(len(given.answer)))
                        bounds = interval(np.array(list(measure.drawn(counts))))
                    except Undefined as undefined:
                        reason = str(undefined)
                low, high = bounds or (None, None)
                rows.append(
                    Metric(
                        model=model,
                        split=evaluated.split,
                        outcome=one.name,
                        horizon_years=0.0,
                        subgroup=None,
                        blanking_days=0,
                        metric=metric,
                        value=value,
                        low=low,
                        high=high,
                        n=len(given.answer),
                        events=int((given.answer > 0).sum()),
                        reason=reason,
                        threshold=None,
                    )
                )
    return rows


class _Measure:
    """One metric of one model, on any resample."""

    def __init__(self, given: Answers, model: str, metric: str) -> None:
        self.given, self.metric, self.chances = given, metric, given.chances[model]
        self.ranks = [[Ranks.of(column) for column in self._columns(one)] for one in self.chances]

    def _columns(self, chances: Floats) -> list[Floats]:
        if self.metric != "macro_auc":
            return []
        if self.given.one.ordered:
            return list(chances[:, ::-1].cumsum(axis=1)[:, ::-1].T[1:])
        return list(chances.T)

    def __call__(self, count: Floats) -> float:
        """The mean over repeats. Raises: Undefined. Shape: count (n,)."""
        return float(np.mean([self._value(repeat, count) for repeat in range(len(self.chances))]))

    def drawn(self, counts: Sequence[Floats]) -> Iterator[float]:
        """Its value in each resample, NaN where it has none."""
        for count in counts:
            try:
                yield self(count)
            except Undefined:
                yield float("nan")

    def _value(self, repeat: int, count: Floats) -> float:
        answer, chances, ordered = self.given.answer, self.chances[repeat], self.given.one.ordered
        if self.metric == "accuracy":
            return float(np.average(chances.argmax(axis=1) == answer, weights=count))
        if self.metric == "quadratic_kappa":
            expected = chances @ np.arange(self.given.classes)
            return quadratic_kappa(answer, np.rint(expected).astype(np.int64), self.given.classes, count)
        found = []
        for j, ranks in enumerate(self.ranks[repeat]):
            came = answer > j if ordered else answer == j
            if 0 < float(count @ came) < float(count.sum()):
                found.append(ranked_auc(ranks, came.astype(np.float64), count))
        if not found:
            raise Undefined("only one class is there")
        return float(np.mean(found))


def view(evaluated: Evaluated, rows: Sequence[Metric]) -> list[dict[str, Any]]:
    """What page and text show of each set: metrics by model, and who was called what, in shares of the truly so.

    A row of fewer than 10 people is hidden, and counts are not given: they could be one person's.
    """
    found = []
    for one in evaluated.sets:
        given = Answers.of(evaluated, one)
        labels = ["none of them", *(evaluated.display.get(name, name) for name in one.outcomes)]
        lines = []
        for answer, label in enumerate(labels):
            truly = given.answer == answer
            cells = ["hidden" for _ in labels]
            if int(truly.sum()) >= _SMALL and MODEL in given.chances:
                shares = np.bincount(given.named(MODEL)[truly], minlength=len(labels)) / int(truly.sum())
                cells = [f"{100 * share:.0f} %" for share in shares]
            lines.append({"label": label, "cells": cells})
        models = list(given.chances)
        place = {(row["model"], row["metric"]): row for row in rows if row["outcome"] == one.name}
        found.append(
            {
                "name": one.name,
                "ordered": one.ordered,
                "n": len(given.answer),
                "reason": given.too_few,
                "labels": labels,
                "lines": lines,
                "models": models,
                "metrics": [
                    {"name": WORDS[metric], "metric": metric, "cells": [_cell(place.get((m, metric))) for m in models]}
                    for metric in given.metrics()
                ],
            }
        )
    return found


def _cell(row: Metric | None) -> dict[str, Any]:
    """As `exhibits` has cells."""
    if row is None or row["value"] is None:
        return {"value": "-", "range": "", "sure": False}
    ranged = row["low"] is not None and row["high"] is not None
    return {
        "value": number(row["value"]),
        "range": f"{number(row['low'])} to {number(row['high'])}" if ranged else "",
        "sure": False,
    }


def text_of(views: Sequence[dict[str, Any]]) -> str:
    """The sets as text, below the table of single outcomes; "" without any."""
    blocks = []
    for one in views:
        lines = [f"{one['name']} ({'grades' if one['ordered'] else 'classes'} together): n {one['n']:,}"]
        if one["reason"]:
            blocks.append("\n".join([*lines, f"  no metrics: {one['reason']}"]))
            continue
        for m, model in enumerate(one["models"]):
            cells = [(line["name"], line["cells"][m]) for line in one["metrics"]]
            said = "  ".join(f"{name} {c['value']}" + (f" ({c['range']})" if c["range"] else "") for name, c in cells)
            lines.append(f"  {model}  {said}")
        width = max(len(label) for label in one["labels"])
        lines += ["  truly so, and called (in the order of the lines):"]
        lines += [
            f"  {line['label'].ljust(width)}  " + "  ".join(cell.rjust(6) for cell in line["cells"])
            for line in one["lines"]
        ]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)
