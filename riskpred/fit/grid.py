"""Time grids: event-quantile intervals with every horizon among the cuts, learned on training rows."""

import numpy as np
from numpy.typing import NDArray

from riskpred.config.outcomes import OutcomesConfig, RiskGroup
from riskpred.fit.data import Rows
from riskpred.model.layout import DAYS_PER_YEAR, GroupGrid, Layout

_EVENTS_PER_INTERVAL = 10
"""Fewer intervals than `intervals` where outcome events are few: at least so many per interval on average."""
_CLOSEST = 0.02
"""A quantile closer to another cut than this share of the last horizon is dropped: no slivers without exposure."""
_MOST_BEYOND, _EVENTS_BEYOND = 6, 20
"""Intervals beyond the last horizon, and the fewest events of each on average: with less, later events are not used."""


def learn_layout(outcomes: OutcomesConfig, rows: Rows, intervals: int) -> Layout:
    """Grids of all risk groups from training rows; `intervals` is K at most (and one per horizon at least)."""
    groups = tuple(
        learn_grid(group, rows.duration_days[group.name], rows.cause[group.name], intervals)
        for group in outcomes.groups
    )
    return Layout(groups, tuple(outcomes.outcomes))


def learn_grid(
    group: RiskGroup, duration_days: NDArray[np.float64], cause: NDArray[np.int8], intervals: int
) -> GroupGrid:
    """Cuts of one group: its horizons, and quantiles of its outcome events (not deaths) before and after the last one.

    Shape: duration_days, cause (N,), as in CohortRows.
    """
    if group.known_at_once:
        return GroupGrid(
            group.name, group.outcomes, group.causes, True, group.horizons_years, (0.0, 1.0), group.ordered
        )
    last = group.horizons_years[-1]
    is_outcome = (cause >= 1) & (cause <= len(group.outcomes))
    years = duration_days[is_outcome] / DAYS_PER_YEAR
    later, years = years[years > last], years[(years > 0) & (years < last)]
    wanted = min(intervals, max(1, len(years) // _EVENTS_PER_INTERVAL))
    cuts = [0.0, *group.horizons_years]
    if wanted > 1 and len(years):
        for cut in np.quantile(years, np.arange(1, wanted) / wanted, method="inverted_cdf").tolist():
            if len(cuts) - 1 < intervals and min(abs(cut - other) for other in cuts) >= _CLOSEST * last:
                cuts.append(cut)
    beyond = min(_MOST_BEYOND, len(later) // _EVENTS_BEYOND)
    if beyond:
        ends = np.unique(np.quantile(later, np.arange(1, beyond + 1) / beyond, method="inverted_cdf"))
        cuts += [end for end in ends.tolist() if end >= last * (1.0 + _CLOSEST)]
    return GroupGrid(
        group.name, group.outcomes, group.causes, False, group.horizons_years, tuple(sorted(float(c) for c in cuts))
    )
