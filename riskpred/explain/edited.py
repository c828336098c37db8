"""Risks of people whose records were other: some measurements changed, or one added at prediction_time.

The record itself is edited and its features are built anew, so that everything made from a measurement moves together
(latest, mean, extremes, trend, the step of a series), as it would in a night on that record. What a record's change
does not touch is not encoded again. Which modalities there are stays as it was, and so does the calibration.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riskpred.features.batch import FeatureBatch
from riskpred.features.build import build
from riskpred.features.plan import FeaturePlan, ImagePlan, SeriesPlan, TabularPlan
from riskpred.model.fusion import Fusion
from riskpred.model.network import Sent, SentOne
from riskpred.records.chunk import DAY_US, STATIC, SubjectChunk
from riskpred.records.cohort import CohortRows
from riskpred.records.compiled import code_mask

if TYPE_CHECKING:
    from riskpred.model.bundle import Bundle

_VARIANTS_AT_ONCE = 2048


@dataclass(frozen=True)
class Edit:
    """What is other in a record: the code's measurements of its latest day become `to`, a number or a category.

    added: there is no measurement; one is added at prediction_time.
    """

    code: str
    to: float | str
    added: bool = False


@dataclass(frozen=True)
class Variant:
    """One person, by place in the batch, with some edits."""

    row: int
    edits: tuple[Edit, ...]


class EditedRecords:
    """Risks of variants of the B people of a batch.

    Args: chunk, cohort, batch: the records, who is asked for when, and their features, as the night has them.
    """

    def __init__(self, bundle: "Bundle", chunk: SubjectChunk, cohort: CohortRows, batch: FeatureBatch) -> None:
        self._bundle, self._cohort, self._batch = bundle, cohort, batch
        new = sorted(_codes_of(bundle.plan) - set(chunk.codes))
        # A code that this warehouse has nobody for may still be asked about.
        self._chunk = replace(chunk, codes=(*chunk.codes, *new), units=(*chunk.units, *[None] * len(new)))
        self._place = {code: c for c, code in enumerate(self._chunk.codes)}
        self._fusion = Fusion.of(bundle.model)

    @cached_property
    def _sent(self) -> Sent:
        return self._bundle.evaluator().encode(self._bundle.model.tensors(self._batch))

    def latest(self, row: int, code: str) -> tuple[float, str | None] | None:
        """Number (NaN = none) and text of a person's latest measurement of a code; None where there is none."""
        events = self._visible(row)
        of_code = events[self._chunk.code[events] == self._place.get(code, -1)]
        valued = of_code[~np.isnan(self._chunk.numeric_value[of_code]) | (self._chunk.text[of_code] >= 0)]
        if not len(valued):
            return None
        last = int(valued[-1])
        text = int(self._chunk.text[last])
        return float(self._chunk.numeric_value[last]), None if text < 0 else self._chunk.texts[text]

    def risks(self, variants: Sequence[Variant]) -> NDArray[np.float64]:
        """Calibrated risk of each target, the mean over members. Shape: (V, Q)."""
        if not variants:
            return np.zeros((0, len(self._bundle.model.targets)))
        parts = [variants[i : i + _VARIANTS_AT_ONCE] for i in range(0, len(variants), _VARIANTS_AT_ONCE)]
        return np.concatenate([self._risks(part) for part in parts])

    def _risks(self, variants: Sequence[Variant]) -> NDArray[np.float64]:
        rows = np.array([variant.row for variant in variants], dtype=np.int64)
        touched = {name: self._touched(variants, name) for name in self._bundle.plan.modalities}
        plan = FeaturePlan(
            {name: part for name, part in self._bundle.plan.modalities.items() if touched[name].any()},
            self._bundle.plan.units,
        )
        index = torch.from_numpy(rows)
        sent: Sent = {
            name: SentOne(one.coefficients[:, index], one.embedding[:, index]) for name, one in self._sent.items()
        }
        if plan.modalities:
            chunk, cohort = self._edited(variants)
            built = build(chunk, cohort, plan, Path())
            for name in plan.modalities:
                which = torch.from_numpy(np.flatnonzero(touched[name] & built.present[name]))
                if len(which):
                    said = self._encoded(built, name, which)
                    sent[name].coefficients[:, which] = said.coefficients
                    sent[name].embedding[:, which] = said.embedding
        present = {name: torch.from_numpy(self._batch.present[name][rows]) for name in self._bundle.plan.modalities}
        return np.asarray(self._fusion.member_risks(sent, present).mean(axis=0))

    def _encoded(self, built: FeatureBatch, name: str, which: Tensor) -> SentOne:
        from riskpred.model.tensors import tensors_of

        part = self._bundle.plan.modalities[name]
        given = tensors_of(built, name, part.columns if isinstance(part, TabularPlan) else ())
        return self._bundle.evaluator().encode({name: given.take(which)})[name]

    def _touched(self, variants: Sequence[Variant], name: str) -> NDArray[np.bool_]:
        """Which variants change what a modality reads; one that a person lacks stays absent. Shape: (V,)."""
        part = self._bundle.plan.modalities[name]
        if isinstance(part, ImagePlan):
            return np.zeros(len(variants), dtype=np.bool_)
        read = self._read_by[name]
        present = self._batch.present[name]
        return np.array(
            [
                bool(present[variant.row]) and any(read[self._place[edit.code]] for edit in variant.edits)
                for variant in variants
            ]
        )

    @cached_property
    def _read_by(self) -> dict[str, NDArray[np.bool_]]:
        return {
            name: code_mask(self._chunk.codes, tuple(_patterns(part)))
            for name, part in self._bundle.plan.modalities.items()
            if not isinstance(part, ImagePlan)
        }

    def _visible(self, row: int) -> NDArray[np.int64]:
        """Events of a person at or before prediction_time, in order."""
        subject = int(self._cohort.subject[row])
        begin, end = int(self._chunk.start[subject]), int(self._chunk.start[subject + 1])
        visible = self._chunk.time[begin:end] <= self._cohort.prediction_time[row]
        return begin + np.flatnonzero(visible)

    def _edited(self, variants: Sequence[Variant]) -> tuple[SubjectChunk, CohortRows]:
        """A chunk with one subject per variant: their events at or before prediction_time, edited."""
        chunk = self._chunk
        texts = list(dict.fromkeys([*chunk.texts, *(e.to for v in variants for e in v.edits if isinstance(e.to, str))]))
        visible = {row: self._visible(row) for row in {variant.row for variant in variants}}
        pieces: list[NDArray[np.int64]] = []
        changed: list[tuple[int, float, int]] = []
        added: list[tuple[int, Edit, int]] = []
        total = 0
        start = [0]
        for variant in variants:
            events = visible[variant.row]
            for edit in variant.edits:
                text = texts.index(edit.to) if isinstance(edit.to, str) else -1
                value = np.nan if isinstance(edit.to, str) else edit.to
                if not edit.added:
                    changed += [(total + at, value, text) for at in self._of_latest_day(events, edit.code)]
            extra = [edit for edit in variant.edits if edit.added]
            # Places for what is added, last of all: filled in below.
            pieces.append(np.concatenate([events, np.full(len(extra), -1, dtype=np.int64)]))
            moment = int(self._cohort.prediction_time[variant.row])
            added += [(total + len(events) + n, edit, moment) for n, edit in enumerate(extra)]
            total += len(events) + len(extra)
            start.append(total)
        source = np.concatenate(pieces)
        time, code = chunk.time[source], chunk.code[source]
        numeric_value, text_of = chunk.numeric_value[source], chunk.text[source]
        for at, value, text in changed:
            numeric_value[at], text_of[at] = value, text
        for at, edit, moment in added:
            time[at], code[at], text_of[at] = moment, self._place[edit.code], -1
            numeric_value[at] = float(edit.to)
        rows = np.array([variant.row for variant in variants], dtype=np.int64)
        edited = SubjectChunk(
            subject_id=np.arange(len(variants), dtype=np.int64),
            start=np.array(start, dtype=np.int64),
            time=time,
            code=code,
            numeric_value=numeric_value,
            text=text_of,
            codes=chunk.codes,
            texts=tuple(texts),
            units=chunk.units,
            images=((),) * len(variants),
        )
        return edited, CohortRows(
            subject=np.arange(len(variants), dtype=np.int64),
            prediction_time=self._cohort.prediction_time[rows],
            entry_time=self._cohort.entry_time[rows],
            eligible={},
            reason={},
            duration_days={},
            cause={},
            valid_until=self._cohort.valid_until[rows],
        )

    def _of_latest_day(self, events: NDArray[np.int64], code: str) -> list[int]:
        """Places among a person's events of the code's measurements within 24 hours before and of the latest one."""
        chunk = self._chunk
        of_code = np.flatnonzero(chunk.code[events] == self._place[code])
        measured = ~np.isnan(chunk.numeric_value[events[of_code]]) | (chunk.text[events[of_code]] >= 0)
        of_code = of_code[measured]
        if not len(of_code):
            return []
        time = chunk.time[events[of_code]]
        # Where no measurement has a date there is no day before it: the subtraction would overflow.
        begin = max(int(time[-1]), STATIC + DAY_US) - DAY_US
        same_day: list[int] = of_code[(time == time[-1]) | (time > begin)].tolist()
        return same_day


def _patterns(part: TabularPlan | SeriesPlan) -> list[str]:
    if isinstance(part, TabularPlan):
        return [column.code for column in part.columns if column.aggregate != "builtin"]
    return [channel.code for channel in part.channels]


def _codes_of(plan: FeaturePlan) -> set[str]:
    return {
        code
        for part in plan.modalities.values()
        if not isinstance(part, ImagePlan)
        for code in _patterns(part)
        if not code.endswith("*")
    }
