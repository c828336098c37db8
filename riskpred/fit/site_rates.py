"""Log-rates of another site's people by every member, after the bundle's own calibration, and what followed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riskpred.errors import InputError
from riskpred.features.batch import FeatureBatch
from riskpred.features.build import build
from riskpred.features.join import take
from riskpred.fit.losses import GroupLabels, labels_on
from riskpred.model.bundle import Bundle
from riskpred.model.calibration import pattern_index
from riskpred.model.incidence import group_risks
from riskpred.model.layout import Layout
from riskpred.model.network import SentOne
from riskpred.model.risk import RiskModel
from riskpred.model.threads import one_thread
from riskpred.progress import Progress
from riskpred.records.cohort import cohort, rows_at
from riskpred.records.warehouse import Warehouse

_ROWS_AT_ONCE: Final = 512
_PASS: Final = "log-rates at this site"


@dataclass(frozen=True)
class SiteRates:
    """Log-rates of N rows by R members, after the bundle's own calibration, and what followed.

    Shape: subject_id, prediction_time, together (N,); rates: per group (R, N, J, K); cause, duration_days: risk group
        -> (N,), as in CohortRows.
    """

    subject_id: NDArray[np.int64]
    prediction_time: NDArray[np.int64]
    together: NDArray[np.int64]
    rates: list[Tensor]
    cause: dict[str, NDArray[np.int8]]
    duration_days: dict[str, NDArray[np.float64]]

    def __len__(self) -> int:
        return len(self.subject_id)

    def take(self, index: NDArray[np.int64]) -> "SiteRates":
        at = torch.from_numpy(index)
        return SiteRates(
            self.subject_id[index],
            self.prediction_time[index],
            self.together[index],
            [rate[:, at] for rate in self.rates],
            {name: values[index] for name, values in self.cause.items()},
            {name: values[index] for name, values in self.duration_days.items()},
        )

    def labels(self, layout: Layout) -> list[GroupLabels]:
        """What followed up to the last horizon, on the grid of each group; what comes later is told by no risk."""
        return [
            labels_on(group, self.duration_days[group.name], self.cause[group.name]).up_to(group.end_of[-1] + 1)
            for group in layout.groups
        ]


def site_rates(bundle: Bundle, warehouse: Warehouse, subjects: NDArray[np.int64], progress: Progress) -> SiteRates:
    """Log-rates of every usable row of these subjects. Raises: InputError, when there is none."""
    groups, outcomes = warehouse.groups(), bundle.config.outcomes
    parts: list[SiteRates] = []
    done = 0
    with one_thread():
        for chunk in warehouse.chunks(subjects=subjects):
            rows = cohort(chunk, outcomes, warehouse.data_until)
            done += len(chunk)
            if len(rows):
                batch = build(chunk, rows, bundle.plan, warehouse.image_root)
                usable = np.flatnonzero(batch.usable)
                rows, batch = rows_at(rows, usable), take(batch, usable)
                together = np.array([groups.get(one, one) for one in batch.subject_id.tolist()], np.int64)
                rates = calibrated_log_rates(bundle.model, batch)
                time = batch.prediction_time
                parts.append(SiteRates(batch.subject_id, time, together, rates, rows.cause, rows.duration_days))
            progress.step(_PASS, done, len(subjects))
    if not sum(len(part) for part in parts):
        raise InputError(
            f"{warehouse.path}: nobody to recalibrate on: no eligible row among {len(subjects):,} subjects.",
            wanted="subjects that the bundle would score at a prediction time of its outcomes.yaml",
            got="0 eligible rows",
            do="check the warehouse with `riskpred check`",
        )
    first = parts[0]
    return SiteRates(
        np.concatenate([part.subject_id for part in parts]),
        np.concatenate([part.prediction_time for part in parts]),
        np.concatenate([part.together for part in parts]),
        [torch.cat([part.rates[g] for part in parts], dim=1) for g in range(len(first.rates))],
        {name: np.concatenate([part.cause[name] for part in parts]) for name in first.cause},
        {name: np.concatenate([part.duration_days[name] for part in parts]) for name in first.duration_days},
    )


def calibrated_log_rates(model: RiskModel, batch: FeatureBatch) -> list[Tensor]:
    """Log-rate per year of each group by each member, through the model's own calibration. Shape: (R, B, J, K)."""
    inputs = model.tensors(batch)
    parts: list[list[Tensor]] = [
        [torch.zeros(model.members, 0, len(group.causes), group.intervals, dtype=torch.float64)]
        for group in model.layout.groups
    ]
    with torch.no_grad():
        for rows in torch.split(torch.arange(len(batch)), _ROWS_AT_ONCE):
            some = {name: given.take(rows) for name, given in inputs.items()}
            sent, present = model.encode(some), {name: given.present for name, given in some.items()}
            pattern = pattern_index(present, model.modalities)
            of_member = []
            for r in range(model.members):
                one = {name: SentOne(part.coefficients[r], part.embedding[r]) for name, part in sent.items()}
                of_member.append(model.member(r).log_rates(one, present))
            for g, calibration in enumerate(model.calibrations):
                parts[g].append(torch.stack([calibration(rates[g], pattern) for rates in of_member]))
    return [torch.cat(part, dim=1) for part in parts]


def risks_of(layout: Layout, rates: Sequence[Tensor]) -> NDArray[np.float64]:
    """Calibrated log-rates to risks of the targets. Shape: per group (R, N, J, K) -> (R, N, Q)."""
    incidence = [group_risks(rate, group) for group, rate in zip(layout.groups, rates, strict=True)]
    risks: NDArray[np.float64] = torch.stack([incidence[g][..., j, k] for g, j, k in layout.where], dim=-1).numpy()
    return risks
