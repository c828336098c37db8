"""A night's own check of the reasons it tells: a seeded sample of tonight's explained subjects, asked again.

Counts and sums only; nothing of a person is kept. A check that fails does not hold the night back: the risks are as
right as ever, and the summary says which reasons are to be mistrusted.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from riskpred.explain.attribution import TOLERANCE_POINTS, TOLERANCE_SHARE
from riskpred.explain.coalitions import POINTS
from riskpred.explain.faithfulness import rank_correlations
from riskpred.explain.permutation import quick_shapley
from riskpred.explain.reasons import FEATURE, MOMENT, OTHER, PLACE, PRESENCE, UNEXPLAINED
from riskpred.explain.removal import Asked, Floats, People
from riskpred.features.batch import FeatureBatch
from riskpred.features.build import build
from riskpred.features.plan import FeaturePlan, ImagePlan, SeriesPlan
from riskpred.model.paths import FP32, MOST_DIFFERENCE
from riskpred.records.cohort import cohort, rows_at
from riskpred.records.schema import table_schema
from riskpred.records.warehouse import Warehouse
from riskpred.score.compute import REASONS, Task
from riskpred.score.parts import Parts
from riskpred.score.plan import Night

if TYPE_CHECKING:
    from riskpred.model.bundle import Bundle

SAMPLED: Final = 16
PERMUTED: Final = 4
"""Of the sample, for how many Shapley values are estimated anew."""
_PERMUTED_FEATURES: Final = 160
"""Features x permutations of each: three hundred features are permuted once, forwards and backwards."""
TOP: Final = 3
"""Features, of one sign, that are removed together, or half of those that can be, where a person has fewer than six."""
RANDOM: Final = 4
"""Random sets of as many that they are held against."""

ROUNDING_POINTS: Final = 0.001
LEAST_POINTS: Final = 0.05
"""Top features that together say less than this have no direction to be checked."""
MOST_SHARE: Final = 0.65
LEAST_AGREEMENT: Final = 0.7

_UNDIVIDED: Final = (PRESENCE, UNEXPLAINED)
"""Feature rows that moments and regions do not divide."""


@dataclass(frozen=True)
class Check:
    """One row of reason_checks."""

    name: str
    modality: str | None
    n: int
    value: float
    wanted: str
    passed: bool


def reason_checks(
    bundle: "Bundle", source: Warehouse, night: Night, parts: Parts, tasks: Sequence[Task]
) -> tuple[pa.Table, str]:
    """Rows of reason_checks for what tonight's parts of reasons hold; and the checks that failed in words, "" = none.

    Args: tasks: all of tonight's parts of reasons, finished.
    """
    chosen = _chosen(night, tasks)
    rows = _stored(parts, tasks, chosen)
    found: list[Check] = []
    if not rows.is_empty():
        found += _sums(rows, _published(tasks, chosen, bundle), _finer(bundle.plan), night.numeric_path)
        found += _of_the_model(bundle, rows, list(_batches(bundle, source, tasks, chosen)))
    failed = [
        f"{check.name}{f' of {check.modality}' if check.modality else ''} {check.value:.3g}, wanted {check.wanted}"
        for check in found
        if not check.passed
    ]
    said = (
        f"reasons: of {len(found):,} checks on {len(chosen):,} subjects failed: {'; '.join(failed)}" if failed else ""
    )
    return _table(night, found), said


def _chosen(night: Night, tasks: Sequence[Task]) -> NDArray[np.int64]:
    """The sample, ascending: the same for the same night."""
    everyone = np.sort(np.concatenate([task.subjects for task in tasks])) if tasks else np.zeros(0, dtype=np.int64)
    generator = np.random.default_rng(zlib.crc32(night.run_id.encode()))
    return np.sort(generator.choice(everyone, min(SAMPLED, len(everyone)), replace=False))


def _stored(parts: Parts, tasks: Sequence[Task], chosen: NDArray[np.int64]) -> pl.DataFrame:
    """The stored reasons of the sample."""
    wanted = ["subject_id", "outcome", "horizon_years", "level", "modality", "feature", "contribution"]
    numbers = [task.number for task in tasks if np.isin(task.subjects, chosen).any()]
    mine = pa.array(chosen)
    tables = [
        table.select(wanted).filter(pc.is_in(table.column("subject_id"), mine))
        for table in parts.rows(REASONS, numbers, "explanations")
    ]
    if not tables:
        return pl.DataFrame(schema=dict.fromkeys(wanted, pl.Null))
    found = pl.from_arrow(pa.concat_tables(tables))
    assert isinstance(found, pl.DataFrame)
    return found.with_columns(pl.col("outcome", "level", "modality", "feature").cast(pl.String))


def _published(tasks: Sequence[Task], chosen: NDArray[np.int64], bundle: "Bundle") -> pl.DataFrame:
    """What each modality contributes as tonight publishes it, of the sample: what features must add up to."""
    model, blocks = bundle.model, []
    for task in tasks:
        assert task.contribution is not None
        here = np.isin(task.subjects, chosen)
        for q, (outcome, years) in enumerate(model.targets):
            for m, modality in enumerate(model.modalities):
                blocks.append(
                    pl.DataFrame(
                        {"subject_id": task.subjects[here], "above": task.contribution[here, q, m]}
                    ).with_columns(outcome=pl.lit(outcome), horizon_years=pl.lit(years), modality=pl.lit(modality))
                )
    return pl.concat(blocks)


def _finer(plan: FeaturePlan) -> dict[str, str | None]:
    """Modality -> the level that divides its features; None of facts that stand for themselves."""
    return {
        name: MOMENT if isinstance(part, SeriesPlan) else PLACE if isinstance(part, ImagePlan) else None
        for name, part in plan.modalities.items()
    }


def _sums(rows: pl.DataFrame, published: pl.DataFrame, levels: Mapping[str, str | None], path: str) -> Iterator[Check]:
    """Every level adds up to the one above it; what is left unexplained is as small as promised.

    Args: levels: modality -> the level that divides its features, as `_finer` gives it.
    """
    key = ["subject_id", "outcome", "horizon_years", "modality"]
    features = rows.filter(pl.col("level") == FEATURE)
    allowed = pl.max_horizontal(pl.lit(TOLERANCE_POINTS), TOLERANCE_SHARE * pl.col("above").abs())
    path_points = 0.0 if path == FP32 else POINTS * MOST_DIFFERENCE
    for modality, level in levels.items():
        mine = features.filter(pl.col("modality") == modality)
        if mine.is_empty():
            continue
        n = mine["subject_id"].n_unique()
        total = mine.group_by(key).agg(pl.col("contribution").sum()).join(published, on=key)
        off = _largest(total["contribution"] - total["above"])
        yield Check("sums of features", modality, n, off, f"at most {ROUNDING_POINTS:g}", off <= ROUNDING_POINTS)
        left = mine.filter(pl.col("feature") == UNEXPLAINED).join(published, on=key)
        over = left.filter(pl.col("contribution").abs() > allowed + path_points)["subject_id"].n_unique()
        # One in two hundred may be over, and is flagged: of sixteen subjects more than one is no chance.
        wanted = f"more than max({TOLERANCE_POINTS:g}, {100 * TOLERANCE_SHARE:g} %) in at most 1 subject"
        yield Check("remainder", modality, n, float(over), wanted, over <= 1)
        if level is None:
            continue
        finer = rows.filter(pl.col("level") == level, pl.col("modality") == modality)
        whole = mine.filter(~pl.col("feature").is_in(_UNDIVIDED))
        if finer.is_empty() and whole.is_empty():
            continue
        # What contributes exactly 0 has no row on either side; what has one on one side alone is not divided right.
        both = (
            finer.group_by(key)
            .agg(pl.col("contribution").sum())
            .join(
                whole.group_by(key).agg(pl.col("contribution").sum().alias("above")), on=key, how="full", coalesce=True
            )
        )
        off = _largest(both["contribution"].fill_null(0.0) - both["above"].fill_null(0.0))
        count = both["subject_id"].n_unique()
        yield Check(f"sums of {level}s", modality, count, off, f"at most {ROUNDING_POINTS:g}", off <= ROUNDING_POINTS)


def _largest(differences: pl.Series) -> float:
    """Largest absolute difference; infinite where one is missing."""
    if differences.null_count():
        return float("inf")
    return float(np.abs(differences.to_numpy()).max(initial=0.0))


def _batches(
    bundle: "Bundle", source: Warehouse, tasks: Sequence[Task], chosen: NDArray[np.int64]
) -> Iterator[FeatureBatch]:
    """Inputs of the sample, each at the moment it was judged at."""
    for moment in sorted({task.moment for task in tasks}):
        mine = np.concatenate([task.subjects for task in tasks if task.moment == moment])
        some = np.intersect1d(mine, chosen)
        for chunk in source.chunks(SAMPLED, some) if len(some) else ():
            rows = cohort(chunk, bundle.config.outcomes, source.data_until, moment)
            eligible = np.any(list(rows.eligible.values()), axis=0)
            yield build(chunk, rows_at(rows, np.flatnonzero(eligible)), bundle.plan, source.image_root)


def _of_the_model(bundle: "Bundle", rows: pl.DataFrame, batches: Sequence[FeatureBatch]) -> Iterator[Check]:
    """What happens when the top features go, and whether Shapley values estimated anew put features in that order."""
    size, direction, agreed = list[bool](), list[bool](), list[float]()
    for batch in batches:
        people = People.of(bundle, batch)
        said, target = _said(people, batch, bundle.model.targets, rows)
        told = np.flatnonzero((said != 0).any(axis=1))
        for larger, right in _removed(people, said, target, told):
            size.append(larger)
            direction += [] if right is None else [right]
        few = told[: max(0, PERMUTED - len(agreed))]
        if len(few):
            turns = int(np.clip(_PERMUTED_FEATURES // len(people.players), 1, 4))
            again = quick_shapley(people.take(few), range(len(bundle.model.targets)), turns)
            estimate = again[np.arange(len(few)), target[few]]
            agreed += rank_correlations(estimate, said[few], said[few] != 0).tolist()
    if size:
        yield _share("deletion of the top features against random ones", size)
    if direction:
        yield _share("deletion in the direction said", direction)
    there = [value for value in agreed if np.isfinite(value)]
    if there:
        middle = float(np.median(there))
        wanted = f"at least {LEAST_AGREEMENT:g}"
        yield Check(
            "permutation Shapley, rank correlation", None, len(there), middle, wanted, middle >= LEAST_AGREEMENT
        )


def _share(name: str, held: Sequence[bool]) -> Check:
    value, missed = float(np.mean(held)), len(held) - sum(held)
    wanted = f"at least {MOST_SHARE:g} of subjects, or all but one"
    return Check(name, None, len(held), value, wanted, value >= MOST_SHARE or missed <= 1)


def _said(
    people: People, batch: FeatureBatch, targets: Sequence[tuple[str, float]], rows: pl.DataFrame
) -> tuple[Floats, NDArray[np.int64]]:
    """The stored contribution of each named feature at the target that moves most, and that target.

    0 where nothing is stored: a feature that says nothing, or that is added up in (other).
    Shape: (B, F) and (B,).
    """
    place: Mapping[tuple[str, str], int] = {(p.modality, p.name): f for f, p in enumerate(people.players)}
    row = {subject: b for b, subject in enumerate(batch.subject_id.tolist())}
    column = {target: q for q, target in enumerate(targets)}
    found = np.zeros((len(batch), len(targets), len(place)))
    named = rows.filter(pl.col("level") == "feature", ~pl.col("feature").is_in([PRESENCE, OTHER, UNEXPLAINED]))
    for subject, outcome, years, modality, feature, value in named.select(
        "subject_id", "outcome", "horizon_years", "modality", "feature", "contribution"
    ).rows():
        b, f = row.get(subject), place[modality, feature]
        # An input that is not there any more cannot be taken away.
        if b is not None and people.present[modality][b]:
            found[b, column[outcome, years], f] = value
    target = np.abs(found).sum(axis=2).argmax(axis=1)
    return found[np.arange(len(batch)), target], target


def _removed(
    people: People, said: Floats, target: NDArray[np.int64], told: NDArray[np.int64]
) -> list[tuple[bool, bool | None]]:
    """Of each subject told: whether the top features move the risk more than random ones, and whether in the direction
    that they say (None where they say next to nothing, or there are too few others to compare with)."""
    asked, generator = Asked(people), np.random.default_rng(0)
    subject, kept, plan = [], [], []
    for b in told.tolist():
        movable = np.flatnonzero(people.movable[b])
        together = min(TOP, len(movable) // 2)
        if not together:
            continue
        top = _top(said[b])[:together]
        plan.append(float(said[b, top].sum()))
        random = (generator.choice(movable, len(top), False) for _ in range(RANDOM))
        for gone in (np.zeros(0, dtype=np.int64), top, *random):
            one = np.ones(len(people.players), dtype=np.bool_)
            one[gone] = False
            subject.append(b)
            kept.append(one)
    if not plan:
        return []
    index = np.array(subject, dtype=np.int64)
    risk = asked.risks(index, np.stack(kept))[np.arange(len(index)), target[index]].reshape(len(plan), -1)
    moved = risk[:, 1:] - risk[:, :1]
    found: list[tuple[bool, bool | None]] = []
    for total, each in zip(plan, moved, strict=True):
        right = bool(np.sign(each[0]) == -np.sign(total)) if abs(total) >= LEAST_POINTS else None
        found.append((bool(abs(each[0]) >= np.abs(each[1:]).mean()), right))
    return found


def _top(said: NDArray[np.float64]) -> NDArray[np.int64]:
    """Up to TOP features of one sign that say most together: of both signs the largest may cancel. Shape: (F,)."""
    sides = []
    for sign in (1, -1):
        largest = np.argsort(-sign * said, kind="stable")[:TOP]
        sides.append(largest[sign * said[largest] > 0])
    return max(sides, key=lambda side: float(np.abs(said[side]).sum()))


def _table(night: Night, found: Sequence[Check]) -> pa.Table:
    schema = table_schema("scores", "reason_checks").arrow()
    columns = {
        "run_id": [night.run_id] * len(found),
        "check_name": [check.name for check in found],
        "modality": [check.modality for check in found],
        "n": [check.n for check in found],
        "value": [check.value for check in found],
        "wanted": [check.wanted for check in found],
        "passed": [check.passed for check in found],
    }
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)
