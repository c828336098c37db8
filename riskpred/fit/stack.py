"""What a member's log-rate takes of its spline, its trees and its residuals: weights per cause from out-of-fold rows.

The combination lies on the simplex over four candidates: spline or trees, each with or without the residuals, which may
change with time as the other two do not. A weighted mean of log-rates is again a sum of the same terms, so the weights
go into the members' own numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from riskpred.fit.losses import GroupLabels, negative_log_likelihood
from riskpred.fit.trees import MemberTrees
from riskpred.model.layout import BASES
from riskpred.model.network import Member
from riskpred.model.tabular import TabularEncoder

_SPREAD = 1.5
"""SD of normal priors on the logits of the shares: even shares where events are few."""
_SPREAD_SHIFT, _SPREAD_SLOPE = 1.0, 0.5


@dataclass(frozen=True)
class Shares:
    """Of each cause: trees, 0 to 1, the spline has the rest; residual, 0 to 1, how much of the residuals counts.

    Shape: (J,) each.
    """

    trees: Tensor
    residual: Tensor

    def combined(self, spline: Tensor, trees: Tensor, network: Tensor) -> Tensor:
        """Log-rates of the combination; the network is the spline with its residuals. Shape: (N, J, K) each."""
        share, more = self.trees[:, None], self.residual[:, None]
        return (1.0 - share) * spline + share * trees + more * (network - spline)


def fit_shares(spline: Tensor, trees: Tensor, network: Tensor, labels: GroupLabels, grown: Tensor) -> Shares:
    """The shares of one group that maximise the out-of-fold likelihood of a + b x combination, a and b free.

    With a and b free a candidate gains no weight by its scale alone.

    Shape: log-rates (N, J, K) each; grown (J,) bool, causes that have trees: the others take none.
    """
    causes = spline.shape[1]
    if not bool((labels.exposure > 0).any()):
        half = torch.full((causes,), 0.5, dtype=torch.float64)
        return Shares(half * grown, half)
    tree_logit, residual_logit, shift, log_slope = (
        torch.zeros(causes, dtype=torch.float64, requires_grad=True) for _ in range(4)
    )
    inside, told = labels.inside, labels.exposure.sum(dim=0) > 0

    def loss() -> Tensor:
        mixed = Shares(tree_logit.sigmoid() * grown, residual_logit.sigmoid()).combined(spline, trees, network)
        middle = mixed[inside][..., told].mean(dim=(0, 2))[:, None]
        calibrated = middle + shift[:, None] + log_slope.exp()[:, None] * (mixed - middle)
        prior = (
            (tree_logit / _SPREAD).square().sum()
            + (residual_logit / _SPREAD).square().sum()
            + (shift / _SPREAD_SHIFT).square().sum()
            + (log_slope / _SPREAD_SLOPE).square().sum()
        ) / 2
        return negative_log_likelihood(calibrated, labels).sum() + prior

    scale = max(1.0, float(labels.event.sum()))
    optimiser = torch.optim.LBFGS(
        [tree_logit, residual_logit, shift, log_slope], max_iter=100, tolerance_grad=1e-7, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss() / scale
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return Shares(tree_logit.detach().sigmoid() * grown, residual_logit.detach().sigmoid())


def put_shares(member: Member, trees: MemberTrees, shares: Sequence[Shares]) -> None:
    """Make a member say the combination: its baselines, splines, trees and last layers are scaled by cause.

    Args:
        shares: one per group.
    """
    tree, residual = torch.cat([one.trees for one in shares]), torch.cat([one.residual for one in shares])
    for g, one in enumerate(shares):
        base, with_trees = member.baseline(g), trees.baseline[g]
        base.copy_((1.0 - one.trees)[:, None] * base + one.trees[:, None] * with_trees)
    for name, encoder in member.encoders.items():
        if isinstance(encoder, TabularEncoder):
            encoder.spline_weight.mul_(1.0 - tree)
            if name in trees.forests:
                encoder.trees.take(trees.forests[name], trees.mean[name], tree)
    outputs = [encoder.get_submodule("to_coefficients") for encoder in member.encoders.values()]
    if member.joint is not None:
        outputs.append(member.joint.outer)
    with torch.no_grad():
        for layer in outputs:
            _scale_outputs(layer, residual.repeat_interleave(BASES))


def _scale_outputs(layer: nn.Module, factor: Tensor) -> None:
    """Scale each output of a last layer: Linear has weight (out, in), TabM's LinearEnsemble (k, in, out)."""
    weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
    weight.mul_((factor[:, None] if weight.ndim == 2 else factor).to(weight.dtype))
    bias.mul_(factor.to(bias.dtype))
