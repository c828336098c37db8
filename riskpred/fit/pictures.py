"""All pictures of the training people, labelled or not, prepared once and kept on disk: what pre-training learns from.

Held-out people are never read. A picture needs no prediction time: whatever lies in the split shows what pictures of
this site look like, and no outcome is read with it.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riskpred.features.plan import FeaturePlan, ImagePlan
from riskpred.imaging.decode import DecodePool, Wanted
from riskpred.imaging.paths import ImageProblem
from riskpred.progress import Progress, Silent
from riskpred.records.chunk import ImageRow
from riskpred.records.warehouse import Warehouse

_KEPT = np.float16
"""Half the room; its rounding, 1/4096 of the scale at most, is less than any view's change."""

_MEASURED_AT_ONCE = 64


@dataclass(frozen=True)
class Pictures:
    """Pictures of one image modality; those of `index` are used.

    Shape: pixels (T, C, H, W) or (T, C, Z, H, W) float16 in 0..1, on disk; together (T,), the subject of each, or its
        matched set or household; index (U,).
    left_out: reason -> images that could not be read.
    """

    pixels: NDArray[np.float16]
    together: NDArray[np.int64]
    index: NDArray[np.int64]
    left_out: dict[str, int]

    def __len__(self) -> int:
        return len(self.index)

    def without(self, together: NDArray[np.int64]) -> "Pictures":
        """The same less those of some people."""
        return replace(self, index=self.index[~np.isin(self.together[self.index], together)])

    def take(self, index: Tensor) -> Tensor:
        """Some of them, by place among those used. Shape: (N,) -> (N, C, ...) float32."""
        return torch.from_numpy(self.pixels[self.index[index.numpy()]].astype(np.float32))

    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation of all pixels used."""
        total, squares, count = 0.0, 0.0, 0
        for some in torch.split(torch.arange(len(self)), _MEASURED_AT_ONCE):
            values = self.take(some).double()
            total, squares, count = (
                total + float(values.sum()),
                squares + float(values.square().sum()),
                (count + values.numel()),
            )
        mean = total / max(1, count)
        return mean, float(np.sqrt(max(0.0, squares / max(1, count) - mean**2)))


def training_pictures(
    plan: FeaturePlan, warehouse: Warehouse, subjects: NDArray[np.int64], progress: Progress | None = None
) -> dict[str, Pictures]:
    """Every readable image of each image modality's types, of these subjects; one that cannot be read costs itself."""
    progress = progress or Silent()
    groups = warehouse.groups()
    with DecodePool() as pool:
        return {
            name: _pictures(part, list(_images(part, warehouse, subjects)), groups, warehouse, pool, progress)
            for name, part in plan.modalities.items()
            if isinstance(part, ImagePlan)
        }


def _images(plan: ImagePlan, warehouse: Warehouse, subjects: NDArray[np.int64]) -> Iterator[ImageRow]:
    for chunk in warehouse.chunks(subjects=subjects):
        for images in chunk.images:
            yield from (row for row in images if row.image_type in plan.image_types)


def _pictures(
    plan: ImagePlan,
    rows: list[ImageRow],
    groups: dict[int, int],
    warehouse: Warehouse,
    pool: DecodePool,
    progress: Progress,
) -> Pictures:
    root = warehouse.image_root
    wanted = [Wanted(root, row.path, plan.recipe_of(row.image_type), series=row.series) for row in rows]
    together: list[int] = []
    left_out: Counter[str] = Counter()
    with tempfile.TemporaryFile() as file:
        for i, (row, decoded) in enumerate(zip(rows, pool.decode(wanted), strict=True)):
            result = decoded.result
            assert result is not None, "no file's bytes were called known"
            if isinstance(result, ImageProblem):
                left_out[result.reason] += 1
            else:
                file.write(np.ascontiguousarray(result.pixels, _KEPT).tobytes())
                together += [groups.get(row.subject_id, row.subject_id)] * len(result.pixels)
            progress.step("read pictures", i + 1, len(rows))
        file.flush()
        shape = len(together), *plan.pixel_shape
        # The mapping keeps the file, which has no name and goes with it.
        pixels = np.memmap(file, _KEPT, "r", 0, shape) if together else np.zeros(shape, _KEPT)
    return Pictures(pixels, np.array(together, np.int64), np.arange(len(together)), dict(sorted(left_out.items())))
