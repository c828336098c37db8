"""What a bundle reads of a patient: every column, channel and image type, learned once on the training subjects.

features.yaml says what is wanted; the plan says what that became: categories seen, units trained on. It travels in the
bundle as JSON.
"""

from dataclasses import asdict, dataclass
from typing import Any

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
    """Which images one image modality takes, and how large it reads them (size x size pixels)."""

    image_types: tuple[str, ...]
    window_days: int | None
    stale_after_days: int | None
    size: int


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
                {"name": name, "kind": kinds[type(plan)], **asdict(plan)} for name, plan in self.modalities.items()
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
        return ImagePlan(**{**item, "image_types": tuple(item["image_types"])})
    raise ValueError(kind)
