"""Each row's latest readable image at or before prediction_time becomes prepared pixels, or what an encoder says."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from riskpred.config.imaging import Recipe
from riskpred.features.batch import MISSING, REJECTED, STALE, USED, EncodedImages, ImageInput, InputReject, Receipt
from riskpred.features.plan import ImagePlan
from riskpred.imaging.decode import Wanted, decode_one
from riskpred.imaging.paths import ImageProblem
from riskpred.imaging.prepare import Prepared
from riskpred.records.chunk import DAY_US, STATIC, ImageRow, SubjectChunk
from riskpred.records.cohort import CohortRows

MISSING_IMAGE = ("image",)
"""missing_features of a row that has no image to use."""

_Found = TypeVar("_Found")
_Key: TypeAlias = tuple[int, str]  # subject_id, image_id


@dataclass(frozen=True)
class EncodedImage:
    """One image as `EncodedImages` has it: sent (R, V) float32, moments (2,) float64; spacing_mm (2,) as prepared."""

    sent: NDArray[np.float32]
    moments: NDArray[np.float64]
    spacing_mm: NDArray[np.float64]
    input_hash: str


class ImageSource(Protocol):
    """Reads and encodes images, or knows what that gave the last time."""

    @property
    def shape(self) -> tuple[int, int]:
        """(R, V) of `EncodedImage.sent`."""
        ...

    def open(self, chunk: SubjectChunk) -> None:
        """Called before the images of a chunk are asked for."""
        ...

    def encoded(self, images: Sequence[ImageRow], image_root: Path) -> Sequence[EncodedImage | ImageProblem]:
        """Each image encoded, in the order asked, or why it cannot be used."""
        ...


def image(
    chunk: SubjectChunk, rows: CohortRows, plan: ImagePlan, image_root: Path, source: ImageSource | None = None
) -> tuple[ImageInput, Receipt, tuple[InputReject, ...]]:
    """Images of every row, the receipt, and one reject per image that could not be read.

    Taken is the latest image of the plan's types in the window; where that cannot be read, the next older one that is
    not stale. An undated image is in every window, never stale, and older than every dated one. Receipt: n counts
    visible images; latest_time is that of the image used, else of the latest visible one.

    Args:
        source: who encodes the images; None = they come as pixels.
    """
    count = len(rows)
    spacing = np.full((count, 2), np.nan)
    if source is None:
        pixels = np.zeros((count, plan.size, plan.size), dtype=np.float32)
        recipe = Recipe.of(size=plan.size)

        def read(images: Sequence[ImageRow]) -> list[Prepared | ImageProblem]:
            found = [decode_one(Wanted(image_root, row.path, recipe)).result for row in images]
            return [result for result in found if result is not None]  # no file's bytes were called known

        def keep(r: int, used: Prepared) -> None:
            pixels[r], spacing[r] = used.pixels[0, 0], used.spacing_mm

        # One subject after another, so that no image is held twice.
        image_id, time, receipt, rejects = _choose(chunk, rows, plan, _by_subject(rows), read, keep)
        return ImageInput(pixels, image_id, time, spacing), receipt, rejects
    sent, moments = np.zeros((count, *source.shape), np.float32), np.zeros((count, 2))
    digests = [""] * count

    def keep_encoded(r: int, used: EncodedImage) -> None:
        sent[r], moments[r], spacing[r], digests[r] = used.sent, used.moments, used.spacing_mm, used.input_hash

    def encode(images: Sequence[ImageRow]) -> Sequence[EncodedImage | ImageProblem]:
        return source.encoded(images, image_root)

    source.open(chunk)
    image_id, time, receipt, rejects = _choose(chunk, rows, plan, [range(count)], encode, keep_encoded)
    encoded = EncodedImages(sent, moments, tuple(digests))
    none = np.zeros((0, plan.size, plan.size), np.float32)
    return ImageInput(none, image_id, time, spacing, encoded), receipt, rejects


def visible_images(images: tuple[ImageRow, ...], plan: ImagePlan, now: int) -> list[ImageRow]:
    """Images of the plan's types in its window that ends at `now`, oldest first, undated ones before all."""
    oldest = STATIC if plan.window_days is None else now - plan.window_days * DAY_US
    return [
        row
        for row in images
        if row.image_type in plan.image_types and row.time <= now and (row.time == STATIC or row.time > oldest)
    ]


def is_stale(row: ImageRow, plan: ImagePlan, now: int) -> bool:
    if plan.stale_after_days is None or row.time == STATIC:
        return False
    return now - row.time > plan.stale_after_days * DAY_US


def _by_subject(rows: CohortRows) -> list[range]:
    """Rows of one subject follow one another."""
    ends, start = [], 0
    for _, group in groupby(rows.subject.tolist()):
        ends.append(range(start, start := start + sum(1 for _ in group)))
    return ends


def _choose(
    chunk: SubjectChunk,
    rows: CohortRows,
    plan: ImagePlan,
    groups: Iterable[range],
    read: Callable[[Sequence[ImageRow]], Sequence[_Found | ImageProblem]],
    keep: Callable[[int, _Found], None],
) -> tuple[tuple[str, ...], NDArray[np.int64], Receipt, tuple[InputReject, ...]]:
    """Finds the image of each row: image_id, time, receipt, rejects.

    Args:
        groups: rows whose images are read together; rows of one subject are never apart.
        read: what images give, many at a time; each image of a subject is asked for once.
        keep: called with each row that has an image, and what its image gave.
    """
    count = len(rows)
    time = np.full(count, STATIC, dtype=np.int64)
    image_id = [""] * count
    code, n, latest = np.full(count, MISSING, np.int8), np.zeros(count, np.int64), np.full(count, STATIC, np.int64)
    rejects: list[InputReject] = []
    subjects, nows = rows.subject.tolist(), rows.prediction_time.tolist()
    for group in groups:
        visible = {r: visible_images(chunk.images[subjects[r]], plan, nows[r]) for r in group}
        # First the latest image of every row, all at once; of those that cannot be read the next older one; and so on.
        found: dict[_Key, _Found | ImageProblem] = {}
        while True:
            next_ones = [_wanted(visible[r], plan, nows[r], found) for r in group]
            wanted = {(row.subject_id, row.image_id): row for row in next_ones if row is not None}
            if not wanted:
                break
            images = list(wanted.values())
            gave = read(images)
            found.update(((row.subject_id, row.image_id), one) for row, one in zip(images, gave, strict=True))
        said: set[_Key] = set()
        for r in group:
            n[r] = len(visible[r])
            if not visible[r]:
                continue
            latest[r], code[r] = visible[r][-1].time, REJECTED
            for row in reversed(visible[r]):
                if is_stale(row, plan, nows[r]):
                    # Only the first can make the row stale: after a reject the row lost an image that was in time.
                    code[r] = STALE if row is visible[r][-1] else REJECTED
                    break
                key = row.subject_id, row.image_id
                result = found[key]
                if not isinstance(result, ImageProblem):
                    keep(r, result)
                    image_id[r], time[r], latest[r], code[r] = row.image_id, row.time, row.time, USED
                    break
                if key not in said:
                    said.add(key)
                    rejects.append(
                        InputReject("images", row.image_id, row.subject_id, result.reason, "path", result.wanted)
                    )
    receipt = Receipt(code, n, latest, (code != USED)[:, None], MISSING_IMAGE)
    return tuple(image_id), time, receipt, tuple(rejects)


def _wanted(
    visible: list[ImageRow], plan: ImagePlan, now: int, found: Mapping[_Key, _Found | ImageProblem]
) -> ImageRow | None:
    """The image to read for a row: the latest, of those after an unreadable one; None where it has one or none is left.

    Args:
        visible: oldest first.   found: what was read so far.
    """
    for row in reversed(visible):
        if is_stale(row, plan, now):
            return None
        key = row.subject_id, row.image_id
        if key not in found:
            return row
        if not isinstance(found[key], ImageProblem):
            return None
    return None
