"""A model whose weights say nothing: what its attributions still have in common with the fitted one's is not the model.

Weights keep their sizes and lose their places and signs: every parameter and every spline weight is shuffled within its
tensor and given a random sign; in trees the questions of all nodes and the answers of all leaves are dealt anew.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from riskpred.model.network import Sent, SentOne
from riskpred.model.risk import RiskModel
from riskpred.model.tabular import TabularEncoder
from riskpred.model.tensors import ModalityTensors
from riskpred.model.trees import Forest, TreeTerm


def randomised(model: RiskModel, seed: int) -> RiskModel:
    """A copy with randomised weights; calibration, baselines and what was learned of the inputs' scale stay."""
    other, random = deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in other.networks.parameters():
            parameter.copy_(_dealt(parameter, random))
        for r in range(other.members):
            for encoder in other.member(r).encoders.values():
                if isinstance(encoder, TabularEncoder):
                    encoder.spline_weight.copy_(_dealt(encoder.spline_weight, random))
                    _deal_trees(encoder.trees, np.random.default_rng([seed, r]))
    return other


def mean_sent(model: RiskModel, inputs: Mapping[str, ModalityTensors], like: Sent) -> Sent:
    """Reference of a model that was never fitted: the mean of what it sends of these people, those who have it.

    Args: like: a reference of the fitted model; as many rows, all with the same mean.
    """
    with torch.no_grad():
        sent = model.encode(inputs)
    found = {}
    for name, one in sent.items():
        here, rows = inputs[name].present, like[name].coefficients.shape[1]
        count = max(1, int(here.sum()))
        found[name] = SentOne(
            (one.coefficients[:, here].sum(1, keepdim=True) / count).expand(-1, rows, -1).contiguous(),
            (one.embedding[:, here].sum(1, keepdim=True) / count).expand(-1, rows, -1).contiguous(),
        )
    return found


def _dealt(values: Tensor, random: torch.Generator) -> Tensor:
    order = torch.randperm(values.numel(), generator=random)
    sign = torch.randint(0, 2, (values.numel(),), generator=random).to(values.dtype) * 2 - 1
    return (values.flatten()[order] * sign).reshape(values.shape)


def _deal_trees(trees: TreeTerm, random: np.random.Generator) -> None:
    forest = trees.forest
    if not len(forest):
        return
    column, threshold = forest.column.copy(), forest.threshold.copy()
    missing_left, value = forest.missing_left.copy(), forest.value.copy()
    # Nodes that ask for the point of time keep their question: their tree says that it does.
    asks = np.flatnonzero((column >= 0) & (column < len(trees.owner)))
    new = random.permutation(asks)
    column[asks], threshold[asks], missing_left[asks] = column[new], threshold[new], missing_left[new]
    leaves = np.flatnonzero(column < 0)
    value[leaves] = value[random.permutation(leaves)] * random.choice([-1.0, 1.0], len(leaves))
    dealt: Forest = replace(forest, column=column, threshold=threshold, missing_left=missing_left, value=value)
    trees.take(dealt, trees.mean, trees.weight)
