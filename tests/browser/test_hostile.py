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


@pytest.fixture(scope="module")
def plain(synthetic: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report in which every text begins with a harmless word."""
    folder = tmp_path_factory.mktemp("plain")
    write_report(_spoilt(synthetic.write_scores(folder / "s.duckdb", subjects=3, explained=2), "plain "), folder / "r")
    return folder / "r"


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_text_is_text(
    synthetic: ModuleType, plain: Path, tmp_path: Path, see: Callable[..., Any], layout: str, kind: str
) -> None:
    scores = _spoilt(synthetic.write_scores(tmp_path / "s.duckdb", subjects=3, explained=2), HOSTILE[kind])
    write_report(scores, tmp_path / "r")
    assert {path.name for path in plain.iterdir()} == {path.name for path in (tmp_path / "r").iterdir()}
    for file in sorted((tmp_path / "r").iterdir()):
        seen, like = see(file, width=360), see(plain / file.name, width=360)
        assert seen.page.evaluate("() => document.body.dataset.hit") is None
        assert seen.problems == []
        assert seen.left == []
        assert seen.page.evaluate(STRUCTURE) == like.page.evaluate(STRUCTURE), file.name
        assert seen.page.evaluate(VALUES) == like.page.evaluate(VALUES)
        assert seen.page.locator("script, iframe, a[href^=javascript]").count() == 0
        overflow = [said for said in seen.page.evaluate(layout) if "px wide" in said]
        assert overflow == [], file.name
    shown = see(tmp_path / "r" / "index.html").page.inner_text("body")
    assert HOSTILE[kind][:20].split("\u202e")[0] in shown
