"""Hostile texts in every text column change nothing but themselves: no script runs, no number moves, nothing breaks."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import pytest

from riskpred.records.schema import table_schema, tables
from riskpred.report.write import write_report

HOSTILE = {
    "markup": "</title></style></svg><script>document.body.dataset.hit='1'</script>"
    '<img src=x onerror="document.body.dataset.hit=\'2\'"><a href="javascript:alert(1)">x</a>{{ 7*7 }}<!--',
    "quotes": "\"'`&amp;\" onload=\"document.body.dataset.hit='3'\" style='position:fixed;inset:0' x=",
    "direction": "\u202e\u2066abc\u200f שלום \u202d123" * 5,
    "long": "W" * 10_000,
    "dollar": "$x_1$ \\frac{1}{0} %(name)s %s {x} ${HOME}",
}
KEPT = {"run_id", "level", "kind", "modality", "status", "picture", "outline", "note", "model_card", "pseudonym"}
"""Columns whose values are ours to choose, by which rows are found (modality and status are spoilt by unit tests)."""
STRUCTURE = "() => [...document.querySelectorAll('*')].map(one => one.tagName + ':' + one.getAttributeNames().sort())"
VALUES = "() => [...document.querySelectorAll('data')].map(one => one.value)"


def _spoilt(path: Path, text: str) -> Path:
    """Every text column that a page reads, set to `text`; keys that join rows stay distinct by their own ending."""
    with duckdb.connect(str(path)) as connection:
        for name in tables("scores"):
            for column in table_schema("scores", name).columns:
                if column.type == "string" and column.name not in KEPT and name != "secrets":
                    connection.execute(
                        f'UPDATE "{name}" SET "{column.name}" = ? || "{column.name}" WHERE "{column.name}" IS NOT NULL',
                        [text],
                    )
        connection.execute("UPDATE runs SET status = 'published'")
    return path


def _files(report: Path) -> list[Path]:
    """A page of each kind: people with and without reasons, index, another order, model card."""
    return [
        *sorted(report.glob("????????????.html")),
        *(report / f"{name}.html" for name in ("index", "index-changed", "model")),
    ]


@pytest.fixture(scope="module")
def plain(synthetic: ModuleType, browser: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Any]]:
    """File -> elements and numbers of a report in which every text begins with a harmless word."""
    folder = tmp_path_factory.mktemp("plain")
    write_report(
        _spoilt(synthetic.write_scores(folder / "s.duckdb", subjects=2, explained=1), "plain "), folder / "r", top=2
    )
    page, found = browser.new_page(), {}
    for file in _files(folder / "r"):
        page.goto(file.as_uri())
        found[file.name] = (page.evaluate(STRUCTURE), page.evaluate(VALUES))
    page.close()
    return found


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_text_is_text(
    synthetic: ModuleType,
    plain: dict[str, tuple[Any, Any]],
    tmp_path: Path,
    see: Callable[..., Any],
    layout: str,
    kind: str,
) -> None:
    scores = _spoilt(synthetic.write_scores(tmp_path / "s.duckdb", subjects=2, explained=1), HOSTILE[kind])
    write_report(scores, tmp_path / "r", top=2)
    files = _files(tmp_path / "r")
    assert [file.name for file in files] == list(plain)
    for file in files:
        seen = see(file, width=360)
        assert seen.page.evaluate("() => document.body.dataset.hit") is None
        assert (seen.problems, seen.left) == ([], [])
        assert (seen.page.evaluate(STRUCTURE), seen.page.evaluate(VALUES)) == plain[file.name]
        assert seen.page.locator("script, iframe, a[href^=javascript]").count() == 0
        overflow = [said for said in seen.page.evaluate(layout) if "px wide" in said]
        assert overflow == [], file.name
    assert HOSTILE[kind][:20].split("\u202e")[0] in see(tmp_path / "r" / "index.html").page.inner_text("body")
