"""imaging.yaml, `radiomics`: stages that measure images without any training, and the names of what they measure."""

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from riskpred.config.imaging import Channels, Recipe, Volume, default_steps
from riskpred.config.model import Strict
from riskpred.config.steps import Step

Family = Literal["brightness", "cooccurrence", "patterns", "edges", "waves", "layout", "mass"]

RADIOMICS: Final[dict[Family, tuple[str, ...]]] = {
    "brightness": ("mean", "sd", "skewness", "kurtosis", "p10", "p50", "p90", "entropy"),
    "cooccurrence": (
        *(f"{one}_{d}" for one in ("contrast", "homogeneity", "correlation", "energy") for d in (1, 3, 6)),
        "anisotropy",
    ),
    "patterns": tuple(
        name for radius in (1, 3) for name in (*(f"{n}_of_8_at_{radius}" for n in range(9)), f"mixed_at_{radius}")
    ),
    "edges": ("mean", "sd", "p95", "upright", "rising", "level", "falling", "entropy"),
    "waves": tuple(
        f"{one}_{length}_{turn}"
        for length in ("long", "middle", "short")
        for turn in ("upright", "rising", "level", "falling")
        for one in ("mean", "sd")
    ),
    "layout": tuple(f"row_{r}_column_{c}" for r in range(1, 6) for c in range(1, 6)),
    "mass": (
        *("area", "row", "column", "height", "taller_than_wide", "elongation", "upright", "solidity", "extent"),
        *("roundness", "raggedness", "mean", "sd", "p90", "contrast", "rim_step", "rim_sharpness", "rim_unevenness"),
        *("halo", "shadow", "below"),
    ),
}
"""Family -> its measures (imaging/radiomics.py says what each is); features read IMAGE//<stage>//<family>_<measure>."""


class RadiomicsStage(Strict):
    """Measures every image of some types: which, how they are prepared, and what is measured in them."""

    image_types: Annotated[tuple[str, ...], Field(min_length=1)]
    channels: Channels = "grey"
    steps: tuple[Step, ...] | None = Field(None, description="preparation; null = those of the image type")
    size: int | tuple[int, ...] = Field(128, description="pixels")
    volume: Volume = "middle"
    slices: int = Field(1, ge=1, description="of `volume: slices`: the mean picture of so many is measured")
    families: Annotated[tuple[Family, ...], Field(min_length=1)] = tuple(RADIOMICS)

    @model_validator(mode="after")
    def _consistent(self) -> "RadiomicsStage":
        self.recipe(self.image_types[0])
        if len(set(self.families)) < len(self.families):
            raise ValueError("families: each once")
        return self

    @property
    def labels(self) -> dict[int, str]:
        """It marks no lesions."""
        return {}

    @property
    def measures(self) -> tuple[str, ...]:
        """All that it may measure, <family>_<measure>."""
        return tuple(f"{family}_{name}" for family in self.families for name in RADIOMICS[family])

    def recipe(self, image_type: str | None) -> Recipe:
        """How an image of this type is prepared for the stage. Raises: ValueError."""
        steps = default_steps(image_type) if self.steps is None else self.steps
        return Recipe.of(self.channels, steps, self.size, self.volume, self.slices)
