"""What ingest asks of whoever can open image files: headers and pixels. The imaging room answers.

Nothing of a patient leaves a Header but `patient_id`, which is looked up in the subject map given and then forgotten.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from riskpred.config.ingest_images import PixelChecks
from riskpred.progress import Progress

Spacing = tuple[float | None, float | None, float | None]
"""mm between slices, rows, columns; None = unknown."""

UNKNOWN: Spacing = (None, None, None)

THUMBNAIL = 32
"""Pixels a side of the thumbnails by which near-copies are found."""


@dataclass(frozen=True, slots=True)
class Header:
    """What one file says of itself, its pixels unread.

    form: what it is: DICOM, another image, or no image at all.   problem: (reason, wanted), where it cannot be used.
    image_uid, series_uid: hashes (identifiers.hashed_uid), never the UIDs.   patient_id: PatientID; None where empty.
    times: ISO 8601 by the kind of tag (acquisition, content, series, study); local unless an offset stands there.
    burned_in: whether text is in the pixels, as far as the file tells: "likely" is said for secondary captures and
        ultrasound that say nothing.
    slice_of_volume: one slice of CT or MR, to be read together with its series.
    """

    form: Literal["dicom", "image", "none"]
    problem: tuple[str, str] | None = None
    image_type: str | None = None
    image_uid: str | None = None
    series_uid: str | None = None
    patient_id: str | None = None
    body_part: str | None = None
    view: str | None = None
    laterality: str | None = None
    times: dict[str, str] = field(default_factory=dict)
    burned_in: Literal["yes", "no", "likely"] | None = None
    frames: int | None = None
    spacing_mm: Spacing = UNKNOWN
    slice_of_volume: bool = False
    notes: str | None = None


@dataclass(frozen=True)
class Asked:
    """One image whose pixels are to be looked at. checks: None = only whether it can be read and is not blank.

    series: which one of a folder that holds several; None = all of `path`.
    """

    path: str
    image_type: str | None = None
    body_part: str | None = None
    view: str | None = None
    checks: PixelChecks | None = None
    series: str | None = None


@dataclass(frozen=True)
class Seen:
    """What the pixels of one image say. problem: (reason, wanted), where it is refused; the rest is then unknown.

    digest: 32 hex characters over the pixels as they are read.
    thumbnail: THUMBNAIL x THUMBNAIL float32, mean 0 and length 1; None for a volume.
    """

    problem: tuple[str, str] | None = None
    digest: str | None = None
    thumbnail: bytes | None = None
    frames: int | None = None
    spacing_mm: Spacing = UNKNOWN
    notes: str | None = None


class Look(Protocol):
    """Opens image files in processes of its own, so that a damaged one costs that one."""

    def headers(self, root: Path, paths: Sequence[str], stage: str, progress: Progress) -> Iterator[Header]:
        """One answer per path, in order. `stage`: how progress calls it."""
        ...

    def pixels(self, root: Path, asked: Sequence[Asked], stage: str, progress: Progress) -> Iterator[Seen]:
        """One answer per image, in order."""
        ...

    def directory(self, root: Path, path: str) -> list[str]:
        """Files that a DICOMDIR names, relative to `root`, sorted. Raises: InputError, when it cannot be read."""
        ...
