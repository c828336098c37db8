"""Unpacks zlib and gzip to a length that is known before, and not a byte further, however much is packed."""

import zlib
from typing import Final

from riskpred.imaging.paths import ImageProblem

GZIP_MAGIC: Final = b"\x1f\x8b"

_EITHER: Final = zlib.MAX_WBITS | 32
"""zlib or gzip, as its head says."""


def inflate(packed: bytes, length: int, exactly: bool = False) -> bytes:
    """The first `length` bytes of what is packed; fewer where it is shorter.

    Args:
        exactly: fewer are refused, and the checksum at the end is compared where what is packed ends there.

    Raises: ImageProblem (unreadable).
    Example:
        >>> inflate(zlib.compress(b"abc" * 1000), 5)
        b'abcab'
    """
    unpacker = zlib.decompressobj(_EITHER)
    try:
        found = unpacker.decompress(packed, length) if length else b""
        if exactly and len(found) == length and not unpacker.eof:
            # The checksum stands behind the last byte: it is read by asking for one more.
            unpacker.decompress(unpacker.unconsumed_tail, 1)
    except zlib.error:
        raise ImageProblem("unreadable", "packed pixels that unpack whole") from None
    if exactly and len(found) < length:
        raise ImageProblem("unreadable", "a file as long as its header says")
    return found
