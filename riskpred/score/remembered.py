"""What is said of an image once, by an encoder or a stage: known from an earlier night, else read, said and kept."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Self, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from riskpred.features.image import EncodedImage
from riskpred.features.looked import Looked
from riskpred.imaging.decode import DecodePool, Wanted
from riskpred.imaging.paths import ImageProblem
from riskpred.imaging.prepare import Prepared
from riskpred.records.chunk import ImageRow, SubjectChunk
from riskpred.score.image_cache import ImageCache, Known, Luggage, News, Notebook


@dataclass
class Counts:
    """Images of a night: known from the cache, decoded, of them not usable."""

    cached: int = 0
    decoded: int = 0
    rejected: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.cached + other.cached, self.decoded + other.decoded, self.rejected + other.rejected)


Said = TypeVar("Said", EncodedImage, Looked)
_Waiting: TypeAlias = tuple[int, ImageRow, Prepared, str | None]  # place, row, pixels, content


class Remembered(ABC, Generic[Said]):
    """One modality's or stage's answers; an image whose bytes were answered for before is not read again.

    Args:
        kind: of its answers.   key: hash of all that decides them, beside the bytes.
        shape: of what the cache is asked to keep of each.   at_once: images answered for together.
    """

    def __init__(
        self,
        kind: type[Said],
        key: str,
        shape: tuple[int, int],
        pool: DecodePool,
        cache: Notebook | None,
        at_once: int = 1,
    ) -> None:
        self.counts = Counts()
        self.shape = shape
        self._kind: type[Said] = kind
        self._key, self._pool, self._cache, self._at_once = key, pool, cache, at_once
        self._known: Known | None = None

    @abstractmethod
    def _wanted(self, row: ImageRow, image_root: Path, known: tuple[str, ...]) -> Wanted:
        """How an image is read; `known`: bytes that need no reading."""

    @abstractmethod
    def _say(self, some: Sequence[tuple[ImageRow, Prepared]], image_root: Path) -> Sequence[Said | ImageProblem]:
        """The answer for each of at most `at_once` images."""

    def packed(self, subjects: NDArray[np.int64]) -> Luggage | None:
        """What is known of these subjects (ascending), for another process; None where nothing is kept."""
        if self._cache is None:
            return None
        return Luggage(self._cache.today, self._key, self._cache.known(self._key, subjects, self.shape))

    def carrying(self, luggage: Luggage | None) -> Self:
        """The same with what was packed elsewhere."""
        other = copy(self)
        other.counts, other._cache, other._known = Counts(), luggage, None
        return other

    def take_in(self, news: News | None, counts: Counts) -> None:
        """Keep what another process learned, and count what it did."""
        self.counts = self.counts + counts
        if news is not None and isinstance(self._cache, ImageCache):
            self._cache.take_in(news)

    def open(self, chunk: SubjectChunk) -> None:
        """Read what the cache knows of the chunk's images, in one go."""
        if self._cache is not None:
            some = np.array([len(images) > 0 for images in chunk.images], dtype=bool)
            self._known = self._cache.known(self._key, chunk.subject_id[some], self.shape)

    def answers(self, images: Sequence[ImageRow], image_root: Path) -> list[Said | ImageProblem]:
        """What is said of each image, in the order asked, or why it cannot be used."""
        found: dict[int, Said | ImageProblem] = {}
        for i, row in enumerate(images):
            place = None if self._known is None else self._known.find(row)
            if place is not None:
                found[i] = self._recall(place)
        self.counts.cached += len(found)
        unread = [i for i in range(len(images)) if i not in found]
        asked = [self._wanted(images[i], image_root, self._contents(images[i])) for i in unread]
        waiting: list[_Waiting] = []
        for i, decoded in zip(unread, self._pool.decode(asked), strict=True):
            if decoded.result is None:
                found[i] = self._same_bytes(images[i], decoded.content)
                continue
            self.counts.decoded += 1
            if isinstance(decoded.result, ImageProblem):
                found[i] = self._learned(images[i], decoded.content, decoded.result)
                continue
            waiting.append((i, images[i], decoded.result, decoded.content))
            # Some at a time, while the workers go on.
            if len(waiting) == self._at_once:
                found |= self._said_of(waiting, image_root)
                waiting = []
        found |= self._said_of(waiting, image_root)
        return [found[i] for i in range(len(images))]

    def _said_of(self, waiting: Sequence[_Waiting], image_root: Path) -> dict[int, Said | ImageProblem]:
        if not waiting:
            return {}
        said = self._say([(row, prepared) for _, row, prepared, _ in waiting], image_root)
        return {i: self._learned(row, content, one) for (i, row, _, content), one in zip(waiting, said, strict=True)}

    def _contents(self, row: ImageRow) -> tuple[str, ...]:
        return () if self._known is None else self._known.contents(row)

    def _same_bytes(self, row: ImageRow, content: str | None) -> Said | ImageProblem:
        """The same bytes at another place or with another time: only that is new."""
        assert self._known is not None
        assert content is not None
        again = self._recall(self._known.same_bytes(row, content))
        self.counts.cached += 1
        if not row.sha256 and row.stamp is not None:  # else nothing would be found by it
            self._keep(row, content, again)
        return again

    def _recall(self, place: int) -> Said | ImageProblem:
        assert self._known is not None
        assert self._cache is not None
        self._cache.used(self._key, self._known, place)
        found = self._known.result(place)
        assert isinstance(found, self._kind | ImageProblem), "an entry of its own kind"
        return found

    def _learned(self, row: ImageRow, content: str | None, said: Said | ImageProblem) -> Said | ImageProblem:
        self.counts.rejected += isinstance(said, ImageProblem)
        self._keep(row, content, said)
        return said

    def _keep(self, row: ImageRow, content: str | None, said: Said | ImageProblem) -> None:
        # Without a content nothing was read (missing, refused, decoder crashed): another night may find it mended.
        if self._cache is not None and content is not None:
            self._cache.learn(self._key, row, content, said)
