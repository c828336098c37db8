"""Net benefit by definition, in the table, and with people who leave."""

import numpy as np
import pytest

from riskpred.evaluate.censoring import aalen_johansen, at_horizon
from riskpred.evaluate.decision import THRESHOLDS, TREAT_ALL, TREAT_NONE, decisions, net_benefit, thresholds_within
from riskpred.evaluate.measure import People
from riskpred.evaluate.metrics import metrics


@pytest.fixture(scope="module")
def people():
    generator = np.random.default_rng(6)
    size = 4_000
    rate = np.exp(generator.normal(-3.0, 1.0, size))
    event, death = generator.exponential(1 / rate), generator.exponential(30.0, size)
    leave = generator.exponential(15.0, size)
    first = np.minimum(event, death)
    status = np.where(leave < first, 0, np.where(event < death, 1, 2)).astype(np.int8)
    risk = rate / (rate + 1 / 30) * -np.expm1(-5 * (rate + 1 / 30))
    time = np.minimum(leave, first) * 365.25
    return People((5.0,), False, np.arange(size), time, status), risk


def test_it_is_the_definition_threshold_by_threshold(people):
    who, risk = people
    outcome, weight = at_horizon(who.time_days, who.status, 5 * 365.25)
    given = np.array([0.5, 0.02, 0.1])  # in any order
    wanted = []
    for p in given:
        act = risk >= p
        true, false = np.sum(weight[act] * outcome[act]), np.sum(weight[act] * (1 - outcome[act]))
        wanted.append((true - false * p / (1 - p)) / weight.sum())
    assert net_benefit(risk, outcome, weight, given) == pytest.approx(wanted, abs=1e-12)


def test_treating_everyone_is_worth_the_incidence_less_the_rest_at_the_exchange_rate(people):
    who, risk = people
    found = decisions(who, {"m": risk[None, :, None]}, 0, [0.1, 0.3], 20, 1)
    incidence = aalen_johansen(who.time_days, who.status, np.array([5 * 365.25]))[0]
    wanted = [incidence - (1 - incidence) * p / (1 - p) for p in (0.1, 0.3)]
    assert [one.value for one in found[TREAT_ALL]] == pytest.approx(wanted, abs=1e-12)
    assert [(one.value, one.low, one.high) for one in found[TREAT_NONE]] == [(0.0, 0.0, 0.0)] * 2
    # Exact risks are never worse than either policy without them, but by chance.
    for one, all_, none in zip(*(found[name] for name in ("m", TREAT_ALL, TREAT_NONE)), strict=True):
        assert one.low < one.value < one.high
        assert one.value > max(all_.value, none.value) - 0.002


def test_the_table_has_a_row_per_threshold_within_the_risks(made_up):
    evaluated = made_up(600)
    rows = [row for row in metrics(evaluated, resamples=40) if row["metric"] == "net_benefit"]
    at = [row for row in rows if row["outcome"] == "heart" and row["horizon_years"] == 5.0]
    assert {row["model"] for row in at} == {"riskpred", "spline_cox", TREAT_ALL, TREAT_NONE}
    assert {row["subgroup"] for row in at} == {None}
    own = [row["threshold"] for row in at if row["model"] == "riskpred"]
    assert own == list(thresholds_within(evaluated.risks["riskpred"][0, :, 1]))
    assert set(own) < set(THRESHOLDS)
    assert all(row["low"] <= row["value"] <= row["high"] for row in at)


def test_no_threshold_is_asked_where_no_risk_lies():
    assert thresholds_within(np.array([0.021, 0.049])) == (0.03,)
    assert thresholds_within(np.array([0.001, 0.02])) == (0.005, 0.01, 0.02)
    assert thresholds_within(np.array([0.001, 0.002])) == ()


def test_what_it_does_not_accept():
    ones = np.ones(3)
    with pytest.raises(ValueError, match="threshold"):
        net_benefit(ones / 2, ones, ones, np.array([1.0]))
    with pytest.raises(ValueError, match="between 0 and 1"):
        net_benefit(ones * 2, ones, ones, np.array([0.5]))
    with pytest.raises(ValueError, match="one length"):
        net_benefit(ones, ones[:2], ones, np.array([0.5]))
