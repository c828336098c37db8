"""Self-supervised pre-training of an image network: two changed views of one picture should look alike to it, two
pictures should not.

Source: Bardes, Ponce & LeCun 2022, VICReg, ICLR (invariance, variance and covariance terms, weights 25, 25 and 1).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from riskpred.config.network import Augmentation, ImageEncoder, Pretraining
from riskpred.errors import ConfigError, ShapeMismatch
from riskpred.features.plan import ImagePlan
from riskpred.fit.augment import changed, defaults
from riskpred.fit.pictures import Pictures
from riskpred.model.backbones import Backbone, backbone
from riskpred.model.image_weights import load_weights, pixel_scale

_ALIKE, _SPREAD, _APART = 25.0, 25.0, 1.0
_LEAST_VARIANCE = 1e-4
_WEIGHT_DECAY = 1e-4
_CLIP = 1.0
_WARM_UP = 0.1

_LEAST_VIEW: Final = Augmentation(
    rotate_degrees=10, scale=0.2, shift=0.1, brightness=0.1, contrast=0.3, gamma=0.2, noise=0.03
)
"""Views differ by this at least: by less the network would tell pictures apart by where and how bright they are.
Whether a picture may be mirrored its image type says."""

State = dict[str, Tensor]
"""A backbone's weights, as `state_dict` gives them: layout `riskpred`."""


@dataclass(frozen=True)
class Pretrained:
    """state: the backbone's weights.   loss: mean of each epoch."""

    state: State
    loss: tuple[float, ...]


class Comparison(nn.Module):
    """Where two views meet, and what is thrown away afterwards: features become a point in a wider space.

    Shape: (N, F) -> (N, D).
    Example:
        >>> Comparison(features=8, width=16)(torch.rand(4, 8)).shape
        torch.Size([4, 16])
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width)
        )

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor = self.layers(features)
        return found


def views_differ(one: Tensor, other: Tensor) -> Tensor:
    """VICReg's loss of N pictures seen twice: 0 were views the same, dimensions spread by 1 or more, and uncorrelated.

    Shape: (N, D) each, N at least 2 -> ().
    Raises: ShapeMismatch.
    Example:
        >>> spread = torch.tensor([[2.0, 2.0], [2.0, -2.0], [-2.0, 2.0], [-2.0, -2.0]])
        >>> round(float(views_differ(spread, spread)), 4), round(float(views_differ(0 * spread, 0 * spread)), 2)
        (0.0, 24.75)
    """
    if one.shape != other.shape or one.ndim != 2 or len(one) < 2:
        raise ShapeMismatch(f"views must be (N, D) twice, N at least 2; got {tuple(one.shape)}, {tuple(other.shape)}")
    alike = nn.functional.mse_loss(one, other)
    spread = torch.stack([_narrow(one), _narrow(other)]).mean()
    return _ALIKE * alike + _SPREAD * spread + _APART * (_correlated(one) + _correlated(other))


def _narrow(points: Tensor) -> Tensor:
    return torch.relu(1 - (points.var(dim=0) + _LEAST_VARIANCE).sqrt()).mean()


def _correlated(points: Tensor) -> Tensor:
    middle = points - points.mean(dim=0)
    covariance = middle.T @ middle / (len(points) - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / points.shape[1]


def views(image_types: tuple[str, ...], how: Pretraining) -> Augmentation:
    """How the two views of a picture are changed.

    Example:
        >>> found = views(("CR",), Pretraining())
        >>> found.scale, found.flip_left_right, views(("US",), Pretraining()).flip_left_right
        (0.2, False, True)
    """
    if how.augment != "auto":
        return how.augment
    allowed = defaults(image_types)
    return Augmentation(
        **{name: max(getattr(allowed, name), getattr(_LEAST_VIEW, name)) for name in Augmentation.model_fields}
    )


def pretrain(
    settings: ImageEncoder,
    plan: ImagePlan,
    pictures: Pictures,
    how: Pretraining,
    seed: int,
    on_epoch: Callable[[], None] = lambda: None,
) -> Pretrained:
    """Weights of one modality's backbone, learned from pictures alone; from loaded weights where the study has them.

    Args:
        on_epoch: called after each epoch; what it raises ends the training.

    The same seed and pictures give the same weights on one machine. Leaves torch's global random state as it was.
    Raises: ConfigError, when training diverges.
    """
    assert len(pictures) >= 2, "two pictures at least: one has nothing to differ from"
    channels, *sides = plan.pixel_shape
    generator = torch.Generator().manual_seed(seed)
    change = views(plan.image_types, how)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = backbone(settings, channels, len(sides)).train()
        location, scale = _start(network, settings, pictures)
        comparison = Comparison(network.width, how.projection)
        batches = -(-len(pictures) // how.batch_size)
        learned = [one for part in (network, comparison) for one in part.parameters() if one.requires_grad]
        optimiser = torch.optim.AdamW(learned, lr=how.learning_rate, weight_decay=_WEIGHT_DECAY)
        rate = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, how.learning_rate, how.epochs * batches, pct_start=_WARM_UP, cycle_momentum=False
        )
        losses = []
        for _ in range(how.epochs):
            total = 0.0
            # Parts of nearly one size: a last batch of one picture would have nothing to differ from.
            for some in torch.tensor_split(torch.randperm(len(pictures), generator=generator), batches):
                pixels = pictures.take(some)
                seen = torch.cat([changed(pixels, change, generator) for _ in range(2)])
                loss = views_differ(*comparison(network((seen - location) / scale)).chunk(2))
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(learned, _CLIP)
                optimiser.step()
                rate.step()
                total += float(loss.detach()) * len(some)
            losses.append(total / len(pictures))
            if not torch.isfinite(torch.tensor(losses[-1])):
                raise ConfigError(
                    "Pre-training diverged: its loss is no longer a number.",
                    wanted="a loss that falls",
                    got=f"epoch {len(losses)} of {how.epochs} at learning rate {how.learning_rate:g}",
                    do="lower `pretrain: learning_rate` in network.yaml",
                )
            on_epoch()
    return Pretrained({name: one.detach().clone() for name, one in network.state_dict().items()}, tuple(losses))


def _start(network: Backbone, settings: ImageEncoder, pictures: Pictures) -> tuple[float, float]:
    """Loaded weights, where there are any, and the location and scale of pixels."""
    location, scale = pictures.moments()
    if settings.weights is not None:
        load_weights(network, settings.weights)
        location, scale = pixel_scale(settings.weights.layout) or (location, scale)
        network.freeze(settings.freeze)
    return location, max(scale, 1e-3)
