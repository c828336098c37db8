"""Integrated gradients within a modality: how much of its contribution each value, channel or pixel makes.

W(x) = sum over coalitions S of the other modalities of weight(S) x (v(S with m) - v(S)), with only modality m encoded
anew; so W(the subject) = phi_m. The path runs from the attribution baseline (the subject's own masks, gaps and missing
flags, every value at the group's median, mode or mean image) straight to the subject; a value beyond the limits of what
encoders read counts as the last that they do, so that the path is not mostly a stretch where nothing changes. Trees,
which have no gradient, move along their output, and their share goes to features in proportion to TreeSHAP
(explain/tree_shap.py).

Where one target a subject is wanted, Captum integrates (the map of an image: picture.py). What it cannot do is done
here: all Q targets from one encoding of the path (Captum differentiates one target a call), trees along their own path,
and the nesting into a Shapley value. Points and weights are the same Gauss-Legendre rule; a test holds the two against
each other.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riskpred.explain.coalitions import POINTS, coalitions, shapley_weight, value
from riskpred.explain.picture import MAP_STEPS, Maps, Picture, Shown, Worth, attribution_map, regions_on
from riskpred.explain.tree_shap import TreePath, tree_path
from riskpred.model.network import Sent, SentOne
from riskpred.model.risk import RiskModel
from riskpred.model.series import SeriesEncoder
from riskpred.model.tabular import TabularEncoder
from riskpred.model.tensors import ImageTensors, ModalityTensors, SeriesTensors, TabularTensors

FIRST_STEPS = 8
FIRST_STEPS_IMAGE = 4
LAST_STEPS = 256
"""Steps double for the rows whose remainder is too large, up to LAST_STEPS. On a fitted model a value's share moves by
less than .002 points beyond the first; every pixel of an image for every target is what costs most."""

TOLERANCE_POINTS = 0.01
TOLERANCE_SHARE = 0.005
"""(unexplained) is at most the larger of the two (a share of the modality's contribution)."""

_PATH_ROWS = 512  # points x subjects encoded at once: wide enough for the CPU
_PATH_NUMBERS = 512 * 64 * 64  # and fewer where the rows are large images: the graph of all of them is held

Reduce = Callable[[Tensor, Tensor], Tensor]
"""Sums attributions of each value of some rows (B, ...), whose numbers are (B,), or keeps them."""


@dataclass(frozen=True)
class Within:
    """What makes up one modality's contribution, in risk points.

    path_points: how much more than rounding `total` may differ from W(subject), which is fp32: it may be the phi_m of
        another numeric path.

    Shape:
        total: (B, Q) phi_m = W(subject).      presence: (B, Q) W(attribution baseline).
        feature: (B, Q, F) integrated gradients, F features of the modality (1 for images, all of them together).
        moment: (B, Q, T, C) the same of every value of a series, which sum to its features over T; series only.
    total - presence - feature.sum(-1) is the unexplained remainder.
    picture: where in the images; image only.
    """

    total: NDArray[np.float64]
    presence: NDArray[np.float64]
    feature: NDArray[np.float64]
    moment: NDArray[np.float64] | None = None
    picture: Picture | None = None
    path_points: float = 0.0

    @property
    def unexplained(self) -> NDArray[np.float64]:
        return np.asarray(self.total - self.presence - self.feature.sum(axis=-1))

    @property
    def within_tolerance(self) -> NDArray[np.bool_]:
        """(B, Q) whether the remainders of features and of regions keep the promise."""
        kept = np.abs(self.unexplained) <= _allowed(torch.from_numpy(self.total)).numpy() + self.path_points
        if self.picture is not None:
            image = self.feature[..., 0]
            kept &= np.abs(image - self.picture.region.sum(axis=-1)) <= _allowed(torch.from_numpy(image)).numpy()
        return np.asarray(kept)


class ModalityWorth:
    """W of one modality for B subjects whose other modalities are fixed.

    reference: of everyone, (R, 1, ...), or of each subject, (R, B, ...).
    Shape: called with N rows of inputs and the subject of each, (N,) int64 -> (N, Q) risk points, float64.
    """

    def __init__(
        self, model: RiskModel, sent: Sent, reference: Sent, present: dict[str, Tensor], modality: str
    ) -> None:
        self._model, self._sent, self._present = model, sent, present
        self._reference = {
            name: SentOne(
                reference[name].coefficients.expand_as(one.coefficients),
                reference[name].embedding.expand_as(one.embedding),
            )
            for name, one in sent.items()
        }
        self.modality = modality
        others = tuple(name for name in model.modalities if name != modality)
        self._coalitions = [
            (inside, shapley_weight(len(inside), len(model.modalities))) for inside in coalitions(others)
        ]
        with torch.no_grad():
            self._without = sum(
                (weight * value(model, sent, self._reference, present, inside) for inside, weight in self._coalitions),
                start=torch.zeros(()),
            )

    def trees(self, inputs: ModalityTensors, baseline: Tensor) -> TreePath | None:
        """The path of the modality's trees from the baseline to the inputs; None where there are none."""
        return tree_path(self._model, self.modality, inputs, baseline) if isinstance(inputs, TabularTensors) else None

    def held(self, inputs: ModalityTensors, owner: Tensor | None) -> ModalityTensors:
        """The inputs with observed values no further out than any member reads (trees aside): W of them is the same.

        Args: owner: (W,) feature of each tabular column.
        """
        encoders = [self._model.member(r).encoders[self.modality] for r in range(self._model.members)]
        limits = [one.limits() for one in encoders if isinstance(one, TabularEncoder | SeriesEncoder)]
        if not limits or isinstance(inputs, ImageTensors):
            return inputs
        low = torch.stack([low for low, _ in limits]).amin(dim=0)
        high = torch.stack([high for _, high in limits]).amax(dim=0)
        seen = inputs.observed if owner is None else inputs.observed[:, owner]
        return inputs.with_values(torch.where(seen, inputs.values.clamp(low, high), inputs.values))

    def __call__(self, inputs: ModalityTensors, subject: Tensor) -> Tensor:
        own = self._model.encode({self.modality: inputs})[self.modality]
        sent = {name: own if name == self.modality else rows_of(one, subject) for name, one in self._sent.items()}
        present = {name: flag[subject] for name, flag in self._present.items()}
        reference = {name: rows_of(one, subject) for name, one in self._reference.items()}
        worth = -self._without[subject]
        for inside, weight in self._coalitions:
            worth = worth + weight * value(self._model, sent, reference, present, (*inside, self.modality))
        return worth * POINTS


def rows_of(one: SentOne, subject: Tensor) -> SentOne:
    """What one modality passes on for these subjects (repeats allowed). Shape: (R, B, ...) -> (R, N, ...)."""
    return replace(one, coefficients=one.coefficients[:, subject], embedding=one.embedding[:, subject])


def attribution_baseline(inputs: ModalityTensors, group: Tensor, owner: Tensor | None = None) -> Tensor:
    """The subject's own masks, every observed value at the group's; what is missing stays 0.

    Args:
        group: tabular (W,) medians and one-hot modes; series (C,) medians; image (C, H, W) mean picture; or those of
            each subject's group, (B, ...).
        owner: (W,) feature of each tabular column.
    Shape: that of inputs.values.
    """
    if isinstance(inputs, TabularTensors):
        assert owner is not None, "tabular columns need their owners"
        return torch.where(inputs.observed[:, owner], group.to(inputs.values.dtype), 0.0)
    if isinstance(inputs, SeriesTensors):
        return torch.where(inputs.observed, group.to(inputs.values.dtype).unsqueeze(-2), 0.0)
    assert isinstance(inputs, ImageTensors)
    each = group[inputs.row] if group.ndim == inputs.values.ndim else group
    return each.to(inputs.values.dtype).expand_as(inputs.values)


def integrated_gradients(
    worth: Worth,
    inputs: ModalityTensors,
    baseline: Tensor,
    subject: Tensor,
    steps: int,
    reduce: Callable[[Tensor], Tensor],
    trees: TreePath | None = None,
) -> Tensor:
    """Integrated gradients of every target along the straight path.

    Args:
        worth: (N rows, their subjects) -> (N, Q).
        inputs, baseline: B rows, and the values where their paths start.
        subject: (B,) which subject of `worth` each row is.
        reduce: sums per-value attributions (B, ...), of images (T, ...), into features (B, F), or keeps them.
        trees: B rows; the trees' output moves along it, and its part is spread by its shares.
    Returns: (B, Q, F), or (B, Q, ...) where they are kept; float64.
    Source: Sundararajan, Taly & Yan 2017, ICML, equation 1; Gauss-Legendre quadrature of the path integral.
    """
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    at, weight = torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)
    # Large pictures go some points of the path at a time: the graph of all of them would be held.
    few = max(1, _PATH_NUMBERS // max(1, inputs.values.numel())) if isinstance(inputs, ImageTensors) else steps
    total: Tensor | None = None
    for some, share in zip(torch.split(at, few), torch.split(weight, few), strict=True):
        part = _at_points(worth, inputs, baseline, subject, some, share, reduce, trees)
        total = part if total is None else total + part
    assert total is not None
    return total


def _at_points(
    worth: Worth,
    inputs: ModalityTensors,
    baseline: Tensor,
    subject: Tensor,
    at: Tensor,
    weight: Tensor,
    reduce: Callable[[Tensor], Tensor],
    trees: TreePath | None,
) -> Tensor:
    """The share of some points of the path in the integral."""
    steps, rows = len(at), len(subject)
    step = inputs.values - baseline
    shape = (-1,) + (1,) * (step.ndim)
    path = (baseline[None] + at.reshape(shape).to(step.dtype) * step[None]).flatten(0, 1).requires_grad_()
    repeated = torch.arange(rows).repeat(steps)
    given, moved = inputs.take(repeated).with_values(path), [path]
    if trees is not None:
        assert isinstance(given, TabularTensors), "only a tabular modality has trees"
        along = trees.start[None] + at.reshape(-1, 1, 1, 1) * (trees.end - trees.start)[None]
        moved.append(along.flatten(0, 1).requires_grad_())
        given = replace(given, trees=moved[1])
    with torch.enable_grad():
        out = worth(given, subject.repeat(steps))
        parts = []
        for q in range(out.shape[1]):
            slopes = torch.autograd.grad(out[:, q].sum(), moved, retain_graph=q + 1 < out.shape[1])
            means = [
                torch.tensordot(weight, slope.reshape(steps, -1, *slope.shape[1:]).double(), dims=1) for slope in slopes
            ]
            feature = reduce(means[0] * step.double())
            if trees is not None:
                feature = feature + torch.einsum("brg,brgf->bf", means[1], trees.share)
            parts.append(feature)
    return torch.stack(parts, dim=1)


def within_modality(
    worth: ModalityWorth,
    inputs: ModalityTensors,
    group: Tensor,
    owner: Tensor | None,
    map_target: NDArray[np.int64],
    image: NDArray[np.int64] | None = None,
) -> Within:
    """Presence, features, moments (series) and regions (image) for B subjects.

    Steps double for rows whose remainder is too large. Images are one feature, so completeness gives its row without a
    gradient: W(subject) - W(baseline).

    Args:
        group: as for `attribution_baseline`.   map_target: (B,) the target on whose map the regions of images are
            found.
        image: (T,) a number for each image, ascending: its slices are pictures of their own; None = every picture is an
            image.
    """
    with torch.no_grad():
        everyone = torch.arange(len(map_target))
        start = attribution_baseline(inputs, group, owner)
        total = _in_blocks(lambda i: worth(inputs.take(i), i), everyone, _at_once(inputs))
        presence = _in_blocks(lambda i: worth(inputs.with_values(start).take(i), i), everyone, _at_once(inputs))
    gain = total - presence
    if isinstance(inputs, ImageTensors):
        each = np.arange(len(inputs.values)) if image is None else image
        picture = _look_at(worth, inputs, start, torch.from_numpy(map_target), gain, each)
        return Within(total.numpy(), presence.numpy(), gain[..., None].numpy(), picture=picture)
    # What the trees say is told of the values themselves.
    trees = worth.trees(inputs, start)
    inputs = worth.held(inputs, owner)
    if isinstance(inputs, SeriesTensors):
        moment = _converged(worth, inputs, start, lambda a, _: a, gain, _allowed(total)).numpy()
        return Within(total.numpy(), presence.numpy(), moment.sum(axis=2), moment)
    feature = _converged(worth, inputs, start, _per_feature(owner, inputs), gain, _allowed(total), trees)
    return Within(total.numpy(), presence.numpy(), feature.numpy())


def _look_at(
    worth: ModalityWorth,
    inputs: ImageTensors,
    start: Tensor,
    targets: Tensor,
    gain: Tensor,
    image: NDArray[np.int64],
) -> Picture:
    """Regions on the map of one target a subject, and what they and the rest of the pictures add to every target."""
    begin = inputs.with_values(start)

    def mapped(rows: Tensor) -> Maps:
        given, at_once = inputs.take(rows), max(1, _PATH_NUMBERS // inputs.values[0].numel())
        return Maps.of(attribution_map(worth, given, begin.take(rows).values, targets[rows], rows, at_once))

    blocks = torch.split(torch.arange(len(targets)), _paths(inputs, MAP_STEPS))
    maps = Maps.joined([mapped(rows) for rows in blocks])
    at, row_of = maps.shown(image), inputs.row.numpy()
    row = row_of[at]
    place = np.searchsorted(row, row, side="right") - 1 - np.arange(len(at))
    mask = regions_on(maps.map[at])
    shown = Shown(inputs, at, place, maps.slice[at], torch.from_numpy(mask).double())
    # A subject without a region is their own rest, and what the whole contributes is known without a gradient.
    region = torch.zeros(*gain.shape, shown.wide, dtype=torch.float64)
    region[..., -1] = gain
    some = torch.from_numpy(np.unique(row[mask[:, 0].any(axis=(1, 2))]))
    if len(some):
        region[some] = _converged(
            lambda part, index: worth(part, some[index]),
            inputs.take(some),
            begin.take(some).values,
            lambda attribution, index: shown.sums(attribution, some[index]),
            gain[some],
            _allowed(gain[some]),
            first_steps=FIRST_STEPS_IMAGE,
        )
    return Picture(at, row, place, maps.slice[at], maps.channel[at], maps.map[at], mask, region.numpy())


def _allowed(total: Tensor) -> Tensor:
    """How large a remainder may be, by the size of what it is a remainder of."""
    return torch.clamp(TOLERANCE_SHARE * total.abs(), min=TOLERANCE_POINTS)


def _converged(
    worth: Worth,
    inputs: ModalityTensors,
    start: Tensor,
    reduce: Reduce,
    gain: Tensor,
    allowed: Tensor,
    trees: TreePath | None = None,
    first_steps: int = FIRST_STEPS,
) -> Tensor:
    """Integrated gradients (B, Q, ...), steps doubled for rows whose sum is not yet `gain` (B, Q) within `allowed`."""
    todo, steps = torch.arange(len(gain)), first_steps
    found = _integrate(worth, inputs, start, todo, steps, reduce, trees)
    while steps < LAST_STEPS:
        todo = ((gain - found.flatten(2).sum(dim=-1)).abs() > allowed).any(dim=1).nonzero()[:, 0]
        if not len(todo):
            break
        steps *= 2
        found[todo] = _integrate(worth, inputs, start, todo, steps, reduce, trees)
    return found


def _integrate(
    worth: Worth,
    inputs: ModalityTensors,
    start: Tensor,
    rows: Tensor,
    steps: int,
    reduce: Reduce,
    trees: TreePath | None,
) -> Tensor:
    def block(index: Tensor) -> Tensor:
        part = inputs.take(index)
        # `take` of a series cuts to the longest row of the block: the baseline follows, and what is found is widened.
        cut = inputs.with_values(start).take(index).values
        along = None if trees is None else trees.take(index)
        found = integrated_gradients(worth, part, cut, index, steps, lambda a: reduce(a, index), along)
        if isinstance(inputs, SeriesTensors):
            found = torch.nn.functional.pad(found, (0, 0, 0, inputs.values.shape[1] - found.shape[2]))
        return found

    return _in_blocks(block, rows, _paths(inputs, steps))


def _paths(inputs: ModalityTensors, steps: int) -> int:
    """How many whole paths go through the encoder at a time."""
    return max(1, _at_once(inputs) // steps)


def _at_once(inputs: ModalityTensors) -> int:
    many = int(inputs.count.max()) if isinstance(inputs, ImageTensors) else 1
    return max(1, min(_PATH_ROWS, _PATH_NUMBERS // max(1, many * inputs.values[0].numel())))


def _in_blocks(function: Callable[[Tensor], Tensor], rows: Tensor, size: int) -> Tensor:
    return torch.cat([function(part) for part in torch.split(rows, size)])


def _per_feature(owner: Tensor | None, inputs: ModalityTensors) -> Reduce:
    assert owner is not None, "tabular columns need their owners"
    assert isinstance(inputs, TabularTensors), "features are of tabular columns"
    features = inputs.observed.shape[1]

    def reduce(attribution: Tensor, _: Tensor) -> Tensor:
        return attribution.new_zeros(len(attribution), features).index_add_(1, owner, attribution)

    return reduce
