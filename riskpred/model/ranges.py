"""Between which values a code's measurements lay in training: what a missing value might be, how far one may move."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from riskpred.features.plan import FeatureColumn, FeaturePlan, SeriesPlan, TabularPlan
from riskpred.records.reference_group import EVERYONE

QUANTILES: Final = (0.05, 0.10, 0.90, 0.95)

_BEST: Final = ("last", "mean", "max", "min")
"""Which column stands for a code's measurement, the best first."""


@dataclass(frozen=True)
class Range:
    """Quantiles of a code's measurements; each is a value that was observed."""

    p05: float
    p10: float
    p90: float
    p95: float


@dataclass(frozen=True)
class Ranges:
    """Group (see records.reference_group) -> code -> range. A group has only codes that enough of its rows have."""

    groups: Mapping[str, Mapping[str, Range]] = field(default_factory=dict)

    def of(self, group: str, code: str) -> Range | None:
        """The group's range, else everyone's, else None."""
        return self.groups.get(group, {}).get(code) or self.groups.get(EVERYONE, {}).get(code)

    def to_json(self) -> dict[str, Any]:
        return {
            group: {code: [one.p05, one.p10, one.p90, one.p95] for code, one in codes.items()}
            for group, codes in self.groups.items()
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Ranges":
        return cls({group: {code: Range(*four) for code, four in codes.items()} for group, codes in data.items()})


def measured_columns(plan: TabularPlan) -> dict[str, int]:
    """Code -> the column that stands for its measurement; codes of numbers alone, none that ends in *."""
    found: dict[str, int] = {}
    for place, column in enumerate(plan.columns):
        if not _measures(column):
            continue
        known = found.get(column.code)
        if known is None or _rank(column) < _rank(plan.columns[known]):
            found[column.code] = place
    return found


def measured_channels(plan: SeriesPlan) -> dict[str, int]:
    """Code -> its channel; none that ends in *."""
    return {channel.code: c for c, channel in enumerate(plan.channels) if not channel.code.endswith("*")}


def unit_of(plan: FeaturePlan, code: str) -> str | None:
    """Unit of the code's values, as trained on."""
    return dict(plan.units).get(code)


def _measures(column: FeatureColumn) -> bool:
    return column.aggregate in _BEST and not column.vocabulary and not column.code.endswith("*")


def _rank(column: FeatureColumn) -> tuple[int, int]:
    """By aggregate, then the longest window first."""
    days = column.window_days
    return _BEST.index(column.aggregate), -(10**9 if days is None else days)
