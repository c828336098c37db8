"""The model card as a night keeps it in runs.model_card: the bundle's, with how it was evaluated and who trained it.

Whoever holds the scores alone, `report` above all, knows of the model what stands here. `evaluation` is the one by
which the bundle was allowed to publish (the newest at the site scored, else the newest at any site), or None where the
bundle has none; then `promotion` of the same row says so. Numbers are as `riskpred evaluate` gives them, 4 digits:

    "evaluation": {
      "evaluated_at": "2026-11-27T01:02:03+00:00", "riskpred_version": "1.0", "site": "hospital", "split": "held_out",
      "rows": 431,
      "outcomes": {
        "cancer": {
          "horizons": [                       # everyone, at every horizon, ascending
            {"horizon_years": 1.0, "n": 431, "events": 12, "figures": {...}}, ...],
          "subgroups": [                      # at the longest horizon; ages ascending, then sexes
            {"subgroup": "age 60-69", "age_from": 60, "age_below": 70, "horizon_years": 10.0, "n": 108, "events": 24,
             "figures": {...}},
            {"subgroup": "sex female", "sex": "female", "horizon_years": 10.0, "n": 220, "events": 41,
             "figures": {...}}]}}}

`age_from` or `age_below` is null where the band is open ("age under 40", "age 80 or over"); a subgroup of unknown age
or sex has neither key, or "sex": "unknown". `n` and `events` are null where so few people stand behind them that they
could point at one; the figures of that group are then null, too, and their reason says so.

`figures` holds, by name, {"value", "low", "high"} (ends of the 90 % interval, each null where there is none), with
"reason" (a text) where value is null. Names: `uno_c` (`auc` where known at once, and beside it elsewhere), `observed`
(share with the outcome by the horizon, Aalen-Johansen), `expected` (mean risk), `observed_over_expected`, `citl`
(calibration in the large; 0 is perfect), `slope` (1 is perfect), `ici` (mean distance of risk and smoothed incidence),
`ici_floor` (what exactly true risks would show on so many people), `brier`, `ipa`. Which of them a group has depends on
what could be measured: ask with .get().

`participants` sums up the training people in place of the long `population` of card.json: {"age": {"mean", "sd", "low",
"high"} or null, "sex": {word: share} or null, "patterns": {modalities: share}, "outcomes": {name: [[horizon_years,
incidence or null], ...]}, "features": [{"modality", "name", "display", "unit", "missing": share}, ...]}; null in a
bundle of a release that did not keep them.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from riskpred.model.evaluation import Evaluation, Figure, GroupFigures

EVALUATION_KEY: Final = "evaluation"
PARTICIPANTS_KEY: Final = "participants"

_OF_TRAINING: Final = ("population", "drift")
"""Entries of card.json that sum up the training people: up to 160 KB a night that only the bundle's users read."""

_BAND: Final = re.compile(r"age (?:(?P<low>\d+)-(?P<high>\d+)|under (?P<below>\d+)|(?P<above>\d+) or over)")


def card_of_night(card: Mapping[str, Any], evaluation: Evaluation | None) -> dict[str, Any]:
    """The card of a bundle as this module's docstring describes it."""
    kept = {name: entry for name, entry in card.items() if name not in _OF_TRAINING}
    population = card.get("population")
    return kept | {
        EVALUATION_KEY: None if evaluation is None else _evaluation(evaluation),
        PARTICIPANTS_KEY: None if population is None else _participants(population),
    }


def _evaluation(evaluation: Evaluation) -> dict[str, Any]:
    outcomes: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for group in evaluation.groups:
        entry = outcomes.setdefault(group.outcome, {"horizons": [], "subgroups": []})
        entry["horizons" if group.subgroup is None else "subgroups"].append(_group(group))
    # A file of a release that kept the longest horizon alone.
    for one in evaluation.outcomes:
        whole = {"horizon_years": one.horizon_years, "n": one.n, "events": one.events, "figures": _figures(one.figures)}
        outcomes.setdefault(one.outcome, {"horizons": [whole], "subgroups": []})
    about = ("evaluated_at", "riskpred_version", "site", "split", "rows")
    return {**{name: getattr(evaluation, name) for name in about}, "outcomes": outcomes}


def _group(group: GroupFigures) -> dict[str, Any]:
    return _whose(group.subgroup) | {
        "horizon_years": group.horizon_years,
        "n": group.n,
        "events": group.events,
        "figures": _figures(group.figures),
    }


def _whose(subgroup: str | None) -> dict[str, Any]:
    """A subgroup's label, and what it says as data."""
    if subgroup is None:
        return {}
    band = _BAND.fullmatch(subgroup)
    if band is None:
        word = subgroup.removeprefix("sex ")
        return {"subgroup": subgroup} | ({"sex": word} if word != subgroup else {})
    low, below = band["low"] or band["above"], band["below"]
    high = int(band["high"]) + 1 if band["high"] else None
    return {
        "subgroup": subgroup,
        "age_from": int(low) if low else None,
        "age_below": int(below) if below else high,
    }


def _figures(figures: Mapping[str, Figure]) -> dict[str, dict[str, Any]]:
    return {
        name: {"value": _short(one.value), "low": _short(one.low), "high": _short(one.high)}
        | ({"reason": one.reason} if one.value is None else {})
        for name, one in figures.items()
    }


def _short(number: float | None) -> float | None:
    return None if number is None else float(f"{number:.4g}")


def _participants(population: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{name: population.get(name) for name in ("age", "sex", "patterns")},
        "outcomes": {name: one["horizons"] for name, one in population["outcomes"].items()},
        "features": [
            {name: feature[name] for name in ("modality", "name", "display", "unit", "missing")}
            for feature in population["features"]
        ],
    }
