"""What a bundle reads of a patient: every column, channel and image type, learned once on the training subjects.

features.yaml says what is wanted; the plan says what that became: categories seen, units trained on. It travels in the
bundle as JSON.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any

from riskpred.config.imaging import Channels, Recipe, Volume
from riskpred.config.steps import Step, steps_from_json, steps_to_json
from riskpred.errors import BundleError

VALUE_AGGREGATES = frozenset({"last", "mean", "slope", "min", "max", "change"})
"""Aggregates that read values, and so have their unit; the others only count events or measure time."""

BUILTIN = "builtin"
"""`aggregate` of age_years and days_since_entry; `code` is then that name."""


@dataclass(frozen=True)
class FeatureColumn:
    """One tabular feature.

    name: `CODE:aggregate`, with a window `CODE:aggregate:365d`, or the built-in's name.   code: may end in * (prefix).
    unit: of the column's values.   vocabulary: categories in the order of their index; () = numeric.
    """

    name: str
    code: str
    aggregate: str
    window_days: int | None
    unit: str | None
    display: str
    required: bool
    vocabulary: tuple[str, ...] = ()


@dataclass(frozen=True)
class TabularPlan:
    """Columns of one tabular modality."""

    columns: tuple[FeatureColumn, ...]


@dataclass(frozen=True)
class SeriesChannel:
    """One channel of a series; `code` may end in * (prefix): all its codes make one channel."""

    code: str
    unit: str | None
    display: str


@dataclass(frozen=True)
class SeriesPlan:
    """Channels of one series modality. Days as in features.yaml; None = no limit."""

    channels: tuple[SeriesChannel, ...]
    window_days: int | None
    max_steps: int
    stale_after_days: int | None
    required: bool = False


@dataclass(frozen=True)
class ImagePlan:
    """Which images one image modality takes, at most how many a row, and how a file becomes pixels.

    size: (rows, columns), of whole volumes (slices, rows, columns); one number = the same along each axis.
    steps: of each image type, as trained; a type that is not there has none.
    """

    image_types: tuple[str, ...]
    window_days: int | None
    stale_after_days: int | None
    size: int | tuple[int, ...]
    most_images: int = 1
    channels: Channels = "grey"
    steps: tuple[tuple[str, tuple[Step, ...]], ...] = ()
    volume: Volume = "middle"
    slices: int = 1

    def recipe_of(self, image_type: str) -> Recipe:
        """What becomes of a file of this type."""
        return Recipe.of(self.channels, dict(self.steps).get(image_type, ()), self.size, self.volume, self.slices)

    @property
    def pixel_shape(self) -> tuple[int, ...]:
        """(C, H, W) of a picture, (C, Z, H, W) of a whole volume."""
        recipe = self.recipe_of("")
        assert recipe.size is not None, "an encoder reads one size"
        return recipe.channel_count, *recipe.size

    @property
    def most_pictures(self) -> int:
        """Pictures of a row at most."""
        return self.most_images * self.slices

    def preparation(self) -> dict[str, object]:
        """All that decides the pixels of a file, as plain values."""
        return {image_type: self.recipe_of(image_type).to_json() for image_type in self.image_types}

    def to_json(self) -> dict[str, object]:
        """Plain values; `from_json` reads them."""
        steps = {image_type: steps_to_json(some) for image_type, some in self.steps}
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**given, "steps": steps}

    @classmethod
    def from_json(cls, item: dict[str, Any]) -> "ImagePlan":
        """What an older release did not write yet has its default."""
        item = {key: tuple(value) if isinstance(value, list) else value for key, value in item.items()}
        steps = item.pop("steps", {})
        return cls(**item, steps=tuple((image_type, steps_from_json(some)) for image_type, some in steps.items()))


ModalityPlan = TabularPlan | SeriesPlan | ImagePlan


@dataclass(frozen=True)
class FeaturePlan:
    """Everything read of a subject.

    modalities: encoder name -> plan, in the order of features.yaml.
    units: (code, unit) trained on, of every code whose values are read; None = values without a unit.
    """

    modalities: dict[str, ModalityPlan]
    units: tuple[tuple[str, str | None], ...] = ()

    def to_json(self) -> dict[str, object]:
        """Plain lists, dicts, texts and numbers; `from_json` gives the same plan back, also after json.dumps/loads."""
        kinds = {TabularPlan: "tabular", SeriesPlan: "series", ImagePlan: "image"}
        return {
            "modalities": [
                {
                    "name": name,
                    "kind": kinds[type(plan)],
                    **(plan.to_json() if isinstance(plan, ImagePlan) else asdict(plan)),
                }
                for name, plan in self.modalities.items()
            ],
            "units": [list(pair) for pair in self.units],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "FeaturePlan":
        """Raises: BundleError, when a key is missing, unknown or of an unknown kind."""
        try:
            modalities = {item["name"]: _modality(dict(item)) for item in data["modalities"]}
            return cls(modalities, tuple((code, unit) for code, unit in data["units"]))
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(
                "the bundle's feature plan is not readable.",
                wanted="modalities and units as FeaturePlan.to_json writes them",
                got=type(error).__name__,
                do="use a bundle of this version of riskpred, or fit again",
            ) from None


def _modality(item: dict[str, Any]) -> ModalityPlan:
    kind = item.pop("kind")
    item.pop("name")
    if kind == "tabular":
        return TabularPlan(
            tuple(FeatureColumn(**{**column, "vocabulary": tuple(column["vocabulary"])}) for column in item["columns"])
        )
    if kind == "series":
        return SeriesPlan(**{**item, "channels": tuple(SeriesChannel(**channel) for channel in item["channels"])})
    if kind == "image":
        return ImagePlan.from_json(item)
    raise ValueError(kind)
