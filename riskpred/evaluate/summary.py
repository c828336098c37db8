"""Brings the metrics of one evaluation into the order in which a reader asks: a plain dict, and the text table."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final

from riskpred.evaluate.gather import Evaluated
from riskpred.evaluate.metrics import NET_BENEFIT, Metric

COLUMNS: Final = ("C (90 %)", "AUC (90 %)", "IBS", "Brier", "slope", "citl", "ICI (floor)")

DEFINITIONS: Final = (
    (
        "C",
        "Uno's concordance up to the horizon: how often the earlier outcome had the higher risk; .5 is a coin's",
    ),
    ("AUC", "how often one with the outcome by the horizon had a higher risk than one without"),
    (
        "IBS, Brier",
        "mean squared distance of risk and outcome, over all horizons so far or at this one; 0 is perfect",
    ),
    ("slope", "1 is perfect; below 1 the risks are too extreme, above 1 too timid"),
    (
        "citl",
        "calibration in the large, the intercept at slope 1: 0 is perfect; below 0 risks are too high, above 0 too low",
    ),
    ("ICI (floor)", "mean distance of risk and smoothed incidence; the floor is what exactly true risks would show"),
    (
        "coverage",
        "share of 20 groups of risk whose incidence the 90 % intervals allow; of people, where true risks are known",
    ),
    (
        "blanking window",
        "days after prediction_time: the outcome, death or leaving within them leaves a person out",
    ),
    (
        "hidden",
        "fewer than 10 people with or without the outcome, or a number from which such a one could be worked out",
    ),
)


def number(value: float | None, digits: int = 3) -> str:
    """A metric as it is printed: .758, -.021, 1.02; a dash where there is none."""
    if value is None:
        return "-"
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def cells(found: Mapping[str, Metric]) -> list[str]:
    """One line of the table, in the order of COLUMNS, from the metrics of one model by name."""

    def text(name: str, digits: int = 3, interval: bool = False) -> str:
        if name not in found:
            return ""
        metric = found[name]
        if not interval or metric["low"] is None:
            return number(metric["value"], digits)
        return f"{number(metric['value'])} ({number(metric['low'])} to {number(metric['high'])})"

    floor = text("ici_floor", 4)
    return [
        text("uno_c", interval=True),
        text("auc", interval=True),
        text("ibs", 4),
        text("brier", 4),
        text("slope", 2),
        text("citl", 2),
        text("ici", 4) + (f" ({floor})" if floor not in ("", "-") else ""),
    ]


def summarise(evaluated: Evaluated, rows: Sequence[Metric], extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the page and the text show: outcome by outcome, horizon by horizon, models side by side.

    The JSON output holds the same numbers unrounded, as rows.

    Args: extra: further entries, such as "site" and "reasons" (None without one).
    """
    outcomes = []
    for outcome in dict.fromkeys(name for name, _ in evaluated.targets):
        of = [row for row in rows if row["outcome"] == outcome and row["metric"] != NET_BENEFIT]
        window = evaluated.blanking_days.get(outcome, 0)
        horizons: list[dict[str, Any]] = []
        for years in dict.fromkeys(row["horizon_years"] for row in of):
            at = [row for row in of if row["horizon_years"] == years and row["blanking_days"] == window]
            subgroups = list(dict.fromkeys(row["subgroup"] for row in at))
            tables = [_table([row for row in at if row["subgroup"] == subgroup]) for subgroup in subgroups]
            horizons.append(
                {
                    "years": years,
                    "label": within(years),
                    "everyone": tables[0],
                    "subgroups": list(zip(subgroups[1:], tables[1:], strict=True)),
                }
            )
        outcomes.append(
            {
                "name": outcome,
                "display": evaluated.display.get(outcome, outcome),
                "blanking_days": window,
                "horizons": horizons,
                "windows": _windows(of, horizons[-1]["years"], window),
                "left_out": sorted(evaluated.left_out.get(outcome, {}).items()),
            }
        )
    return {
        "split": evaluated.split,
        "rows": len(evaluated),
        "subjects": len(set(evaluated.subject_id.tolist())),
        "about": evaluated.about,
        "notes": list(evaluated.notes),
        "columns": list(COLUMNS),
        "outcomes": outcomes,
        "definitions": [list(entry) for entry in DEFINITIONS],
        "site": None,
        "reasons": None,
        "findings": None,
        **(extra or {}),
    }


def within(years: float) -> str:
    """A horizon in words."""
    return "known at once" if years == 0 else f"within {years:g} year{'s' if years != 1 else ''}"


def _windows(of: Sequence[Metric], years: float, own: int) -> list[tuple[int, dict[str, Any]]]:
    """Everyone at one horizon by blanking window, where there is more than the study's own."""
    at = [row for row in of if row["horizon_years"] == years and row["subgroup"] is None]
    windows = sorted({row["blanking_days"] for row in at})
    if windows == [own]:
        return []
    return [(window, _table([row for row in at if row["blanking_days"] == window])) for window in windows]


def _table(rows: Sequence[Metric]) -> dict[str, Any]:
    models: dict[str, dict[str, Metric]] = {}
    for row in rows:
        models.setdefault(row["model"], {})[row["metric"]] = row
    lines = []
    for model, found in models.items():
        reasons = {metric["reason"] for metric in found.values() if metric["value"] is None}
        other = [
            f"{name.replace('_', ' ')} {number(found[name]['value'])}"
            for name in ("coverage", "coverage_grouped", "rank_agreement", "share_of_oracle")
            if name in found and found[name]["value"] is not None
        ]
        lines.append(
            {
                "model": model,
                "cells": cells(found),
                "reason": "; ".join(sorted(reason for reason in reasons if reason)),
                "other": ", ".join(other),
            }
        )
    return {"n": rows[0]["n"], "events": rows[0]["events"], "lines": lines}


def text_table(summary: Mapping[str, Any]) -> str:
    """The summary as plain text for a terminal: one line per model, outcome and horizon.

    Under the last horizon of each outcome stand the first model's lines by subgroup and by blanking window; the page
    and the JSON have all.
    """
    about = ", ".join(f"{name} {value}" for name, value in summary["about"].items())
    lines = [f"split {summary['split']}: {summary['rows']:,} rows of {summary['subjects']:,} people; {about}"]
    lines += summary["notes"]
    for outcome in summary["outcomes"]:
        last = outcome["horizons"][-1]
        for horizon in outcome["horizons"]:
            lines += _section(f"{outcome['display']}, {horizon['label']}", horizon["everyone"], summary["columns"])
        where = f"{outcome['display']}, {last['label']}"
        few = [subgroup for subgroup, table in last["subgroups"] if _empty(table)]
        shown = [(subgroup, table) for subgroup, table in last["subgroups"] if subgroup not in few]
        lines += _compact(f"{where}, by subgroup", shown, summary["columns"])
        if few:
            lines += ["", *textwrap.wrap(f"{outcome['display']}: hidden (see below): {'; '.join(few)}", 118)]
        windows = [(f"{days} days", table) for days, table in outcome["windows"] if not _empty(table)]
        lines += _compact(f"{where}, by blanking window", windows, summary["columns"])
    lines += ["", *(f"{name}: {meaning}" for name, meaning in summary["definitions"])]
    return "\n".join(lines)


def _empty(table: Mapping[str, Any]) -> bool:
    return all(set(line["cells"]) <= {"", "-"} for line in table["lines"])


def _section(title: str, table: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    head = ["", f"{title}: n {count(table['n'])}, events {count(table['events'])}"]
    if _empty(table):
        return [*head, f"  no metrics: {table['lines'][0]['reason']}"]
    return [*head, *_aligned(table["lines"], columns)]


def _compact(title: str, tables: Sequence[tuple[str, Mapping[str, Any]]], columns: Sequence[str]) -> list[str]:
    """The first model's line of each table, under one head."""
    if not tables:
        return []
    lines = [
        {
            "model": label,
            "cells": [count(table["n"]), count(table["events"]), *table["lines"][0]["cells"]],
            "other": "",
            "reason": "",
        }
        for label, table in tables
    ]
    return ["", f"{title} ({tables[0][1]['lines'][0]['model']})", *_aligned(lines, ("n", "events", *columns))]


def count(value: int | None) -> str:
    """A count as it is printed; null (in a subgroup) is one that could point at a person."""
    return "hidden" if value is None else f"{value:,}"


def _aligned(lines: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    used = [i for i in range(len(columns)) if any(line["cells"][i] for line in lines)]
    head = ["", *(columns[i] for i in used)]
    body = [[line["model"], *(line["cells"][i] for i in used)] for line in lines]
    width = [max(len(row[i]) for row in [head, *body]) for i in range(len(head))]

    def joined(row: Sequence[str]) -> str:
        return "  " + "  ".join(cell.ljust(size) for cell, size in zip(row, width, strict=True)).rstrip()

    found = [joined(head)]
    for row, line in zip(body, lines, strict=True):
        found.append(joined(row))
        for extra in (line["other"], line["reason"]):
            if extra:
                found.append(f"  {'':{width[0]}}  {extra}")
    return found
