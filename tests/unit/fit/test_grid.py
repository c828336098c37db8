import numpy as np
import pytest

from riskpred.config.outcomes import OutcomesConfig, RiskGroup
from riskpred.fit.grid import learn_grid
from riskpred.model.layout import DAYS_PER_YEAR, GroupGrid, Layout

GROUP = RiskGroup("heart", ("heart",), False, (1.0, 3.0, 5.0))


def test_cuts_are_event_quantiles_with_every_horizon_among_them() -> None:
    days = np.linspace(0.01, 4.99, 400) * DAYS_PER_YEAR
    grid = learn_grid(GROUP, days, np.ones(400, np.int8), intervals=10)
    assert grid.cuts_years[0] == 0
    assert grid.cuts_years[-1] == 5
    assert {1.0, 3.0} <= set(grid.cuts_years)
    assert 8 <= grid.intervals <= 10
    assert min(np.diff(grid.cuts_years)) >= 0.1
    assert [grid.cuts_years[end + 1] for end in grid.end_of] == [1.0, 3.0, 5.0]


def test_deaths_place_no_cut_and_late_events_one_beyond_the_horizons() -> None:
    days = np.concatenate([np.full(500, 0.5), np.full(500, 9.0)]) * DAYS_PER_YEAR
    cause = np.concatenate([np.full(500, 2), np.full(500, 1)]).astype(np.int8)
    # One interval beyond the last horizon holds the late events: it only trains.
    grid = learn_grid(GROUP, days, cause, intervals=10)
    assert grid.cuts_years == (0.0, 1.0, 3.0, 5.0, 9.0)
    assert grid.end_of == (0, 1, 2)


def test_few_events_make_few_intervals() -> None:
    days = np.linspace(0.1, 4.9, 12) * DAYS_PER_YEAR
    assert learn_grid(GROUP, days, np.ones(12, np.int8), intervals=20).cuts_years == (0.0, 1.0, 3.0, 5.0)


def test_known_at_once_is_one_interval() -> None:
    group = RiskGroup("now", ("now",), True, (0.0,))
    grid = learn_grid(group, np.zeros(5), np.array([0, 1, 0, 1, 0], np.int8), intervals=20)
    assert (grid.intervals, grid.end_of, grid.causes) == (1, (0,), ("now",))
    assert grid.time_basis[:, 0].tolist() == [1, 0, 0]


def test_exposure_is_the_share_of_each_interval_lived_through() -> None:
    grid = GroupGrid("x", ("x",), ("x", "death"), False, (4.0,), (0.0, 1.0, 2.0, 4.0))
    got = grid.exposure(np.array([0.0, 1.5, 3.0, 9.0]) * DAYS_PER_YEAR)
    assert got.tolist() == [[0, 0, 0], [1, 0.5, 0], [1, 1, 0.5], [1, 1, 1]]


def test_a_layout_survives_json(outcomes: OutcomesConfig) -> None:
    grids = tuple(learn_grid(g, np.zeros(0), np.zeros(0, np.int8), 5) for g in outcomes.groups)
    layout = Layout(grids, tuple(outcomes.outcomes))
    assert Layout.from_json(layout.to_json()) == layout
    assert layout.targets == (("heart", 1.0), ("heart", 3.0), ("now", 0.0), ("cancer", 1.0), ("cancer", 3.0))
    assert layout.where == ((0, 0, 0), (0, 0, 1), (1, 0, 0), (0, 1, 0), (0, 1, 1))
    assert layout.coefficients == pytest.approx(3 * 4)
