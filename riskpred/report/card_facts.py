"""What riskpred itself can say for each item of a model card, from the card of the bundle and its evaluations.

A card comes from outside as JSON: an entry that is absent or of an unexpected shape gives no text, and nothing here
raises. What only people can know (funding, ethics, ...) is never made up: its item is simply not in the answer.
"""

from collections.abc import Iterable
from typing import Any, Final, TypeGuard

from riskpred.report.card_figures import Figures
from riskpred.report.entries import number_in
from riskpred.report.language import text
from riskpred.report.names import Names

_DEMOGRAPHIC: Final = {"sex": ("GENDER//", "SEX"), "birth": ("age_years", "MEDS_BIRTH")}
MOST_MISSING: Final = 5
KNOWN: Final = (
    text(
        "Judged on this site's data only: run `riskpred evaluate` on held-out subjects before use, and again where "
        "patients or practice differ."
    ),
)
"""Sentences of every bundle's card, beside those of about.py."""


class Facts:
    """Texts of one card in one language. evaluations: as `card["evaluation"]`, newest last."""

    def __init__(self, card: dict[str, Any], evaluations: list[dict[str, Any]], names: Names) -> None:
        self.card, self.names, self.words, self.say = card, names, names.words, names.words.say
        self.figures = Figures(names, _dict(card.get("outcomes")))
        self.trained, self.people = _dict(card.get("trained_on")), _dict(card.get("participants"))
        self.defined = _dict(card.get("outcome_definitions"))
        self.site = _text(self.trained.get("site"))
        self.inside = [one for one in evaluations if one.get("site") == self.site]
        self.outside = [one for one in evaluations if one.get("site") != self.site]
        self.newest = evaluations[-1:]

    def tripod_ai(self) -> dict[str, str | None]:
        """Item -> what riskpred knows of it."""
        say, method = self.say, self._known("method")
        return {
            "title": self._title(),
            "abstract": _joined([self._numbers(), self._performance(self.newest)]),
            "target_population": _joined([self._known("intended_use"), self._ages()]),
            "objectives": self._objectives(),
            "data_sources": self._sources(),
            "dates": self._dates(),
            "setting": say("One site: %(site)s.", site=self.site) if self.site else None,
            "eligibility": self._eligibility(),
            "data_preparation": say(
                "Mapped to codes, units and times by `riskpred ingest`, every fact accounted for; refused rows are "
                "counted by reason in `rejects`."
            ),
            "outcome_definition": self._outcomes(),
            "predictor_choice": say(
                "The inputs are those that the study names; none was chosen by its association with the outcome in "
                "these data."
            ),
            "predictor_definitions": self._predictors(),
            "sample_size": _joined(
                [say("No size was calculated: everyone eligible was used."), self._numbers()] if self.trained else []
            ),
            "missing_data": _joined(
                [
                    say("What is missing is not imputed: it is marked, and the mark is read as an input."),
                    self._missing(),
                ]
            ),
            "data_use": say(
                "Train and tuning people made and calibrated the model (cross-fitted); held-out people only judge it."
            ),
            "predictor_handling": method,
            "model_building": method,
            "clusters": self._clusters(),
            "performance_measures": say(
                "Discrimination: Uno’s C, or the AUC where the outcome is known at once. Calibration: observed over "
                "expected, calibration in the large, slope, ICI beside the floor that exactly true risks would show. "
                "Accuracy: Brier score, IPA. Intervals hold 90 %% (bootstrap by subject); death competes."
            ),
            "updating_method": self._updated(),
            "predictions_made": say("`riskpred score` computes every risk from the bundle, with the same code."),
            "class_imbalance": say(
                "Nothing was resampled or reweighted; risks are calibrated on people left out of the fit."
            ),
            "fairness": self._fairness_process(),
            "model_output": self._output(),
            "training_versus_evaluation": self._versus(),
            "code_sharing": self._code(),
            "flow": self._numbers(),
            "characteristics": _joined([self._characteristics(), self._missing()]),
            "numbers": _joined([self._numbers(), *(self._evaluated(one) for one in self.newest)]),
            "specification": say(
                "The bundle holds the whole model: configuration, weights, calibration, each file with its SHA-256."
            ),
            "performance": _joined([self._performance(self.newest), self._by_group(self.newest)]),
            "heterogeneity": self._performance(self.outside),
            "updating_results": self._updated(),
            "limitations": _joined([self._known("limits"), self._known("cautions")]),
            "poor_inputs": say(
                "What cannot be read is refused with a reason and counted as missing; a missing kind of data is left "
                "out of the risk; warnings beside a risk say when too little went in or a person is unlike those in "
                "training."
            ),
            "user_interaction": say(
                "Nobody enters anything: the model reads the tables. Users read one page a person."
            ),
            "next_steps": self._known("before_use"),
        }

    def hti_1(self) -> dict[str, str | None]:
        """Attribute -> what riskpred knows of it."""
        say = self.say
        outside = say("None was made.") if not self.outside and self.newest else None
        return {
            "output_value": self._output(),
            "output_type": say("Prediction: a probability."),
            "intended_use": self._known("intended_use"),
            "intended_population": _joined([self._eligibility(), self._ages()]),
            "decision_role": say("Informs; it does not replace the judgement of those who care for a person."),
            "cautioned_use": _joined(
                [
                    say("Not a diagnosis. A risk with a warning beside it lies outside what the model was made for."),
                    self._known("cautions"),
                ]
            ),
            "known_risks": self._known("limits"),
            "training_criteria": self._eligibility(),
            "demographic_inputs": self._demographic_inputs(),
            "training_representativeness": self._characteristics(),
            "training_relevance": self._known("before_use"),
            "fairness_approach": self._fairness_process(),
            "external_source": _joined(self._evaluated(one) for one in self.outside) or outside,
            "external_process": (
                say("`riskpred evaluate` on people of another site, none of whom trained the model.")
                if self.outside
                else outside
            ),
            "internal_validity": self._performance(self.inside),
            "internal_fairness": self._by_group(self.inside),
            "external_validity": self._performance(self.outside) or outside,
            "external_fairness": self._by_group(self.outside) or outside,
            "validity_monitoring": say(
                "`riskpred monitor` sets each published risk beside what followed, as soon as the data reach its "
                "horizon; every night compares its inputs and risks with training. How often it is read is for the "
                "site to say."
            ),
            "local_validity": self._performance(self.newest),
            "local_fairness": self._by_group(self.newest),
            "update_process": self._updated(),
        }

    def _known(self, key: str) -> str | None:
        """A sentence of the card, or several; translated where every bundle has it."""
        entry = self.card.get(key)
        parts = [entry] if isinstance(entry, str) else [one for one in _list(entry) if isinstance(one, str)]
        return " ".join(self.words.language.known(part) for part in parts if part.strip()) or None

    def _title(self) -> str | None:
        outcomes = [self._outcome(name) for name in _dict(self.card.get("outcomes"))]
        if not outcomes:
            return None
        return self.say("Development and evaluation of a prediction model: %(outcomes)s.", outcomes=", ".join(outcomes))

    def _outcome(self, name: str) -> str:
        return self.figures.outcome(name)

    def _objectives(self) -> str:
        done = [self.say("Development (`riskpred fit`).")]
        done += [self.say("Evaluation: %(where)s.", where=self.figures.where(one)) for one in self.newest]
        return " ".join(done)

    def _sources(self) -> str | None:
        name = _text(self.card.get("name"))
        if not (self.site and name):
            return None
        return self.say("Records of the site %(site)s, read as the study %(name)s says.", site=self.site, name=name)

    def _dates(self) -> str | None:
        period = _dict(self.card.get("period"))
        times, until = _list(period.get("prediction_times")), _text(period.get("followed_until"))
        if len(times) != 2 or not until:
            return None
        return self.say(
            "Predictions from %(first)s to %(last)s; followed until %(until)s.",
            first=str(times[0]),
            last=str(times[1]),
            until=until,
        )

    def _ages(self) -> str | None:
        ages = _list(self.defined.get("age_years"))
        if len(ages) != 2 or not any(ages):
            return None
        low, high = (self.words.figure(age) if number_in(age) is not None else "…" for age in ages)
        return self.say("Ages %(low)s to %(high)s.", low=low, high=high)

    def _eligibility(self) -> str | None:
        if not self.defined:
            return None
        entry = ", ".join(str(code) for code in _list(self.defined.get("entry_codes")))
        leaving = ", ".join(str(code) for code in _list(self.defined.get("leaving_codes")))
        parts = [
            self.say("Entered (%(codes)s), alive, under observation and free of the outcome.", codes=entry)
            if entry
            else self.say("With a dated record, alive, under observation and free of the outcome.")
        ]
        if leaving:
            parts.append(self.say("Left: %(codes)s.", codes=leaving))
        parts.append(self._ages() or self.say("Any age."))
        return " ".join(parts)

    def _outcomes(self) -> str | None:
        found = []
        for name, entry in _dict(self.defined.get("outcomes")).items():
            one = _dict(entry)
            rule = _dict(one.get("rule"))
            codes = ", ".join(str(code) for code in _list(rule.get("codes")))
            bounds = [
                f" {sign} {self.words.figure(value)}"
                for key, sign in (("at_least", "≥"), ("at_most", "≤"))
                if (value := number_in(rule.get(key))) is not None
            ]
            spans = [0.0] if one.get("known_at_once") else [
                years for years in map(number_in, _list(self.defined.get("horizons_years"))) if years is not None
            ]  # fmt: skip
            when = ", ".join(self.words.within(years) for years in spans)
            found.append(
                self.say(
                    "%(outcome)s, %(when)s: %(codes)s%(bounds)s.",
                    outcome=self._outcome(name),
                    when=when,
                    codes=codes,
                    bounds="".join(bounds),
                )
            )
        return " ".join(found) or None

    def _features(self) -> list[dict[str, Any]]:
        return [one for one in map(_dict, _list(self.people.get("features"))) if isinstance(one.get("name"), str)]

    def _predictors(self) -> str | None:
        by_modality: dict[str, list[str]] = {str(name): [] for name in _dict(self.card.get("modalities"))}
        for one in self._features():
            unit = _text(one.get("unit"))
            named = self.names.feature(one["name"])
            by_modality.setdefault(str(one.get("modality")), []).append(f"{named} ({unit})" if unit else named)
        found = [
            f"{self.names.modality(name)}: {', '.join(inputs)}." if inputs else f"{self.names.modality(name)}."
            for name, inputs in by_modality.items()
        ]
        return " ".join(found) or None

    def _missing(self) -> str | None:
        known = [(share, one) for one in self._features() if (share := number_in(one.get("missing"))) is not None]
        most = sorted((pair for pair in known if pair[0] > 0), key=lambda pair: (-pair[0], pair[1]["name"]))
        if not known:
            return None
        if not most:
            return self.say("Nothing was missing in training.")
        listed = ", ".join(
            f"{self.names.feature(one['name'])} {self.words.percent(share)}" for share, one in most[:MOST_MISSING]
        )
        return self.say("Most often missing in training: %(listed)s.", listed=listed)

    def _numbers(self) -> str | None:
        parts = []
        for name, entry in _dict(self.trained.get("outcomes")).items():
            people, events = (_whole(_dict(entry).get(key)) for key in ("subjects", "events"))
            if people is not None and events is not None:
                parts.append(
                    self.say(
                        "%(outcome)s in %(events)s of %(people)s people.",
                        outcome=self._outcome(name),
                        events=self.words.integer(events),
                        people=self.words.integer(people),
                    )
                )
        return self.say("Made from: %(counts)s", counts=" ".join(parts)) if parts else None

    def _characteristics(self) -> str | None:
        parts = []
        age = {key: number_in(value) for key, value in _dict(self.people.get("age")).items()}
        if age.get("mean") is not None and age.get("sd") is not None:
            parts.append(
                self.say(
                    "Age %(mean)s years on average, standard deviation %(sd)s.",
                    mean=self._short(age["mean"]),
                    sd=self._short(age["sd"]),
                )
            )
        for label, shares in (("sex", self.say("Sex")), ("patterns", self.say("Kinds of data"))):
            given = {str(k): s for k, v in _dict(self.people.get(label)).items() if (s := number_in(v)) is not None}
            if given:
                listed = ", ".join(f"{name} {self.words.percent(share)}" for name, share in given.items())
                parts.append(f"{shares}: {listed}.")
        return " ".join(parts) or None

    def _short(self, number: float | None) -> str:
        return "" if number is None else self.words.language.decimal(f"{number:.1f}")

    def _clusters(self) -> str | None:
        return (
            self.say("People of one site were used: no difference between sites is in the model.")
            if self.site
            else None
        )

    def _updated(self) -> str:
        entries = [_dict(entry) for entry in _list(self.card.get("recalibrated"))]
        sites = [site for entry in entries if (site := _text(entry.get("site")))]
        if not sites:
            return self.say("Not updated since it was made.")
        return self.say("Recalibrated to the people of: %(sites)s.", sites=", ".join(sites))

    def _fairness_process(self) -> str:
        return self.say(
            "Discrimination and calibration are measured by sex and age band each time the model is evaluated (see the "
            "figures); nothing in the fit forces groups to be equal."
        )

    def _output(self) -> str | None:
        horizons = {number_in(one[1]) for one in self._targets()}
        spans = [self.words.within(years) for years in sorted(filter(_is_number, horizons))]
        if not spans:
            return None
        return self.say(
            "For each outcome the probability of a first event (%(spans)s), with a 90 %% interval and its reasons in "
            "risk points. No threshold is set.",
            spans=", ".join(spans),
        )

    def _targets(self) -> list[list[Any]]:
        return [one for one in map(_list, _list(self.card.get("targets"))) if len(one) == 2]

    def _versus(self) -> str | None:
        if not self.newest:
            return None
        if self.inside and self.newest[0] is self.inside[-1]:
            return self.say("Evaluated on other people of the same site; by chance alone they differ.")
        return self.say("Evaluated on people of another site; `riskpred evaluate --external` shows how they differ.")

    def _code(self) -> str | None:
        version = _text(self.card.get("riskpred_version"))
        return self.say("riskpred %(version)s, Apache-2.0.", version=version) if version else None

    def _demographic_inputs(self) -> str | None:
        if not self._features():
            return None
        used = [one["name"] for one in self._features()]
        said = {
            kind: self.say("yes") if any(name.startswith(starts) for name in used) else self.say("no")
            for kind, starts in _DEMOGRAPHIC.items()
        }
        return self.say(
            "Sex: %(sex)s. Date of birth, as age: %(birth)s. The others have no code that riskpred knows: see the "
            "predictors.",
            **said,
        )

    def _evaluated(self, one: dict[str, Any]) -> str:
        return self.say("Evaluated: %(where)s.", where=self.figures.where(one))

    def _performance(self, evaluations: list[dict[str, Any]]) -> str | None:
        return _joined(self.figures.sentence(one) for one in evaluations)

    def _by_group(self, evaluations: list[dict[str, Any]]) -> str | None:
        return _joined(self.figures.groups_sentence(one) for one in evaluations)


def _joined(parts: Iterable[str | None]) -> str | None:
    return " ".join(part for part in parts if part) or None


def _dict(entry: object) -> dict[str, Any]:
    return entry if isinstance(entry, dict) else {}


def _list(entry: object) -> list[Any]:
    return entry if isinstance(entry, list) else []


def _text(entry: object) -> str | None:
    return entry if isinstance(entry, str) and entry.strip() else None


def _is_number(entry: float | None) -> TypeGuard[float]:
    return entry is not None


def _whole(entry: object) -> int | None:
    return entry if isinstance(entry, int) and not isinstance(entry, bool) else None
