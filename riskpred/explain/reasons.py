"""Rows of `explanations`: signed contributions in risk points, ranked, each feature with its value, unit and time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from riskpred.explain.attribution import Within
from riskpred.explain.regions import REGIONS
from riskpred.features.batch import FeatureBatch, ImageInput, SeriesInput, TabularInput
from riskpred.features.plan import FeaturePlan, SeriesPlan, TabularPlan
from riskpred.model.layout import Target
from riskpred.records.chunk import STATIC
from riskpred.records.schema import table_schema

FEATURES_KEPT, MOMENTS_KEPT = 15, 8
"""Features and moments kept by name per modality and target; the rest are added up in (other)."""

PRESENCE, OTHER, UNEXPLAINED = "(presence)", "(other)", "(unexplained)"
REGION = "region {}"

FEATURE, MOMENT, PLACE = "feature", "moment", "region"
"""Levels of reasons within a modality."""


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
class Moments:
    """Steps of a series, oldest first, padded at the end. Shape: value (B, T, C), NaN = not measured; time (B, T)."""

    value: NDArray[np.float64]
    time: NDArray[np.int64]


@dataclass(frozen=True)
class ModalityPart:
    """One modality's attribution for the subjects that have it. `rows`: (P,) their place in the batch.

    moments: of a series, with as many steps as `within.moment` has.   picture_time: of images, (T,) of each picture.
    """

    modality: str
    rows: NDArray[np.int64]
    within: Within
    described: Described
    moments: Moments | None = None
    picture_time: NDArray[np.int64] | None = None


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
        ("image",),
        (None,),
        np.full(shape, np.nan),
        np.full(shape, None, dtype=object),
        given.latest_time[rows][:, None],
    )


def moments_of(given: SeriesInput, rows: NDArray[np.int64], steps: int) -> Moments:
    """The steps of some rows of a series, at most `steps` of each."""
    length = np.diff(given.start)[rows]
    value, time = np.full((len(rows), steps, given.values.shape[1]), np.nan), np.full((len(rows), steps), STATIC)
    at = np.repeat(np.arange(len(rows)), length)
    step = np.arange(len(at)) - np.repeat(np.cumsum(length) - length, length)
    place = np.repeat(given.start[rows], length) + step
    value[at, step], time[at, step] = decimal(given.values[place]), given.time[place]
    return Moments(value, time)


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


def schema_without_run(table: str) -> pa.Schema:
    """Columns of a table of scores but run_id: rows belong to whoever makes the night, not to what they say."""
    schema = table_schema("scores", table).arrow()
    return schema.remove(schema.get_field_index("run_id"))


def reason_rows(
    targets: Sequence[Target],
    subject_id: NDArray[np.int64],
    parts: Sequence[ModalityPart],
    wanted: NDArray[np.bool_],
) -> pa.Table:
    """Rows of the levels "feature", "moment" and "region".

    Per modality: feature: (presence), the largest features, (other), (unexplained). moment, of a series: the largest
    values in time, (other). region, of an image: its regions, (other), (unexplained). What contributes exactly 0
    (missing features among them) gets no row.

    Shape: subject_id (B,); wanted (B, Q).
    """
    levels = {
        FEATURE: [_features(part, wanted) for part in parts],
        MOMENT: [_moments(part, wanted) for part in parts if part.within.moment is not None],
        PLACE: [_regions(part, wanted) for part in parts if part.within.picture is not None],
    }
    tables = [_ranked(level, targets, subject_id, blocks) for level, blocks in levels.items() if blocks]
    return pa.concat_tables([schema_without_run("explanations").empty_table(), *tables])


_Block = dict[str, NDArray[np.generic]]


def _ranked(level: str, targets: Sequence[Target], subject_id: NDArray[np.int64], blocks: Sequence[_Block]) -> pa.Table:
    """Rows of one level, each ranked within its subject and target. `row` is the subject's place in the batch."""
    joined = {key: np.concatenate([block[key] for block in blocks]) for key in blocks[0]}
    order = np.lexsort((-np.abs(joined["contribution"]), joined["target"], joined["row"]))
    joined = {key: column[order] for key, column in joined.items()}
    first = np.ones(len(order), dtype=bool)
    first[1:] = (np.diff(joined["row"]) != 0) | (np.diff(joined["target"]) != 0)
    begin = np.flatnonzero(first)
    rank = np.arange(len(order)) - np.repeat(begin, np.diff(np.append(begin, len(order)))) + 1
    row = joined.pop("row")
    return _rows(level, targets, subject_id=subject_id[row], rank=rank, **joined)


def _features(part: ModalityPart, wanted: NDArray[np.bool_]) -> _Block:
    within, told = part.within, part.described
    subject, target = np.nonzero(wanted[part.rows])
    feature = within.feature[subject, target]
    pair, named, other = _largest(feature, FEATURES_KEPT)
    blocks = [
        _named(
            pair,
            feature=np.array(told.names, dtype=object)[named],
            value=told.value[subject[pair], named],
            text_value=told.text_value[subject[pair], named],
            unit=np.array(told.units, dtype=object)[named],
            time=told.time[subject[pair], named],
            contribution=feature[pair, named],
        ),
        _unnamed(PRESENCE, within.presence[subject, target], remainder=False),
        _unnamed(OTHER, other, unless_zero=True),
        _unnamed(UNEXPLAINED, within.unexplained[subject, target]),
    ]
    return _joined(part, subject, target, blocks)


def _moments(part: ModalityPart, wanted: NDArray[np.bool_]) -> _Block:
    """Values of a series in time; what was never measured contributes nothing."""
    moments = part.moments
    assert moments is not None, part.modality
    assert part.within.moment is not None, part.modality
    subject, target = np.nonzero(wanted[part.rows])
    each = part.within.moment[subject, target]
    channels = each.shape[2]
    flat = each.reshape(len(each), -1)
    pair, place, other = _largest(flat, MOMENTS_KEPT)
    step, channel = place // channels, place % channels
    blocks = [
        _named(
            pair,
            feature=np.array(part.described.names, dtype=object)[channel],
            value=moments.value[subject[pair], step, channel],
            text_value=np.full(len(pair), None, dtype=object),
            unit=np.array(part.described.units, dtype=object)[channel],
            time=moments.time[subject[pair], step],
            contribution=flat[pair, place],
        ),
        _unnamed(OTHER, other, unless_zero=True),
    ]
    return _joined(part, subject, target, blocks)


def _regions(part: ModalityPart, wanted: NDArray[np.bool_]) -> _Block:
    picture = part.within.picture
    assert picture is not None, part.modality
    # Of an image that says nothing of a risk no feature has a row: neither has a part of it.
    says = (part.within.feature[..., 0] != 0) | (picture.region != 0).any(axis=-1)
    subject, target = np.nonzero(wanted[part.rows] & says)
    each = picture.region[subject, target]
    assert part.picture_time is not None, part.modality
    pair, place = np.nonzero(picture.drawn[subject])
    number = picture.number[subject[pair], place]
    names = np.array([REGION.format(k) for k in range(int(number.max(initial=0)) + 1)], dtype=object)
    times = np.full(picture.drawn.shape, STATIC)
    for p, (row, first) in enumerate(zip(picture.row, picture.place * REGIONS, strict=True)):
        times[row, first : first + REGIONS] = part.picture_time[picture.at[p]]
    blocks = [
        _named(
            pair,
            feature=names[number],
            value=np.full(len(pair), np.nan),
            text_value=np.full(len(pair), None, dtype=object),
            unit=np.full(len(pair), None, dtype=object),
            time=times[subject[pair], place],
            contribution=each[pair, place],
        ),
        _unnamed(OTHER, each[:, -1]),
        _unnamed(UNEXPLAINED, part.within.feature[subject, target, 0] - each.sum(axis=1)),
    ]
    return _joined(part, subject, target, blocks)


def _largest(each: NDArray[np.float64], kept: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Row and place of the largest that are not 0, and the sum of all others. Shape: each (N, F); other (N,)."""
    order = np.argsort(-np.abs(each), axis=1, kind="stable")
    largest, rest = order[:, :kept], order[:, kept:]
    row, place = np.nonzero(np.take_along_axis(each, largest, axis=1))
    return row, largest[row, place], np.take_along_axis(each, rest, axis=1).sum(axis=1)


def _named(pair: NDArray[np.int64], **columns: NDArray[np.generic]) -> _Block:
    return {"pair": pair, **columns, "remainder": np.zeros(len(pair), dtype=bool)}


def _unnamed(name: str, contribution: NDArray[np.float64], remainder: bool = True, unless_zero: bool = False) -> _Block:
    """A row of each pair that is no input of its own."""
    pair = np.flatnonzero(contribution) if unless_zero else np.arange(len(contribution))
    return {
        "pair": pair,
        "feature": np.full(len(pair), name, dtype=object),
        "value": np.full(len(pair), np.nan),
        "text_value": np.full(len(pair), None, dtype=object),
        "unit": np.full(len(pair), None, dtype=object),
        "time": np.full(len(pair), STATIC),
        "contribution": contribution[pair],
        "remainder": np.full(len(pair), remainder),
    }


def _joined(
    part: ModalityPart, subject: NDArray[np.int64], target: NDArray[np.int64], blocks: Sequence[_Block]
) -> _Block:
    columns = {key: np.concatenate([block[key] for block in blocks]) for key in blocks[0]}
    pair = columns.pop("pair").astype(np.int64)
    columns["row"], columns["target"] = part.rows[subject[pair]], target[pair]
    columns["modality"] = np.full(len(pair), part.modality, dtype=object)
    return columns


def _rows(level: str, targets: Sequence[Target], **columns: NDArray[np.generic]) -> pa.Table:
    target = columns.pop("target").astype(np.int64)
    time = columns.pop("time").astype(np.int64)
    value = columns.pop("value").astype(np.float64)
    every: dict[str, object] = {
        **columns,
        "value": pa.array(value, mask=np.isnan(value)),
        "level": pa.repeat(level, len(target)),
        "outcome": np.array([outcome for outcome, _ in targets], dtype=object)[target],
        "horizon_years": np.array([horizon for _, horizon in targets])[target],
        "time": pa.array(time, mask=time == STATIC).cast(pa.timestamp("us")),
    }
    schema = schema_without_run("explanations")
    return pa.table([pa.array(every[f.name], type=f.type) for f in schema], schema=schema)
