"""Where in an image its contribution comes from: a map of the subject's own target, and the regions found on it.

The map is Captum's integrated gradients: one target a subject. What its regions add to every target is integrated with
all targets at once (attribution.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riskpred.explain.regions import REGIONS, regions_of
from riskpred.model.tensors import ImageTensors, ModalityTensors

Worth = Callable[[ModalityTensors, Tensor], Tensor]
"""What a modality contributes: of N rows, of these subjects (N,), to every target (N, Q)."""

MAP_STEPS: Final = 8
"""Points of the map: it only says where to look, the sums of the regions are integrated to the promise."""


@dataclass(frozen=True)
class Picture:
    """What parts of B pictures contribute, in risk points.

    Shape:
        map: (B, H, W) of each pixel, to the subject's own target.
        mask: (B, REGIONS, H, W) disjoint regions, the one with the largest sum first; empty ones last.
        region: (B, Q, REGIONS + 1) sums of the regions and, last, of the rest of the picture, to every target.
    """

    map: NDArray[np.float64]
    mask: NDArray[np.bool_]
    region: NDArray[np.float64]


def regions_on(maps: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The regions of each picture on its map. Shape: (B, H, W) -> (B, REGIONS, H, W), as `Picture.mask`."""
    mask = np.zeros((len(maps), REGIONS, *maps.shape[1:]), dtype=np.bool_)
    for row, one in enumerate(maps):
        for place, region in enumerate(regions_of(one)):
            mask[row, place] = region
    return mask


def attribution_map(worth: Worth, inputs: ImageTensors, start: Tensor, targets: Tensor, subject: Tensor) -> Tensor:
    """Integrated gradients per pixel, for one target a row, by Captum.

    Args:
        start: where the paths start.
    Shape: start (B, H, W); targets, subject (B,); result (B, H, W).
    """
    from captum.attr import IntegratedGradients  # seconds to import, and only images need it

    def forward(values: Tensor, row: Tensor) -> Tensor:
        return worth(inputs.take(row).with_values(values), subject[row])

    rows = torch.arange(len(subject))
    found: Tensor = IntegratedGradients(forward).attribute(
        inputs.values,
        start,
        target=targets,
        additional_forward_args=(rows,),
        n_steps=MAP_STEPS,
        method="gausslegendre",
    )
    return found.detach()
