"""imaging.yaml: segmentation stages, each a network that marks lesions of given names in images of given types."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from riskpred.config.imaging import Channels, Recipe, Volume, default_steps
from riskpred.config.model import Strict
from riskpred.config.radiomics import RadiomicsStage
from riskpred.config.steps import Step


class UNetSettings(Strict):
    """A UNet of residual blocks: each level halves the picture and has its own width."""

    widths: Annotated[tuple[int, ...], Field(min_length=2, max_length=7)] = Field(
        (16, 32, 64, 128, 192), description="channels of each level, the finest first"
    )
    stem: Literal[1, 2] = Field(1, description="2 = the finest level is half the picture's: 4 to 8 times faster")
    context: int = Field(
        0, ge=0, le=3, description="`volume: slices`: so many neighbours before and after as further channels"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="of the deepest level's channels")


class Augmentation(Strict):
    """How training pictures are varied; each is drawn anew for every picture of every step."""

    flips: tuple[Literal["slices", "rows", "columns"], ...] = ("columns",)
    rotate_degrees: float = Field(15.0, ge=0, le=180, description="within the slice, up to so much either way")
    scale: float = Field(0.1, ge=0, lt=0.9, description="larger or smaller by at most this share")
    brightness: float = Field(0.1, ge=0, le=1, description="added to a channel, in units of its 0..1")
    contrast: float = Field(0.2, ge=0, lt=1, description="a channel's values times 1 +- this")
    noise: float = Field(0.02, ge=0, le=1, description="SD of noise, at most")
    elastic: float = Field(0.0, ge=0, le=0.2, description="SD of smooth shifts within the slice, share of its sides")
    channel_copy: float = Field(
        0.0, ge=0, lt=1, description="probability that one channel becomes a copy of another, as of a missing sequence"
    )


class SegmentationTraining(Strict):
    """Dice and cross-entropy by AdamW, warm-up and cosine; the weights kept are their running mean."""

    steps: int = Field(1500, ge=1, description="of one batch, per fold")
    batch_size: int = Field(16, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    patch: tuple[int, ...] | None = Field(
        None, description="pixels a side of a training patch: rows, columns; of a whole volume slices first; null = all"
    )
    with_lesion: float = Field(0.6, ge=0, le=1, description="share of a batch whose slice or patch holds a lesion")
    loss: Literal["dice_cross_entropy", "dice_focal"] = Field(
        "dice_cross_entropy", description="focal: where lesions are a tiny part of the picture"
    )
    small_lesions: float = Field(
        0.0,
        ge=0,
        le=1,
        description="pixels of a lesion below the mean size, and those around it, count (mean / own size) ** this: "
        "0 = as any pixel; 1 = a small lesion counts as much as a mean one",
    )
    average: float = Field(0.995, ge=0, lt=1, description="decay of the weights' running mean; 0 = the last weights")
    augmentation: Augmentation = Augmentation()


class SlidingWindow(Strict):
    """Pictures larger than the window are read in overlapping windows, the middle of each counting most."""

    size: tuple[int, ...] | None = Field(
        None, description="rows, columns; of a whole volume slices first; null = the training patch, else all"
    )
    overlap: float = Field(0.5, ge=0, lt=1, description="share of a window that its neighbour reads, too")


class LesionRules(Strict):
    """What of the probabilities counts as a lesion."""

    threshold: float = Field(0.5, gt=0, lt=1, description="a pixel belongs to a lesion from this probability on")
    least_confidence: float = Field(0.0, ge=0, le=1)
    least_px: int = Field(1, ge=1, description="prepared pixels (voxels) of the smallest lesion")
    least_diameter_mm: float = Field(0.0, ge=0, description="longest diameter; not asked where spacing is unknown")
    most: int = Field(100, ge=1, description="lesions kept of one image and label, the most certain first")


class SegmentationStage(Strict):
    """One network: which images it reads, how they are prepared, and what it marks in them."""

    image_types: Annotated[tuple[str, ...], Field(min_length=1)]
    channels: Channels = "grey"
    steps: tuple[Step, ...] | None = Field(None, description="preparation; null = those of the image type")
    size: int | tuple[int, ...] | None = Field(None, description="pixels; null = as the steps leave the picture")
    volume: Volume = "middle"
    slices: int = Field(1, ge=1)
    labels: dict[int, str] = Field(min_length=1, description="value in masks and targets (from 1): name of the lesion")
    network: UNetSettings = UNetSettings()
    training: SegmentationTraining = SegmentationTraining()
    lesions: LesionRules = LesionRules()
    window: SlidingWindow = SlidingWindow()
    flip_averaging: bool = Field(True, description="the mean over the picture and its mirror images of `flips`")
    folds: int = Field(5, ge=2, description="networks, each trained without one of as many folds of the subjects")

    @model_validator(mode="after")
    def _consistent(self) -> "SegmentationStage":
        try:
            recipe = self.recipe(self.image_types[0])
        except ValueError as error:
            raise ValueError(str(error)) from None
        if "none" in self.names:
            raise ValueError("labels: `none` means that an image was looked at and has no lesion")
        if len(set(self.names)) < len(self.names) or not all(1 <= value <= 255 for value in self.labels):
            raise ValueError("labels: values of 1 to 255, each with a name of its own")
        if self.network.context and self.volume != "slices":
            raise ValueError("network.context needs `volume: slices`")
        for name, given in (("training.patch", self.training.patch), ("window.size", self.window.size)):
            if given is not None and len(given) != recipe.dims:
                raise ValueError(f"{name} has {recipe.dims} numbers")
        if "slices" in self.training.augmentation.flips and recipe.dims == 2:
            raise ValueError("training.augmentation.flips: slices are turned over in `volume: whole` only")
        return self

    @property
    def dims(self) -> int:
        """2, or 3 where the network reads whole volumes."""
        return 3 if self.volume == "whole" else 2

    @property
    def names(self) -> tuple[str, ...]:
        """Labels in the order of the network's outputs."""
        return tuple(self.labels.values())

    def recipe(self, image_type: str | None) -> Recipe:
        """How an image of this type is prepared for the stage. Raises: ValueError."""
        steps = default_steps(image_type) if self.steps is None else self.steps
        return Recipe.of(self.channels, steps, self.size, self.volume, self.slices)


class ImagingConfig(Strict):
    """The whole of imaging.yaml: stages that look at images, by name; a name stands once over both kinds."""

    segmentation: dict[str, SegmentationStage] = {}
    radiomics: dict[str, RadiomicsStage] = {}

    @model_validator(mode="after")
    def _names_once(self) -> "ImagingConfig":
        if both := sorted(set(self.segmentation) & set(self.radiomics)):
            raise ValueError(f"stages of segmentation and of radiomics with one name: {', '.join(both)}")
        return self

    @property
    def stages(self) -> Mapping[str, SegmentationStage | RadiomicsStage]:
        """All of them, those that mark lesions first."""
        return {**self.segmentation, **self.radiomics}
