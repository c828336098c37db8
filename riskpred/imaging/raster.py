"""PNG, JPEG and TIFF as pictures: grey of any depth, colours of 8 bits, the pages of a TIFF as slices, or files."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from riskpred.config.imaging import Channels
from riskpred.imaging.limits import MAX_FILE_BYTES, check_memory, check_size
from riskpred.imaging.paths import ImageProblem
from riskpred.imaging.picture import Picture

FORMATS: Final = ("PNG", "JPEG", "TIFF")
PNG_MAGIC: Final = b"\x89PNG\r\n\x1a\n"
JPEG_MAGIC: Final = b"\xff\xd8\xff"
TIFF_MAGIC: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

GREY_MODES: Final = ("L", "I;16", "I;16B", "I;16L", "I", "F")
_MOST_PAGES: Final = 4_096
_COLOUR_READ: Final = "colour read as luminance"


def read_raster(path: Path, channels: Channels) -> Picture:
    """A file of FORMATS. Raises: ImageProblem; any other exception where the file is damaged."""
    with Image.open(path, formats=FORMATS) as picture:
        check_size(picture.height, picture.width, 1)
        if picture.format == "PNG":
            # Decoding stops at the last pixel; this reads on to the end and compares the checksums.
            picture.verify()
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path, formats=FORMATS) as picture:
            return _pages(picture, channels, path.stat().st_size)


def read_rasters(paths: Sequence[Path], channels: Channels) -> Picture:
    """Files of FORMATS as the slices of one volume, in the order given. Raises: as `read_raster`; mixed_geometry."""
    with Image.open(paths[0], formats=FORMATS) as first:
        rows, columns = first.height, first.width
    count, file_bytes = 3 if channels == "rgb" else 1, sum(path.stat().st_size for path in paths)
    check_size(rows, columns, len(paths))
    if file_bytes > MAX_FILE_BYTES:
        raise ImageProblem("file_too_large", f"at most {MAX_FILE_BYTES // 2**20} MiB over all slices")
    check_memory(rows * columns * len(paths) * count, 2, file_bytes)
    array = np.empty((count, len(paths), rows, columns), dtype=np.float32)
    notes = list[str]()
    for place, path in enumerate(paths):
        one = read_raster(path, channels)
        if one.shape != (1, rows, columns):
            raise ImageProblem("mixed_geometry", "slices of one size, one a file")
        array[:, place] = one.array[:, 0]
        notes += one.notes
    return replace(one, array=array, notes=tuple(dict.fromkeys(notes)))


def _pages(picture: Image.Image, channels: Channels, file_bytes: int) -> Picture:
    pages, size = int(getattr(picture, "n_frames", 1)), picture.size
    if pages > _MOST_PAGES:
        raise ImageProblem("too_many_pixels", f"at most {_MOST_PAGES:,} pages")
    check_size(picture.height, picture.width, pages)
    count = 3 if channels == "rgb" else 1
    check_memory(picture.height * picture.width * pages * count, 2, file_bytes)
    array = np.empty((count, pages, picture.height, picture.width), dtype=np.float32)
    notes = list[str]()
    for page in range(pages):
        picture.seek(page)
        if picture.size != size:
            raise ImageProblem("mixed_geometry", "pages of one size")
        pixels, note = one_page(picture, channels)
        array[:, page] = pixels
        notes += note
    return Picture(
        array, np.full(3, np.nan), np.full(3, np.nan), np.full((3, 3), np.nan), notes=tuple(dict.fromkeys(notes))
    )


def one_page(picture: Image.Image, channels: Channels) -> tuple[NDArray[np.float32], list[str]]:
    """Shape: (1 or 3, H, W)."""
    if picture.mode in GREY_MODES:
        return np.asarray(picture, dtype=np.float32)[None], []
    if channels == "rgb":
        return np.moveaxis(np.asarray(picture.convert("RGB"), dtype=np.float32), -1, 0), []
    # A palette or alpha goes through RGB: "L" would read the palette's indices.
    grey = picture.convert("L") if picture.mode in ("1", "LA", "RGB") else picture.convert("RGB").convert("L")
    return np.asarray(grey, dtype=np.float32)[None], [] if picture.mode == "1" else [_COLOUR_READ]
