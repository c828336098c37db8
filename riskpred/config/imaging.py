"""How an image file becomes an encoder's pixels: channels, preparation steps in order, size, and what of a volume."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Protocol

from riskpred.config.steps import Step, steps_from_json, steps_to_json

Channels = Literal["grey", "rgb"] | tuple[str, ...]
"""grey: luminance of a coloured file.   rgb: three channels.   A list of file-name patterns: the path is a folder, and
the file that each pattern names is one channel."""

Volume = Literal["whole", "middle", "slices"]
"""whole: a picture of three dimensions.   middle: one slice.   slices: some, evenly spaced, each a picture."""

_BY_TYPE: dict[str, tuple[dict[str, Any], ...]] = {
    # Radiographs and ultrasound: the percentiles that every picture without a scale gets, nothing else is needed.
    "CR": (),
    "DX": (),
    "US": (),
    "MG": ({"step": "crop_body", "margin_mm": 2.0}, {"step": "flip_breast"}, {"step": "percentiles"}),
    "CT": ({"step": "reorient"}, {"step": "crop_body", "above": -500.0}, {"step": "window", "preset": "mediastinum"}),
    # Not turned: most MR is of thick slices, which are read in the plane they were taken in.
    "MR": ({"step": "percentiles", "foreground": "body"},),
    "OP": ({"step": "crop_circle"},),
}


@lru_cache
def default_steps(image_type: str | None) -> tuple[Step, ...]:
    """Steps of an image type (DICOM code) where the YAML names none; of one without an entry: no step.

    No step at all means: brought to size, percentiles .5 and 99.5 become 0 and 1, centred on 0.

    Example:
        >>> [step.step for step in default_steps("MG")], default_steps("CR")
        (['crop_body', 'flip_breast', 'percentiles'], ())
    """
    return steps_from_json(_BY_TYPE.get(image_type or "", ()))


_SCALING = frozenset({"zscore", "percentiles", "match_histogram", "window", "clahe"})
"""Steps after which values are 0 to 1."""

_OF_THE_FILE = frozenset({"window", "clip", "bias_field"})
"""Steps that read values in the file's units."""


@dataclass(frozen=True)
class Recipe:
    """How a file becomes pixels (S, C, H, W), or (1, C, Z, H, W) of a whole volume. `Recipe.of` makes one from YAML.

    size: (H, W); of a whole volume (Z, H, W); None = as the steps leave it (segmentation only: encoders read one size).
    slices: of `volume: slices`, how many; a shorter volume gives all it has.
    """

    channels: Channels = "grey"
    steps: tuple[Step, ...] = ()
    size: tuple[int, ...] | None = (64, 64)
    volume: Volume = "middle"
    slices: int = 1

    def __post_init__(self) -> None:
        if self.size is not None and len(self.size) != self.dims:
            raise ValueError("size has two numbers (rows, columns), of a whole volume three (slices first)")
        if self.size is not None and min(self.size) < 1:
            raise ValueError("size is 1 or more along each axis")
        if self.slices < 1 or (self.volume != "slices" and self.slices != 1):
            raise ValueError("slices is 1 or more, and belongs to `volume: slices`")
        names = [step.step for step in self.steps]
        scaling = [place for place, name in enumerate(names) if name in _SCALING]
        late = [name for name in names[scaling[0] + 1 :] if name in _OF_THE_FILE] if scaling else []
        if late:
            raise ValueError(f"{late[0]} reads the file's own units: it comes before {names[scaling[0]]}")

    @classmethod
    def of(
        cls,
        channels: Channels = "grey",
        steps: tuple[Step, ...] = (),
        size: int | tuple[int, ...] | None = 64,
        volume: Volume = "middle",
        slices: int = 1,
    ) -> "Recipe":
        """The same, where one number as size is the side of a square, of a cube for a whole volume.

        Raises: ValueError, when size or slices do not go with the volume.
        Example:
            >>> Recipe.of(size=32, volume="whole").size
            (32, 32, 32)
        """
        if isinstance(size, int):
            size = (size,) * (3 if volume == "whole" else 2)
        return cls(channels, steps, size, volume, slices)

    @property
    def dims(self) -> int:
        """2, or 3 for a whole volume."""
        return 3 if self.volume == "whole" else 2

    @property
    def channel_count(self) -> int:
        """C of the pixels."""
        return {"grey": 1, "rgb": 3}[self.channels] if isinstance(self.channels, str) else len(self.channels)

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` gives the same recipe back, also after json.dumps and loads."""
        channels = self.channels if isinstance(self.channels, str) else list(self.channels)
        size = None if self.size is None else list(self.size)
        steps = steps_to_json(self.steps)
        return {"channels": channels, "steps": steps, "size": size, "volume": self.volume, "slices": self.slices}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Recipe":
        """Raises: ValueError, KeyError, TypeError."""
        channels: Any = data["channels"]
        size = data["size"]
        channels = channels if isinstance(channels, str) else tuple(channels)
        return cls(
            channels,
            steps_from_json(data["steps"]),
            None if size is None else tuple(size),
            data["volume"],
            data["slices"],
        )


class ReadsImages(Protocol):
    """What an image modality and a segmentation stage have in common: `image_types`, and a recipe in parts."""

    @property
    def image_types(self) -> tuple[str, ...]: ...
    @property
    def channels(self) -> Channels: ...
    @property
    def steps(self) -> tuple[Step, ...] | None: ...
    @property
    def size(self) -> int | tuple[int, ...] | None: ...
    @property
    def volume(self) -> Volume: ...
    @property
    def slices(self) -> int: ...


def recipe_for(reader: ReadsImages, image_type: str | None) -> Recipe:
    """How an image of this type is prepared for a reader; without `steps`, those of the type. Raises: ValueError."""
    steps = default_steps(image_type) if reader.steps is None else reader.steps
    return Recipe.of(reader.channels, steps, reader.size, reader.volume, reader.slices)
