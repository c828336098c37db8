"""Log-rates of competing causes to cumulative incidence: the one place where a rate becomes a risk."""

import torch
from torch import Tensor

from riskpred.errors import ShapeMismatch


def cumulative_incidence(log_rate: Tensor, widths_years: Tensor) -> Tensor:
    """Risk of each cause by the end of each interval, all causes competing.

    Rates are constant within an interval: with lambda = exp(log_rate) x width and L its sum over causes,
    P(cause j in the interval | free before) = lambda_j / L x (1 - exp(-L)).

    Args:
        log_rate: log of the cause-specific rate per year.
        widths_years: lengths of the intervals.

    Shape: log_rate (..., J, K), widths_years (K,); result (..., J, K).
    Raises: ShapeMismatch, when the intervals differ in number.
    Source: Prentice et al. 1978, Biometrics 34:541-554 (cause-specific hazards); piecewise exponential form.
    Example:
        >>> rate = torch.tensor([[0.1, 0.2], [0.1, 0.0]]).log()
        >>> cumulative_incidence(rate, torch.tensor([1.0, 1.0]))
        tensor([[0.0906, 0.2390],
                [0.0906, 0.0906]])
    """
    if log_rate.shape[-1] != widths_years.shape[-1]:
        raise ShapeMismatch(
            f"log_rate must have one entry per interval, {widths_years.shape[-1]}; got {log_rate.shape[-1]}"
        )
    rate = log_rate.exp() * widths_years
    total = rate.sum(dim=-2, keepdim=True)
    # A running sum of what came before, not the sum so far less the last: with huge rates that would cancel to 0.
    before = torch.cat([torch.zeros_like(total[..., :1]), total[..., :-1].cumsum(dim=-1)], dim=-1)
    free_before = torch.exp(-before)
    # (1 - exp(-L)) / L tends to 1 as L tends to 0.
    shared = torch.where(total > 0, -torch.expm1(-total) / total.clamp_min(torch.finfo(total.dtype).tiny), 1.0)
    return (rate * shared * free_before).cumsum(dim=-1)
