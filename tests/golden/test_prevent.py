"""PREVENT base equations against the published package's expected outputs (real data: risk_fixtures)."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from riskpred.guideline.prevent import PreventInputs, PreventOutcome, prevent_10_year_risk

WOMAN = PreventInputs("female", 50, 200, 45, 160, 35, 90, True, False, True, False)

# preventr 0.12.0, tests/testthat/test-estimate_risk.R: the paper's worked example, rounded to 3 decimals there.
EXAMPLES = [
    (WOMAN, {"total_cvd": 0.147, "ascvd": 0.092, "heart_failure": 0.081}),
    (replace(WOMAN, sex="male"), {"total_cvd": 0.163, "ascvd": 0.102, "heart_failure": 0.106}),
]


@pytest.mark.parametrize(("person", "expected"), EXAMPLES)
def test_published_examples(person: PreventInputs, expected: dict[PreventOutcome, float]) -> None:
    for outcome, risk in expected.items():
        assert round(prevent_10_year_risk(person, outcome), 3) == risk


@pytest.mark.real_data
def test_every_base_fixture(real_data: Callable[[str], Path]) -> None:
    cases = json.loads((real_data("risk_fixtures") / "prevent_fixtures.json").read_text())["cases"]
    base = [case for case in cases if case["model"] == "base"]
    assert len(base) == 2
    for case in base:
        given = case["inputs"]
        person = PreventInputs(
            given["sex"], given["age"], given["total_c"], given["hdl_c"], given["sbp"], given["bmi"], given["egfr"],
            given["dm"], given["smoking"], given["bp_tx"], given["statin"],
        )  # fmt: skip
        for outcome in ("total_cvd", "ascvd", "heart_failure"):
            assert round(prevent_10_year_risk(person, outcome), 3) == case["expected"]["10yr"][outcome]


def test_outside_the_range_or_missing_says_which() -> None:
    assert WOMAN.problems() == ()
    with pytest.raises(ValueError, match="age_years outside 30 to 79; egfr_ml_min outside"):
        prevent_10_year_risk(replace(WOMAN, age_years=85, egfr_ml_min=math.nan))
