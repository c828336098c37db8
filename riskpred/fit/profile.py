"""The reference profile and the attribution baselines that explanations start from, over training rows."""

import torch
from torch import Tensor

from riskpred.features.plan import TabularPlan
from riskpred.fit.train import TrainingData
from riskpred.model.network import Sent, SentOne
from riskpred.model.risk import RiskModel
from riskpred.model.tensors import ImageTensors, SeriesTensors, TabularTensors, column_owner

_ROWS_AT_ONCE = 1024


def reference(model: RiskModel, data: TrainingData) -> Sent:
    """Mean of what each modality sends, by member, over the rows that have it: (R, 1, G), (R, 1, D); 0 if none has."""
    result: Sent = {}
    total: dict[str, SentOne] = {}
    for rows in torch.split(torch.arange(len(data.together)), _ROWS_AT_ONCE):
        with torch.no_grad():
            sent = model.encode({name: given.take(rows) for name, given in data.inputs.items()})
        for name, one in sent.items():
            coefficients, embedding = one.coefficients.sum(1, keepdim=True), one.embedding.sum(1, keepdim=True)
            if name in total:
                coefficients = coefficients + total[name].coefficients
                embedding = embedding + total[name].embedding
            total[name] = SentOne(coefficients, embedding)
    for name, one in total.items():
        count = max(1, int(data.inputs[name].present.sum()))
        result[name] = SentOne(one.coefficients / count, one.embedding / count)
    return result


def attribution_baselines(model: RiskModel, data: TrainingData) -> dict[str, Tensor]:
    """Per modality, in the form of `ModalityTensors.values` without rows and steps.

    Tabular (W,): median of each numeric feature, one-hot mode of each category; series (C,): median of each channel;
    image (H, W): mean image. Over observed values of rows that have the modality; 0 where nothing was observed.
    """
    found: dict[str, Tensor] = {}
    for name, part in model.plan.modalities.items():
        given = data.inputs[name]
        rows = given.take(given.present.nonzero()[:, 0])
        if isinstance(rows, TabularTensors):
            assert isinstance(part, TabularPlan)
            found[name] = _tabular(rows, part)
        elif isinstance(rows, SeriesTensors):
            channels = range(rows.values.shape[2])
            found[name] = torch.stack([_median(rows.values[..., c][rows.observed[..., c]]) for c in channels])
        else:
            assert isinstance(rows, ImageTensors)
            empty = torch.zeros(rows.values.shape[1:])
            found[name] = rows.values.double().mean(0).float() if len(rows.values) else empty
    return found


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
