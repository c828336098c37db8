"""What the page shows beside its pictures: tables and sentences made of the rows of the metrics, as plain dicts."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from riskpred.evaluate.decision import TREAT_ALL, TREAT_NONE
from riskpred.evaluate.gather import MODEL
from riskpred.evaluate.measure import FLOOR, ONLY, RANKING
from riskpred.evaluate.metrics import NET_BENEFIT, TRUTH, Metric
from riskpred.evaluate.summary import count, number, within

GRID: Final = (
    (
        "Ranking",
        (("uno_c", "Uno's C", 3), ("harrell_c", "Harrell's C", 3), ("auc", "AUC", 3)),
    ),
    (
        "Accuracy",
        (("ibs", "Integrated Brier score", 4), ("brier", "Brier score", 4), ("ipa", "IPA", 3)),
    ),
    (
        "Calibration",
        (
            ("citl", "In the large (citl)", 2),
            ("slope", "Slope", 2),
            ("ici", "ICI", 4),
            (FLOOR, "ICI of exact risks (floor)", 4),
        ),
    ),
    (
        "Intervals and truth",
        (
            ("coverage", "Coverage", 3),
            ("coverage_grouped", "Coverage, grouped", 3),
            ("rank_agreement", "Rank agreement with true risks", 3),
            ("share_of_oracle", "Share of the true risks' C", 3),
        ),
    ),
)
"""Groups of metrics in the page's table of one horizon: name in the rows, in words, digits."""

_DIGITS: Final = {metric: digits for _, group in GRID for metric, _, digits in group} | {NET_BENEFIT: 4}
_WORDS: Final = {metric: words for _, group in GRID for metric, words, _ in group}
_GOOD: Final = {"uno_c": 1, "auc": 1, "ibs": -1, "brier": -1}

MORE_DEFINITIONS: Final = (
    ("Harrell's C", "the same pairs as Uno's C, unweighted: it depends on who left when"),
    ("IPA", "index of prediction accuracy, 1 - Brier score / Brier score of one risk for all: 0 is no gain, 1 perfect"),
    (
        "net benefit",
        "true positives less false positives x p / (1 - p), per person, when one acts from a risk of p on; treating no "
        "one has 0",
    ),
    ("coverage, grouped", "coverage by groups, where coverage is that of people's true risks"),
    ("rank agreement", "Spearman's correlation of risk and true risk (simulated people)"),
    ("share of the true risks' C", "(C - .5) / (C of the true risks - .5)"),
)
"""What the page explains beside the text's definitions."""

FOREST: Final = 220
"""Width of a bar of the forest picture, pixels."""

FEW: Final = 2
"""So many differences between models stand as columns beside the models; more have a table of their own."""

MOST: Final = 3
"""So many models at most stand in the table of blanking windows."""

_SENSITIVE: Final = ("uno_c", "ibs", "brier", "ici")
_BY: Final = {"age": "By age at prediction_time", "sex": "By sex", "with": "By which data were there"}


def exhibits(rows: Sequence[Metric], outcome: str, years: float, window: int) -> dict[str, Any]:
    """Tables of one outcome and horizon.

    Args: window: the study's own blanking window; rows with another stand in `windows`.

    Keys: models (with few differences), grid, differences (when many), alone (single modalities), benefits (net
    benefit by threshold), forest, short (sentences), overview (one line of the table on top of the page).
    """
    at = [
        row
        for row in rows
        if row["outcome"] == outcome and row["horizon_years"] == years and row["blanking_days"] == window
    ]
    everyone = [row for row in at if row["subgroup"] is None]
    found = _by_model(everyone)
    models = [model for model in found if " - " not in model and not model.endswith(ONLY) and MODEL in found]
    differences = [name for name in found if " - " in name and not name.endswith(ONLY)]
    beside = differences if len(differences) <= FEW else []
    reasons = sorted({row["reason"] for row in everyone if row["reason"] and row["model"] == MODEL})
    forest = _forest(at)
    return {
        "models": models + beside,
        "grid": _grid(found, models + beside),
        "reasons": reasons,
        "differences": _lines(found, [] if beside else differences),
        "alone": _lines(found, [name for name in found if name.endswith(ONLY)]),
        "benefits": _benefits(everyone),
        "forest": forest,
        "short": _short(found, everyone, forest),
        "overview": _overview(found, everyone, years),
    }


def windows(rows: Sequence[Metric], outcome: str) -> dict[str, Any] | None:
    """Everyone by horizon and blanking window: ranking, accuracy and calibration; None with only one window.

    The first MOST models and, for want of room, no AUC: the JSON has all.
    """
    at = [row for row in rows if row["outcome"] == outcome and row["subgroup"] is None and row["metric"] != NET_BENEFIT]
    days = sorted({row["blanking_days"] for row in at})
    if len(days) < 2:
        return None
    models = [name for name in _by_model(at) if " - " not in name and not name.endswith(ONLY) and name != TRUTH][:MOST]
    lines = []
    for years in dict.fromkeys(row["horizon_years"] for row in at):
        for window in days:
            here = [row for row in at if row["horizon_years"] == years and row["blanking_days"] == window]
            found = _by_model(here)
            lines.append(
                {
                    "label": within(years),
                    "first": window == days[0],
                    "days": window,
                    "n": count(here[0]["n"]) if here else "",
                    "events": count(here[0]["events"]) if here else "",
                    "cells": [
                        _cell(found.get(model, {}).get(metric), metric, ranged=metric == "uno_c")
                        for metric in _SENSITIVE
                        for model in models
                    ],
                    "reason": "; ".join(sorted({row["reason"] for row in here if row["reason"]})),
                }
            )
    heads = [(_WORDS[metric], len(models)) for metric in _SENSITIVE]
    return {"models": models, "heads": heads, "lines": lines}


def _by_model(rows: Sequence[Metric]) -> dict[str, dict[str, Metric]]:
    """model -> metric -> row; net benefits, of which there are several, are left out."""
    found: dict[str, dict[str, Metric]] = {}
    for row in rows:
        if row["metric"] != NET_BENEFIT:
            found.setdefault(row["model"], {})[row["metric"]] = row
    return found


def _cell(row: Metric | None, metric: str, *, ranged: bool = True) -> dict[str, Any]:
    """A number with its range as they are shown, and whether the range shown keeps clear of 0."""
    if row is None:
        return {"value": "", "range": "", "sure": False}
    digits = _DIGITS[metric]
    cell = {"value": number(row["value"], digits), "range": "", "sure": False}
    if row["low"] is not None and row["high"] is not None and ranged:
        low, high = number(row["low"], digits), number(row["high"], digits)
        cell |= {"range": f"{low} to {high}", "sure": float(low) > 0 or float(high) < 0}
    return cell


def _grid(found: Mapping[str, Mapping[str, Metric]], models: Sequence[str]) -> list[dict[str, Any]]:
    groups = []
    for name, metrics in GRID:
        lines = [
            {"name": words, "metric": metric, "cells": [_cell(found[m].get(metric), metric) for m in models]}
            for metric, words, _ in metrics
            if any(metric in found[m] for m in models)
        ]
        if lines:
            groups.append({"name": name, "lines": lines})
    return groups


def _lines(found: Mapping[str, Mapping[str, Metric]], models: Sequence[str]) -> dict[str, Any] | None:
    """Models as lines, the metrics of RANKING as columns."""
    if not models:
        return None
    metrics = [metric for metric in RANKING if any(metric in found[model] for model in models)]
    return {
        "heads": [_WORDS[metric] for metric in metrics],
        "lines": [
            {"model": model, "cells": [_cell(found[model].get(metric), metric) for metric in metrics]}
            for model in models
        ],
    }


def _benefits(everyone: Sequence[Metric]) -> dict[str, Any] | None:
    """Net benefit: thresholds as lines, policies as columns."""
    rows = [row for row in everyone if row["metric"] == NET_BENEFIT and row["threshold"] is not None]
    if not rows:
        return None
    policies = [name for name in dict.fromkeys(row["model"] for row in rows) if name != TREAT_NONE]
    place = {(row["model"], row["threshold"]): row for row in rows}
    return {
        "models": policies,
        "lines": [
            {
                "threshold": f"{100 * (threshold or 0):g} %",
                "cells": [
                    _cell(place.get((model, threshold)), NET_BENEFIT, ranged=model == MODEL) for model in policies
                ],
            }
            for threshold in sorted({row["threshold"] or 0.0 for row in rows})
        ],
    }


def _forest(at: Sequence[Metric]) -> dict[str, Any] | None:
    """C (AUC when known at once) of the model by subgroup, as numbers and as positions on one axis."""
    subgroups = list(dict.fromkeys(row["subgroup"] for row in at))
    if len(subgroups) < 2:
        return None
    each = {name: [row for row in at if row["subgroup"] == name] for name in subgroups}
    found = {name: _by_model(rows) for name, rows in each.items()}
    metric = "uno_c" if any("uno_c" in models.get(MODEL, {}) for models in found.values()) else "auc"
    shown = [models[MODEL][metric] for models in found.values() if metric in models.get(MODEL, {})]
    lows = [row["low"] if row["low"] is not None else row["value"] for row in shown if row["value"] is not None]
    if not lows:
        return None
    start = min(0.5, int(10 * min(low for low in lows if low is not None)) / 10)

    def x(value: float) -> float:
        return round(FOREST * (value - start) / (1.0 - start), 1)

    lines: list[dict[str, Any]] = []
    heading = None
    for name in subgroups:
        own = found[name].get(MODEL, {})
        row = own.get(metric)
        kind = _BY.get((name or "").split(" ")[0])
        if name and kind != heading:
            lines.append({"heading": kind})
            heading = kind
        value = row["value"] if row else None
        other = next(
            (
                models[metric]
                for model, models in found[name].items()
                if model not in (MODEL, TRUTH) and " - " not in model and not model.endswith(ONLY) and metric in models
            ),
            None,
        )
        lines.append(
            {
                "heading": None,
                "label": name or "everyone",
                "n": count(each[name][0]["n"]),
                "events": count(each[name][0]["events"]),
                "at": None if value is None else x(value),
                "low": None if row is None or row["low"] is None else x(row["low"]),
                "high": None if row is None or row["high"] is None else x(row["high"]),
                "other": None if other is None or other["value"] is None else x(other["value"]),
                "rank": _cell(row, metric),
                "cells": [_cell(own.get(name), name, ranged=False) for name in ("slope", "citl", "ici", FLOOR)],
                "reason": (row["reason"] or "") if row else "",
            }
        )
    everyone = next((line["at"] for line in lines if line["heading"] is None), None)
    ticks = [start + 0.1 * step for step in range(round((1.0 - start) * 10) + 1)]
    return {
        "metric": _WORDS[metric],
        "lines": lines,
        "everyone": everyone,
        "ticks": [{"at": x(tick), "text": number(tick, 1)} for tick in ticks[:: 2 if len(ticks) > 7 else 1]],
        "half": x(0.5),
        "few": sum(value is not None for value in (line.get("at") for line in lines)) < 2,
        "values": [
            (line["label"], line["rank"]["value"])
            for line in lines
            if line["heading"] is None and line["at"] is not None
        ],
    }


def _overview(found: Mapping[str, Mapping[str, Metric]], everyone: Sequence[Metric], years: float) -> dict[str, Any]:
    """The line of one outcome and horizon in the table on top."""
    own = found.get(MODEL, {})
    metric = "uno_c" if "uno_c" in own else "auc"
    others = []
    for model, theirs in found.items():
        if model != MODEL and " - " not in model and not model.endswith(ONLY) and metric in theirs:
            difference = found.get(f"{MODEL} - {model}", {}).get(metric)
            others.append(
                {"model": model, "rank": _cell(theirs[metric], metric), "difference": _cell(difference, metric)}
            )
    return {
        "label": within(years),
        "n": count(everyone[0]["n"]),
        "events": count(everyone[0]["events"]),
        "metric": _WORDS[metric],
        "rank": _cell(own.get(metric), metric),
        "others": others,
        "slope": _cell(own.get("slope"), "slope"),
        "ici": _cell(own.get("ici"), "ici", ranged=False),
        "floor": _cell(own.get(FLOOR), FLOOR, ranged=False),
    }


def _short(
    found: Mapping[str, Mapping[str, Metric]], everyone: Sequence[Metric], forest: Mapping[str, Any] | None
) -> list[str]:
    """What the numbers of one horizon come to, in sentences; none where there are no numbers."""
    own = found.get(MODEL, {})
    metric = "uno_c" if "uno_c" in own else "auc"
    if own.get(metric) is None or own[metric]["value"] is None:
        return []
    sentences = [f"{_WORDS[metric]} {_said(own[metric])}" + _beside(found, metric)]
    calibration = _calibration(own)
    if calibration:
        sentences.append(calibration)
    sentences += _worth(everyone)
    if forest:
        values = [pair for pair in forest["values"] if pair[0] != "everyone"]
        if len(values) > 1:
            label, value = min(values, key=lambda pair: float(pair[1]))
            sentences.append(f"Lowest {_WORDS[metric]} in a subgroup: {value}, {label}")
    return sentences


def _said(row: Metric) -> str:
    cell = _cell(row, row["metric"])
    return f"{cell['value']} ({cell['range']})" if cell["range"] else str(cell["value"])


def _beside(found: Mapping[str, Mapping[str, Metric]], metric: str) -> str:
    parts = []
    for name, metrics in found.items():
        other = name.removeprefix(f"{MODEL} - ")
        if other in (name, TRUTH) or other.endswith(ONLY) or metric not in metrics:
            continue
        difference = metrics[metric]
        if difference["value"] is None:
            continue
        if not _cell(difference, metric)["sure"]:
            parts.append(f"not to be told apart from {other} (difference {_said(difference)})")
        else:
            better = difference["value"] * _GOOD[metric] > 0
            parts.append(f"{'better' if better else 'worse'} than {other} by {_said(difference)}")
    return "".join(f"; {part}" for part in parts)


def _calibration(own: Mapping[str, Metric]) -> str | None:
    """Level, spread and distance, each with what it means."""
    parts = []
    level, slope, ici, floor = (own.get(metric) for metric in ("citl", "slope", "ici", FLOOR))
    if level and level["low"] is not None and level["high"] is not None:
        word = "too high" if level["high"] < 0 else "too low" if level["low"] > 0 else "right within its error"
        parts.append(f"level {word} (citl {_said(level)})")
    if slope and slope["low"] is not None and slope["high"] is not None:
        word = "too extreme" if slope["high"] < 1 else "too timid" if slope["low"] > 1 else "right within its error"
        parts.append(f"spread {word} (slope {_said(slope)})")
    if ici and ici["value"] is not None:
        text = f"ICI {_said(ici)}"
        if floor and floor["value"]:
            text += f", {ici['value'] / floor['value']:.1f} times that of exact risks"
        parts.append(text)
    return "Risks: " + "; ".join(parts) if parts else None


def _worth(everyone: Sequence[Metric]) -> list[str]:
    """At which thresholds acting on the risk does more good than treating all or none."""
    values = {
        (row["model"], row["threshold"]): row["value"]
        for row in everyone
        if row["metric"] == NET_BENEFIT and row["threshold"] is not None and row["value"] is not None
    }
    thresholds = sorted({threshold for model, threshold in values if model == MODEL and threshold is not None})
    if not thresholds:
        return []
    good = [p for p in thresholds if values[MODEL, p] > max(0.0, values.get((TREAT_ALL, p), 0.0))]
    if not good:
        return ["Acting on the risk does no more good than treating everyone or no one at any threshold looked at"]
    first, last = thresholds.index(good[0]), thresholds.index(good[-1])
    whole = len(good) > 2 and len(good) == last - first + 1
    listed = f"{100 * good[0]:g} to {100 * good[-1]:g}" if whole else ", ".join(f"{100 * p:g}" for p in good)
    return [f"Acting on the risk does more good than treating everyone or no one at thresholds of {listed} %"]
