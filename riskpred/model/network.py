"""One member of the ensemble: encoders, what each sends, and fusion of any subset of modalities into log-rates."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from riskpred.config import network as settings
from riskpred.config.network import NetworkConfig
from riskpred.errors import ShapeMismatch
from riskpred.features.plan import FeaturePlan, ImagePlan, SeriesPlan, TabularPlan
from riskpred.model.image import ImageEncoder
from riskpred.model.layout import BASES, Layout
from riskpred.model.series import SeriesEncoder
from riskpred.model.tabular import TabularEncoder
from riskpred.model.tensors import ImageTensors, ModalityTensors, SeriesTensors, TabularTensors

_JOINT_WIDTH = 32


@dataclass(frozen=True)
class SentOne:
    """All that one modality passes on.

    Shape: coefficients (R, B, G), embedding (R, B, D), float64; 0 for a row that lacks the modality.
    Within one member there is no R.
    """

    coefficients: Tensor
    embedding: Tensor


Sent = dict[str, SentOne]


class Joint(nn.Module):
    """What modalities say together: a small network on the sum of the present embeddings; its last layer starts at 0.

    Shape: (B, D) float64 -> (B, G) float64.
    Example:
        >>> Joint(embedding=16, coefficients=6, dropout=0.2)(torch.ones(2, 16, dtype=torch.float64)).shape
        torch.Size([2, 6])
    """

    def __init__(self, embedding: int, coefficients: int, dropout: float) -> None:
        super().__init__()
        self.inner = nn.Linear(embedding, _JOINT_WIDTH, dtype=torch.float64)
        self.dropout = nn.Dropout(dropout)
        self.outer = nn.Linear(_JOINT_WIDTH, coefficients, dtype=torch.float64)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, embedding: Tensor) -> Tensor:
        result: Tensor = self.outer(self.dropout(nn.functional.silu(self.inner(embedding))))
        return result


class Member(nn.Module):
    """Encoders and their fusion: log-rate = baseline + (sum of present coefficients + joint term) . time basis.

    Shape: {modality: ModalityTensors of B rows} -> per group (B, J, K) float64, log of the rate per year.
    Example: see tests/unit/model/test_network.py, which builds one from a plan and a layout.
    """

    def __init__(self, config: NetworkConfig, plan: FeaturePlan, layout: Layout) -> None:
        super().__init__()
        self.layout, self.embedding = layout, config.embedding
        self.modalities = tuple(plan.modalities)
        self.encoders = nn.ModuleDict()
        for name, part in plan.modalities.items():
            given = config.encoders.get(name)
            size = {"coefficients": layout.coefficients, "embedding": config.embedding}
            if isinstance(part, TabularPlan):
                tabular = given or settings.TabularEncoder()
                assert isinstance(tabular, settings.TabularEncoder)
                self.encoders[name] = TabularEncoder(part.columns, tabular, **size)
            elif isinstance(part, SeriesPlan):
                series = given or settings.SeriesEncoder()
                assert isinstance(series, settings.SeriesEncoder)
                self.encoders[name] = SeriesEncoder(len(part.channels), series, **size)
            else:
                assert isinstance(part, ImagePlan)
                image = given or settings.ImageEncoder()
                assert isinstance(image, settings.ImageEncoder)
                channels, *sides = part.pixel_shape
                self.encoders[name] = ImageEncoder(image, channels, len(sides), **size)
        # Modalities that learn apart are never seen together: nothing would teach what they say jointly.
        meet = len(self.modalities) > 1 and not config.training.apart
        self.joint = Joint(config.embedding, layout.coefficients, dropout=0.2) if meet else None
        for at, group in enumerate(layout.groups):
            start = torch.zeros(len(group.causes), group.intervals, dtype=torch.float64)
            self.register_buffer(f"baseline_{at}", start)

    def baseline(self, group: int) -> Tensor:
        """Log-rate per year before anything is sent. Shape: (J, K)."""
        return self.get_buffer(f"baseline_{group}")

    def encode(self, inputs: Mapping[str, ModalityTensors], additive: Mapping[str, Tensor] | None = None) -> Sent:
        """What each modality sends: (B, G) and (B, D), 0 where a row lacks it.

        Args:
            additive: spline parts that are known already (training computes them once).
        """
        sent: Sent = {}
        for name in self.modalities:
            if name not in inputs:  # an explanation encodes one modality anew
                continue
            given, encoder = inputs[name], self.encoders[name]
            here = given.present.nonzero()[:, 0]
            coefficients = torch.zeros(len(given.present), self.layout.coefficients, dtype=torch.float64)
            embedding = torch.zeros(len(given.present), _width(encoder), dtype=torch.float64)
            if len(here):
                rows = given if len(here) == len(given.present) else given.take(here)
                if isinstance(encoder, TabularEncoder):
                    assert isinstance(rows, TabularTensors)
                    known = None if additive is None else additive[name][here]
                    some, more = encoder(rows, known)
                else:
                    assert isinstance(rows, SeriesTensors | ImageTensors)
                    some, more = encoder(rows)
                if rows is given:
                    coefficients, embedding = some, more
                else:
                    coefficients = coefficients.index_copy(0, here, some)
                    embedding = embedding.index_copy(0, here, more)
            sent[name] = SentOne(coefficients, embedding)
        return sent

    def log_rates(self, sent: Sent, present: Mapping[str, Tensor]) -> list[Tensor]:
        """Uncalibrated log-rate per year of each group: per group (B, J, K)."""
        total, together = None, None
        for name in self.modalities:
            one, here = sent[name], present[name].double()[:, None]
            if len(one.coefficients) != len(here):
                raise ShapeMismatch(
                    f"sent[{name}] and present[{name}] must have as many rows; "
                    f"got {len(one.coefficients)} and {len(here)}"
                )
            # where, not a product: what an absent modality sent does not count, whatever it is.
            coefficients = torch.where(here > 0, one.coefficients, 0.0)
            embedding = torch.where(here > 0, one.embedding, 0.0)
            total = coefficients if total is None else total + coefficients
            together = embedding if together is None else together + embedding
        assert total is not None
        assert together is not None
        if self.joint is not None:
            total = total + self.joint(together)
        rates = []
        for at, (group, part) in enumerate(zip(self.layout.groups, self.layout.slices(), strict=True)):
            spoken = total[:, part].reshape(-1, len(group.causes), BASES) @ group.time_basis
            rates.append(self.baseline(at) + spoken)
        return rates


def _width(encoder: nn.Module) -> int:
    assert isinstance(encoder, TabularEncoder | SeriesEncoder | ImageEncoder)
    return encoder.to_embedding.out_features
