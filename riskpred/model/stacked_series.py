"""The series encoders of all members in one pass over a chunk: rows of like length together, one product per step.

The same arithmetic as `SeriesEncoder`, in float32, for risks without a gradient. Compiled; rows lie innermost.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from riskpred.model.series import LOG_DAYS, SeriesEncoder
from riskpred.model.tensors import SeriesTensors
from riskpred.model.vector_math import exp32
from riskpred.records.compiled import contracted

_BLOCK = 64
"""Rows that go through the steps together: weights, gates and states of one member stay in the nearest caches."""
_STEEP = np.float32(29.0)
"""Gates are as shut or open as float32 can say beyond this; the product of three exponentials is still a number."""

_Reals = NDArray[np.float32]


@dataclass(frozen=True)
class StackedSeries:
    """R members' encoders; H = width of the LSTM, I = 2 C + 2 numbers a step.

    Shape: low, high, location, scale: (R, C).
        weight: (R, 4 H, H + I + 1), of the state before, a step and 1; times -1, that of the new value times -2, so
            that exp of the product is what sigmoid and tanh need.
        outer: (R, G + D, H), outer_bias: (R, G + D): coefficients, then embedding.
    """

    low: _Reals
    high: _Reals
    location: _Reals
    scale: _Reals
    weight: _Reals
    outer: Tensor
    outer_bias: Tensor
    coefficients: int

    @classmethod
    def of(cls, encoders: Sequence[SeriesEncoder]) -> "StackedSeries":
        def stacked(parts: Sequence[Tensor]) -> _Reals:
            return np.ascontiguousarray(torch.stack([part.detach() for part in parts]).float().numpy())

        return cls(
            low=stacked([one.low for one in encoders]),
            high=stacked([one.high for one in encoders]),
            location=stacked([one.location for one in encoders]),
            scale=stacked([one.scale for one in encoders]),
            weight=stacked([_weight(one.lstm) for one in encoders]),
            outer=torch.stack(
                [torch.cat([one.to_coefficients.weight, one.to_embedding.weight]).detach() for one in encoders]
            ),
            outer_bias=torch.stack(
                [torch.cat([one.to_coefficients.bias, one.to_embedding.bias]).detach() for one in encoders]
            ),
            coefficients=encoders[0].to_coefficients.out_features,
        )

    def __call__(self, series: SeriesTensors) -> tuple[Tensor, Tensor]:
        """Shape: B rows with at least one step -> coefficients (R, B, G), embedding (R, B, D), float64."""
        length = series.length.numpy()
        assert (length > 0).all(), "a row without steps is absent and must not reach the encoder"
        state = np.empty((len(self.weight), self.weight.shape[1] // 4, len(length)), np.float32)
        days = torch.stack([series.gap_days, series.to_prediction_days]).clamp_min(0.0)
        _last_states(
            series.values.detach().contiguous().numpy(),
            series.observed.contiguous().numpy(),
            (torch.log1p(days) / LOG_DAYS).numpy(),
            length,
            np.argsort(length, kind="stable"),
            self.low,
            self.high,
            self.location,
            self.scale,
            self.weight,
            state,
        )
        said = torch.baddbmm(self.outer_bias[:, :, None], self.outer, torch.from_numpy(state)).double().mT
        return said[..., : self.coefficients], said[..., self.coefficients :]


def _weight(lstm: nn.LSTM) -> Tensor:
    named = dict(lstm.named_parameters())
    bias = named["bias_ih_l0"] + named["bias_hh_l0"]
    whole = torch.cat([named["weight_hh_l0"], named["weight_ih_l0"], bias[:, None]], dim=1).detach()
    times = torch.tensor([-1.0, -1.0, -2.0, -1.0]).repeat_interleave(lstm.hidden_size)
    return whole * times[:, None]


@contracted
def _last_states(
    values: _Reals,
    observed: NDArray[np.bool_],
    days: _Reals,
    length: NDArray[np.int64],
    order: NDArray[np.int64],
    low: _Reals,
    high: _Reals,
    location: _Reals,
    scale: _Reals,
    weight: _Reals,
    state: _Reals,
) -> None:
    """Fill `state`, (R, H, B), with each member's state after each row's last step.

    Shape: values, observed: (B, T, C).   days: (2, B, T), log-scaled.   length: (B,).   order: (B,) by length, rising.
    """
    members, wide, inputs = weight.shape
    hidden, channels = wide // 4, values.shape[2]
    given = np.ones((inputs, _BLOCK), np.float32)  # the last line stays 1, for the bias
    gates = np.zeros((wide, _BLOCK), np.float32)
    part = hidden * _BLOCK
    every = gates.reshape(-1)
    into, keep, new, out = every[:part], every[part : 2 * part], every[2 * part : 3 * part], every[3 * part :]
    cell = np.zeros(part, np.float32)
    closed = np.zeros(part, np.float32)
    for first in range(0, len(order), _BLOCK):
        rows = order[first : first + _BLOCK]
        n = len(rows)
        for r in range(members):
            # What an earlier block left behind is not read by any row: columns do not touch one another.
            given[:hidden] = np.float32(0)
            cell[:] = np.float32(0)
            done = 0
            for t in range(length[rows[n - 1]]):
                for b in range(done, n):
                    row = rows[b]
                    for c in range(channels):
                        if observed[row, t, c]:
                            held = min(max(values[row, t, c], low[r, c]), high[r, c])
                            given[hidden + c, b] = (held - location[r, c]) / scale[r, c]
                            given[hidden + channels + c, b] = np.float32(1)
                        else:
                            given[hidden + c, b] = np.float32(0)
                            given[hidden + channels + c, b] = np.float32(0)
                    given[hidden + 2 * channels, b] = days[0, row, t]
                    given[hidden + 2 * channels + 1, b] = days[1, row, t]
                np.dot(weight[r], given, gates)
                _exponentials(gates.reshape(-1))
                _next_cell(into, keep, new, cell)
                _exponentials_of(cell, closed)
                _next_state(out, closed, given[:hidden].reshape(-1))
                while done < n and length[rows[done]] == t + 1:
                    for j in range(hidden):
                        state[r, j, rows[done]] = given[j, done]
                    done += 1


@contracted
def _next_cell(into: _Reals, keep: _Reals, new: _Reals, cell: _Reals) -> None:
    """keep * cell + into * new, from exponentials: sigmoid = 1 / (1 + e), tanh = (1 - e) / (1 + e), one division."""
    one = np.float32(1)
    for b in range(len(cell)):
        both = (one + into[b]) * (one + new[b])
        forgotten = one + keep[b]
        cell[b] = (cell[b] * both + (one - new[b]) * forgotten) / (both * forgotten)


@contracted
def _next_state(out: _Reals, closed: _Reals, state: _Reals) -> None:
    """out * tanh(cell), from exponentials."""
    one = np.float32(1)
    for b in range(len(state)):
        state[b] = (one - closed[b]) / ((one + out[b]) * (one + closed[b]))


@contracted
def _exponentials(x: _Reals) -> None:
    """exp in the place of every number, held where the product of three would leave float32."""
    for b in range(len(x)):
        e = -_STEEP if x[b] < -_STEEP else x[b]
        x[b] = exp32(_STEEP if e > _STEEP else e)


@contracted
def _exponentials_of(cell: _Reals, result: _Reals) -> None:
    """exp(-2 cell) of every number, held likewise."""
    for b in range(len(cell)):
        x = np.float32(-2) * cell[b]
        e = -_STEEP if x < -_STEEP else x
        result[b] = exp32(_STEEP if e > _STEEP else e)
