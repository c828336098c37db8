"""guideline.yaml: which published equations stand beside an outcome, and which codes give each of their inputs."""

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from riskpred.config.model import Strict

INPUT_UNITS: Final[dict[str, str | None]] = {
    "sbp": "mmHg",
    "total_cholesterol": "mmol/L",
    "hdl": "mmol/L",
    "bmi": "kg/m2",
    "creatinine": "mg/dL",
    "egfr": "mL/min/1.73m2",
    "hba1c": "%",
    "uacr": "mg/g",
    "sdi": "decile",
    "smoking": "0/1",
    "diabetes": "0/1",
    "diabetes_age": "years",
    "treated": "0/1",
    "statin": "0/1",
    "race": None,
}
"""Inputs of the equations and the units they are calculated in.

Age (whole years, from MEDS_BIRTH) and sex (GENDER//F, GENDER//M) need no rule; eGFR is calculated from creatinine
(CKD-EPI 2021) and diabetes_age from the first of `ever` codes of diabetes, where there is no rule for them.
race is that of the pooled cohort equations: black or other.
"""

EquationKey = Literal[
    "prevent_total_cvd_10", "prevent_ascvd_10", "prevent_heart_failure_10", "prevent_chd_10", "prevent_stroke_10",
    "prevent_total_cvd_30", "prevent_ascvd_30", "prevent_heart_failure_30", "prevent_chd_30", "prevent_stroke_30",
    "score2", "pooled_cohort",
]  # fmt: skip
"""score2 is SCORE2 at 40 to 69 years, SCORE2-Diabetes for people of that age with diabetes, SCORE2-OP from 70 on."""

Region = Literal["low", "moderate", "high", "very_high"]


class InputRule(Strict):
    """Where an input comes from: the latest value of some codes at or before prediction_time, or an assumption."""

    codes: tuple[str, ...] = Field((), description="may end in * (prefix)")
    units: dict[str, float] = Field(
        default_factory=dict, description="unit of the record -> factor to the equation's; '' = no unit"
    )
    max_age_days: int | None = Field(None, gt=0, description="older values are not used; null = any age")
    at_least: float | None = Field(None, description="a number means yes from here on, else no")
    values: dict[str, float | str] = Field(
        default_factory=dict, description="text_value -> what it means; else missing"
    )
    ever: bool = Field(False, description="yes after any of the codes, no without one")
    assume: float | str | None = Field(None, description="taken for everyone; `because` says why")
    because: str | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "InputRule":
        ways = [bool(self.units), self.at_least is not None, bool(self.values), self.ever, self.assume is not None]
        if sum(ways) != 1:
            raise ValueError("give exactly one of units, at_least, values, ever, assume")
        if (self.assume is None) != bool(self.codes):
            raise ValueError("give codes, or assume without codes")
        if (self.assume is None) != (self.because is None):
            raise ValueError("because belongs to assume")
        return self


class GuidelineConfig(Strict):
    """The whole of guideline.yaml. region: of SCORE2."""

    region: Region = "moderate"
    equations: Annotated[dict[str, Annotated[tuple[EquationKey, ...], Field(min_length=1)]], Field(min_length=1)] = (
        Field(description="outcome of outcomes.yaml -> equations to show beside it")
    )
    inputs: dict[str, InputRule] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known_inputs(self) -> "GuidelineConfig":
        unknown = sorted(set(self.inputs) - set(INPUT_UNITS))
        if unknown:
            raise ValueError(f"no such inputs: {', '.join(unknown)}; there are {', '.join(INPUT_UNITS)}")
        return self
