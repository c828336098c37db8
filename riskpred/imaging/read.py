"""Reads image files, or says why not: whatever a file holds, it never crashes us.

`read_picture` gives all of it (channels, slices, place in the patient), `read_image` one grey picture, no larger than
wanted, fast. The format is told by the first bytes, not by the name. Sizes are checked before anything is decoded.
"""

import logging
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.encaps import get_frame
from pydicom.pixels import get_decoder, pixel_array
from pydicom.tag import Tag

from riskpred.config.imaging import Channels
from riskpred.imaging.dicom import (
    DEFLATED,
    UNCOMPRESSED,
    WRITTEN_OUT,
    BoundedBytes,
    pixel_bytes,
    transfer_syntax,
    whole,
)
from riskpred.imaging.dicom_frames import RLE, by_gdcm, check_frame, check_one, decoder_of, needs_gdcm, through_palette
from riskpred.imaging.dicom_picture import read_dicom
from riskpred.imaging.dicom_values import LUMINANCE
from riskpred.imaging.limits import MAX_FILE_BYTES, SMALLER, check_size
from riskpred.imaging.metaimage import is_metaimage, read_metaimage
from riskpred.imaging.nifti import is_nifti, read_nifti
from riskpred.imaging.paths import ImageProblem
from riskpred.imaging.picture import Picture
from riskpred.imaging.raster import FORMATS, GREY_MODES, JPEG_MAGIC, PNG_MAGIC, TIFF_MAGIC, read_raster
from riskpred.imaging.reduce import Reduced, block_mean, draft, jpeg2000, whole_factor
from riskpred.imaging.series import read_series

_PIXEL_DATA = Tag(0x7FE0, 0x0010)
_READABLE = "a DICOM (Part 10), PNG, JPEG or TIFF file that decodes whole"
ANY_FORMAT = "DICOM (Part 10), NIfTI, MetaImage, PNG, JPEG or TIFF that decodes whole"
_HEAD = 4096
"""Bytes that tell a format."""

# pydicom puts values of the file, a patient's name among them, into its log lines and warnings.
logging.getLogger("pydicom").disabled = True


@dataclass(frozen=True)
class Pixels:
    """One grey image: high is bright (MONOCHROME1 is turned over), values in the file's rescaled units.

    Shape: array (ceil(rows / factor), ceil(columns / factor)) float32, finite.
    spacing_mm: (row, column) in mm between pixels of the file, None where the file does not say.
    notes: what a reader of the picture should know (another spacing tag used, first of several frames).
    factor: pixels of the file, a side, behind one of these.   file_shape: (rows, columns) of the file; None = array's.
    """

    array: NDArray[np.float32]
    spacing_mm: tuple[float, float] | None = None
    notes: tuple[str, ...] = field(default=())
    factor: int = 1
    file_shape: tuple[int, int] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the file."""
        return self.file_shape or (self.array.shape[0], self.array.shape[1])


def read_image(path: Path, at_least: int | None = None) -> Pixels:
    """Read one file.

    Args:
        at_least: pixels wanted along the longer side; a larger picture may come reduced by a whole factor (averages, or
            what the codec does instead), never below that. None = every pixel of the file.

    DICOM: uncompressed, and what the installed pydicom decodes (RLE; JPEG baseline through Pillow; more with the
    imaging extra). Modality rescale is applied, the display window is not. Spacing is PixelSpacing, else
    ImagerPixelSpacing. Colour becomes luminance; of several frames the first is read.

    Raises: ImageProblem, its reason one of file_missing, file_too_large, unknown_format, too_many_pixels,
        deflated_refused, not_decodable (no decoder for this compression), no_pixels, colour_refused (palette and the
        like), unreadable (damaged or cut off).
    """
    return decode(read_file(path), at_least)


def read_file(path: Path) -> bytes:
    """All bytes of an image file. Raises: ImageProblem, file_missing or file_too_large."""
    try:
        with path.open("rb") as stream:
            if os.fstat(stream.fileno()).st_size > MAX_FILE_BYTES:
                raise ImageProblem("file_too_large", f"at most {MAX_FILE_BYTES // 2**20} MiB")
            return stream.read()
    except OSError:
        raise ImageProblem("file_missing", "a file that is there and readable") from None


def decode(data: bytes, at_least: int | None = None) -> Pixels:
    """What `read_image` does once the bytes are read: the same arguments, result and errors."""
    head = data[:132]
    if head[128:132] == b"DICM":
        read = _read_dicom
    elif head.startswith((PNG_MAGIC, JPEG_MAGIC, *TIFF_MAGIC)):
        read = _read_picture
    else:
        raise ImageProblem("unknown_format", _READABLE)
    with _told(_READABLE):
        pixels = read(data, at_least)
    if not np.isfinite(pixels.array).all():
        raise ImageProblem("unreadable", "finite pixel values")
    return pixels


@contextmanager
def _told(readable: str) -> Iterator[None]:
    """What a damaged file raises becomes a reason.

    A decoder may raise anything, and its text may hold values of the file, so only the kind is kept.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            yield
        except ImageProblem:
            raise
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            raise ImageProblem("too_many_pixels", SMALLER) from None  # Pillow looks before check_size can
        except FileNotFoundError:
            raise ImageProblem("file_missing", "a file that is there and readable") from None
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # a panic of a decoder in Rust is no Exception
            raise ImageProblem("unreadable", readable) from error


def read_picture(path: Path, channels: Channels = "grey", series: str | None = None) -> Picture:
    """Read all of a picture, volume, series or study.

    Args:
        path: a file, or a folder that holds one DICOM series.
        channels: "grey" (colour becomes luminance), "rgb" (grey becomes three equal ones), or patterns of names, one a
            channel: path is then a folder, and each pattern names one file (or series' folder) in it, read grey.
        series: which series to read, where path is a folder that holds several: as `images` has it. A pattern of file
            names may name PNG, JPEG or TIFF files: the slices of a volume of unknown spacing.

    DICOM: any of one or many frames, uncompressed, RLE, JPEG (lossless too), JPEG-LS and JPEG 2000, as far as decoders
    are installed (extra `imaging`). Modality rescale or table is applied, per frame where frames have their own; the
    display window is not. Slices come sorted along their normal.

    Raises: ImageProblem, its reason one of those of `read_image`, or not_a_series, several_series, series_missing,
        localiser_in_series, mixed_geometry, mixed_orientations, several_at_a_position, missing_slices;
        channel_missing, channel_ambiguous.
    """
    if isinstance(channels, tuple):
        return _study(path, channels)
    with _told(ANY_FORMAT):
        picture = read_series(path, channels, series) if path.is_dir() else _one_file(path, channels)
        if channels == "rgb" and picture.array.shape[0] == 1:
            picture = replace(picture, array=np.repeat(picture.array, 3, axis=0))
        if not np.isfinite(picture.array).all():
            raise ImageProblem("unreadable", "finite pixel values")
    return picture


def _one_file(path: Path, channels: Channels) -> Picture:
    try:
        with path.open("rb") as stream:
            if os.fstat(stream.fileno()).st_size > MAX_FILE_BYTES:
                raise ImageProblem("file_too_large", f"at most {MAX_FILE_BYTES // 2**20} MiB")
            head = stream.read(_HEAD)
    except OSError:
        raise ImageProblem("file_missing", "a file that is there and readable") from None
    if head[128:132] == b"DICM":
        return read_dicom(path, channels)
    if head.startswith((PNG_MAGIC, JPEG_MAGIC, *TIFF_MAGIC)):
        return read_raster(path, channels)
    if is_nifti(head):
        return read_nifti(path, channels)
    if is_metaimage(head):
        return read_metaimage(path, channels)
    raise ImageProblem("unknown_format", ANY_FORMAT)


def _study(folder: Path, patterns: tuple[str, ...]) -> Picture:
    """One channel per pattern, in that order. Raises: ImageProblem, besides: channel_missing, channel_ambiguous."""
    try:
        names = [name for name in os.listdir(folder) if not name.startswith(".")]
    except OSError:
        raise ImageProblem("file_missing", "a folder that is there and readable") from None
    parts = list[Picture]()
    for pattern in patterns:
        found = [name for name in names if fnmatchcase(name, pattern)]
        if len(found) != 1:
            reason = "channel_ambiguous" if found else "channel_missing"
            raise ImageProblem(reason, f"one file named like {pattern!r}, not {len(found)}")
        if (folder / found[0]).is_symlink():
            raise ImageProblem("path_refused", "files of the folder itself, not links")
        parts.append(read_picture(folder / found[0]))
    first = parts[0]
    for one in parts[1:]:
        same = ("spacing_mm", "origin_mm", "direction")
        if one.shape != first.shape or not all(_alike(getattr(one, name), getattr(first, name)) for name in same):
            raise ImageProblem("mixed_geometry", "files of one grid, one a channel")
    notes = tuple(dict.fromkeys(note for one in parts for note in one.notes))
    array = np.concatenate([one.array for one in parts])
    return replace(first, array=array, window=None, notes=notes)


def _alike(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Within a hundredth of a millimetre, and unknown where the other is."""
    return bool(np.allclose(one, other, rtol=1e-3, atol=1e-2, equal_nan=True))


def _read_picture(data: bytes, at_least: int | None) -> Pixels:
    with Image.open(BytesIO(data), formats=FORMATS) as picture:
        check_size(picture.height, picture.width, 1)
        if picture.format == "PNG":
            # Decoding stops at the last pixel; this reads on to the end and compares the checksums.
            picture.verify()
    with Image.open(BytesIO(data), formats=FORMATS) as picture:
        shape = picture.height, picture.width
        factor = draft(picture, at_least)
        pages = int(getattr(picture, "n_frames", 1)) if picture.format == "TIFF" else 1
        notes = () if pages == 1 else (f"first of {pages} pages",)
        if picture.mode in GREY_MODES:
            return _pixels(Reduced(np.asarray(picture), factor), shape, at_least, notes=notes)
        notes = notes if picture.mode == "1" else (*notes, "colour read as luminance")
        # A palette or alpha goes through RGB: "L" would read the palette's indices.
        grey = picture.convert("L") if picture.mode in ("1", "LA", "RGB") else picture.convert("RGB").convert("L")
        return _pixels(Reduced(np.asarray(grey), factor), shape, at_least, notes=notes)


def _pixels(
    raw: Reduced,
    shape: tuple[int, int],
    at_least: int | None,
    spacing_mm: tuple[float, float] | None = None,
    notes: tuple[str, ...] = (),
) -> Pixels:
    """Raw values as pixels, averaged down where they are still much larger than wanted."""
    more = whole_factor(raw.array.shape[0], raw.array.shape[1], at_least)
    return Pixels(block_mean(raw.array, more), spacing_mm, notes, raw.factor * more, shape)


def _read_dicom(data: bytes, at_least: int | None) -> Pixels:
    syntax = transfer_syntax(BytesIO(data))
    # Before anything else is read: a deflated data set inflates whole, however large.
    if syntax in DEFLATED:
        raise ImageProblem("deflated_refused", "another transfer syntax than Deflated")
    # One pass: the bytes read are those of the file, already bounded; nothing is decoded before the size is checked.
    dataset = dcmread(BoundedBytes(data))
    rows, columns = whole(dataset, "Rows"), whole(dataset, "Columns")
    frames = whole(dataset, "NumberOfFrames", 1)
    check_size(rows, columns, frames)
    samples, bits = whole(dataset, "SamplesPerPixel", 1), whole(dataset, "BitsAllocated")
    photometric = str(dataset.get("PhotometricInterpretation", "")).strip()
    grey = samples == 1 and photometric in ("MONOCHROME1", "MONOCHROME2")
    palette = samples == 1 and photometric == "PALETTE COLOR"
    if not (grey or palette) and not (samples == 3 and (photometric == "RGB" or photometric.startswith("YBR_"))):
        raise ImageProblem("colour_refused", "MONOCHROME1, MONOCHROME2, PALETTE COLOR, RGB or YBR pixels")
    if palette and "RedPaletteColorLookupTableData" not in dataset:
        raise ImageProblem("colour_refused", WRITTEN_OUT)
    notes = [] if frames == 1 else [f"first of {frames} frames"]
    if not 1 <= whole(dataset, "BitsStored", bits) <= bits:
        raise ImageProblem("unreadable", "as many bits stored as allocated, or fewer")
    if syntax in UNCOMPRESSED:
        if len(data) < pixel_bytes(rows * columns * frames, samples, bits, photometric):
            raise ImageProblem("unreadable", "a file as long as its header says")
    elif not get_decoder(syntax).is_available:
        raise ImageProblem("not_decodable", "uncompressed, or a compression with an installed decoder")
    if _PIXEL_DATA not in dataset:
        raise ImageProblem("no_pixels", "an element PixelData")
    check_one(syntax, rows, columns, samples, bits, len(data))
    if syntax not in UNCOMPRESSED and syntax != RLE:
        check_frame(get_frame(dataset.PixelData, 0, number_of_frames=frames), rows, columns, samples)
    raw = jpeg2000(dataset, frames, at_least if grey else None)
    if raw is None and needs_gdcm(dataset, syntax):
        raw = Reduced(by_gdcm(get_frame(dataset.PixelData, 0, number_of_frames=frames), dataset), 1)
    raw = raw or Reduced(np.asarray(pixel_array(dataset, index=0, decoding_plugin=decoder_of(syntax))), 1)
    if palette:
        raw = Reduced(through_palette(raw.array, dataset), 1)
    if raw.array.ndim == 3:
        grey_values = raw.array.astype(np.float32) @ LUMINANCE
        raw, notes = Reduced(grey_values, raw.factor), [*notes, "colour read as luminance"]
    if raw.array.shape != (-(-rows // raw.factor), -(-columns // raw.factor)):
        raise ImageProblem("unreadable", "pixels of the shape that the header says")
    spacing, note = _spacing(dataset)
    pixels = _pixels(raw, (rows, columns), at_least, spacing, tuple(notes + note))
    slope, intercept = _number(dataset, "RescaleSlope", 1.0), _number(dataset, "RescaleIntercept", 0.0)
    array = pixels.array * np.float32(slope) + np.float32(intercept)
    if photometric == "MONOCHROME1":
        array = array.max() + array.min() - array
    return replace(pixels, array=array)


def _number(dataset: Dataset, name: str, default: float) -> float:
    value = dataset.get(name)
    return default if value is None or value == "" else float(value)


def _spacing(dataset: Dataset) -> tuple[tuple[float, float] | None, list[str]]:
    """(row, column) spacing in mm and a note; None where no element gives two positive numbers."""
    for name in ("PixelSpacing", "ImagerPixelSpacing"):
        value = dataset.get(name)
        if value is None or isinstance(value, str) or len(value) != 2:
            continue
        row, column = float(value[0]), float(value[1])
        if math.isfinite(row) and math.isfinite(column) and row > 0 and column > 0:
            note = [] if name == "PixelSpacing" else ["spacing is that of the detector, not of the body"]
            return (row, column), note
    return None, []
