"""What a model card says that a clinician can use, as labelled texts in a fixed order.

A card comes from the bundle as JSON. Entries that are absent, empty or of an unexpected shape are not shown; how the
model is built is left to the card itself. Sentences that every bundle has are said in the page's language; what a
study's author wrote is shown as written.
"""

from datetime import datetime
from typing import Any

from riskpred.report.language import text
from riskpred.report.names import Names

KNOWN = (
    text("To inform people who know the patient. It does not diagnose."),
    text("Risks are associations in the training data; a reason is what the model read, not a cause."),
    text("An interval says how far the risk moves when a part of the people is left out, not all that is unknown."),
    text("A missing modality counts as an absent term, not as a normal finding."),
)
"""Sentences of every bundle's card (see riskpred/fit)."""


def card_rows(card: dict[str, Any], names: Names) -> list[tuple[str, str]]:
    """(label, text) of what is there."""
    say = names.words.say
    found = [
        (say("What it is"), _text(card.get("description"), names)),
        (say("Made on"), _day(card.get("created_at"), names)),
        (say("Made from"), _trained_on(card.get("trained_on"), card.get("outcomes"), names)),
        (say("Meant for"), _text(card.get("intended_use"), names)),
        (say("Beware"), _text(card.get("cautions"), names, " ")),
        (say("Limits"), _text(card.get("limits"), names, " ")),
        (say("How well it did"), _text(card.get("performance"), names)),
    ]
    return [(label, shown) for label, shown in found if shown]


def _day(moment: object, names: Names) -> str | None:
    """An ISO 8601 moment as a date; None for anything else."""
    try:
        return names.words.date(datetime.fromisoformat(str(moment)).isoformat())
    except ValueError:
        return None


def _trained_on(entry: object, displays: object, names: Names) -> str | None:
    """Site, people and events behind each outcome: {"site", "subjects", "outcomes": {name: {"events"}}}."""
    if not isinstance(entry, dict):
        return _text(entry, names)
    say, say_count = names.words.say, names.words.say_count
    parts = []
    if _whole(entry.get("subjects")):
        people = say_count("%(n)s person", "%(n)s people", entry["subjects"])
        site = entry.get("site")
        parts.append(say("%(people)s at %(site)s", people=people, site=site) if isinstance(site, str) else people)
    outcomes = entry.get("outcomes")
    for outcome, counts in (outcomes if isinstance(outcomes, dict) else {}).items():
        if isinstance(counts, dict) and _whole(counts.get("events")):
            display = displays.get(outcome) if isinstance(displays, dict) else None
            named = names.outcome({"outcome": outcome, "display": display})
            parts.append(say("%(outcome)s in %(n)s of them", outcome=named, n=names.words.integer(counts["events"])))
    return names.words.say("; ").join(parts) or None


def _whole(entry: object) -> bool:
    return isinstance(entry, int) and not isinstance(entry, bool)


def _text(entry: object, names: Names, between: str = ", ") -> str | None:
    """A card's entry as plain text; nested tables are cut after one level."""
    if entry is None or entry == "" or isinstance(entry, bool):
        return None
    if isinstance(entry, str):
        return names.words.language.known(entry)
    if isinstance(entry, int):
        return names.words.integer(entry)
    if isinstance(entry, float):
        return names.words.figure(entry)
    if isinstance(entry, list):
        return between.join(shown for item in entry if (shown := _text(item, names))) or None
    if isinstance(entry, dict):
        said = ((names.outcome_name(str(key)), _text(item, names)) for key, item in entry.items())
        return names.words.say("; ").join(f"{key}: {shown}" for key, shown in said if shown) or None
    return None
