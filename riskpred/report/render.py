"""The dict of `summarise` -> one self-contained HTML page; the rows of `index` -> the index page. Words are put here.

Every text is escaped (autoescape for all templates, whatever their name), an undefined name is an error, and the
pages carry no script and load nothing.
"""

from collections.abc import Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from riskpred import __version__
from riskpred.report import draw, names, words

GENERATOR = "riskpred report"
"""Content of the generator tag, by which an earlier report of ours is known."""


def page(summary: dict[str, Any]) -> str:
    """One subject's page."""
    return (
        _environment()
        .get_template("page.html.j2")
        .render(**summary, scale=draw.risk_scale(summary["outcomes"]), card=card_rows(summary["model"]))
    )


def index_page(head: dict[str, Any], rows: Iterator[dict[str, Any]]) -> Iterator[str]:
    """The index in pieces, so that its size does not matter."""
    return _environment().get_template("index.html.j2").stream(**head, rows=rows)


def card_rows(card: dict[str, Any]) -> list[tuple[str, str]]:
    """What a model card says that a clinician can use, as (label, text) in a fixed order.

    A card comes from the bundle as JSON. Entries that are absent, empty or of an unexpected shape are not shown;
    how the model is built is left to the card itself.
    """
    found = [
        ("What it is", _card_text(card.get("description"))),
        ("Made on", _day(card.get("created_at"))),
        ("Made from", _trained_on(card.get("trained_on"), card.get("outcomes"))),
        ("Meant for", _card_text(card.get("intended_use"))),
        ("Beware", _card_text(card.get("cautions"), " ")),
        ("Limits", _card_text(card.get("limits"), " ")),
        ("How well it did", _card_text(card.get("performance"))),
    ]
    return [(label, text) for label, text in found if text]


def _day(text: object) -> str | None:
    """An ISO 8601 moment as a date; None for anything else."""
    try:
        return words.date(datetime.fromisoformat(str(text)).isoformat())
    except ValueError:
        return None


def _trained_on(entry: object, displays: object) -> str | None:
    """Site, people and events behind each outcome: {"site", "subjects", "outcomes": {name: {"events"}}}."""
    if not isinstance(entry, dict):
        return _card_text(entry)
    parts = []
    if isinstance(entry.get("subjects"), int):
        site = f" at {entry['site']}" if isinstance(entry.get("site"), str) else ""
        parts.append(f"{entry['subjects']:,} people{site}")
    outcomes = entry.get("outcomes")
    for outcome, counts in (outcomes if isinstance(outcomes, dict) else {}).items():
        if isinstance(counts, dict) and isinstance(counts.get("events"), int):
            named = displays.get(outcome) if isinstance(displays, dict) else None
            parts.append(f"{_named({'outcome': outcome, 'display': named})} in {counts['events']:,} of them")
    return "; ".join(parts) or None


def _named(one: dict[str, Any]) -> str:
    """An outcome's name in words: the model card's, else made from its code."""
    display = one.get("display")
    return display if isinstance(display, str) else names.outcome_name(one["outcome"])


def _card_text(entry: object, between: str = ", ") -> str | None:
    """A card's entry as plain text; nested tables are cut after one level."""
    if entry is None or entry == "" or isinstance(entry, bool):
        return None
    if isinstance(entry, str):
        return entry
    if isinstance(entry, int):
        return f"{entry:,}"
    if isinstance(entry, float):
        return words.figure(entry)
    if isinstance(entry, list):
        return between.join(text for item in entry if (text := _card_text(item))) or None
    if isinstance(entry, dict):
        parts = [f"{names.outcome_name(str(key))}: {text}" for key, item in entry.items() if (text := _card_text(item))]
        return "; ".join(parts) or None
    return None


def _flag_short(flag: str) -> str:
    return names.outcome_name(flag)


def _decimals(why: dict[str, Any]) -> int:
    """Decimals of the points of one outcome: one, unless no contribution reaches a point."""
    largest = max([abs(why["total"]), why["largest"], *(abs(step["contribution"]) for step in why["modalities"])])
    return 1 if largest >= 1 else 2 if largest >= 0.1 else 3


def _axis(why: dict[str, Any]) -> tuple[float, float]:
    """Ends of the axis on which the steps of one outcome are drawn: from zero to just above the highest step."""
    highest = max([why["reference_risk"], why["risk"], *(step["to"] for step in why["modalities"])])
    return 0.0, highest


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,  # for every name: select_autoescape would skip .html.j2
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals |= {"draw": draw, "generator": f"{GENERATOR} {__version__}"}
    environment.filters |= {
        "age": words.age,
        "axis": _axis,
        "clip": words.clip,
        "code_name": names.code_name,
        "date": words.date,
        "decimals": _decimals,
        "feature_name": names.feature_name,
        "fact": names.fact,
        "figure": words.figure,
        "flag_short": _flag_short,
        "flag_words": names.flag_words,
        "horizon": words.horizon,
        "lower_first": lambda text: text[:1].lower() + text[1:],
        "measured": names.measured,
        "modality_name": names.modality_name,
        "named": _named,
        "moment": words.moment,
        "outcome_name": names.outcome_name,
        "people": words.people,
        "percent": words.percent,
        "percent_range": words.percent_range,
        "percentile": words.percentile,
        "points": words.points,
        "reason_words": names.reason_words,
        "status_words": names.status_words,
        "within": words.within,
    }
    return environment
