"""Steps that look at a pixel's surroundings: denoising and local contrast."""

import math
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from riskpred.config.steps import Clahe, DenoiseMedian, DenoiseNlm
from riskpred.imaging.paths import ImageProblem
from riskpred.imaging.staged import Staged

_LAPLACIANS = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)


def denoise_median(now: Staged, step: DenoiseMedian) -> Staged:
    """See `config.imaging.DenoiseMedian`."""
    side = 2 * step.radius + 1
    size = (1, side if step.across_slices else 1, side, side)
    return now.with_values(ndimage.median_filter(now.array, size=size, mode="nearest"))


def denoise_nlm(now: Staged, step: DenoiseNlm) -> Staged:
    """See `config.imaging.DenoiseNlm`."""
    denoise = _skimage("restoration").denoise_nl_means
    array = np.array(now.array)
    for channel in array:
        noise = float(np.median([noise_sd(plane) for plane in channel]))
        if not noise > 0:
            continue  # without noise every pixel is unlike all others
        for z, plane in enumerate(channel):
            channel[z] = denoise(
                plane,
                patch_size=step.patch,
                patch_distance=step.distance,
                h=step.strength * noise,
                sigma=noise,
                fast_mode=True,
            )
    return now.with_values(array)


def noise_sd(plane: NDArray[np.float32]) -> float:
    """Standard deviation of the noise of one slice, from what a difference of two Laplacians leaves of it.

    Source: Immerkaer 1996, Computer Vision and Image Understanding 64:300-302.
    """
    if min(plane.shape) < 3:
        return 0.0
    left = ndimage.convolve(plane, _LAPLACIANS)[1:-1, 1:-1]
    return math.sqrt(math.pi / 2) / 6 * float(np.abs(left).mean(dtype=np.float64))


def clahe(now: Staged, step: Clahe) -> Staged:
    """See `config.imaging.Clahe`. Of three channels of a colour the brightness (V of HSV) is equalised, hue stays."""
    equalise = _skimage("exposure").equalize_adapthist
    array = np.zeros_like(now.array)
    flat = 0
    kernel = [max(1, size // step.tiles) for size in now.array.shape[2:]]
    places = [(part, z) for part in now.parts() for z in range(now.array.shape[1])]
    for part, z in places:
        plane = np.moveaxis(now.array[part, z], 0, -1)
        low, high = float(plane.min()), float(plane.max())
        if not high > low:
            flat += 1
            continue
        scaled = (plane - low) / (high - low)
        done = equalise(scaled if scaled.shape[-1] == 3 else scaled[..., 0], kernel_size=kernel, clip_limit=step.limit)
        array[part, z] = np.moveaxis(done, -1, 0) if done.ndim == 3 else done
    if flat == len(places):
        raise ImageProblem("no_contrast", "pixels that differ from one another")
    return now.with_values(array, scaled=True)


def _skimage(part: str) -> Any:
    """scikit-image, imported where it is used: half a second that a night without these steps does not pay."""
    return import_module(f"skimage.{part}")
