"""One modality's arrays as the tensors its encoder reads: raw values, what was observed, and when."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riskpred.features.batch import FeatureBatch, ImageInput, SeriesInput, TabularInput
from riskpred.model.attention import rows_of_pictures
from riskpred.records.chunk import DAY_US, STATIC

_STATIC_AGE_DAYS = 36525.0
"""A step without a date counts as a century old: known, but never recent."""


class Vocabulary(Protocol):
    """What a tabular column's plan must tell: its categories; () = numeric."""

    @property
    def vocabulary(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class TabularTensors:
    """F features as W columns: one per numeric feature, one per category of a categorical one (see `column_owner`).

    Shape:
        values: (B, W) float32, raw; a category is one-hot; 0 where missing.   observed: (B, F) bool.
        present: (B,) bool, the modality may be used.
        trees: (B, G) float64, given in place of what the trees of one member would say of the values; an explanation
            moves along it. None = ask the trees.
    """

    values: Tensor
    observed: Tensor
    present: Tensor
    trees: Tensor | None = None

    def take(self, index: Tensor) -> "TabularTensors":
        trees = None if self.trees is None else self.trees[index]
        return TabularTensors(self.values[index], self.observed[index], self.present[index], trees)

    def with_values(self, values: Tensor) -> "TabularTensors":
        return replace(self, values=values)


@dataclass(frozen=True)
class SeriesTensors:
    """Irregular steps, oldest first, padded at the end to the longest row.

    Shape:
        values: (B, T, C) float32, raw; 0 where not measured.   observed: (B, T, C) bool.
        gap_days, to_prediction_days: (B, T) float32, since the step before (0 for the first), until prediction_time.
        length: (B,) int64, steps that are real.   present: (B,) bool.
    """

    values: Tensor
    observed: Tensor
    gap_days: Tensor
    to_prediction_days: Tensor
    length: Tensor
    present: Tensor

    def take(self, index: Tensor) -> "SeriesTensors":
        """Rows of `index`, cut to the longest of them."""
        length = self.length[index]
        steps = int(length.max()) if len(length) else 0
        return SeriesTensors(
            self.values[index, :steps],
            self.observed[index, :steps],
            self.gap_days[index, :steps],
            self.to_prediction_days[index, :steps],
            length,
            self.present[index],
        )

    def with_values(self, values: Tensor) -> "SeriesTensors":
        return replace(self, values=values)


@dataclass(frozen=True)
class ImageTensors:
    """Prepared pictures, row b's from start[b] to start[b + 1], or what encoders said of them already.

    Shape:
        values: (T, C, H, W) float32 in 0..1, (T, C, Z, H, W) of volumes; T = 0 where `sent` is given.
        present: (B,) bool, True where a row has a picture.   start: (B + 1,) int64.
        age_days: (T,) float64, from a picture to prediction_time; NaN = undated.
        sent: (T, R, V) float32, each member's coefficients, embedding and attention logit, given in place of pixels; to
            one member's encoder (T, V).   known_moments: (T, 2) float64, of each picture; given with `sent`.
    """

    values: Tensor
    present: Tensor
    start: Tensor
    age_days: Tensor
    sent: Tensor | None = None
    known_moments: Tensor | None = None

    @classmethod
    def alone(cls, values: Tensor) -> "ImageTensors":
        """One picture a row, taken at prediction_time. Shape: values (B, C, H, W)."""
        rows = len(values)
        present = torch.ones(rows, dtype=torch.bool)
        return cls(values, present, torch.arange(rows + 1), torch.zeros(rows, dtype=torch.float64))

    @property
    def count(self) -> Tensor:
        """Pictures of each row. Shape: (B,)."""
        return self.start.diff()

    @property
    def row(self) -> Tensor:
        """The row of each picture. Shape: (T,)."""
        return rows_of_pictures(self.start)

    @property
    def moments(self) -> Tensor:
        """Mean and SD of a picture's pixels, on average over each row's pictures; 0 without. Shape: (B, 2) float64."""
        each = image_moments(self.values) if self.known_moments is None else self.known_moments
        total = each.new_zeros(len(self.present), 2).index_add_(0, self.row, each)
        return total / self.count.clamp_min(1)[:, None]

    def take(self, index: Tensor) -> "ImageTensors":
        start, pictures = _ragged(self.start, index)
        return self._of(start, pictures, self.present[index])

    def left(self, kept: Tensor, days: float) -> "ImageTensors":
        """The same rows so many days later, with those pictures that are kept. Shape: kept (T,) bool."""
        count = self.count.new_zeros(len(self.present)).index_add_(0, self.row, kept.long())
        start = torch.cat([count.new_zeros(1), count.cumsum(0)])
        some = self._of(start, kept.nonzero()[:, 0], count > 0)
        return replace(some, age_days=some.age_days + days)

    def _of(self, start: Tensor, pictures: Tensor, present: Tensor) -> "ImageTensors":
        # Rows that follow one another are a view of the pixels, not a copy.
        inside = slice(int(pictures[0]), int(pictures[-1]) + 1) if len(pictures) else slice(0, 0)
        follow = inside.stop - inside.start == len(pictures) and bool((pictures.diff() == 1).all())
        some = inside if follow else pictures
        if self.sent is None:
            return ImageTensors(self.values[some], present, start, self.age_days[some])
        assert self.known_moments is not None, "given with `sent`"
        return ImageTensors(self.values, present, start, self.age_days[some], self.sent[some], self.known_moments[some])

    def with_values(self, values: Tensor) -> "ImageTensors":
        return replace(self, values=values)


def image_moments(pixels: Tensor) -> Tensor:
    """Mean and SD of the pixels of each picture. Shape: (T, C, H, W) or (T, C, Z, H, W) -> (T, 2) float64."""
    flat = pixels.flatten(1).double()
    return torch.stack([flat.mean(dim=1), flat.std(dim=1, correction=0)], dim=1)


def _ragged(start: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Starts of the rows taken (repeats allowed), and the place of each of their pictures."""
    count = start.diff()[index]
    begin = torch.cat([count.new_zeros(1), count.cumsum(0)])
    first = (start[:-1][index] - begin[:-1]).repeat_interleave(count)
    return begin, torch.arange(int(begin[-1]), device=start.device) + first


ModalityTensors: TypeAlias = TabularTensors | SeriesTensors | ImageTensors


def column_owner(columns: Sequence[Vocabulary]) -> tuple[int, ...]:
    """Feature index of each of the W columns of `TabularTensors.values`, in plan order.

    Example:
        >>> from types import SimpleNamespace as Column
        >>> column_owner([Column(vocabulary=()), Column(vocabulary=("F", "M"))])
        (0, 1, 1)
    """
    return tuple(feature for feature, column in enumerate(columns) for _ in range(max(1, len(column.vocabulary))))


def expand(values: Tensor, columns: Sequence[Vocabulary]) -> tuple[Tensor, Tensor]:
    """Features with NaN for missing -> columns with 0 for missing, and what was observed.

    Args:
        values: a category is its index in the vocabulary.
    Shape: values (B, F); result (B, W) of the same dtype and (B, F) bool.
    """
    assert values.shape[1:] == (len(columns),), "values must be (B, F), F the columns of the plan"
    observed = ~torch.isnan(values)
    filled = torch.nan_to_num(values, nan=0.0)
    parts: list[Tensor] = []
    for feature, column in enumerate(columns):
        one = filled[:, feature : feature + 1]
        if column.vocabulary:
            hot = one == torch.arange(len(column.vocabulary), dtype=values.dtype)
            one = (hot & observed[:, feature : feature + 1]).to(values.dtype)
        parts.append(one)
    return torch.cat(parts, dim=1) if parts else values.new_zeros((len(values), 0)), observed


def tensors_of(batch: FeatureBatch, modality: str, columns: Sequence[Vocabulary] = ()) -> ModalityTensors:
    """Tensors of one modality of a batch; `columns` is the tabular plan's columns, ignored otherwise."""
    present = torch.from_numpy(np.ascontiguousarray(batch.present[modality]))
    given = batch.inputs[modality]
    if isinstance(given, TabularInput):
        values, observed = expand(torch.from_numpy(np.ascontiguousarray(given.values)), columns)
        return TabularTensors(values, observed, present)
    if isinstance(given, SeriesInput):
        return _series(given, batch.prediction_time, present)
    assert isinstance(given, ImageInput)
    undated = given.time == STATIC
    moment = batch.prediction_time[given.row]
    age_days = np.where(undated, np.nan, (moment - np.where(undated, moment, given.time)) / DAY_US)
    ragged = torch.from_numpy(np.ascontiguousarray(given.start)), torch.from_numpy(age_days)
    pixels = torch.from_numpy(np.ascontiguousarray(given.pixels))
    if given.encoded is None:
        return ImageTensors(pixels, present, *ragged)
    sent, moments = (torch.from_numpy(np.ascontiguousarray(a)) for a in (given.encoded.sent, given.encoded.moments))
    return ImageTensors(pixels, present, *ragged, sent, moments)


def _series(given: SeriesInput, prediction_time: NDArray[np.int64], present: Tensor) -> SeriesTensors:
    length = np.diff(given.start)
    rows, steps, channels = len(length), int(length.max(initial=0)), given.values.shape[1]
    row = np.repeat(np.arange(rows), length)
    step = np.arange(len(given.time)) - np.repeat(given.start[:-1], length)

    static = given.time == STATIC
    dated = np.where(static, prediction_time[row], given.time)
    age_days = np.where(static, _STATIC_AGE_DAYS, (prediction_time[row] - dated) / DAY_US)
    gap_days = np.zeros(len(row))
    gap_days[1:] = age_days[:-1] - age_days[1:]
    gap_days[step == 0] = 0.0

    values = np.zeros((rows, steps, channels), np.float32)
    values[row, step] = given.values
    observed = np.zeros((rows, steps, channels), bool)
    observed[row, step] = ~np.isnan(given.values)
    gap, age = np.zeros((rows, steps), np.float32), np.zeros((rows, steps), np.float32)
    gap[row, step], age[row, step] = gap_days, age_days
    return SeriesTensors(
        torch.from_numpy(np.nan_to_num(values, copy=False, nan=0.0)),
        torch.from_numpy(observed),
        torch.from_numpy(gap),
        torch.from_numpy(age),
        torch.from_numpy(length.astype(np.int64)),
        present,
    )
