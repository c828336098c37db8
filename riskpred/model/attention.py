"""Several pictures of a row become one: a mean weighted by what each shows and how old it is.

Each picture is encoded alone, so that what is known of it can be kept; only here do the pictures of a row meet. The
weights are a softmax over logit + age terms . learned weights. All of it starts at zero: the plain mean. A picture that
is alone has the weight 1, whatever is learned, and is passed on untouched.
"""

from typing import Final

import torch
from torch import Tensor

AGE_TERMS: Final = 3
"""Numbers of `age_terms`."""


def age_terms(start: Tensor, age_days: Tensor) -> Tensor:
    """What the weights see of a picture's age: log(1 + days before prediction_time), log(1 + days older than the row's
    latest dated picture), and 1 where it is undated (the other two are 0 then).

    Shape: start (B + 1,) int64, age_days (T,) float64, NaN = undated; result (T, AGE_TERMS) float64.
    Example:
        >>> age_terms(torch.tensor([0, 2]), torch.tensor([float("nan"), 0.0], dtype=torch.float64)).tolist()
        [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    """
    undated = age_days.isnan()
    row = rows_of_pictures(start)
    known = torch.where(undated, torch.inf, age_days)
    least = known.new_full((len(start) - 1,), torch.inf).scatter_reduce(0, row, known, "amin")
    behind = torch.where(undated, 0.0, age_days - least[row])
    ages = torch.where(undated, 0.0, age_days)
    return torch.stack([ages.clamp_min(0).log1p(), behind.clamp_min(0).log1p(), undated.double()], dim=1)


def attention(logit: Tensor, start: Tensor, terms: Tensor, weight: Tensor) -> Tensor:
    """The weight of each picture in its row; those of a row sum to 1.

    Shape: logit (..., T) and result float64; terms (T, AGE_TERMS), weight (..., AGE_TERMS).
    """
    row, rows = rows_of_pictures(start), len(start) - 1
    logit = logit + weight @ terms.T
    index = row.expand_as(logit)
    # The largest of a row is only subtracted so that nothing overflows: no gradient goes through it.
    largest = logit.new_zeros(*logit.shape[:-1], rows).scatter_reduce(
        -1, index, logit.detach(), "amax", include_self=False
    )
    size = (logit - largest[..., row]).exp()
    total = size.new_zeros(largest.shape).index_add(-1, row, size)
    return size / total[..., row]


def pooled(said: Tensor, start: Tensor, terms: Tensor, weight: Tensor) -> Tensor:
    """What a row's pictures say together; 0 for a row without one.

    Shape: said (..., T, V) float64, the attention logit last; start (B + 1,); terms (T, AGE_TERMS);
        weight (..., AGE_TERMS); result (..., B, V - 1).
    """
    row, rows = rows_of_pictures(start), len(start) - 1
    spoken = said[..., :-1]
    if len(row) == rows and bool((start.diff() == 1).all()):
        return spoken
    share = attention(said[..., -1], start, terms, weight)
    return spoken.new_zeros(*spoken.shape[:-2], rows, spoken.shape[-1]).index_add(-2, row, share[..., None] * spoken)


def rows_of_pictures(start: Tensor) -> Tensor:
    """The row of each picture. Shape: (B + 1,) -> (T,)."""
    return torch.arange(len(start) - 1, device=start.device).repeat_interleave(start.diff())
