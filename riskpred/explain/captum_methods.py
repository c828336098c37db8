"""Captum's DeepLift and GradientShap with their defaults, on the same function and baseline, to hold reasons against.

They see what a user of Captum sees of this network. Both need gradients, so the trees' part of a tabular modality says
nothing to them. DeepLift's rules know neither SiLU nor the gates of an LSTM: there it falls back to the gradient times
the difference, without a warning, and its sums are off. Nothing here is written to a scores file.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor, nn

from riskpred.explain.removal import Floats, People, by_player, worth_of
from riskpred.model.tensors import ImageTensors, ModalityTensors, SeriesTensors

DEEP_LIFT: Final = "captum_deep_lift"
GRADIENT_SHAP: Final = "captum_gradient_shap"


class _Moved(nn.Module):
    """W of one modality at one target, of how far each value lies from the baseline. Shape: (N, ...), (N,) -> (N,).

    Images are as `_by_row` has them.
    """

    def __init__(
        self,
        model: nn.Module,
        worth: Callable[[ModalityTensors, Tensor], Tensor],
        given: ModalityTensors,
        start: Tensor,
        target: int,
    ) -> None:
        super().__init__()
        self.model = model  # where DeepLift looks for what it has rules for
        self._worth, self._given, self._start, self._target = worth, given, start, target

    def forward(self, moved: Tensor, subject: Tensor) -> Tensor:
        given = self._given.take(subject)
        if isinstance(given, ImageTensors):
            start = self._given.with_values(self._start)
            assert isinstance(start, ImageTensors)
            values = start.take(subject).values + moved[_there(given, moved.shape[1])]
        else:
            values = self._start[subject] + moved
        if isinstance(given, SeriesTensors):  # cut to the longest of these rows
            values = values[:, : given.values.shape[1]]
        return self._worth(given.with_values(values), subject)[:, self._target]


def captum_contributions(people: People, targets: Sequence[int], method: str, seed: int = 1) -> Floats:
    """What a method of Captum says each player adds. Shape: (B, T, F) risk points."""
    from captum.attr import DeepLift, GradientShap

    found: dict[str, list[Tensor]] = {}
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting forward, backward hooks")
        torch.manual_seed(seed)
        for name, given in people.inputs.items():
            rows = given.present.nonzero()[:, 0]
            if not len(rows):
                continue
            some = people.take(rows.numpy())
            worth, here = worth_of(some, name, targets), torch.arange(len(rows))
            inputs, start = some.inputs[name], some.start[name]
            away = inputs.values - start
            moved = (_by_row(inputs, away) if isinstance(inputs, ImageTensors) else away).requires_grad_()
            found[name] = []
            for t in range(len(targets)):
                module = _Moved(people.model, worth, inputs, start, t)
                if method == DEEP_LIFT:
                    said = DeepLift(module).attribute(
                        moved, torch.zeros_like(moved, requires_grad=False), additional_forward_args=(here,)
                    )
                else:
                    assert method == GRADIENT_SHAP, method
                    said = GradientShap(module).attribute(
                        moved, torch.zeros_like(moved[:1], requires_grad=False), additional_forward_args=(here,)
                    )
                found[name].append(said.detach().double())
    return by_player(people, {name: torch.stack(each, dim=1) for name, each in found.items()}, len(targets))


def _there(given: ImageTensors, most: int) -> Tensor:
    """Which of so many places of each row hold a picture. Shape: (B, most)."""
    return torch.arange(most) < given.count[:, None]


def _by_row(given: ImageTensors, values: Tensor) -> Tensor:
    """Ragged pictures as one entry a row, which Captum can repeat: (T, ...) -> (B, N, ...), 0 after the last."""
    there = _there(given, int(given.count.max()))
    found = values.new_zeros(*there.shape, *values.shape[1:])
    found[there] = values
    return found
