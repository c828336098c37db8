"""Trains one member: its base, then the residuals on top, stopped early on subjects that train nothing."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from riskpred.config.imaging import Recipe
from riskpred.config.network import Augmentation, NetworkConfig, Training
from riskpred.config.network import ImageEncoder as ImageSettings
from riskpred.config.study import ModelConfig
from riskpred.features.plan import FeaturePlan, ImagePlan
from riskpred.fit.augment import augmentation, augmented
from riskpred.fit.data import stratified_folds
from riskpred.fit.losses import GroupLabels, negative_log_likelihood
from riskpred.fit.spline_base import CauseData, Choice, choose_fit, fit_cause
from riskpred.model.backbones import backbone
from riskpred.model.image import ImageEncoder
from riskpred.model.image_weights import WeightsReport, load_weights, pixel_scale
from riskpred.model.layout import Layout
from riskpred.model.network import Member
from riskpred.model.tabular import TabularEncoder
from riskpred.model.tensors import ImageTensors, ModalityTensors, SeriesTensors, TabularTensors

_INNER_FOLDS = 3
_CLIP = 1.0
_EVALUATED_AT_ONCE = 2048
_WARM_UP = 0.1

Starts = Mapping[str, Mapping[str, Tensor]]
"""Weights that image networks start from: modality -> the backbone's own tensors."""


@dataclass(frozen=True)
class TrainingData:
    """All rows of a fit as tensors; members train on parts of them.

    Shape: together (numbers that no fold may part), strata (N,); inputs per modality N rows; labels per group N rows.
    """

    together: NDArray[np.int64]
    strata: NDArray[np.int64]
    inputs: Mapping[str, ModalityTensors]
    labels: list[GroupLabels]

    @property
    def present(self) -> dict[str, Tensor]:
        return {name: given.present for name, given in self.inputs.items()}

    def up_to(self, layout: Layout) -> "TrainingData":
        """The same rows, followed to the last horizon of each group."""
        ends = [group.end_of[-1] + 1 for group in layout.groups]
        return replace(self, labels=[one.up_to(end) for one, end in zip(self.labels, ends, strict=True)])

    def with_present(self, present: Mapping[str, Tensor]) -> "TrainingData":
        """The same rows with only these modalities to be used."""
        return replace(self, inputs={name: replace(one, present=present[name]) for name, one in self.inputs.items()})

    def take(self, index: NDArray[np.int64]) -> "TrainingData":
        at = torch.from_numpy(index)
        return TrainingData(
            self.together[index],
            self.strata[index],
            {name: given.take(at) for name, given in self.inputs.items()},
            [labels.take(at) for labels in self.labels],
        )


def train_member(
    config: NetworkConfig,
    plan: FeaturePlan,
    layout: Layout,
    data: TrainingData,
    stops: NDArray[np.bool_],
    seed: int,
    on_epoch: Callable[[], None],
    starts: Starts | None = None,
) -> tuple[Member, list[Choice]]:
    """One member, in eval mode, and how each cause of each group was fitted, in order.

    Preprocessing, penalties and residuals are learned on the rows that do not stop it, epochs chosen on those that do.
    The base, which needs no stopping, is fitted once more on both in the end, with the penalties it had. Residuals see
    follow-up to the last horizon only.

    Args:
        stops: (N,) rows of `data` kept for early stopping; no subject has rows of both kinds.
        on_epoch: called after each epoch; what it raises ends the training.
        starts: weights of pre-training, in the place of random or loaded ones.

    The same seed and rows give the same weights on one machine. Leaves torch's global random state as it was.
    """
    train, stop = data.take(np.flatnonzero(~stops)), data.take(np.flatnonzero(stops))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        member = Member(config, plan, layout)
        learn_preprocessing(member, train)
        start_from_weights(member, config)
        for name, state in (starts or {}).items():
            member.encoders[name].get_submodule("backbone").load_state_dict(dict(state))
        choices = choose_fits(member, train, config.training, seed)
        set_base(member, train, choices)
        changes = _augmentations(config, plan)
        _train_residuals(member, train.up_to(layout), stop.up_to(layout), config.training, changes, seed, on_epoch)
        set_base(member, data, choices)
    return member.eval().requires_grad_(False), choices


def learn_preprocessing(member: Member, train: TrainingData) -> None:
    """Knots, limits, locations and scales of every encoder, from the rows that have its modality."""
    for name in member.modalities:
        given, encoder = train.inputs[name], member.encoders[name]
        rows = given.take(given.present.nonzero()[:, 0])
        if not len(rows.present):
            continue
        if isinstance(encoder, TabularEncoder):
            assert isinstance(rows, TabularTensors)
            encoder.learn(rows)
        else:
            assert isinstance(rows, SeriesTensors | ImageTensors)
            encoder.learn(rows)  # type: ignore[operator]


def start_from_weights(member: Member, config: NetworkConfig) -> dict[str, WeightsReport]:
    """Put loaded weights into the image networks that ask for them, keep their first stages, and say what fitted.

    After `learn_preprocessing`: pixels come on the scale that the weights were trained on, where the layout has one.
    Raises: InputError, ConfigError.
    """
    found: dict[str, WeightsReport] = {}
    for name, encoder in member.encoders.items():
        settings = config.encoders.get(name)
        if not isinstance(encoder, ImageEncoder) or not isinstance(settings, ImageSettings) or settings.weights is None:
            continue
        found[name] = load_weights(encoder.backbone, settings.weights)
        scale = pixel_scale(settings.weights.layout)
        if scale is not None:
            encoder.location.fill_(scale[0])
            encoder.scale.fill_(scale[1])
        encoder.backbone.freeze(settings.freeze)
    return found


def image_networks(config: ModelConfig) -> dict[str, WeightsReport]:
    """Make every image network once, before any work: what is not installed or does not fit is said at once.

    Returns: what of each modality's weights file fits its network, where it asks for one.
    Raises: ConfigError (MONAI is not installed, too little fits), InputError (a file that holds no weights).
    """
    found: dict[str, WeightsReport] = {}
    with torch.random.fork_rng(devices=[]):
        for name, spec in config.features.modalities.items():
            settings = config.network.encoders.get(name, ImageSettings())
            if spec.kind != "image" or not isinstance(settings, ImageSettings):
                continue
            recipe = Recipe.of(spec.channels, (), spec.size, spec.volume, spec.slices)
            network = backbone(settings, recipe.channel_count, recipe.dims)
            if settings.weights is not None:
                found[name] = load_weights(network, settings.weights)
    return found


def _augmentations(config: NetworkConfig, plan: FeaturePlan) -> dict[str, Augmentation]:
    found = {}
    for name, part in plan.modalities.items():
        settings = config.encoders.get(name)
        how = (
            augmentation(settings, part)
            if isinstance(part, ImagePlan) and isinstance(settings, ImageSettings)
            else None
        )
        if how is not None:
            found[name] = how
    return found


def choose_fits(member: Member, data: TrainingData, settings: Training, seed: int) -> list[Choice]:
    """How each cause of each group is fitted, in order, by inner folds."""
    parts = _design(member, data)
    matrix = np.concatenate([np.zeros((len(data.together), 0)), *parts.values()], axis=1)
    fold = stratified_folds(data.together, data.strata, _INNER_FOLDS, seed)
    used = _varying(matrix)
    given = matrix[:, used]
    block = _blocks(parts)[used] if settings.ridge_by_modality and len(parts) > 1 else None
    short = data.up_to(member.layout)
    return [
        choose_fit(
            CauseData.of(given, first, j),
            CauseData.of(given, whole, j),
            fold[whole.counted(j).numpy()],
            settings.ridge_grid,
            block,
            len(parts),
        )
        for group, first, whole in zip(member.layout.groups, short.labels, data.labels, strict=True)
        for j in range(len(group.causes))
    ]


def set_base(member: Member, data: TrainingData, choices: list[Choice]) -> None:
    """Fit baseline and spline weights of every cause, all tabular modalities side by side, and store them."""
    parts = _design(member, data)
    matrix = np.concatenate([np.zeros((len(data.together), 0)), *parts.values()], axis=1)
    used = _varying(matrix)
    block = _blocks(parts)[used]
    weights = np.zeros((matrix.shape[1], member.layout.causes))
    at = 0
    short = data.up_to(member.layout)
    for g, group in enumerate(member.layout.groups):
        for j in range(len(group.causes)):
            labels = (data if choices[at].later else short).labels[g]
            scale = np.array(choices[at].scales)[block] if choices[at].scales else np.ones(len(used))
            base = fit_cause(CauseData.of(matrix[:, used], labels, j).scaled(scale), choices[at].ridge)
            weights[used, at] = base.weight * scale
            member.baseline(g)[j] = torch.from_numpy(base.baseline)
            at += 1
    start = 0
    for name, part in parts.items():
        encoder = member.encoders[name]
        assert isinstance(encoder, TabularEncoder)
        encoder.spline_weight.copy_(torch.from_numpy(weights[start : start + part.shape[1]]))
        start += part.shape[1]


def _design(member: Member, data: TrainingData) -> dict[str, NDArray[np.float64]]:
    """Design matrix of each tabular modality, 0 for a row that lacks it. Shape: (N, P) each."""
    found: dict[str, NDArray[np.float64]] = {}
    for name, encoder in member.encoders.items():
        if isinstance(encoder, TabularEncoder):
            given = data.inputs[name]
            assert isinstance(given, TabularTensors)
            found[name] = (encoder.design(given) * given.present[:, None]).numpy()
    return found


def _blocks(parts: Mapping[str, NDArray[np.float64]]) -> NDArray[np.int64]:
    """Number of the modality of each column of the design matrices side by side."""
    return np.repeat(np.arange(len(parts)), [part.shape[1] for part in parts.values()])


def _varying(matrix: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.flatnonzero(np.abs(matrix).max(axis=0, initial=0.0) > 0)


def additive_parts(member: Member, data: TrainingData) -> dict[str, Tensor]:
    """The spline's coefficients of every row, per tabular modality: (N, G)."""
    parts = {}
    for name, encoder in member.encoders.items():
        if isinstance(encoder, TabularEncoder):
            given = data.inputs[name]
            assert isinstance(given, TabularTensors)
            with torch.no_grad():
                parts[name] = encoder.additive(given)
    return parts


def member_log_rates(member: Member, data: TrainingData, base_only: bool = False) -> list[Tensor]:
    """Uncalibrated log-rates of all rows, per group (N, J, K); `base_only` leaves out all residuals."""
    found: list[list[Tensor]] = []
    additive = additive_parts(member, data)
    for rows in torch.split(torch.arange(len(data.together)), _EVALUATED_AT_ONCE):
        with torch.no_grad():
            if base_only:
                found.append(_base_log_rates(member, {name: part[rows] for name, part in additive.items()}, data, rows))
                continue
            some = {name: given.take(rows) for name, given in data.inputs.items()}
            sent = member.encode(some, {name: part[rows] for name, part in additive.items()})
            found.append(member.log_rates(sent, {name: given.present for name, given in some.items()}))
    return [torch.cat(parts) for parts in zip(*found, strict=True)]


def _base_log_rates(member: Member, additive: dict[str, Tensor], data: TrainingData, rows: Tensor) -> list[Tensor]:
    total = torch.zeros(len(rows), member.layout.coefficients, dtype=torch.float64)
    for name, part in additive.items():
        total = total + part * data.inputs[name].present[rows][:, None]
    slices = zip(member.layout.groups, member.layout.slices(), strict=True)
    return [
        member.baseline(g) + total[:, part].reshape(len(rows), len(group.causes), -1) @ group.time_basis
        for g, (group, part) in enumerate(slices)
    ]


def _train_residuals(
    member: Member,
    train: TrainingData,
    stop: TrainingData,
    settings: Training,
    changes: Mapping[str, Augmentation],
    seed: int,
    on_epoch: Callable[[], None],
) -> None:
    """Learns by steps what the base leaves out; keeps the weights of the epoch that the stopping rows like best."""
    generator = torch.Generator().manual_seed(seed)
    additive = additive_parts(member, train)
    optimiser = torch.optim.AdamW(_parameter_groups(member, settings.weight_decay), lr=settings.learning_rate)
    rate = _schedule(optimiser, settings, -(-len(train.together) // settings.batch_size))
    # What is kept is the mean of weights over steps where the study asks for it, else the weights themselves.
    kept_as = copy.deepcopy(member) if settings.average else member
    judged = [stop.with_present(one) for one in alone(stop.present)] if settings.apart else [stop]
    share = settings.modality_dropout
    best, kept, waited = _stopping_loss(member, judged), copy.deepcopy(member.state_dict()), 0
    for _ in range(settings.epochs):
        member.train()
        order = torch.randperm(len(train.together), generator=generator)
        for rows in torch.split(order, settings.batch_size):
            inputs = {name: given.take(rows) for name, given in train.inputs.items()}
            for name, how in changes.items():
                pictures = inputs[name]
                assert isinstance(pictures, ImageTensors), name
                inputs[name] = augmented(pictures, how, generator)
            sent = member.encode(inputs, {name: part[rows] for name, part in additive.items()})
            present = {name: given.present for name, given in inputs.items()}
            views = alone(present) if settings.apart else [drop_modalities(present, share, generator)]
            labels = [one.take(rows) for one in train.labels]
            each = torch.stack([row_losses(member.log_rates(sent, view), labels) for view in views]).sum(dim=0)
            optimiser.zero_grad()
            if each.requires_grad:  # else nothing that these rows have learns: a spline alone, say
                each.mean().backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(member.parameters(), _CLIP)
            optimiser.step()
            if rate is not None:
                rate.step()
            if kept_as is not member:
                _follow(kept_as, member, settings.average)
        loss = _stopping_loss(kept_as, judged)
        if loss < best:
            best, kept, waited = loss, copy.deepcopy(kept_as.state_dict()), 0
        else:
            waited += 1
        on_epoch()
        if waited >= settings.patience:
            break
    member.load_state_dict(kept)


def _schedule(
    optimiser: torch.optim.Optimizer, settings: Training, steps: int
) -> torch.optim.lr_scheduler.OneCycleLR | None:
    """The learning rate's way over all steps; None = it stays. Momentum is left as it is."""
    if settings.schedule == "constant":
        return None
    return torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=settings.learning_rate,
        total_steps=settings.epochs * steps,
        pct_start=_WARM_UP,
        cycle_momentum=False,
    )


def _follow(mean: Member, member: Member, decay: float) -> None:
    """Move a running mean of weights one step; what is not learned by steps (baselines, scales) does not move."""
    with torch.no_grad():
        for ours, theirs in zip(mean.parameters(), member.parameters(), strict=True):
            ours.lerp_(theirs, 1 - decay)


def drop_modalities(present: Mapping[str, Tensor], share: float, generator: torch.Generator) -> dict[str, Tensor]:
    """Leave out each present modality of each row with probability `share`; a row left with none keeps all it had."""
    names = list(present)
    here = torch.stack([present[name] for name in names], dim=1)
    kept = here & (torch.rand(here.shape, generator=generator) >= share)
    kept = torch.where(kept.any(dim=1, keepdim=True), kept, here)
    return {name: kept[:, i] for i, name in enumerate(names)}


def alone(present: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """What is there as each modality sees it that learns apart: itself, and none of the others."""
    return [{name: here & (name == only) for name, here in present.items()} for only in present]


def row_losses(log_rates: list[Tensor], labels: list[GroupLabels]) -> Tensor:
    """Minus log-likelihood of each row over all groups. Shape: (N,)."""
    return torch.stack([negative_log_likelihood(*one) for one in zip(log_rates, labels, strict=True)]).sum(dim=0)


def _stopping_loss(member: Member, stops: Sequence[TrainingData]) -> float:
    member.eval()
    return sum(float(row_losses(member_log_rates(member, stop), stop.labels).mean()) for stop in stops)


def _parameter_groups(member: Member, weight_decay: float) -> list[dict[str, object]]:
    """Decay for matrices of weights; none for biases, norms, frequencies and TabM's scalings."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in member.named_parameters():
        is_weight = name.rsplit(".", 1)[-1].startswith("weight") and parameter.ndim >= 2 and "periodic" not in name
        (decayed if is_weight else free).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]
