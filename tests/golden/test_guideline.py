"""Published risk equations against the expected outputs of public packages (real data: risk_fixtures)."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from riskpred.guideline.kidney import ckd_epi_2021
from riskpred.guideline.pooled_cohort import POOLED_COHORT
from riskpred.guideline.prevent import OUTCOMES, model_of, prevent
from riskpred.guideline.score2 import SCORE2, SCORE2_DIABETES, SCORE2_OP, score2_for

WOMAN = {
    "sex": "female", "age": 50, "total_cholesterol": 200 * 0.02586, "hdl": 45 * 0.02586, "sbp": 160, "bmi": 35,
    "egfr": 90, "diabetes": 1, "smoking": 0, "treated": 1, "statin": 0,
}  # fmt: skip

# preventr 0.12.0, tests/testthat/test-estimate_risk.R: the paper's worked example, rounded to 3 decimals there.
EXAMPLES = [
    (WOMAN, {"total_cvd": 0.147, "ascvd": 0.092, "heart_failure": 0.081, "chd": 0.044, "stroke": 0.054}),
    (WOMAN | {"sex": "male"}, {"total_cvd": 0.163, "ascvd": 0.102, "heart_failure": 0.106, "chd": 0.056}),
]

ZIP_14738 = 3.0
"""Decile of the social deprivation index of the fixtures' ZIP code, in preventr's table: the lowest third."""

NOT_TO_BE_HAD = {(model, outcome) for model in ("uacr", "sdi", "full") for outcome in ("chd", "stroke")}
"""Coefficients that prevent.yaml lacks."""


@pytest.mark.parametrize(("person", "expected"), EXAMPLES)
def test_published_examples(person: dict[str, Any], expected: dict[Any, float]) -> None:
    for outcome, risk in expected.items():
        assert round(prevent(outcome, 10).risk(person), 3) == risk


def cases(real_data: Callable[[str], Path], name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((real_data("risk_fixtures") / name).read_text())["cases"]
    return found


def prevent_person(given: dict[str, Any]) -> dict[str, float | str]:
    person = {
        "sex": given["sex"], "age": given["age"], "total_cholesterol": given["total_c"] * 0.02586,
        "hdl": given["hdl_c"] * 0.02586, "sbp": given["sbp"], "bmi": given["bmi"], "egfr": given["egfr"],
        "diabetes": float(given["dm"]), "smoking": float(given["smoking"]), "treated": float(given["bp_tx"]),
        "statin": float(given["statin"]),
    }  # fmt: skip
    if "zip" in given:
        assert given["zip"] == "14738"
        person["sdi"] = ZIP_14738
    return person | {name: given[name] for name in ("hba1c", "uacr") if name in given}


@pytest.mark.real_data
def test_every_prevent_fixture(real_data: Callable[[str], Path]) -> None:
    found = cases(real_data, "prevent_fixtures.json")
    assert {case["model"] for case in found} == {"base", "hba1c", "uacr", "sdi", "full"}
    compared = 0
    for case in found:
        person = prevent_person(case["inputs"])
        for outcome in OUTCOMES:
            if (case["model"], outcome) in NOT_TO_BE_HAD:
                continue
            assert model_of(person, outcome) == case["model"]
            for years in (10, 30):
                risk = prevent(outcome, years).risk(person)  # type: ignore[arg-type]
                assert abs(risk - case["expected"][f"{years}yr"][outcome]) <= 0.0005, (case["model"], outcome, years)
                compared += 1
    assert compared == 2 * (4 * 5 + 5 * 3)


def test_a_model_without_coefficients_gives_way_to_one_that_has_them() -> None:
    rich = WOMAN | {"hba1c": 9.2, "uacr": 92}
    assert model_of(rich, "total_cvd") == "full"
    assert model_of(rich, "stroke") == "hba1c"
    assert model_of(WOMAN | {"uacr": 92}, "stroke") == "base"
    assert prevent("stroke", 10).risk(WOMAN | {"uacr": 92}) == prevent("stroke", 10).risk(WOMAN)


def test_deprivation_and_its_absence_count_in_the_full_model() -> None:
    known = [prevent("total_cvd", 10).risk(WOMAN | {"hba1c": 9.2, "uacr": 92, "sdi": sdi}) for sdi in (3.0, 5.0, 9.0)]
    assert known == sorted(known)
    assert known[0] < prevent("total_cvd", 10).risk(WOMAN | {"hba1c": 9.2, "uacr": 92}) < known[2]


@pytest.mark.real_data
def test_every_score2_fixture(real_data: Callable[[str], Path]) -> None:
    found = cases(real_data, "score2_fixtures.json")
    assert len(found) == 13
    for case in found:
        given = case["inputs"]
        person = {
            "sex": given["sex"], "age": given["age"], "smoking": given["smoker"], "sbp": given["sbp"],
            "diabetes": given["diabetes"], "total_cholesterol": given["total_chol_mmol"], "hdl": given["hdl_mmol"],
            "region": given["region"].lower().replace(" ", "_"),
        }  # fmt: skip
        equation = score2_for(person)
        assert equation is (SCORE2_OP if case.get("model") == "SCORE2-OP" else SCORE2)
        assert abs(100 * equation.risk(person) - case["expected_pct"]) <= 0.05 + 1e-9, given


def test_score2_diabetes_on_its_package_s_example() -> None:
    """RiskScorescvd, R/15_SCORE2-Diabetes_func.R: 8.4 % at an HbA1c of 50 mmol/mol."""
    man = {
        "sex": "male", "age": 60, "smoking": 0, "sbp": 140, "total_cholesterol": 5.5, "hdl": 1.3, "diabetes": 1,
        "diabetes_age": 60, "hba1c": 50 / 10.929 + 2.15, "egfr": 90, "region": "low",
    }  # fmt: skip
    assert score2_for(man) is SCORE2_DIABETES
    assert round(100 * SCORE2_DIABETES.risk(man), 1) == 8.4
    assert SCORE2.problems(man) == ("SCORE2 is not meant for people with diabetes",)


@pytest.mark.real_data
def test_every_pooled_cohort_fixture(real_data: Callable[[str], Path]) -> None:
    found = cases(real_data, "pce_fixtures.json")
    assert len(found) == 5
    for case in found:
        given = case["inputs"]
        person = {
            "sex": given["sex"], "race": "black" if given["race"] == "aa" else "other", "age": given["age"],
            "total_cholesterol": given["totchol"] / 38.67, "hdl": given["hdl"] / 38.67, "sbp": given["sbp"],
            "treated": given["bp_med"], "smoking": given["smoker"], "diabetes": given["diabetes"],
        }  # fmt: skip
        assert abs(100 * POOLED_COHORT.risk(person) - case["expected_pct"]) <= 0.005 + 1e-9, given


def test_egfr_as_the_equation_of_2021_gives_it() -> None:
    """Values of the formula as printed in Inker et al. 2021, worked by hand."""
    assert round(ckd_epi_2021(1.0, 50, "male"), 1) == 91.7
    assert round(ckd_epi_2021(0.8, 40, "female"), 1) == 95.5
    assert round(ckd_epi_2021(0.5, 30, "female"), 1) == 129.3


def test_what_is_missing_or_outside_is_named() -> None:
    equation = prevent("total_cvd", 10)
    assert equation.problems(WOMAN) == ()
    without = {name: value for name, value in WOMAN.items() if name not in ("hdl", "treated")}
    assert equation.missing(without) == ("treated", "hdl")
    assert equation.problems(without | {"age": 85}) == (
        "blood pressure treatment is missing",
        "HDL cholesterol is missing",
        "age 85 years lies outside 30 to 79",
    )
    assert equation.problems(WOMAN | {"egfr": math.nan}) == (
        "eGFR (or creatinine) nan mL/min/1.73m2 lies outside 15 to 150",
    )
    with pytest.raises(ValueError, match="PREVENT total CVD, 10 years does not apply"):
        equation.risk(without)
    assert prevent("total_cvd", 30).problems(WOMAN | {"age": 60}) == ("age 60 years lies outside 30 to 59",)
    assert "bmi" not in equation.missing({})
    assert "hdl" not in prevent("heart_failure", 10).missing({})


def test_an_optional_input_outside_its_range_is_not_used() -> None:
    equation = prevent("total_cvd", 10)
    assert "hba1c" not in equation.used(WOMAN | {"hba1c": 40.0})
    assert equation.risk(WOMAN | {"hba1c": 40.0}) == equation.risk(WOMAN)
