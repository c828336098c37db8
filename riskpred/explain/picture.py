"""Where in an image its contribution comes from: a map of the subject's own target, and the regions found on it.

The map is Captum's integrated gradients: one target a subject. What its regions add to every target is integrated with
all targets at once (attribution.py). Of an image of several slices one is shown: that on which the map says most.
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
class Maps:
    """The slice of each of T pictures on which the map says most; a picture without slices is one.

    Shape: map (T, H, W) of each pixel, channels added, to the subject's own target; slice, channel (T,) int64, the
        channel that says most there; size (T,) how much the map says on it, risk points.
    """

    map: NDArray[np.float64]
    slice: NDArray[np.int64]
    channel: NDArray[np.int64]
    size: NDArray[np.float64]

    @classmethod
    def of(cls, whole: Tensor) -> "Maps":
        """Of maps of every pixel, (T, C, H, W) or (T, C, Z, H, W); the middle slice where the map says nothing."""
        deep = whole.double() if whole.ndim == 5 else whole.double()[:, :, None]
        each = deep.sum(dim=1).abs().sum(dim=(-2, -1))  # (T, Z)
        size, best = each.max(dim=1)
        best = torch.where(size > 0, best, each.shape[1] // 2)
        some = deep[torch.arange(len(deep)), :, best]  # (T, C, H, W)
        channel = some.abs().sum(dim=(-2, -1)).argmax(dim=1)
        return cls(some.sum(dim=1).numpy(), best.numpy(), channel.numpy(), size.numpy())

    @classmethod
    def joined(cls, parts: list["Maps"]) -> "Maps":
        """One after the other."""
        return cls(
            np.concatenate([one.map for one in parts]),
            np.concatenate([one.slice for one in parts]),
            np.concatenate([one.channel for one in parts]),
            np.concatenate([one.size for one in parts]),
        )

    def shown(self, image: NDArray[np.int64]) -> NDArray[np.int64]:
        """The picture of each image on which the map says most; the middle one where it says nothing.

        Shape: image (T,), a number for each image, ascending; result (images,) places among T, ascending.
        """
        found = []
        for number in np.unique(image):
            places = np.flatnonzero(image == number)
            size = self.size[places]
            found.append(places[size.argmax() if size.any() else len(places) // 2])
        return np.array(found, dtype=np.int64)


@dataclass(frozen=True)
class Picture:
    """What parts of the pictures of B subjects contribute, in risk points. P pictures are shown: one of each image.

    Shape:
        at: (P,) place among the T pictures of these subjects.   row: (P,) its subject, ascending.
        place: (P,) place among the subject's, 0 = the latest: its regions are `region` from place x REGIONS on.
        slice, channel: (P,) of the picture what is shown (`Maps`).
        map: (P, H, W) of each pixel, to the subject's own target.
        mask: (P, REGIONS, H, W) disjoint regions, the one with the largest sum first; empty ones last.
        region: (B, Q, N x REGIONS + 1) sums of the regions and, last, of the rest of all pictures, to every target; N
            is the most that a subject has.
    """

    at: NDArray[np.int64]
    row: NDArray[np.int64]
    place: NDArray[np.int64]
    slice: NDArray[np.int64]
    channel: NDArray[np.int64]
    map: NDArray[np.float64]
    mask: NDArray[np.bool_]
    region: NDArray[np.float64]

    @property
    def drawn(self) -> NDArray[np.bool_]:
        """Whether there is such a region. Shape: (B, N x REGIONS)."""
        found = np.zeros((len(self.region), self.region.shape[2] - 1), dtype=np.bool_)
        for p, regions in enumerate(np.asarray(self.mask.any(axis=(2, 3)))):
            found[self.row[p], self.place[p] * REGIONS :][:REGIONS] = regions
        return found

    @property
    def number(self) -> NDArray[np.int64]:
        """Number of each region of a subject, from 1: it names the row of explanations. Shape: (B, N x REGIONS)."""
        return self.drawn.cumsum(axis=1)


@dataclass(frozen=True)
class Shown:
    """The pictures whose regions are summed: `Picture.at`, `place` and `slice`; mask (P, REGIONS, H, W) float64."""

    inputs: ImageTensors
    at: NDArray[np.int64]
    place: NDArray[np.int64]
    slice: NDArray[np.int64]
    mask: Tensor

    @property
    def wide(self) -> int:
        """Numbers of a subject: the regions of all shown pictures, and the rest."""
        return int(self.place.max(initial=0) + 1) * REGIONS + 1

    def sums(self, attribution: Tensor, rows: Tensor) -> Tensor:
        """Attributions of every pixel of the rows' pictures, added up. Shape: (T, C, ...), (N,) -> (N, wide)."""
        count = self.inputs.count[rows]
        row = torch.arange(len(rows)).repeat_interleave(count)
        start = count.cumsum(0) - count
        found = attribution.new_zeros(len(rows), self.wide)
        found[:, -1] = found[:, -1].index_add(0, row, attribution.flatten(1).sum(dim=1))
        for n, subject in enumerate(rows.tolist()):
            first = int(self.inputs.start[subject])
            low, high = np.searchsorted(self.at, (first, int(self.inputs.start[subject + 1])))
            for p in range(low, high):
                one = attribution[int(start[n]) + int(self.at[p]) - first].sum(dim=0)
                flat = one[int(self.slice[p])] if one.ndim == 3 else one
                here = int(self.place[p]) * REGIONS
                found[n, here : here + REGIONS] = torch.einsum("hw,khw->k", flat, self.mask[p])
        found[:, -1] -= found[:, :-1].sum(dim=1)
        return found


def regions_on(maps: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The regions of each picture on its map. Shape: (P, H, W) -> (P, REGIONS, H, W), as `Picture.mask`."""
    mask = np.zeros((len(maps), REGIONS, *maps.shape[1:]), dtype=np.bool_)
    for row, one in enumerate(maps):
        for place, region in enumerate(regions_of(one)):
            mask[row, place] = region
    return mask


def attribution_map(
    worth: Worth, inputs: ImageTensors, start: Tensor, targets: Tensor, subject: Tensor, at_once: int | None = None
) -> Tensor:
    """Integrated gradients per pixel, for one target a row, by Captum.

    Args:
        start: where the paths start.   at_once: pictures in the encoder at a time, if there must be a limit.
    Shape: start (T, C, H, W) or (T, C, Z, H, W), as the result; targets, subject (B,).
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
        internal_batch_size=None if at_once is None else max(at_once, len(inputs.values)),
    )
    return found.detach()
