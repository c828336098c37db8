"""The evaluation as one self-contained HTML file: no script, nothing fetched."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from riskpred.evaluate.exhibits import FOREST, MORE_DEFINITIONS, exhibits, windows
from riskpred.evaluate.gather import Evaluated
from riskpred.evaluate.in_place import in_its_place
from riskpred.evaluate.metrics import Metric
from riskpred.evaluate.picture import SIZE, pictures
from riskpred.evaluate.sets import DEFINITIONS as SETS
from riskpred.evaluate.summary import count, summarise

TEMPLATE = "evaluate.html.j2"


def page(evaluated: Evaluated, rows: Sequence[Metric], extra: Mapping[str, Any] | None = None) -> str:
    """HTML of one evaluation, from the same summary as the text table.

    Args: extra: further entries of the summary, such as "site" (drawn by templates/site.html.j2).
    """
    summary: dict[str, Any] = summarise(evaluated, rows, extra)
    for outcome in summary["outcomes"]:
        drawn = pictures(evaluated, outcome["name"])
        for horizon, picture in zip(outcome["horizons"], drawn, strict=True):
            horizon |= exhibits(rows, outcome["name"], horizon["years"], outcome["blanking_days"])
            horizon["picture"] = picture
        outcome["window_table"] = windows(rows, outcome["name"])
    return render(summary)


def render(summary: Mapping[str, Any]) -> str:
    """The template, filled; autoescaped, and a name that the summary lacks is an error."""
    more = [list(entry) for entry in MORE_DEFINITIONS]
    told = {"more_definitions": more, "size": SIZE, "forest_width": FOREST, "set_definitions": SETS}
    return environment().get_template(TEMPLATE).render(**summary, **told)


def environment() -> Environment:
    """The templates of this room and the filter `count`; `score` draws what came true with them, too."""
    made = Environment(
        loader=PackageLoader("riskpred.evaluate", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["count"] = count
    return made


def write_page(text: str, into: Path) -> None:
    """Write the page beside its place and move it there whole.

    Raises: OutputError, when the folder is missing or not writable.
    """
    with in_its_place(into, "--into") as beside:
        beside.write_text(text, encoding="utf-8")
