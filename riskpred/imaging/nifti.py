"""NIfTI-1 and -2 volumes (.nii, .nii.gz) as pictures: packed or not, scaled, placed in LPS.

nibabel reads the header; the pixels are read here, so that nothing is unpacked beyond what the header promises.
"""

import zlib
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from riskpred.config.imaging import Channels
from riskpred.imaging.dicom_values import LUMINANCE
from riskpred.imaging.inflate import GZIP_MAGIC, inflate
from riskpred.imaging.limits import MAX_VOLUME, check_memory, check_size
from riskpred.imaging.paths import ImageProblem
from riskpred.imaging.picture import Picture

_HEAD: Final = 540
"""Bytes of a NIfTI-2 header; one of NIfTI-1 has 348."""

_ENOUGH: Final = 4096
"""Bytes of a file, packed or not, that hold the header."""

_MAGIC: Final = {344: b"n+1\0", 4: b"n+2\0\r\n\x1a\n"}
_MILLIMETRES: Final = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 1e-3}
"""By the unit of space that a header may have: none, metre, millimetre, micrometre."""

_TO_LPS: Final = np.diag([-1.0, -1.0, 1.0])
"""NIfTI's x grows to the right and y to the front."""

_MOST_OFFSET: Final = 2**24


def is_nifti(head: bytes) -> bool:
    """Whether these first bytes, some hundreds, are of a NIfTI file, gzipped or not."""
    if head.startswith(GZIP_MAGIC):
        try:
            head = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, _HEAD)
        except zlib.error:
            return False
    return any(head[at : at + len(magic)] == magic for at, magic in _MAGIC.items())


def nifti_size(path: Path) -> tuple[int, NDArray[np.float64]]:
    """Slices and spacing (3,) mm by the header alone. Raises: ImageProblem; another where it is damaged."""
    with path.open("rb") as stream:
        header, shape = _header(stream.read(_ENOUGH))
    return (*shape, 1)[2], _placed(header, [])[0]


def _header(data: bytes) -> tuple[Any, tuple[int, ...]]:
    """The header and the shape that it says, columns first."""
    import nibabel

    head = inflate(data, _HEAD) if data.startswith(GZIP_MAGIC) else data[:_HEAD]
    two = head[4:8] == _MAGIC[4][:4]
    header = (nibabel.Nifti2Header if two else nibabel.Nifti1Header).from_fileobj(BytesIO(head))
    shape = tuple(int(size) for size in header.get_data_shape())
    if not 2 <= len(shape) <= 7 or min(shape) < 1:
        raise ImageProblem("no_pixels", "2 to 7 dimensions of 1 or more")
    return header, shape


def read_nifti(path: Path, channels: Channels) -> Picture:
    """A file in one piece; of a series of volumes the first. Raises: ImageProblem; another where it is damaged."""
    data = path.read_bytes()
    packed = data.startswith(GZIP_MAGIC)
    header, shape = _header(data)
    columns, rows, slices = (*shape, 1)[:3]
    check_size(rows, columns, slices)
    volumes = int(np.prod(shape[3:], dtype=object))
    dtype, offset = header.get_data_dtype(), int(header.get_data_offset())
    colour = dtype.fields is not None
    if not colour and dtype.kind not in "iufb":
        raise ImageProblem("colour_refused", "whole or real numbers, or colours of 8 bits")
    wanted = columns * rows * slices
    if not 0 <= offset <= _MOST_OFFSET or wanted * volumes > MAX_VOLUME:
        raise ImageProblem("too_many_pixels", "at most 2**28 pixels over all volumes")
    check_memory(wanted * (3 if colour else 1), dtype.itemsize, len(data))
    needed = offset + wanted * dtype.itemsize
    # Of the first of several volumes no checksum can be told.
    whole = inflate(data, needed, exactly=True) if packed else data
    if len(whole) < needed:
        raise ImageProblem("unreadable", "a file as long as its header says")
    pixels = np.frombuffer(whole, dtype, wanted, offset).reshape(slices, rows, columns)
    notes = [] if volumes == 1 else [f"first of {volumes} volumes"]
    array = _planes(pixels, header, channels, notes)
    spacing, origin, direction = _placed(header, notes)
    return Picture(array, spacing, origin, direction, notes=tuple(notes))


def _planes(pixels: NDArray[Any], header: Any, channels: Channels, notes: list[str]) -> NDArray[np.float32]:
    """Scaled values. Shape: (Z, H, W) -> (C, Z, H, W)."""
    if pixels.dtype.fields is not None:
        colours = np.stack([pixels[name].astype(np.float32) for name in ("R", "G", "B")])
        if channels == "rgb":
            return colours
        notes.append("colour read as luminance")
        return np.asarray(np.tensordot(LUMINANCE, colours, axes=1))[None]
    slope, intercept = header.get_slope_inter()
    array = pixels.astype(np.float32)
    if slope is not None and (slope, intercept) != (1.0, 0.0):
        array *= np.float32(slope)
        array += np.float32(intercept)
    return array[None]


def _placed(header: Any, notes: list[str]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Spacing, origin and direction; NaN for the latter two where the header has no orientation."""
    try:
        unit = _MILLIMETRES[int(header["xyzt_units"]) & 7]
    except KeyError:
        unit = 1.0
    if not int(header["xyzt_units"]) & 7:
        notes.append("no unit of length: taken as millimetres")
    if int(header["sform_code"]) == 0 and int(header["qform_code"]) == 0:
        zooms = np.abs(np.array([*header.get_zooms(), np.nan])[:3].astype(np.float64)) * unit
        spacing = np.where(zooms > 0, zooms, np.nan)[::-1]
        return spacing, np.full(3, np.nan), np.full((3, 3), np.nan)
    affine = header.get_best_affine() * unit
    steps = _TO_LPS @ affine[:3, :3]
    lengths = np.linalg.norm(steps, axis=0)
    if not np.isfinite(affine).all() or (lengths <= 0).any() or abs(np.linalg.det(steps / lengths)) < 1e-3:
        notes.append("orientation of no use: its axes do not span a space")
        return np.full(3, np.nan), np.full(3, np.nan), np.full((3, 3), np.nan)
    return lengths[::-1].copy(), _TO_LPS @ affine[:3, 3], (steps / lengths)[:, ::-1].copy()
