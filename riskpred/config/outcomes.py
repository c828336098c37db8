"""outcomes.yaml: who is eligible, for which outcomes, when, and over which horizons."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from riskpred.config.model import Strict

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_DAYS_PER_YEAR = 365.25

DEATH = "death"
"""Name of the competing cause that every group with a death code has."""


class Rule(Strict):
    """A label code and the condition it meets: codes may end in * (prefix)."""

    codes: Annotated[tuple[str, ...], Field(min_length=1)]
    at_least: float | None = None
    at_most: float | None = None
    values: tuple[str, ...] | None = Field(None, description="accepted text_value")

    @model_validator(mode="after")
    def _some_value(self) -> "Rule":
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError("at_least is above at_most: no value meets both")
        return self


_KNOWN_AT_ONCE_ONLY = frozenset({"lookback_days", "absent", "ordered_set"})


class Outcome(Strict):
    """One outcome. `known_at_once`: horizon 0, no censoring, no prevalence rule.

    Known at once, outcomes of one competing_set are exclusive classes (of several that are met the first in the file
    counts; the rest is "none of them"), those of one ordered_set are grades, lowest first: each means that grade or
    more, so its risk never rises from one to the next.
    """

    display: str
    rule: Rule
    competing_set: str | None = Field(None, description="outcomes of one set share their hazard sum")
    ordered_set: str | None = Field(None, description="known at once: a grade of this set, lowest grade first")
    known_at_once: bool = False
    lookback_days: int = Field(0, ge=0, description="known at once: how far back a label counts")
    absent: Literal["unlabelled", "no"] = Field("unlabelled", description="known at once: meaning of no label")
    blanking_days: int | None = Field(None, ge=0, description="default: the study's; not for one known at once")
    threshold: float | None = Field(
        None, gt=0, lt=1, description="the risk at the longest horizon that reports look below; default: reference risk"
    )

    @model_validator(mode="after")
    def _what_applies(self) -> "Outcome":
        given = sorted(_KNOWN_AT_ONCE_ONLY & self.model_fields_set)
        if given and not self.known_at_once:
            raise ValueError(f"{', '.join(given)}: only for an outcome with known_at_once: true")
        if self.known_at_once and self.blanking_days is not None:
            raise ValueError("blanking_days: not for an outcome known at once, which has no follow-up")
        if self.competing_set and self.ordered_set:
            raise ValueError("give competing_set (exclusive classes) or ordered_set (grades), not both")
        return self

    @property
    def together(self) -> str | None:
        """The set that it belongs to; None = it stands alone."""
        return self.competing_set or self.ordered_set or None

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the defaults that do not apply: what is written reads back."""
        written: dict[str, Any] = write(self)
        left_out = frozenset() if self.known_at_once else _KNOWN_AT_ONCE_ONLY
        if self.ordered_set is None:
            left_out |= {"ordered_set"}
        return {key: value for key, value in written.items() if key not in left_out}


class Grades(Strict):
    """Short for ordered outcomes known at once: NAME_LEVEL = the value of the code is LEVEL or more, for each level."""

    codes: Annotated[tuple[str, ...], Field(min_length=1)]
    levels: Annotated[dict[int, str], Field(min_length=2)] = Field(description="lowest value of a grade -> display")
    lookback_days: int = Field(0, ge=0)
    absent: Literal["unlabelled", "no"] = "unlabelled"

    def outcomes(self, name: str) -> dict[str, Outcome]:
        """The outcomes that this stands for, lowest grade first."""
        return {
            f"{name}_{level}": Outcome(
                display=self.levels[level],
                rule=Rule(codes=self.codes, at_least=float(level)),
                known_at_once=True,
                ordered_set=name,
                lookback_days=self.lookback_days,
                absent=self.absent,
            )
            for level in sorted(self.levels)
        }


class Classes(Strict):
    """Short for exclusive outcomes known at once: NAME_VALUE = the text of the code is VALUE; others are none."""

    codes: Annotated[tuple[str, ...], Field(min_length=1)]
    values: Annotated[dict[str, str], Field(min_length=2)] = Field(description="text_value of a class -> display")
    lookback_days: int = Field(0, ge=0)
    absent: Literal["unlabelled", "no"] = "unlabelled"

    def outcomes(self, name: str) -> dict[str, Outcome]:
        """The outcomes that this stands for, in order."""
        return {
            f"{name}_{value}": Outcome(
                display=display,
                rule=Rule(codes=self.codes, values=(value,)),
                known_at_once=True,
                competing_set=name,
                lookback_days=self.lookback_days,
                absent=self.absent,
            )
            for value, display in self.values.items()
        }


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
    """Outcomes that are judged together: a competing set, an ordered set of grades, or one outcome alone.

    ordered: outcomes are grades, lowest first; cause j in data is the highest grade reached.
    causes: the outcomes in order, then "death" unless known at once. Cause index 0 in data means censored;
    cause j in data is causes[j - 1].
    blanking_days: who has an outcome of the group, dies or leaves within it after prediction_time is not in its risk
        set; 0 = everyone is.
    """

    name: str
    outcomes: tuple[str, ...]
    known_at_once: bool
    horizons_years: tuple[float, ...]
    blanking_days: int = 0
    ordered: bool = False

    def happened(self, cause: "NDArray[np.int8]", outcome: str) -> "NDArray[np.bool_]":
        """Whether an outcome came true by the group's causes: a grade also does where a higher one was reached."""
        number = self.outcomes.index(outcome) + 1
        return cause >= number if self.ordered else cause == number

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
    blanking_days: int = Field(
        0,
        ge=0,
        description="who has the outcome, dies or leaves within so many days after prediction_time teaches and judges "
        "nothing: what was under way when the risk was asked for is no prediction. Risk is then that of people still "
        "free, alive and observed at the window's end; horizons still count from prediction_time",
    )
    outcomes: dict[str, Outcome] = {}

    grades: dict[str, Grades] = Field({}, description="short for ordered outcomes; spelled out into `outcomes`")
    classes: dict[str, Classes] = Field({}, description="short for exclusive outcomes; spelled out into `outcomes`")

    @model_validator(mode="after")
    def _spelled_out(self) -> "OutcomesConfig":
        """Short forms become the outcomes that they stand for, so that all else knows one form only."""
        outcomes = dict(self.outcomes)
        for key, forms in (("grades", self.grades), ("classes", self.classes)):
            for name, form in forms.items():
                found = form.outcomes(name)
                twice = sorted(set(found) & set(outcomes))
                if twice:
                    raise ValueError(f"{key}.{name}: {', '.join(twice)} stands twice")
                outcomes |= found
        if not outcomes:
            raise ValueError("outcomes: give at least one, or grades or classes")
        self.__dict__.update(outcomes=outcomes, grades={}, classes={})
        return self

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        return {key: value for key, value in written.items() if key not in ("grades", "classes")}

    @model_validator(mode="after")
    def _consistent(self) -> "OutcomesConfig":
        timed = [name for name, outcome in self.outcomes.items() if not outcome.known_at_once]
        if timed and not self.horizons_years:
            raise ValueError(f"horizons_years is needed by {', '.join(timed)}")
        if list(self.horizons_years) != sorted(set(self.horizons_years)) or any(h <= 0 for h in self.horizons_years):
            raise ValueError("horizons_years must be positive and rising")
        for name in self.outcomes:
            if name == DEATH:
                raise ValueError('"death" is the name of the competing cause; call the outcome otherwise')
        self._refuse_names_of_two_groups()
        self._refuse_sets_that_differ()
        self._refuse_windows_that_do_not_fit()
        return self

    def _refuse_sets_that_differ(self) -> None:
        for group in self.groups:
            own = [self.outcomes[name] for name in group.outcomes]
            if len({one.known_at_once for one in own}) > 1:
                raise ValueError(f"{', '.join(group.outcomes)} are one set: all known at once, or none")
            if group.known_at_once and len({(one.lookback_days, one.absent) for one in own}) > 1:
                raise ValueError(f"{', '.join(group.outcomes)} are one set, so also their lookback_days and absent")
            if group.ordered:
                bounds = [one.rule.at_least for one in own if one.rule.codes == own[0].rule.codes]
                given = [bound for bound in bounds if bound is not None]
                if given != sorted(set(given)):
                    raise ValueError(
                        f"{', '.join(group.outcomes)} are grades: write them from the lowest to the highest"
                    )

    def _refuse_windows_that_do_not_fit(self) -> None:
        for group in self.groups:
            if len({self._window(name) for name in group.outcomes}) > 1:
                raise ValueError(f"{', '.join(group.outcomes)} share a risk set, so also their blanking_days")
            if group.blanking_days and group.blanking_days >= group.horizons_years[0] * _DAYS_PER_YEAR:
                raise ValueError(
                    f"blanking_days of {group.name} must be shorter than the first horizon, "
                    f"{group.horizons_years[0]:g} years"
                )

    def _window(self, outcome: str) -> int:
        own = self.outcomes[outcome]
        if own.known_at_once:
            return 0
        return self.blanking_days if own.blanking_days is None else own.blanking_days

    def without_blanking(self) -> "OutcomesConfig":
        """The same with no blanking window: everyone's follow-up as it was."""
        outcomes = {name: own.model_copy(update={"blanking_days": None}) for name, own in self.outcomes.items()}
        return self.model_copy(update={"blanking_days": 0, "outcomes": outcomes})

    def _refuse_names_of_two_groups(self) -> None:
        # A set with one outcome goes by the outcome's name, so `x: {competing_set: x}` alone is one group.
        for name in self.outcomes:
            members = [other for other, outcome in self.outcomes.items() if outcome.together == name]
            if members not in ([], [name]):
                raise ValueError(f"{name} is the name of an outcome and of a competing set of others; rename the set")
        names = [group.name for group in self.groups]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two groups of outcomes with one name: {', '.join(twice)}")

    @property
    def groups(self) -> tuple[RiskGroup, ...]:
        """Risk groups in the order in which their first outcome stands in the file."""
        members: dict[tuple[str | None, str | None, str], list[str]] = {}
        for name, outcome in self.outcomes.items():
            alone = "" if outcome.together else name
            members.setdefault((outcome.competing_set or None, outcome.ordered_set or None, alone), []).append(name)
        return tuple(
            RiskGroup(
                name=names[0] if len(names) == 1 else (self.outcomes[names[0]].together or names[0]),
                outcomes=tuple(names),
                known_at_once=self.outcomes[names[0]].known_at_once,
                horizons_years=(0.0,) if self.outcomes[names[0]].known_at_once else self.horizons_years,
                blanking_days=self._window(names[0]),
                ordered=self.outcomes[names[0]].ordered_set is not None and len(names) > 1,
            )
            for names in members.values()
        )
