"""Risks of people with some features put to the attribution baseline: what every check of reasons asks.

A *player* is what a feature reason speaks of: a tabular feature, a channel of a series, an image. Putting one to the
baseline changes its values only: masks, gaps and missing flags stay the subject's own, as in the attribution itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riskpred.explain.attribution import ModalityWorth, attribution_baseline, rows_of, within_modality
from riskpred.explain.coalitions import POINTS, shapley_weight
from riskpred.features.batch import FeatureBatch
from riskpred.features.plan import SeriesPlan, TabularPlan
from riskpred.model.bundle import Bundle
from riskpred.model.fusion import Fusion
from riskpred.model.network import Sent, SentOne
from riskpred.model.paths import evaluator
from riskpred.model.risk import RiskModel
from riskpred.model.tensors import ImageTensors, ModalityTensors, SeriesTensors, TabularTensors, column_owner

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_ENCODED_AT_ONCE = 512
_ASKED_AT_ONCE = 4096


@dataclass(frozen=True)
class Player:
    """One feature. place: among the features of its modality."""

    modality: str
    name: str
    code: str
    place: int


def players_of(model: RiskModel) -> tuple[Player, ...]:
    """Every feature that a reason can name, modality by modality."""
    found = []
    for name, plan in model.plan.modalities.items():
        if isinstance(plan, TabularPlan):
            found += [Player(name, column.name, column.code, at) for at, column in enumerate(plan.columns)]
        elif isinstance(plan, SeriesPlan):
            found += [Player(name, channel.code, channel.code, at) for at, channel in enumerate(plan.channels)]
        else:
            found.append(Player(name, "image", "image", 0))
    return tuple(found)


@dataclass(frozen=True)
class People:
    """B subjects as one model reads them, F players.

    reference: what stands for each subject's modalities outside a coalition, (R, B, ...).   baseline: where the
    attribution of each begins, by modality, as `attribution_baseline` takes it.
    """

    model: RiskModel
    inputs: Mapping[str, ModalityTensors]
    reference: Sent
    baseline: Mapping[str, Tensor]

    @classmethod
    def of(cls, bundle: Bundle, batch: FeatureBatch) -> "People":
        place = torch.from_numpy(bundle.profiles.places(batch))
        return cls(
            bundle.model,
            bundle.model.tensors(batch),
            {name: rows_of(one, place) for name, one in bundle.profiles.sent.items()},
            {name: values[place] for name, values in bundle.profiles.baseline.items()},
        )

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())).present)

    @cached_property
    def players(self) -> tuple[Player, ...]:
        return players_of(self.model)

    @cached_property
    def start(self) -> dict[str, Tensor]:
        """Values where attribution begins, in the shape of `ModalityTensors.values`."""
        return {
            name: attribution_baseline(given, self.baseline[name], owner_of(self.model, name))
            for name, given in self.inputs.items()
        }

    @cached_property
    def present(self) -> dict[str, Tensor]:
        return {name: given.present for name, given in self.inputs.items()}

    @cached_property
    def movable(self) -> Flags:
        """(B, F) whether a player is there and differs from the baseline: any other can change nothing."""
        columns = []
        for player in self.players:
            given, start = self.inputs[player.modality], self.start[player.modality]
            differs = given.values != start
            if isinstance(given, TabularTensors):
                owner = owner_of(self.model, player.modality)
                assert owner is not None
                one = differs[:, owner == player.place].any(dim=1)
            elif isinstance(given, SeriesTensors):
                one = differs[:, :, player.place].any(dim=1)
            else:
                assert isinstance(given, ImageTensors)
                each = differs.flatten(1).any(dim=1)
                one = torch.zeros(len(given.present), dtype=torch.int64).index_add_(0, given.row, each.long()) > 0
            columns.append((one & given.present).numpy())
        return np.stack(columns, axis=1)

    def take(self, index: NDArray[np.int64]) -> "People":
        rows = torch.from_numpy(index)
        return replace(
            self,
            inputs={name: given.take(rows) for name, given in self.inputs.items()},
            reference={name: rows_of(one, rows) for name, one in self.reference.items()},
            baseline={name: values[rows] for name, values in self.baseline.items()},
        )

    def with_values(self, values: Mapping[str, Tensor]) -> "People":
        """The same people with other values of some modalities, from the same start."""
        inputs = {
            name: given.with_values(values[name]) if name in values else given for name, given in self.inputs.items()
        }
        return replace(self, inputs=inputs)

    def as_read_by(self, model: RiskModel, reference: Sent) -> "People":
        """The same people before another model of the same plan."""
        return replace(self, model=model, reference=reference)


def owner_of(model: RiskModel, modality: str) -> Tensor | None:
    """Feature of each tabular column; None of other modalities."""
    plan = model.plan.modalities[modality]
    return torch.tensor(column_owner(plan.columns)) if isinstance(plan, TabularPlan) else None


class _AtTargets(ModalityWorth):
    """W at some targets only: a backward pass is saved for each of the others."""

    def __init__(
        self,
        model: RiskModel,
        sent: Sent,
        reference: Sent,
        present: dict[str, Tensor],
        modality: str,
        targets: Sequence[int],
    ) -> None:
        super().__init__(model, sent, reference, present, modality)
        self._targets = list(targets)

    def __call__(self, inputs: ModalityTensors, subject: Tensor) -> Tensor:
        return super().__call__(inputs, subject)[:, self._targets]


def contributions(people: People, targets: Sequence[int]) -> Floats:
    """What the product says each player adds to each risk: its feature reasons, before any cut.

    Args: targets: places in the model's order of targets.
    Shape: (B, T, F) risk points; 0 where a modality is absent.
    """
    asked = Asked(people)
    found = np.zeros((len(people), len(targets), len(people.players)))
    for name, given in people.inputs.items():
        here = np.flatnonzero(given.present.numpy())
        if not len(here):
            continue
        mine = [f for f, player in enumerate(people.players) if player.modality == name]
        if isinstance(given, ImageTensors):  # one feature: completeness gives it without a gradient
            own = np.ones((len(here), len(people.players)), dtype=np.bool_)
            without = own.copy()
            without[:, mine] = False
            gained = asked.worth(name, here, own) - asked.worth(name, here, without)
            found[here, :, mine[0]] = gained[:, list(targets)]
            continue
        some = people.take(here)
        nobody = np.zeros(len(here), dtype=np.int64)
        within = within_modality(
            worth_of(some, name, targets), some.inputs[name], some.baseline[name], owner_of(people.model, name), nobody
        )
        found[here[:, None], :, np.array(mine)[None, :]] = within.feature.transpose(0, 2, 1)
    return found


def worth_of(people: People, modality: str, targets: Sequence[int]) -> ModalityWorth:
    """W of one modality of people who have it, differentiable, at these targets."""
    with torch.no_grad():
        sent = people.model.encode(people.inputs)
    return _AtTargets(people.model, sent, people.reference, people.present, modality, targets)


def by_player(people: People, attribution: Mapping[str, Tensor], targets: int) -> Floats:
    """Attributions of values, of those who have each modality, added up to players.

    Shape: modality -> (P, T, ...) with the shape of a row's values after T; result (B, T, F), 0 where it is absent.
    """
    found = np.zeros((len(people), targets, len(people.players)))
    for f, player in enumerate(people.players):
        if player.modality not in attribution:
            continue
        one, given = attribution[player.modality], people.inputs[player.modality]
        if isinstance(given, TabularTensors):
            owner = owner_of(people.model, player.modality)
            assert owner is not None
            total = one[:, :, owner == player.place].sum(dim=2)
        elif isinstance(given, SeriesTensors):
            total = one[..., player.place].sum(dim=2)
        else:
            total = one.flatten(2).sum(dim=2)
        found[given.present.numpy(), :, f] = total.numpy()
    return found


class Asked:
    """Answers for N rows, each one of the people with some players at the baseline; no gradient, nothing encoded twice.

    kept: (N, F), whether each player has its own value; those that cannot move are not looked at.
    """

    def __init__(self, people: People) -> None:
        self.people = people
        self._encoders, self._fusion = evaluator(people.model), Fusion.of(people.model)
        self._mine = {
            name: np.array([f for f, player in enumerate(people.players) if player.modality == name])
            for name in people.model.modalities
        }

    def risks(self, subject: NDArray[np.int64], kept: Flags) -> Floats:
        """Risk with everything the subject has, less what is put to the baseline. Shape: (N, Q) risk points."""
        parts = [np.zeros((0, len(self.people.model.targets)))]
        for at in range(0, len(subject), _ASKED_AT_ONCE):
            rows = slice(at, at + _ASKED_AT_ONCE)
            sent = {name: self._sent(name, subject[rows], kept[rows]) for name in self._mine}
            member = self._fusion.member_risks(sent, self._present(subject[rows]))
            parts.append(POINTS * member.mean(axis=0))
        return np.concatenate(parts)

    def worth(self, modality: str, subject: NDArray[np.int64], kept: Flags) -> Floats:
        """W of one modality: its Shapley value as if it had sent what it would say of these values.

        Shape: (N, Q) risk points.
        """
        names = self.people.model.modalities
        bit, parts = 1 << names.index(modality), [np.zeros((0, len(self.people.model.targets)))]
        own = np.ones_like(kept)
        own[:, self._mine[modality]] = kept[:, self._mine[modality]]
        for at in range(0, len(subject), _ASKED_AT_ONCE):
            rows = slice(at, at + _ASKED_AT_ONCE)
            sent = {name: self._sent(name, subject[rows], own[rows]) for name in self._mine}
            present = self._present(subject[rows])
            _, of = self._fusion.coalition_risks(sent, self.people.reference, present, subject[rows])
            parts.append(
                POINTS
                * sum(
                    shapley_weight(inside.bit_count(), len(names)) * (of[inside | bit] - of[inside])
                    for inside in range(2 ** len(names))
                    if not inside & bit
                )
            )
        return np.concatenate(parts)

    def _present(self, subject: NDArray[np.int64]) -> dict[str, Tensor]:
        index = torch.from_numpy(subject)
        return {name: flag[index] for name, flag in self.people.present.items()}

    def _sent(self, name: str, subject: NDArray[np.int64], kept: Flags) -> SentOne:
        mine, people = self._mine[name], self.people
        own = kept[:, mine] | ~people.movable[np.ix_(subject, mine)]
        key = np.concatenate([subject[:, None], own], axis=1)
        distinct, back = np.unique(key, axis=0, return_inverse=True)
        coefficients, embedding = [], []
        for at in range(0, len(distinct), _ENCODED_AT_ONCE):
            some = distinct[at : at + _ENCODED_AT_ONCE]
            said = self._encoders.encode({name: self._given(name, some[:, 0], some[:, 1:] == 1)})[name]
            coefficients.append(said.coefficients)
            embedding.append(said.embedding)
        index = torch.from_numpy(back.reshape(-1))
        return SentOne(torch.cat(coefficients, dim=1)[:, index], torch.cat(embedding, dim=1)[:, index])

    def _given(self, name: str, subject: NDArray[np.int64], own: Flags) -> ModalityTensors:
        index, flags = torch.from_numpy(subject), torch.from_numpy(own)
        whole = self.people.inputs[name]
        given, start = whole.take(index), whole.with_values(self.people.start[name]).take(index).values
        if isinstance(given, TabularTensors):
            owner = owner_of(self.people.model, name)
            assert owner is not None
            return given.with_values(torch.where(flags[:, owner], given.values, start))
        if isinstance(given, SeriesTensors):
            return given.with_values(torch.where(flags[:, None, :], given.values, start))
        assert isinstance(given, ImageTensors)
        own_picture = flags[given.row, 0].reshape(-1, *[1] * (given.values.ndim - 1))
        return given.with_values(torch.where(own_picture, given.values, start))
