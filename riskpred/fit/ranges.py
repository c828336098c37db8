"""Learns between which values each code's measurements lay, of everyone and of each reference group."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from riskpred.features.batch import FeatureBatch, SeriesInput, TabularInput
from riskpred.features.plan import FeaturePlan, SeriesPlan, TabularPlan
from riskpred.model.drift_reference import last_values
from riskpred.model.ranges import QUANTILES, Range, Ranges, measured_channels, measured_columns
from riskpred.records.reference_group import EVERYONE, GROUPS, belongs

FEWEST_ROWS: Final = 50
"""Training rows with a value from which a group has a range of its own."""


def learn_ranges(plan: FeaturePlan, batch: FeatureBatch, fewest: int = FEWEST_ROWS) -> Ranges:
    """Quantiles of each code's measurements over the training rows; everyone's from one row on, a group's from 50."""
    members = {EVERYONE: np.ones(len(batch), dtype=np.bool_)}
    if batch.group is not None:
        members |= {GROUPS[place]: belongs(batch.group, place) for place in np.unique(batch.group).tolist()}
    values = _measurements(plan, batch)
    found: dict[str, dict[str, Range]] = {}
    for group, inside in members.items():
        least = 1 if group == EVERYONE else fewest
        known = {code: each[inside & ~np.isnan(each)] for code, each in values.items()}
        found[group] = {code: _range(each) for code, each in known.items() if len(each) >= least}
    return Ranges({group: codes for group, codes in found.items() if codes})


def _measurements(plan: FeaturePlan, batch: FeatureBatch) -> dict[str, NDArray[np.float64]]:
    """Code -> each row's measurement, NaN = none; of the first modality that has it, tabular ones first."""
    found: dict[str, NDArray[np.float64]] = {}
    for name, part in plan.modalities.items():
        if isinstance(part, TabularPlan):
            table = batch.inputs[name]
            assert isinstance(table, TabularInput), name
            for code, column in measured_columns(part).items():
                found.setdefault(code, table.values[:, column].astype(np.float64))
    for name, part in plan.modalities.items():
        if isinstance(part, SeriesPlan):
            steps = batch.inputs[name]
            assert isinstance(steps, SeriesInput), name
            last = last_values(steps.start, steps.values).astype(np.float64)
            for code, channel in measured_channels(part).items():
                found.setdefault(code, last[:, channel])
    return found


def _range(values: NDArray[np.float64]) -> Range:
    return Range(*np.quantile(values, QUANTILES, method="inverted_cdf").tolist())
