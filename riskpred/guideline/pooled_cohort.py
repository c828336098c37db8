"""Pooled cohort equations of the ACC and AHA (2013): 10-year risk of atherosclerotic cardiovascular disease.

Source: Goff DC, Lloyd-Jones DM, Bennett G, et al. 2014, Circulation 129(25 Suppl 2):S49-S73, table A. For people aged
40 to 79 without it; black people and all others have equations of their own.
"""

import math
from typing import Final

from riskpred.guideline.equation import SEX, YES_NO, Equation, EquationInput, Given, number

_MG_DL: Final = 38.67
"""mg/dL in 1 mmol/L of cholesterol."""

# ln age, its square, ln total cholesterol, x ln age, ln HDL, x ln age, ln treated sbp, x ln age, ln untreated sbp,
# x ln age, smoking, x ln age, diabetes; then the mean of the sum, and the baseline survival.
_BETA: Final = {
    ("female", "other"): (-29.799, 4.884, 13.540, -3.114, -13.578, 3.149, 2.019, 0, 1.957, 0, 7.574, -1.665, 0.661),
    ("female", "black"): (17.114, 0, 0.940, 0, -18.920, 4.475, 29.291, -6.432, 27.820, -6.087, 0.691, 0, 0.874),
    ("male", "other"): (12.344, 0, 11.853, -2.664, -7.990, 1.769, 1.797, 0, 1.764, 0, 7.837, -1.795, 0.658),
    ("male", "black"): (2.469, 0, 0.302, 0, -0.307, 0, 1.916, 0, 1.809, 0, 0.549, 0, 0.645),
}
_BASELINE: Final = {
    ("female", "other"): (-29.18, 0.9665),
    ("female", "black"): (86.61, 0.9533),
    ("male", "other"): (61.18, 0.9144),
    ("male", "black"): (19.54, 0.8954),
}


def _risk(given: Given) -> float:
    kind = (str(given["sex"]), str(given["race"]))
    age, sbp = math.log(number(given, "age")), math.log(number(given, "sbp"))
    cholesterol = math.log(number(given, "total_cholesterol") * _MG_DL)
    hdl = math.log(number(given, "hdl") * _MG_DL)
    treated, smoking = number(given, "treated"), number(given, "smoking")
    terms = (
        age, age**2, cholesterol, age * cholesterol, hdl, age * hdl, treated * sbp, treated * age * sbp,
        (1 - treated) * sbp, (1 - treated) * age * sbp, smoking, age * smoking, number(given, "diabetes"),
    )  # fmt: skip
    mean, survival = _BASELINE[kind]
    return float(1 - survival ** math.exp(math.fsum(b * x for b, x in zip(_BETA[kind], terms, strict=True)) - mean))


POOLED_COHORT: Final = Equation(
    name="Pooled cohort equations, 10 years",
    outcome="heart attack, death of coronary disease, or stroke",
    horizon_years=10,
    inputs=(
        SEX,
        EquationInput("race", choices=("black", "other")),
        EquationInput("age", "years", 40, 79),
        EquationInput("total_cholesterol", "mmol/L", 130 / _MG_DL, 320 / _MG_DL),
        EquationInput("hdl", "mmol/L", 20 / _MG_DL, 100 / _MG_DL),
        EquationInput("sbp", "mmHg", 90, 200),
        EquationInput("treated", "0/1", choices=YES_NO),
        EquationInput("smoking", "0/1", choices=YES_NO),
        EquationInput("diabetes", "0/1", choices=YES_NO),
    ),
    source="Goff et al. 2014, Circulation 129(25 Suppl 2):S49-S73 (pooled cohort equations)",
    function=_risk,
)
