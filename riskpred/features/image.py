"""Each row's latest readable images at or before prediction_time become prepared pixels, or what an encoder says."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Generic, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from riskpred.features.batch import MISSING, REJECTED, STALE, USED, EncodedImages, ImageInput, InputReject, Receipt
from riskpred.features.join import starts
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
    """One image of S pictures as `EncodedImages` has them: S is 1 but of a volume read as slices.

    Shape: sent (S, R, V) float32, moments (S, 2) float64, input_hash S texts; spacing_mm (3,) as prepared.
    """

    sent: NDArray[np.float32]
    moments: NDArray[np.float64]
    spacing_mm: NDArray[np.float64]
    input_hash: tuple[str, ...]


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

    Taken are the latest images of the plan's types in the window, at most `most_images`; in the place of one that
    cannot be read, the next older one. A stale one is not taken. An undated image is in every window, never stale, and
    older than every dated one. Receipt: n counts visible images; latest_time is that of the latest image used, else of
    the latest visible one.

    Args:
        source: who encodes the images; None = they come as pixels.
    """
    if source is None:
        pixels = _Pixels(_most_pictures(chunk, rows, plan), plan.pixel_shape)

        def read(images: Sequence[ImageRow]) -> list[Prepared | ImageProblem]:
            wanted = (Wanted(image_root, r.path, plan.recipe_of(r.image_type), series=r.series) for r in images)
            found = [decode_one(one).result for one in wanted]
            return [result for result in found if result is not None]  # no file's bytes were called known

        # One subject after another, so that no image is held twice.
        chosen = _choose(chunk, rows, plan, _by_subject(rows), read, pixels.keep)
        spacing, slices = np.array(pixels.spacing_mm).reshape(-1, 3), np.array(pixels.slices).reshape(-1, 2)
        return _input(chosen, pixels.count, pixels.kept, spacing, slices), chosen.receipt, chosen.rejects
    used: list[EncodedImage] = []

    def keep(one: EncodedImage) -> int:
        used.append(one)
        return len(one.sent)

    def encode(images: Sequence[ImageRow]) -> Sequence[EncodedImage | ImageProblem]:
        return source.encoded(images, image_root)

    source.open(chunk)
    taken = _choose(chunk, rows, plan, [range(len(rows))], encode, keep)
    encoded = EncodedImages(
        np.concatenate([np.zeros((0, *source.shape), np.float32), *(one.sent for one in used)]),
        np.concatenate([np.zeros((0, 2)), *(one.moments for one in used)]),
        tuple(digest for one in used for digest in one.input_hash),
    )
    spacing = np.array([one.spacing_mm for one in used for _ in one.sent]).reshape(-1, 3)
    none, unknown = np.zeros((0, *plan.pixel_shape), np.float32), np.full((len(spacing), 2), np.nan)
    return _input(taken, len(spacing), none, spacing, unknown, encoded), taken.receipt, taken.rejects


class _Pixels:
    """The pixels of one chunk, each picture written once: room for the most there may be costs nothing until used."""

    def __init__(self, most: int, shape: tuple[int, ...]) -> None:
        self._room = np.empty((most, *shape), dtype=np.float32)
        self.count = 0
        self.spacing_mm: list[NDArray[np.float64]] = []
        self.slices: list[tuple[float, float]] = []

    def keep(self, used: Prepared) -> int:
        """Take in the pictures of one image."""
        some = used.pixels
        self._room[self.count : self.count + len(some)] = some
        self.count += len(some)
        whole = float(used.grid.offset[0]), float(used.grid.scale[0])
        self.spacing_mm += [used.grid.spacing_mm] * len(some)
        self.slices += [(one, 0.0) for one in used.slices] or [whole]
        return len(some)

    @property
    def kept(self) -> NDArray[np.float32]:
        return self._room[: self.count]


@dataclass(frozen=True)
class _Chosen(Generic[_Found]):
    """The images of each row, oldest first: (image, pictures) per image used."""

    images: list[list[tuple[ImageRow, int]]]
    receipt: Receipt
    rejects: tuple[InputReject, ...]


def _input(
    chosen: "_Chosen[Prepared] | _Chosen[EncodedImage]",
    count: int,
    pixels: NDArray[np.float32],
    spacing_mm: NDArray[np.float64],
    slices: NDArray[np.float64],
    encoded: EncodedImages | None = None,
) -> ImageInput:
    lengths = np.array([sum(pictures for _, pictures in images) for images in chosen.images], dtype=np.int64)
    each = [row for images in chosen.images for row, pictures in images for _ in range(pictures)]
    assert len(each) == count, "every picture belongs to an image"
    return ImageInput(
        starts(lengths),
        pixels,
        tuple(row.image_id for row in each),
        np.array([row.time for row in each], dtype=np.int64),
        spacing_mm,
        slices,
        encoded,
    )


def _most_pictures(chunk: SubjectChunk, rows: CohortRows, plan: ImagePlan) -> int:
    """Pictures that the rows may have at most."""
    nows = zip(rows.subject.tolist(), rows.prediction_time.tolist(), strict=True)
    seen = (len(visible_images(chunk.images[subject], plan, now)) for subject, now in nows)
    return sum(min(many, plan.most_images) for many in seen) * plan.most_pictures // plan.most_images


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
    keep: Callable[[_Found], int],
) -> _Chosen[_Found]:
    """Finds the images of each row.

    Args:
        groups: rows whose images are read together; rows of one subject are never apart.
        read: what images give, many at a time; each image of a subject is asked for once.
        keep: called with what each image of each row gave, in order; it says how many pictures that is.
    """
    count = len(rows)
    images: list[list[tuple[ImageRow, int]]] = []
    code, n, latest = np.full(count, MISSING, np.int8), np.zeros(count, np.int64), np.full(count, STATIC, np.int64)
    rejects: list[InputReject] = []
    subjects, nows = rows.subject.tolist(), rows.prediction_time.tolist()
    for group in groups:
        visible = {r: visible_images(chunk.images[subjects[r]], plan, nows[r]) for r in group}
        # First the latest images of every row, all at once; for those that cannot be read the next older ones; and so
        # on.
        found: dict[_Key, _Found | ImageProblem] = {}
        while True:
            next_ones = (
                row for r in group for row in _walk(visible[r], plan, nows[r], found) if _key(row) not in found
            )
            wanted = {_key(row): row for row in next_ones}
            if not wanted:
                break
            asked = list(wanted.values())
            found.update((_key(row), one) for row, one in zip(asked, read(asked), strict=True))
        said: set[_Key] = set()
        for r in group:
            n[r] = len(visible[r])
            mine: list[tuple[ImageRow, _Found]] = []
            if visible[r]:
                latest[r] = visible[r][-1].time
                # Only the first can make the row stale: after a reject the row lost an image that was in time.
                code[r] = STALE if is_stale(visible[r][-1], plan, nows[r]) else REJECTED
            for row in _walk(visible[r], plan, nows[r], found):
                result = found[_key(row)]
                if not isinstance(result, ImageProblem):
                    mine.append((row, result))
                elif _key(row) not in said:
                    said.add(_key(row))
                    rejects.append(
                        InputReject("images", row.image_id, row.subject_id, result.reason, "path", result.wanted)
                    )
            if mine:
                latest[r], code[r] = mine[0][0].time, USED
            images.append([(row, keep(result)) for row, result in reversed(mine)])
    receipt = Receipt(code, n, latest, (code != USED)[:, None], MISSING_IMAGE)
    return _Chosen(images, receipt, tuple(rejects))


def _key(row: ImageRow) -> _Key:
    return row.subject_id, row.image_id


def _walk(
    visible: list[ImageRow], plan: ImagePlan, now: int, found: Mapping[_Key, _Found | ImageProblem]
) -> Iterable[ImageRow]:
    """The images to look at for a row, latest first, as far as is known which can be read: those taken, those that
    cannot be read on the way, and those to try next.

    Args:
        visible: oldest first.   found: what was read so far.
    """
    taken = 0
    for row in reversed(visible):
        if taken == plan.most_images or is_stale(row, plan, now):
            return
        taken += not isinstance(found.get(_key(row)), ImageProblem)
        yield row
