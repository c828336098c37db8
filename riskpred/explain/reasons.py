"""Rows of `explanations`: signed contributions in risk points, ranked, each feature with its value, unit and time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from riskpred.explain.attribution import Within
from riskpred.features.batch import FeatureBatch, ImageInput, SeriesInput, TabularInput
from riskpred.features.plan import FeaturePlan, SeriesPlan, TabularPlan
from riskpred.model.layout import Target
from riskpred.records.chunk import STATIC
from riskpred.records.schema import table_schema

FEATURES_KEPT = 15
"""Features kept by name per modality and target; the rest are added up in (other)."""

PRESENCE, OTHER, UNEXPLAINED = "(presence)", "(other)", "(unexplained)"


@dataclass(frozen=True)
class Described:
    """What a modality's F features were, for B subjects.

    Shape: names, units: (F,).   value: (B, F), NaN = missing or a category.   text_value: (B, F) category, None = none.
        time: (B, F) UTC microseconds, STATIC = none.
    """

    names: tuple[str, ...]
    units: tuple[str | None, ...]
    value: NDArray[np.float64]
    text_value: NDArray[np.object_]
    time: NDArray[np.int64]


@dataclass(frozen=True)
class ModalityPart:
    """One modality's attribution for the subjects that have it. `rows`: (P,) their place in the batch."""

    modality: str
    rows: NDArray[np.int64]
    within: Within
    described: Described


def described(batch: FeatureBatch, plan: FeaturePlan, modality: str, rows: NDArray[np.int64]) -> Described:
    """Value, unit and time of each feature of a modality; of a series channel, its latest visible value."""
    given, spec = batch.inputs[modality], plan.modalities[modality]
    if isinstance(given, TabularInput):
        assert isinstance(spec, TabularPlan)
        value = decimal(given.values[rows])
        text = np.full(value.shape, None, dtype=object)
        for f, column in enumerate(spec.columns):
            if column.vocabulary:
                known = ~np.isnan(value[:, f])
                text[known, f] = np.array(column.vocabulary, dtype=object)[value[known, f].astype(np.int64)]
                value[:, f] = np.nan
        return Described(
            tuple(c.name for c in spec.columns), tuple(c.unit for c in spec.columns), value, text, given.time[rows]
        )
    if isinstance(given, SeriesInput):
        assert isinstance(spec, SeriesPlan)
        value = np.full((len(rows), len(spec.channels)), np.nan)
        time = np.full(value.shape, STATIC)
        for at, row in enumerate(rows.tolist()):
            steps = slice(given.start[row], given.start[row + 1])
            known = ~np.isnan(given.values[steps])
            for channel in np.flatnonzero(known.any(axis=0)).tolist():
                last = int(given.start[row]) + int(np.flatnonzero(known[:, channel])[-1])
                value[at, channel], time[at, channel] = given.values[last, channel], given.time[last]
        value = decimal(value.astype(np.float32))
        names, units = tuple(c.code for c in spec.channels), tuple(c.unit for c in spec.channels)
        return Described(names, units, value, np.full(value.shape, None, dtype=object), time)
    assert isinstance(given, ImageInput)
    shape = (len(rows), 1)
    return Described(
        ("image",), (None,), np.full(shape, np.nan), np.full(shape, None, dtype=object), given.time[rows][:, None]
    )


def decimal(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """The shortest decimal number that is each float32: 7.2, not 7.199999809. Shape is kept; NaN stays."""
    return values.astype(str).astype(np.float64)


def one_of(place: NDArray[np.integer], names: Sequence[str]) -> pa.DictionaryArray:
    """Texts by their place in a list of names (which may repeat one): no text is copied. Shape: (N,)."""
    distinct = list(dict.fromkeys(names))
    where = np.array([distinct.index(name) for name in names], dtype=np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(where[place]), pa.array(distinct, pa.string()))


def constant(text: str, count: int) -> pa.DictionaryArray:
    """The same text `count` times."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, dtype=np.int32)), pa.array([text], pa.string()))


def feature_rows(
    run_id: str,
    targets: Sequence[Target],
    subject_id: NDArray[np.int64],
    parts: Sequence[ModalityPart],
    wanted: NDArray[np.bool_],
) -> pa.Table:
    """Rows of level "feature": per modality (presence), the largest features, (other), (unexplained).

    Features with a contribution of exactly 0 (missing ones among them) get no row.

    Shape: subject_id (B,); wanted (B, Q).
    """
    blocks = [_one_modality(part, wanted) for part in parts]
    joined = {key: np.concatenate([block[key] for block in blocks]) for key in (blocks[0] if blocks else ())}
    if not joined:
        return table_schema("scores", "explanations").arrow().empty_table()
    order = np.lexsort((-np.abs(joined["contribution"]), joined["target"], joined["row"]))
    joined = {key: column[order] for key, column in joined.items()}
    first = np.ones(len(order), dtype=bool)
    first[1:] = (np.diff(joined["row"]) != 0) | (np.diff(joined["target"]) != 0)
    begin = np.flatnonzero(first)
    rank = np.arange(len(order)) - np.repeat(begin, np.diff(np.append(begin, len(order)))) + 1
    row = joined.pop("row")
    return _rows(run_id, "feature", targets, subject_id=subject_id[row], rank=rank, **joined)


def _one_modality(part: ModalityPart, wanted: NDArray[np.bool_]) -> dict[str, NDArray[np.generic]]:
    """Columns of one modality's rows, unranked; `row` is the subject's place in the batch."""
    within, told = part.within, part.described
    subject, target = np.nonzero(wanted[part.rows])
    feature = within.feature[subject, target]
    order = np.argsort(-np.abs(feature), axis=1, kind="stable")
    kept, rest = order[:, :FEATURES_KEPT], order[:, FEATURES_KEPT:]
    pair, place = np.nonzero(np.take_along_axis(feature, kept, axis=1))
    named = kept[pair, place]
    blocks = [
        {
            "pair": pair,
            "feature": np.array(told.names, dtype=object)[named],
            "value": told.value[subject[pair], named],
            "text_value": told.text_value[subject[pair], named],
            "unit": np.array(told.units, dtype=object)[named],
            "time": told.time[subject[pair], named],
            "contribution": feature[pair, named],
            "remainder": np.zeros(len(pair), dtype=bool),
        }
    ]
    other = np.take_along_axis(feature, rest, axis=1).sum(axis=1)
    pairs = np.arange(len(subject))
    for name, contribution, some in (
        (PRESENCE, within.presence[subject, target], pairs),
        (OTHER, other, np.flatnonzero(other)),
        (UNEXPLAINED, within.unexplained[subject, target], pairs),
    ):
        blocks.append(
            {
                "pair": some,
                "feature": np.full(len(some), name, dtype=object),
                "value": np.full(len(some), np.nan),
                "text_value": np.full(len(some), None, dtype=object),
                "unit": np.full(len(some), None, dtype=object),
                "time": np.full(len(some), STATIC),
                "contribution": contribution[some],
                "remainder": np.full(len(some), name != PRESENCE),
            }
        )
    columns = {key: np.concatenate([block[key] for block in blocks]) for key in blocks[0]}
    pair = columns.pop("pair").astype(np.int64)
    columns["row"], columns["target"] = part.rows[subject[pair]], target[pair]
    columns["modality"] = np.full(len(pair), part.modality, dtype=object)
    return columns


def _rows(run_id: str, level: str, targets: Sequence[Target], **columns: NDArray[np.generic]) -> pa.Table:
    target = columns.pop("target").astype(np.int64)
    time = columns.pop("time").astype(np.int64)
    value = columns.pop("value").astype(np.float64)
    every: dict[str, object] = {
        **columns,
        "value": pa.array(value, mask=np.isnan(value)),
        "run_id": pa.repeat(run_id, len(target)),
        "level": pa.repeat(level, len(target)),
        "outcome": np.array([outcome for outcome, _ in targets], dtype=object)[target],
        "horizon_years": np.array([horizon for _, horizon in targets])[target],
        "time": pa.array(time, mask=time == STATIC).cast(pa.timestamp("us")),
    }
    schema = table_schema("scores", "explanations").arrow()
    return pa.table([pa.array(every[f.name], type=f.type) for f in schema], schema=schema)
