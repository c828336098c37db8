"""A trained segmenter: prepared pixels become the probability of each label at each of them."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from riskpred.config.segmentation import SegmentationStage
from riskpred.imaging.prepare import Prepared
from riskpred.imaging.unet import UNet

WEIGHTS: Final = "segmenter.safetensors"
SETTINGS: Final = "segmenter.json"

_AT_ONCE: Final = 8
"""Pictures of one file (2D) or windows of one volume that go through a network together."""

_WINDOW_SPREAD: Final = 0.125
"""SD of a window's weight, as a share of its side: its rim sees only half of what lies around it."""


@dataclass(frozen=True)
class Segmenter:
    """The networks of one stage, one per fold of its training; their mean is the answer.

    Example: `Segmenter.load(folder).probabilities(prepared)` is (L, Z, H, W), one L per name of the stage's labels.
    """

    stage: SegmentationStage
    networks: tuple[UNet, ...]

    def probabilities(self, prepared: Prepared) -> NDArray[np.float32]:
        """Of each label at each pixel, in 0..1, whatever else is read before, after or beside this image.

        Shape: (L, Z, H, W); Z = slices of a whole volume, or the S pictures of `volume: slices`.
        """
        return self.of_pixels(prepared.pixels)

    def of_pixels(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same of pixels alone. Shape: (S, C, H, W), or (1, C, Z, H, W) of a whole volume -> (L, Z, H, W)."""
        assert pixels.ndim == self.stage.dims + 2
        given = torch.from_numpy(pixels)
        with torch.inference_mode():
            # One picture or window at a time through all networks: sums do not depend on how many there are.
            found = self._volume(given) if self.stage.dims == 3 else self._slices(with_context(given, self.stage))
        return found.numpy()

    def save(self, folder: Path) -> None:
        """Write the weights and settings into a folder, which is made where it is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        states = [net.state_dict() for net in self.networks]
        state = {f"{i}.{name}": value.contiguous() for i, one in enumerate(states) for name, value in one.items()}
        save_file(state, folder / WEIGHTS)
        (folder / SETTINGS).write_text(
            json.dumps({"stage": self.stage.model_dump(mode="json"), "networks": len(self.networks)}, indent=1)
        )

    @classmethod
    def load(cls, folder: Path) -> "Segmenter":
        """What `save` wrote, in eval mode. The caller has checked the files against its manifest."""
        said = json.loads((folder / SETTINGS).read_text())
        stage = SegmentationStage.model_validate_json(json.dumps(said["stage"]))
        state = load_file(folder / WEIGHTS)
        networks = []
        for i in range(said["networks"]):
            net = new_network(stage)
            net.load_state_dict({k.split(".", 1)[1]: v for k, v in state.items() if k.startswith(f"{i}.")})
            networks.append(net.eval().requires_grad_(False))
        return cls(stage, tuple(networks))

    def _slices(self, pixels: Tensor) -> Tensor:
        return torch.cat([self._windows(one) for one in torch.split(pixels, 1)]).transpose(0, 1)

    def _volume(self, pixels: Tensor) -> Tensor:
        return self._windows(pixels)[0]

    def _windows(self, pixels: Tensor) -> Tensor:
        """Mean over overlapping windows of one picture or volume. Shape: (1, C, ...) -> (1, L, ...)."""
        sides = tuple(pixels.shape[2:])
        size = self.stage.window.size or self.stage.training.patch
        window = sides if size is None else tuple(min(a, b) for a, b in zip(size, sides, strict=True))
        if window == sides:
            return self._mean(pixels)
        weight = _weight(window)
        total, weights = torch.zeros(1, len(self.stage.labels), *sides), torch.zeros(sides)
        for some in _batches(list(_places(sides, window, self.stage.window.overlap))):
            found = self._mean(torch.cat([pixels[_all(2, place)] for place in some]))
            for place, one in zip(some, found, strict=True):
                total[0][_all(1, place)] += one * weight
                weights[place] += weight
        return total / weights

    def _mean(self, pixels: Tensor) -> Tensor:
        """Mean probability over networks and mirror images. Shape: (T, C, ...) -> (T, L, ...)."""
        axes = mirror_axes(self.stage) if self.stage.flip_averaging else ()
        mirrored = [tuple(axis for axis, on in zip(axes, used, strict=True) if on) for used in _subsets(len(axes))]
        total = torch.zeros(len(pixels), len(self.stage.labels), *pixels.shape[2:])
        for net in self.networks:
            for flip in mirrored:
                total += net(pixels.flip(flip)).sigmoid().flip(flip)
        return total / (len(self.networks) * len(mirrored))


def new_network(stage: SegmentationStage) -> UNet:
    """An untrained network of the stage."""
    channels = stage.recipe(stage.image_types[0]).channel_count * (1 + 2 * stage.network.context)
    return UNet(stage.network, channels, len(stage.labels), stage.dims)


def with_context(pixels: Tensor, stage: SegmentationStage, only: int | None = None) -> Tensor:
    """Each picture (or only one) and its neighbours in the volume as channels; at the ends the last one again.

    Shape: (S, C, H, W) -> (S or 1, C * (1 + 2 * context), H, W), the picture itself first.
    """
    at = torch.arange(len(pixels)) if only is None else torch.tensor([only])
    reach = range(1, stage.network.context + 1)
    steps = [0, *(sign * step for step in reach for sign in (-1, 1))]
    return torch.cat([pixels[(at + step).clamp(0, len(pixels) - 1)] for step in steps], dim=1)


def mirror_axes(stage: SegmentationStage) -> tuple[int, ...]:
    """Axes of (T, C, ...) along which training mirrors pictures."""
    names = ("slices", "rows", "columns")[3 - stage.dims :]
    return tuple(2 + names.index(flip) for flip in stage.training.augmentation.flips)


def _subsets(axes: int) -> Iterator[tuple[bool, ...]]:
    return product((False, True), repeat=axes)


def _places(sides: Sequence[int], window: Sequence[int], overlap: float) -> Iterator[tuple[slice, ...]]:
    """Evenly spaced windows that cover all of a picture, each at least `overlap` over the next."""
    starts = []
    for side, length in zip(sides, window, strict=True):
        step = max(1, int(length * (1 - overlap)))
        number = 1 + -(-(side - length) // step)
        starts.append(np.linspace(0, side - length, number).round().astype(int).tolist())
    for corner in product(*starts):
        yield tuple(slice(start, start + length) for start, length in zip(corner, window, strict=True))


def _all(before: int, place: tuple[slice, ...]) -> tuple[slice, ...]:
    """The place, and all of the axes before."""
    return (slice(None),) * before + place


def _batches(places: list[tuple[slice, ...]]) -> Iterator[list[tuple[slice, ...]]]:
    for start in range(0, len(places), _AT_ONCE):
        yield places[start : start + _AT_ONCE]


def _weight(window: Sequence[int]) -> Tensor:
    """Gaussian around the window's middle, above 0 everywhere. Shape: window."""
    weight = torch.ones(())
    for side in window:
        from_middle = (torch.arange(side) - (side - 1) / 2) / (side * _WINDOW_SPREAD)
        weight = weight[..., None] * torch.exp(-0.5 * from_middle**2)
    return weight.clamp_min(1e-3)
