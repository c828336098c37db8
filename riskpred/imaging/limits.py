"""How much of a file is read at most, checked before anything is allocated: a header may say what it likes."""

from typing import Final

from riskpred.imaging.paths import ImageProblem

MAX_PIXELS: Final = 89_478_485
"""Rows x columns at most: where Pillow begins to warn of a decompression bomb."""

MAX_VOLUME: Final = 2**28
"""Rows x columns x frames at most."""

MAX_FILE_BYTES: Final = 2**30

SMALLER: Final = f"at most {MAX_PIXELS:,} pixels, {MAX_VOLUME:,} over all frames"

_SUSPECT_BYTES: Final = 600 * 2**20
"""Memory for pixels that any file may ask for; more only if its own size makes that likely."""

_LIKELY_RATIO: Final = 32
"""Pixels compress less than this, but for masks and empty pictures."""


def check_size(rows: int, columns: int, frames: int) -> None:
    """Raises: ImageProblem (too_many_pixels)."""
    if rows * columns > MAX_PIXELS or rows * columns * frames > MAX_VOLUME:
        raise ImageProblem("too_many_pixels", SMALLER)


def check_memory(samples: int, bytes_each: int, file_bytes: int) -> None:
    """Refuse a small file that would fill the memory.

    Args:
        samples: numbers that are kept (each becomes a float32).
        bytes_each: what each takes besides, while it is decoded.
        file_bytes: size of the file (or files) that they come from, compressed or not.

    Raises: ImageProblem (too_many_pixels).
    """
    stored = samples * bytes_each
    if stored + 4 * samples > _SUSPECT_BYTES and stored > _LIKELY_RATIO * file_bytes:
        raise ImageProblem("too_many_pixels", f"{SMALLER}, and no more than a file of this size may hold")
