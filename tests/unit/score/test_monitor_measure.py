"""Observed against predicted where people leave early: Aalen-Johansen, not the plain share; a blanking window kept."""

from typing import Any

import numpy as np
import pytest

from riskpred.config.model import parse
from riskpred.config.outcomes import OutcomesConfig
from riskpred.evaluate.censoring import aalen_johansen
from riskpred.records.chunk import DAY_US
from riskpred.score.monitor import Followed, mature_up_to
from riskpred.score.monitor_measure import judge

YEAR = 365.25


def followed(blanking_days: int = 0, factor: float = 1.0, size: int = 3000) -> Followed:
    """People with a true one-year risk of about 1 in 5, of whom many leave, the ill sooner than others die."""
    draw = np.random.default_rng(1)
    score = draw.normal(0.0, 0.7, size)
    own, death = 0.25 * np.exp(score), np.full(size, 0.1)
    event = draw.exponential(1.0, size) / (own + death)
    cause = np.where(draw.random(size) < own / (own + death), 1, 2)
    leave = draw.exponential(1.5, size)
    risk = own / (own + death) * -np.expm1(-(own + death))
    rule = {"display": "Heart", "rule": {"codes": ["I21"]}}
    outcomes: dict[str, Any] = {
        "entry_codes": ["ENTRY"],
        "prediction_times": {"days_after_entry": [0]},
        "horizons_years": [1.0],
        "blanking_days": blanking_days,
        "outcomes": {"heart": rule},
    }
    return Followed(
        bundle_name="made up",
        bundle_version="1",
        bundle_sha256="0",
        runs=1,
        outcomes=parse(OutcomesConfig, outcomes, "outcomes"),
        targets=(("heart", 1.0),),
        subject_id=np.arange(size) // 2,
        prediction_time=np.arange(size) % 2,
        risk=1.0 - (1.0 - risk[:, None]) ** factor,
        seen=np.zeros(size, np.bool_),
        time_days={"heart": np.minimum(event, leave) * YEAR},
        status={"heart": np.where(event <= leave, cause, 0).astype(np.int8)},
        immature=(),
    )


def test_those_who_left_are_weighted_for() -> None:
    given = followed()
    (row,) = judge(given, resamples=60)
    time, status = given.time_days["heart"], given.status["heart"]
    observed = row["measures"]["observed"]
    assert observed["value"] == pytest.approx(aalen_johansen(time, status, np.array([YEAR]))[0])
    share = float(np.mean((status == 1) & (time <= YEAR)))
    assert share < 0.85 * float(observed["value"] or 0), "the plain share would be far too low"
    ratio = row["measures"]["ratio"]
    assert ratio["low"] < 1 < ratio["high"], "the risks are true (88 of 100 seeds; of a 90 % interval 90 are expected)"  # type: ignore[operator]
    assert row["subjects"] == row["n"] / 2


def test_risks_twice_too_high_are_seen() -> None:
    (row,) = judge(followed(factor=2.0), resamples=60)
    assert row["measures"]["ratio"]["high"] < 0.75  # type: ignore[operator]
    assert row["measures"]["citl"]["high"] < 0  # type: ignore[operator]


def test_whom_the_window_leaves_out_is_not_judged() -> None:
    given = followed(blanking_days=90)
    (row,) = judge(given, resamples=10)
    assert row["n"] == int((given.time_days["heart"] > 90).sum()) < len(given.subject_id)


@pytest.mark.parametrize("years", [1.0, 0.0])
def test_a_horizon_is_mature_when_the_data_reach_its_end(years: float) -> None:
    until = 1000 * DAY_US - 1
    last = mature_up_to(until, years)
    assert last == (until - round(YEAR * DAY_US) if years else until)
    if not years:
        assert mature_up_to(until - 1, 0) == 999 * DAY_US - 1, "the day of the prediction must be in the data whole"
