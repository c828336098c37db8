"""The images of a night: known from an earlier one, else decoded in worker processes and encoded as they come."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from riskpred.features.image import EncodedImage
from riskpred.features.looked import Looked
from riskpred.features.plan import ImagePlan
from riskpred.features.receipts import pixels_hash
from riskpred.imaging.decode import DecodePool, Wanted
from riskpred.imaging.paths import ImageProblem
from riskpred.imaging.prepare import Prepared
from riskpred.imaging.versions import decoder_version
from riskpred.model.image_fast import BLOCK, FastImages, NumericPath, encoder_hash, fast_images
from riskpred.model.risk import RiskModel
from riskpred.model.tensors import image_moments
from riskpred.records.chunk import ImageRow, SubjectChunk
from riskpred.score.image_cache import KEEP_DAYS, ImageCache, Known, Luggage, News, Notebook, cache_path

_ENCODED_AT_ONCE = 4 * BLOCK
_ENCODED_NUMBERS = 32 * 1024 * 1024
"""Pixels held until their images are encoded, at most."""


@dataclass
class Counts:
    """Images of a night: known from the cache, decoded, of them not usable."""

    cached: int = 0
    decoded: int = 0
    rejected: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.cached + other.cached, self.decoded + other.decoded, self.rejected + other.rejected)


class CachedImages:
    """Images of one modality, for `features.build`; see `ImageSource` there."""

    def __init__(
        self, plan: ImagePlan, fast: FastImages, encoder: str, pool: DecodePool, cache: Notebook | None
    ) -> None:
        self.counts = Counts()
        self._plan, self._fast, self._encoder, self._pool, self._cache = plan, fast, encoder, pool, cache
        self._at_once = max(1, min(_ENCODED_AT_ONCE, _ENCODED_NUMBERS // (prod(plan.pixel_shape) * plan.slices)))
        self._known: Known | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(R, V): members, and all that each says of a picture."""
        return self._fast.shape

    def packed(self, subjects: NDArray[np.int64]) -> Luggage | None:
        """What is known of these subjects (ascending), for another process; None where nothing is kept."""
        if self._cache is None:
            return None
        return Luggage(self._cache.today, self._encoder, self._cache.known(self._encoder, subjects, self.shape))

    def carrying(self, luggage: Luggage | None) -> "CachedImages":
        """The same encoders with what was packed elsewhere."""
        return CachedImages(self._plan, self._fast, self._encoder, self._pool, luggage)

    def take_in(self, news: News | None, counts: Counts) -> None:
        """Keep what another process learned, and count what it did."""
        self.counts = self.counts + counts
        if news is not None and isinstance(self._cache, ImageCache):
            self._cache.take_in(news)

    def open(self, chunk: SubjectChunk) -> None:
        """Read what the cache knows of the chunk's images, in one go."""
        if self._cache is not None:
            some = np.array([len(images) > 0 for images in chunk.images], dtype=bool)
            self._known = self._cache.known(self._encoder, chunk.subject_id[some], self.shape)

    def encoded(self, images: Sequence[ImageRow], image_root: Path) -> list[EncodedImage | ImageProblem]:
        """Each image as its encoders see it, in the order asked, or why it cannot be used."""
        found: list[EncodedImage | ImageProblem | None] = [None] * len(images)
        unread: list[int] = []
        for i, row in enumerate(images):
            place = None if self._known is None else self._known.find(row)
            if place is None:
                unread.append(i)
            else:
                found[i] = self._recall(place)
        self.counts.cached += len(images) - len(unread)
        self._read(images, unread, image_root, found)
        complete = [one for one in found if one is not None]
        assert len(complete) == len(images), "every image gives something"
        return complete

    def _recall(self, place: int) -> EncodedImage | ImageProblem:
        assert self._known is not None
        assert self._cache is not None
        self._cache.used(self._encoder, self._known, place)
        found = self._known.result(place)
        assert not isinstance(found, Looked), "an entry of embeddings"
        return found

    def _read(
        self,
        images: Sequence[ImageRow],
        unread: list[int],
        image_root: Path,
        found: list[EncodedImage | ImageProblem | None],
    ) -> None:
        wanted = []
        for i in unread:
            row = images[i]
            known = () if self._known is None else self._known.contents(row)
            wanted.append(Wanted(image_root, row.path, self._plan.recipe_of(row.image_type), known, row.series))
        waiting: list[tuple[int, Prepared, str | None]] = []
        for i, decoded in zip(unread, self._pool.decode(wanted), strict=True):
            result, row = decoded.result, images[i]
            if result is None:
                # The same bytes at another place or with another time: only that is new.
                assert self._known is not None
                assert decoded.content is not None
                found[i] = again = self._recall(self._known.same_bytes(row, decoded.content))
                self.counts.cached += 1
                if not row.sha256 and row.stamp is not None:  # else nothing would be found by it
                    self._learn(row, decoded.content, again)
                continue
            self.counts.decoded += 1
            if isinstance(result, ImageProblem):
                found[i] = result
                self.counts.rejected += 1
                self._learn(row, decoded.content, result)
                continue
            waiting.append((i, result, decoded.content))
            # Some at a time, while the workers go on.
            if len(waiting) == self._at_once:
                self._encode(images, waiting, found)
                waiting = []
        self._encode(images, waiting, found)

    def _encode(
        self,
        images: Sequence[ImageRow],
        waiting: list[tuple[int, Prepared, str | None]],
        found: list[EncodedImage | ImageProblem | None],
    ) -> None:
        if not waiting:
            return
        each = [prepared.pixels for _, prepared, _ in waiting]
        pixels = np.concatenate(each)
        sent, moments = self._fast.encode(pixels), image_moments(torch.from_numpy(pixels)).numpy()
        first = 0
        for (i, prepared, content), pictures in zip(waiting, each, strict=True):
            here = slice(first, first := first + len(pictures))
            digests = tuple(pixels_hash(picture) for picture in pictures)
            one = EncodedImage(sent[here], moments[here], prepared.grid.spacing_mm, digests)
            found[i] = one
            self._learn(images[i], content, one)

    def _learn(self, row: ImageRow, content: str | None, result: EncodedImage | ImageProblem) -> None:
        # Without a content nothing was read (missing, refused, decoder crashed): another night may find it mended.
        if self._cache is not None and content is not None:
            self._cache.learn(self._encoder, row, content, result)


class NightImages:
    """The image modalities of a night: `sources` for `features.build`, closed (and the cache written) with the block.

    Args:
        scores: the scores file, beside which the cache lies; None = no cache.
        path: numeric path of the encoders; see `fast_images`.
        workers: processes that decode; None = one per core; 0 = in this process.
    """

    def __init__(
        self,
        model: RiskModel,
        scores: Path | None,
        path: NumericPath = "bf16",
        workers: int | None = None,
        engine: str | None = None,
        cache_days: int = KEEP_DAYS,
    ) -> None:
        plans = {name: part for name, part in model.plan.modalities.items() if isinstance(part, ImagePlan)}
        self.pool = DecodePool(workers)
        self._cache = None if scores is None or not plans else ImageCache(cache_path(scores), cache_days)
        self.fast = {name: fast_images(model, name, path, engine) for name, part in plans.items()}
        decoder = decoder_version()
        self.sources = {
            name: CachedImages(plans[name], fast, encoder_hash(model, name, fast, decoder), self.pool, self._cache)
            for name, fast in self.fast.items()
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the log: what encoders that had anything to do run on, and what was wrong with the cache."""
        busy = [name for name, source in self.sources.items() if source.counts.decoded > source.counts.rejected]
        said = dict.fromkeys(self.fast[name].note for name in busy)
        return (*said, *(self._cache.notes if self._cache is not None else ()))

    @property
    def counts(self) -> Counts:
        """Over all modalities."""
        return sum((source.counts for source in self.sources.values()), Counts())

    def close(self) -> None:
        """End the workers and write the cache; what was kept so far is kept, whatever ended the night."""
        self.pool.close()
        if self._cache is not None:
            self._cache.close()
