"""Whether reasons are true of the model: what happens when features go, and when the reasons should hold still.

Deletion: features go to the attribution baseline one after the other, those with the largest |contribution| first; the
curve is how far the risk is from the person's own (risk points), and a faithful order moves it early: a larger area is
better. Insertion: all start at the baseline and come back in that order; a faithful order brings the risk home early: a
smaller area is better. Features that are missing or at the baseline already cannot move and are not counted, in no
order: the far end of a curve is the same for every order.

Sources: Petsiuk, Das & Saenko 2018, BMVC (deletion and insertion); Agarwal et al. 2022, NeurIPS (prediction gap on
important features); Adebayo et al. 2018, NeurIPS (sanity checks with randomised weights).
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor, nn

from riskpred.explain.randomised import mean_sent, randomised
from riskpred.explain.removal import Asked, Flags, Floats, People, contributions, owner_of
from riskpred.model.network import SentOne
from riskpred.model.risk import RiskModel
from riskpred.model.tensors import ImageTensors, SeriesTensors, TabularTensors

GRID: Final = 21
"""Points of a curve, from nothing to everything removed."""

RANDOM_ORDERS: Final = 3
NOISE: Final = 0.01
"""Of each feature's standard deviation."""

LIKE_THE_RANDOMISED: Final = 0.5
"""A median rank correlation this high with the attribution of a randomised model rejects the attribution."""

Attribute = Callable[[People, Sequence[int]], Floats]


@dataclass(frozen=True)
class Curves:
    """Distance from a person's own risk, risk points, as features go and as they come back. Shape: each (B, GRID)."""

    deletion: Floats
    insertion: Floats


def fractions() -> Floats:
    """Share of the features that have gone (or come back) at each point of a curve. Shape: (GRID,)."""
    return np.linspace(0.0, 1.0, GRID)


def area(curve: Floats) -> Floats:
    """Mean height of each curve. Shape: (..., GRID) -> (...)."""
    return np.asarray(np.trapezoid(curve, fractions(), axis=-1))


def order_of(score: Floats, movable: Flags) -> NDArray[np.int64]:
    """Players by falling score, those that cannot move last; ties by place. Shape: (B, F) -> (B, F)."""
    return np.argsort(np.where(movable, -score, np.inf), axis=1, kind="stable")


def curves(asked: Asked, order: NDArray[np.int64], target: int) -> Curves:
    """Both curves of each person, features taken in their order: whole ones, at the numbers nearest to GRID shares."""
    movable = asked.people.movable
    rank = np.argsort(order, axis=1, kind="stable")
    steps = [np.unique(np.round(fractions() * count)) for count in movable.sum(axis=1).tolist()]
    end = np.cumsum([len(one) for one in steps])
    subject = np.repeat(np.arange(len(steps)), [len(one) for one in steps])
    gone = rank[subject] < np.concatenate(steps)[:, None]
    removed, restored = (asked.risks(subject, kept)[:, target] for kept in (~gone, gone | ~movable[subject]))
    own = removed[end - [len(one) for one in steps]]
    drawn = Curves(np.empty((len(steps), GRID)), np.empty((len(steps), GRID)))
    for row, taken in enumerate(steps):
        rows = slice(end[row] - len(taken), end[row])
        share = taken / max(taken[-1], 1.0)
        drawn.deletion[row] = np.interp(fractions(), share, np.abs(removed[rows] - own[row]))
        drawn.insertion[row] = np.interp(fractions(), share, np.abs(restored[rows] - own[row]))
    return drawn


def random_curves(asked: Asked, target: int, seed: int, orders: int = RANDOM_ORDERS) -> Curves:
    """Mean over some random orders."""
    generator, movable = np.random.default_rng(seed), asked.people.movable
    each = [curves(asked, order_of(generator.random(movable.shape), movable), target) for _ in range(orders)]
    return Curves(np.mean([one.deletion for one in each], axis=0), np.mean([one.insertion for one in each], axis=0))


def standardised_values(people: People) -> Floats:
    """How unusual each player's value is among these people, in standard deviations; no model is asked.

    A category counts by the indicator that is farthest from its share; a series and an image by their means.
    Shape: (B, F).
    """
    columns = []
    for player in people.players:
        given = people.inputs[player.modality]
        if isinstance(given, TabularTensors):
            owner = owner_of(people.model, player.modality)
            assert owner is not None
            values, seen = given.values[:, owner == player.place].double(), given.observed[:, player.place]
        elif isinstance(given, SeriesTensors):
            mask = given.observed[:, :, player.place].double()
            total = (given.values[:, :, player.place].double() * mask).sum(dim=1)
            values, seen = (total / mask.sum(dim=1).clamp_min(1))[:, None], mask.sum(dim=1) > 0
        else:
            assert isinstance(given, ImageTensors)
            values, seen = given.moments[:, :1], given.present
        columns.append(_farthest(values.numpy(), (seen & given.present).numpy()))
    return np.stack(columns, axis=1)


def _farthest(values: Floats, seen: Flags) -> Floats:
    if not seen.any():
        return np.zeros(len(values))
    spread = values[seen].std(axis=0)
    away = np.abs(values - values[seen].mean(axis=0)) / np.where(spread > 0, spread, np.inf)
    return np.where(seen, away.max(axis=1), 0.0)


def rank_correlations(one: Floats, other: Floats, counted: Flags) -> Floats:
    """Spearman's correlation of each person's rows over the players counted.

    Two rows without any difference in them agree (1); one such row agrees with no other (0). NaN for fewer than two
    players. Shape: each (B, F) -> (B,).
    """
    found = np.full(len(one), np.nan)
    for row, mask in enumerate(counted):
        if mask.sum() < 2:
            continue
        a, b = rankdata(one[row, mask]), rankdata(other[row, mask])
        still = np.ptp(a) == 0, np.ptp(b) == 0
        found[row] = float(all(still)) if any(still) else float(np.corrcoef(a, b)[0, 1])
    return found


def agreement(one: Floats, other: Floats, counted: Flags) -> Floats:
    """`rank_correlations` target by target. Shape: (B, T, F) each and (B, F) -> (B, T)."""
    return np.stack([rank_correlations(one[:, t], other[:, t], counted) for t in range(one.shape[1])], axis=1)


def with_noise(people: People, seed: int, share: float = NOISE) -> People:
    """The same people, every measured number moved a little: normal, `share` of its feature's standard deviation."""
    random = torch.Generator().manual_seed(seed)

    def moved(values: Tensor, seen: Tensor, spread: Tensor) -> Tensor:
        noise = torch.randn(values.shape, generator=random, dtype=torch.float64) * spread * share
        return torch.where(seen, values + noise.to(values.dtype), values)

    values: dict[str, Tensor] = {}
    for name, given in people.inputs.items():
        if isinstance(given, TabularTensors):
            owner = owner_of(people.model, name)
            assert owner is not None
            seen = given.observed[:, owner] & (torch.bincount(owner)[owner] == 1)  # categories are no numbers
            values[name] = moved(given.values, seen, _spread(given.values.double(), seen))
        elif isinstance(given, SeriesTensors):
            flat, mask = given.values.double().flatten(0, 1), given.observed.flatten(0, 1)
            values[name] = moved(given.values, given.observed, _spread(flat, mask))
        else:
            pixels = given.values.double()
            spread = pixels.std(correction=0) if len(pixels) else torch.zeros((), dtype=torch.float64)
            values[name] = moved(given.values, torch.ones_like(given.values, dtype=torch.bool), spread)
    return people.with_values(values)


def _spread(values: Tensor, seen: Tensor) -> Tensor:
    count = seen.sum(dim=0).clamp_min(1)
    mean = (values * seen).sum(dim=0) / count
    return (((values - mean) ** 2 * seen).sum(dim=0) / count).sqrt()


def of_one_member(people: People, r: int) -> People:
    """The same people before one member of the ensemble alone, with its own reference."""
    model = deepcopy(people.model)
    model.networks = nn.ModuleList([model.networks[r]])
    reference = {
        name: SentOne(one.coefficients[r : r + 1], one.embedding[r : r + 1]) for name, one in people.reference.items()
    }
    return people.as_read_by(model, reference)


def across_members(
    people: People, whole: Floats, targets: Sequence[int], attribute: Attribute = contributions
) -> Floats:
    """How far each member's own attribution agrees with that of the mean: a member is a fit of its own seed and folds.

    Shape: whole (B, T, F); result (B, T), the mean over members.
    """
    each = [
        agreement(attribute(of_one_member(people, r), targets), whole, people.movable)
        for r in range(people.model.members)
    ]
    return np.asarray(np.mean(each, axis=0))


def against_randomised(
    people: People, whole: Floats, targets: Sequence[int], seed: int, attribute: Attribute = contributions
) -> Floats:
    """Agreement with the same attribution of a model whose weights say nothing. Shape: (B, T)."""
    model = randomised(people.model, seed)
    other = attribute(people.as_read_by(model, mean_sent(model, people.inputs, people.reference)), targets)
    return agreement(other, whole, people.movable)


def is_rejected(agreed: Floats) -> bool:
    """Whether an attribution says much the same of a randomised model: it does not explain the model. Shape: (B, T)."""
    there = agreed[np.isfinite(agreed)]
    return bool(len(there)) and float(np.median(there)) >= LIKE_THE_RANDOMISED


def longest(model: RiskModel) -> list[int]:
    """The target of each outcome that is judged: that of its longest horizon."""
    last: dict[str, int] = {}
    for q, (outcome, _) in enumerate(model.targets):
        last[outcome] = q
    return list(last.values())


def all_curves(
    people: People, scores: Mapping[str, Floats], targets: Sequence[int], seed: int
) -> dict[str, dict[int, Curves]]:
    """Curves of several orders, by name and target, and those of random orders and of the value alone.

    Args: scores: name -> (B, T, F) contributions, ordered by their size.
    """
    asked, value = Asked(people), standardised_values(people)
    found: dict[str, dict[int, Curves]] = {}
    for name, score in scores.items():
        found[name] = {
            q: curves(asked, order_of(np.abs(score[:, t]), people.movable), q) for t, q in enumerate(targets)
        }
    found["random"] = {q: random_curves(asked, q, seed) for q in targets}
    found["value"] = {q: curves(asked, order_of(value, people.movable), q) for q in targets}
    return found
