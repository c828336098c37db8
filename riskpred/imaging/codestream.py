"""What a compressed frame says of its own size, read from its marker segments without decoding it.

A decoder allocates what the frame says, not what the DICOM header says: the two are compared first.
"""

from dataclasses import dataclass
from struct import Struct
from typing import Final

_JPEG: Final = b"\xff\xd8"
_JPEG2000: Final = b"\xff\x4f\xff\x51"
_SIZE_OF_FRAME: Final = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
_ADOBE: Final = 0xEE
_LAST_TRANSFORM: Final = 2
"""Of colours, in Adobe's segment: GDCM ends the process on others."""

_SIZE: Final = Struct(">IIIIIIIIH")
"""JPEG 2000: width, height, left, top, tile width, tile height, tile left, tile top; components."""

_MOST_TILES: Final = 16_384
"""A decoder keeps kilobytes for each, pixels in it or not."""


@dataclass(frozen=True)
class FrameSize:
    """components: samples per pixel.   precision: bits of a sample, None where not read."""

    rows: int
    columns: int
    components: int
    precision: int | None = None


def frame_size(frame: bytes) -> FrameSize | None:
    """Of a JPEG, JPEG-LS or JPEG 2000 frame; None where there is no such thing to be found.

    Example:
        >>> frame_size(bytes.fromhex("ffd8ffc0000b080010000c01011100"))
        FrameSize(rows=16, columns=12, components=1, precision=8)
    """
    try:
        if frame[:2] == _JPEG:
            return _jpeg(frame)
        return _jpeg2000(frame)
    except IndexError:
        return None


def _jpeg(frame: bytes) -> FrameSize | None:
    at = 2
    while at + 4 <= len(frame):
        if frame[at] != 0xFF:
            return None
        marker = frame[at + 1]
        if marker == 0xFF:  # filling
            at += 1
            continue
        if marker in _SIZE_OF_FRAME:
            rows, columns = int.from_bytes(frame[at + 5 : at + 7]), int.from_bytes(frame[at + 7 : at + 9])
            return FrameSize(rows, columns, frame[at + 9], frame[at + 4])
        segment = frame[at + 4 : at + 2 + int.from_bytes(frame[at + 2 : at + 4])]
        # A shorter segment has no transform, whatever stands behind it.
        if marker == _ADOBE and segment[:5] == b"Adobe" and len(segment) >= 12 and segment[11] > _LAST_TRANSFORM:
            return None
        at += 2 + int.from_bytes(frame[at + 2 : at + 4])
    return None


def _jpeg2000(frame: bytes) -> FrameSize | None:
    at = frame.find(_JPEG2000)
    if at < 0 or len(frame) < at + 8 + _SIZE.size + 1:
        return None
    width, height, left, top, tile_width, tile_height, tile_left, tile_top, components = _SIZE.unpack_from(
        frame, at + 8
    )
    if not tile_width or not tile_height:
        return None
    if -(-(width - tile_left) // tile_width) * -(-(height - tile_top) // tile_height) > _MOST_TILES:
        return None
    return FrameSize(height - top, width - left, components, (frame[at + 8 + _SIZE.size] & 0x7F) + 1)
