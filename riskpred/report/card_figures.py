"""The figures of an evaluation in words and as table rows: how well the model did on people it never saw.

The shape of an evaluation is that of `evaluation` in riskpred/model/card.py; what is absent or of another shape is left
out.
"""

import math
import re
from typing import Any, Final

from riskpred.report.language import text
from riskpred.report.names import Names

RANK: Final = ("uno_c", "auc")
REASONS: Final = (
    text("%(n)s with the outcome, at least %(least)s needed"),
    text("%(n)s without the outcome, at least %(least)s needed"),
    text("fewer than 10 people with or without the outcome: not shown"),
    text("not shown: a smaller group could be worked out from it"),
    text("not shown"),
    text("the blanking window reaches the horizon"),
    text("nobody's outcome is known"),
    text("no outcome by the horizon"),
    text("only one class is there"),
    text("all risks are equal"),
)
"""Why `evaluate` gives no figure, in its words."""
_TOO_FEW: Final = re.compile(r"(?P<n>\d+) (?P<with>with|without) the outcome, at least (?P<least>\d+) needed")
"""Discrimination: the first that is there."""

COLUMNS: Final = ("observed", "expected", "observed_over_expected", "citl", "slope", "ici", "brier", "ipa")
_SHARES: Final = ("observed", "expected")
_FINE: Final = ("ici", "ici_floor", "brier")


class Figures:
    """One language, and the names of the outcomes. outcomes: name -> display, of the model card."""

    def __init__(self, names: Names, outcomes: dict[str, Any]) -> None:
        self.names, self.words, self.say, self.displays = names, names.words, names.words.say, outcomes

    def outcome(self, name: str) -> str:
        display = self.displays.get(name)
        return self.names.outcome({"outcome": name, "display": display if isinstance(display, str) else None})

    def where(self, evaluation: dict[str, Any]) -> str:
        """When and on whom: "27 Nov 2026, hospital, held_out"."""
        day = evaluation.get("evaluated_at")
        parts = [self._day(day) if isinstance(day, str) else "", evaluation.get("site"), evaluation.get("split")]
        return ", ".join(str(part) for part in parts if part)

    def _day(self, moment: str) -> str:
        try:
            return self.words.date(moment)
        except ValueError:
            return ""

    def sentence(self, evaluation: dict[str, Any]) -> str | None:
        """Everyone at each outcome's longest horizon."""
        parts = [self._line(name, rows[-1]) for name, rows in self._rows(evaluation, "horizons") if rows]
        return " ".join(part for part in parts if part) or None

    def groups_sentence(self, evaluation: dict[str, Any]) -> str | None:
        """Each sex and age band: discrimination and observed over expected."""
        parts = []
        for name, rows in self._rows(evaluation, "subgroups"):
            listed = [
                f"{self.group(row)}: {text}"
                for row in rows
                if (text := ", ".join(filter(None, (self.rank(row), self._ratio(row)))))
            ]
            if listed:
                parts.append(f"{self.outcome(name)}: {'; '.join(listed)}.")
        return " ".join(parts) or None

    def tables(self, evaluation: dict[str, Any]) -> list[dict[str, Any]]:
        """One table per outcome: everyone by horizon, then groups; cells are texts, "" where there is no figure."""
        found = []
        for name, rows in self._rows(evaluation, "horizons"):
            groups = dict(self._rows(evaluation, "subgroups")).get(name, [])
            lines = [(self.say("Everyone"), row) for row in rows] + [(self.group(row), row) for row in groups]
            found.append(
                {
                    "outcome": self.outcome(name),
                    "rows": [
                        {
                            "who": who,
                            "when": self._when(row),
                            "n": self._count(row.get("n")),
                            "events": self._count(row.get("events")),
                            "rank": self.rank(row),
                            "cells": [self.cell(row, column) for column in COLUMNS],
                            "why": self._why(row),
                        }
                        for who, row in lines
                    ],
                }
            )
        return found

    def group(self, row: dict[str, Any]) -> str:
        """ "women", "people aged 60 to 69", or the label as it stands."""
        sex, low, below = row.get("sex"), row.get("age_from"), row.get("age_below")
        if sex in ("female", "male"):
            return self.say("women") if sex == "female" else self.say("men")
        if isinstance(low, int) and isinstance(below, int):
            return self.say("people aged %(low)s to %(high)s", low=low, high=below - 1)
        if isinstance(below, int):
            return self.say("people under %(age)s", age=below)
        if isinstance(low, int):
            return self.say("people of %(age)s or over", age=low)
        return str(row.get("subgroup", ""))

    def rank(self, row: dict[str, Any]) -> str:
        """Discrimination with its interval; "" where there is none."""
        for name in RANK:
            shown = self.cell(row, name)
            if shown:
                return f"{'C' if name == 'uno_c' else 'AUC'} {shown}"
        return ""

    def cell(self, row: dict[str, Any], name: str) -> str:
        """A figure with its interval, as printed; the ICI with its floor."""
        figures = row.get("figures")
        one = figures.get(name) if isinstance(figures, dict) else None
        value, low, high = (
            _finite(one.get(key)) if isinstance(one, dict) else None for key in ("value", "low", "high")
        )
        if value is None:
            return ""
        shown = self._digits(name, value)
        if low is not None and high is not None:
            ends = {"low": self._digits(name, low), "high": self._digits(name, high)}
            shown = self.say("%(value)s (%(low)s to %(high)s)", value=shown, **ends)
        if name == "ici" and (floor := self.cell(row, "ici_floor")):
            shown = self.say("%(value)s; floor %(floor)s", value=shown, floor=floor.split(" ")[0])
        return shown

    def _digits(self, name: str, value: float) -> str:
        if name in _SHARES:
            return self.words.percent(value)
        text = f"{value:.{4 if name in _FINE else 3 if name in (*RANK, 'ipa') else 2}f}"
        return self.words.language.decimal(text.lstrip("-") if float(text) == 0 else text.replace("-", "−"))

    def _ratio(self, row: dict[str, Any]) -> str:
        shown = self.cell(row, "observed_over_expected")
        return self.say("observed over expected %(ratio)s", ratio=shown) if shown else ""

    def _line(self, name: str, row: dict[str, Any]) -> str:
        head = f"{self.outcome(name)}, {self._when(row)}"
        counts = self.say(
            "n %(n)s, with the outcome %(events)s", n=self._count(row.get("n")), events=self._count(row.get("events"))
        )
        observed, expected = self.cell(row, "observed"), self.cell(row, "expected")
        parts = [
            self.rank(row),
            self.say("observed %(observed)s, expected %(expected)s", observed=observed, expected=expected)
            if observed and expected
            else "",
            *(f"{label} {shown}" for key, label in self._labels() if (shown := self.cell(row, key))),
        ]
        said = "; ".join(part for part in parts if part) or self._why(row)
        return f"{head}: {said} ({counts})." if said else f"{head}: {counts}."

    def _labels(self) -> list[tuple[str, str]]:
        return [("citl", self.say("calibration in the large")), ("slope", self.say("slope")), ("ici", "ICI")]

    def _when(self, row: dict[str, Any]) -> str:
        years = _finite(row.get("horizon_years"))
        return "" if years is None else self.words.within(years)

    def _count(self, n: object) -> str:
        return self.words.integer(n) if isinstance(n, int) and not isinstance(n, bool) else self.say("hidden")

    def _why(self, row: dict[str, Any]) -> str:
        """Why there is no figure at all, in the words of the evaluation; "" where there is one."""
        figures = row.get("figures")
        entries = [one for one in figures.values() if isinstance(one, dict)] if isinstance(figures, dict) else []
        reasons = dict.fromkeys(str(one["reason"]) for one in entries if one.get("reason"))
        if any(_finite(one.get("value")) is not None for one in entries):
            return ""
        return self.say("; ").join(self._reason(reason) for reason in reasons)

    def _reason(self, reason: str) -> str:
        """One of `evaluate`'s reasons in this language; one that it has since learned stands as it is."""
        counted = _TOO_FEW.fullmatch(reason)
        if counted is None:
            return self.words.language.known(reason)
        said = (
            "%(n)s with the outcome, at least %(least)s needed"
            if counted["with"] == "with"
            else "%(n)s without the outcome, at least %(least)s needed"
        )
        return self.say(said, n=counted["n"], least=counted["least"])

    def _rows(self, evaluation: dict[str, Any], part: str) -> list[tuple[str, list[dict[str, Any]]]]:
        outcomes = evaluation.get("outcomes")
        found = []
        for name, entry in outcomes.items() if isinstance(outcomes, dict) else ():
            rows = entry.get(part) if isinstance(entry, dict) else None
            found.append((str(name), [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []))
        return found


def _finite(number: object) -> float | None:
    ok = isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)
    return float(number) if ok else None  # type: ignore[arg-type]
