"""What a stage found in one image, small enough to keep: measures of each lesion and its outline on one slice, or
values of the whole image.

It is plain numbers and texts, so that a cache gives back exactly what was found.
"""

import json
from dataclasses import asdict, dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from riskpred.imaging.lesions import Lesion
from riskpred.imaging.prepare import Prepared

_DECIMALS: Final = 2
"""Of an outline's corners, in prepared pixels."""

_MOST_CORNERS: Final = 400
"""Of one line: what is drawn is a picture of some hundred pixels."""

Line = tuple[tuple[float, float], ...]
"""Corners (row, col) of a closed line, in prepared pixels."""


@dataclass(frozen=True)
class FoundLesion:
    """One lesion: the columns of schemas/scores/findings.yaml that its image gives (None = unknown), and its outline on
    the slice that is drawn (() where it does not reach that slice)."""

    label: str
    confidence: float
    area_px: float | None
    area_mm2: float | None
    volume_mm3: float | None
    longest_diameter_mm: float | None
    row: float | None
    col: float | None
    slice: float | None
    x_mm: float | None
    y_mm: float | None
    z_mm: float | None
    mean_intensity: float | None
    lines: tuple[Line, ...] = ()


COLUMNS: Final = tuple(one.name for one in fields(FoundLesion) if one.name != "lines")
"""Columns of `findings` that a lesion gives."""


@dataclass(frozen=True)
class Looked:
    """What one image shows.

    has_mm, has_volume: whether its spacing is known within slices; whether it is a volume of known spacing.
    drawn: which prepared slice its outlines are of, that of the largest lesion; the middle one where there is none.
    values: (measure, value) of radiomics, which find no lesions.
    """

    lesions: tuple[FoundLesion, ...]
    has_mm: bool
    has_volume: bool
    drawn: int
    values: tuple[tuple[str, float], ...] = ()

    def to_json(self) -> str:
        """`from_json` gives the same back."""
        return json.dumps(asdict(self), allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Looked":
        """Raises: ValueError, KeyError, TypeError, when it is not what `to_json` wrote."""
        data = json.loads(text)
        lesions = [
            FoundLesion(**{**one, "lines": tuple(tuple((r, c) for r, c in line) for line in one["lines"])})
            for one in data["lesions"]
        ]
        values = tuple((name, value) for name, value in data.get("values", ()))  # entries of an older release: none
        return cls(tuple(lesions), data["has_mm"], data["has_volume"], data["drawn"], values)


def kept(found: list[Lesion], prepared: Prepared) -> Looked:
    """What is kept of an image's lesions."""
    slices = prepared.pixels.shape[2] if prepared.pixels.ndim == 5 else len(prepared.pixels)
    drawn = slices // 2
    if found:
        largest = max(found, key=lambda one: one.area_px)
        drawn = largest.corner[0] + int(largest.mask.sum(axis=(1, 2)).argmax())
    known = np.isfinite(prepared.grid.spacing_mm)
    return Looked(
        lesions=tuple(_one(lesion, drawn) for lesion in found),
        has_mm=bool(known[1:].all()),
        has_volume=bool(known.all()) and slices > 1,
        drawn=drawn,
    )


def _one(lesion: Lesion, drawn: int) -> FoundLesion:
    numbers = {name: getattr(lesion, name) for name in COLUMNS if name != "label"}
    finite = {name: float(value) if np.isfinite(value) else None for name, value in numbers.items()}
    lines = tuple(_line(one) for one in lesion.outlines.get(drawn, ()))
    return FoundLesion(label=lesion.label, lines=lines, **finite)  # type: ignore[arg-type]


def _line(corners: NDArray[np.float32]) -> Line:
    every = max(1, -(-len(corners) // _MOST_CORNERS))
    rounded = np.asarray(corners[::every], np.float64).round(_DECIMALS)
    return tuple((row, col) for row, col in rounded.tolist())
