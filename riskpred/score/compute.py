"""One part of a night: its subjects read, judged and written as rows to disk. Runs in any process, on any machine.

A part holds every row of its subjects, so that parts can be lost and made again, and joined in any order.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from riskpred.explain.findings import finding_evidence
from riskpred.explain.subjects import explain_batch
from riskpred.features.image import ImageSource
from riskpred.features.plan import FeaturePlan, ImagePlan
from riskpred.model.drift_reference import drift_reference_of
from riskpred.model.paths import FP32
from riskpred.records.shards import Shard
from riskpred.records.warehouse import Warehouse
from riskpred.score.beside import beside_reasons
from riskpred.score.chunk import EXPLAINED_AT_ONCE, Judged, judge_chunk
from riskpred.score.content import COLUMNS, Content, content_of
from riskpred.score.drift import feature_bin_rows
from riskpred.score.findings import NightFindings, StageFindings, finding_rows
from riskpred.score.parts import PartWriter
from riskpred.score.plan import Night, latest_valid, now_us
from riskpred.score.pseudonyms import pseudonyms
from riskpred.score.rows import eligibility_rows, pseudonym_rows, receipt_rows, reject_rows, risk_rows
from riskpred.score.select import TopSubjects
from riskpred.score.timing import Stopwatch

if TYPE_CHECKING:
    from riskpred.model.bundle import Bundle

CHUNK_SIZE = 2048
"""Subjects held in memory at a time; fewer where their images are large."""

_CHUNK_PIXELS = 64 * 1024 * 1024

_WORTH_SHARING = 8192
"""Subjects from which on it pays to start processes."""

_TOGETHER = 4

LOOKED_AT_ONCE = 64
"""Subjects in whose images lesions are looked for before Ctrl-C is heard again."""

RISKS, REASONS = "risks", "reasons"
"""Kinds of part: every row but feature reasons; feature reasons and evidence of the top subjects."""


@dataclass(frozen=True)
class Task:
    """One part to make.

    moment: UTC microseconds at which these subjects are judged (as_of, unless carried).
    shards: numbers of the warehouse's shards that hold them, ascending; () = it has none: the whole is opened.
    contribution: for reasons, (S, Q, M) what each modality contributes to each published risk, in risk points.
    """

    kind: str
    number: int
    subjects: NDArray[np.int64] = field(repr=False)
    moment: int
    shards: tuple[int, ...] = ()
    contribution: NDArray[np.float64] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        assert self.kind in (RISKS, REASONS), self.kind
        assert (self.contribution is not None) == (self.kind == REASONS), "reasons must know what they add up to"

    @property
    def content(self) -> str:
        """Digest of what the part is to hold: whose rows, at which moment, adding up to what. 32 hex characters."""
        found = hashlib.blake2b(f"{self.kind} {self.moment} ".encode(), digest_size=16)
        found.update(self.subjects.tobytes())
        if self.contribution is not None:
            found.update(self.contribution.tobytes())
        return found.hexdigest()


@dataclass(frozen=True)
class Common:
    """What all parts of a night share; can be sent to another process."""

    night: Night
    folder: Path
    salt: bytes
    explain: int
    batch_size: int
    chunk_size: int


class Maker:
    """Makes parts with one bundle and one open warehouse.

    Args: images: by modality, who encodes its images as they are read; None = the model, from pixels. By stage of the
        bundle's stages, who finds what images show; without any the bundle's own finder, which keeps nothing.
    """

    def __init__(
        self,
        bundle: "Bundle",
        source: Warehouse,
        common: Common,
        images: Mapping[str, ImageSource | StageFindings] | None = None,
    ) -> None:
        self._bundle, self._source, self._common = bundle, source, common
        given = images or {}
        self._images = {name: one for name, one in given.items() if not isinstance(one, StageFindings)} or None
        stages = {name: one for name, one in given.items() if isinstance(one, StageFindings)}
        self._findings = NightFindings(bundle.config.imaging, stages) if stages else bundle.finder
        # Images that are encoded as they are read leave no pixels to hold.
        held = bundle.plan if not self._images else FeaturePlan({})
        self._chunk_size = affordable(held, common.chunk_size)
        if self._findings is not None:
            self._chunk_size = min(self._chunk_size, LOOKED_AT_ONCE)
        self._batch_size = affordable(held, common.batch_size)
        self._drift = drift_reference_of(bundle)

    def make(self, task: Task) -> Iterator[int]:
        """Write one part; yields how many of its subjects are done after each chunk."""
        watch = Stopwatch()
        with PartWriter(self._common.folder, task.kind, task.number) as part:
            yield from (self._risks if task.kind == RISKS else self._reasons)(task, part, watch)
            part.about |= {"task": task.content, "subjects": len(task.subjects)}
            part.about |= {"seconds": watch.seconds, "cpu_seconds": watch.cpu}

    def _risks(self, task: Task, part: PartWriter, watch: Stopwatch) -> Iterator[int]:
        top, content, done = TopSubjects(self._common.explain), Content(), 0
        for judged in self._judged(task, self._chunk_size, watch):
            with watch("rows"):
                for table, rows in self._rows(judged):
                    part.append(table, rows)
                    if table == "risk_scores":
                        content += content_of(rows.select(list(COLUMNS)).to_batches())
            if judged.batch is not None:
                top.offer(judged.batch.subject_id, judged.top_score)
            done += len(judged.subject_id)
            yield done
        assert not content.falling, "a risk that falls with the horizon"
        part.about |= {"top": top.best(), "content": [content.rows, content.first, content.second]}

    def _reasons(self, task: Task, part: PartWriter, watch: Stopwatch) -> Iterator[int]:
        flagged = without = done = 0
        assert task.contribution is not None
        for judged in self._judged(task, EXPLAINED_AT_ONCE, watch):
            assert judged.batch is not None, "only scored subjects are explained"
            place = np.searchsorted(task.subjects, judged.batch.subject_id)
            with watch("explain"):
                told = explain_batch(
                    self._bundle,
                    judged.batch,
                    judged.scored,
                    judged.top_target,
                    task.contribution[place],
                    self._common.night.numeric_path,
                )
            with watch("rows"):
                part.append("explanations", told.explanations)
                part.append("evidence", told.evidence)
                if self._findings is not None:
                    part.append("evidence", finding_evidence(judged.looked, self._findings, self._source.image_root))
                for table, told_beside in beside_reasons(self._bundle, judged):
                    part.append(table, told_beside)
            flagged, without = flagged + told.flagged, without + told.without
            done += len(judged.subject_id)
            yield done
        part.about |= {"flagged": flagged, "without": without}

    def _judged(self, task: Task, size: int, watch: Stopwatch) -> Iterator[Judged]:
        chunks = self._source.chunks(size, task.subjects)
        while True:
            with watch("read"):
                chunk = next(chunks, None)
            if chunk is None:
                return
            until = latest_valid(self._common.night, chunk.subject_id)
            # Reasons are told of pixels, in fp32, whatever path the night took; what that moved is a row of its own.
            images, path = (self._images, self._common.night.numeric_path) if task.kind == RISKS else (None, FP32)
            yield judge_chunk(
                self._bundle,
                self._source,
                chunk,
                task.moment,
                until,
                watch,
                path,
                self._batch_size,
                images,
                self._findings,
            )

    def _rows(self, judged: Judged) -> Iterator[tuple[str, pa.Table]]:
        night, bundle = self._common.night, self._bundle
        yield (
            "eligibility",
            eligibility_rows(
                list(bundle.config.outcomes.outcomes),
                judged.subject_id,
                judged.prediction_time,
                judged.digest,
                judged.valid_until,
                judged.status,
                judged.reason,
            ),
        )
        names = pseudonyms(self._common.salt, judged.subject_id)
        yield "pseudonyms", pseudonym_rows(judged.subject_id, names)
        if judged.batch is None or judged.assessed is None:
            return
        batch, targets = judged.batch, bundle.model.targets
        scored_at = now_us()
        yield (
            "risk_scores",
            risk_rows(
                targets,
                batch,
                judged.assessed,
                judged.scored,
                judged.scope_flags,
                scored_at,
                bundle.profiles.names,
            ),
        )
        yield "input_receipts", receipt_rows(batch)
        yield "rejects", reject_rows(night, batch.rejects)
        yield "findings", finding_rows(judged.looked)
        yield "feature_bins", feature_bin_rows(batch, self._drift)


def affordable(plan: FeaturePlan, subjects: int) -> int:
    """How many subjects to hold at a time, at most `subjects`, so that their pixels take 256 MiB at most.

    Example:
        >>> affordable(FeaturePlan({"image": ImagePlan(("DX",), None, None, size=1024)}), 2048)
        64
    """
    plans = [spec for spec in plan.modalities.values() if isinstance(spec, ImagePlan)]
    pixels = sum(prod(spec.pixel_shape) * spec.most_pictures for spec in plans)
    return min(subjects, max(1, _CHUNK_PIXELS // pixels)) if pixels else subjects


def tasks_of(
    kind: str, subjects: NDArray[np.int64], size: int, moment: int, shards: Sequence[Shard] = ()
) -> list[Task]:
    """Subjects, ascending, cut into equal parts of at most `size`: one, or 4, 8, 12, ... where there are many.

    So several processes end together. How many there are does not enter: parts are the same for every run, and for
    every engine. With shards no part reaches from one into the next, and parts are only about equal.

    Args: shards: of the whole warehouse.
    Example:
        >>> [len(task.subjects) for task in tasks_of("risks", np.arange(20_000), 16_384, 0)]
        [5000, 5000, 5000, 5000]
    """
    if not len(subjects):
        return []
    parts = -(-len(subjects) // size)
    if len(subjects) > _WORTH_SHARING:
        parts = -(-parts // _TOGETHER) * _TOGETHER
    if not shards:
        return [Task(kind, k, some, moment) for k, some in enumerate(np.array_split(subjects, parts))]
    most = -(-len(subjects) // parts)
    tasks: list[Task] = []
    for number, inside in enumerate(np.split(subjects, np.cumsum(_subjects_of(subjects, shards))[:-1])):
        for some in np.array_split(inside, -(-len(inside) // most)) if len(inside) else ():
            tasks.append(Task(kind, len(tasks), some, moment, (number,)))
    return tasks


def shards_with(subjects: NDArray[np.int64], shards: Sequence[Shard]) -> tuple[int, ...]:
    """Numbers of the shards that hold these subjects, which are ascending; () without shards."""
    return tuple(np.flatnonzero(_subjects_of(subjects, shards)).tolist()) if shards else ()


def _subjects_of(subjects: NDArray[np.int64], shards: Sequence[Shard]) -> NDArray[np.int64]:
    """How many of the subjects each shard holds. Shape: (shards,)."""
    ends = np.searchsorted(subjects, [shard.last_subject for shard in shards], side="right")
    assert ends[-1] == len(subjects), "the ranges of the shards hold every subject_id"
    return np.diff(ends, prepend=0)


def joined_content(parts: Sequence[dict[str, Any]]) -> Content:
    """Digest of the risks of all parts, from what their makers wrote of them."""
    total = Content()
    for about in parts:
        total += Content(*about["content"])
    return total
