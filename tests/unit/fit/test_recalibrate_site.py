"""Recalibration finds a planted line, keeps what few events cannot tell, and changes nothing but the maps."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from riskpred.fit.recalibrate_site import _through, composed, fit_site, moved
from riskpred.fit.site_rates import SiteRates, calibrated_log_rates, risks_of
from riskpred.model.layout import DAYS_PER_YEAR, GroupGrid, Layout
from riskpred.model.threads import one_thread

GRID = GroupGrid("x", ("x",), ("x", "death"), False, (1.0, 4.0), (0.0, 0.5, 1.0, 2.0, 4.0))
NOW = GroupGrid("now", ("now",), ("now",), True, (0.0,), (0.0, 1.0))
LAYOUT = Layout((GRID, NOW), ("x", "now"))


def site(n: int, factor: float = 1.0, slope: float = 1.0, seed: int = 0) -> SiteRates:
    """What three members of a model say of n people whose true log-rates of x and now are log(factor) + slope eta."""
    rng = np.random.default_rng(seed)
    eta = np.stack([-2.5 + 0.8 * rng.normal(size=n), -2.5 + 0.5 * rng.normal(size=n)], axis=1)
    at_once = -1.5 + 0.8 * rng.normal(size=n)
    true = eta.copy()
    true[:, 0] = np.log(factor) + slope * eta[:, 0]
    times = rng.exponential(size=(n, 2)) / np.exp(true)
    left = rng.uniform(1, 6, n)
    cause = np.where(times.min(axis=1) < left, times.argmin(axis=1) + 1, 0).astype(np.int8)
    yes = rng.random(n) < -np.expm1(-np.exp(np.log(factor) + slope * at_once))
    noise = 0.05 * rng.normal(size=(3, n))
    rates = [
        torch.from_numpy(np.repeat((eta + noise[:, :, None])[..., None], 4, axis=3)),
        torch.from_numpy((at_once + noise)[:, :, None, None]),
    ]
    return SiteRates(
        subject_id=np.arange(n),
        prediction_time=np.zeros(n, np.int64),
        together=np.arange(n),
        rates=rates,
        cause={"x": cause, "now": yes.astype(np.int8)},
        duration_days={"x": np.minimum(times.min(axis=1), left) * DAYS_PER_YEAR, "now": np.zeros(n)},
    )


def fitted(found: SiteRates):
    with one_thread():
        lines, changes = fit_site(LAYOUT, found.rates, found.labels(LAYOUT))
    return lines, {(change.group, change.cause): change for change in changes}


@pytest.mark.parametrize(("factor", "slope"), [(1 / 3, 1.0), (2.0, 1.0), (1.0, 0.6), (0.5, 1.4)])
def test_a_site_whose_events_are_thinned_doubled_or_spread_otherwise_is_recovered(factor: float, slope: float) -> None:
    _, changes = fitted(site(8_000, factor, slope))
    for key in (("x", "x"), ("now", "now")):
        change = changes[key]
        # At the mean log-rate, where the data are: the line's two numbers lean against each other.
        middle = -2.5 if key == ("x", "x") else -1.5
        assert change.intercept + change.slope * middle == pytest.approx(np.log(factor) + slope * middle, abs=0.12)
        assert change.slope == pytest.approx(slope, abs=0.13)
        assert change.weight == 1.0
        assert change.reason is None
    death = changes["x", "death"]
    assert death.intercept + death.slope * -2.5 == pytest.approx(-2.5, abs=0.1)


def test_the_expected_number_of_events_is_that_observed() -> None:
    found = site(6_000, factor=1 / 3)
    lines, _ = fitted(found)
    before, after = (risks_of(LAYOUT, rates).mean(axis=0) for rates in (found.rates, _through(lines, found.rates)))
    now = found.cause["now"].mean()
    assert after[:, 2].mean() == pytest.approx(now, rel=0.03)
    assert before[:, 2].mean() > 1.8 * now
    assert after[:, 1].mean() < 0.5 * before[:, 1].mean()


def test_fewer_than_20_events_keep_the_map_and_say_so() -> None:
    found = site(150, factor=0.3, seed=3)
    lines, changes = fitted(found)
    x, death = (int(count) for count in found.labels(LAYOUT)[0].event.sum(dim=0))
    assert x < 20 <= death
    kept, moved_ = changes["x", "x"], changes["x", "death"]
    assert (kept.intercept, kept.slope, kept.weight) == (0.0, 1.0, 0.0)
    assert "20 needed: its map is kept" in kept.sentence
    assert moved_.weight == pytest.approx(death / 100)
    assert torch.equal(lines[0](found.rates[0])[:, :, 0], found.rates[0][:, :, 0])


def test_a_count_below_ten_is_not_told() -> None:
    found = site(60, factor=0.1, seed=1)
    _, changes = fitted(found)
    assert 0 < int((found.cause["x"] == 1).sum()) < 10
    assert changes["x", "x"].events is None
    assert changes["x", "x"].sentence.startswith("x: fewer than 10 events")


def test_few_events_move_the_map_in_proportion() -> None:
    many, few = site(8_000, factor=1 / 3), site(800, factor=1 / 3)
    half = few.take(np.arange(800)[np.cumsum(few.labels(LAYOUT)[0].event[:, 0].numpy()) <= 30])
    whole, part = fitted(many)[1]["x", "x"], fitted(half)[1]["x", "x"]
    assert part.weight == pytest.approx(0.3)
    assert whole.intercept + -2.5 * whole.slope < part.intercept + -2.5 * part.slope < -2.5


@pytest.fixture
def calibrated(random_bundle, small_batch):
    """A model with a map of its own for every pattern, and its batch."""
    import copy

    model = copy.deepcopy(random_bundle(1).model)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for calibration in model.calibrations:
            for buffer in (calibration.intercept, calibration.log_slope, calibration.bend, calibration.knot):
                buffer.copy_(0.3 * torch.randn(buffer.shape, generator=random, dtype=torch.float64))
    return model, small_batch[1]


def test_log_rates_at_a_site_are_those_of_the_risks(calibrated) -> None:
    model, batch = calibrated
    risk = risks_of(model.layout, calibrated_log_rates(model, batch))
    assert np.allclose(risk, model.predict(batch).member, atol=1e-12)


def test_composed_maps_do_what_the_line_does_on_top_of_the_old_map(calibrated) -> None:
    model, batch = calibrated
    rates = calibrated_log_rates(model, batch)
    line = fitted(site(2_000, 0.4, 0.8))[0][0]
    causes = [len(group.causes) for group in model.layout.groups]
    lines = [
        replace(
            line,
            **{part: getattr(line, part)[:1].expand(j, -1) for part in ("intercept", "slope")},
            **{part: getattr(line, part)[:1].expand(j) for part in ("bend", "knot", "width")},
            basis=group.time_basis,
        )
        for j, group in zip(causes, model.layout.groups, strict=True)
    ]
    new = composed(model, lines)
    assert np.allclose(new.predict(batch).member, risks_of(model.layout, _through(lines, rates)), atol=1e-12)
    old_state, new_state = model.state_dict(), new.state_dict()
    changed = {name for name in old_state if not torch.equal(old_state[name], new_state[name])}
    assert changed
    assert {name.split(".")[0] for name in changed} == {"calibrations"}


def test_risks_kept_without_their_rates_move_as_the_line_moves_them() -> None:
    found = site(4_000, 0.4, 0.8)
    lines, _ = fitted(found)
    before = risks_of(LAYOUT, found.rates).mean(axis=0)
    after = risks_of(LAYOUT, _through(lines, found.rates)).mean(axis=0)
    got = moved(before[:500], before[500:], after[500:], LAYOUT)
    assert np.abs(got - after[:500]).mean(axis=0).max() < 0.005
    for q in range(3):  # what they are kept for: the percentile of a risk
        shares = [np.searchsorted(np.sort(one[:, q]), after[500:, q]) / 500 for one in (got, after[:500])]
        assert np.abs(shares[0] - shares[1]).max() <= 0.02
    assert (np.diff(got[:, :2], axis=1) >= 0).all()
