"""What a study's stages see in images becomes events of the chunk, so that features read it as any other code.

An event FINDING//<label>//<measure>, or IMAGE//<stage>//<measure> of radiomics, stands at its image's time; it is
visible when its image is. What was looked at and shows nothing has count 0; what was not looked at, or could not be
read, has no event and so is missing.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from riskpred.config.findings import (
    MEASURES,
    finding_code,
    finding_codes,
    finding_unit,
    is_finding,
    radiomics_code,
    radiomics_codes,
)
from riskpred.config.radiomics import RadiomicsStage
from riskpred.config.segmentation import ImagingConfig, SegmentationStage
from riskpred.errors import InputError
from riskpred.features.batch import InputReject
from riskpred.features.looked import Looked
from riskpred.features.plan import FeaturePlan, ImagePlan, SeriesPlan, TabularPlan
from riskpred.imaging.paths import ImageProblem
from riskpred.records.chunk import DAY_US, STATIC, ImageRow, SubjectChunk
from riskpred.records.compiled import code_mask

_UNBOUNDED: Final = -1


class FindingSource(ABC):
    """Looks at images with a study's stages, or knows what was found in them.

    Args: config: the study's imaging.yaml.
    """

    def __init__(self, config: ImagingConfig) -> None:
        self.config = config

    @property
    def stages(self) -> Mapping[str, SegmentationStage | RadiomicsStage]:
        return self.config.stages

    def open(self, chunk: SubjectChunk) -> None:
        """Called before the images of a chunk are asked for."""
        return None

    @abstractmethod
    def looked(self, stage: str, images: Sequence[ImageRow], image_root: Path) -> Sequence[Looked | ImageProblem]:
        """What a stage finds in each image, in the order asked, or why it cannot be looked at."""


@dataclass(frozen=True)
class LookedAt:
    """One image that one stage looked at."""

    stage: str
    image: ImageRow
    looked: Looked


@dataclass(frozen=True)
class Found:
    """A chunk with its findings as events, what they come from (by subject, stage, time), and images that could not be
    read."""

    chunk: SubjectChunk
    images: tuple[LookedAt, ...]
    rejects: tuple[InputReject, ...]


def numbered(images: Sequence[LookedAt]) -> list[int]:
    """Number of each image's first lesion: those of one image of a subject are numbered from 1 over all stages."""
    used: dict[tuple[int, str], int] = {}
    first: list[int] = []
    for one in images:
        key = one.image.subject_id, one.image.image_id
        first.append(used.get(key, 0) + 1)
        used[key] = used.get(key, 0) + len(one.looked.lesions)
    return first


def labels_of(config: ImagingConfig) -> tuple[str, ...]:
    """Labels of all stages, sorted, each once."""
    return tuple(sorted({label for stage in config.stages.values() for label in stage.labels.values()}))


def codes_made(config: ImagingConfig) -> tuple[str, ...]:
    """Every code under which imaging.yaml makes events of images, sorted."""
    return tuple(sorted((*finding_codes(labels_of(config)), *radiomics_codes(config.radiomics))))


def reads_findings(plan: FeaturePlan) -> bool:
    """Whether any feature is made from what images show."""
    return any(is_finding(code) for code in _codes_read(plan))


def with_findings(
    chunk: SubjectChunk,
    subject: NDArray[np.int64],
    prediction_time: NDArray[np.int64],
    plan: FeaturePlan,
    image_root: Path,
) -> Found:
    """The chunk with the findings of every image that counts for a row, by the chunk's own finder.

    An image counts that is of a stage's types, not later than a prediction_time of its subject, and not older than all
    that is read of it: the longest window of a feature made from the stage's findings, or of a modality that shows such
    images; where nothing reads them, all count.

    Shape: subject, prediction_time: (B,), of the rows.
    """
    source = chunk.finder
    assert isinstance(source, FindingSource), "the chunk has someone who looks at images"
    source.open(chunk)
    images: list[LookedAt] = []
    rejects: list[InputReject] = []
    owner = {int(one): s for s, one in enumerate(chunk.subject_id.tolist())}
    for name, stage in source.stages.items():
        wanted = _counting(chunk, subject, prediction_time, stage, _window_us(plan, name, stage))
        for row, result in zip(wanted, source.looked(name, wanted, image_root), strict=True):
            if isinstance(result, ImageProblem):
                reject = InputReject("images", row.image_id, row.subject_id, result.reason, "path", result.wanted)
                rejects.append(reject)
            else:
                images.append(LookedAt(name, row, result))
    events = [
        (owner[one.image.subject_id], one.image.time, finding_code(label, measure), value)
        for one in images
        for label in dict.fromkeys(source.stages[one.stage].labels.values())
        for measure, value in measures(one.looked, label).items()
    ]
    events += [
        (owner[one.image.subject_id], one.image.time, radiomics_code(one.stage, measure), value)
        for one in images
        for measure, value in one.looked.values
    ]
    codes = codes_made(source.config)
    order = {name: place for place, name in enumerate(source.stages)}
    images.sort(key=lambda one: (one.image.subject_id, order[one.stage], one.image.time, one.image.image_id))
    return Found(_extended(chunk, codes, events), tuple(images), tuple(dict.fromkeys(rejects)))


def measures(looked: Looked, label: str) -> dict[str, float]:
    """Measure -> value, of one label in one image; without those that the image's spacing does not allow.

    Example: nothing found in a picture of known spacing gives 0 throughout; without spacing, in count, pixels and
    confidence.
    """
    mine = [one for one in looked.lesions if one.label == label]
    found: dict[str, float | None] = {
        "count": float(len(mine)),
        "largest_diameter_mm": _largest([one.longest_diameter_mm for one in mine], looked.has_mm),
        "largest_area_px": _largest([one.area_px for one in mine], True),
        "total_area_px": _total([one.area_px for one in mine], True),
        "total_area_mm2": _total([one.area_mm2 for one in mine], looked.has_mm),
        "total_volume_mm3": _total([one.volume_mm3 for one in mine], looked.has_volume),
        "confidence": max((one.confidence for one in mine), default=0.0),
    }
    assert found.keys() == MEASURES.keys(), "every measure is made"
    return {measure: value for measure, value in found.items() if value is not None}


def _refuse_recorded(taken: Sequence[str]) -> None:
    """A warehouse may hold no events under a code that is made from its images."""
    if taken:
        raise InputError(
            f"{len(taken):,} codes of events are those under which findings of images are made.",
            wanted="other codes for findings that were recorded by people (REPORT//..., say)",
            got=", ".join(taken[:5]),
            do="rename them in ingest.yaml and ingest again",
        )


def refuse_missing(plan: FeaturePlan, chunk: SubjectChunk) -> None:
    """A feature made from images must not pass for missing because nobody looked at them."""
    known = np.array(chunk.codes, dtype=object)
    lacking = [
        code for code in _codes_read(plan) if is_finding(code) and not known[code_mask(chunk.codes, (code,))].size
    ]
    assert not lacking, f"nobody looked at the images that {lacking[0]} is made from"


def next_image(
    chunk: SubjectChunk, subject: NDArray[np.int64], prediction_time: NDArray[np.int64], config: ImagingConfig
) -> NDArray[np.int64]:
    """When the next image of a stage's types becomes visible to each row; STATIC = never. Shape: (B,) -> (B,)."""
    types = {kind for stage in config.stages.values() for kind in stage.image_types}
    next_one = np.full(len(subject), STATIC, np.int64)
    for r, (s, now) in enumerate(zip(subject.tolist(), prediction_time.tolist(), strict=True)):
        later = [row.time for row in chunk.images[s] if row.image_type in types and row.time > now]
        if later:
            next_one[r] = min(later)
    return next_one


def _codes_read(plan: FeaturePlan) -> list[str]:
    found: list[str] = []
    for part in plan.modalities.values():
        if isinstance(part, TabularPlan):
            found += [column.code for column in part.columns]
        elif isinstance(part, SeriesPlan):
            found += [channel.code for channel in part.channels]
    return found


def _window_us(plan: FeaturePlan, name: str, stage: SegmentationStage | RadiomicsStage) -> int:
    """Microseconds of the longest window in which anything reads a stage's images; _UNBOUNDED = the whole past."""
    codes = (
        radiomics_codes({name: stage}) if isinstance(stage, RadiomicsStage) else finding_codes(stage.labels.values())
    )
    windows: list[int | None] = []
    for part in plan.modalities.values():
        if isinstance(part, TabularPlan):
            windows += [column.window_days for column in part.columns if code_mask(codes, (column.code,)).any()]
        elif isinstance(part, SeriesPlan):
            read = tuple(channel.code for channel in part.channels)
            windows += [part.window_days] if code_mask(codes, read).any() else []
        elif isinstance(part, ImagePlan):
            windows += [part.window_days] if set(part.image_types) & set(stage.image_types) else []
    days = [window for window in windows if window is not None]
    return max(days) * DAY_US if days and len(days) == len(windows) else _UNBOUNDED


def _counting(
    chunk: SubjectChunk,
    subject: NDArray[np.int64],
    prediction_time: NDArray[np.int64],
    stage: SegmentationStage | RadiomicsStage,
    window_us: int,
) -> list[ImageRow]:
    """Images that count for any of the rows, by subject and time."""
    moments: dict[int, list[int]] = {}
    for s, now in zip(subject.tolist(), prediction_time.tolist(), strict=True):
        moments.setdefault(s, []).append(now)
    return [
        row
        for s in sorted(moments)
        for row in chunk.images[s]
        if row.image_type in stage.image_types
        and any(
            row.time <= now and (row.time == STATIC or window_us == _UNBOUNDED or row.time > now - window_us)
            for now in moments[s]
        )
    ]


def _extended(
    chunk: SubjectChunk, codes: tuple[str, ...], events: Sequence[tuple[int, int, str, float]]
) -> SubjectChunk:
    """The chunk with more codes, after its own, and events of them: (subject's place, time, code, value)."""
    _refuse_recorded(sorted(set(codes) & set(chunk.codes)))
    first = len(chunk.codes)
    place = {code: first + c for c, code in enumerate(codes)}
    units = tuple(finding_unit(code) for code in codes)
    named = replace(chunk, codes=(*chunk.codes, *codes), units=(*chunk.units, *units), finder=None)
    unit_texts = chunk.unit_texts
    for unit in units:
        if unit is not None and unit not in unit_texts:
            unit_texts = (*unit_texts, unit)
    unit_place = {unit: -1 if unit is None else unit_texts.index(unit) for unit in units}
    if not events:
        return replace(named, unit_texts=unit_texts)
    ordered = sorted((s, time, place[code], value, unit_place[finding_unit(code)]) for s, time, code, value in events)
    new = [np.array(column) for column in zip(*ordered, strict=True)]
    owner = np.concatenate([np.repeat(np.arange(len(chunk)), np.diff(chunk.start)), new[0].astype(np.int64)])
    time = np.concatenate([chunk.time, new[1].astype(np.int64)])
    # Stable, and the new codes come after all others: events of one moment stay sorted by code, then value.
    by = np.lexsort((time, owner))

    def whole(old: NDArray[np.int32], more: NDArray[np.generic]) -> NDArray[np.int32]:
        return np.concatenate([old, more.astype(np.int32)])[by]

    none = np.full(len(ordered), -1)
    return replace(
        named,
        start=np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(chunk)))]).astype(np.int64),
        time=time[by],
        code=whole(chunk.code, new[2]),
        numeric_value=np.concatenate([chunk.numeric_value, new[3].astype(np.float64)])[by],
        text=whole(chunk.text, none),
        unit=None if chunk.unit is None else whole(chunk.unit, new[4]),
        unit_texts=unit_texts,
    )


def _largest(values: Sequence[float | None], known: bool) -> float | None:
    there = [value for value in values if value is not None]
    return max(there, default=0.0) if known and len(there) == len(values) else None


def _total(values: Sequence[float | None], known: bool) -> float | None:
    there = [value for value in values if value is not None]
    return float(sum(there)) if known and len(there) == len(values) else None
