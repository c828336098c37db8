"""Risk groups on their time grids: which causes, which intervals, which targets; the shape of everything above sent."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

DAYS_PER_YEAR: Final = 365.25

BASES: Final = 3
"""Points of time at which an encoder speaks of a cause; between them its log-rate is interpolated."""

Target: TypeAlias = tuple[str, float]
"""(outcome, horizon_years)."""


@dataclass(frozen=True)
class GroupGrid:
    """One risk group: its causes share a hazard sum over K intervals.

    cuts_years: K + 1 rising cuts from 0; every horizon is one of them. Intervals beyond the last horizon only train:
        what happens later tells who is at risk, too. Known at once: (0, 1), horizon 0.
    ordered: outcomes are grades, lowest first, and the rate of one is that of going on to it from the one before.
    """

    name: str
    outcomes: tuple[str, ...]
    causes: tuple[str, ...]
    known_at_once: bool
    horizons_years: tuple[float, ...]
    cuts_years: tuple[float, ...]
    ordered: bool = False

    @property
    def classes(self) -> bool:
        """Exclusive classes known at once: their rates share one sum."""
        return self.known_at_once and not self.ordered and len(self.causes) > 1

    def happened(self, cause: NDArray[np.int8], outcome: str) -> NDArray[np.bool_]:
        """Whether an outcome came true: a grade also does where a higher one was reached. Shape: (N,)."""
        number = self.causes.index(outcome) + 1
        return cause >= number if self.ordered else cause == number

    @property
    def intervals(self) -> int:
        return len(self.cuts_years) - 1

    @property
    def widths_years(self) -> NDArray[np.float64]:
        """Length of each interval, in years. Shape: (K,)."""
        return np.diff(np.asarray(self.cuts_years, np.float64))

    @property
    def end_of(self) -> tuple[int, ...]:
        """For each horizon, the interval that ends there."""
        return tuple(0 if self.known_at_once else self.cuts_years.index(h) - 1 for h in self.horizons_years)

    @cached_property
    def time_basis(self) -> Tensor:
        """Weight of each point of time in each interval; they add up to 1. Shape: (3, K) float64.

        The points lie at 1/6, 1/2 and 5/6 of the intervals up to the last horizon, which hold about equal numbers of
        events: there the data can tell one time from another. Linear between them and constant beyond. Known at once
        there is the first only.
        """
        if self.known_at_once:
            return torch.tensor([[1.0], [0.0], [0.0]], dtype=torch.float64)
        points = (np.arange(BASES) + 0.5) / BASES
        middle = (np.arange(self.intervals) + 0.5) / (self.end_of[-1] + 1)
        return torch.from_numpy(np.stack([np.interp(middle, points, one) for one in np.eye(BASES)]))

    @cached_property
    def stratum(self) -> NDArray[np.int64]:
        """The point of time that counts most in each interval. Shape: (K,)."""
        result: NDArray[np.int64] = self.time_basis.numpy().argmax(axis=0)
        return result

    def exposure(self, duration_days: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of each interval that lies before the end of follow-up. Shape: (N,) -> (N, K)."""
        cuts = np.asarray(self.cuts_years, np.float64)
        years = duration_days[:, None] / DAYS_PER_YEAR
        return np.clip((years - cuts[:-1]) / self.widths_years, 0.0, 1.0)


@dataclass(frozen=True)
class Layout:
    """All groups, and the targets in the order of outcomes.yaml x rising horizons."""

    groups: tuple[GroupGrid, ...]
    outcomes: tuple[str, ...]

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        return tuple((name, horizon) for name in self.outcomes for horizon in self.group_of(name).horizons_years)

    def group_of(self, outcome: str) -> GroupGrid:
        return next(group for group in self.groups if outcome in group.outcomes)

    @property
    def causes(self) -> int:
        """Causes over all groups."""
        return sum(len(group.causes) for group in self.groups)

    @property
    def coefficients(self) -> int:
        """G: numbers through which an encoder speaks, 3 per cause."""
        return BASES * self.causes

    def slices(self) -> list[slice]:
        """Each group's part of the G coefficients."""
        found, start = [], 0
        for group in self.groups:
            found.append(slice(start, start + BASES * len(group.causes)))
            start += BASES * len(group.causes)
        return found

    def cause_slices(self) -> list[slice]:
        """Each group's part of the causes over all groups."""
        found, start = [], 0
        for group in self.groups:
            found.append(slice(start, start + len(group.causes)))
            start += len(group.causes)
        return found

    @cached_property
    def where(self) -> tuple[tuple[int, int, int], ...]:
        """For each target: group, cause within it, interval that ends at the horizon."""
        found = []
        for name, horizon in self.targets:
            at, group = next((g, group) for g, group in enumerate(self.groups) if name in group.outcomes)
            found.append((at, group.causes.index(name), group.end_of[group.horizons_years.index(horizon)]))
        return tuple(found)

    @cached_property
    def ladders(self) -> tuple[tuple[int, ...], ...]:
        """Of each ordered set, the positions of its grades among the targets, lowest grade first."""
        return tuple(
            tuple(self.targets.index((name, group.horizons_years[0])) for name in group.outcomes)
            for group in self.groups
            if group.ordered
        )

    def to_json(self) -> dict[str, Any]:
        def entry(group: GroupGrid) -> dict[str, Any]:
            return {key: value for key, value in asdict(group).items() if key != "ordered" or value}

        return {"groups": [entry(group) for group in self.groups], "outcomes": list(self.outcomes)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Layout":
        def group(entry: dict[str, Any]) -> GroupGrid:
            return GroupGrid(
                name=entry["name"],
                outcomes=tuple(entry["outcomes"]),
                causes=tuple(entry["causes"]),
                known_at_once=entry["known_at_once"],
                horizons_years=tuple(entry["horizons_years"]),
                cuts_years=tuple(entry["cuts_years"]),
                ordered=bool(entry.get("ordered", False)),
            )

        return cls(tuple(group(entry) for entry in data["groups"]), tuple(data["outcomes"]))


def never_rising(values: NDArray[np.float64], ladders: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """Smallest value of the same or a lower grade, for the grades of ordered sets. Shape: (..., Q) -> (..., Q).

    Example:
        >>> never_rising(np.array([0.9, 0.2, 0.3]), [(1, 2)]).tolist()
        [0.9, 0.2, 0.2]
    """
    result = values.copy()
    for ladder in ladders:
        result[..., list(ladder)] = np.minimum.accumulate(result[..., list(ladder)], axis=-1)
    return result


def running_maximum(values: NDArray[np.float64], targets: Sequence[Target]) -> NDArray[np.float64]:
    """Largest value of the same outcome at this or an earlier horizon. Shape: (..., Q) -> (..., Q)."""
    result = values.copy()
    for q in range(1, len(targets)):
        if targets[q][0] == targets[q - 1][0]:
            result[..., q] = np.maximum(result[..., q], result[..., q - 1])
    return result
