"""The dict of `summarise` -> one self-contained HTML page. Words are put here.

Every text is escaped (autoescape for all templates, whatever their name), an undefined name is an error, and the
pages carry no script and load nothing.
"""

from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from riskpred import __version__
from riskpred.report import draw
from riskpred.report.about import card_rows
from riskpred.report.language import language
from riskpred.report.names import Names, lower_first
from riskpred.report.words import Words, clip

GENERATOR = "riskpred report"
"""Content of the generator tag, by which an earlier report of ours is known."""


def page(summary: dict[str, Any], lang: str = "en") -> str:
    """One subject's page in a language of `language.LANGUAGES`."""
    names = named(lang, summary["model"])
    shown = {
        "den": summary["denominator"],
        "scale": draw.risk_scale(summary["outcomes"]),
        "card": card_rows(summary["model"], names),
    }
    return environment(lang).get_template("page.html.j2").render(**summary, **shown, names=names)


def named(lang: str, card: dict[str, Any]) -> Names:
    """The names in one language, with the words of a run's model card."""
    return Names(Words(language(lang)), card)


def _axis(why: dict[str, Any]) -> tuple[float, float]:
    """Ends of the axis on which the steps of one outcome are drawn: from zero to just above the highest step."""
    highest = max([why["reference_risk"], why["risk"], *(step["to"] for step in why["modalities"])])
    return 0.0, highest


@cache
def environment(lang: str) -> jinja2.Environment:
    """Templates in one language; every template also needs `names` in its context, which go with a run."""
    words = Words(language(lang))
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        extensions=["jinja2.ext.i18n"],
        autoescape=True,  # for every name: select_autoescape would skip .html.j2
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.policies["ext.i18n.trimmed"] = True
    made.install_gettext_translations(words.language.translations, newstyle=True)  # type: ignore[attr-defined]
    made.globals |= {
        "draw": draw,
        "words": words,
        "lang": words.language.tag,
        "generator": f"{GENERATOR} {__version__}",
    }
    made.globals |= {"sep": words.say("; "), "stop": words.say("."), "comma": words.say(", "), "colon": words.say(": ")}
    made.globals |= {"left": words.say(" ("), "right": words.say(")")}
    made.filters |= {
        "axis": _axis,
        "clip": clip,
        "lower_first": lower_first,
        "upper_first": lambda shown: shown[:1].upper() + shown[1:],
        "of_people": lambda share, of: words.language.decimal(f"{share * of:.1f}"),
        "points_small": lambda value: words.points(value, 1 if abs(value) >= 0.95 else 2),
    }
    made.filters |= {
        name: getattr(words, name)
        for name in (
            "age", "date", "figure", "horizon", "integer", "moment", "people", "percent", "percent_range",
            "percentile", "points", "within",
        )
    }  # fmt: skip
    return made
