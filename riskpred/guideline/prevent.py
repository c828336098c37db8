"""PREVENT base equations of the American Heart Association: 10-year risk of total CVD, ASCVD and heart failure.

Source: Khan SS, Matsushita K, Sang Y, et al. 2024, Circulation 149:430-449 (coefficients of the base model,
supplementary tables S12). For people aged 30 to 79 without cardiovascular disease.
"""

import math
from dataclasses import dataclass
from typing import Final, Literal

Sex = Literal["female", "male"]
PreventOutcome = Literal["total_cvd", "ascvd", "heart_failure"]

MMOL_PER_MG_CHOLESTEROL: Final = 0.02586
"""mmol/L for 1 mg/dL of cholesterol, as the equations round it."""

# Inclusive ranges in which the equations were derived; outside them there is no risk, only the reason.
_RANGES: Final[dict[str, tuple[float, float]]] = {
    "age_years": (30, 79),
    "total_cholesterol_mg_dl": (130, 320),
    "hdl_mg_dl": (20, 100),
    "sbp_mmhg": (90, 200),
    "bmi_kg_m2": (18.5, 39.99),
    "egfr_ml_min": (15, 150),
}

# One row per term of the linear predictor, in the order of `_terms`; 0 where the equation lacks the term.
_TERMS: Final = (
    "age", "non_hdl", "hdl", "sbp_below", "sbp_above", "diabetes", "smoking", "bmi_below", "bmi_above", "egfr_below",
    "egfr_above", "treated", "statin", "treated_sbp", "statin_non_hdl", "age_non_hdl", "age_hdl", "age_sbp",
    "age_diabetes", "age_smoking", "age_bmi", "age_egfr", "one",
)  # fmt: skip
_COEFFICIENTS: Final[dict[tuple[PreventOutcome, Sex], tuple[float, ...]]] = {
    ("total_cvd", "female"): (
        0.7939329, 0.0305239, -0.1606857, -0.2394003, 0.3600781, 0.8667604, 0.5360739, 0, 0, 0.6045917, 0.0433769,
        0.3151672, -0.1477655, -0.0663612, 0.1197879, -0.0819715, 0.0306769, -0.0946348, -0.27057, -0.078715, 0,
        -0.1637806, -3.307728,
    ),
    ("total_cvd", "male"): (
        0.7688528, 0.0736174, -0.0954431, -0.4347345, 0.3362658, 0.7692857, 0.4386871, 0, 0, 0.5378979, 0.0164827,
        0.288879, -0.1337349, -0.0475924, 0.150273, -0.0517874, 0.0191169, -0.1049477, -0.2251948, -0.0895067, 0,
        -0.1543702, -3.031168,
    ),
    ("ascvd", "female"): (
        0.719883, 0.1176967, -0.151185, -0.0835358, 0.3592852, 0.8348585, 0.4831078, 0, 0, 0.4864619, 0.0397779,
        0.2265309, -0.0592374, -0.0395762, 0.0844423, -0.0567839, 0.0325692, -0.1035985, -0.2417542, -0.0791142, 0,
        -0.1671492, -3.819975,
    ),
    ("ascvd", "male"): (
        0.7099847, 0.1658663, -0.1144285, -0.2837212, 0.3239977, 0.7189597, 0.3956973, 0, 0, 0.3690075, 0.0203619,
        0.2036522, -0.0865581, -0.0322916, 0.114563, -0.0300005, 0.0232747, -0.0927024, -0.2018525, -0.0970527, 0,
        -0.1217081, -3.500655,
    ),
    ("heart_failure", "female"): (
        0.8998235, 0, 0, -0.4559771, 0.3576505, 1.038346, 0.583916, -0.0072294, 0.2997706, 0.7451638, 0.0557087,
        0.3534442, 0, -0.0981511, 0, 0, 0, -0.0946663, -0.3581041, -0.1159453, -0.003878, -0.1884289, -4.310409,
    ),
    ("heart_failure", "male"): (
        0.8972642, 0, 0, -0.6811466, 0.3634461, 0.923776, 0.5023736, -0.0485841, 0.3726929, 0.6926917, 0.0251827,
        0.2980922, 0, -0.0497731, 0, 0, 0, -0.1289201, -0.3040924, -0.1401688, 0.0068126, -0.1797778, -3.946391,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class PreventInputs:
    """What the base equations need of one person. Units are in the names; eGFR in mL/min/1.73 m2 (CKD-EPI 2021)."""

    sex: Sex
    age_years: float
    total_cholesterol_mg_dl: float
    hdl_mg_dl: float
    sbp_mmhg: float
    bmi_kg_m2: float
    egfr_ml_min: float
    diabetes: bool
    smoking: bool
    blood_pressure_treated: bool
    statin: bool

    def problems(self) -> tuple[str, ...]:
        """Names of inputs that are missing (NaN) or outside the equations' range, with the range; () = all fine."""
        return tuple(
            f"{name} outside {low:g} to {high:g}"
            for name, (low, high) in _RANGES.items()
            if not low <= getattr(self, name) <= high
        )


def prevent_10_year_risk(person: PreventInputs, outcome: PreventOutcome = "total_cvd") -> float:
    """10-year risk by the PREVENT base equation, 0 to 1.

    Raises: ValueError, when an input is outside the range the equations were derived in (see `problems`).
    Example:
        >>> woman = PreventInputs("female", 50, 200, 45, 160, 35, 90, True, False, True, False)
        >>> round(prevent_10_year_risk(woman), 3)
        0.147
    """
    if person.problems():
        raise ValueError(f"PREVENT does not apply: {'; '.join(person.problems())}")
    log_odds = math.fsum(b * x for b, x in zip(_COEFFICIENTS[outcome, person.sex], _terms(person), strict=True))
    return 1 / (1 + math.exp(-log_odds))


def _terms(person: PreventInputs) -> tuple[float, ...]:
    age = (person.age_years - 55) / 10
    non_hdl = (person.total_cholesterol_mg_dl - person.hdl_mg_dl) * MMOL_PER_MG_CHOLESTEROL - 3.5
    hdl = (person.hdl_mg_dl * MMOL_PER_MG_CHOLESTEROL - 1.3) / 0.3
    sbp_above = (max(person.sbp_mmhg, 110) - 130) / 20
    bmi_above = (max(person.bmi_kg_m2, 30) - 30) / 5
    egfr_below = (min(person.egfr_ml_min, 60) - 60) / -15
    values = {
        "age": age,
        "non_hdl": non_hdl,
        "hdl": hdl,
        "sbp_below": (min(person.sbp_mmhg, 110) - 110) / 20,
        "sbp_above": sbp_above,
        "diabetes": person.diabetes,
        "smoking": person.smoking,
        "bmi_below": (min(person.bmi_kg_m2, 30) - 25) / 5,
        "bmi_above": bmi_above,
        "egfr_below": egfr_below,
        "egfr_above": (max(person.egfr_ml_min, 60) - 90) / -15,
        "treated": person.blood_pressure_treated,
        "statin": person.statin,
        "treated_sbp": person.blood_pressure_treated * sbp_above,
        "statin_non_hdl": person.statin * non_hdl,
        "age_non_hdl": age * non_hdl,
        "age_hdl": age * hdl,
        "age_sbp": age * sbp_above,
        "age_diabetes": age * person.diabetes,
        "age_smoking": age * person.smoking,
        "age_bmi": age * bmi_above,
        "age_egfr": age * egfr_below,
        "one": 1.0,
    }
    return tuple(values[name] for name in _TERMS)
