"""configs/simulation/hospital.yaml: the frozen parameters of the simulated hospital, from which its true risks follow.

A *predictor* is a map from term to coefficient; its value is the sum of coefficient x term, and a term may be a
product ("rising*large_nodule"). `intercept` is the term that is always 1.
"""

from datetime import date
from typing import Annotated, Final

from pydantic import Field, field_validator, model_validator

from riskpred.config.files import shipped
from riskpred.config.model import Strict, load

RECORDED_TERMS: Final = (
    "intercept",
    "age",  # decades from 60, at prediction_time
    "age_squared",
    "male",
    "former_smoker",
    "current_smoker",
    "ldl",  # mmol/L from 3.2, latest recorded; 0 where never measured
    "creatinine",  # ln(umol/L / 80), latest recorded; 0 where never measured
    "diabetes",  # recorded histories: 0 or 1
    "hypertension",
    "prior_cardiovascular",
    "prior_cancer",
    "prior_depression",
)
"""Terms that are always on record, or count as 0 where they are not."""

LATENTS: Final = {
    "tabular": ("balanced", "insulin_resistant", "inflamed"),
    "series": ("stable", "rising", "labile"),
    "image": ("no_nodule", "small_nodule", "large_nodule"),
}
"""The one discrete latent of each modality, which its record determines. The first state is the reference."""

Predictor = Annotated[dict[str, float], Field(min_length=1)]

_PERSON = frozenset(RECORDED_TERMS[:6])
_STATES = {modality: frozenset(states[1:]) for modality, states in LATENTS.items()}
_EVERY_STATE = frozenset().union(*_STATES.values())


def _check(predictor: dict[str, float], where: str, allowed: frozenset[str]) -> None:
    """Bayes' rule over the latents is exact only while each quantity depends on what comes before it."""
    unknown = sorted(name for name in predictor if not set(name.split("*")) <= allowed)
    if unknown:
        raise ValueError(
            f"{where}: terms not allowed here: {', '.join(unknown)}; allowed: {', '.join(sorted(allowed))}"
        )


class CauseRates(Strict):
    """Cause-specific rate = per_year of the interval x exp(terms); the first interval may have terms of its own."""

    per_year: Annotated[tuple[float, ...], Field(min_length=1)]
    terms: Predictor
    first_interval: dict[str, float] = Field(default={}, description="added to `terms` in the first interval only")


class People(Strict):
    """Who comes, and who is already ill, gone or not yet there at prediction_time."""

    age_years: tuple[float, float]
    male: float
    former_smoker: float
    current_smoker: float
    entry_years_before: tuple[float, float] = Field(description="site entry, years before prediction_time")
    enters_later: float = Field(description="share that enters only after prediction_time")
    left_before: float = Field(description="share that left before prediction_time")
    died_before: float = Field(description="share that died before prediction_time")
    leaving_per_year: float = Field(description="rate of leaving after prediction_time, the same for everyone")


class HospitalConfig(Strict):
    """The whole of hospital.yaml."""

    version: int
    as_of: date = Field(description="prediction_time of everyone, at 00:00 UTC")
    data_until: date
    horizons_years: tuple[float, ...]
    rate_cuts_years: tuple[float, ...] = Field(description="where the rates change; the last interval is open")
    subjects: int = Field(gt=0, description="default number of subjects")
    seed: int
    people: People
    latents: dict[str, dict[str, Predictor]] = Field(description="modality -> state -> multinomial logit")
    recorded: dict[str, Predictor] = Field(description="modality -> logit of being recorded at all")
    measured: dict[str, Predictor] = Field(description="ldl, creatinine -> logit of being measured")
    histories: dict[str, Predictor] = Field(description="history -> logit of being on record")
    competing_set: tuple[str, ...]
    rates: dict[str, CauseRates] = Field(description="outcome or death -> rates")
    dirt_every: int = Field(gt=0, description="each kind of dirty row is planted once in so many subjects")

    @field_validator("latents")
    @classmethod
    def _states(cls, latents: dict[str, dict[str, Predictor]]) -> dict[str, dict[str, Predictor]]:
        if {modality: set(states) for modality, states in latents.items()} != _STATES:
            raise ValueError(f"give a logit for each of {', '.join(sorted(_EVERY_STATE))}")
        return latents

    @model_validator(mode="after")
    def _known_terms(self) -> "HospitalConfig":
        for name, predictor in self.measured.items():
            _check(predictor, f"measured.{name}", _PERSON)
        for block in ("recorded", "histories"):
            for name, predictor in getattr(self, block).items():
                _check(predictor, f"{block}.{name}", _PERSON | _EVERY_STATE)
        above: frozenset[str] = frozenset()
        for modality in LATENTS:
            for state, predictor in self.latents[modality].items():
                _check(predictor, f"latents.{modality}.{state}", _PERSON | above)
            above |= _STATES[modality]
        everything = frozenset(RECORDED_TERMS) | _EVERY_STATE
        for cause, rates in self.rates.items():
            _check(rates.terms, f"rates.{cause}.terms", everything)
            _check(rates.first_interval, f"rates.{cause}.first_interval", everything)
            if len(rates.per_year) != len(self.rate_cuts_years) + 1:
                raise ValueError(f"rates.{cause}.per_year: one rate per interval, {len(self.rate_cuts_years) + 1}")
        if "death" not in self.rates or not set(self.competing_set) <= set(self.outcomes):
            raise ValueError("rates needs death and each outcome of competing_set")
        return self

    @property
    def outcomes(self) -> tuple[str, ...]:
        """The causes but death, in the file's order."""
        return tuple(cause for cause in self.rates if cause != "death")


def load_hospital() -> HospitalConfig:
    """The shipped parameters. Raises: ConfigError."""
    return load(HospitalConfig, shipped("configs") / "simulation" / "hospital.yaml")
