"""The tabular encoder: an additive ridge spline, boosted trees, and a TabM residual that starts at zero."""

from collections.abc import Sequence

import torch
from rtdl_num_embeddings import PeriodicEmbeddings
from tabm import LinearEnsemble, make_tabm_backbone
from torch import Tensor, nn

from riskpred.config.network import TabularEncoder as Settings
from riskpred.model.layout import BASES
from riskpred.model.spline import SplineDesign
from riskpred.model.tensors import TabularTensors, Vocabulary, column_owner
from riskpred.model.trees import TreeTerm

_EMBEDDING = 8
_FREQUENCIES = 16
_FREQUENCY_SCALE = 0.05


class TabularEncoder(nn.Module):
    """Coefficients and embedding of tabular features: spline terms x weights + trees + a residual of TabM.

    The spline's weights and the trees are buffers that `fit` sets; the spline says the same at all points of time
    (proportional hazards). TabM's k members are averaged; its activations are smooth, so that integrated gradients
    converge.

    Shape: TabularTensors of B rows -> coefficients (B, G) float64, embedding (B, D) float64.
    Example:
        >>> from types import SimpleNamespace as Column
        >>> encoder = TabularEncoder([Column(vocabulary=())], Settings(), coefficients=6, embedding=16)
        >>> one = torch.ones(5, 1)
        >>> coefficients, embedding = encoder(TabularTensors(one, one > 0, one[:, 0] > 0))
        >>> coefficients.shape, embedding.shape
        (torch.Size([5, 6]), torch.Size([5, 16]))
    """

    spline_weight: Tensor
    location: Tensor
    scale: Tensor

    def __init__(self, columns: Sequence[Vocabulary], settings: Settings, coefficients: int, embedding: int) -> None:
        super().__init__()
        self.design = SplineDesign(columns, settings.knots)
        self.register_buffer(
            "spline_weight", torch.zeros(self.design.width, coefficients // BASES, dtype=torch.float64)
        )
        self.trees = TreeTerm(columns, coefficients // BASES)
        owner = column_owner(columns)
        self._numeric = [at for at, feature in enumerate(owner) if not columns[feature].vocabulary]
        self._hot = [at for at, feature in enumerate(owner) if columns[feature].vocabulary]
        self._numeric_features = [owner[at] for at in self._numeric]
        self.register_buffer("location", torch.zeros(len(self._numeric)))
        self.register_buffer("scale", torch.ones(len(self._numeric)))
        self.embed = (
            PeriodicEmbeddings(
                len(self._numeric),
                _EMBEDDING,
                n_frequencies=_FREQUENCIES,
                frequency_init_scale=_FREQUENCY_SCALE,
                activation=False,
                lite=False,
            )
            if self._numeric
            else None
        )
        chunks = [_EMBEDDING] * len(self._numeric) + [1] * len(self._hot) + [1] * len(columns)
        self.backbone = make_tabm_backbone(
            d_in=sum(chunks),
            n_blocks=settings.depth,
            d_block=settings.width,
            dropout=settings.dropout,
            activation="SiLU",
            k=settings.members,
            start_scaling_init="random-signs",
            start_scaling_init_chunks=chunks,
        )
        self.members = settings.members
        self.to_coefficients = LinearEnsemble(settings.width, coefficients, k=settings.members)
        nn.init.zeros_(self.to_coefficients.weight)
        nn.init.zeros_(self.to_coefficients.bias)
        self.to_coefficients.requires_grad_(settings.residual)
        self.to_embedding = nn.Linear(settings.width, embedding)

    def learn(self, tabular: TabularTensors) -> None:
        """Take the spline design and the residual's location and scale from training rows."""
        self.design.learn_columns(tabular.values, tabular.observed)
        values = tabular.values[:, self._numeric].double().clamp(self.design.low, self.design.high)
        seen = tabular.observed[:, self._numeric_features].double()
        count = seen.sum(0).clamp_min(1.0)
        mean = (values * seen).sum(0) / count
        deviation = (((values - mean) ** 2 * seen).sum(0) / count).sqrt()
        self.location.copy_(mean.nan_to_num())
        self.scale.copy_(torch.where(deviation > 1e-9 * (1 + mean.abs()), deviation, torch.ones_like(deviation)))

    def limits(self) -> tuple[Tensor, Tensor]:
        """Lowest and highest value of each column that spline and residual tell from others. Shape: (W,), (W,)."""
        low, high = (torch.full((len(self._numeric) + len(self._hot),), sign * torch.inf) for sign in (-1, 1))
        low[self._numeric], high[self._numeric] = self.design.low.float(), self.design.high.float()
        return low, high

    def additive(self, tabular: TabularTensors) -> Tensor:
        """The spline's part of the coefficients. Shape: (B, G) float64."""
        return proportional(self.design(tabular) @ self.spline_weight)

    def forward(self, tabular: TabularTensors, additive: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Coefficients and embedding; `additive` is the spline's part, where it is known already."""
        seen = tabular.observed.float()
        parts = [tabular.values[:, self._hot], 1.0 - seen]
        if self.embed is not None:
            raw = tabular.values[:, self._numeric].clamp(self.design.low.float(), self.design.high.float())
            standard = (raw - self.location) / self.scale * seen[:, self._numeric_features]
            parts.insert(0, self.embed(standard).flatten(1))
        hidden = self.backbone(torch.cat(parts, dim=1)[:, None].expand(-1, self.members, -1))
        residual = self.to_coefficients(hidden).mean(dim=1)
        if additive is None:
            additive = self.additive(tabular)
        own = additive + self.trees(tabular) + residual.double()
        return own, self.to_embedding(hidden.mean(dim=1)).double()


def proportional(per_cause: Tensor) -> Tensor:
    """Coefficients of a term that says the same at all points of time. Shape: (B, J) -> (B, G)."""
    return per_cause.repeat_interleave(BASES, dim=-1)
