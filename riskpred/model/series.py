"""The series encoder: an LSTM over irregular steps, with what was measured, the gaps and the time to prediction."""

import torch
from torch import Tensor, nn

from riskpred.config.network import SeriesEncoder as Settings
from riskpred.model.tensors import SeriesTensors

_TAIL = 0.001
"""Values beyond this training quantile, at either end, count as that quantile (records hold pressures of 13,682)."""
_BUCKET = 128
"""Rows that are padded together: rows sorted by length in buckets of this size run about 3 x as fast as padded ones."""
_CUDA_BUCKET = 2048
"""The same on CUDA, where a step takes about as long for two thousand rows as for a hundred."""
LOG_DAYS = 4.0
"""Divides log(1 + days): about its spread over gaps from hours to years."""


class SeriesEncoder(nn.Module):
    """Coefficients and embedding of an irregular series: the LSTM's state after the last real step.

    Each step brings C standardised values (0 where not measured), C masks, the gap since the step before and the time
    to prediction (log-scaled). Padding comes after the last step and is never read, so the rows of a batch do not
    touch one another. Rows of length 0 are not accepted: they are absent.

    Shape: SeriesTensors of B rows -> coefficients (B, G) float64, embedding (B, D) float64.
    Example:
        >>> encoder = SeriesEncoder(2, Settings(), coefficients=6, embedding=16)
        >>> steps = torch.ones(3, 4, 2)
        >>> days = torch.ones(3, 4)
        >>> given = SeriesTensors(steps, steps > 0, days, days, torch.tensor([4, 1, 2]), torch.ones(3) > 0)
        >>> coefficients, embedding = encoder(given)
        >>> coefficients.shape, embedding.shape
        (torch.Size([3, 6]), torch.Size([3, 16]))
    """

    location: Tensor
    scale: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, channels: int, settings: Settings, coefficients: int, embedding: int) -> None:
        super().__init__()
        self.register_buffer("location", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))
        self.register_buffer("low", torch.full((channels,), -torch.inf))
        self.register_buffer("high", torch.full((channels,), torch.inf))
        self.lstm = nn.LSTM(2 * channels + 2, settings.width, batch_first=True)
        self.dropout = nn.Dropout(settings.dropout)
        self.to_coefficients = nn.Linear(settings.width, coefficients)
        nn.init.zeros_(self.to_coefficients.weight)
        nn.init.zeros_(self.to_coefficients.bias)
        self.to_embedding = nn.Linear(settings.width, embedding)

    def learn(self, series: SeriesTensors) -> None:
        """Limits, location and scale of each channel from the observed values of training rows."""
        for channel in range(series.values.shape[2]):
            seen = series.values[..., channel][series.observed[..., channel]].double()
            if not len(seen):
                continue
            ordered = seen.sort().values
            tail = int(_TAIL * (len(ordered) - 1))
            low, high = ordered[tail], ordered[len(ordered) - 1 - tail]
            kept = seen.clamp(low, high)
            deviation = kept.std(correction=0)
            self.low[channel], self.high[channel], self.location[channel] = low, high, kept.mean()
            self.scale[channel] = deviation if deviation > 1e-9 * (1 + kept.mean().abs()) else 1.0

    def limits(self) -> tuple[Tensor, Tensor]:
        """Lowest and highest value of each channel that is told apart from others. Shape: (C,), (C,)."""
        return self.low, self.high

    def forward(self, series: SeriesTensors) -> tuple[Tensor, Tensor]:
        assert bool((series.length > 0).all()), "a row without steps is absent and must not reach the encoder"
        seen = series.observed.float()
        values = (series.values.clamp(self.low, self.high) - self.location) / self.scale * seen
        days = torch.stack([series.gap_days, series.to_prediction_days], dim=-1).clamp_min(0.0)
        steps = torch.cat([values, seen, torch.log1p(days) / LOG_DAYS], dim=-1)
        state = self.dropout(self._last_state(steps, series.length))
        return self.to_coefficients(state).double(), self.to_embedding(state).double()

    def _last_state(self, steps: Tensor, length: Tensor) -> Tensor:
        order = torch.argsort(length, stable=True)
        states = []
        for rows in torch.split(order, _CUDA_BUCKET if steps.is_cuda else _BUCKET):
            last = length[rows] - 1
            hidden, _ = self.lstm(steps[rows, : int(last.max()) + 1])
            states.append(hidden[torch.arange(len(rows), device=steps.device), last])
        return torch.cat(states)[torch.argsort(order)]
