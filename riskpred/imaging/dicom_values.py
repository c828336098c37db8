"""From the stored values of DICOM frames to what they measure: rescale or table, padding left out, high = bright."""

from typing import Final, cast

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels import apply_modality_lut

from riskpred.imaging.dicom import Header, group, number, numbers_of

LUMINANCE: Final = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Shares of red, green and blue in the brightness of a colour (ITU-R BT.601)."""


def values(header: Header, frame: NDArray[np.generic], index: int) -> NDArray[np.float32]:
    """One frame of stored values in rescaled units; padding is NaN. Shape: (rows, columns) or (rows, columns, 3)."""
    units = group(header.dataset, index, "PixelValueTransformationSequence")
    if frame.ndim == 3:
        return frame.astype(np.float32)
    padded = _padding(header, frame)
    if units.get("ModalityLUTSequence"):
        table = np.asarray(apply_modality_lut(frame, units), dtype=np.float32)
    else:
        slope, intercept = number(units, "RescaleSlope"), number(units, "RescaleIntercept")
        table = _rescaled(frame, 1.0 if slope is None else slope, intercept or 0.0)
    if padded is not None:
        table[padded] = np.nan
    return table


def _rescaled(frame: NDArray[np.generic], slope: float, intercept: float) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return frame.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def _padding(header: Header, frame: NDArray[np.generic]) -> NDArray[np.bool_] | None:
    """Which stored values say that nothing was measured there; None where none does."""
    value = number(header.dataset, "PixelPaddingValue")
    if value is None or not np.issubdtype(frame.dtype, np.integer):
        return None
    limit = number(header.dataset, "PixelPaddingRangeLimit")
    low, high = sorted(_stored(each, header) for each in (value, value if limit is None else limit))
    numbers = cast(NDArray[np.int64], frame)  # integers of some kind
    padded = (numbers >= low) & (numbers <= high)
    return padded if padded.any() else None


def _stored(value: float, header: Header) -> int:
    """A padding value as the pixels hold it: writers mix up signed and unsigned."""
    whole, span = int(value), 1 << header.bits
    signed = bool(header.dataset.get("PixelRepresentation", 0))
    if signed and whole >= span // 2:
        return whole - span
    return whole + span if not signed and whole < 0 else whole


def finish(header: Header, array: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, list[str]]:
    """All frames together: what was padded becomes as dark as the darkest, MONOCHROME1 is turned over.

    Shape: array any, changed in place.   Returns: array, what a value v became (c - v; NaN: as it was), notes.
    """
    notes, turned = list[str](), np.nan
    if not header.grey:
        return array, turned, notes
    missing = np.isnan(array)
    padded = bool(missing.any())
    if padded and missing.all():
        array[...] = 0
        return array, turned, ["padding everywhere"]
    if header.photometric == "MONOCHROME1":
        low, high = np.nanmin(array), np.nanmax(array)
        turned = float(high + low)
        np.subtract(high + low, array, out=array)
    if padded:
        array[missing] = np.nanmin(array)
        notes.append("padding is shown as dark as the darkest pixel")
    return array, turned, notes


def window(dataset: Dataset, index: int, turned: float) -> tuple[float, float] | None:
    """(centre, width) of the first display window of a frame, as its values became in `finish`; None without one."""
    wanted = group(dataset, index, "FrameVOILUTSequence")
    centre, width = numbers_of(wanted, "WindowCenter"), numbers_of(wanted, "WindowWidth")
    if centre is None or width is None or width[0] <= 0:
        return None
    return (centre[0] if np.isnan(turned) else turned - centre[0]), width[0]
