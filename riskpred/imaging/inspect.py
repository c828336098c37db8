"""Looks at image files for ingest: what a file says of itself, and whether its pixels can be what it says.

Files are opened in worker processes, so that a damaged one costs that one. Of a patient only PatientID leaves a file,
for the subject map; UIDs leave as hashes, free text not at all.
"""

import hashlib
import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.datadict import tag_for_keyword

from riskpred.config.ingest_images import PixelChecks
from riskpred.errors import InputError
from riskpred.imaging.decode import DecodePool, Wanted
from riskpred.imaging.dicom import DEFLATED, numbers_of, transfer_syntax
from riskpred.imaging.dicom_geometry import pixel_spacing
from riskpred.imaging.metaimage import is_metaimage, metaimage_size
from riskpred.imaging.nifti import is_nifti, nifti_size
from riskpred.imaging.paths import ImageProblem, inside
from riskpred.imaging.raster import JPEG_MAGIC, PNG_MAGIC, TIFF_MAGIC
from riskpred.imaging.read import ANY_FORMAT, read_picture
from riskpred.progress import Progress
from riskpred.records.ingest.identifiers import hashed_uid
from riskpred.records.ingest.look import THUMBNAIL, Asked, Header, Seen

_TIMES: Final = {
    "acquisition": ("AcquisitionDate", "AcquisitionTime"),
    "content": ("ContentDate", "ContentTime"),
    "series": ("SeriesDate", "SeriesTime"),
    "study": ("StudyDate", "StudyTime"),
}
_ELEMENTS: Final = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "PatientID", "Modality", "BodyPartExamined"),
    *("ViewPosition", "ImageLaterality", "Laterality", "BurnedInAnnotation", "ConversionType", "NumberOfFrames"),
    *("AcquisitionDateTime", "TimezoneOffsetFromUTC", "PixelSpacing", "ImagerPixelSpacing", "Rows"),
    *("SpacingBetweenSlices", "SliceThickness", *(name for pair in _TIMES.values() for name in pair)),
)
_VIEWS: Final = {"LL": "LATERAL", "RL": "LATERAL", "LAT": "LATERAL", "LLD": "LATERAL", "RLD": "LATERAL"}
_SECONDARY: Final = "1.2.840.10008.5.1.4.1.1.7"
_WORD: Final = re.compile(r"[A-Z][A-Z0-9 _]{0,15}")
_IMAGE_ENDINGS: Final = (
    *(".dcm", ".dicom", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".nii", ".nii.gz", ".mhd", ".mha"),
)
"""A file of such a name is meant to be an image, whatever is in it."""

_BATCH: Final = 512
_EVEN_PERCENT: Final = 0.1
"""A picture is blank where all but twice this share of its pixels hold one value."""

_CLEARLY: Final = 0.1
_CHEST_WANTED: Final = "a picture in which bone is brighter than air"


@dataclass(frozen=True)
class _HeaderTask:
    root: Path
    path: str

    def __call__(self) -> Header:
        try:
            return _header(inside(self.root, self.path))
        except ImageProblem as problem:
            return Header("image", (problem.reason, problem.wanted))


@dataclass(frozen=True)
class _PixelTask:
    root: Path
    asked: Asked

    def __call__(self) -> Seen:
        try:
            return _seen(self.root / self.asked.path, self.asked)
        except ImageProblem as problem:
            return Seen((problem.reason, problem.wanted))


class FileLook:
    """Answers ingest's questions (records.ingest.look.Look) in worker processes; use as a context manager."""

    def __init__(self, workers: int | None = None) -> None:
        self._pool = DecodePool(workers)

    def __enter__(self) -> "FileLook":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.close()

    def headers(self, root: Path, paths: Sequence[str], stage: str, progress: Progress) -> Iterator[Header]:
        """One answer per path, in order."""
        tasks = [_HeaderTask(root, path) for path in paths]
        for answer in self._answers(tasks, stage, progress):
            lost = isinstance(answer, ImageProblem)
            yield Header("image", (answer.reason, answer.wanted)) if lost else cast(Header, answer)

    def pixels(self, root: Path, asked: Sequence[Asked], stage: str, progress: Progress) -> Iterator[Seen]:
        """One answer per image, in order."""
        for answer in self._answers([_PixelTask(root, one) for one in asked], stage, progress):
            lost = isinstance(answer, ImageProblem)
            yield Seen((answer.reason, answer.wanted)) if lost else cast(Seen, answer)

    def directory(self, root: Path, path: str) -> list[str]:
        """Files that a DICOMDIR names, relative to `root`, sorted. Raises: InputError, when it cannot be read."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                records = dcmread(inside(root, path)).DirectoryRecordSequence
                found = [record.ReferencedFileID for record in records if "ReferencedFileID" in record]
        except Exception as error:  # noqa: BLE001 - a damaged file may raise anything; its text may hold values
            raise InputError(
                f"{path}: not readable as a DICOMDIR ({type(error).__name__}).",
                wanted="a DICOMDIR, or a folder of images (ingest.yaml, folders)",
                do="fetch the export again, or name its folder as `path`",
            ) from None
        named = [[part] if isinstance(part, str) else list(part) for part in found]
        return sorted({(Path(path).parent / Path(*parts)).as_posix() for parts in named})

    def _answers(self, tasks: Sequence[Any], stage: str, progress: Progress) -> Iterator[Any]:
        done, left = 0, iter(tasks)
        while batch := list(islice(left, _BATCH)):
            if self._pool.workers:
                answers = list(self._pool.decode(cast(Sequence[Wanted], batch)))
                yield from (getattr(one, "result", one) for one in answers)
            else:
                yield from (task() for task in batch)
            done += len(batch)
            progress.step(stage, done, len(tasks))


def _header(path: Path) -> Header:
    with path.open("rb") as stream:
        head = stream.read(4096)
        if head[128:132] == b"DICM":
            try:
                return _dicom(stream)
            except ImageProblem:
                raise
            except Exception as error:
                # A damaged file may raise anything, and its text may hold values: only the kind is kept.
                raise ImageProblem("unreadable", "a DICOM file whose header reads to its end") from error
    if head.startswith((PNG_MAGIC, JPEG_MAGIC)):
        return Header("image", frames=1)
    if head.startswith(TIFF_MAGIC):
        return Header("image")
    if is_nifti(head) or is_metaimage(head):
        return _volume(path, nifti_size if is_nifti(head) else metaimage_size)
    if path.name.lower().endswith(_IMAGE_ENDINGS):
        # Empty, cut off in its first bytes, or DICOM without its file header: an image that is lost, not another file.
        raise ImageProblem("unreadable", ANY_FORMAT)
    return Header("none")


def _volume(path: Path, size: Callable[[Path], tuple[int, NDArray[np.float64]]]) -> Header:
    try:
        slices, spacing = size(path)
    except Exception:  # noqa: BLE001 - damaged: whoever reads its pixels says why
        return Header("image")
    mm = [None if np.isnan(one) else float(one) for one in spacing]
    return Header("image", frames=slices, spacing_mm=(mm[0], mm[1], mm[2]))


def _dicom(stream: io.BufferedReader) -> Header:
    if transfer_syntax(stream) in DEFLATED:
        raise ImageProblem("deflated_refused", "another transfer syntax than Deflated")
    stream.seek(0)
    tags = [tag for name in _ELEMENTS if (tag := tag_for_keyword(name)) is not None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = dcmread(stream, specific_tags=tags, stop_before_pixels=True)
    if str(found.file_meta.get("MediaStorageSOPClassUID", "")) == "1.2.840.10008.1.3.10":
        return Header("none")  # a DICOMDIR
    image_type = _text(found, "Modality")
    frames = int(found.get("NumberOfFrames") or 1)
    spacing, notes = pixel_spacing(found, found)
    between = next(
        (one for name in ("SpacingBetweenSlices", "SliceThickness") if (one := numbers_of(found, name))), None
    )
    view = _word(found, "ViewPosition")
    side = (_text(found, "ImageLaterality") or _text(found, "Laterality") or "").upper()
    image_uid, series_uid = _text(found, "SOPInstanceUID"), _text(found, "SeriesInstanceUID")
    return Header(
        "dicom",
        None if "Rows" in found else ("no_pixels", "a DICOM image"),
        image_type,
        hashed_uid(image_uid) if image_uid else None,
        hashed_uid(series_uid) if series_uid else None,
        _text(found, "PatientID"),
        _word(found, "BodyPartExamined"),
        None if view is None else _VIEWS.get(view, view),
        side if side in ("L", "R", "B") else None,
        _times(found),
        _burned_in(found, image_type),
        frames,
        (between[0] if between and between[0] > 0 else None, *(spacing or (None, None))),
        image_type in ("CT", "MR") and frames == 1 and series_uid is not None,
        "; ".join(notes) or None,
    )


def _burned_in(found: Dataset, image_type: str | None) -> Any:
    said = (_text(found, "BurnedInAnnotation") or "").upper()
    if said in ("YES", "NO"):
        return said.lower()
    captured = str(found.get("SOPClassUID", "")).startswith(_SECONDARY) or "ConversionType" in found
    return "likely" if captured or image_type == "US" else None


def _text(found: Dataset, name: str) -> str | None:
    return str(found.get(name) or "").strip() or None


def _word(found: Dataset, name: str) -> str | None:
    """A coded word; what does not look like one may be somebody's note, and is left out."""
    text = (_text(found, name) or "").upper()
    return text if _WORD.fullmatch(text) else None


def _times(found: Dataset) -> dict[str, str]:
    offset = _offset(_text(found, "TimezoneOffsetFromUTC") or "")
    times = {}
    for kind, (day, clock) in _TIMES.items():
        if (iso := _iso(_text(found, day) or "", _text(found, clock) or "")) is not None:
            times[kind] = iso + (offset if "T" in iso else "")
    together = re.fullmatch(r"(\d{8})([\d.]*)([+-]\d{4})?", _text(found, "AcquisitionDateTime") or "")
    if together is not None and (iso := _iso(together[1], together[2])) is not None:
        times["acquisition"] = iso + ((_offset(together[3] or "") or offset) if "T" in iso else "")
    return times


def _iso(day: str, clock: str) -> str | None:
    if not re.fullmatch(r"\d{8}", day) or day < "19000102":
        return None
    date = f"{day[:4]}-{day[4:6]}-{day[6:]}"
    found = re.fullmatch(r"(\d{2})(\d{2})(\d{2})?(\.\d{1,6})?", clock)
    return f"{date}T{found[1]}:{found[2]}:{found[3] or '00'}{found[4] or ''}" if found else date


def _offset(text: str) -> str:
    return f"{text[:3]}:{text[3:]}" if re.fullmatch(r"[+-]\d{4}", text) else ""


def _seen(path: Path, asked: Asked) -> Seen:
    picture = read_picture(path, series=asked.series)
    array = picture.array[0]
    digest = hashlib.blake2b(repr(array.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(array).data)
    low, high = np.percentile(array, (_EVEN_PERCENT, 100 - _EVEN_PERCENT))
    if not high > low:
        raise ImageProblem("blank", "pixels that differ from one another")
    flat = len(array) == 1
    spacing = [None if np.isnan(one) else float(one) for one in picture.spacing_mm]
    seen = Seen(None, digest.hexdigest(), None, len(array), (spacing[0], spacing[1], spacing[2]))
    seen = replace(seen, notes="; ".join(picture.notes) or None)
    if not flat:
        return seen
    if asked.checks is not None:
        _check(array[0], float(low), float(high), spacing[1:], asked, asked.checks)
    small = np.asarray(Image.fromarray(array[0]).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX), np.float32)
    small = small - small.mean()
    length = float(np.linalg.norm(small))
    return replace(seen, thumbnail=(small / length).astype(np.float32).tobytes() if length > 0 else None)


def _check(
    plane: NDArray[np.float32], low: float, high: float, spacing: list[float | None], asked: Asked, checks: PixelChecks
) -> None:
    rows, columns = plane.shape
    if max(rows, columns) > checks.longest_to_shortest * min(rows, columns):
        raise ImageProblem("cropped", f"sides of at most {checks.longest_to_shortest:g} to 1")
    unit = np.clip((plane - low) / (high - low), 0, 1)
    inner = [np.flatnonzero(np.ptp(unit, axis=axis) > 0.05) for axis in (1, 0)]
    share = np.prod(
        [(one[-1] - one[0] + 1) / side if len(one) else 0 for one, side in zip(inner, unit.shape, strict=True)]
    )
    if share < checks.least_content:
        raise ImageProblem("cropped", f"a picture that fills at least {100 * checks.least_content:g} % of its frame")
    if checks.least_mm is not None:
        sides = [side * one for side, one in zip(plane.shape, spacing, strict=True) if one is not None]
        if sides and min(sides) < checks.least_mm:
            raise ImageProblem("cropped", f"at least {checks.least_mm:g} mm each way")
    if checks.inverted == "refuse" and _inverted(unit, asked):
        raise ImageProblem("inverted", _CHEST_WANTED)


def _inverted(unit: NDArray[np.float32], asked: Asked) -> bool:
    """Whether black and white are exchanged, as far as the picture tells.

    A frontal chest is told by its middle, brighter than the lungs beside it; others by their background, which is air:
    where over a fifth of the picture is nearly white and next to nothing nearly black, white is the background.
    """
    frontal = asked.image_type in ("CR", "DX") and asked.body_part in ("CHEST", "THORAX") and asked.view != "LATERAL"
    if frontal:
        small = np.asarray(Image.fromarray(unit).resize((20, 20), Image.Resampling.BOX))
        lungs = np.concatenate([small[4:13, 3:8], small[4:13, 12:17]], axis=1)
        # White lungs can be as bright as the spine: only a clear difference counts.
        return bool(small[4:13, 9:11].mean() < lungs.mean() - _CLEARLY)
    white, black = float((unit > 0.95).mean()), float((unit < 0.05).mean())
    return asked.image_type in ("CR", "DX", "MG", "MR", "US") and white > 0.2 and black < 0.02
