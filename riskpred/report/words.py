"""Numbers and dates in words a clinician reads at a glance: percentages, risk points, people in a hundred, ages."""

import math
from datetime import datetime

from riskpred.report.language import Language

NBSP = "\u00a0"
MINUS = "\u2212"
DAYS_PER_YEAR = 365.25


class Words:
    """The words of one language."""

    def __init__(self, language: Language) -> None:
        self.language = language
        self.say, self.say_count, self.integer = language.say, language.say_count, language.integer

    def percent(self, share: float) -> str:
        """0.0912 -> "9.1 %"; below one percent with two decimals, so that a small risk keeps a digit."""
        return self.say("%(number)s\u00a0%%", number=self._percent_digits(share))

    def percent_range(self, low: float, high: float) -> str:
        """(0.063, 0.125) -> "6.3 to 12.5 %"."""
        return self.say("%(low)s to %(high)s\u00a0%%", low=self._percent_digits(low), high=self._percent_digits(high))

    def tick(self, share: float) -> str:
        """A label of a risk axis: 0.05 -> "5 %"."""
        return self.say("%(number)s\u00a0%%", number=self.language.decimal(f"{100 * share:g}"))

    def _percent_digits(self, share: float) -> str:
        value = 100 * share
        return self.language.decimal(f"{value:.1f}" if value >= 0.995 or value == 0 else f"{value:.2f}")

    def points(self, value: float, decimals: int = 1) -> str:
        """Risk points with their sign: 2.06 -> "+2.1", -0.4 -> "−0.4"; what rounds to nothing has no sign."""
        digits = f"{abs(value):.{decimals}f}"
        sign = "" if float(digits) == 0 else MINUS if value < 0 else "+"
        return sign + self.language.decimal(digits)

    def people(self, share: float, denominator: int) -> tuple[str, str]:
        """Natural frequency: how many of `denominator` have the event, how many do not.

        (0.0912, 100) -> ("9", "91"); what rounds to nobody is "fewer than 1", what rounds to all "more than 99".
        """
        count = nearest(share, denominator)
        few = self.say("fewer than 1")
        many = self.say("more than %(n)s", n=self.integer(denominator - 1))
        if count == 0 and share > 0:
            return few, many
        if count == denominator and share < 1:
            return many, few
        return self.integer(count), self.integer(denominator - count)

    def horizon(self, years: float) -> str:
        """10 -> "10 years", 0.5 -> "6 months", 30 / 365.25 -> "30 days", 0 -> "now"."""
        if years == 0:
            return self.say("now")
        days = years * DAYS_PER_YEAR
        if abs(years - round(years)) < 0.005 and years >= 1:
            return self._years(round(years))
        if days < 85:
            return self._days(max(1, round(days)))
        months = years * 12
        return self._months(round(months)) if abs(months - round(months)) < 0.1 else self._part_years(years)

    def within(self, years: float) -> str:
        """As part of a sentence: "within 10 years", "now"."""
        return self.say("now") if years == 0 else self.say("within %(span)s", span=self.horizon(years))

    def age(self, days: float) -> str:
        """How old a fact is: "on the same day", "43 days before", "2.1 years before"."""
        return self.say("on the same day") if days < 1 else self.say("%(span)s before", span=self.duration(days))

    def duration(self, days: float) -> str:
        """A span of days in the unit a person would use."""
        if days < 60:
            return self._days(round(days))
        if days < 2 * DAYS_PER_YEAR:
            return self._months(round(days / (DAYS_PER_YEAR / 12)))
        years = days / DAYS_PER_YEAR
        return self._years(round(years)) if years >= 10 else self._part_years(years)

    def span(self, days: int) -> str:
        """A window of features.yaml: 1825 -> "5 years" (365 days a year, as people write them)."""
        return self._years(days // 365) if days >= 365 and days % 365 == 0 else self.duration(days)

    def date(self, iso: str | None) -> str:
        """ "2026-11-03T00:00:00Z" -> "3 Nov 2026"; None -> "not dated"."""
        return self.say("not dated") if iso is None else self.language.date(datetime.fromisoformat(iso[:19]))

    def moment(self, iso: str) -> str:
        """ "2026-11-03T06:30:00Z" -> "3 Nov 2026, 06:30 UTC"."""
        return self.say("%(date)s, %(time)s\u00a0UTC", date=self.date(iso), time=iso[11:16])

    def figure(self, number: float) -> str:
        """A plain number, four significant digits after the whole part, no exponent: 0.0512345 -> "0.05123"."""
        if number == 0:
            return "0"
        digits = min(12, max(0, 3 - math.floor(math.log10(abs(number)))))
        shown = f"{number:.{digits}f}"
        shown = shown.rstrip("0").rstrip(".") if "." in shown else shown
        return self.language.decimal(shown).replace("-", MINUS)

    def percentile(self, share: float) -> str:
        """Where the risk stands among the people that the model was checked on."""
        below = math.floor(share * 100)
        if below == 0:
            return self.say("among the lowest 1 in 100")
        return self.say("higher than in %(n)s of 100", n=min(below, 99))

    def _years(self, n: int) -> str:
        return self.say_count("%(n)s\u00a0year", "%(n)s\u00a0years", n)

    def _part_years(self, years: float) -> str:
        return self.say("%(number)s\u00a0years", number=self.language.decimal(f"{years:.1f}"))

    def _months(self, n: int) -> str:
        return self.say_count("%(n)s\u00a0month", "%(n)s\u00a0months", n)

    def _days(self, n: int) -> str:
        return self.say_count("%(n)s\u00a0day", "%(n)s\u00a0days", n)


def nearest(share: float, denominator: int) -> int:
    """`share` of `denominator` people, rounded half up."""
    return math.floor(share * denominator + 0.5)


def clip(shown: str, length: int = 80) -> str:
    """A text cut for drawings and cells, where a very long one would push everything else away."""
    return shown if len(shown) <= length else shown[: length - 1] + "…"
