"""What a published risk equation is: its inputs with units and ranges, its source, and the risk it gives."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Given = Mapping[str, float | str]
"""Inputs of one person by name, in the units of `config.guideline.INPUT_UNITS`; a missing one is left out.

Yes and no are 1 and 0; sex is female or male; age is in years.
"""

INPUT_NAMES = {
    "age": "age",
    "sex": "sex",
    "sbp": "systolic blood pressure",
    "total_cholesterol": "total cholesterol",
    "hdl": "HDL cholesterol",
    "bmi": "body mass index",
    "egfr": "eGFR (or creatinine)",
    "hba1c": "HbA1c",
    "uacr": "urine albumin to creatinine ratio",
    "sdi": "social deprivation index",
    "smoking": "smoking",
    "diabetes": "diabetes",
    "diabetes_age": "age when diabetes was found",
    "treated": "blood pressure treatment",
    "statin": "statin treatment",
    "race": "race",
    "region": "risk region",
}


@dataclass(frozen=True)
class EquationInput:
    """One input. low, high: the inclusive range in which the equation was derived; None = no limit.

    choices: of a text, or the numbers that are accepted; () = any number within the range.
    """

    name: str
    unit: str | None = None
    low: float | None = None
    high: float | None = None
    choices: tuple[float | str, ...] = ()


YES_NO = (0.0, 1.0)
SEX = EquationInput("sex", choices=("female", "male"))


@dataclass(frozen=True)
class Outside:
    """An input whose value the equation was not made for."""

    name: str
    value: float | str
    unit: str | None
    low: float | None
    high: float | None

    def __str__(self) -> str:
        told = f"{INPUT_NAMES[self.name]} {_number(self.value)}{f' {self.unit}' if self.unit else ''}"
        if self.low is not None and self.high is not None:
            return f"{told} lies outside {self.low:g} to {self.high:g}"
        return f"{told} is not accepted"


@dataclass(frozen=True)
class Equation:
    """A published equation.

    name: with its horizon.   outcome: what it is the risk of, in words.
    inputs: all must be there.   optional: used where they are there and within their range.
    function: inputs within their ranges -> risk, 0 to 1.
    not_for: given inputs within their ranges -> why it is not meant for this person, or None.
    """

    name: str
    outcome: str
    horizon_years: float
    inputs: tuple[EquationInput, ...]
    source: str
    function: Callable[[Given], float] = field(repr=False)
    optional: tuple[EquationInput, ...] = ()
    not_for: Callable[[Given], str | None] = field(default=lambda _: None, repr=False)

    def missing(self, given: Given) -> tuple[str, ...]:
        """Names of required inputs that are not there."""
        return tuple(one.name for one in self.inputs if one.name not in given)

    def outside(self, given: Given) -> tuple[Outside, ...]:
        """Required inputs outside the range the equation was derived in."""
        return tuple(
            Outside(one.name, given[one.name], one.unit, one.low, one.high)
            for one in self.inputs
            if one.name in given and not accepts(one, given[one.name])
        )

    def problems(self, given: Given) -> tuple[str, ...]:
        """Why there is no risk, in words; () = it applies."""
        missing, outside = self.missing(given), self.outside(given)
        told = [f"{INPUT_NAMES[name]} is missing" for name in missing] + [str(one) for one in outside]
        why = None if told else self.not_for(given)
        return (*told, *([why] if why else []))

    def used(self, given: Given) -> Given:
        """The inputs that the equation reads: required ones, and optional ones within their range."""
        names = [one.name for one in self.inputs if one.name in given]
        names += [one.name for one in self.optional if one.name in given and accepts(one, given[one.name])]
        return {name: given[name] for name in names}

    def risk(self, given: Given) -> float:
        """Risk, 0 to 1. Raises: ValueError, when the equation does not apply (see `problems`)."""
        problems = self.problems(given)
        if problems:
            raise ValueError(f"{self.name} does not apply: {len(problems)} inputs are missing or out of range")
        return self.function(self.used(given))


def accepts(one: EquationInput, value: float | str) -> bool:
    """Whether a value is one that an input may have; NaN never is."""
    if one.choices:
        return value in one.choices
    if isinstance(value, str):
        return False
    return (one.low is None or value >= one.low) and (one.high is None or value <= one.high) and value == value


def number(given: Given, name: str) -> float:
    """An input that is a number."""
    value = given[name]
    assert not isinstance(value, str), name
    return value


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
