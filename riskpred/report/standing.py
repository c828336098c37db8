"""How well the model did on people it never saw, those like this person above all: figures of the model card.

The card's entry `evaluation` comes from outside as JSON: what is absent or of an unexpected shape is not shown.
"""

from collections.abc import Sequence
from typing import Any

from riskpred.report.entries import number_in

FIGURES = ("observed", "expected", "observed_over_expected", "uno_c", "auc", "ici")


def evaluation(
    card: dict[str, Any], outcomes: Sequence[str], sex: str | None, age_years: float | None
) -> dict[str, Any] | None:
    """Figures of everyone and of those of the person's age and sex, at each outcome's longest horizon; None where the
    card has none.

    Args: outcomes: those shown, in their order.   sex: female, male or None.   age_years: None where not known.
    """
    entry = card.get("evaluation")
    by_outcome = entry.get("outcomes") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(by_outcome, dict):
        return None
    found = []
    for outcome in outcomes:
        one = by_outcome.get(outcome)
        groups = _groups(one, sex, age_years) if isinstance(one, dict) else []
        if groups:
            found.append({"outcome": outcome, "horizon_years": groups[0]["horizon_years"], "groups": groups})
    about = {name: entry.get(name) for name in ("evaluated_at", "site", "split")}
    texts = {name: value if isinstance(value, str) else None for name, value in about.items()}
    return texts | {"rows": _whole(entry.get("rows")), "outcomes": found} if found else None


def _groups(one: dict[str, Any], sex: str | None, age_years: float | None) -> list[dict[str, Any]]:
    """Everyone first, then the person's age band and sex, where they were looked at."""
    horizons = [row for row in _rows(one.get("horizons")) if number_in(row.get("horizon_years")) is not None]
    if not horizons:
        return []
    found = [_group(max(horizons, key=lambda row: float(row["horizon_years"])), {"who": "everyone"})]
    for row in _rows(one.get("subgroups")):
        if sex is not None and row.get("sex") == sex:
            found.append(_group(row, {"who": "sex", "sex": sex}))
        elif age_years is not None and ("age_from" in row or "age_below" in row):
            low, below = number_in(row.get("age_from")), number_in(row.get("age_below"))
            if (low is None or age_years >= low) and (below is None or age_years < below):
                found.append(_group(row, {"who": "age", "age_from": low, "age_below": below}))
    return found


def _group(row: dict[str, Any], who: dict[str, Any]) -> dict[str, Any]:
    figures = row.get("figures")
    table = figures if isinstance(figures, dict) else {}
    shown = {
        name: {part: number_in(_dict(table.get(name)).get(part)) for part in ("value", "low", "high")}
        for name in FIGURES
    }
    counts = {"n": _whole(row.get("n")), "events": _whole(row.get("events"))}
    return who | {"horizon_years": number_in(row.get("horizon_years")), **counts, **shown}


def _rows(entry: object) -> list[dict[str, Any]]:
    return [row for row in entry if isinstance(row, dict)] if isinstance(entry, list) else []


def _dict(entry: object) -> dict[str, Any]:
    return entry if isinstance(entry, dict) else {}


def _whole(entry: object) -> int | None:
    return entry if isinstance(entry, int) and not isinstance(entry, bool) else None
