"""Decodes large pictures smaller, where the codec can or whole pixels can be averaged: less work, the same picture.

A picture is never made smaller than `at_least` along its longer side, so what `prepare` averages afterwards stays
within its rounding of the average of all pixels.
"""

from dataclasses import dataclass
from io import BytesIO
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.utils import get_j2k_parameters

_JPEG_SCALES: Final = (8, 4, 2)
"""Factors by which a JPEG can be decoded smaller: an 8 x 8 block becomes 1, 2 or 4 pixels a side."""

_JPEG2000: Final = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
_MOST_HALVINGS: Final = 5
"""Encoders write 5 halvings unless told otherwise; a file with fewer is decoded whole."""

_JPEG2000_MARGIN: Final = 2
"""A halved JPEG 2000 is a low-pass, not a mean, and has to be moved: it is kept this much larger."""


@dataclass(frozen=True)
class Reduced:
    """Raw values, before any rescale. `factor`: pixels of the file, a side, behind one of these.

    Shape: array (ceil(rows / factor), ceil(columns / factor)).
    """

    array: NDArray[np.generic]
    factor: int


def whole_factor(rows: int, columns: int, at_least: int | None) -> int:
    """The largest whole factor that leaves `at_least` pixels along the longer side; 1 = as it is.

    Example:
        >>> whole_factor(1024, 900, 128), whole_factor(200, 100, 128), whole_factor(1024, 900, None)
        (8, 1, 1)
    """
    return 1 if at_least is None else max(1, max(rows, columns) // at_least)


def draft(picture: Image.Image, at_least: int | None) -> int:
    """Tell an unread JPEG to decode smaller; the factor it will have. Other formats are left as they are."""
    if at_least is None or picture.format != "JPEG":
        return 1
    width, height = picture.size
    factor = next((scale for scale in _JPEG_SCALES if max(width, height) // scale >= at_least), 1)
    if factor > 1:
        picture.draft(picture.mode, (max(1, width // factor), max(1, height // factor)))
        # Pillow chooses; what it chose is told by the size, along the side that has more to tell.
        longer, now = max(width, height), max(picture.size)
        factor = next(scale for scale in (1, 2, 4, 8) if -(-longer // scale) == now)
    return factor


def block_mean(array: NDArray[np.generic], factor: int) -> NDArray[np.float32]:
    """Mean of factor x factor pixels; blocks at the far edges are as small as what is left.

    Example:
        >>> block_mean(np.array([[1, 3, 5], [1, 3, 7]], dtype=np.uint16), 2)
        array([[2., 6.]], dtype=float32)
    """
    if factor == 1:
        return np.asarray(array, dtype=np.float32)
    return _column_means(_row_means(array, factor), factor)


def jpeg2000(dataset: Dataset, frames: int, at_least: int | None) -> Reduced | None:
    """The first frame of a grey JPEG 2000 DICOM at a fraction of its size; None where it has to be decoded whole.

    None: not JPEG 2000, too small to gain, colour, another sign than the header says, fewer halvings than needed, or
    a size that the decoder cannot reduce.
    """
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    if at_least is None or syntax not in _JPEG2000 or int(dataset.get("SamplesPerPixel", 1)) != 1:
        return None
    factor = whole_factor(int(dataset.Rows), int(dataset.Columns), at_least * _JPEG2000_MARGIN)
    halvings = min(_MOST_HALVINGS, factor.bit_length() - 1)
    if halvings < 1:
        return None
    frame = get_frame(dataset.PixelData, 0, number_of_frames=frames)
    about = get_j2k_parameters(frame)
    precision, signed = int(about.get("precision", 0)), bool(about.get("is_signed", False))
    if not 0 < precision <= 16 or signed != bool(dataset.PixelRepresentation) or _halvings(frame) < halvings:
        return None
    try:
        with Image.open(BytesIO(frame), formats=("JPEG2000",)) as picture:
            picture.reduce = halvings  # type: ignore[method-assign,assignment]
            values = np.asarray(picture)
    except OSError:
        # Pillow cannot reduce every size that it can read. What is broken fails again when it is decoded whole.
        return None
    if values.dtype not in (np.uint8, np.uint16):
        return None
    # Pillow lifts every precision to 8 or 16 bits, and signed values above 0: both are undone here.
    raw = (values >> (values.dtype.itemsize * 8 - precision)).astype(np.float32)
    return Reduced(_centred(raw - (1 << (precision - 1)) if signed else raw, 1 << halvings), 1 << halvings)


def _centred(array: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """A halved JPEG 2000 lies where every `factor`-th pixel lay; moved to the middle of the pixels it stands for."""
    share = np.float32((factor - 1) / (2 * factor))
    down = array.copy()
    down[:-1] += share * (array[1:] - array[:-1])
    across = down.copy()
    across[:, :-1] += share * (down[:, 1:] - down[:, :-1])
    return across


def _halvings(codestream: bytes) -> int:
    """Decomposition levels in the COD marker of a JPEG 2000 code stream; 0 where there is none to be found."""
    at = codestream.find(b"\xff\x52")
    return codestream[at + 9] if 0 <= at < len(codestream) - 9 else 0


def _row_means(array: NDArray[np.generic], factor: int) -> NDArray[np.float32]:
    """Mean of each `factor` rows; the last one of those that are left. Shape: (rows, columns) -> (blocks, columns)."""
    rows, columns = array.shape
    blocks, left = divmod(rows, factor)
    result = np.zeros((blocks + (left > 0), columns), dtype=np.float32)
    # Row by row of all blocks at once: numpy's own reduction over a middle axis takes over twice as long.
    parts = array[: blocks * factor].reshape(blocks, factor, columns)
    total = np.zeros((blocks, columns), dtype=array.dtype if _sums_fit(array, factor) else np.float32)
    for row in range(factor):
        total += parts[:, row]
    result[:blocks] = total
    result[:blocks] /= factor
    if left:
        result[blocks] = array[blocks * factor :].mean(axis=0, dtype=np.float32)
    return result


def _sums_fit(array: NDArray[np.generic], factor: int) -> bool:
    """Whether sums of `factor` values stay within the array's own whole numbers: exact, and several times as fast."""
    if array.dtype.kind not in "iu" or array.dtype.itemsize > 2 or not array.size:
        return False
    limits = np.iinfo(str(array.dtype))
    low, high = int(array.min()) * factor, int(array.max()) * factor
    return bool(limits.min <= low and high <= limits.max)


def _column_means(array: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """The same of columns. Shape: (rows, columns) -> (rows, blocks)."""
    rows, columns = array.shape
    blocks, left = divmod(columns, factor)
    result = np.zeros((rows, blocks + (left > 0)), dtype=np.float32)
    parts = array[:, : blocks * factor].reshape(rows, blocks, factor)
    for column in range(factor):
        result[:, :blocks] += parts[:, :, column]
    result[:, :blocks] /= factor
    if left:
        result[:, blocks] = array[:, blocks * factor :].mean(axis=1, dtype=np.float32)
    return result
