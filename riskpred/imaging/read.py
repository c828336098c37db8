"""Reads one DICOM, PNG or JPEG file into grey pixels, or says why not: whatever a file holds, it never crashes us.

The format is told by the first bytes, not by the name. Sizes are checked before anything is decoded.
"""

import logging
import math
import os
import warnings
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.filereader import read_dataset
from pydicom.pixels import get_decoder, pixel_array
from pydicom.tag import BaseTag, Tag

from riskpred.config.imaging import Channels
from riskpred.imaging.paths import ImageProblem
from riskpred.imaging.picture import Picture
from riskpred.imaging.reduce import Reduced, block_mean, draft, jpeg2000, whole_factor

MAX_PIXELS = 89_478_485
"""Rows x columns at most: where Pillow begins to warn of a decompression bomb."""

MAX_VOLUME = 2**28
"""Rows x columns x frames at most."""

MAX_FILE_BYTES = 2**30

_DEFLATED = ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.8.1")
_UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
_PIXEL_DATA = Tag(0x7FE0, 0x0010)
_SMALLER = f"at most {MAX_PIXELS:,} pixels, {MAX_VOLUME:,} over all frames"
_READABLE = "a DICOM (Part 10), PNG or JPEG file that decodes whole"

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
    elif head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        read = _read_picture
    else:
        raise ImageProblem("unknown_format", _READABLE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            pixels = read(data, at_least)
        except ImageProblem:
            raise
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            raise ImageProblem("too_many_pixels", _SMALLER) from None  # Pillow looks before _check_size can
        except Exception as error:
            # A damaged file may raise anything in a decoder; its text may hold values, so only the kind is kept.
            raise ImageProblem("unreadable", _READABLE) from error
    if not np.isfinite(pixels.array).all():
        raise ImageProblem("unreadable", "finite pixel values")
    return pixels


def _read_picture(data: bytes, at_least: int | None) -> Pixels:
    with Image.open(BytesIO(data), formats=("PNG", "JPEG")) as picture:
        _check_size(picture.height, picture.width, 1)
        if picture.format == "PNG":
            # Decoding stops at the last pixel; this reads on to the end and compares the checksums.
            picture.verify()
    with Image.open(BytesIO(data), formats=("PNG", "JPEG")) as picture:
        shape = picture.height, picture.width
        factor = draft(picture, at_least)
        if picture.mode in ("L", "I;16", "I;16B", "I", "F"):
            return _pixels(Reduced(np.asarray(picture), factor), shape, at_least)
        notes = () if picture.mode == "1" else ("colour read as luminance",)
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


def _syntax(data: bytes) -> str:
    """Transfer syntax of a Part 10 file, from its file meta information alone: nothing behind it is inflated."""
    stream = BytesIO(data)
    stream.seek(132)

    def behind(tag: BaseTag, vr: str | None, length: int) -> bool:
        return bool(tag.group != 2)

    meta = read_dataset(stream, is_implicit_VR=False, is_little_endian=True, stop_when=behind)
    return str(meta.TransferSyntaxUID)


def _read_dicom(data: bytes, at_least: int | None) -> Pixels:
    syntax = _syntax(data)
    # Before anything else is read: a deflated data set inflates whole, however large.
    if syntax in _DEFLATED:
        raise ImageProblem("deflated_refused", "another transfer syntax than Deflated")
    # One pass: the bytes read are those of the file, already bounded; nothing is decoded before the size is checked.
    dataset = dcmread(BytesIO(data))
    rows, columns = _whole(dataset, "Rows"), _whole(dataset, "Columns")
    frames = _whole(dataset, "NumberOfFrames", 1)
    _check_size(rows, columns, frames)
    samples, bits = _whole(dataset, "SamplesPerPixel", 1), _whole(dataset, "BitsAllocated")
    photometric = str(dataset.get("PhotometricInterpretation", "")).strip()
    grey = samples == 1 and photometric in ("MONOCHROME1", "MONOCHROME2")
    if not grey and not (samples == 3 and (photometric == "RGB" or photometric.startswith("YBR_"))):
        raise ImageProblem("colour_refused", "MONOCHROME1, MONOCHROME2, RGB or YBR pixels")
    notes = [] if frames == 1 else [f"first of {frames} frames"]
    if syntax in _UNCOMPRESSED:
        needed = rows * columns * frames * samples * bits // 8
        if len(data) < needed:
            raise ImageProblem("unreadable", "a file as long as its header says")
    elif not get_decoder(syntax).is_available:
        raise ImageProblem("not_decodable", "uncompressed, or a compression with an installed decoder")
    if _PIXEL_DATA not in dataset:
        raise ImageProblem("no_pixels", "an element PixelData")
    raw = jpeg2000(dataset, frames, at_least) or Reduced(np.asarray(pixel_array(dataset, index=0)), 1)
    if samples == 3:
        grey_values = raw.array.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
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


def _check_size(rows: int, columns: int, frames: int) -> None:
    if rows * columns > MAX_PIXELS or rows * columns * frames > MAX_VOLUME:
        raise ImageProblem("too_many_pixels", _SMALLER)


def _whole(dataset: Dataset, name: str, default: int | None = None) -> int:
    """A whole number of 1 or more. Raises: ImageProblem, when it is absent without a default, or anything else."""
    value = dataset.get(name)
    if value is None or value == "":
        if default is not None:
            return default
        raise ImageProblem("no_pixels", f"the element {name}")
    number = int(value)
    if number < 1:
        raise ImageProblem("no_pixels", f"{name} of 1 or more")
    return number


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


def read_picture(path: Path, channels: Channels = "grey") -> Picture:
    """One file at its full size. Raises: ImageProblem."""
    data = read_file(path)
    spacing: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()
    if channels == "rgb" and data.startswith((b"\x89PNG", b"\xff\xd8\xff")):
        decode(data)  # its checks
        with Image.open(BytesIO(data), formats=("PNG", "JPEG")) as opened:
            array = np.moveaxis(np.asarray(opened.convert("RGB"), dtype=np.float32), -1, 0)[:, None]
    elif channels == "grey":
        pixels = decode(data)
        array, spacing, notes = pixels.array[None, None], pixels.spacing_mm, pixels.notes
    else:
        raise ImageProblem("channels_differ", "a file with the channels that the study names")
    mm = np.full(3, np.nan)
    mm[1:] = spacing or np.nan
    return Picture(array, mm, np.full(3, np.nan), np.full((3, 3), np.nan), notes=notes)
