"""What a night's stages find in images: known from an earlier night, else looked at once; and rows of `findings`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from riskpred.config.segmentation import ImagingConfig
from riskpred.features.findings import FindingSource, LookedAt, numbered
from riskpred.features.look import Looker, look, lookers, signature, wanted
from riskpred.features.looked import COLUMNS, Looked
from riskpred.imaging.decode import DecodePool
from riskpred.imaging.paths import ImageProblem
from riskpred.imaging.prepare import Prepared
from riskpred.imaging.versions import decoder_version
from riskpred.model.image_fast import NumericPath
from riskpred.records.chunk import ImageRow, SubjectChunk
from riskpred.score.image_cache import KEEP_DAYS, ImageCache, Known, Luggage, News, Notebook, cache_path
from riskpred.score.images import CachedImages, Counts, NightImages
from riskpred.score.layout import computed_schema

if TYPE_CHECKING:
    from riskpred.model.bundle import Bundle

_SHAPE = (1, 1)
"""An entry of findings has no embedding: the cache is asked for none."""


class StageFindings:
    """One stage's findings, for a `NightFindings`; an image whose bytes were looked at before is not read again."""

    def __init__(self, looker: Looker, pool: DecodePool, cache: Notebook | None) -> None:
        self.counts = Counts()
        self._looker = looker
        self._pool, self._cache = pool, cache
        self._key = signature(looker, decoder_version())
        self._known: Known | None = None

    def packed(self, subjects: NDArray[np.int64]) -> Luggage | None:
        """What is known of these subjects (ascending), for another process; None where nothing is kept."""
        if self._cache is None:
            return None
        return Luggage(self._cache.today, self._key, self._cache.known(self._key, subjects, _SHAPE))

    def carrying(self, luggage: Luggage | None) -> "StageFindings":
        """The same stage with what was packed elsewhere."""
        return StageFindings(self._looker, self._pool, luggage)

    def take_in(self, news: News | None, counts: Counts) -> None:
        """Keep what another process learned, and count what it did."""
        self.counts = self.counts + counts
        if news is not None and isinstance(self._cache, ImageCache):
            self._cache.take_in(news)

    def open(self, chunk: SubjectChunk) -> None:
        """Read what the cache knows of the chunk's images, in one go."""
        if self._cache is not None:
            some = np.array([len(images) > 0 for images in chunk.images], dtype=bool)
            self._known = self._cache.known(self._key, chunk.subject_id[some], _SHAPE)

    def looked(self, images: Sequence[ImageRow], image_root: Path) -> list[Looked | ImageProblem]:
        """What each image shows, in the order asked, or why it cannot be looked at."""
        found: dict[int, Looked | ImageProblem] = {}
        unread: list[int] = []
        for i, row in enumerate(images):
            place = None if self._known is None else self._known.find(row)
            if place is None:
                unread.append(i)
            else:
                found[i] = self._recall(place)
        self.counts.cached += len(found)
        stage = self._looker.stage
        asked = [wanted(stage, images[i], image_root, self._contents(images[i])) for i in unread]
        for i, decoded in zip(unread, self._pool.decode(asked), strict=True):
            found[i] = self._one(images[i], image_root, decoded.result, decoded.content)
        return [found[i] for i in range(len(images))]

    def _one(
        self, row: ImageRow, image_root: Path, result: Prepared | ImageProblem | None, content: str | None
    ) -> Looked | ImageProblem:
        if result is None:
            # The same bytes at another place or with another time: only that is new.
            assert self._known is not None
            assert content is not None
            again = self._recall(self._known.same_bytes(row, content))
            self.counts.cached += 1
            if not row.sha256 and row.stamp is not None:
                self._learn(row, content, again)
            return again
        self.counts.decoded += 1
        found = result if isinstance(result, ImageProblem) else look(self._looker, result, row, image_root)
        self.counts.rejected += isinstance(found, ImageProblem)
        self._learn(row, content, found)
        return found

    def _contents(self, row: ImageRow) -> tuple[str, ...]:
        return () if self._known is None else self._known.contents(row)

    def _recall(self, place: int) -> Looked | ImageProblem:
        assert self._known is not None
        assert self._cache is not None
        self._cache.used(self._key, self._known, place)
        found = self._known.result(place)
        assert isinstance(found, Looked | ImageProblem), "an entry of findings"
        return found

    def _learn(self, row: ImageRow, content: str | None, found: Looked | ImageProblem) -> None:
        # Without a content nothing was read (missing, refused, decoder crashed): another night may find it mended.
        if self._cache is not None and content is not None:
            self._cache.learn(self._key, row, content, found)


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
        return self._stages[stage].looked(images, image_root)


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
