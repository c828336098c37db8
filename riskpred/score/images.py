"""The images of a night: known from an earlier one, else decoded in worker processes and encoded as they come."""

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Self

import numpy as np
import torch

from riskpred.features.image import EncodedImage
from riskpred.features.plan import ImagePlan
from riskpred.features.receipts import pixels_hash
from riskpred.imaging.decode import DecodePool, Wanted
from riskpred.imaging.paths import ImageProblem
from riskpred.imaging.prepare import Prepared
from riskpred.imaging.versions import decoder_version
from riskpred.model.image_fast import BLOCK, FastImages, NumericPath, encoder_hash, fast_images
from riskpred.model.risk import RiskModel
from riskpred.model.tensors import image_moments
from riskpred.records.chunk import ImageRow
from riskpred.score.image_cache import KEEP_DAYS, ImageCache, Notebook, cache_path
from riskpred.score.remembered import Counts, Remembered

_ENCODED_AT_ONCE = 4 * BLOCK
_ENCODED_NUMBERS = 32 * 1024 * 1024
"""Pixels held until their images are encoded, at most."""


class CachedImages(Remembered[EncodedImage]):
    """Images of one modality, for `features.build`; see `ImageSource` there."""

    def __init__(
        self, plan: ImagePlan, fast: FastImages, encoder: str, pool: DecodePool, cache: Notebook | None
    ) -> None:
        at_once = max(1, min(_ENCODED_AT_ONCE, _ENCODED_NUMBERS // (prod(plan.pixel_shape) * plan.slices)))
        super().__init__(EncodedImage, encoder, fast.shape, pool, cache, at_once)
        self._plan, self._fast = plan, fast

    def encoded(self, images: Sequence[ImageRow], image_root: Path) -> list[EncodedImage | ImageProblem]:
        """Each image as its encoders see it, in the order asked, or why it cannot be used."""
        return self.answers(images, image_root)

    def _wanted(self, row: ImageRow, image_root: Path, known: tuple[str, ...]) -> Wanted:
        return Wanted(image_root, row.path, self._plan.recipe_of(row.image_type), known, row.series)

    def _say(self, some: Sequence[tuple[ImageRow, Prepared]], image_root: Path) -> list[EncodedImage]:
        each = [prepared.pixels for _, prepared in some]
        pixels = np.concatenate(each)
        sent, moments = self._fast.encode(pixels), image_moments(torch.from_numpy(pixels)).numpy()
        found, first = [], 0
        for (_, prepared), pictures in zip(some, each, strict=True):
            here = slice(first, first := first + len(pictures))
            digests = tuple(pixels_hash(picture) for picture in pictures)
            found.append(EncodedImage(sent[here], moments[here], prepared.grid.spacing_mm, digests))
        return found


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
