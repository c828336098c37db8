"""What must hold for metrics on any follow-up: identities of the weights, and a slow definition of concordance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskpred.evaluate.censoring import Undefined, aalen_johansen, at_horizon, observation
from riskpred.evaluate.discrimination import auc, harrell_c, uno_c
from riskpred.evaluate.timeline import Timeline, weights


@st.composite
def follow_up(draw):
    size = draw(st.integers(5, 60))
    seed = draw(st.integers(0, 10**6))
    generator = np.random.default_rng(seed)
    time = generator.integers(0, draw(st.integers(3, 40)), size).astype(np.float64)  # many ties
    status = generator.choice(np.array([0, 1, 2], dtype=np.int8), size)
    risk = np.round(generator.random(size), draw(st.integers(1, 6)))
    count = generator.integers(0, 3, size).astype(np.float64)
    return time, status, risk, count


def slow_c(risk, time, status, horizon, seen, count):
    """The definition in discrimination.py's docstring, pair by pair."""
    concordant = pairs = 0.0
    for i in range(len(risk)):
        if status[i] != 1 or time[i] > horizon or count[i] == 0:
            continue
        for j in range(len(risk)):
            if count[j] == 0:
                continue
            if time[j] > time[i] or (time[j] == time[i] and status[j] == 0):
                weight = 1 / seen[i] ** 2
            elif status[j] == 2 and time[j] <= time[i]:
                weight = 1 / (seen[i] * seen[j])
            else:
                continue
            weight *= count[i] * count[j]
            pairs += weight
            concordant += weight * ((risk[i] > risk[j]) + 0.5 * (risk[i] == risk[j]))
    return concordant / pairs if pairs else None


@settings(max_examples=60, deadline=None)
@given(follow_up(), st.integers(1, 40))
def test_the_fast_concordance_is_the_slow_one(people, horizon):
    time, status, risk, count = people
    seen = observation(time, status, count).before(time)
    for function, weight in ((uno_c, seen), (harrell_c, np.ones(len(risk)))):
        wanted = slow_c(risk, time, status, horizon, weight, count)
        if wanted is None:
            with pytest.raises(Undefined):
                function(risk, time, status, float(horizon), count)
        else:
            assert function(risk, time, status, float(horizon), count) == pytest.approx(wanted, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(follow_up(), st.integers(1, 40))
def test_weights_stand_for_everyone_and_their_mean_outcome_is_aalen_johansen(people, horizon):
    time, status, _, count = people
    if count.sum() == 0:
        return
    try:
        outcome, weight = at_horizon(time, status, float(horizon), count)
    except Undefined:
        return
    known = (status != 0) & (time <= horizon) | (time >= horizon)
    if weight.sum() == 0 or not np.any(known & (time >= min(horizon, time[count > 0].max())) & (count > 0)):
        return  # the last people all left before the horizon: G ends above 0 but nobody carries the rest
    assert weight.sum() == pytest.approx(count.sum())
    wanted = aalen_johansen(time, status, np.array([float(horizon)]), count)[0]
    assert np.sum(weight * outcome) / count.sum() == pytest.approx(wanted, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(follow_up())
def test_a_row_counted_twice_is_two_rows(people):
    time, status, risk, count = people
    twice = np.repeat(np.arange(len(risk)), count.astype(int))
    try:
        wanted = uno_c(risk[twice], time[twice], status[twice], 20.0)
    except (Undefined, ValueError):
        return
    assert uno_c(risk, time, status, 20.0, count) == pytest.approx(wanted, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(follow_up())
def test_ranking_metrics_only_see_the_order(people):
    time, status, risk, _ = people
    try:
        assert uno_c(risk, time, status, 20.0) == uno_c(np.exp(3 * risk), time, status, 20.0)
        outcome = (status == 1).astype(np.float64)
        assert auc(risk, outcome, np.ones(len(risk))) == auc(np.exp(3 * risk), outcome, np.ones(len(risk)))
    except Undefined:
        return


@settings(max_examples=60, deadline=None)
@given(follow_up(), st.integers(1, 40))
def test_what_is_sorted_once_gives_the_same_weights_on_every_resample(people, horizon):
    time, status, _, count = people
    timeline = Timeline.of(time, status)
    assert timeline.staying(count) == pytest.approx(observation(time, status, count).level, abs=1e-12)
    at = timeline.at(float(horizon))
    try:
        outcome, weight = at_horizon(time, status, float(horizon), count)
    except Undefined:
        with pytest.raises(Undefined):
            weights(at, timeline.staying(count), count)
        return
    assert np.array_equal(at.outcome, outcome)
    assert weights(at, timeline.staying(count), count) == pytest.approx(weight, abs=1e-9)
