"""Trains the networks of a segmentation stage, one per fold, none on subjects it will be asked about."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from riskpred.config.segmentation import SegmentationStage, SegmentationTraining
from riskpred.errors import InputError
from riskpred.fit.segmentation_batches import Batches, Example
from riskpred.imaging.segment import Segmenter, new_network
from riskpred.imaging.unet import UNet
from riskpred.progress import Progress

__all__ = ["Example", "FittedSegmentation", "fit_segmentation", "train_network"]

_CLIP = 5.0
_WARM_UP = 0.05
_FOCUS = 2.0
"""Exponent of focal loss: how much a pixel that is right already counts less."""


@dataclass(frozen=True)
class FittedSegmentation:
    """segmenter: of all folds, for new subjects.   fold_models: [k] never saw an example of fold k."""

    segmenter: Segmenter
    fold_models: tuple[Segmenter, ...]


def fit_segmentation(
    stage: SegmentationStage, examples: Sequence[Example], folds: NDArray[np.int64], seed: int, progress: Progress
) -> FittedSegmentation:
    """One network per fold, trained on the examples of all other folds.

    Args:
        examples: read anew in every step, so that a sequence may fetch each from a file when asked.
        folds: (N,) fold of each example, 0 to stage.folds - 1; all examples of one subject are in one fold.
        progress: told after every step; what it raises ends the training.

    The same seed and examples give the same weights on one machine.
    Raises: InputError, when a fold leaves no lesion to learn from.
    """
    assert len(folds) == len(examples)
    networks, total = [], stage.folds * stage.training.steps
    for fold in range(stage.folds):
        train = _Some(examples, np.flatnonzero(folds != fold).tolist())
        before = fold * stage.training.steps

        def told(step: int, before: int = before) -> None:
            progress.step("segmentation", before + step, total)

        networks.append(train_network(stage, train, seed + fold, told))
    each = tuple(Segmenter(stage, (net,)) for net in networks)
    return FittedSegmentation(Segmenter(stage, tuple(networks)), each)


def train_network(
    stage: SegmentationStage, examples: Sequence[Example], seed: int, on_step: Callable[[int], None]
) -> UNet:
    """One network, in eval mode. `on_step` is told how many steps are done; what it raises ends the training.

    Leaves torch's global random state as it was. Raises: InputError, when no example has a lesion of the stage.
    """
    batches = Batches(stage, examples, np.random.default_rng(seed))
    if not batches.with_lesion:
        raise InputError(
            f"segmentation: no lesion to learn from in {len(examples)} annotated images.",
            wanted=f"annotations of {', '.join(stage.names)} in the images that train a fold",
            do="annotate more images, or ask for fewer folds",
        )
    settings = stage.training
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = new_network(stage).train()
        layout = torch.channels_last if stage.dims == 2 else torch.channels_last_3d
        net = net.to(memory_format=layout)  # type: ignore[call-overload]
        optimiser = torch.optim.AdamW(_parameter_groups(net, settings.weight_decay), lr=settings.learning_rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, settings.steps))
        kept = copy.deepcopy(net)
        for step, (pixels, target, weight) in zip(range(settings.steps), batches, strict=False):
            with torch.autocast("cpu", torch.bfloat16, enabled=torch.cpu._is_avx512_bf16_supported()):
                found = net(pixels.contiguous(memory_format=layout))
            loss = deep_loss([one.float() for one in found], target, weight, settings)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(net.parameters(), _CLIP)
            optimiser.step()
            schedule.step()
            _follow(kept, net, settings, step)
            on_step(step + 1)
    done: UNet = kept.to(memory_format=torch.contiguous_format)
    return done.eval().requires_grad_(False)


def deep_loss(found: Sequence[Tensor], target: Tensor, weight: Tensor, settings: SegmentationTraining) -> Tensor:
    """Loss of each level's logits against the target at its size, each level counting half of the finer one.

    Shape: found: (T, L, ...) per level; target (T, L, ...) and weight (T, 1, ...) of the finest.
    """
    flat = target.ndim == 4
    pool = functional.avg_pool2d if flat else functional.avg_pool3d
    most = functional.max_pool2d if flat else functional.max_pool3d
    total, weights = target.new_zeros(()), 0.0
    for level, logits in enumerate(found):
        smaller = target.shape[-1] // logits.shape[-1]
        at_size, weigh = (pool(target, smaller), most(weight, smaller)) if smaller > 1 else (target, weight)
        total = total + 0.5**level * segmentation_loss(logits, at_size, weigh, settings.loss)
        weights += 0.5**level
    return total / weights


def segmentation_loss(logits: Tensor, target: Tensor, weight: Tensor, kind: str) -> Tensor:
    """Dice over the whole batch, per label, plus cross-entropy or focal loss of the pixels.

    Dice over one picture says nothing where it shows no lesion; over the batch it always does.

    Shape: logits, target: (T, L, ...), target 0 to 1; weight: (T, 1, ...), how much each pixel counts in both parts.
    Source: Milletari et al. 2016, 3DV:565-571 (Dice); Lin et al. 2017, ICCV:2999-3007 (focal).
    """
    probability = logits.sigmoid()
    over = (0, *range(2, logits.ndim))
    together, both = (weight * probability * target).sum(over), (weight * (probability + target)).sum(over)
    dice = 1 - ((2 * together + 1) / (both + 1)).mean()
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none") * weight
    if kind == "dice_focal":
        wrong = (probability - target).abs()
        entropy = entropy * wrong**_FOCUS
        return dice + entropy.sum() / (weight * target).sum().clamp_min(1.0)
    return dice + entropy.mean()


class _Some(Sequence[Example]):
    """Some of the examples, none fetched before it is asked for."""

    def __init__(self, examples: Sequence[Example], at: list[int]) -> None:
        self._examples, self._at = examples, at

    def __len__(self) -> int:
        return len(self._at)

    @overload
    def __getitem__(self, index: int) -> Example: ...

    @overload
    def __getitem__(self, index: slice) -> "_Some": ...

    def __getitem__(self, index: int | slice) -> "Example | _Some":
        return _Some(self._examples, self._at[index]) if isinstance(index, slice) else self._examples[self._at[index]]


def _rate(step: int, steps: int) -> float:
    """Share of the learning rate: rises over the first steps, then falls to 0 along half a cosine."""
    warm = max(1, round(_WARM_UP * steps))
    return (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _follow(kept: nn.Module, net: nn.Module, settings: SegmentationTraining, step: int) -> None:
    """Move the running mean of weights and of batch statistics towards the network's; young means move faster."""
    towards = 1 - min(settings.average, (1 + step) / (10 + step))
    with torch.no_grad():
        for mine, current in zip(kept.state_dict().values(), net.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(current, towards)
            else:
                mine.copy_(current)


def _parameter_groups(net: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    decayed = [parameter for parameter in net.parameters() if parameter.ndim >= 2]
    free = [parameter for parameter in net.parameters() if parameter.ndim < 2]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]
