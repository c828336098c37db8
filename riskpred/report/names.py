"""Readable names for codes, features, modalities, outcomes, reasons and flags, until configs/ carries display names.

Nothing is looked up in the data: a name is made from the code itself (`LAB//HDL:mean:1825d` -> "HDL cholesterol, mean
in 5 years"). The raw code stays beside it on the page, so that a name that reads badly can still be checked.
"""

import re

from riskpred.report.words import duration, figure

_AGGREGATES = {
    "last": "latest",
    "age_days": "days since the latest",
    "count": "how many",
    "mean": "mean",
    "slope": "change a year",
    "min": "lowest",
    "max": "highest",
    "ever": "ever",
    "first_age_days": "days since the first",
    "span_days": "days from first to latest",
}
_FEATURE = re.compile(
    r"(?P<code>.+?):(?P<aggregate>" + "|".join(_AGGREGATES) + r")(?::(?P<window>[0-9]{1,6}d?|all|null|None|))?",
    re.DOTALL,
)
_GROUP_WORDS = {
    "lab", "labs", "vital", "vitals", "measurement", "obs", "observation", "static", "code", "series", "diagnosis",
    "condition", "dx", "survey", "drug", "medication", "procedure",
}  # fmt: skip
_WHOLE = {
    "age_years": "Age",
    "days_since_entry": "Days since entry",
    "GENDER": "Sex",
    "SEX": "Sex",
    "image": "What the image shows",
    "MEDS_BIRTH": "Birth",
    "MEDS_DEATH": "Death",
}
_PICTURES = ("image",)
"""Features that are a picture: they have no number, and are not missing."""
_ABBREVIATIONS = {
    "hdl": "HDL cholesterol",
    "ldl": "LDL cholesterol",
    "chol": "cholesterol",
    "sbp": "systolic pressure",
    "dbp": "diastolic pressure",
    "hr": "heart rate",
    "bmi": "body mass index",
    "hba1c": "HbA1c",
    "egfr": "eGFR",
    "crp": "CRP",
    "wbc": "white cells",
    "spo2": "oxygen saturation",
    "alt": "ALT",
    "ast": "AST",
    "afib": "atrial fibrillation",
    "mi": "myocardial infarction",
}
_MODALITIES = {
    "tabular": "Single facts and values",
    "series": "Values over time",
    "image": "Image",
    "images": "Images",
    "labs": "Laboratory values",
    "vitals": "Vital signs",
    "xray": "X-ray",
}
_REMAINDERS = {
    "(presence)": "Which facts there are, and when",
    "(other)": "Smaller facts",
    "(unexplained)": "Unexplained",
    "(whole)": "As a whole",
    "(gap)": "Not accounted for",
}
_REASONS = {
    "not_entered": "no records yet at this date",
    "dead": "died before this date",
    "left": "no longer under observation at this date",
    "prevalent": (
        "already has this condition, or one it is counted together with: a first occurrence cannot be predicted"
    ),
    "age": "outside the age range that the model was made for, or age unknown",
    "no_usable_input": "none of the data that the model reads could be used",
}
_STATUSES = {
    "used": "used",
    "missing": "not there",
    "stale": "too old, not used",
    "rejected": "could not be read, not used",
}
_FLAGS = {
    "seen_in_training": (
        "The model was made from records that include this person's. The risk may agree with these records more "
        "closely than it would for someone new."
    ),
    "age_outside_training": (
        "Older or younger than the people the model was made from: nobody knows how well it does at this age."
    ),
    "age_unknown": (
        "The age is not known here, as it was for nearly everyone the model was made from. The interval may be too "
        "narrow."
    ),
    "horizon_beyond_follow_up": (
        "Hardly anyone the model was made from was followed for as long as the longest time shown here. A risk so far "
        "ahead is an extrapolation."
    ),
    "unlike_training": (
        "These records differ from those of nearly everyone the model was made from: a value, or a combination of "
        "values, that it hardly ever met. Check that the values are right; the interval may be too narrow."
    ),
    "availability_unseen": (
        "Hardly anyone the model was made from had just this combination of kinds of data (see the data used, below). "
        "The interval may be too narrow."
    ),
    "too_few_inputs": (
        "Far fewer facts went in than for nearly everyone the model was made from (see the data used, below). The risk "
        "says little about this person in particular."
    ),
}
_SEXES = {"m": "male", "male": "male", "f": "female", "female": "female"}


def code_name(code: str) -> str:
    """`LAB//HDL` -> "HDL cholesterol", `GENDER//*` -> "Sex", `LOINC//2093-3` -> "LOINC 2093-3"."""
    parts = [part for part in code.split("//") if part not in ("", "*")]
    if not parts:
        return code
    if parts[0] in _WHOLE and len(parts) == 1:
        return _WHOLE[parts[0]]
    if len(parts) > 1 and parts[0].lower() in _GROUP_WORDS:
        parts = parts[1:]
    return _capital(" ".join(_words(part) for part in parts))


def feature_name(feature: str) -> str:
    """Feature of `explanations` or `input_receipts` in words; remainder rows included."""
    if feature in _REMAINDERS:
        return _REMAINDERS[feature]
    if feature in _WHOLE:
        return _WHOLE[feature]
    match = _FEATURE.fullmatch(feature)
    if match is None:
        return f"{code_name(feature)} over time"  # a channel of a series is called by its code alone
    name, aggregate, window = code_name(match["code"]), match["aggregate"], match["window"]
    if name == "Sex":
        return name
    # The latest value comes with its own date: its window would only repeat it.
    in_window = window and window[0].isdigit() and aggregate != "last"
    return f"{name}, {_AGGREGATES[aggregate]}" + (f" in {_span(int(window.removesuffix('d')))}" if in_window else "")


def fact(feature: str, value: float | None, text_value: str | None, unit: str | None) -> str:
    """The value behind a feature with its unit: its category, else its number, else "missing"."""
    match = _FEATURE.fullmatch(feature)
    code, aggregate = (match["code"], match["aggregate"]) if match else (feature, None)
    if text_value is not None:
        sex = code_name(code) == "Sex"
        return _SEXES.get(text_value.rsplit("//", 1)[-1].lower(), text_value) if sex else text_value
    if value is None:
        return "see the picture" if feature in _PICTURES else "missing"
    return measured(value, "0/1" if aggregate == "ever" else unit)


def measured(value: float, unit: str | None) -> str:
    """A number with its unit: (26.39, "kg/m2") -> "26.39 kg/m2", (1, "events") -> "1 event", (1, "0/1") -> "yes"."""
    if unit == "0/1" and value in (0, 1):
        return "yes" if value else "no"
    if value == 1 and unit in ("events", "days", "years"):
        unit = unit.removesuffix("s")
    return f"{figure(value)}\u00a0{unit}" if unit else figure(value)


def feature_code(feature: str) -> str:
    """Code that a feature is made from; the feature itself where it has no aggregate."""
    match = _FEATURE.fullmatch(feature)
    return match["code"] if match else feature


def outcome_name(outcome: str) -> str:
    """`mental_health` -> "Mental health"."""
    return _capital(" ".join(_words(part) for part in outcome.split("//")))


def modality_name(modality: str) -> str:
    """Encoder's name in words."""
    return _MODALITIES.get(modality.lower(), outcome_name(modality))


def reason_words(reason: str | None) -> str:
    """Why someone was not scored."""
    return "no reason recorded" if reason is None else _REASONS.get(reason, reason)


def status_words(status: str) -> str:
    """Status of an input receipt."""
    return _STATUSES.get(status, status)


def flag_words(flag: str) -> str:
    """A scope flag as a sentence; an unknown one is shown as it stands."""
    return _FLAGS.get(flag, f"The model raised a warning that this page has no words for: {flag}")


def _words(part: str) -> str:
    if part.lower() in _ABBREVIATIONS:
        return _ABBREVIATIONS[part.lower()]
    words = part.replace("_", " ")
    return words.lower() if words.isupper() and len(words) > 5 else words


def _capital(words: str) -> str:
    return words if words.startswith("eGFR") else words[:1].upper() + words[1:]


def _span(days: int) -> str:
    """A window of features.yaml: 1825 -> "5 years" (365 days a year, as people write them)."""
    if days >= 365 and days % 365 == 0:
        return f"{days // 365}\u00a0year{'' if days == 365 else 's'}"
    return duration(days)
