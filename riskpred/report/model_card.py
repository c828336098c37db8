"""The model card as a dict and as a page: TRIPOD+AI items and HTI-1 attributes, filled from what was measured.

An item that neither riskpred nor those responsible (card.yaml, see riskpred/config/card.py) have a text for says so.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from riskpred.config import card as ids
from riskpred.report import card_items
from riskpred.report.card_facts import Facts
from riskpred.report.card_figures import COLUMNS, Figures
from riskpred.report.names import Names
from riskpred.report.read import card_of
from riskpred.report.render import environment, named

LISTS: Final = {"tripod_ai": (ids.TRIPOD_AI, card_items.TRIPOD_AI), "hti_1": (ids.HTI_1, card_items.HTI_1)}
_SAME: Final = {("hti_1", "funding"): ("tripod_ai", "funding")}
"""An attribute that asks what an item asks, too: given once, shown in both."""


def model_card(run: Mapping[str, Any], lang: str) -> dict[str, Any]:
    """The card of a night. `run`: a row of `runs`."""
    card = card_of(run)
    evaluation = card.get("evaluation")
    about = {"version": run["bundle_version"], "sha256": run["bundle_sha256"], "promotion": run["promotion"]}
    return describe(card, [evaluation] if isinstance(evaluation, dict) else [], about, lang)


def describe(
    card: dict[str, Any], evaluations: Sequence[dict[str, Any]], about: Mapping[str, str | None], lang: str
) -> dict[str, Any]:
    """All that the page shows and `--json` prints.

    Args:
        card: as a night keeps it (riskpred/model/card.py).   evaluations: each as its entry `evaluation`, newest last.
        about: version, sha256, and promotion where a night says it.

    tripod_ai, hti_1: by item {"number", "section", "title", "text", "given"}: what riskpred knows, and what those
    responsible say; both null = not provided. provided: how many of each list have a text.
    """
    names = named(lang, card)
    facts, say = Facts(card, list(evaluations), names), names.words.say
    given = _given(card.get("texts"))
    known = {"tripod_ai": facts.tripod_ai(), "hti_1": facts.hti_1()}
    found: dict[str, dict[str, dict[str, str | None]]] = {}
    for which, (numbers, titles) in LISTS.items():
        assert numbers.keys() == titles.keys(), "an item without a title, or a title without an item"
        assert known[which].keys() <= numbers.keys(), "a text for no item"
        found[which] = {
            key: {
                "number": number,
                "section": say(titles[key][0]),
                "title": say(titles[key][1]),
                "text": known[which].get(key),
                "given": given.get((which, key)) or given.get(_SAME.get((which, key), (which, key))),
            }
            for key, number in numbers.items()
        }
    name, display = card.get("name"), facts.tripod_ai()["title"]
    return {
        "name": name if isinstance(name, str) else None,
        "display": display,
        "created_at": card.get("created_at") if isinstance(card.get("created_at"), str) else None,
        **dict(about),
        **found,
        "provided": {
            which: {"with_text": sum(bool(one["text"] or one["given"]) for one in items.values()), "of": len(items)}
            for which, items in found.items()
        },
        "evaluations": list(evaluations),
    }


def card_page(shown: dict[str, Any], card: dict[str, Any], lang: str, index: bool) -> str:
    """The page of what `describe` gave. index: whether it lies in a report, whose index it links to."""
    names = named(lang, card)
    outcomes = card.get("outcomes")
    figures = Figures(names, outcomes if isinstance(outcomes, dict) else {})
    tables = [
        {"where": figures.where(one), "rows": one.get("rows"), "outcomes": figures.tables(one)}
        for one in reversed(shown["evaluations"])
    ]
    return (
        environment(lang)
        .get_template("card.html.j2")
        .render(
            shown=shown,
            tables=tables,
            columns=[_headings(names)[name] for name in COLUMNS],
            sections={which: _sections(shown[which]) for which in LISTS},
            index=index,
        )
    )


def _sections(items: dict[str, dict[str, str | None]]) -> list[tuple[str | None, list[dict[str, str | None]]]]:
    """Items by section, in order; each with its key."""
    keyed = [{**item, "key": key} for key, item in items.items()]
    return [(section, list(group)) for section, group in groupby(keyed, key=lambda item: item["section"])]


def _headings(names: Names) -> dict[str, str]:
    say = names.words.say
    return {
        "observed": say("Observed"),
        "expected": say("Expected"),
        "observed_over_expected": say("Observed over expected"),
        "citl": say("Calibration in the large"),
        "slope": say("Calibration slope"),
        "ici": "ICI",
        "brier": "Brier",
        "ipa": "IPA",
    }


def _given(texts: object) -> dict[tuple[str, str], str]:
    """What those responsible say, by list and item."""
    found = {}
    for which in LISTS:
        entries = texts.get(which) if isinstance(texts, dict) else None
        for key, said in entries.items() if isinstance(entries, dict) else ():
            if isinstance(said, str):
                found[which, key] = said
    return found
