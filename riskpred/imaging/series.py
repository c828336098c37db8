"""A folder that holds one DICOM series becomes one volume, its slices sorted by their position in the patient; or
pictures of it with names of one pattern do, sorted by the numbers in their names."""

import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from pydicom import dcmread

from riskpred.config.imaging import Channels
from riskpred.imaging.dicom import DEFLATED, PIXELS, Header, open_dicom, transfer_syntax
from riskpred.imaging.dicom_frames import check_decoding, stored
from riskpred.imaging.dicom_geometry import SAME_PLACE_MM, Place, place, stack
from riskpred.imaging.dicom_picture import colour_notes, empty, labels, planes, read_dicom
from riskpred.imaging.dicom_values import finish, values, window
from riskpred.imaging.limits import MAX_FILE_BYTES, check_memory, check_size
from riskpred.imaging.paths import ImageProblem
from riskpred.imaging.picture import Picture
from riskpred.imaging.raster import read_rasters
from riskpred.records.image_path import ANY, named_like
from riskpred.records.ingest.identifiers import hashed_uid

T = TypeVar("T")

MOST_FILES: Final = 5_000
_ONE: Final = "a folder that holds the files of one DICOM series and nothing else"
_LEFT_OUT: Final = frozenset({"DICOMDIR", "Thumbs.db", "LICENSE", "README.txt"})
_READING: Final = ".xml"
"""What readers drew, which archives (LIDC-IDRI's) put beside the slices."""


def files_of(folder: Path) -> list[Path]:
    """Files of a series' folder by name, without hidden ones, DICOMDIR and readings. Raises: ImageProblem."""
    found = list[Path]()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name in _LEFT_OUT or _is_reading(entry):
                continue
            if not entry.is_file(follow_symlinks=False) or len(found) == MOST_FILES:
                raise ImageProblem("not_a_series", f"{_ONE}, {MOST_FILES:,} at most, none of them a link or a folder")
            found.append(Path(entry.path))
    if not found:
        raise ImageProblem("not_a_series", _ONE)
    return sorted(found)


def files_of_series(folder: Path, series: str) -> list[Path]:
    """Files of one series of a folder that holds others too, by name; what is no DICOM file is passed over.

    Args: series: hashed_uid of its SeriesInstanceUID; or a pattern of names with a `*`: these files, of any format.
    Raises: ImageProblem: series_missing.
    """
    if ANY in series:
        return _slices(folder, series)
    found = list[Path]()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False) and _series_of(Path(entry.path)) == series:
                found.append(Path(entry.path))
    if not 0 < len(found) <= MOST_FILES:
        raise ImageProblem("series_missing", f"a folder with 1 to {MOST_FILES:,} files of the series that is named")
    return sorted(found)


def _slices(folder: Path, names: str) -> list[Path]:
    found = named_like(folder, names)
    if not 0 < len(found) <= MOST_FILES:
        raise ImageProblem("series_missing", f"1 to {MOST_FILES:,} files, no links, with names of the pattern")
    return found


def _series_of(path: Path) -> str | None:
    """hashed_uid of the file's SeriesInstanceUID; None where it has none, or is not readable: no part of any series."""
    try:
        with path.open("rb") as stream:
            if stream.read(132)[128:] != b"DICM" or transfer_syntax(stream) in DEFLATED:
                return None
            stream.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = dcmread(stream, specific_tags=["SeriesInstanceUID"], stop_before_pixels=True)
    except Exception:  # noqa: BLE001 - a damaged neighbour may raise anything, and costs only itself
        return None
    uid = str(found.get("SeriesInstanceUID") or "").strip()
    return hashed_uid(uid) if uid else None


def _is_reading(entry: "os.DirEntry[str]") -> bool:
    return entry.name.lower().endswith(_READING) and entry.is_file(follow_symlinks=False)


def read_series(folder: Path, channels: Channels, series: str | None = None) -> Picture:
    """The series as a volume.

    Args: series: which one of a folder that holds several (`files_of_series`); None = the folder holds one and nothing
        else.

    Copies of a slice are left out, with a note. Raises: ImageProblem, besides those of a file: not_a_series,
    several_series, series_missing, localiser_in_series, mixed_geometry, mixed_orientations, several_at_a_position,
    missing_slices.
    """
    paths = files_of(folder) if series is None else files_of_series(folder, series)
    dicom = [_is_dicom(path) for path in paths]
    if series is not None and ANY in series and not any(dicom):
        picture = read_rasters(paths, channels)
        return replace(picture, notes=(*picture.notes, *_gaps(paths)))
    if not all(dicom):
        raise ImageProblem("not_a_series", _ONE)
    if len(paths) == 1:
        return read_dicom(paths[0], channels)
    headers = [open_dicom(path, pixels=False) for path in paths]
    _check_alike(headers)
    places = [place(header.dataset, 0) for header in headers]
    kept, notes = _without_copies(paths, places)
    paths, headers, places = _chosen(kept, paths), _chosen(kept, headers), _chosen(kept, places)
    first, bytes_all = headers[0], sum(header.file_bytes for header in headers)
    check_size(first.rows, first.columns, len(paths))
    if bytes_all > MAX_FILE_BYTES:
        raise ImageProblem("file_too_large", f"at most {MAX_FILE_BYTES // 2**20} MiB over all files of a series")
    check_memory(len(paths) * first.rows * first.columns * (3 if channels == "rgb" else 1), 2, bytes_all)
    if any(one.position is None or one.axes is None for one in places):
        by_number = sorted(range(len(paths)), key=lambda at: int(headers[at].dataset.get("InstanceNumber") or 0))
        paths, headers, places = _chosen(by_number, paths), _chosen(by_number, headers), _chosen(by_number, places)
    placed = stack(places, one_file=False)
    array = empty(first, len(paths), channels)
    for slot, at in enumerate(placed.order):
        header = open_dicom(paths[at])
        _check_same(first, header)
        check_decoding(header)
        array[:, slot] = planes(values(header, next(iter(stored(header))), 0), channels)
    array, turned, more = finish(first, array)
    return Picture(
        array,
        np.array([placed.thick_mm, *(places[0].spacing_mm or (np.nan, np.nan))]),
        placed.origin_mm,
        placed.direction,
        **labels(first, 0),
        window=window(first.dataset, 0, turned) if first.grey else None,
        notes=(*placed.notes, *notes, *more, *colour_notes(first, channels)),
    )


def _gaps(paths: Sequence[Path]) -> list[str]:
    """A note where the numbers of slices skip some: the one number that names differ in, if it is one."""
    numbers = np.array([[int(one) for one in re.findall("[0-9]+", path.name)] for path in paths], dtype=object)
    if numbers.ndim != 2:
        return []
    differ = [column for column in numbers.T if len(set(column)) > 1]
    missing = int(differ[0][-1] - differ[0][0]) + 1 - len(paths) if len(differ) == 1 else 0
    return [f"{missing:,} numbers between those of the first and the last slice have no file"] if missing > 0 else []


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _chosen(which: Sequence[int], every: Sequence[T]) -> list[T]:
    return [every[at] for at in which]


def _check_alike(headers: Sequence[Header]) -> None:
    """Raises: ImageProblem, where the files are not slices of one series."""
    if len({str(header.dataset.get("SeriesInstanceUID", "")) for header in headers}) > 1:
        raise ImageProblem("several_series", _ONE)
    kinds = [[str(kind) for kind in header.dataset.get("ImageType") or ()] for header in headers]
    localisers = sum("LOCALIZER" in kind for kind in kinds)
    if 0 < localisers < len(headers):
        raise ImageProblem("localiser_in_series", "slices without a localiser among them")
    if any(header.frames > 1 for header in headers):
        raise ImageProblem("several_series", "a series of one frame a file, or one file")
    for header in headers:
        _check_same(headers[0], header)
    spacings = [place(header.dataset, 0).spacing_mm for header in headers]
    if any(not _near(spacings[0], spacing) for spacing in spacings):
        raise ImageProblem("mixed_geometry", "slices of one pixel spacing")


def _check_same(first: Header, other: Header) -> None:
    for one in ("rows", "columns", "samples", "photometric", "frames"):
        if getattr(first, one) != getattr(other, one):
            raise ImageProblem("mixed_geometry", "slices of one size and one kind of pixels")


def _near(one: tuple[float, float] | None, other: tuple[float, float] | None) -> bool:
    if one is None or other is None:
        return one is other
    return bool(np.allclose(one, other, rtol=1e-3))


def _without_copies(paths: Sequence[Path], places: Sequence[Place]) -> tuple[list[int], list[str]]:
    """Which files to read: one of each that lie at one position with the same pixels, and what was left out."""
    seen, kept = dict[tuple[int, ...], list[int]](), list[int]()
    for at, one in enumerate(places):
        if one.position is None:
            kept.append(at)
            continue
        key = tuple(round(mm / SAME_PLACE_MM) for mm in one.position)
        same = seen.setdefault(key, [])
        if not any(_pixels(paths[at]) == _pixels(paths[other]) for other in same):
            same.append(at)
            kept.append(at)
    left = len(paths) - len(kept)
    return kept, [f"{left} copies of slices left out"] if left else []


def _pixels(path: Path) -> bytes:
    dataset = open_dicom(path).dataset
    return sha256(b"".join(bytes(dataset[name].value or b"") for name in PIXELS if name in dataset)).digest()
