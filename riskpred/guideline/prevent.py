"""PREVENT equations of the American Heart Association: 10- and 30-year risks of cardiovascular disease.

Source: Khan SS, Matsushita K, Sang Y, et al. 2024, Circulation 149:430-449 (coefficients: supplementary tables S12A to
S12J, configs/guideline/prevent.yaml). For people aged 30 to 79 (30 years: to 59) without cardiovascular disease.

The model follows from the optional inputs that are there: none = base, one = that one's, two or three = full. Of
coronary heart disease and stroke only base and HbA1c have coefficients here; a model without them gives way to HbA1c's
where HbA1c is known, else to base.
"""

import math
from functools import lru_cache
from typing import Any, Final, Literal

from riskpred.config.files import read_yaml, shipped
from riskpred.guideline.equation import SEX, YES_NO, Equation, EquationInput, Given, number

Outcome = Literal["total_cvd", "ascvd", "heart_failure", "chd", "stroke"]
Model = Literal["base", "hba1c", "uacr", "sdi", "full"]

OUTCOMES: Final[dict[Outcome, tuple[str, str]]] = {
    "total_cvd": ("total CVD", "heart attack, stroke or heart failure"),
    "ascvd": ("ASCVD", "heart attack, death of coronary disease, or stroke"),
    "heart_failure": ("heart failure", "heart failure"),
    "chd": ("CHD", "heart attack or death of coronary disease"),
    "stroke": ("stroke", "stroke"),
}
"""Short name and meaning of each outcome."""

_SOURCE: Final = "Khan et al. 2024, Circulation 149:430-449 (PREVENT)"
_OLDEST: Final = {10: 79, 30: 59}
_OPTIONAL: Final = (
    EquationInput("hba1c", "%", 3, 15),
    EquationInput("uacr", "mg/g", 0.1, 25_000),
    EquationInput("sdi", "decile", 1, 10),
)
_LIPIDS: Final = (
    EquationInput("total_cholesterol", "mmol/L", 130 * 0.02586, 320 * 0.02586),
    EquationInput("hdl", "mmol/L", 20 * 0.02586, 100 * 0.02586),
    EquationInput("statin", "0/1", choices=YES_NO),
)
"""Heart failure does without them. 0.02586: mmol/L for 1 mg/dL of cholesterol, as the equations round it."""
_BMI: Final = EquationInput("bmi", "kg/m2", 18.5, 39.99)
"""Heart failure's alone."""


def prevent(outcome: Outcome, years: Literal[10, 30]) -> Equation:
    """The equation of one outcome and horizon.

    Example:
        >>> woman = {"sex": "female", "age": 50, "sbp": 160, "treated": 1, "total_cholesterol": 200 * 0.02586,
        ...          "hdl": 45 * 0.02586, "statin": 0, "diabetes": 1, "smoking": 0, "egfr": 90, "bmi": 35}
        >>> round(prevent("total_cvd", 10).risk(woman), 3)
        0.147
    """
    name, meaning = OUTCOMES[outcome]
    return Equation(
        name=f"PREVENT {name}, {years} years",
        outcome=meaning,
        horizon_years=years,
        inputs=(
            SEX,
            EquationInput("age", "years", 30, _OLDEST[years]),
            EquationInput("sbp", "mmHg", 90, 200),
            EquationInput("treated", "0/1", choices=YES_NO),
            *((_BMI,) if outcome == "heart_failure" else _LIPIDS),
            EquationInput("egfr", "mL/min/1.73m2", 15, 150),
            EquationInput("diabetes", "0/1", choices=YES_NO),
            EquationInput("smoking", "0/1", choices=YES_NO),
        ),
        source=_SOURCE,
        function=lambda given: _risk(given, outcome, years),
        optional=_OPTIONAL,
    )


def model_of(given: Given, outcome: Outcome) -> Model:
    """The model that the optional inputs call for, among those with coefficients for the outcome."""
    there = [name for name in ("hba1c", "uacr", "sdi") if name in given]
    wanted: Model = "full" if len(there) > 1 else there[0] if there else "base"  # type: ignore[assignment]
    if (wanted, 10, outcome, "female") in _coefficients():
        return wanted
    return "hba1c" if "hba1c" in there else "base"


def _risk(given: Given, outcome: Outcome, years: int) -> float:
    model = model_of(given, outcome)
    values, own = _coefficients()[model, years, outcome, str(given["sex"])], _own_terms()[model]
    terms = _terms(given) | _optional_terms(given)
    names = [*_shared_terms()[:1], *(["age_squared"] if years == 30 else []), *_shared_terms()[1:], *own, "one"]
    log_odds = math.fsum(b * terms[name] for name, b in zip(names, values, strict=True))
    return 1 / (1 + math.exp(-log_odds))


def _terms(given: Given) -> dict[str, float]:
    """Heart failure has coefficients of 0 for lipids, all others for body mass index: what is absent there is 0."""
    age = (number(given, "age") - 55) / 10
    non_hdl = number(given, "total_cholesterol") - number(given, "hdl") - 3.5 if "hdl" in given else 0.0
    hdl = (number(given, "hdl") - 1.3) / 0.3 if "hdl" in given else 0.0
    sbp, egfr, bmi = number(given, "sbp"), number(given, "egfr"), number(given, "bmi") if "bmi" in given else 25.0
    treated, statin = number(given, "treated"), number(given, "statin") if "statin" in given else 0.0
    diabetes, smoking = number(given, "diabetes"), number(given, "smoking")
    sbp_above = (max(sbp, 110) - 130) / 20
    bmi_above = (max(bmi, 30) - 30) / 5
    egfr_below = (min(egfr, 60) - 60) / -15
    return {
        "age": age,
        "age_squared": age**2,
        "non_hdl": non_hdl,
        "hdl": hdl,
        "sbp_below": (min(sbp, 110) - 110) / 20,
        "sbp_above": sbp_above,
        "diabetes": diabetes,
        "smoking": smoking,
        "bmi_below": (min(bmi, 30) - 25) / 5,
        "bmi_above": bmi_above,
        "egfr_below": egfr_below,
        "egfr_above": (max(egfr, 60) - 90) / -15,
        "treated": treated,
        "statin": statin,
        "treated_sbp": treated * sbp_above,
        "statin_non_hdl": statin * non_hdl,
        "age_non_hdl": age * non_hdl,
        "age_hdl": age * hdl,
        "age_sbp": age * sbp_above,
        "age_diabetes": age * diabetes,
        "age_smoking": age * smoking,
        "age_bmi": age * bmi_above,
        "age_egfr": age * egfr_below,
        "one": 1.0,
    }


def _optional_terms(given: Given) -> dict[str, float]:
    hba1c = number(given, "hba1c") - 5.3 if "hba1c" in given else 0.0
    diabetes = number(given, "diabetes")
    sdi = number(given, "sdi") if "sdi" in given else 0.0
    return {
        "hba1c_with_diabetes": hba1c * diabetes,
        "hba1c_without_diabetes": hba1c * (1 - diabetes),
        "hba1c_missing": float("hba1c" not in given),
        "ln_uacr": math.log(number(given, "uacr")) if "uacr" in given else 0.0,
        "uacr_missing": float("uacr" not in given),
        "sdi_4_to_6": float(4 <= sdi <= 6),
        "sdi_7_to_10": float(sdi >= 7),
        "sdi_missing": float("sdi" not in given),
    }


@lru_cache(maxsize=1)
def _file() -> dict[str, Any]:
    data: dict[str, Any] = read_yaml(shipped("configs") / "guideline" / "prevent.yaml")
    return data


def _shared_terms() -> list[str]:
    return list(_file()["terms"])


def _own_terms() -> dict[str, list[str]]:
    return {model: part["own_terms"] for model, part in _file()["models"].items()}


@lru_cache(maxsize=1)
def _coefficients() -> dict[tuple[str, int, str, str], tuple[float, ...]]:
    """(model, years, outcome, sex) -> a coefficient per term."""
    return {
        (model, row["years"], row["outcome"], row["sex"]): tuple(row["values"])
        for model, part in _file()["models"].items()
        for row in part["coefficients"]
    }
