"""MetaImage volumes (.mha, or .mhd with its .raw or .zraw) as pictures.

The format is some lines of text before plain or zlib-packed numbers, so it is read here: the libraries that have it
(SimpleITK) cost a hundred times its code and check nothing before they allocate.
"""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from riskpred.config.imaging import Channels
from riskpred.imaging.dicom_values import LUMINANCE
from riskpred.imaging.inflate import inflate
from riskpred.imaging.limits import MAX_FILE_BYTES, check_memory, check_size
from riskpred.imaging.paths import ImageProblem
from riskpred.imaging.picture import Picture

_MOST_HEADER: Final = 65_536
_TYPES: Final = {
    **{"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4"},
    **{"MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8"},
    **{"MET_FLOAT": "f4", "MET_DOUBLE": "f8"},
}
_LOCAL: Final = "LOCAL"
_FIRST: Final = ("ObjectType", "NDims", "Comment")
"""What a header may begin with."""


def is_metaimage(head: bytes) -> bool:
    """Whether these first bytes are of a MetaImage header."""
    return any(head.startswith(name.encode() + b" =") or head.startswith(name.encode() + b"=") for name in _FIRST)


def metaimage_size(path: Path) -> tuple[int, NDArray[np.float64]]:
    """Slices and spacing (3,) mm by the header alone. Raises: ImageProblem; another where it is damaged."""
    with path.open("rb") as stream:
        fields, _ = _fields(stream.read(_MOST_HEADER))
    dimensions = int(fields["NDims"])
    return (*(int(size) for size in fields["DimSize"].split()), 1)[2], _placed(fields, dimensions)[0]


def read_metaimage(path: Path, channels: Channels) -> Picture:
    """A header with its pixels, behind it or in a file beside it. Raises: ImageProblem; another where it is damaged."""
    with path.open("rb") as stream:
        fields, behind = _fields(stream.read(_MOST_HEADER))
    if fields.get("ObjectType", "Image") != "Image" or not _said(fields, "BinaryData", True):
        raise ImageProblem("unreadable", "a MetaImage of binary pixels")
    dimensions = int(fields["NDims"])
    sizes = [int(size) for size in fields["DimSize"].split()]
    if dimensions not in (2, 3) or len(sizes) != dimensions or min(sizes) < 1:
        raise ImageProblem("no_pixels", "2 or 3 dimensions of 1 or more")
    columns, rows, slices = (*sizes, 1)[:3]
    each = int(fields.get("ElementNumberOfChannels", 1))
    if each not in (1, 3):
        raise ImageProblem("colour_refused", "1 or 3 numbers a pixel")
    check_size(rows, columns, slices)
    swapped = _said(fields, "BinaryDataByteOrderMSB", _said(fields, "ElementByteOrderMSB", False))
    dtype = np.dtype((">" if swapped else "<") + _TYPES[fields["ElementType"].removesuffix("_ARRAY")])
    samples = columns * rows * slices * each
    data = _data(path, fields, behind)
    check_memory(samples, dtype.itemsize, len(data))
    needed = samples * dtype.itemsize
    if _said(fields, "CompressedData", False):
        data = inflate(data, needed, exactly=True)
    elif int(fields.get("HeaderSize", 0)) == -1:
        data = data[-needed:]
    else:
        data = data[max(0, int(fields.get("HeaderSize", 0))) :]
    if len(data) < needed:
        raise ImageProblem("unreadable", "a file as long as its header says")
    pixels = np.frombuffer(data, dtype, samples).reshape(slices, rows, columns, each).astype(np.float32)
    notes = []
    if each == 1:
        array = np.moveaxis(pixels, -1, 0)
    elif channels == "rgb":
        array = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
    else:
        array, notes = (pixels @ LUMINANCE)[None], ["colour read as luminance"]
    spacing, origin, direction = _placed(fields, dimensions)
    return Picture(array, spacing, origin, direction, notes=tuple(notes))


def _fields(head: bytes) -> tuple[dict[str, str], int]:
    """Names and values of the header, and where it ends: ElementDataFile is its last line."""
    fields, at = dict[str, str](), 0
    while at < len(head):
        end = head.find(b"\n", at)
        if end < 0:
            end = len(head)
        name, found, value = head[at:end].decode("ascii").partition("=")
        at = end + 1
        if not found:
            continue
        fields[name.strip()] = value.strip()
        if name.strip() == "ElementDataFile":
            return fields, at
    raise ImageProblem("unreadable", "a MetaImage header that ends with ElementDataFile")


def _data(path: Path, fields: dict[str, str], behind: int) -> bytes:
    """The bytes of the pixels. Raises: ImageProblem, where they are not in this file or in one beside it."""
    name = fields["ElementDataFile"]
    if name.upper() == _LOCAL:
        return path.read_bytes()[behind:]
    beside = path.parent / name
    # One plain name: no folder, no list, no pattern of many files, no link that leads elsewhere.
    if Path(name).name != name or name in (".", "..") or "\0" in name or name.split()[0] == "LIST" or "%" in name:
        raise ImageProblem("path_refused", "pixels in the file of the header, or in one file beside it")
    if not beside.is_file() or beside.is_symlink():
        raise ImageProblem("file_missing", "the file of pixels beside the header")
    if beside.stat().st_size > MAX_FILE_BYTES:
        raise ImageProblem("file_too_large", f"at most {MAX_FILE_BYTES // 2**20} MiB")
    return beside.read_bytes()


def _said(fields: dict[str, str], name: str, default: bool) -> bool:
    return fields[name][:1].upper() in ("T", "1", "Y") if name in fields else default


def _numbers(fields: dict[str, str], names: tuple[str, ...], count: int) -> NDArray[np.float64] | None:
    for name in names:
        if name in fields:
            numbers = np.array([float(text) for text in fields[name].split()])
            return numbers if len(numbers) == count and np.isfinite(numbers).all() else None
    return None


def _placed(
    fields: dict[str, str], dimensions: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Spacing, origin, direction. A flat picture has no place in the patient, nor has a volume without these fields."""
    spacing, origin, direction = np.full(3, np.nan), np.full(3, np.nan), np.full((3, 3), np.nan)
    between = _numbers(fields, ("ElementSpacing", "ElementSize"), dimensions)
    if between is not None and (between > 0).all():
        spacing[-dimensions:] = between[::-1]
    at = _numbers(fields, ("Offset", "Position", "Origin"), dimensions)
    turned = _numbers(fields, ("TransformMatrix", "Rotation", "Orientation"), dimensions**2)
    if dimensions == 3 and at is not None:
        origin = at
        # One axis of the file after the other, each as its step in the patient.
        axes = np.eye(3) if turned is None else turned.reshape(3, 3)
        lengths = np.linalg.norm(axes, axis=1)
        if (lengths > 0).all() and abs(np.linalg.det(axes / lengths[:, None])) > 1e-3:
            direction = (axes / lengths[:, None]).T[:, ::-1].copy()
    return spacing, origin, direction
