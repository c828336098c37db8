"""Carries out a recipe: the steps in their order, then slices chosen, brought to size, scaled to 0..1, padded."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from riskpred.config.imaging import Recipe
from riskpred.config.steps import Step
from riskpred.errors import ConfigError
from riskpred.imaging.paths import ImageProblem
from riskpred.imaging.picture import Grid, Picture
from riskpred.imaging.prepare import HIGH_PERCENT, LOW_PERCENT, Prepared, fitted
from riskpred.imaging.sampling import sampled
from riskpred.imaging.staged import Staged, staged
from riskpred.imaging.steps_bias import bias_field
from riskpred.imaging.steps_crop import crop_body, crop_circle, crop_lung
from riskpred.imaging.steps_place import flip_breast, pad, reorient, resample, resize
from riskpred.imaging.steps_texture import clahe, denoise_median, denoise_nlm
from riskpred.imaging.steps_values import clip, invert, match_histogram, percentiles, window, zscore

STEPS: Final[dict[str, Callable[[Staged, Any], Staged]]] = {
    "bias_field": bias_field,
    "clahe": clahe,
    "clip": clip,
    "crop_body": crop_body,
    "crop_circle": crop_circle,
    "crop_lung": crop_lung,
    "denoise_median": denoise_median,
    "denoise_nlm": denoise_nlm,
    "flip_breast": flip_breast,
    "invert": invert,
    "match_histogram": match_histogram,
    "pad": pad,
    "percentiles": percentiles,
    "reorient": reorient,
    "resample": resample,
    "resize": resize,
    "window": window,
    "zscore": zscore,
}
"""What carries out each step of config/steps.py."""


_WITH_SKIMAGE: Final = frozenset({"denoise_nlm", "clahe"})


def refuse_uninstalled(recipe: Recipe) -> None:
    """Raises: ConfigError, when a step needs a library that is not there."""
    steps = sorted(_WITH_SKIMAGE.intersection(step.step for step in recipe.steps))
    if steps and find_spec("skimage") is None:
        raise ConfigError(
            f"preparation of images: {' and '.join(steps)} need scikit-image, which is not installed.",
            wanted="the extra `imaging`",
            do="pip install 'riskpred[imaging]', or leave the step out",
        )


def prepare_picture(picture: Picture, recipe: Recipe) -> Prepared:
    """The pixels of a picture as a recipe wants them.

    A whole volume is brought to size by millimetres where its spacing is known, else by voxels; a slice by its pixels.
    Values that no step has scaled are scaled as `prepare` does: the percentiles .5 and 99.5 of the result become 0 and
    1, all slices together, the channels of a colour together, sequences each on its own.

    Raises: ImageProblem: no_contrast; channels_differ, when the picture has another number of channels than asked.
    """
    for _, now in stages(picture, recipe):
        last = now
    return finished(last, recipe)


def stages(picture: Picture, recipe: Recipe) -> Iterator[tuple[Step | None, Staged]]:
    """The picture as read (None), then after each step."""
    if len(picture.array) != recipe.channel_count:
        raise ImageProblem("channels_differ", f"{recipe.channel_count} channels")
    now = staged(picture, isinstance(recipe.channels, str))
    yield None, now
    early = _may_choose_after(recipe)
    for done, step in enumerate(recipe.steps):
        if done == early:
            now = _chosen(now, recipe)
        now = STEPS[step.step](now, step)
        yield step, now


def finished(now: Staged, recipe: Recipe) -> Prepared:
    """The last part of `prepare_picture`, once the steps are done."""
    now = _chosen(now, recipe)
    now, inner = _sized(now, recipe)
    array = _clipped(now) if now.scaled else _scaled(now)
    now = replace(now, array=array)
    if recipe.size is not None:
        frame = (now.array.shape[1], *recipe.size) if recipe.dims == 2 else recipe.size
        before = tuple((wide - size) // 2 for wide, size in zip(frame, inner, strict=True))
        now = now.padded((before[0], before[1], before[2]), (frame[0], frame[1], frame[2]), 0.0)
    else:
        before = (0, 0, 0)
    ends = [(first, first + size) for first, size in zip(before, inner, strict=True)]
    box = (ends[0], ends[1], ends[2])
    notes = (*now.picture.notes, *now.notes)
    if recipe.dims == 3:
        return Prepared(np.ascontiguousarray(now.array[None]), now.grid, (), box, notes)
    pixels = np.ascontiguousarray(np.moveaxis(now.array, 1, 0))
    slices = tuple((now.grid.offset[0] + now.grid.scale[0] * np.arange(len(pixels))).tolist())
    return Prepared(pixels, now.grid, slices, box, notes)


def prepare_like(mask: NDArray[np.generic], grid: Grid, shape: tuple[int, int, int], nearest: bool = True) -> Any:
    """A mask of the file on the prepared pixels of a grid; outside of the file 0.

    Args:
        mask: (Z, H, W) as the file has it.
        shape: slices (pictures), rows and columns of the prepared pixels.
        nearest: each pixel takes the nearest voxel's value, in the mask's own type; else float32: the share of the
            pixel that a mask of 0 and 1 covers.

    Raises: ImageProblem (mask_size), when the mask is not as large as the file.
    """
    if mask.shape != tuple(grid.shape.tolist()):
        raise ImageProblem("mask_size", "a mask with as many slices, rows and columns as its image")
    return sampled(np.transpose(mask, grid.axes), shape, grid.offset, grid.scale, nearest)


def _chosen(now: Staged, recipe: Recipe) -> Staged:
    """The slices that the recipe takes of a volume; at whole indices, evenly spaced, in the middle."""
    count = now.array.shape[1]
    wanted = {"whole": count, "middle": 1, "slices": min(recipe.slices, count)}[recipe.volume]
    if wanted == count:
        return now
    stride = count // wanted
    first = (count - 1 - stride * (wanted - 1)) // 2
    _, _, rows, columns = now.array.shape
    places = now.cropped(((first, first + stride * (wanted - 1) + 1), (0, rows), (0, columns)))
    grid = places.grid
    scale = grid.scale * np.array([stride, 1.0, 1.0])
    spacing = grid.spacing_mm * np.array([stride, 1.0, 1.0])
    return replace(places, array=places.array[:, ::stride], grid=replace(grid, scale=scale, spacing_mm=spacing))


def _may_choose_after(recipe: Recipe) -> int:
    """How many steps must see the whole volume: those up to the last that is not one of single pixels."""
    if recipe.volume == "whole":
        return len(recipe.steps)
    needed = [place for place, step in enumerate(recipe.steps) if not step.by_pixel]
    return needed[-1] + 1 if needed else 0


def _sized(now: Staged, recipe: Recipe) -> tuple[Staged, tuple[int, int, int]]:
    """Resized to fit the frame, aspect kept; and the size that it has then."""
    _, slices, rows, columns = now.array.shape
    if recipe.size is None:
        return now, (slices, rows, columns)
    if recipe.dims == 3:
        shape = _fitted_volume((slices, rows, columns), recipe.size, now.grid.spacing_mm)
        scale = np.array([slices, rows, columns]) / np.array(shape)
        return now.resampled(shape, scale / 2 - 0.5, scale), shape
    height, width = fitted((rows, columns), recipe.size)
    scale = np.array([1.0, rows / height, columns / width])
    return now.resampled((slices, height, width), scale / 2 - 0.5, scale), (slices, height, width)


def _fitted_volume(
    shape: tuple[int, int, int], frame: tuple[int, ...], spacing: NDArray[np.float64]
) -> tuple[int, int, int]:
    """Voxels of a volume that just fits a frame with voxels as long as wide as high, where its spacing is known.

    Example:
        >>> _fitted_volume((30, 240, 240), (32, 64, 64), np.array([5.0, 1.0, 1.0]))
        (32, 51, 51)
    """
    extent = np.array(shape) * (spacing if np.isfinite(spacing).all() else 1.0)
    voxel = (extent / np.array(frame)).max()
    wanted = np.clip(np.round(extent / voxel), 1, frame).astype(int).tolist()
    return wanted[0], wanted[1], wanted[2]


def _clipped(now: Staged) -> NDArray[np.float32]:
    array = np.clip(now.array, 0.0, 1.0)
    if not array.max() > array.min():
        raise ImageProblem("no_contrast", "pixels that differ from one another")
    return array


def _scaled(now: Staged) -> NDArray[np.float32]:
    done = [(now.array[part], scaled_by_percentiles(now.array[part])) for part in now.parts()]
    if all(part is None for _, part in done):
        raise ImageProblem("no_contrast", "pixels that differ from one another")
    return np.concatenate([np.zeros_like(was) if part is None else part for was, part in done])


def scaled_by_percentiles(
    array: NDArray[np.float32], low: float = LOW_PERCENT, high: float = HIGH_PERCENT
) -> NDArray[np.float32] | None:
    """Two percentiles become 0 and 1, beyond is cut; None where all values are the same."""
    wide = array.astype(np.float64)
    bottom, top = np.percentile(wide, (low, high))
    if not top > bottom:
        # One bright spot may be less than the percentiles see.
        bottom, top = float(wide.min()), float(wide.max())
    if not top > bottom:
        return None
    scaled: NDArray[np.float32] = np.clip((wide - bottom) / (top - bottom), 0.0, 1.0).astype(np.float32)
    return scaled
