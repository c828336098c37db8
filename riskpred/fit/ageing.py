"""How far 30 days alone move a risk: the same subject at t, and at t + 30 days with nothing recorded in between.

Ages grow, windows move on, steps of a series fall out of them, an image turns stale. It is a property of the model as a
function of time, so rows that trained it tell it as well as any others.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from riskpred.config.outcomes import OutcomesConfig
from riskpred.features.batch import FeatureBatch, ImageInput
from riskpred.features.build import build
from riskpred.features.join import concat, take
from riskpred.features.plan import FeaturePlan, ImagePlan, ModalityPlan, TabularPlan
from riskpred.fit.data import Rows, subject_uniform
from riskpred.model.ageing import DAYS
from riskpred.model.fusion import Fusion
from riskpred.model.image_fast import image_encoders
from riskpred.model.layout import Target
from riskpred.model.paths import FP32, Evaluator, evaluator
from riskpred.model.risk import RiskModel
from riskpred.model.tensors import ImageTensors, ModalityTensors, tensors_of
from riskpred.records.chunk import DAY_US, STATIC, SubjectChunk
from riskpred.records.cohort import CohortRows, cohort_at
from riskpred.records.warehouse import Warehouse

MOST_SUBJECTS: Final = 2000
_READ_AT_ONCE: Final = 2048
_ROWS_AT_ONCE: Final = 256
_SMALL_CELL: Final = 10
_POINTS: Final = 100.0
_QUANTILES: Final = {"median": 0.5, "p95": 0.95, "largest": 1.0}

_Eligible = Mapping[str, NDArray[np.bool_]]


@dataclass(frozen=True)
class Moved:
    """What 30 days did to n rows that had a risk before them.

    Shape: points (n, Q) risk points, absolute; NaN where the row is not eligible or has no risk any more.
        lost: (n,) whether no usable input is left.
    """

    points: NDArray[np.float64]
    lost: NDArray[np.bool_]


def newest_rows(
    subject_id: NDArray[np.int64], prediction_time: NDArray[np.int64], seed: int, most: int = MOST_SUBJECTS
) -> NDArray[np.int64]:
    """The newest row of each of at most `most` subjects, drawn by seed; ascending by subject. Shape: (N,) -> (n,)."""
    order = np.lexsort((prediction_time, subject_id))
    newest = order[np.append(np.diff(subject_id[order]) != 0, True)] if len(order) else order
    if len(newest) > most:
        drawn = np.argsort(subject_uniform(subject_id[newest], seed), kind="stable")[:most]
        newest = newest[np.sort(drawn)]
    return newest


def month_later(
    plan: FeaturePlan,
    outcomes: OutcomesConfig,
    warehouse: Warehouse,
    subject_id: NDArray[np.int64],
    prediction_time: NDArray[np.int64],
) -> FeatureBatch:
    """Features of rows 30 days later, with nothing of those days. Without images: `moved` takes those of before.

    Shape: subject_id, ascending, each once, and prediction_time: (n,), n > 0.
    """
    read = _rows(outcomes, warehouse, subject_id, prediction_time, _READ_AT_ONCE)
    return concat([_later(chunk, rows, plan, warehouse) for chunk, rows in read])


def moved_by_month(model: RiskModel, rows: Rows, chosen: NDArray[np.int64], later: FeatureBatch) -> list[Moved]:
    """`moved` of the chosen training rows, some at a time: no pixel is held twice. later: their `month_later`."""
    encoders, found = evaluator(model, FP32, image_encoders), []
    for at in range(0, len(chosen), _ROWS_AT_ONCE):
        here = chosen[at : at + _ROWS_AT_ONCE]
        eligible = {name: flag[here] for name, flag in rows.eligible.items()}
        after = take(later, np.arange(at, at + len(here)))
        found.append(moved(model, encoders, take(rows.batch, here), after, eligible))
    return found


def moved_at_site(
    model: RiskModel,
    outcomes: OutcomesConfig,
    warehouse: Warehouse,
    subject_id: NDArray[np.int64],
    prediction_time: NDArray[np.int64],
) -> list[Moved]:
    """`moved` of rows of a warehouse that nobody holds in memory. Shape: as `month_later`."""
    encoders, found = evaluator(model, FP32, image_encoders), []
    for chunk, rows in _rows(outcomes, warehouse, subject_id, prediction_time, _ROWS_AT_ONCE):
        now = build(chunk, rows, model.plan, warehouse.image_root)
        found.append(moved(model, encoders, now, _later(chunk, rows, model.plan, warehouse), rows.eligible))
    return found


def moved(model: RiskModel, encoders: Evaluator, now: FeatureBatch, later: FeatureBatch, eligible: _Eligible) -> Moved:
    """How far each risk 30 days later lies from the same row's risk now; rows without a risk now are left out.

    No image is read or encoded again: they are those of now, until they leave their window or turn stale.
    """
    usable = np.flatnonzero(now.usable)
    now, later = take(now, usable), take(later, usable)
    inputs, others = model.tensors(now), dict[str, ModalityTensors]()
    for name, part in model.plan.modalities.items():
        if isinstance(part, ImagePlan):
            given = inputs[name]
            assert isinstance(given, ImageTensors), name
            inputs[name] = said = encoders.said(name, given)
            others[name] = said.left(torch.from_numpy(still_there(part, now, name, later.prediction_time)), DAYS)
        else:
            others[name] = tensors_of(later, name, part.columns if isinstance(part, TabularPlan) else ())
    fusion = Fusion.of(model)
    there, still = ({name: part.present for name, part in each.items()} for each in (inputs, others))
    before = fusion.member_risks(encoders.encode(inputs), there).mean(axis=0)
    after = fusion.member_risks(encoders.encode(others), still).mean(axis=0)
    lost = ~torch.stack(list(still.values())).any(dim=0).numpy()
    told = np.stack([eligible[outcome][usable] for outcome, _ in model.targets], axis=1) & ~lost[:, None]
    return Moved(np.where(told, np.abs(after - before) * _POINTS, np.nan), lost)


def still_there(plan: ImagePlan, now: FeatureBatch, modality: str, moment: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each picture that is used now would be used at a later moment of its row, no other having come.

    Shape: moment (B,); result (T,).
    """
    given = now.inputs[modality]
    assert isinstance(given, ImageInput), modality
    undated, then = given.time == STATIC, moment[given.row]
    age = then - np.where(undated, then, given.time)
    kept: NDArray[np.bool_] = np.ones(len(age), dtype=np.bool_)
    if plan.window_days is not None:
        kept &= age < plan.window_days * DAY_US
    if plan.stale_after_days is not None:
        kept &= age <= plan.stale_after_days * DAY_US
    return kept


def card_entry(targets: Sequence[Target], parts: Sequence[Moved]) -> dict[str, Any]:
    """The card's entry: days, subjects, without_input (of them, those who have no usable input any more; None where
    they are 1 to 9: a card tells of no few), risk_points.

    risk_points: outcome -> horizon_years, as text -> median, p95, largest; None where there is nobody to tell by.
    """
    points = np.concatenate([part.points for part in parts])
    lost = np.concatenate([part.lost for part in parts])
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    for q, (outcome, horizon) in enumerate(targets):
        some = points[~np.isnan(points[:, q]), q]
        found.setdefault(outcome, {})[f"{horizon:g}"] = {
            name: float(f"{np.quantile(some, share):.4g}") if len(some) else None for name, share in _QUANTILES.items()
        }
    return {
        "days": DAYS,
        "subjects": len(lost),
        "without_input": None if 0 < lost.sum() < _SMALL_CELL else int(lost.sum()),
        "of": "the newest row of each training subject, at its time and 30 days later with nothing new",
        "risk_points": found,
    }


def _rows(
    outcomes: OutcomesConfig,
    warehouse: Warehouse,
    subject_id: NDArray[np.int64],
    prediction_time: NDArray[np.int64],
    size: int,
) -> Iterator[tuple[SubjectChunk, CohortRows]]:
    """Chunks of these subjects, and the row of each."""
    for chunk in warehouse.chunks(size, subject_id):
        at = np.searchsorted(subject_id, chunk.subject_id)
        assert (subject_id[at] == chunk.subject_id).all(), "a warehouse gives nobody else"
        mine = np.arange(len(chunk), dtype=np.int64)
        yield chunk, cohort_at(chunk, outcomes, warehouse.data_until, mine, prediction_time[at])


def _later(chunk: SubjectChunk, rows: CohortRows, plan: FeaturePlan, warehouse: Warehouse) -> FeatureBatch:
    """Features of one row a subject, 30 days on, from what was known before; not those of images."""
    known = chunk.until(rows.prediction_time)
    moved_on = replace(rows, prediction_time=rows.prediction_time + DAYS * DAY_US)
    others: dict[str, ModalityPlan] = {
        name: part for name, part in plan.modalities.items() if not isinstance(part, ImagePlan)
    }
    return build(known, moved_on, replace(plan, modalities=others), warehouse.image_root)
