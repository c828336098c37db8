"""outcomes.yaml: who is eligible, for which outcomes, when, and over which horizons."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, model_validator

from riskpred.config.model import Strict

DEATH = "death"
"""Name of the competing cause that every group with a death code has."""


class Rule(Strict):
    """A label code and the condition it meets: codes may end in * (prefix)."""

    codes: Annotated[tuple[str, ...], Field(min_length=1)]
    at_least: float | None = None
    at_most: float | None = None
    values: tuple[str, ...] | None = Field(None, description="accepted text_value")


class Outcome(Strict):
    """One outcome. `known_at_once`: horizon 0, no censoring, no prevalence rule."""

    display: str
    rule: Rule
    competing_set: str | None = Field(None, description="outcomes of one set share their hazard sum")
    known_at_once: bool = False
    lookback_days: int = Field(0, ge=0, description="known at once: how far back a label counts")
    absent: Literal["unlabelled", "no"] = Field("unlabelled", description="known at once: meaning of no label")


class PredictionTimes(Strict):
    """When fit and evaluate predict; exactly one. (`score` uses --as-of for everyone.)"""

    days_after_entry: tuple[int, ...] | None = None
    every_days: int | None = Field(None, gt=0, description="from entry on, while eligible")
    at_codes: tuple[str, ...] | None = None
    at_dates: tuple[datetime, ...] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "PredictionTimes":
        ways = (self.days_after_entry, self.every_days, self.at_codes, self.at_dates)
        if sum(way is not None for way in ways) != 1:
            raise ValueError("give exactly one of days_after_entry, every_days, at_codes, at_dates")
        if self.days_after_entry and min(self.days_after_entry) < 0:
            raise ValueError("days_after_entry must be 0 or more")
        return self


@dataclass(frozen=True)
class RiskGroup:
    """Outcomes that share one hazard sum: a competing set, or one outcome alone.

    causes: the outcomes in order, then "death" unless known at once. Cause index 0 in data means censored;
    cause j in data is causes[j - 1].
    """

    name: str
    outcomes: tuple[str, ...]
    known_at_once: bool
    horizons_years: tuple[float, ...]

    @property
    def causes(self) -> tuple[str, ...]:
        return self.outcomes if self.known_at_once else (*self.outcomes, DEATH)


class OutcomesConfig(Strict):
    """The whole of outcomes.yaml."""

    entry_codes: tuple[str, ...] = Field((), description="default: the first dated event")
    leaving_codes: tuple[str, ...] = ()
    death_codes: tuple[str, ...] = ("MEDS_DEATH",)
    age_years: tuple[float | None, float | None] | None = Field(
        None, description="inclusive age at prediction_time to be eligible (MEDS_BIRTH); unknown age is ineligible"
    )
    prediction_times: PredictionTimes
    horizons_years: tuple[float, ...] = ()
    outcomes: Annotated[dict[str, Outcome], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> "OutcomesConfig":
        timed = [name for name, outcome in self.outcomes.items() if not outcome.known_at_once]
        if timed and not self.horizons_years:
            raise ValueError(f"horizons_years is needed by {', '.join(timed)}")
        if list(self.horizons_years) != sorted(set(self.horizons_years)) or any(h <= 0 for h in self.horizons_years):
            raise ValueError("horizons_years must be positive and rising")
        for name, outcome in self.outcomes.items():
            if name == DEATH:
                raise ValueError('"death" is the name of the competing cause; call the outcome otherwise')
            if outcome.known_at_once and outcome.competing_set:
                raise ValueError(f"{name}: an outcome known at once has no competing set")
        return self

    @property
    def groups(self) -> tuple[RiskGroup, ...]:
        """Risk groups in the order in which their first outcome stands in the file."""
        members: dict[str, list[str]] = {}
        for name, outcome in self.outcomes.items():
            members.setdefault(outcome.competing_set or f"{name} alone", []).append(name)
        return tuple(
            RiskGroup(
                name=names[0] if len(names) == 1 else (self.outcomes[names[0]].competing_set or names[0]),
                outcomes=tuple(names),
                known_at_once=self.outcomes[names[0]].known_at_once,
                horizons_years=(0.0,) if self.outcomes[names[0]].known_at_once else self.horizons_years,
            )
            for names in members.values()
        )
