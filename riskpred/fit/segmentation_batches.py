"""Batches that a segmentation network trains on: pictures or patches, as often with a lesion as asked, varied anew."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from riskpred.config.segmentation import Augmentation, SegmentationStage
from riskpred.imaging.prepare import Prepared
from riskpred.imaging.segment import with_context

_ELASTIC_KNOTS = 4
"""Independent shifts along each side of a picture; between them they are interpolated."""

_AROUND = 2
"""Pixels around a lesion that count as its own do."""


class Example(NamedTuple):
    """One annotated image: its prepared pixels, and what they show.

    target: (S, H, W), or (Z, H, W) of a whole volume, uint8: values of the stage's `labels`, 0 = nothing.
    """

    prepared: Prepared
    target: NDArray[np.uint8]


class _Place(NamedTuple):
    """Something to train on: a lesion's middle, or a picture (2D) or volume without one in particular."""

    example: int
    picture: int
    middle: tuple[int, ...] | None


class Batches:
    """Endless batches of the stage's batch size, drawn with numpy's and torch's generators given.

    Each lesion comes as often as any other, whatever its size, and each picture without one as often as any other.

    Shape: pixels (T, C, H, W) or (T, C, Z, H, W) float32; target (T, L, ...) float32, 1 = that label; weight
        (T, 1, ...) float32, 1 or more: how much a pixel counts in the loss.
    """

    def __init__(self, stage: SegmentationStage, examples: Sequence[Example], draw: np.random.Generator) -> None:
        self.stage, self.examples, self.draw = stage, examples, draw
        self.values = torch.tensor(list(stage.labels), dtype=torch.int16)
        self.with_lesion: list[_Place] = []
        self.without: list[_Place] = []
        self.sizes: list[int] = []
        sides = np.zeros(stage.dims, np.int64)
        for number, example in enumerate(examples):
            assert example.target.shape == _target_shape(example.prepared.pixels)
            self._add(number, example.target)
            sides = np.maximum(sides, example.target.shape[-stage.dims :])
        # Every level halves it without a rest.
        even = stage.network.stem * 2 ** (len(stage.network.widths) - 1)
        self.patch = tuple(-(-int(side) // even) * even for side in stage.training.patch or sides)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        size, share = self.stage.training.batch_size, self.stage.training.with_lesion
        lesions, others = _passes(self.with_lesion, self.draw), _passes(self.without, self.draw)
        owed = 0.0
        while True:
            owed += size * share
            wanted = size if not self.without else min(size, int(owed)) if self.with_lesion else 0
            owed -= wanted
            places = [next(lesions) for _ in range(wanted)] + [next(others) for _ in range(size - wanted)]
            cut = [self._cut(place) for place in places]
            pixels, target = torch.stack([one for one, _ in cut]), torch.stack([one for _, one in cut])
            pixels, target = vary(pixels, target[:, None], self.stage)
            marked = target.round().to(torch.int16) == self.values.view(-1, *(1,) * self.stage.dims)
            yield pixels, marked.float(), self._weight(marked)

    def _add(self, number: int, target: NDArray[np.uint8]) -> None:
        here = np.isin(target, list(self.stage.labels))
        pictures = here[None] if self.stage.dims == 3 else here
        for at, picture in enumerate(pictures):
            settings = self.stage.training
            if not picture.any():
                self.without.append(_Place(number, at, None))
                continue
            if settings.patch is not None or settings.small_lesions:
                parts, count = ndimage.label(picture, np.ones((3,) * picture.ndim))
                self.sizes += np.bincount(parts[parts > 0])[1:].tolist()
            if settings.patch is None:
                self.with_lesion.append(_Place(number, at, None))
                continue
            for middle in ndimage.center_of_mass(picture, parts, range(1, count + 1)):
                self.with_lesion.append(_Place(number, at, tuple(round(x) for x in middle)))
            self.without.append(_Place(number, at, None))  # somewhere in it, mostly where there is none

    def _weight(self, marked: Tensor) -> Tensor:
        """1, and more in and around lesions smaller than the mean of those that train.

        Without it a lesion counts by its pixels, and a network gains next to nothing from one that has few. What lies
        around counts alike, so that nothing is gained by drawing it too large. Of a lesion that the patch cuts off,
        the size is not known, and it counts by its pixels.

        Shape: (T, L, ...) -> (T, 1, ...).
        """
        weight, power = torch.ones(len(marked), 1, *marked.shape[2:]), self.stage.training.small_lesions
        if not power:
            return weight
        mean = float(np.mean(self.sizes))
        for one, here in zip(weight, marked.any(dim=1).numpy(), strict=True):
            parts, _ = ndimage.label(here, np.ones((3,) * here.ndim))
            sizes = np.bincount(parts.ravel()).astype(np.float64)
            sizes[0] = mean
            if self.stage.training.patch is not None:
                for axis in range(here.ndim):
                    for end in (0, -1):
                        sizes[parts.take(end, axis)] = mean
            one[0] = torch.from_numpy(np.maximum(1.0, mean / sizes) ** power)[torch.from_numpy(parts).long()]
        wide = 2 * _AROUND + 1
        pool = functional.max_pool2d if self.stage.dims == 2 else functional.max_pool3d
        return pool(weight, wide, stride=1, padding=_AROUND)

    def _cut(self, place: _Place) -> tuple[Tensor, Tensor]:
        """Pixels (C, ...) and target values (...) of one patch; 0 where it reaches beyond the picture."""
        example = self.examples[place.example]
        if self.stage.dims == 3:
            pixels, target = torch.from_numpy(example.prepared.pixels[0]), torch.from_numpy(example.target)
        else:
            around = torch.from_numpy(example.prepared.pixels)
            pixels = with_context(around, self.stage, only=place.picture)[0]
            target = torch.from_numpy(example.target[place.picture])
        starts = [self._start(axis, side, place) for axis, side in enumerate(target.shape)]
        inside = tuple(slice(max(a, 0), a + n) for a, n in zip(starts, self.patch, strict=True))
        cut, marked = pixels[(slice(None), *inside)], target[inside].float()
        missing = [n - side for n, side in zip(self.patch, marked.shape, strict=True)]
        if any(missing):
            pad = [n for side in reversed(missing) for n in (0, side)]
            cut, marked = functional.pad(cut, pad), functional.pad(marked, pad)
        return cut, marked

    def _start(self, axis: int, side: int, place: _Place) -> int:
        """Anywhere that keeps the lesion's middle in the patch, well within where there is room."""
        length = self.patch[axis]
        if length >= side:
            return 0
        if place.middle is None:
            return int(self.draw.integers(0, side - length + 1))
        rim = length // 8
        low, high = place.middle[axis] - length + 1 + rim, place.middle[axis] - rim
        return int(np.clip(self.draw.integers(low, high + 1), 0, side - length))


def vary(pixels: Tensor, target: Tensor, stage: SegmentationStage) -> tuple[Tensor, Tensor]:
    """Each picture and its target turned, mirrored, stretched alike, then its values changed; by torch's generator."""
    how = stage.training.augmentation
    pixels, target = _moved(pixels, target, how, stage.dims)
    return _recoloured(pixels, how), target


def _moved(pixels: Tensor, target: Tensor, how: Augmentation, dims: int) -> tuple[Tensor, Tensor]:
    number, (height, width) = len(pixels), pixels.shape[-2:]
    for axis, name in enumerate(("slices", "rows", "columns")[3 - dims :], start=2):
        if name in how.flips:
            turned = torch.rand(number) < 0.5
            choose = turned.view(-1, *(1,) * (dims + 1))
            pixels = torch.where(choose, pixels.flip(axis), pixels)
            target = torch.where(choose, target.flip(axis), target)
    if not (how.rotate_degrees or how.scale or how.elastic):
        return pixels, target
    angle = (torch.rand(number) * 2 - 1) * float(np.deg2rad(how.rotate_degrees))
    scale = torch.exp((torch.rand(number) * 2 - 1) * float(np.log1p(how.scale)))
    theta = torch.zeros(number, dims, dims + 1)
    theta[:, 0, 0] = theta[:, 1, 1] = scale * angle.cos()
    theta[:, 0, 1], theta[:, 1, 0] = -scale * angle.sin() * height / width, scale * angle.sin() * width / height
    if dims == 3:
        theta[:, 2, 2] = scale
    grid = functional.affine_grid(theta, list(target.shape), align_corners=False)
    if how.elastic and dims == 2:
        shift = torch.randn(number, 2, _ELASTIC_KNOTS, _ELASTIC_KNOTS) * (2 * how.elastic)
        smooth = functional.interpolate(shift, size=(height, width), mode="bicubic", align_corners=True)
        grid = grid + smooth.movedim(1, -1)
    moved = functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return moved, functional.grid_sample(target, grid, mode="nearest", padding_mode="zeros", align_corners=False)


def _recoloured(pixels: Tensor, how: Augmentation) -> Tensor:
    number, channels, dims = len(pixels), pixels.shape[1], pixels.ndim - 2
    each = (number, channels, *(1,) * dims)
    if how.channel_copy and channels > 1:
        source = torch.arange(channels).repeat(number, 1)
        change = torch.rand(number) < how.channel_copy
        onto, from_ = torch.randint(channels, (number,)), torch.randint(channels, (number,))
        rows = torch.arange(number)[change]
        source[rows, onto[change]] = from_[change]
        pixels = pixels[torch.arange(number)[:, None], source]
    mean = pixels.mean(dim=tuple(range(2, pixels.ndim)), keepdim=True)
    contrast = 1 + (torch.rand(each) * 2 - 1) * how.contrast
    brightness = (torch.rand(each) * 2 - 1) * how.brightness
    pixels = (pixels - mean) * contrast + mean + brightness
    if how.noise:
        pixels = pixels + torch.randn(pixels.shape) * (torch.rand(number, *(1,) * (dims + 1)) * how.noise)
    return pixels


def _passes(places: list[_Place], draw: np.random.Generator) -> Iterator[_Place]:
    """Every place once in a drawn order, then again in another."""
    while True:
        for at in draw.permutation(len(places)):
            yield places[at]


def _target_shape(pixels: NDArray[np.float32]) -> tuple[int, ...]:
    return (pixels.shape[0], *pixels.shape[2:]) if pixels.ndim == 4 else pixels.shape[2:]
