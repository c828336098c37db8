"""Age at prediction_time: from the first dated birth known by then, whatever the study's features are."""

from collections.abc import Callable

import numpy as np
import pytest

from riskpred.config.outcomes import Outcome, OutcomesConfig, PredictionTimes, Rule
from riskpred.records.chunk import SubjectChunk
from riskpred.records.cohort import ages_years, cohort

TABLE = """
    1 | 1960-01-01       | MEDS_BIRTH
    1 | 2019-06-01       | VISIT
    2 | -                | MEDS_BIRTH
    2 | 2019-06-01       | VISIT
    3 | 2019-06-01       | VISIT
    4 | 2020-01-01       | MEDS_BIRTH
    5 | 2020-01-01 00:01 | MEDS_BIRTH
    6 | 1950-01-01       | MEDS_BIRTH
    6 | 1990-01-01       | MEDS_BIRTH
"""


def test_ages(records: Callable[[str], SubjectChunk], moment: Callable[[str], int]) -> None:
    outcomes = OutcomesConfig(
        prediction_times=PredictionTimes(days_after_entry=(0,)),
        horizons_years=(1.0,),
        outcomes={"x": Outcome(display="x", rule=Rule(codes=("X",)))},
    )
    chunk, now = records(TABLE), moment("2020-01-01")
    ages = ages_years(chunk, cohort(chunk, outcomes, now, as_of=now))
    assert ages[0] == pytest.approx(60.0, abs=0.01)
    assert np.isnan(ages[[1, 2]]).all(), "an undated birth, none"
    assert ages[3] == 0.0, "born at the moment itself"
    assert np.isnan(ages[4]), "a birth still to come is not known yet"
    assert ages[5] == pytest.approx(70.0, abs=0.01), "the first of two"


def test_without_any_birth_in_the_warehouse_no_age_is_known(
    records: Callable[[str], SubjectChunk], moment: Callable[[str], int]
) -> None:
    chunk, now = records("1 | 2019-06-01 | VISIT"), moment("2020-01-01")
    outcomes = OutcomesConfig(
        prediction_times=PredictionTimes(days_after_entry=(0,)),
        horizons_years=(1.0,),
        outcomes={"x": Outcome(display="x", rule=Rule(codes=("X",)))},
    )
    assert np.isnan(ages_years(chunk, cohort(chunk, outcomes, now, as_of=now))).all()
