"""Readable names for codes, features, modalities, outcomes, reasons and flags.

A code's name is that of the model card's words (see wordbook.py); where the card has none, one is made from the code
itself (`LAB//HDL:mean:1825d` -> "HDL cholesterol, mean in 5 years"), and nothing is looked up in the data. The raw code
stays beside it on the page, so that a name that reads badly can still be checked.
"""

import math
import re
from typing import Any

from riskpred.report.language import text
from riskpred.report.lesion_words import LesionWords
from riskpred.report.radiomics_words import radiomics_name
from riskpred.report.wordbook import WordBook
from riskpred.report.words import Words

_AGGREGATES = {
    "last": text("latest"),
    "age_days": text("days since the latest"),
    "count": text("how many"),
    "mean": text("mean"),
    "slope": text("change a year"),
    "min": text("lowest"),
    "max": text("highest"),
    "ever": text("ever"),
    "first_age_days": text("days since the first"),
    "span_days": text("days from first to latest"),
    "change": text("change since the one before"),
}
_FEATURE = re.compile(
    r"(?P<code>.+?):(?P<aggregate>" + "|".join(_AGGREGATES) + r")(?::(?P<window>[0-9]{1,6}d?|all|null|None))?",
    re.DOTALL,
)
_GROUP_WORDS = {
    "lab", "labs", "vital", "vitals", "measurement", "obs", "observation", "static", "code", "series", "diagnosis",
    "condition", "dx", "survey", "drug", "medication", "procedure",
}  # fmt: skip
_WHOLE = {
    "age_years": text("Age"),
    "days_since_entry": text("Days since entry"),
    "GENDER": text("Sex"),
    "SEX": text("Sex"),
    "image": text("What the image shows"),
    "MEDS_BIRTH": text("Birth"),
    "MEDS_DEATH": text("Death"),
}
AGE = "age_years"
"""The built-in feature of someone's age."""
_SEX = ("GENDER", "SEX")
_PICTURES = ("image",)
"""Features that are a picture: they have no number, and are not missing."""
_ABBREVIATIONS = {
    "hdl": text("HDL cholesterol"),
    "ldl": text("LDL cholesterol"),
    "chol": text("cholesterol"),
    "sbp": text("systolic pressure"),
    "dbp": text("diastolic pressure"),
    "hr": text("heart rate"),
    "bmi": text("body mass index"),
    "hba1c": text("HbA1c"),
    "egfr": text("eGFR"),
    "crp": text("CRP"),
    "wbc": text("white cells"),
    "spo2": text("oxygen saturation"),
    "alt": text("ALT"),
    "ast": text("AST"),
    "afib": text("atrial fibrillation"),
    "mi": text("myocardial infarction"),
}
_MODALITIES = {
    "tabular": text("Single facts and values"),
    "series": text("Values over time"),
    "image": text("Image"),
    "images": text("Images"),
    "labs": text("Laboratory values"),
    "vitals": text("Vital signs"),
    "xray": text("X-ray"),
    "findings": text("Findings in images"),
    "radiomics": text("Measured in images"),
    "omics": text("Genes and molecular tests"),
    "activity": text("Activity"),
    "static": text("Facts that do not change"),
    "labs_series": text("Laboratory values over time"),
    "vitals_series": text("Vital signs over time"),
}
_REMAINDERS = {
    "(presence)": text("Records like these, with typical values"),
    "(other)": text("Smaller facts"),
    "(unexplained)": text("Unexplained"),
    "(whole)": text("As a whole"),
    "(gap)": text("Not accounted for"),
}
_REASONS = {
    "not_entered": text("no records yet at this date"),
    "dead": text("died before this date"),
    "left": text("no longer under observation at this date"),
    "prevalent": text(
        "already has this condition, or one it is counted together with: a first occurrence cannot be predicted"
    ),
    "age": text("outside the age range that the model was made for, or age unknown"),
    "no_usable_input": text("none of the data that the model reads could be used"),
}
_STATUSES = {
    "used": text("used"),
    "missing": text("not there"),
    "stale": text("too old, not used"),
    "rejected": text("could not be read, not used"),
}
_FLAGS = {
    "seen_in_training": text(
        "The model was made from records that include this person's. The risk may agree with these records more "
        "closely than it would for someone new."
    ),
    "age_outside_training": text(
        "Older or younger than the people the model was made from: nobody knows how well it does at this age."
    ),
    "age_unknown": text(
        "The age is not known here, as it was for nearly everyone the model was made from. The interval may be too "
        "narrow."
    ),
    "horizon_beyond_follow_up": text(
        "Hardly anyone the model was made from was followed for as long as the longest time shown here. A risk so far "
        "ahead is an extrapolation."
    ),
    "unlike_training": text(
        "These records differ from those of nearly everyone the model was made from: a value, or a combination of "
        "values, that it hardly ever met. Check that the values are right; the interval may be too narrow."
    ),
    "availability_unseen": text(
        "Hardly anyone the model was made from had just this combination of kinds of data (see the data used, below). "
        "The interval may be too narrow."
    ),
    "too_few_inputs": text(
        "Far fewer facts went in than for nearly everyone the model was made from (see the data used, below). The risk "
        "says little about this person in particular."
    ),
}
_FLAGS_SHORT = {
    "seen_in_training": text("Seen in training"),
    "age_outside_training": text("Age outside training"),
    "age_unknown": text("Age unknown"),
    "horizon_beyond_follow_up": text("Horizon beyond follow up"),
    "unlike_training": text("Unlike training"),
    "availability_unseen": text("Availability unseen"),
    "too_few_inputs": text("Too few inputs"),
}
_SEXES = {"male": text("male"), "female": text("female")}
_UNITS = {
    "years": text("years"),
    "days": text("days"),
    "events": text("events"),
    "lesions": text("lesions"),
    "pixels": text("pixels"),
}
_A_YEAR = " per year"  # of a slope (config/features.py)
_ONE_UNIT = {"years": text("year"), "days": text("day"), "events": text("event"), "lesions": text("lesion")}
OUTCOMES = (
    text("Cardiovascular disease"),
    text("Cancer"),
    text("Mental illness"),
    text("Heart attack, fatal coronary disease or stroke"),
    text("Heart attack, stroke, heart failure or atrial fibrillation"),
    text("Recurrence or death"),
    text("In intensive care by the day of the first chest X-ray"),
    text("Death of any cause"),
    text("Death of heart disease"),
    text("Death of cancer"),
    text("Depression now (PHQ-9 of 10 or more)"),
    text("Death in hospital"),
)
"""Names of outcomes in packaged studies (configs/studies), which their YAML gives in English."""
EQUATIONS = (text("PREVENT total CVD"), text("Pooled cohort equations"))
_EQUATION = re.compile(r"(?P<name>.+), (?P<years>\d{1,2}) years", re.DOTALL)
_AGED = re.compile(
    r"(?P<who>women|men|people)(?: under (?P<below>\d{1,3})| aged (?P<low>\d{1,3})(?: to (?P<high>\d{1,3})| and over))?"
)
_WHO = {"women": text("women"), "men": text("men"), "people": text("people")}


class Names(LesionWords):
    """Names in one language, for the people of one run.

    Args: words: of the language.   card: the run's model card.
    """

    def __init__(self, words: Words, card: dict[str, Any] | None = None) -> None:
        self.words, self.book = words, WordBook(card or {})
        displays = (card or {}).get("outcomes")
        self._displays = displays if isinstance(displays, dict) else {}
        self.say, self._language = words.say, words.language.code

    def code(self, code: str) -> str:
        """`LAB//HDL` -> "HDL cholesterol", `GENDER//*` -> "Sex", `LOINC//2093-3` -> "LOINC 2093-3"."""
        known = self._known(code) or self.finding(code) or radiomics_name(self.words, code)
        if known:
            return known
        parts = [part for part in code.split("//") if part not in ("", "*")]
        if not parts:
            return code
        if parts[0] in _WHOLE and len(parts) == 1:
            return self.say(_WHOLE[parts[0]])
        if len(parts) > 1 and parts[0].lower() in _GROUP_WORDS:
            parts = parts[1:]
        return _capital(" ".join(self._part(part) for part in parts))

    def feature(self, feature: str) -> str:
        """Feature of `explanations` or `input_receipts` in words; remainder rows included."""
        if feature in _REMAINDERS:
            return self.say(_REMAINDERS[feature])
        known = self._known(feature)
        match = _FEATURE.fullmatch(feature)
        if match is None:
            if feature in _WHOLE:
                return known or self.say(_WHOLE[feature])
            return self.say("%(name)s over time", name=self.code(feature))  # a channel is called by its code alone
        if known:
            return known
        name, aggregate, window = self.code(match["code"]), match["aggregate"], match["window"]
        if is_sex(match["code"]):
            return name
        how = self.say(_AGGREGATES[aggregate])
        # The latest value comes with its own date: its window would only repeat it.
        if window and window[0].isdigit() and aggregate != "last":
            span = self.words.span(int(window.removesuffix("d")))
            return self.say("%(name)s, %(how)s in %(span)s", name=name, how=how, span=span)
        return self.say("%(name)s, %(how)s", name=name, how=how)

    def fact(self, feature: str, value: float | None, text_value: str | None, unit: str | None) -> str:
        """The value behind a feature with its unit: its category, else its number, else "missing"."""
        code, aggregate = feature_parts(feature)
        if text_value is not None:
            sex = sex_of(text_value) if is_sex(code) else None
            return self.book.value(code, text_value, self._language) or (self.say(_SEXES[sex]) if sex else text_value)
        if value is None:
            return self.say("see the picture") if feature in _PICTURES else self.say("missing")
        if feature == AGE:
            value = math.floor(value)  # as people say their age
        return self.measured(value, "0/1" if aggregate == "ever" else unit, feature)

    def measured(self, value: float, unit: str | None, feature: str = "") -> str:
        """A number with its unit: (26.39, "kg/m2") -> "26.39 kg/m2", (1, "events") -> "1 event", (1, "0/1") -> yes."""
        if unit == "0/1" and value in (0, 1):
            return self.say("yes") if value else self.say("no")
        if unit == "0/1" and 0 < value < 1:  # the mean of several
            return self.say("yes in %(share)s of entries", share=self.words.percent(value))
        shown = self.unit(unit, feature_code(feature), value)
        figure = self.words.figure(value)
        return self.say("%(number)s\u00a0%(unit)s", number=figure, unit=shown) if shown else figure

    def usual(self, usual: dict[str, float | None]) -> str:
        """A usual range: "usual range 90–140", "usual below 5.2"."""
        low, high = (None if end is None else self.words.figure(end) for end in (usual["low"], usual["high"]))
        if low is None:
            return self.say("usual up to %(high)s", high=high)
        if high is None:
            return self.say("usual at least %(low)s", low=low)
        return self.say("usual range %(low)s–%(high)s", low=low, high=high)

    def direction(self, feature: str, side: str) -> str:
        """The word for a value `above` or `below` its usual range."""
        known = self.book.direction(feature_code(feature), side == "above", self._language)
        return known or (self.say("high") if side == "above" else self.say("low"))

    def absent(self, feature: str) -> str:
        """A feature that is missing: "no LDL cholesterol in 3 years"."""
        match = _FEATURE.fullmatch(feature)
        name = lower_first(self.code(match["code"] if match else feature))
        window = (match["window"] or "") if match else ""
        if window[:1].isdigit():
            return self.say("no %(name)s in %(span)s", name=name, span=self.words.span(int(window.removesuffix("d"))))
        return self.say("no %(name)s on record", name=name)

    def people_alike(self, group: dict[str, Any]) -> str:
        """A group of `standing`: everyone, one sex, one age band."""
        if group["who"] == "everyone":
            return self.say("everyone")
        if group["who"] == "sex":
            return self.say("women") if group["sex"] == "female" else self.say("men")
        low, below = group["age_from"], group["age_below"]
        if low is None:
            return self.say("aged under %(age)s", age=f"{below or 0:g}")
        if below is None:
            return self.say("aged %(age)s or over", age=f"{low:g}")
        return self.say("aged %(low)s to %(high)s", low=f"{low:g}", high=f"{below - 1:g}")

    def both(self, texts: dict[str, str]) -> str:
        """A text that came with the data in several languages."""
        return texts.get(self._language) or texts["en"]

    def equation(self, equation: str) -> str:
        """Name of a published equation, its span in words: "PREVENT total CVD, 10 years"."""
        match = _EQUATION.fullmatch(equation)
        if not match:
            return self.words.language.known(equation)
        name = self.words.language.known(match["name"])
        return self.say("%(name)s, %(how)s", name=name, how=self.words.horizon(float(match["years"])))

    def input(self, entry: dict[str, Any]) -> str:
        """Name of an input of a published equation: its label, else made from its name or code."""
        return self.both(entry["label"]) if entry["label"] else self.code(entry["name"])

    def changed(self, feature: str) -> str:
        """What would have to change: a feature, or a code whose every feature changes with it."""
        return self.feature(feature) if _FEATURE.fullmatch(feature) else self.code(feature)

    def input_value(self, entry: dict[str, Any]) -> str:
        """Value of an input of a published equation."""
        return self.fact(entry["name"], entry["value"], entry["text_value"], entry["unit"])

    def unit(self, unit: str | None, code: str = "", value: float | None = None) -> str:
        """A unit as it is written; the card's way where it has one for the code."""
        if not unit:
            return ""
        known = self.book.unit(code, unit, self._language) if not (unit in _ONE_UNIT and value == 1) else None
        if known is not None:
            return known
        if unit.endswith(_A_YEAR):
            return self.say("%(unit)s per year", unit=self.unit(unit.removesuffix(_A_YEAR), code))
        table = _ONE_UNIT if value == 1 else _UNITS
        return self.say(table[unit]) if unit in table else unit

    def outcome(self, one: dict[str, Any]) -> str:
        """An outcome's name in words: the model card's, else made from its code."""
        display = one.get("display")
        known = self.book.outcome(one["outcome"], self._language)
        if isinstance(display, str):
            return display if self._language == "en" else known or self.words.language.known(display)
        return known or self.outcome_name(one["outcome"])

    def titled(self, outcome: str) -> str:
        """As `outcome`, from its code alone."""
        return self.outcome({"outcome": outcome, "display": self._displays.get(outcome)})

    def outcome_name(self, outcome: str) -> str:
        """`mental_health` -> "Mental health"."""
        return _capital(" ".join(self._part(part) for part in outcome.split("//")))

    def modality(self, modality: str) -> str:
        """Encoder's name in words."""
        known = _MODALITIES.get(modality.lower())
        return self.say(known) if known else self.outcome_name(modality)

    def group(self, group: str) -> str:
        """A group of the card's words, whose members are told together."""
        return self.book.group_name(group, self._language) or self.outcome_name(group)

    def reference_group(self, group: str) -> str:
        """ "women aged 50 to 59", "men, age not known", "everyone" in this language; another one as it stands."""
        if group == "everyone":
            return self.say("everyone")
        who, _, unknown = group.partition(", ")
        match = _AGED.fullmatch(who)
        if not match or unknown not in ("", "age not known"):
            return group
        people = self.say(_WHO[match["who"]])
        if match["below"]:
            people = self.say("%(who)s under %(age)s", who=people, age=match["below"])
        elif match["high"]:
            people = self.say("%(who)s aged %(low)s to %(high)s", who=people, low=match["low"], high=match["high"])
        elif match["low"]:
            people = self.say("%(who)s aged %(age)s and over", who=people, age=match["low"])
        return self.say("%(who)s, age not known", who=people) if unknown else people

    def reason(self, reason: str | None) -> str:
        """Why someone was not scored."""
        if reason is None:
            return self.say("no reason recorded")
        return self.say(_REASONS[reason]) if reason in _REASONS else reason

    def status(self, status: str) -> str:
        """Status of an input receipt."""
        return self.say(_STATUSES[status]) if status in _STATUSES else status

    def flag(self, flag: str) -> str:
        """A scope flag as a sentence; an unknown one is shown as it stands."""
        if flag in _FLAGS:
            return self.say(_FLAGS[flag])
        return self.say("The model raised a warning that this page has no words for: %(flag)s", flag=flag)

    def flag_short(self, flag: str) -> str:
        """A scope flag in two or three words."""
        return self.say(_FLAGS_SHORT[flag]) if flag in _FLAGS_SHORT else self.outcome_name(flag)

    def _known(self, key: str) -> str | None:
        return self.book.name(key, self._language)

    def _part(self, part: str) -> str:
        if part.lower() in _ABBREVIATIONS:
            return self.say(_ABBREVIATIONS[part.lower()])
        words = part.replace("_", " ")
        return words.lower() if words.isupper() and len(words) > 5 else words


def feature_parts(feature: str) -> tuple[str, str | None]:
    """Code and aggregate that a feature is made from; the feature itself and None where it has no aggregate."""
    match = _FEATURE.fullmatch(feature)
    return (match["code"], match["aggregate"]) if match else (feature, None)


def feature_code(feature: str) -> str:
    """Code that a feature is made from; the feature itself where it has no aggregate."""
    return feature_parts(feature)[0]


def is_sex(code: str) -> bool:
    """Whether a code is the person's sex."""
    parts = [part for part in code.split("//") if part not in ("", "*")]
    return len(parts) == 1 and parts[0].upper() in _SEX


def sex_of(category: str | None) -> str | None:
    """The category of a sex code as female or male; None for another one."""
    word = (category or "").rsplit("//", 1)[-1].lower()
    return {"m": "male", "male": "male", "f": "female", "female": "female"}.get(word)


def lower_first(shown: str) -> str:
    """A name within a sentence: "Smoking" -> "smoking"; "LDL cholesterol", "HbA1c" stay."""
    word = shown.split(" ", 1)[0]
    return word.lower() + shown[len(word) :] if word[1:].islower() else shown


def _capital(words: str) -> str:
    return words if words.startswith("eGFR") else words[:1].upper() + words[1:]
