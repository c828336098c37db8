"""Reference profiles and attribution baselines that explanations start from: of every group by sex and age band."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riskpred.features.plan import TabularPlan
from riskpred.fit.train import TrainingData
from riskpred.model.network import Sent, SentOne
from riskpred.model.profiles import Profiles
from riskpred.model.risk import RiskModel
from riskpred.model.tensors import ImageTensors, ModalityTensors, SeriesTensors, TabularTensors, column_owner
from riskpred.records.reference_group import EVERYONE, GROUPS, WIDER, belongs

FEWEST_ROWS: Final = 50
"""Training rows that a group must have of each modality to have a profile of its own: of fewer a mean is chance."""

_ROWS_AT_ONCE = 1024
_PICTURES_AT_ONCE = 64


@dataclass(frozen=True)
class Learned:
    """Profiles, and of how many training rows each was learned. rows: of `profiles.names`."""

    profiles: Profiles
    rows: tuple[int, ...]
    fewest: int

    def card_entry(self) -> dict[str, Any]:
        """For the bundle's card: which groups there are and by what rule."""
        return {
            "rule": (
                "People of the same sex (GENDER//) and ten-year age band at prediction_time; a group with fewer than "
                f"{self.fewest} training rows of any modality is explained by people of that age, these by everyone."
            ),
            "training_rows": dict(zip(self.profiles.names, self.rows, strict=True)),
        }


def learn_profiles(
    model: RiskModel, data: TrainingData, group: NDArray[np.int64] | None, fewest: int = FEWEST_ROWS
) -> Learned:
    """Profiles of everyone, and of each group and age band with enough training rows that someone is explained by.

    Args:
        group: (N,) place in `records.reference_group.GROUPS` of each training row; None = only everyone's is wanted.
    """
    own = np.zeros(len(data.together), dtype=np.int64) if group is None else group
    members = {EVERYONE: np.ones(len(own), dtype=np.bool_)}
    there = np.stack([given.present.numpy() for given in data.inputs.values()])
    wanted = {GROUPS[place] for place in np.unique(own).tolist()} - {EVERYONE}
    while wanted:
        name = wanted.pop()
        inside = belongs(own, GROUPS.index(name))
        if (there & inside).sum(axis=1).min() >= fewest:
            members[name] = inside
        elif WIDER[name] not in members:
            wanted.add(WIDER[name])
    members = {name: members[name] for name in GROUPS if name in members}
    counted = [torch.from_numpy(rows) for rows in members.values()]
    baselines = [attribution_baselines(model, data, rows) for rows in counted]
    profiles = Profiles(
        tuple(members),
        references(model, data, counted),
        {name: torch.stack([one[name] for one in baselines]) for name in model.modalities},
    )
    return Learned(profiles, tuple(int(rows.sum()) for rows in counted), fewest)


def references(model: RiskModel, data: TrainingData, groups: Sequence[Tensor]) -> Sent:
    """Mean of what each modality sends, by member and group, over the group's rows that have it; 0 if none has.

    Args: groups: which rows each group counts, (N,) bool each; a row may count in several.
    Shape: (R, groups, G), (R, groups, D).
    """
    inside = torch.stack(list(groups))
    total: dict[str, SentOne] = {}
    for rows in torch.split(torch.arange(len(data.together)), _ROWS_AT_ONCE):
        given = {name: one.take(rows) for name, one in data.inputs.items()}
        with torch.no_grad():
            sent = model.encode(given)
        for name, one in sent.items():
            counts = (inside[:, rows] & given[name].present).double()
            part = SentOne(_summed(counts, one.coefficients), _summed(counts, one.embedding))
            if name in total:
                part = SentOne(total[name].coefficients + part.coefficients, total[name].embedding + part.embedding)
            total[name] = part
    return {name: _mean(one, inside & data.inputs[name].present) for name, one in total.items()}


def attribution_baselines(model: RiskModel, data: TrainingData, inside: Tensor) -> dict[str, Tensor]:
    """Per modality, in the form of `ModalityTensors.values` without rows and steps, over the rows inside.

    Tabular (W,): median of each numeric feature, one-hot mode of each category; series (C,): median of each channel;
    image (C, H, W) or (C, Z, H, W): mean picture. Over observed values of rows that have the modality; 0 where nothing
    was observed.
    """
    found: dict[str, Tensor] = {}
    for name, part in model.plan.modalities.items():
        given: ModalityTensors = data.inputs[name]
        rows = given.take((given.present & inside).nonzero()[:, 0])
        if isinstance(rows, TabularTensors):
            assert isinstance(part, TabularPlan)
            found[name] = _tabular(rows, part)
        elif isinstance(rows, SeriesTensors):
            channels = range(rows.values.shape[2])
            found[name] = torch.stack([_median(rows.values[..., c][rows.observed[..., c]]) for c in channels])
        else:
            assert isinstance(rows, ImageTensors)
            found[name] = _mean_image(rows.values)
    return found


def _mean_image(values: Tensor) -> Tensor:
    """Mean of T pictures, in float64, some at a time; 0 of none. Shape: (T, C, H, W) -> (C, H, W)."""
    total = torch.zeros(values.shape[1:], dtype=torch.float64)
    for some in torch.split(values, _PICTURES_AT_ONCE) if len(values) else ():
        total += some.double().sum(0)
    return (total / max(1, len(values))).float()


def _summed(counts: Tensor, sent: Tensor) -> Tensor:
    """Shape: counts (groups, B), sent (R, B, V) -> (R, groups, V)."""
    return torch.einsum("nb,rbv->rnv", counts, sent)


def _mean(one: SentOne, rows: Tensor) -> SentOne:
    count = rows.sum(dim=1).clamp_min(1)[:, None]
    return SentOne(one.coefficients / count, one.embedding / count)


def _tabular(rows: TabularTensors, part: TabularPlan) -> Tensor:
    owner = torch.tensor(column_owner(part.columns))
    result = torch.zeros(len(owner))
    for feature, column in enumerate(part.columns):
        at = (owner == feature).nonzero()[:, 0]
        seen = rows.values[rows.observed[:, feature]][:, at]
        if column.vocabulary:
            if len(seen):
                result[at[int(seen.sum(0).argmax())]] = 1.0
        else:
            result[at] = _median(seen[:, 0])
    return result


def _median(values: Tensor) -> Tensor:
    """The lower median: of an even number of values one that was observed; 0 of none."""
    return values.median() if len(values) else torch.zeros(())
