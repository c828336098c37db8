"""SCORE2, SCORE2-OP and SCORE2-Diabetes: 10-year risk of fatal and non-fatal cardiovascular disease in Europe.

Sources: SCORE2 working group 2021, Eur Heart J 42:2439-2454; SCORE2-OP working group 2021, Eur Heart J 42:2455-2467;
SCORE2-Diabetes working group 2023, Eur Heart J 44:2544-2556. Calibrated to four risk regions.
"""

import math
from typing import Final

from riskpred.guideline.equation import SEX, YES_NO, Equation, EquationInput, Given, number

_OUTCOME: Final = "heart attack, stroke or death of cardiovascular disease"
_COMMON: Final = (
    SEX,
    EquationInput("smoking", "0/1", choices=YES_NO),
    EquationInput("sbp", "mmHg", 60, 250),
    EquationInput("total_cholesterol", "mmol/L", 1, 20),
    EquationInput("hdl", "mmol/L", 0.1, 5),
    EquationInput("diabetes", "0/1", choices=YES_NO),
    EquationInput("region", choices=("low", "moderate", "high", "very_high")),
)
"""The papers give no ranges but of age: these refuse what is no measurement of an adult."""

# Scales of the complementary log-log recalibration of each region.
_SCALES: Final = {
    "male": {
        "low": (-0.5699, 0.7476), "moderate": (-0.1565, 0.8009),
        "high": (0.3207, 0.9360), "very_high": (0.5836, 0.8294),
    },
    "female": {
        "low": (-0.7380, 0.7019), "moderate": (-0.3143, 0.7701),
        "high": (0.5710, 0.9369), "very_high": (0.9412, 0.8329),
    },
}  # fmt: skip
_SCALES_OLDER: Final = {
    "male": {"low": (-0.34, 1.19), "moderate": (0.01, 1.25), "high": (0.08, 1.15), "very_high": (0.05, 0.70)},
    "female": {"low": (-0.52, 1.01), "moderate": (-0.10, 1.10), "high": (0.38, 1.09), "very_high": (0.38, 0.69)},
}

# Order: age, smoking, sbp, diabetes, total cholesterol, HDL; age x smoking, sbp, total cholesterol, HDL, diabetes.
_BETA: Final = {
    "male": (0.3742, 0.6012, 0.2777, 0.6457, 0.1458, -0.2698, -0.0755, -0.0255, -0.0281, 0.0426, -0.0983),
    "female": (0.4648, 0.7744, 0.3131, 0.8096, 0.1002, -0.2606, -0.1088, -0.0277, -0.0226, 0.0613, -0.1272),
}
_BETA_DIABETES: Final = {
    "male": (0.5368, 0.4774, 0.1322, 0.6457, 0.1102, -0.1087, -0.0672, -0.0268, -0.0181, 0.0095, -0.0983),
    "female": (0.6624, 0.6139, 0.1421, 0.8096, 0.1127, -0.1568, -0.1122, -0.0167, -0.0200, 0.0186, -0.1272),
}
# Age at diagnosis, HbA1c, ln eGFR, its square, age x HbA1c, age x ln eGFR.
_BETA_DIABETES_MORE: Final = {
    "male": (-0.0998, 0.0955, -0.0591, 0.0058, -0.0134, 0.0115),
    "female": (-0.118, 0.1173, -0.0640, 0.0062, -0.0196, 0.0169),
}
_BETA_OLDER: Final = {
    "male": (0.0634, 0.3524, 0.0094, 0.4245, 0.0850, -0.3564, -0.0247, -0.0005, 0.0073, 0.0091, -0.0174),
    "female": (0.0789, 0.4921, 0.0102, 0.6010, 0.0605, -0.3040, -0.0255, -0.0004, -0.0009, 0.0154, -0.0107),
}
_SURVIVAL: Final = {"male": 0.9605, "female": 0.9776}
_SURVIVAL_OLDER: Final = {"male": (0.7576, 0.0929), "female": (0.8082, 0.229)}
"""Baseline survival over 10 years and the mean linear predictor."""


def score2_for(given: Given) -> Equation:
    """Which of the three is meant for a person: by age, and by diabetes below 70."""
    age = given.get("age")
    if isinstance(age, (int, float)) and age >= 70:
        return SCORE2_OP
    return SCORE2_DIABETES if given.get("diabetes") == 1 else SCORE2


def _score2(given: Given) -> float:
    sex = str(given["sex"])
    return _calibrated(_linear(given, _BETA[sex]), _SURVIVAL[sex], _SCALES[sex][str(given["region"])])


def _score2_diabetes(given: Given) -> float:
    sex, age = str(given["sex"]), (number(given, "age") - 60) / 5
    hba1c = ((number(given, "hba1c") - 2.15) * 10.929 - 31) / 9.34  # % to mmol/mol (IFCC)
    egfr = (math.log(number(given, "egfr")) - 4.5) / 0.15
    more = ((number(given, "diabetes_age") - 50) / 5, hba1c, egfr, egfr**2, age * hba1c, age * egfr)
    linear = _linear(given, _BETA_DIABETES[sex]) + math.fsum(
        b * x for b, x in zip(_BETA_DIABETES_MORE[sex], more, strict=True)
    )
    return _calibrated(linear, _SURVIVAL[sex], _SCALES[sex][str(given["region"])])


def _score2_op(given: Given) -> float:
    sex = str(given["sex"])
    survival, mean = _SURVIVAL_OLDER[sex]
    linear = _sum(given, _BETA_OLDER[sex], number(given, "age") - 73, (150.0, 1.0), (6.0, 1.0), (1.4, 1.0))
    return _calibrated(linear - mean, survival, _SCALES_OLDER[sex][str(given["region"])])


def _linear(given: Given, beta: tuple[float, ...]) -> float:
    return _sum(given, beta, (number(given, "age") - 60) / 5, (120.0, 20.0), (6.0, 1.0), (1.3, 0.5))


def _sum(
    given: Given,
    beta: tuple[float, ...],
    age: float,
    sbp_at: tuple[float, float],
    cholesterol_at: tuple[float, float],
    hdl_at: tuple[float, float],
) -> float:
    sbp, cholesterol, hdl = (
        (number(given, name) - middle) / per
        for name, (middle, per) in (("sbp", sbp_at), ("total_cholesterol", cholesterol_at), ("hdl", hdl_at))
    )
    smoking, diabetes = number(given, "smoking"), number(given, "diabetes")
    alone = (age, smoking, sbp, diabetes, cholesterol, hdl)
    with_age = tuple(age * x for x in (smoking, sbp, cholesterol, hdl, diabetes))
    return math.fsum(b * x for b, x in zip(beta, alone + with_age, strict=True))


def _calibrated(linear: float, survival: float, scales: tuple[float, float]) -> float:
    cumulative_hazard = -math.log(survival) * math.exp(linear)
    return -math.expm1(-math.exp(scales[0] + scales[1] * math.log(cumulative_hazard)))


def _without_diabetes(given: Given) -> str | None:
    return "SCORE2 is not meant for people with diabetes" if given["diabetes"] == 1 else None


def _with_diabetes(given: Given) -> str | None:
    return None if given["diabetes"] == 1 else "SCORE2-Diabetes is only for people with diabetes"


SCORE2: Final = Equation(
    name="SCORE2, 10 years",
    outcome=_OUTCOME,
    horizon_years=10,
    inputs=(EquationInput("age", "years", 40, 69), *_COMMON),
    source="SCORE2 working group 2021, Eur Heart J 42:2439-2454",
    function=_score2,
    not_for=_without_diabetes,
)
SCORE2_OP: Final = Equation(
    name="SCORE2-OP, 10 years",
    outcome=_OUTCOME,
    horizon_years=10,
    inputs=(EquationInput("age", "years", 70, 89), *_COMMON),
    source="SCORE2-OP working group 2021, Eur Heart J 42:2455-2467",
    function=_score2_op,
)
SCORE2_DIABETES: Final = Equation(
    name="SCORE2-Diabetes, 10 years",
    outcome=_OUTCOME,
    horizon_years=10,
    inputs=(
        EquationInput("age", "years", 40, 69),
        *_COMMON,
        EquationInput("diabetes_age", "years", 1, 69),
        EquationInput("hba1c", "%", 3, 20),
        EquationInput("egfr", "mL/min/1.73m2", 5, 200),
    ),
    source="SCORE2-Diabetes working group 2023, Eur Heart J 44:2544-2556",
    function=_score2_diabetes,
    not_for=_with_diabetes,
)
