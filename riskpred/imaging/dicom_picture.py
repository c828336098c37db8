"""One DICOM file as a picture: a radiograph, a slice, a volume of many frames, a loop of ultrasound."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from riskpred.imaging.dicom import Header, group, open_dicom
from riskpred.imaging.dicom_frames import check_decoding, stored
from riskpred.imaging.dicom_geometry import place, stack
from riskpred.imaging.dicom_values import LUMINANCE, finish, values, window
from riskpred.imaging.picture import Channels, Picture

_CODE: Final = re.compile(r"[A-Z][A-Z0-9_ ]{0,15}")
_COLOUR_READ: Final = "colour read as luminance"


def read_dicom(path: Path, channels: Channels) -> Picture:
    """A Part 10 file, all its frames. Raises: ImageProblem; any other exception where the file is damaged."""
    header = open_dicom(path)
    check_decoding(header)
    placed = stack([place(header.dataset, frame) for frame in range(header.frames)], one_file=True)
    slots = {int(frame): slot for slot, frame in enumerate(placed.order)}
    array = empty(header, len(slots), channels)
    for frame, pixels in enumerate(stored(header)):
        if frame in slots:
            array[:, slots[frame]] = planes(values(header, pixels, frame), channels)
    first = int(placed.order[0])
    array, turned, notes = finish(header, array)
    spacing, also = place(header.dataset, first).spacing_mm or (np.nan, np.nan), colour_notes(header, channels)
    return Picture(
        array,
        np.array([placed.thick_mm, *spacing]),
        placed.origin_mm,
        placed.direction,
        **labels(header, first),
        window=window(header.dataset, first, turned) if header.grey else None,
        notes=(*placed.notes, *notes, *also),
    )


def empty(header: Header, slices: int, channels: Channels) -> NDArray[np.float32]:
    """Room for all of them. Shape: (C, slices, rows, columns)."""
    return np.empty((3 if channels == "rgb" else 1, slices, header.rows, header.columns), dtype=np.float32)


def planes(frame: NDArray[np.float32], channels: Channels) -> NDArray[np.float32]:
    """Colour as brightness, grey as three equal colours, as wanted. Shape: (H, W[, 3]) -> (C or 1, H, W)."""
    if frame.ndim == 2:
        return frame[None]
    return np.moveaxis(frame, -1, 0) if channels == "rgb" else (frame @ LUMINANCE)[None]


def colour_notes(header: Header, channels: Channels) -> Iterable[str]:
    """What became of colours."""
    return () if header.grey or channels == "rgb" else (_COLOUR_READ,)


def labels(header: Header, frame: int) -> dict[str, str | None]:
    """image_type, body_part, view and laterality, where the file has a code for them."""
    anatomy = group(header.dataset, frame, "FrameAnatomySequence")
    side = next(
        (found for name in ("FrameLaterality", "ImageLaterality", "Laterality") if (found := anatomy.get(name))),
        header.dataset.get("ImageLaterality") or header.dataset.get("Laterality"),
    )
    return {
        "image_type": _code(header.dataset.get("Modality")),
        "body_part": _code(header.dataset.get("BodyPartExamined")),
        "view": _code(header.dataset.get("ViewPosition")),
        "laterality": _code(side),
    }


def _code(value: object) -> str | None:
    text = str(value or "").strip()
    return text if _CODE.fullmatch(text) else None
