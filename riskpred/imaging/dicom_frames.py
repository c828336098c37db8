"""Stored values of a DICOM file, frame by frame: decompressed, signed, colours as red-green-blue; no rescale yet."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels import apply_color_lut, get_decoder

from riskpred.imaging.codestream import frame_size
from riskpred.imaging.dicom import UNCOMPRESSED, Header
from riskpred.imaging.limits import check_memory
from riskpred.imaging.paths import ImageProblem

RLE: Final = "1.2.840.10008.1.2.5"
_EXTENDED: Final = "1.2.840.10008.1.2.4.51"
JPEG2000: Final = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (90, 91, 92, 93, 201, 202, 203))

_DECODERS: Final = {
    **dict.fromkeys(("1.2.840.10008.1.2.4.50", _EXTENDED), "pillow"),
    **dict.fromkeys(JPEG2000, "pylibjpeg"),
}
"""Which of pydicom's decoders is asked where several could be: GDCM ends the process where it meets what it doubts."""

_CODEC_BYTES: Final = {True: 8, False: 1}
"""Per sample besides the decoded ones: JPEG 2000 works in 32 bits, twice."""


def check_decoding(header: Header) -> None:
    """Compare what compressed frames say of themselves with the header. Raises: ImageProblem."""
    colours = 3 if header.photometric == "PALETTE COLOR" else header.samples
    check_one(header.syntax, header.rows, header.columns, colours, header.bits, header.file_bytes)
    each = 0 if header.compressed else max(1, header.bits // 8)
    check_memory(header.rows * header.columns * colours * header.frames, each, header.file_bytes)
    if header.compressed and header.syntax != RLE:
        for index, frame in enumerate(generate_frames(header.dataset.PixelData, number_of_frames=header.frames)):
            if index == header.frames:
                break
            check_frame(frame, header.rows, header.columns, header.samples)


def check_one(syntax: str, rows: int, columns: int, samples: int, bits: int, file_bytes: int) -> None:
    """Whether a file of this size may decode a frame of that one. Raises: ImageProblem (too_many_pixels)."""
    codec = 0 if syntax in UNCOMPRESSED else _CODEC_BYTES[syntax in JPEG2000]
    check_memory(rows * columns * samples, max(1, bits // 8) + codec, file_bytes)


def check_frame(frame: bytes, rows: int, columns: int, samples: int) -> None:
    """Raises: ImageProblem (unreadable), where the frame does not have the size that the header says."""
    size = frame_size(frame)
    if size is None or (size.rows, size.columns, size.components) != (rows, columns, samples):
        raise ImageProblem("unreadable", "compressed frames of the size that the header says")


def stored(header: Header) -> Iterator[NDArray[np.generic]]:
    """Each frame. Shape: (rows, columns), or (rows, columns, 3) of a colour. Call `check_decoding` before.

    Raises: ImageProblem; any exception of a decoder.
    """
    frames = _extended(header) if needs_gdcm(header.dataset, header.syntax) else _decoded(header)
    shape = (header.rows, header.columns) if header.samples == 1 else (header.rows, header.columns, 3)
    count = 0
    for frame in frames:
        if count == header.frames:
            return
        if frame.shape != shape:
            raise ImageProblem("unreadable", "pixels of the shape that the header says")
        yield through_palette(frame, header.dataset) if header.photometric == "PALETTE COLOR" else frame
        count += 1
    if count < header.frames:
        raise ImageProblem("unreadable", "as many frames as the header says")


def decoder_of(syntax: str) -> str:
    """The decoder that pydicom should ask for this compression; empty = whichever it likes."""
    wanted = _DECODERS.get(syntax, "")
    return wanted if wanted and wanted in get_decoder(syntax).available_plugins else ""


def through_palette(frame: NDArray[np.generic], dataset: Dataset) -> NDArray[np.uint8]:
    """Colours of 8 bits, of tables of 8 or 16. Shape: (rows, columns) -> (rows, columns, 3)."""
    colours = np.asarray(apply_color_lut(frame, dataset))[..., :3]
    return (colours >> 8).astype(np.uint8) if colours.dtype == np.uint16 else colours.astype(np.uint8)


def _decoded(header: Header) -> Iterator[NDArray[np.generic]]:
    decoder, plugin = get_decoder(header.syntax), decoder_of(header.syntax)
    if header.syntax in JPEG2000 or header.frames == 1:
        # One by one: pydicom's iterator fails where the frame has another sign than the header, which is corrected.
        for index in range(header.frames):
            yield np.asarray(decoder.as_array(header.dataset, index=index, decoding_plugin=plugin)[0])
        return
    for frame, _ in decoder.iter_array(header.dataset, decoding_plugin=plugin):
        yield np.asarray(frame)


def needs_gdcm(dataset: Dataset, syntax: str) -> bool:
    """JPEG Extended of more than 8 bits: pydicom asks none of its decoders for it, though GDCM has one."""
    bits, samples = dataset.BitsAllocated, dataset.get("SamplesPerPixel", 1)
    return bool(syntax == _EXTENDED and bits == 16 and samples == 1 and dataset.get("BitsStored", bits) != 8)


def _extended(header: Header) -> Iterator[NDArray[np.generic]]:
    for source in generate_frames(header.dataset.PixelData, number_of_frames=header.frames):
        yield by_gdcm(source, header.dataset)


def by_gdcm(source: bytes, dataset: Dataset) -> NDArray[np.uint16]:
    """One grey frame of JPEG Extended, 12 bits. Raises: ImageProblem (not_decodable), without the extra."""
    try:
        import gdcm
    except ImportError:
        raise ImageProblem("not_decodable", "JPEG Extended of 8 bits, or the extra `imaging` installed") from None
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(source)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((dataset.Columns, dataset.Rows, 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(_EXTENDED)))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, 12, 11, 0))
    # GDCM hands out bytes as text in which what is not UTF-8 is escaped.
    values = (image.GetBuffer() or "").encode("utf-8", "surrogateescape")
    return np.frombuffer(values, dtype="<u2").reshape(dataset.Rows, dataset.Columns)
