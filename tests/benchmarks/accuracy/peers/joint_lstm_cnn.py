"""The neural peer: MLP, LSTM and CNN trained end to end, their embeddings side by side under one head of hazards.

After MultiSurv (Vale-Silva & Rohr 2021, Sci Rep 11:13505: a submodule per modality, discrete-time survival, missing
modalities as zeros) and MedFuse (Hayat et al. 2022, PMLR 182:479-503: LSTM and CNN trained jointly).
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from riskpred.features.batch import FeatureBatch
from riskpred.features.plan import FeaturePlan, TabularPlan
from riskpred.fit.data import Rows, stratified_folds
from riskpred.fit.grid import learn_layout
from riskpred.model.layout import GroupGrid, Layout
from riskpred.model.tensors import ImageTensors, ModalityTensors, SeriesTensors, TabularTensors, tensors_of
from riskpred.model.threads import one_thread
from tests.benchmarks.accuracy.task import ALL_INPUTS, Floats, Result, Task

_EMBEDDING: Final = 32
_WIDTH: Final = 64
_STATE: Final = 48
_DROPOUT: Final = 0.3
_INTERVALS: Final = 12
_SEEDS: Final = 3
_EPOCHS: Final = 40
_PATIENCE: Final = 5
_STOPPING_FOLDS: Final = 6
"""One in so many subjects stops the training instead of taking part in it."""
_SMALL: Final = 1_000
"""Below so many rows batches are small: 32 instead of 256."""


def fit(task: Task) -> Result:
    """Mean risk of three seeds, each with its own stopping part of the training rows."""
    with one_thread():
        layout = learn_layout(task.config.outcomes, task.train, _INTERVALS)
        train, test = _tensors(task.train.batch, task.plan), _tensors(task.test.batch, task.plan)
        labels = [_labels(group, task.train) for group in layout.groups]
        risks, epochs = [], []
        for seed in range(_SEEDS):
            own = 1_000 * task.seed + seed
            part = stratified_folds(task.train.together, task.train.labels(), _STOPPING_FOLDS, own)
            network, epoch = _trained(train, labels, layout, part == 0, own)
            risks.append(_risks(network, test, layout))
            epochs.append(epoch)
    return Result({ALL_INPUTS: np.clip(np.mean(risks, axis=0), 0.0, 1.0)}, settings={"epochs": epochs})


class TabularPart(nn.Module):
    """Standardised values and missing flags through two layers. Shape: TabularTensors of B rows -> (B, D)."""

    mean: Tensor
    scale: Tensor

    def __init__(self, learned_on: TabularTensors) -> None:
        super().__init__()
        values = learned_on.values[learned_on.present]
        self.register_buffer("mean", values.mean(0))
        self.register_buffer("scale", values.std(0).clamp_min(1e-3))
        width = learned_on.values.shape[1] + learned_on.observed.shape[1]
        self.layers = nn.Sequential(
            nn.Linear(width, _WIDTH), nn.ReLU(), nn.Dropout(_DROPOUT), nn.Linear(_WIDTH, _EMBEDDING), nn.ReLU()
        )

    def forward(self, given: TabularTensors) -> Tensor:
        values = ((given.values - self.mean) / self.scale).clamp(-5, 5)
        # A value of 0 stands for a missing one: the flag beside it says which.
        result: Tensor = self.layers(torch.cat([values, (~given.observed).float()], dim=1))
        return result


class SeriesPart(nn.Module):
    """LSTM over values, masks, gaps and times; its last state. Shape: SeriesTensors of B rows -> (B, D)."""

    mean: Tensor
    scale: Tensor

    def __init__(self, learned_on: SeriesTensors) -> None:
        super().__init__()
        seen, count = learned_on.observed, learned_on.observed.sum((0, 1)).clamp_min(1)
        mean = (learned_on.values * seen).sum((0, 1)) / count
        spread = (((learned_on.values - mean) * seen) ** 2).sum((0, 1)) / count
        self.register_buffer("mean", mean)
        self.register_buffer("scale", spread.sqrt().clamp_min(1e-3))
        channels = learned_on.values.shape[2]
        self.lstm = nn.LSTM(2 * channels + 2, _STATE, batch_first=True)
        self.out = nn.Sequential(nn.Dropout(_DROPOUT), nn.Linear(_STATE, _EMBEDDING), nn.ReLU())

    def forward(self, given: SeriesTensors) -> Tensor:
        result = given.values.new_zeros(len(given.length), _EMBEDDING)
        rows = (given.length > 0).nonzero()[:, 0]
        if len(rows):
            some = given.take(rows)
            values = ((some.values - self.mean) / self.scale).clamp(-5, 5) * some.observed
            times = torch.stack([some.gap_days.clamp_min(0), some.to_prediction_days.clamp_min(0)], dim=-1).log1p()
            steps = torch.cat([values, some.observed.float(), times], dim=-1)
            # Padding comes last, so the state at the last real step has not seen it; packing is three times slower.
            states, _ = self.lstm(steps)
            state = states[torch.arange(len(rows)), some.length - 1]
            result = result.index_copy(0, rows, self.out(state))
        return result


class ImagePart(nn.Module):
    """Four strided convolutions and the mean over the picture. Shape: ImageTensors of B rows -> (B, D)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((1, 8), (8, 16), (16, 32), (32, _EMBEDDING)):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(4, after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(_DROPOUT))

    def forward(self, given: ImageTensors) -> Tensor:
        each: Tensor = self.layers(given.values - 0.5)
        return each.new_zeros(len(given.present), each.shape[1]).index_add(0, given.row, each)


class Joint(nn.Module):
    """All parts, side by side with what was there, under one head.

    Shape: tensors of B rows -> per risk group the log-probabilities (B, K, J + 1) of each cause in each interval, given
    free before, and (the last) of none.
    """

    def __init__(self, learned_on: Mapping[str, ModalityTensors], layout: Layout) -> None:
        super().__init__()
        self.parts = nn.ModuleDict()
        for name, given in learned_on.items():
            if isinstance(given, TabularTensors):
                self.parts[name] = TabularPart(given)
            elif isinstance(given, SeriesTensors):
                self.parts[name] = SeriesPart(given)
            else:
                self.parts[name] = ImagePart()
        self.shapes = [(group.intervals, len(group.causes) + 1) for group in layout.groups]
        self.trunk = nn.Sequential(
            nn.Linear(len(learned_on) * (_EMBEDDING + 1), _WIDTH), nn.ReLU(), nn.Dropout(_DROPOUT)
        )
        self.heads = nn.ModuleList(nn.Linear(_WIDTH, k * j) for k, j in self.shapes)

    def forward(self, inputs: Mapping[str, ModalityTensors]) -> list[Tensor]:
        sent = []
        for name, part in self.parts.items():
            present = inputs[name].present.float()[:, None]
            sent += [part(inputs[name]) * present, present]
        shared = self.trunk(torch.cat(sent, dim=1))
        return [
            log_softmax(head(shared).reshape(-1, k, j), dim=-1)
            for head, (k, j) in zip(self.heads, self.shapes, strict=True)
        ]


def _labels(group: GroupGrid, rows: Rows) -> Tensor:
    """What happened in each interval: cause j - 1, J for none, -1 where it is not known. Shape: (N, K) int64."""
    cause, causes = rows.cause[group.name].astype(np.int64), len(group.causes)
    if group.known_at_once:
        return torch.from_numpy(np.where(cause < 0, -1, np.where(cause == 1, 0, causes))[:, None])
    duration = np.nan_to_num(rows.duration_days[group.name], nan=0.0)
    share = group.exposure(duration)
    label = np.where(share >= 1.0, causes, -1)
    # Who left in the second half of an interval counts as having passed it.
    label[(share >= 0.5) & (share < 1.0) & (cause == 0)[:, None]] = causes
    cuts = np.asarray(group.cuts_years)
    at = np.searchsorted(cuts[1:], duration / 365.25, side="left")
    happened = np.flatnonzero((cause > 0) & (at < group.intervals))
    label[happened, at[happened]] = cause[happened] - 1
    label[cause < 0] = -1
    return torch.from_numpy(label)


def _loss(given: Sequence[Tensor], labels: Sequence[Tensor]) -> Tensor:
    """Mean negative log-likelihood per row, of all groups."""
    total = given[0].new_zeros(())
    for log_chance, label in zip(given, labels, strict=True):
        chosen = log_chance.gather(-1, label.clamp_min(0)[..., None])[..., 0]
        total = total - (chosen * (label >= 0)).sum() / len(label)
    return total


def _trained(
    inputs: Mapping[str, ModalityTensors],
    labels: Sequence[Tensor],
    layout: Layout,
    stops: NDArray[np.bool_],
    seed: int,
) -> tuple[Joint, int]:
    """The network at its best epoch on the stopping rows, and that epoch."""
    train, rest = (torch.from_numpy(np.flatnonzero(mask)) for mask in (~stops, stops))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Joint(_take(inputs, train), layout)
        optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-2)
        batch = 32 if len(train) < _SMALL else 256
        best, best_epoch, kept = np.inf, 0, {name: value.clone() for name, value in network.state_dict().items()}
        for epoch in range(1, _EPOCHS + 1):
            network.train()
            for rows in torch.split(torch.randperm(len(train)), batch):
                optimiser.zero_grad()
                loss = _loss(network(_take(inputs, train[rows])), [label[train[rows]] for label in labels])
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimiser.step()
            given = _in_batches(network, _take(inputs, rest))
            stopping = float(_loss(given, [label[rest] for label in labels]))
            if stopping < best:
                best, best_epoch = stopping, epoch
                kept = {name: value.clone() for name, value in network.state_dict().items()}
            elif epoch - best_epoch >= _PATIENCE:
                break
    network.load_state_dict(kept)
    return network, best_epoch


def _in_batches(network: Joint, inputs: Mapping[str, ModalityTensors], size: int = 1024) -> list[Tensor]:
    network.eval()
    rows = len(next(iter(inputs.values())).present)
    with torch.no_grad():
        parts = [network(_take(inputs, some)) for some in torch.split(torch.arange(rows), size)]
    return [torch.cat(group) for group in zip(*parts, strict=True)]


def _risks(network: Joint, inputs: Mapping[str, ModalityTensors], layout: Layout) -> Floats:
    """Cumulative incidence of each target. Shape: (B, Q)."""
    incidence = []
    for log_chance in _in_batches(network, inputs):
        chance = log_chance.double().exp()
        free = torch.cat([torch.ones_like(chance[:, :1, -1]), chance[:, :-1, -1].cumprod(1)], dim=1)
        incidence.append((chance[..., :-1] * free[..., None]).cumsum(1))
    return np.stack([incidence[g][:, k, j].numpy() for g, j, k in layout.where], axis=1)


def _tensors(batch: FeatureBatch, plan: FeaturePlan) -> dict[str, ModalityTensors]:
    return {
        name: tensors_of(batch, name, part.columns if isinstance(part, TabularPlan) else ())
        for name, part in plan.modalities.items()
    }


def _take(inputs: Mapping[str, ModalityTensors], rows: Tensor) -> dict[str, ModalityTensors]:
    return {name: given.take(rows) for name, given in inputs.items()}
