"""The index of a report: everyone with a page, in several orders, as pages of 2,000 lines that need no script.

An order is a page of its own (`index.html` by highest risk, `index-changed.html`, ...), which its column's heading
links to. 2,000 lines a page: 100,000 in one take Chromium 49 s and 3.5 GB, 2,000 take .4 s and .3 GB (measured by
tests/benchmarks/reasons/index_size.py).
"""

import tempfile
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final

from markupsafe import Markup

from riskpred.report.index_rows import CHANGED_POINTS, Counts, Listed
from riskpred.report.names import Names
from riskpred.report.read import Scores, card_of, utc
from riskpred.report.render import environment, named
from riskpred.report.summarise import outcome_displays, run_facts

ROWS_A_PAGE: Final = 2000

_MARK: Final = "<!--lines-->"
_FIRST: Final = "risk"


@dataclass(frozen=True)
class Order:
    """One way to list everyone. key: of the column, and of the file's name; title: in words."""

    key: str
    title: str

    def files(self, people: int) -> list[str]:
        """Names of its pages, in order; at least one."""
        stem = "index" if self.key == _FIRST else f"index-{self.key}"
        pages = max(1, -(-people // ROWS_A_PAGE))
        return [f"{stem}.html", *(f"{stem}-page-{number}.html" for number in range(2, pages + 1))]


def write_index(scores: Scores, subjects: Sequence[int], chosen: str, folder: Path, lang: str) -> Iterator[str]:
    """Write the pages of every order into `folder`; yields their names, index.html last."""
    names = named(lang, card_of(scores.run))
    listed = Listed(scores, subjects)
    columns = _columns(scores, listed, names)
    counts = listed.counts()
    orders = _orders(columns, listed, names)
    if len(subjects) < 2:  # nothing to sort
        orders = orders[:1]
    links = {order.key: order.files(1)[0] for order in orders}
    head = {
        "run": run_facts(scores.run),
        "chosen": names.words.language.known(chosen),
        "columns": columns,
        "counts": _by_key(counts, columns),
        "before": None if listed.before is None else {"as_of_iso": utc(listed.before["as_of"])},
        "changed_points": CHANGED_POINTS,
        "links": {key: links.get(key) for key in (*(one["key"] for one in columns), "changed", "flagged")},
        "names": names,
    }
    with tempfile.TemporaryFile(dir=folder) as held:
        starts = _write_lines(listed, columns, names, lang, held)
        for order in reversed(orders):
            positions = _positions(order.key, columns, listed, len(subjects))
            files = order.files(len(positions))
            for number in range(len(files), 0, -1):
                above, below = _frame({**head, "order": order, "pages": files, "number": number}, lang)
                with (folder / files[number - 1]).open("wb") as stream:
                    stream.write(above)
                    for position in positions[(number - 1) * ROWS_A_PAGE : number * ROWS_A_PAGE]:
                        held.seek(starts[position])
                        stream.write(held.read(starts[position + 1] - starts[position]))
                    stream.write(below)
                yield files[number - 1]


def _columns(scores: Scores, listed: Listed, names: Names) -> list[dict[str, Any]]:
    displays = outcome_displays(scores.run)
    return [
        {
            "key": f"outcome-{number}",
            "outcome": outcome,
            "name": names.outcome({"outcome": outcome, "display": displays.get(outcome)}),
            "horizon_years": years,
        }
        for number, (outcome, years) in enumerate(listed.outcomes, start=1)
    ]


def _orders(columns: Sequence[dict[str, Any]], listed: Listed, names: Names) -> list[Order]:
    say = names.words.say
    found = [Order(_FIRST, say("By highest risk"))]
    found += [Order(one["key"], say("By risk: %(outcome)s", outcome=one["name"])) for one in columns]
    if listed.before is not None:
        found.append(Order("changed", say("By change since the run before")))
    return [*found, Order("flagged", say("By number of warnings"))]


def _positions(key: str, columns: Sequence[dict[str, Any]], listed: Listed, people: int) -> "array[int]":
    if key == _FIRST:
        return array("q", range(people))
    if key == "changed":
        return listed.by_change()
    if key == "flagged":
        return listed.by_flags()
    return listed.by_outcome(next(one["outcome"] for one in columns if one["key"] == key))


def _by_key(counts: Counts, columns: Sequence[dict[str, Any]]) -> dict[str, int]:
    plain = asdict(counts)
    assessed = plain.pop("assessed")
    return {**plain, **{one["key"]: assessed[one["outcome"]] for one in columns}}


def _write_lines(
    listed: Listed, columns: Sequence[dict[str, Any]], names: Names, lang: str, into: IO[bytes]
) -> "array[int]":
    """Render everyone's line; returns where each begins, and where the last one ends. Shape: (people + 1,)."""
    template = environment(lang).get_template("index_row.html.j2")
    outcomes = {one["outcome"]: one["name"] for one in columns}
    starts = array("q", [0])
    for row in listed.rows():
        counted = ["people", *(one["key"] for one, cell in zip(columns, row["cells"], strict=True) if cell)]
        if row["flags"]:
            counted.append("flagged")
        if row["change"] is not None and abs(row["change"]) > CHANGED_POINTS:
            counted.append("changed")
        line = template.render(row={**row, "counts": counted}, outcomes=outcomes, before=listed.before, names=names)
        starts.append(starts[-1] + into.write(line.encode() + b"\n"))
    return starts


def _frame(head: dict[str, Any], lang: str) -> tuple[bytes, bytes]:
    """What stands above and below the lines."""
    page = environment(lang).get_template("index.html.j2").render(**head, mark=Markup(_MARK))
    above, below = page.split(f"{_MARK}\n")
    return above.encode(), below.encode()
