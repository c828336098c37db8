"""Numbers and dates in words a clinician reads at a glance: percentages, risk points, people in a hundred, ages."""

import math
from datetime import datetime

NBSP = "\u00a0"
MINUS = "\u2212"
DAYS_PER_YEAR = 365.25
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def percent(share: float) -> str:
    """0.0912 -> "9.1 %"; below one percent with two decimals, so that a small risk keeps a digit."""
    return f"{_percent_digits(share)}{NBSP}%"


def percent_range(low: float, high: float) -> str:
    """(0.063, 0.125) -> "6.3 to 12.5 %"."""
    return f"{_percent_digits(low)} to {_percent_digits(high)}{NBSP}%"


def _percent_digits(share: float) -> str:
    value = 100 * share
    return f"{value:.1f}" if value >= 0.995 or value == 0 else f"{value:.2f}"


def points(value: float, decimals: int = 1) -> str:
    """Risk points with their sign: 2.06 -> "+2.1", -0.4 -> "−0.4"; what rounds to nothing has no sign."""
    digits = f"{abs(value):.{decimals}f}"
    if float(digits) == 0:
        return digits
    return f"{MINUS if value < 0 else '+'}{digits}"


def people(share: float, denominator: int) -> tuple[str, str]:
    """Natural frequency: how many of `denominator` have the event, how many do not.

    (0.0912, 100) -> ("9", "91"); what rounds to nobody is "fewer than 1", what rounds to all "more than 99".
    """
    count = nearest(share, denominator)
    if count == 0 and share > 0:
        return "fewer than 1", f"more than {denominator - 1}"
    if count == denominator and share < 1:
        return f"more than {denominator - 1}", "fewer than 1"
    return str(count), str(denominator - count)


def nearest(share: float, denominator: int) -> int:
    """`share` of `denominator` people, rounded half up."""
    return math.floor(share * denominator + 0.5)


def horizon(years: float) -> str:
    """10 -> "10 years", 0.5 -> "6 months", 30 / 365.25 -> "30 days", 0 -> "now"."""
    if years == 0:
        return "now"
    days = years * DAYS_PER_YEAR
    if abs(years - round(years)) < 0.005 and years >= 1:
        return _count(round(years), "year")
    if days < 85:
        return _count(max(1, round(days)), "day")
    months = years * 12
    return _count(round(months), "month") if abs(months - round(months)) < 0.1 else f"{years:.1f}{NBSP}years"


def within(years: float) -> str:
    """As part of a sentence: "within 10 years", "now"."""
    return "now" if years == 0 else f"within {horizon(years)}"


def age(days: float) -> str:
    """How old a fact is: "on the same day", "43 days before", "2.1 years before"."""
    if days < 1:
        return "on the same day"
    return f"{duration(days)} before"


def duration(days: float) -> str:
    """A span of days in the unit a person would use."""
    if days < 60:
        return _count(round(days), "day")
    if days < 2 * DAYS_PER_YEAR:
        return _count(round(days / (DAYS_PER_YEAR / 12)), "month")
    years = days / DAYS_PER_YEAR
    return f"{years:.0f}{NBSP}years" if years >= 10 else f"{years:.1f}{NBSP}years"


def date(iso: str | None) -> str:
    """ "2026-11-03T00:00:00Z" -> "3 Nov 2026"; None -> "not dated"."""
    if iso is None:
        return "not dated"
    moment = datetime.fromisoformat(iso[:19])
    return f"{moment.day}{NBSP}{_MONTHS[moment.month - 1]}{NBSP}{moment.year}"


def moment(iso: str) -> str:
    """ "2026-11-03T06:30:00Z" -> "3 Nov 2026, 06:30 UTC"."""
    return f"{date(iso)}, {iso[11:16]}{NBSP}UTC"


def figure(number: float) -> str:
    """A plain number, four significant digits after the whole part, no exponent: 0.0512345 -> "0.05123"."""
    if number == 0:
        return "0"
    digits = min(12, max(0, 3 - math.floor(math.log10(abs(number)))))
    shown = f"{number:.{digits}f}"
    shown = shown.rstrip("0").rstrip(".") if "." in shown else shown
    return shown.replace("-", MINUS)


def percentile(share: float) -> str:
    """Where the risk stands among the people that the model was checked on."""
    below = math.floor(share * 100)
    if below == 0:
        return "among the lowest 1 in 100"
    return f"higher than in {min(below, 99)} of 100"


def clip(text: str, length: int = 80) -> str:
    """`text` cut for drawings and cells, where a very long one would push everything else away."""
    return text if len(text) <= length else text[: length - 1] + "…"


def _count(n: int, unit: str) -> str:
    return f"{n}{NBSP}{unit}{'' if n == 1 else 's'}"
