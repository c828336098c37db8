"""Training pictures changed at random: as the same body could have looked on another day, never as none could.

What is usual depends on the image type: `defaults`. A radiograph of the chest is never mirrored, since the heart tells
left from right; neither are CT and MR. Everything is drawn from the training's generator: one seed, one training.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import pi
from typing import Final

import torch
from torch import Tensor, nn

from riskpred.config.network import Augmentation, ImageEncoder
from riskpred.features.plan import ImagePlan
from riskpred.model.tensors import ImageTensors

_RADIOGRAPH: Final = Augmentation(rotate_degrees=7, scale=0.1, shift=0.05, brightness=0.05, contrast=0.15, gamma=0.15)

_BY_TYPE: Final[dict[str, Augmentation]] = {
    "CR": _RADIOGRAPH,
    "DX": _RADIOGRAPH,
    "CT": Augmentation(rotate_degrees=10, scale=0.1, shift=0.05, brightness=0.05, contrast=0.1, noise=0.02),
    "MR": Augmentation(rotate_degrees=10, scale=0.1, shift=0.05, brightness=0.05, contrast=0.15, gamma=0.2, noise=0.02),
    "US": Augmentation(
        flip_left_right=True,
        rotate_degrees=15,
        scale=0.2,
        shift=0.1,
        brightness=0.05,
        contrast=0.2,
        gamma=0.2,
        speckle=0.1,
    ),
    # Breasts were turned to one side already: above and below may change places, as the two sides of the body do.
    "MG": Augmentation(flip_up_down=True, rotate_degrees=15, scale=0.1, shift=0.05, contrast=0.15, gamma=0.15),
    "OP": Augmentation(
        flip_left_right=True,
        flip_up_down=True,
        rotate_degrees=180,
        scale=0.1,
        shift=0.03,
        brightness=0.05,
        contrast=0.15,
    ),
}


def defaults(image_types: Sequence[str]) -> Augmentation:
    """What every one of the image types allows, as far as the most careful of them goes.

    Example:
        >>> defaults(["US"]).flip_left_right, defaults(["US", "CR"]).flip_left_right, defaults(["OT"]).rotate_degrees
        (True, False, 0.0)
    """
    each = [_BY_TYPE.get(one, Augmentation()) for one in image_types]
    names = list(Augmentation.model_fields)
    return Augmentation(**{name: min(getattr(one, name) for one in each) for name in names}) if each else Augmentation()


def augmentation(settings: ImageEncoder, plan: ImagePlan) -> Augmentation | None:
    """How pictures of a modality are changed; None = not at all."""
    if settings.augment == "none":
        return None
    found = defaults(plan.image_types) if settings.augment == "auto" else settings.augment
    return None if found == Augmentation() else found


def augmented(given: ImageTensors, how: Augmentation, generator: torch.Generator) -> ImageTensors:
    """The same rows with their pictures changed."""
    return replace(given, values=changed(given.values, how, generator)) if len(given.values) else given


def changed(pixels: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Each picture turned, moved and scaled, then made brighter or darker, by its own draw; 0 comes in at the sides.

    Shape: (T, C, H, W) or (T, C, Z, H, W) in 0..1 -> the same.
    """

    def draw(most: float) -> Tensor:
        return (torch.rand(len(pixels), generator=generator) * 2 - 1) * most

    moved = _moved(pixels, how, draw(how.rotate_degrees * pi / 180), 1 + draw(how.scale), generator)
    shape = (-1,) + (1,) * (pixels.ndim - 1)
    if how.gamma:
        moved = moved.clamp(0, 1) ** (1 + draw(how.gamma)).view(shape)
    if how.contrast:
        mean = moved.flatten(1).mean(1).view(shape)
        moved = mean + (moved - mean) * (1 + draw(how.contrast)).view(shape)
    if how.brightness:
        moved = moved + draw(how.brightness).view(shape)
    if how.speckle:
        grain = torch.randn(moved.shape, generator=generator)
        pool = nn.functional.avg_pool2d if pixels.ndim == 4 else nn.functional.avg_pool3d
        # A mean of 3 pixels each way is less spread by the root of their number.
        grain = pool(grain, 3, 1, 1) * 3.0 ** ((pixels.ndim - 2) / 2)
        moved = moved * (1 + how.speckle * grain)
    if how.noise:
        moved = moved + how.noise * torch.randn(moved.shape, generator=generator)
    return moved.clamp(0, 1)


def _moved(pixels: Tensor, how: Augmentation, angle: Tensor, scale: Tensor, generator: torch.Generator) -> Tensor:
    """Turned within rows and columns, scaled, shifted, mirrored: one interpolation for all."""
    many, dims = len(pixels), pixels.ndim - 2
    sign = torch.ones(many, 2)
    for axis, flips in enumerate((how.flip_left_right, how.flip_up_down)):
        if flips:
            sign[:, axis] = (torch.rand(many, generator=generator) < 0.5).float() * -2 + 1
    shift = (torch.rand(many, dims, generator=generator) * 2 - 1) * how.shift * 2
    if not (how.rotate_degrees or how.scale or how.shift):
        return _mirrored(pixels, sign)
    # grid_sample counts columns first, and asks where a pixel comes from: the turn is undone, the scale divided by.
    height, width = pixels.shape[-2:]
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    matrix = torch.zeros(many, dims, dims + 1)
    matrix[:, 0, 0], matrix[:, 0, 1] = cos * sign[:, 0], -sin * (height / width) * sign[:, 0]
    matrix[:, 1, 0], matrix[:, 1, 1] = sin * (width / height) * sign[:, 1], cos * sign[:, 1]
    if dims == 3:
        matrix[:, 2, 2] = 1 / scale
    matrix[:, :, dims] = shift
    where = nn.functional.affine_grid(matrix, list(pixels.shape), align_corners=False)
    return nn.functional.grid_sample(pixels, where, padding_mode="zeros", align_corners=False)


def _mirrored(pixels: Tensor, sign: Tensor) -> Tensor:
    """Without interpolation: a picture that is not mirrored stays as it is."""
    shape = (-1,) + (1,) * (pixels.ndim - 1)
    across = torch.where(sign[:, 0].view(shape) < 0, pixels.flip(-1), pixels)
    return torch.where(sign[:, 1].view(shape) < 0, across.flip(-2), across)
