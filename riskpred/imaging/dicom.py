"""Opens one DICOM file: the elements that pixels and their place need, and no other, checked before they are used.

Patient elements are skipped, not read and hidden. What is in the file cannot make us read without end: the number of
reads and the size of every value are bounded.
"""

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydicom import Dataset, dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.filereader import read_dataset
from pydicom.pixels import get_decoder
from pydicom.tag import BaseTag

from riskpred.imaging.limits import MAX_FILE_BYTES, check_size
from riskpred.imaging.paths import ImageProblem

DEFLATED: Final = ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.8.1")
UNCOMPRESSED: Final = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")

PIXELS: Final = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
"""The elements that may hold them; one of these at most."""

_ELEMENTS: Final = (
    *("ImageType", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "InstanceNumber", "Modality"),
    *("BodyPartExamined", "ViewPosition", "ImageLaterality", "Laterality"),
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "WindowCenter", "WindowWidth"),
    *("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "SequenceOfUltrasoundRegions"),
    *("EstimatedRadiographicMagnificationFactor", "SliceThickness", "SpacingBetweenSlices"),
    *("ImagePositionPatient", "ImageOrientationPatient"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *(f"{hue}PaletteColorLookupTable{part}" for hue in ("Red", "Green", "Blue") for part in ("Descriptor", "Data")),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
)

_MOST_READS: Final = 500_000
"""Three per element at most: a thousand frames with their functional groups need a third of this."""

_FEWER: Final = "a header of fewer elements"
WRITTEN_OUT: Final = "a palette whose tables are in the file, written out"

_MOST_SEQUENCE_BYTES: Final = 16 * 2**20
_SEQUENCES: Final = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence", "ModalityLUTSequence")


@dataclass(frozen=True)
class Header:
    """What one file says of itself. bits: allocated per sample.   file_bytes: its size.

    dataset: the elements read, with the pixels (undecoded) unless they were left out.
    """

    dataset: Dataset
    syntax: str
    rows: int
    columns: int
    frames: int
    samples: int
    bits: int
    photometric: str
    file_bytes: int

    @property
    def grey(self) -> bool:
        return self.samples == 1 and self.photometric in ("MONOCHROME1", "MONOCHROME2")

    @property
    def compressed(self) -> bool:
        return self.syntax not in UNCOMPRESSED


class _Bounded(io.BufferedReader):
    """A file that is read so many times at most, and never asked for more than it has."""

    def __init__(self, raw: io.FileIO) -> None:
        super().__init__(raw)
        self._left = _MOST_READS
        self.size = os.fstat(raw.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise ImageProblem("unreadable", _FEWER)
        if size is None or size < 0 or size > io.DEFAULT_BUFFER_SIZE:
            # Python allocates what is asked for before it finds the file to be shorter.
            left = max(0, self.size - self.tell())
            size = left if size is None or size < 0 else min(size, left)
        return super().read(size)


class BoundedBytes(io.BytesIO):
    """Bytes that are read so many times at most: each element of a header takes hundreds of bytes of memory."""

    _left = _MOST_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise ImageProblem("unreadable", _FEWER)
        return super().read(size)


def open_dicom(path: Path, pixels: bool = True) -> Header:
    """The header of a Part 10 file, checked, with its pixels or (faster) without.

    Raises: ImageProblem, as read_picture; another exception where the file is damaged.
    """
    with _Bounded(io.FileIO(path)) as stream:
        if stream.size > MAX_FILE_BYTES:
            raise ImageProblem("file_too_large", f"at most {MAX_FILE_BYTES // 2**20} MiB")
        syntax = transfer_syntax(stream)
        # Before anything else is read: a deflated data set inflates whole, however large.
        if syntax in DEFLATED:
            raise ImageProblem("deflated_refused", "another transfer syntax than Deflated")
        stream.seek(0)
        wanted = [*_ELEMENTS, *(PIXELS if pixels else ())]
        tags = [tag for name in wanted if (tag := tag_for_keyword(name)) is not None]
        dataset = dcmread(stream, specific_tags=tags, stop_before_pixels=not pixels)
        size = stream.size
    for name in _SEQUENCES:
        raw = dataset.get_item(name) if name in dataset else None
        if isinstance(value := getattr(raw, "value", None), bytes) and len(value) > _MOST_SEQUENCE_BYTES:
            raise ImageProblem("unreadable", _FEWER)
    header = Header(
        dataset,
        syntax,
        whole(dataset, "Rows"),
        whole(dataset, "Columns"),
        whole(dataset, "NumberOfFrames", 1),
        whole(dataset, "SamplesPerPixel", 1),
        whole(dataset, "BitsAllocated"),
        str(dataset.get("PhotometricInterpretation", "")).strip(),
        size,
    )
    _check(header, pixels)
    return header


def _check(header: Header, pixels: bool) -> None:
    check_size(header.rows, header.columns, header.frames)
    palette = header.samples == 1 and header.photometric == "PALETTE COLOR"
    if palette and "RedPaletteColorLookupTableData" not in header.dataset:
        raise ImageProblem("colour_refused", WRITTEN_OUT)
    colour = header.samples == 3 and (header.photometric == "RGB" or header.photometric.startswith("YBR_"))
    if not header.grey and not colour and not palette:
        raise ImageProblem("colour_refused", "MONOCHROME1, MONOCHROME2, PALETTE COLOR, RGB or YBR pixels")
    if header.bits not in (1, 8, 16, 32, 64):
        raise ImageProblem("unreadable", "1, 8, 16, 32 or 64 bits allocated")
    if not 1 <= whole(header.dataset, "BitsStored", header.bits) <= header.bits:
        raise ImageProblem("unreadable", "as many bits stored as allocated, or fewer")
    if not header.compressed:
        needed = pixel_bytes(
            header.rows * header.columns * header.frames, header.samples, header.bits, header.photometric
        )
        if header.file_bytes < needed:
            raise ImageProblem("unreadable", "a file as long as its header says")
    elif not get_decoder(header.syntax).is_available:
        raise ImageProblem("not_decodable", "uncompressed, or a compression with an installed decoder")
    if pixels and not any(name in header.dataset for name in PIXELS):
        raise ImageProblem("no_pixels", "an element PixelData")


def pixel_bytes(pixels: int, samples: int, bits: int, photometric: str) -> int:
    """What so many uncompressed pixels take. YBR_FULL_422 has one of two colours' samples for two pixels."""
    return pixels * samples * bits // 8 * (2 if photometric == "YBR_FULL_422" else 3) // 3


def transfer_syntax(stream: io.BufferedIOBase) -> str:
    """Transfer syntax of a Part 10 file, from its file meta information alone: nothing behind it is inflated."""
    stream.seek(132)

    def behind(tag: BaseTag, vr: str | None, length: int) -> bool:
        return bool(tag.group != 2)

    meta = read_dataset(stream, is_implicit_VR=False, is_little_endian=True, stop_when=behind)
    return str(meta.TransferSyntaxUID)


def whole(dataset: Dataset, name: str, default: int | None = None) -> int:
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


def group(dataset: Dataset, frame: int, sequence: str) -> Dataset:
    """Where an element of one frame stands: its own functional group, the one of all frames, or the data set."""
    for groups, at in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        items = dataset.get(groups) or ()
        if len(items) > at and (found := items[at].get(sequence)):
            return found[0]
    return dataset


def number(dataset: Dataset, name: str) -> float | None:
    """A finite number (the first, of several), or None."""
    numbers = numbers_of(dataset, name)
    return numbers[0] if numbers else None


def numbers_of(dataset: Dataset, name: str, count: int | None = None) -> tuple[float, ...] | None:
    """All numbers of an element; None where it is absent, is not finite numbers, or (count) holds another count."""
    value: Any = dataset.get(name)
    if value is None or isinstance(value, str | bytes):
        return None
    try:
        found = tuple(float(each) for each in (value if hasattr(value, "__len__") else (value,)))
    except (TypeError, ValueError):
        return None
    finite = all(abs(each) < float("inf") for each in found)
    return found if found and finite and (count is None or len(found) == count) else None
