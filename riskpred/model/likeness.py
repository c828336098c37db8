"""How far rows lie from training rows: a distance, and the two views it is taken in, fused embedding and raw inputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from riskpred.features.plan import FeaturePlan, TabularPlan
from riskpred.model.likeness_loop import LARGEST, add_embedding, mean_distance
from riskpred.model.network import Sent
from riskpred.model.tensors import ModalityTensors, SeriesTensors, TabularTensors, column_owner

_TAIL: Final = 0.001
"""Centre and spread are those of values held within these training quantiles, as everywhere in the network: records
hold pressures of 13,682, and a spread that includes them would hide the next one."""
_LEAST_SPREAD: Final = 0.1
"""Least spread of a column, as a share of its range within the tails: a rare diagnosis then counts at most as 10 SD;
having one is not being unlike the people trained on."""
_SHRINKAGE: Final = 0.1
"""Share of the identity mixed into the correlations: no combination of columns that hardly varied in training counts
more than about 3 times its own size, and fewer rows than columns will do."""


@dataclass(frozen=True)
class Cloud:
    """Where training rows lie in P columns; the Mahalanobis distance of other rows from there.

    Shape: centre, gain (1 / spread; 0 for a column that never varied): (..., P); whitening: (..., P, P), whose product
        with its own transpose is the inverse of the shrunk correlation matrix. Leading dimensions: several clouds.
    Example:
        >>> cloud = Cloud.learn(np.random.default_rng(0).normal(10.0, 2.0, size=(1000, 3)))
        >>> cloud.distance(np.array([[10.0, 10.0, 10.0], [10.0, 90.0, np.nan]])).round(0)
        array([ 0., 42.])
    """

    centre: NDArray[np.float64]
    gain: NDArray[np.float64]
    whitening: NDArray[np.float64]

    @classmethod
    def learn(cls, values: NDArray[np.float64]) -> "Cloud":
        """Centre, spread and correlations of (N, P) training rows; NaN = not there, which counts as the centre."""
        centre, gain = np.zeros(values.shape[1]), np.zeros(values.shape[1])
        z = np.zeros(values.shape)
        for p, column in enumerate(values.T):
            seen = np.isfinite(column)
            if not seen.any():
                continue
            # Values that occurred: between a rare 1 and many 0 an interpolated limit would be next to nothing.
            tails = np.quantile(column[seen], [_TAIL, 1.0 - _TAIL], method="inverted_cdf")
            held = np.clip(column[seen], *tails)
            # A column that is the same for nearly everyone varies only beyond its tails.
            held = held if np.ptp(held) > 0 else column[seen]
            spread = max(held.std(), _LEAST_SPREAD * np.ptp(held))
            centre[p] = held.mean()
            if spread > 1e-9 * (1.0 + abs(centre[p])):
                gain[p] = 1.0 / spread
                z[seen, p] = (held - centre[p]) / spread
        size = np.sqrt((z**2).sum(axis=0))
        together = torch.from_numpy(z / np.where(size > 0, size, 1.0))
        correlation = (together.T @ together).fill_diagonal_(1.0)
        shrunk = (1.0 - _SHRINKAGE) * correlation + _SHRINKAGE * torch.eye(len(centre), dtype=torch.float64)
        return cls(centre, gain, torch.linalg.inv(torch.linalg.cholesky(shrunk)).T.contiguous().numpy())

    @classmethod
    def stacked(cls, clouds: Sequence["Cloud"]) -> "Cloud":
        """Several clouds as one, with a new first dimension."""
        return cls(
            np.stack([cloud.centre for cloud in clouds]),
            np.stack([cloud.gain for cloud in clouds]),
            np.stack([cloud.whitening for cloud in clouds]),
        )

    def __getitem__(self, index: int) -> "Cloud":
        """One along the first dimension."""
        return Cloud(self.centre[index], self.gain[index], self.whitening[index])

    def distance(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mahalanobis distance of rows from the centre; what is not there (NaN) adds nothing.

        Shape: (..., B, P) -> (..., B).
        """
        # Products are torch's, not numpy's: they keep to one thread (threads.py).
        held, (centre, gain, whitening) = torch.from_numpy(values).clamp(-LARGEST, LARGEST), self._tensors
        z = ((held - centre[..., None, :]) * gain[..., None, :]).nan_to_num(nan=0.0)
        found: NDArray[np.float64] = torch.linalg.vector_norm(z @ whitening, dim=-1).numpy()
        return found

    def mean_distance(self, values: NDArray[np.float64], rows: NDArray[np.int64], result: NDArray[np.float64]) -> None:
        """Fill `result` at `rows` with the mean of the rows' distances over several clouds; the same as `distance`.

        Shape: values (R, B, P) for R clouds, result (B,). It is fastest where rows lie innermost in memory.
        """
        mean_distance(
            np.ascontiguousarray(values.swapaxes(1, 2)),
            rows,
            self.centre.reshape(len(values), -1),
            self.gain.reshape(len(values), -1),
            self.whitening.reshape(len(values), *self.whitening.shape[-2:]),
            result,
        )

    @cached_property
    def _tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return torch.from_numpy(self.centre), torch.from_numpy(self.gain), torch.from_numpy(self.whitening)


def fused_embedding(sent: Sent, reference: Sent, present: Mapping[str, torch.Tensor]) -> NDArray[np.float64]:
    """What a member's joint term reads, less the reference of the same modalities, by member.

    The sum over present modalities of embedding - reference: rows with different modalities then share a centre.

    Shape: sent (R, B, D), reference (R, 1, D), present (B,); result (R, B, D).
    """
    members, rows, wide = next(iter(sent.values())).embedding.shape
    total = np.zeros((members, wide, rows))
    for name, one in sent.items():
        add_embedding(
            np.ascontiguousarray(one.embedding.mT.numpy()),
            np.ascontiguousarray(reference[name].embedding[:, 0].numpy()),
            present[name].numpy(),
            total,
        )
    return total.swapaxes(1, 2)


def input_profile(plan: FeaturePlan, inputs: Mapping[str, ModalityTensors]) -> NDArray[np.float64]:
    """Raw inputs in P columns, before the limits that encoders put on values, NaN where not there.

    Tabular: each number; series: lowest and highest value of each channel; image: mean and SD of the pixels. Categories
    have no place here: one that training never saw is missing.

    Shape: tensors of B rows -> (B, P).
    """
    columns: list[NDArray[np.float64]] = []
    for name, part in plan.modalities.items():
        given = inputs[name]
        if isinstance(given, TabularTensors):
            assert isinstance(part, TabularPlan)
            owner = column_owner(part.columns)
            numeric = [at for at, feature in enumerate(owner) if not part.columns[feature].vocabulary]
            values = given.values[:, numeric].double().numpy()
            known = given.observed[:, [owner[at] for at in numeric]].numpy()
        elif isinstance(given, SeriesTensors):
            values, known = _ends(given)
        else:
            values = given.moments.numpy()
            known = np.ones(values.shape, dtype=bool)
        columns.append(np.where(known & given.present.numpy()[:, None], values, np.nan))
    return np.concatenate(columns, axis=1)


def _ends(series: SeriesTensors) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Lowest, then highest value of each channel, and whether it has any. Shape: (B, 2C), (B, 2C)."""
    seen = series.observed.any(dim=1)
    if not series.values.shape[1]:
        low = high = torch.zeros(seen.shape)
    else:
        low = torch.where(series.observed, series.values, torch.inf).amin(dim=1)
        high = torch.where(series.observed, series.values, -torch.inf).amax(dim=1)
    return torch.cat([low, high], dim=1).double().numpy(), torch.cat([seen, seen], dim=1).numpy()
