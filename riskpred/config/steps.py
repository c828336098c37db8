"""The preparation steps that `steps` of features.yaml and imaging.yaml may list, each with its name in `step`.

steps:
  - {step: window, centre: -600, width: 1500}
  - {step: resample, spacing_mm: [1.5]}
  - {step: crop_lung, margin_mm: 10}
"""

import json
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, TypeAdapter, model_validator

from riskpred.config.model import Strict

_Given = TypeVar("_Given", bound=Strict)


def _ascending(block: _Given, *numbers: float) -> _Given:
    if any(after <= before for before, after in pairwise(numbers)):
        raise ValueError(f"numbers that ascend are wanted: {', '.join(f'{number:g}' for number in numbers)}")
    return block


Foreground = Literal["all", "body"]
"""all: every pixel.   body: the largest connected part brighter than air (the lower of Otsu's
two thresholds), holes filled."""


class _Step(Strict):
    """A block of `steps`."""

    @property
    def by_pixel(self) -> bool:
        """Whether what becomes of a pixel depends on its value alone: slices may then be chosen before it."""
        return False


class DenoiseMedian(_Step):
    """Median of each pixel's neighbourhood, 2 x radius + 1 pixels a side within its slice: against salt and pepper."""

    step: Literal["denoise_median"]
    radius: int = Field(1, ge=1, le=10, description="pixels to each side")
    across_slices: bool = Field(False, description="also over neighbouring slices of a volume")


class DenoiseNlm(_Step):
    """Non-local means: each pixel becomes a mean of pixels with like surroundings, which keeps edges. Extra `imaging`.

    Slice by slice. Source: Buades, Coll & Morel 2005, CVPR 2:60-65; fast form: Darbon et al. 2008, ISBI:1331-1334.
    """

    step: Literal["denoise_nlm"]
    patch: int = Field(5, ge=3, le=15, description="pixels a side of the surroundings compared")
    distance: int = Field(6, ge=1, le=25, description="how far away a like pixel may be, pixels")
    strength: float = Field(0.8, gt=0, le=10, description="cut-off of unlikeness, in SD of the noise (estimated)")


class BiasField(_Step):
    """Takes out the slow change of brightness that coils leave in MR: a smooth factor that sharpens the histogram.

    Like N3 and N4, with a polynomial as the smooth factor. A lesion as large as the factor is smooth is taken for one:
    that is why no default has this step. Source: Sled, Zijdenbos & Evans 1998, IEEE TMI 17:87-97.
    """

    step: Literal["bias_field"]
    order: int = Field(3, ge=1, le=8, description="degree of the polynomial; fitted degree after degree")
    iterations: int = Field(100, ge=1, le=500, description="at most, for each degree")


class _Scale(_Step):
    """A block that sets the scale of values."""

    each_channel: bool = Field(
        False, description="red, green and blue are sequences, each with a scale of its own, as listed channels are"
    )


class Zscore(_Scale):
    """Mean of the foreground becomes .5, `sd` standard deviations below and above it 0 and 1; beyond is cut."""

    step: Literal["zscore"]
    foreground: Foreground = "body"
    sd: float = Field(3.0, gt=0, le=20)


class Percentiles(_Scale):
    """Two percentiles of the foreground become 0 and 1; beyond is cut: letters and dead pixels set no scale."""

    step: Literal["percentiles"]
    low: float = Field(0.5, ge=0, lt=100)
    high: float = Field(99.5, gt=0, le=100)
    foreground: Foreground = "all"

    @model_validator(mode="after")
    def _order(self) -> "Percentiles":
        return _ascending(self, self.low, self.high)


class MatchHistogram(_Scale):
    """Percentiles of the foreground become the `landmarks` given, straight lines between them; beyond 0..1 is cut.

    One scale for MR of several scanners. Source: Nyul, Udupa & Zhang 2000, IEEE TMI 19:143-150.
    """

    step: Literal["match_histogram"]
    percentiles: tuple[float, ...] = Field(
        (1.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 99.0), min_length=2
    )
    landmarks: tuple[float, ...] = Field(
        (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0), description="0 to 1; without them: uniform"
    )
    foreground: Foreground = "body"

    @model_validator(mode="after")
    def _pairs(self) -> "MatchHistogram":
        if len(self.percentiles) != len(self.landmarks):
            raise ValueError("as many landmarks as percentiles are needed")
        _ascending(self, *self.percentiles)
        _ascending(self, *self.landmarks)
        if not (self.percentiles[0] >= 0 and self.percentiles[-1] <= 100):
            raise ValueError("percentiles are 0 to 100")
        if not (self.landmarks[0] >= 0 and self.landmarks[-1] <= 1):
            raise ValueError("landmarks are 0 to 1")
        return self


WINDOWS: dict[str, tuple[float, float]] = {
    "lung": (-600.0, 1500.0),
    "mediastinum": (40.0, 400.0),
    "abdomen": (40.0, 400.0),
    "bone": (400.0, 1800.0),
    "brain": (40.0, 80.0),
    "stroke": (40.0, 40.0),
    "subdural": (75.0, 215.0),
    "calcium": (265.0, 1070.0),
}
"""Centre and width in HU."""


class Window(_Step):
    """Window centre - width / 2 to centre + width / 2 becomes 0 to 1 (DICOM PS3.3 C.11.2.1.2); beyond is cut.

    A preset is in HU; without preset, centre and width: the window that the file names, else the percentiles .5 and
    99.5 (and a note).
    """

    step: Literal["window"]
    preset: Literal["lung", "mediastinum", "abdomen", "bone", "brain", "stroke", "subdural", "calcium"] | None = None
    centre: float | None = None
    width: float | None = Field(None, gt=1)

    @model_validator(mode="after")
    def _one_way(self) -> "Window":
        if (self.centre is None) != (self.width is None):
            raise ValueError("centre and width go together")
        if self.preset is not None and self.centre is not None:
            raise ValueError("give a preset, or centre and width, not both")
        return self

    @property
    def given(self) -> tuple[float, float] | None:
        """(centre, width) that does not depend on the file."""
        if self.preset is not None:
            return WINDOWS[self.preset]
        return None if self.centre is None or self.width is None else (self.centre, self.width)

    @property
    def by_pixel(self) -> bool:
        return self.given is not None


class Clip(_Step):
    """Values below `low` become it, above `high` that; units are the file's (HU in CT)."""

    step: Literal["clip"]
    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _some(self) -> "Clip":
        if self.low is None and self.high is None:
            raise ValueError("give low, high or both")
        return self if self.low is None or self.high is None else _ascending(self, self.low, self.high)

    @property
    def by_pixel(self) -> bool:
        return True


class Clahe(_Step):
    """Contrast-limited adaptive histogram equalisation, slice by slice: contrast everywhere, to 0..1. Extra `imaging`.

    Source: Zuiderveld 1994, Graphics Gems IV:474-485.
    """

    step: Literal["clahe"]
    tiles: int = Field(8, ge=1, le=64, description="tiles along each side")
    limit: float = Field(0.01, gt=0, le=1, description="share of a tile's pixels that one grey level may have")


class Resample(_Step):
    """Brings the picture to a spacing: area averages where it grows coarser, linear (or nearest) where finer."""

    step: Literal["resample"]
    spacing_mm: tuple[float, ...] = Field(
        description="one number for all axes; [row, column] leaves slices; [slice, row, column]",
        min_length=1,
        max_length=3,
    )
    nearest: bool = False

    @model_validator(mode="after")
    def _positive(self) -> "Resample":
        if min(self.spacing_mm) <= 0:
            raise ValueError("spacing_mm are above 0")
        return self


class Reorient(_Step):
    """Turns the axes so that slices go from foot to head, rows from front to back, columns from right to left (LPS).

    A volume of unknown orientation stays as it is (and says so).
    """

    step: Literal["reorient"]


class CropBody(_Step):
    """Cuts to the largest connected foreground: no table, no letters, no empty margin."""

    step: Literal["crop_body"]
    above: float | None = Field(
        None, description="foreground is above this (HU in CT: -500); null = Otsu's, the lower of two"
    )
    margin_mm: float = Field(0.0, ge=0, description="kept around it; pixels where the spacing is unknown")
    blank: bool = Field(False, description="what lies outside the foreground becomes the picture's least value")


class CropLung(_Step):
    """Cuts to the lungs. CT: air inside the body. Radiograph: the box of the two dark fields, a rough guess.

    Where no lungs are found the picture stays whole (and says so).
    """

    step: Literal["crop_lung"]
    margin_mm: float = Field(10.0, ge=0, description="kept around it; pixels where the spacing is unknown")
    air_below: float = Field(-400.0, description="CT: air is below this, HU")


class CropCircle(_Step):
    """Cuts to the bright disc of a fundus photograph, so that every camera gives the same size of eye."""

    step: Literal["crop_circle"]
    margin: float = Field(0.0, ge=-0.2, le=0.5, description="of the radius; below 0 cuts the rim off")
    blank: bool = Field(True, description="outside the disc becomes 0")


class FlipBreast(_Step):
    """Mirrors a mammogram so that the breast is on the left, by where the bright half is."""

    step: Literal["flip_breast"]


class Invert(_Step):
    """High becomes low: the picture's greatest and least value change places. MONOCHROME1 is turned over without it."""

    step: Literal["invert"]


class Pad(_Step):
    """Centres the picture in a frame: a square, or at least so many pixels a side; `value` around it."""

    step: Literal["pad"]
    square: bool = Field(True, description="rows and columns become the longer of the two")
    least: int = Field(1, ge=1, le=4096, description="rows and columns are at least this")
    value: float | None = Field(None, description="null = the picture's least value")


class Resize(_Step):
    """Makes the picture smaller or larger, aspect kept, before a costly step; the last resizing needs no step."""

    step: Literal["resize"]
    longest: int = Field(ge=8, le=4096, description="pixels along the longer of rows and columns; slices stay")
    grow: bool = Field(False, description="a smaller picture grows to it")


Step = Annotated[
    DenoiseMedian
    | DenoiseNlm
    | BiasField
    | Zscore
    | Percentiles
    | MatchHistogram
    | Window
    | Clip
    | Clahe
    | Resample
    | Reorient
    | CropBody
    | CropLung
    | CropCircle
    | FlipBreast
    | Invert
    | Pad
    | Resize,
    Field(discriminator="step"),
]

_STEPS: TypeAdapter[tuple[Step, ...]] = TypeAdapter(tuple[Step, ...])


def steps_to_json(steps: tuple[Step, ...]) -> list[dict[str, Any]]:
    """Plain values, for a plan or a card; `steps_from_json` reads them."""
    return [step.model_dump(mode="json") for step in steps]


def steps_from_json(data: Any) -> tuple[Step, ...]:
    """Raises: pydantic.ValidationError, a ValueError."""
    return _STEPS.validate_json(json.dumps(data))
