"""Why a risk is what it is, as plain numbers: steps by kind of data, groups of facts for and against, what if.

Sums are those of the tables: with what no row names, groups sum to the modalities' total.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from riskpred.report.names import AGE, feature_parts
from riskpred.report.read import Row, finite, utc
from riskpred.report.wordbook import WordBook

SHOWN_GROUPS = 4
"""Groups of facts shown one by one, for and against, per outcome; the rest is summed in a row of its own."""
SHOWN_MEMBERS = 2
"""Facts shown of one group, likewise."""
SHOWN_MISSING = 3
SHOWN_SCENARIOS = 2
CLOSED_WITHIN_POINTS = 0.001
"""Promise 3 of the design: contributions sum within this many risk points; a larger gap is shown."""
LEAST_MISSING_POINTS = 0.1
"""A missing fact that moves the risk by less is not worth naming: the page shows tenths."""
_TENTH = 0.0005
"""Half of what a tenth of a per cent shows."""
_PRESENCE = "(presence)"
_VALUES = ("last", "mean", "min", "max", None)
"""Aggregates whose number is a value of the code, so that its usual range applies."""


def reasons(
    risks: Sequence[Row], explanations: Sequence[Row], receipts: Sequence[Row], book: WordBook, sex: str | None
) -> dict[str, Any] | None:
    """Reasons at the longest horizon that has feature rows, else modality rows; None where there are no rows at all.

    Args: risks, explanations: of one outcome.   receipts: which kinds of data were there.   sex: female, male or None,
        for usual ranges.
    """
    by_level = {level: [row for row in explanations if row["level"] == level] for level in ("feature", "modality")}
    horizons = [row["horizon_years"] for row in by_level["feature"] or by_level["modality"]]
    horizon = max(horizons, default=None)
    risk = next((row for row in risks if row["horizon_years"] == horizon), None)
    if risk is None:
        return None
    modality_rows = [row for row in by_level["modality"] if row["horizon_years"] == horizon]
    feature_rows = [row for row in by_level["feature"] if row["horizon_years"] == horizon]
    used = {row["modality"] for row in receipts if row["status"] == "used"}
    steps, running = [], risk["reference_risk"]
    for row in modality_rows:
        after = running + row["contribution"] / 100
        step = {"modality": row["modality"], "contribution": row["contribution"], "used": row["modality"] in used}
        steps.append(step | {"from": running, "to": after})
        running = after
    gap = 100 * (risk["risk"] - running)
    if abs(gap) > CLOSED_WITHIN_POINTS:
        steps.append({"modality": "(gap)", "contribution": gap, "used": False, "from": running, "to": risk["risk"]})
    return {
        "horizon_years": horizon,
        "reference_risk": risk["reference_risk"],
        "risk": risk["risk"],
        "total": 100 * (risk["risk"] - risk["reference_risk"]),
        "modalities": steps,
        **_split(modality_rows, feature_rows, book, sex),
    }


def missing(rows: Sequence[Row], risks: Sequence[Row]) -> list[dict[str, Any]]:
    """What is missing and would matter most for one outcome, at its longest horizon with rows, widest range first.

    Each with the person's risk as it is, without the value. That need not lie in the range: the model reads whether
    something was measured, too, so that to know it changes more than the value. `outside`: it does not, as print shows.
    """
    names = ("horizon_years", "modality", "feature", "unit", "low_value", "high_value", "risk_low", "risk_high")
    longest = max((row["horizon_years"] for row in rows), default=None)
    found = sorted((row for row in rows if row["horizon_years"] == longest), key=lambda row: row["rank"])
    worth = [row for row in found if 100 * (row["risk_high"] - row["risk_low"]) >= LEAST_MISSING_POINTS]
    now = next((row["risk"] for row in risks if row["horizon_years"] == longest), None)
    return [
        {name: _kept(row[name]) for name in names} | {"risk": now, "outside": _outside(now, row)}
        for row in worth[:SHOWN_MISSING]
    ]


def _outside(risk: float | None, row: Row) -> bool:
    """Whether a risk lies outside the range of a missing value by more than print hides."""
    return risk is not None and not row["risk_low"] - _TENTH <= risk <= row["risk_high"] + _TENTH


def changes(rows: Sequence[Row], risks: Sequence[Row]) -> dict[str, Any] | None:
    """What would have to change for the risk of one outcome to fall below a threshold; None where no way is known.

    threshold_is_start: the threshold is the starting point of the reasons, none that somebody chose.
    """
    longest = max((row["horizon_years"] for row in rows), default=None)
    here = [row for row in rows if row["horizon_years"] == longest]
    if not here:
        return None
    names = ("feature", "unit", "value", "text_value", "to_value", "to_text_value", "risk")
    scenarios = [
        [{name: _kept(row[name]) for name in names} for row in steps]
        for _, steps in groupby(here, key=lambda row: int(row["scenario"]))
    ]
    return {
        "horizon_years": longest,
        "threshold": here[0]["threshold"],
        "threshold_is_start": any(
            row["horizon_years"] == longest and row["reference_risk"] == here[0]["threshold"] for row in risks
        ),
        "scenarios": scenarios[:SHOWN_SCENARIOS],
        "scenarios_not_shown": len(scenarios[SHOWN_SCENARIOS:]),
    }


def _split(
    modality_rows: Sequence[Row], feature_rows: Sequence[Row], book: WordBook, sex: str | None
) -> dict[str, Any]:
    """Feature rows as groups that raise, groups that lower, and what belongs to no fact."""
    named = [_fact(row, book, sex) for row in feature_rows if not row["remainder"] and row["feature"] != _PRESENCE]
    unnamed = [
        {name: row[name] for name in ("modality", "feature", "contribution")}
        for row in feature_rows
        if row["remainder"] or row["feature"] == _PRESENCE
    ]
    for row in modality_rows if feature_rows else []:
        inside = [other["contribution"] for other in feature_rows if other["modality"] == row["modality"]]
        left = row["contribution"] - sum(inside)
        if abs(left) > CLOSED_WITHIN_POINTS:
            name = "(gap)" if inside else "(whole)"
            unnamed.append({"modality": row["modality"], "feature": name, "contribution": left})
    groups = _groups(named, book)
    largest = max((abs(group["contribution"]) for group in groups), default=0.0)
    decimals = _decimals([largest, *(abs(row["contribution"]) for row in modality_rows)])
    raises, raises_left = _shown([group for group in groups if group["contribution"] > 0], decimals)
    lowers, lowers_left = _shown([group for group in groups if group["contribution"] < 0], decimals)
    return {
        "raises": [_cut(group) for group in raises],
        "lowers": [_cut(group) for group in lowers],
        "raises_not_shown": _together(raises_left),
        "lowers_not_shown": _together(lowers_left),
        "raises_total": _sum(raises + raises_left),
        "lowers_total": _sum(lowers + lowers_left),
        "no_effect": sum(row["contribution"] == 0 for row in named),
        "unnamed": unnamed,
        "unnamed_total": _sum(unnamed),
        "largest": largest,
        "decimals": decimals,
        "features_total": _sum([*named, *unnamed]),
        "features": len(named),
    }


def _fact(row: Row, book: WordBook, sex: str | None) -> dict[str, Any]:
    """One feature row with its usual range, and on which side of it the value lies."""
    code, aggregate = feature_parts(row["feature"])
    value = finite(row["value"])
    usual = book.usual(code, sex, row["unit"]) if value is not None and aggregate in _VALUES else None
    return {
        **{name: row[name] for name in ("modality", "feature")},
        "value": value,
        **{name: row[name] for name in ("text_value", "unit")},
        "time": None if row["feature"] == AGE else utc(row["time"]),  # that of an age is the day of birth
        "usual": usual,
        "side": side(value, usual),
        "contribution": row["contribution"],
    }


def side(value: float | None, usual: dict[str, float | None] | None) -> str | None:
    """below, within or above the usual range; None where there is none."""
    if value is None or usual is None:
        return None
    if usual["low"] is not None and value < usual["low"]:
        return "below"
    return "above" if usual["high"] is not None and value > usual["high"] else "within"


def _groups(named: Sequence[dict[str, Any]], book: WordBook) -> list[dict[str, Any]]:
    """Facts that go together as one: those of the same group of the card's words, else of the same code."""
    members: dict[tuple[str | None, str], list[dict[str, Any]]] = {}
    for fact in named:
        code = feature_parts(fact["feature"])[0]
        group = book.group(fact["feature"]) or book.group(code)
        members.setdefault((group, "" if group else code), []).append(fact)
    return [
        {
            "group": group,
            "code": code or None,
            "contribution": _sum(facts),
            "count": len(facts),
            "members": sorted(facts, key=_weight),
        }
        for (group, code), facts in members.items()
    ]


def _decimals(sizes: Sequence[float]) -> int:
    """Decimals in which the points of one outcome are written: one, unless none of them reaches a point."""
    largest = max(sizes, default=0.0)
    return 1 if largest >= 1 else 2 if largest >= 0.1 else 3


def _shown(groups: list[dict[str, Any]], decimals: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The groups that weigh most, heaviest sum first, and the others: those below the cut, or written as 0.0 anyway. A
    group of large facts that cancel weighs as much as the largest of them."""
    ranked = sorted(groups, key=lambda group: (-_heaviest(group), _key(group)))
    most = min(SHOWN_GROUPS, sum(_heaviest(group) >= 0.5 * 10**-decimals for group in ranked))
    return sorted(ranked[:most], key=lambda group: (-abs(group["contribution"]), _key(group))), ranked[most:]


def _heaviest(group: dict[str, Any]) -> float:
    return float(max(abs(group["contribution"]), *(abs(fact["contribution"]) for fact in group["members"])))


def _cut(group: dict[str, Any]) -> dict[str, Any]:
    facts = group["members"]
    return group | {"members": facts[:SHOWN_MEMBERS], "members_not_shown": _together(facts[SHOWN_MEMBERS:])}


def _together(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"count": sum(row.get("count", 1) for row in rows), "contribution": _sum(rows)}


def _sum(rows: Iterable[dict[str, Any]]) -> float:
    return float(sum(row["contribution"] for row in rows))


def _weight(fact: dict[str, Any]) -> tuple[float, str, str]:
    return -abs(fact["contribution"]), fact["modality"], fact["feature"]


def _key(group: dict[str, Any]) -> tuple[str, str]:
    return group["group"] or "", group["code"] or ""


def _kept(entry: Any) -> Any:
    return finite(entry) if isinstance(entry, float) else entry
