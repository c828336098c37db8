"""What is missing and would matter, and what would have to change for a risk to fall below a threshold.

Both ask the model about records that are a little other (`edited`), many at once. They say what the model would say of
another record: associations in the training data, not what a treatment would do.

**Missing**: a code whose measurement is missing is thought measured at prediction_time, once at the 10th and once at
the 90th percentile of the person's reference group; between the two risks theirs would lie (that
they have without it need not: that a value was measured is read, too). The widest five by outcome
and horizon are kept where they lie more than half a risk point apart.

**Changes**: at each outcome's longest horizon, of what the study's words call modifiable. A value moves in eighths of
the way towards its goal: the improvement's limit, no further than the 5th or 95th percentile of training and no more
than the share of itself that the words allow. Scenarios, the least first: the one change, then the two changes (in
quarters of the way) that suffice, and only together, the shortest ways first; last, everything that lowers the risk at
its goal, whether or not that suffices. A code that lowers the risk by less than a twentieth of a point is left alone.
Where the risk is below the threshold already there is no row.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from riskpred.config.words import CodeWords
from riskpred.explain.edited import Edit, EditedRecords, Variant
from riskpred.explain.reasons import schema_without_run
from riskpred.features.batch import FeatureBatch, TabularInput
from riskpred.features.plan import TabularPlan
from riskpred.model.ranges import measured_columns, unit_of
from riskpred.records.chunk import SubjectChunk
from riskpred.records.cohort import CohortRows

if TYPE_CHECKING:
    from riskpred.model.bundle import Bundle

KEPT: Final = 5
LEAST_WIDTH: Final = 0.005
LEAST_EFFECT: Final = 0.0005
_EIGHTHS: Final = tuple(k / 8 for k in range(1, 9))
_QUARTERS: Final = (0.25, 0.5, 0.75, 1.0)
_PAIRED: Final = 3
"""Codes, of largest effect, among which pairs are looked for."""

_Answers = dict[Variant, NDArray[np.float64]]


@dataclass(frozen=True)
class WhatIf:
    """Rows of `missing_impact` and `changes`, without run_id."""

    missing_impact: pa.Table
    changes: pa.Table


def what_if(
    bundle: "Bundle",
    chunk: SubjectChunk,
    cohort: CohortRows,
    batch: FeatureBatch,
    reference: NDArray[np.float64],
    wanted: NDArray[np.bool_],
) -> WhatIf:
    """Both tables for the B people of a batch, in fp32.

    Args: reference, wanted: each person's reference risk, and which of their risks to speak of.
    Shape: (B, Q).
    """
    records = EditedRecords(bundle, chunk, cohort, batch)
    return WhatIf(
        missing_impact=_missing(bundle, records, batch, wanted),
        changes=_changes(bundle, records, batch, reference, wanted),
    )


def _missing(bundle: "Bundle", records: EditedRecords, batch: FeatureBatch, wanted: NDArray[np.bool_]) -> pa.Table:
    asked: list[tuple[int, str, str, str | None, float, float]] = []
    groups = np.array(bundle.profiles.names)[bundle.profiles.places(batch)].tolist()
    for name, part in bundle.plan.modalities.items():
        given = batch.inputs[name]
        if not isinstance(part, TabularPlan) or not isinstance(given, TabularInput):
            continue
        for code, column in measured_columns(part).items():
            lacking = np.isnan(given.values[:, column]) & batch.present[name] & wanted.any(axis=1)
            for row in np.flatnonzero(lacking).tolist():
                found = bundle.ranges.of(groups[row], code)
                if found is not None and found.p10 < found.p90:
                    feature = part.columns[column]
                    asked.append((row, name, feature.name, feature.unit, found.p10, found.p90))
    code_of = {c.name: c.code for p in bundle.plan.modalities.values() if isinstance(p, TabularPlan) for c in p.columns}
    low = records.risks([Variant(one[0], (Edit(code_of[one[2]], one[4], added=True),)) for one in asked])
    high = records.risks([Variant(one[0], (Edit(code_of[one[2]], one[5], added=True),)) for one in asked])
    lower, higher = np.minimum(low, high), np.maximum(low, high)
    rows: list[dict[str, object]] = []
    subject = np.array([one[0] for one in asked], dtype=np.int64)
    for row in np.unique(subject).tolist():
        mine = np.flatnonzero(subject == row)
        for q in np.flatnonzero(wanted[row]).tolist():
            outcome, horizon = bundle.model.targets[q]
            width = higher[mine, q] - lower[mine, q]
            order = [at for at in np.argsort(-width, kind="stable")[:KEPT].tolist() if width[at] > LEAST_WIDTH]
            for rank, at in enumerate(order, start=1):
                _, modality, feature, unit, low_value, high_value = asked[mine[at]]
                rows.append(
                    {
                        "subject_id": int(batch.subject_id[row]),
                        "outcome": outcome,
                        "horizon_years": horizon,
                        "modality": modality,
                        "feature": feature,
                        "unit": unit,
                        "low_value": _decimal(low_value),
                        "high_value": _decimal(high_value),
                        "risk_low": float(lower[mine[at], q]),
                        "risk_high": float(higher[mine[at], q]),
                        "rank": rank,
                    }
                )
    return _table("missing_impact", rows)


@dataclass(frozen=True)
class Move:
    """How a person's measurement of a modifiable code may move. to: fraction of the way -> value, 1 = the goal.

    A category, and what is yes or no, has one way to go, of fraction 1.
    also: what follows at once of other codes, when the goal is reached.
    """

    code: str
    value: float | str
    to: dict[float, float | str]
    also: tuple[Edit, ...] = ()

    def covers(self, other: "Move") -> bool:
        """Whether the other's value follows from this one."""
        return any(edit.code == other.code for edit in self.also)

    def fractions(self, among: Iterable[float]) -> list[float]:
        return [fraction for fraction in among if fraction in self.to]


@dataclass(frozen=True)
class Scenario:
    """Changes in order, each with how far its way is gone."""

    steps: tuple[tuple[Move, float], ...]

    def upto(self, row: int, step: int) -> Variant:
        return _variant(row, self.steps[: step + 1])


class _Asker:
    """Asks for variants once each, many at a time."""

    def __init__(self, records: EditedRecords) -> None:
        self._records = records
        self.known: _Answers = {}

    def ask(self, variants: Iterable[Variant]) -> None:
        new = [variant for variant in dict.fromkeys(variants) if variant not in self.known]
        self.known.update(zip(new, self._records.risks(new), strict=True))


def _changes(
    bundle: "Bundle",
    records: EditedRecords,
    batch: FeatureBatch,
    reference: NDArray[np.float64],
    wanted: NDArray[np.bool_],
) -> pa.Table:
    modifiable = {code: one for code, one in bundle.config.words.codes.items() if one.improve is not None}
    moves = [_moves(bundle, records, row, modifiable) if wanted[row].any() else [] for row in range(len(batch))]
    asker = _Asker(records)
    asker.ask(Variant(row, ()) for row, some in enumerate(moves) if some)
    asker.ask(_variant(row, [(move, 1.0)]) for row, some in enumerate(moves) for move in some)
    cases = [
        case
        for row, some in enumerate(moves)
        for q in _longest(bundle, wanted[row])
        if some and (case := _case(bundle, asker, row, q, some, reference)) is not None
    ]
    asker.ask(variant for case in cases for variant in case.first_questions(asker))
    asker.ask(variant for case in cases for variant in case.second_questions(asker))
    rows: list[dict[str, object]] = []
    for case in cases:
        outcome, horizon = bundle.model.targets[case.q]
        for number, scenario in enumerate(case.scenarios(asker), start=1):
            for step, (move, fraction) in enumerate(scenario.steps):
                to = move.to[fraction]
                rows.append(
                    {
                        "subject_id": int(batch.subject_id[case.row]),
                        "outcome": outcome,
                        "horizon_years": horizon,
                        "threshold": case.threshold,
                        "scenario": number,
                        "step": step + 1,
                        "feature": move.code,
                        "unit": unit_of(bundle.plan, move.code) if isinstance(to, float) else None,
                        "value": _decimal(move.value) if isinstance(move.value, float) else None,
                        "text_value": move.value if isinstance(move.value, str) else None,
                        "to_value": to if isinstance(to, float) else None,
                        "to_text_value": to if isinstance(to, str) else None,
                        "risk": float(asker.known[scenario.upto(case.row, step)][case.q]),
                    }
                )
    return _table("changes", rows)


@dataclass(frozen=True)
class _Case:
    """One person, one target. moves: those that lower the risk, the largest effect first."""

    row: int
    q: int
    threshold: float
    moves: tuple[Move, ...]

    def risk(self, asker: _Asker, steps: Sequence[tuple[Move, float]]) -> float:
        return float(asker.known[_variant(self.row, steps)][self.q])

    def _suffices(self, asker: _Asker, steps: Sequence[tuple[Move, float]]) -> bool:
        return self.risk(asker, steps) < self.threshold

    @property
    def all_of_it(self) -> Scenario:
        return Scenario(
            tuple((move, 1.0) for move in self.moves if not any(other.covers(move) for other in self.moves))
        )

    @property
    def _pairs(self) -> list[tuple[Move, Move]]:
        pairs = combinations(self.moves[:_PAIRED], 2)
        return [(one, two) for one, two in pairs if not one.covers(two) and not two.covers(one)]

    def first_questions(self, asker: _Asker) -> list[Variant]:
        """Everything step by step; pairs at their goals; the ways of single changes that suffice at their goal."""
        asked = [self.all_of_it.upto(self.row, step) for step in range(len(self.all_of_it.steps))]
        asked += [_variant(self.row, [(one, 1.0), (two, 1.0)]) for one, two in self._pairs]
        for move in self.moves:
            if self._suffices(asker, [(move, 1.0)]):
                asked += [_variant(self.row, [(move, f)]) for f in move.fractions(_EIGHTHS)]
        return asked

    def second_questions(self, asker: _Asker) -> list[Variant]:
        """The ways of pairs that suffice at their goals, and of each of the two alone."""
        asked = []
        for one, two in self._pairs:
            if self._suffices(asker, [(one, 1.0), (two, 1.0)]):
                asked += [_variant(self.row, [(move, f)]) for move in (one, two) for f in move.fractions(_QUARTERS)]
                asked += [
                    _variant(self.row, [(one, f), (two, g)])
                    for f in one.fractions(_QUARTERS)
                    for g in two.fractions(_QUARTERS)
                ]
        return asked

    def scenarios(self, asker: _Asker) -> list[Scenario]:
        """At most three, the least to change first; each once."""
        single = [
            ((move, f),)
            for move in self.moves
            if self._suffices(asker, [(move, 1.0)])
            for f in move.fractions(_EIGHTHS)
            if self._suffices(asker, [(move, f)])
        ]
        double = [
            ((one, f), (two, g))
            for one, two in self._pairs
            if self._suffices(asker, [(one, 1.0), (two, 1.0)])
            for f in one.fractions(_QUARTERS)
            for g in two.fractions(_QUARTERS)
            if self._suffices(asker, [(one, f), (two, g)])
            and not self._suffices(asker, [(one, f)])
            and not self._suffices(asker, [(two, g)])
        ]
        found: list[Scenario] = []
        for ways in (single, double):
            if ways:
                found.append(Scenario(min(ways, key=lambda steps: sum(fraction for _, fraction in steps))))
        if self.all_of_it not in found:
            found.append(self.all_of_it)
        return found


def _case(
    bundle: "Bundle", asker: _Asker, row: int, q: int, moves: Sequence[Move], reference: NDArray[np.float64]
) -> _Case | None:
    """None where the risk is below the threshold already, or nothing modifiable lowers it."""
    named = bundle.config.outcomes.outcomes[bundle.model.targets[q][0]].threshold
    threshold = float(reference[row, q]) if named is None else named
    risk = float(asker.known[Variant(row, ())][q])
    effects = [(risk - float(asker.known[_variant(row, [(move, 1.0)])][q]), move) for move in moves]
    lowering = sorted(((effect, move) for effect, move in effects if effect >= LEAST_EFFECT), key=lambda one: -one[0])
    if risk < threshold or not lowering:
        return None
    return _Case(row, q, threshold, tuple(move for _, move in lowering))


def _moves(bundle: "Bundle", records: EditedRecords, row: int, modifiable: dict[str, CodeWords]) -> list[Move]:
    found = []
    for code, words in modifiable.items():
        latest = records.latest(row, code)
        move = None if latest is None else _move(bundle, code, words, *latest)
        if move is not None:
            assert words.improve is not None
            also = [Edit(other, to) for other, to in words.improve.also.items() if records.latest(row, other)]
            found.append(replace(move, also=tuple(also)))
    return found


def _move(bundle: "Bundle", code: str, words: CodeWords, value: float, text: str | None) -> Move | None:
    """How a measurement may move; None where it is at its goal, or nobody knows how far it could."""
    assert words.improve is not None
    if text is not None and text in words.improve.values:
        return Move(code, text, {1.0: words.improve.values[text]})
    if math.isnan(value) or words.improve.towards is None:
        return None
    sign = -1.0 if words.improve.towards == "lower" else 1.0
    unit = unit_of(bundle.plan, code)
    here, seen = words.units.get(unit or ""), bundle.ranges.of("everyone", code)
    bounds = [here.limit] if here is not None and here.limit is not None else []
    bounds += [seen.p05 if sign < 0 else seen.p95] if seen is not None else []
    if not bounds or seen is None:
        return None
    bounds += [value * (1 + sign * words.improve.most_share)] if words.improve.most_share is not None else []
    goal = max(bounds) if sign < 0 else min(bounds)
    if sign * (goal - value) <= 0:
        return None
    if unit == "0/1":
        return Move(code, value, {1.0: _decimal(goal)})
    step = _resolution(seen.p95 - seen.p05)
    to: dict[float, float | str] = {}
    for fraction in _EIGHTHS:
        exact = value + fraction * (goal - value)
        # Rounded towards what it is, so that no value lies beyond its goal.
        rounded = _decimal(round((math.ceil if sign < 0 else math.floor)(exact / step + sign * 1e-9) * step, 10))
        if sign * (rounded - value) > 0:
            to[fraction] = rounded
    return Move(code, value, to) if 1.0 in to else None


def _resolution(spread: float) -> float:
    """A power of ten, about a twentieth of the spread: steps that a person would use."""
    return 10.0 ** math.floor(math.log10(spread / 20)) if spread > 0 else 1.0


def _longest(bundle: "Bundle", wanted: NDArray[np.bool_]) -> list[int]:
    """Each wanted outcome's target of the longest horizon."""
    last: dict[str, int] = {}
    for q in np.flatnonzero(wanted).tolist():
        outcome, horizon = bundle.model.targets[q]
        if outcome not in last or horizon > bundle.model.targets[last[outcome]][1]:
            last[outcome] = q
    return list(last.values())


def _variant(row: int, steps: Sequence[tuple[Move, float]]) -> Variant:
    """The same changes in any order are one variant; what follows from a change goes before what was chosen."""
    edits = {move.code: Edit(move.code, move.to[fraction]) for move, fraction in steps}
    edits |= {edit.code: edit for move, fraction in steps if fraction == 1 for edit in move.also}
    return Variant(row, tuple(edits[code] for code in sorted(edits)))


def _decimal(value: float) -> float:
    """The shortest decimal number that is the same float32."""
    return float(str(np.float32(value)))


def _table(name: str, rows: list[dict[str, object]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=schema_without_run(name))
