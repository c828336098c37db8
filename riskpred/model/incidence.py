"""Log-rates of a risk group to its risks: the one place where a rate becomes a risk."""

import torch
from torch import Tensor

from riskpred.errors import ShapeMismatch
from riskpred.model.layout import GroupGrid


def group_risks(log_rate: Tensor, group: GroupGrid) -> Tensor:
    """Risk of each cause of a group by the end of each of its intervals: competing causes, or ordered grades.

    Shape: (..., J, K) -> (..., J, K).
    """
    widths = torch.from_numpy(group.widths_years)
    return grade_risks(log_rate, widths) if group.ordered else cumulative_incidence(log_rate, widths)


def grade_risks(log_rate: Tensor, widths_years: Tensor) -> Tensor:
    """P(grade or more) of ordered grades, lowest first, from the rate of going on to each from the one before.

    P(grade k or more | grade k - 1 or more) = 1 - exp(-lambda_k), so the risk never rises from one grade to the next,
    whatever the rates are. Each rate may be judged by itself on those who reached the grade before.

    Shape: log_rate (..., J, 1), widths_years (1,); result (..., J, 1).
    Source: Tutz 1991, Stat Med 10:1011-1025 (sequential model), with the complementary log-log link.
    Example:
        >>> grade_risks(torch.tensor([[0.7], [0.7]]).log(), torch.tensor([1.0]))
        tensor([[0.5034],
                [0.2534]])
    """
    return (-torch.expm1(-log_rate.exp() * widths_years)).cumprod(dim=-2)


def rates_behind(risk: Tensor, group: GroupGrid) -> Tensor:
    """Log-rates that give these risks of outcomes known at once: the way back of `group_risks`.

    Shape: (..., J, 1) -> (..., J, 1).
    Example:
        >>> grades = GroupGrid("x", ("a", "b"), ("a", "b"), True, (0.0,), (0.0, 1.0), ordered=True)
        >>> rate = torch.tensor([[-1.0], [0.5]], dtype=torch.float64)
        >>> bool(torch.allclose(rates_behind(group_risks(rate, grades), grades), rate))
        True
    """
    least = torch.finfo(risk.dtype).tiny
    if group.ordered:
        before = torch.cat([torch.ones_like(risk[..., :1, :]), risk[..., :-1, :]], dim=-2)
        free = (1.0 - risk / before.clamp_min(least)).clamp_min(least)
        return torch.log((-torch.log(free)).clamp_min(least))
    total = risk.sum(dim=-2, keepdim=True)
    rate = -torch.log((1.0 - total).clamp_min(least))
    return torch.log((risk / total.clamp_min(least) * rate).clamp_min(least))


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
