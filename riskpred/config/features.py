"""features.yaml: what each modality is made of. Keys of `modalities` are the encoder names of network.yaml."""

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from riskpred.config.imaging import Channels, Recipe, Volume
from riskpred.config.model import Strict
from riskpred.config.steps import Step

Aggregate = Literal[
    "last", "age_days", "count", "mean", "slope", "min", "max", "ever", "first_age_days", "span_days", "change"
]
"""Over the events of one code in the window (prediction_time - window, prediction_time]:

last: latest value (static values count as oldest)      age_days: days since the latest event
count: number of events                                 mean, min, max: of the values
slope: least squares, per year, of 2 or more dated      ever: 1 if any event, else 0 (never missing)
first_age_days: days since the first event              span_days: first to latest event
change: latest value less the one before it, at an earlier time (2 or more)
"""


Side = Annotated[int, Field(ge=8, le=1024)]

_CODES_ONLY = frozenset({"codes", "aggregates", "windows_days", "category"})


class TabularFeature(Strict):
    """A block of features: every code x aggregate x window. `age_years` and `days_since_entry` are built in."""

    builtin: Literal["age_years", "days_since_entry"] | None = None
    codes: tuple[str, ...] = Field((), description="one feature per code; a code ending in * is one feature over all")
    aggregates: tuple[Aggregate, ...] = ("last",)
    windows_days: tuple[int | None, ...] = Field((None,), description="null = the whole past")
    category: bool = Field(False, description="text_value, or the end of a * code, as a category")
    required: bool = Field(False, description="the warehouse must hold each code at least once")
    display: str | None = None

    @model_validator(mode="after")
    def _codes_or_builtin(self) -> "TabularFeature":
        if (self.builtin is None) == (not self.codes):
            raise ValueError("give exactly one of builtin, codes")
        given = sorted(_CODES_ONLY & self.model_fields_set)
        if given and self.builtin is not None:
            raise ValueError(f"{', '.join(given)}: only for codes; a builtin feature is one number")
        return self

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the defaults that do not apply: what is written reads back."""
        written: dict[str, Any] = write(self)
        left_out = frozenset() if self.builtin is None else _CODES_ONLY
        return {key: value for key, value in written.items() if key not in left_out}


class TabularModality(Strict):
    kind: Literal["tabular"]
    features: Annotated[tuple[TabularFeature, ...], Field(min_length=1)]


class SeriesModality(Strict):
    """Irregular series: events of the codes at one time make one step (values, masks, gap, time to prediction)."""

    kind: Literal["series"]
    codes: Annotated[tuple[str, ...], Field(min_length=1)]
    window_days: int | None = None
    max_steps: int = Field(64, gt=0, description="the latest steps are kept")
    stale_after_days: int | None = Field(None, description="older than this: the modality is absent, receipt `stale`")
    required: bool = False


class ImageModality(Strict):
    """The latest readable images of these types at or before prediction_time, averaged by attention.

    channels, steps, size, volume and slices: see imaging.py.
    """

    kind: Literal["image"]
    image_types: Annotated[tuple[str, ...], Field(min_length=1)]
    window_days: int | None = None
    stale_after_days: int | None = None
    most_images: int = Field(1, ge=1, le=64, description="at most so many a row, the latest; those stale are left out")
    size: Side | Annotated[tuple[Side, ...], Field(min_length=2, max_length=3)] = Field(
        64, description="pixels that the encoder reads: one number a side, [rows, columns], or slices first"
    )
    channels: Channels = "grey"
    steps: tuple[Step, ...] | None = Field(None, description="null = those of the image type")
    volume: Volume = "middle"
    slices: int = Field(1, ge=1, le=256, description="of `volume: slices`, how many, evenly spaced")

    @model_validator(mode="after")
    def _fits(self) -> "ImageModality":
        Recipe.of(self.channels, self.steps or (), self.size, self.volume, self.slices)
        return self


class FeaturesConfig(Strict):
    """The whole of features.yaml."""

    modalities: Annotated[
        dict[str, Annotated[TabularModality | SeriesModality | ImageModality, Field(discriminator="kind")]],
        Field(min_length=1),
    ]
