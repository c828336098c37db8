"""What explanations start from, of each group by sex and age band: what its people send on average, their medians."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from riskpred.features.batch import FeatureBatch
from riskpred.model.network import Sent, SentOne
from riskpred.records.reference_group import EVERYONE, GROUPS, WIDER

NAMES: Final = "groups"
"""Entry of the file's metadata with the groups' names as JSON, in the order of the first dimension."""


@dataclass(frozen=True)
class Profiles:
    """Reference profiles of N groups, everyone's first; a group that has none of its own is explained by a wider one's.

    Shape:
        names: N of `records.reference_group.GROUPS`.
        sent: mean of what each modality sends over the group's training rows that have it: (R, N, G), (R, N, D).
        baseline: attribution baseline of each modality, in the form of `ModalityTensors.values` without rows and steps:
            tabular (N, W) medians and one-hot modes, series (N, C) medians, image (N, C, H, W) mean picture.
    """

    names: tuple[str, ...]
    sent: Sent
    baseline: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        assert self.names[0] == EVERYONE, "everyone's profile stands in for those that are not there"
        assert set(self.names) <= set(GROUPS), "groups as records.reference_group names them"

    def places(self, batch: FeatureBatch) -> NDArray[np.int64]:
        """Which profile each row is explained by, a place in `names`. Shape: (B,)."""
        if batch.group is None:
            return np.zeros(len(batch), dtype=np.int64)
        places: NDArray[np.int64] = self._place[batch.group]
        return places

    @cached_property
    def _place(self) -> NDArray[np.int64]:
        def place(name: str) -> int:
            return self.names.index(name) if name in self.names else place(WIDER[name])

        return np.array([place(name) for name in GROUPS], dtype=np.int64)

    @property
    def everyone(self) -> Sent:
        """Everyone's reference, (R, 1, G) and (R, 1, D)."""
        return {name: SentOne(one.coefficients[:, :1], one.embedding[:, :1]) for name, one in self.sent.items()}

    def tensors(self) -> dict[str, Tensor]:
        """For reference.safetensors, groups first."""
        found = {f"sent.{name}.coefficients": one.coefficients.transpose(0, 1) for name, one in self.sent.items()}
        found |= {f"sent.{name}.embedding": one.embedding.transpose(0, 1) for name, one in self.sent.items()}
        return found | {f"baseline.{name}": values for name, values in self.baseline.items()}

    def metadata(self) -> dict[str, str]:
        """For reference.safetensors, beside `tensors`."""
        return {NAMES: json.dumps(self.names)}

    @classmethod
    def load(cls, path: Path, modalities: tuple[str, ...]) -> "Profiles":
        """What `tensors` and `metadata` wrote."""
        with safe_open(path, framework="pt") as file:
            names = json.loads(file.metadata()[NAMES])
            known = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
        return cls(
            tuple(names),
            {
                name: SentOne(
                    known[f"sent.{name}.coefficients"].transpose(0, 1).contiguous(),
                    known[f"sent.{name}.embedding"].transpose(0, 1).contiguous(),
                )
                for name in modalities
            },
            {name: known[f"baseline.{name}"] for name in modalities},
        )
