"""What a night's stages find in images: known from an earlier night, else looked at once; and rows of `findings`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from riskpred.config.segmentation import ImagingConfig
from riskpred.features.findings import FindingSource, LookedAt, numbered
from riskpred.features.look import Looker, look, lookers, signature, wanted
from riskpred.features.looked import COLUMNS, Looked
from riskpred.imaging.decode import DecodePool, Wanted
from riskpred.imaging.paths import ImageProblem
from riskpred.imaging.prepare import Prepared
from riskpred.imaging.versions import decoder_version
from riskpred.model.image_fast import NumericPath
from riskpred.records.chunk import ImageRow, SubjectChunk
from riskpred.score.image_cache import KEEP_DAYS, ImageCache, Notebook, cache_path
from riskpred.score.images import CachedImages, NightImages
from riskpred.score.layout import computed_schema
from riskpred.score.remembered import Counts, Remembered

if TYPE_CHECKING:
    from riskpred.model.bundle import Bundle

_SHAPE = (1, 1)
"""An entry of findings has no embedding: the cache is asked for none."""


class StageFindings(Remembered[Looked]):
    """One stage's findings, for a `NightFindings`."""

    def __init__(self, looker: Looker, pool: DecodePool, cache: Notebook | None) -> None:
        super().__init__(Looked, signature(looker, decoder_version()), _SHAPE, pool, cache)
        self._looker = looker

    def _wanted(self, row: ImageRow, image_root: Path, known: tuple[str, ...]) -> Wanted:
        return wanted(self._looker.stage, row, image_root, known)

    def _say(self, some: Sequence[tuple[ImageRow, Prepared]], image_root: Path) -> list[Looked | ImageProblem]:
        return [look(self._looker, prepared, row, image_root) for row, prepared in some]


class NightFindings(FindingSource):
    """All stages of a night. Args: stages: stage's name -> who looks for it."""

    def __init__(self, config: ImagingConfig, stages: Mapping[str, StageFindings]) -> None:
        super().__init__(config)
        assert stages.keys() == config.stages.keys(), "someone looks for every stage of imaging.yaml"
        self._stages = stages

    def open(self, chunk: SubjectChunk) -> None:
        for one in self._stages.values():
            one.open(chunk)

    def looked(self, stage: str, images: Sequence[ImageRow], image_root: Path) -> list[Looked | ImageProblem]:
        return self._stages[stage].answers(images, image_root)


class NightPictures(NightImages):
    """The image modalities and the stages of imaging.yaml of a night: one pool of decoders, one cache.

    Args: as `NightImages`; bundle: whose encoders and stages.
    """

    def __init__(
        self,
        bundle: "Bundle",
        scores: Path | None,
        path: NumericPath = "bf16",
        workers: int | None = None,
        engine: str | None = None,
        cache_days: int = KEEP_DAYS,
    ) -> None:
        super().__init__(bundle.model, scores, path, workers, engine, cache_days)
        looking = lookers(bundle.config.imaging, bundle.segmenters)
        if self._cache is None and scores is not None and looking:
            self._cache = ImageCache(cache_path(scores), cache_days)
        self.findings = {name: StageFindings(one, self.pool, self._cache) for name, one in looking.items()}

    @property
    def everything(self) -> dict[str, CachedImages | StageFindings]:
        """Sources of both kinds, by name of the modality or stage: no two share one."""
        return {**self.sources, **self.findings}

    @property
    def counts(self) -> Counts:
        """Over all modalities and stages."""
        return sum((source.counts for source in self.findings.values()), super().counts)


def finding_rows(images: Sequence[LookedAt]) -> pa.Table:
    """Rows of findings without run_id; lesions of one image are numbered from 1 over all stages."""
    schema = computed_schema("findings").arrow()
    rows: list[dict[str, object]] = []
    for one, first in zip(images, numbered(images), strict=True):
        for number, lesion in enumerate(one.looked.lesions, start=first):
            mine = {name: getattr(lesion, name) for name in COLUMNS}
            whose = {"image_id": one.image.image_id, "subject_id": one.image.subject_id, "lesion": number}
            rows.append({**mine, **whose})
    return pa.Table.from_pylist(rows, schema=schema)
