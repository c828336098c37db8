"""The HTML page is self-contained, shows the table's numbers and says its pictures in words."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from riskpred.errors import OutputError
from riskpred.evaluate.metrics import metrics
from riskpred.evaluate.page import page, write_page
from riskpred.evaluate.summary import number


@pytest.fixture(scope="module")
def shown(made_up):
    evaluated = made_up()
    rows = metrics(evaluated, resamples=10)
    return rows, page(evaluated, rows)


def test_nothing_is_fetched_and_nothing_runs(shown):
    _, html = shown
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in html
    assert "<script" not in html
    assert not re.search(r"""(?:src|href)\s*=|url\(|@import|\son\w+\s*=""", html)
    assert not re.search(r"https?://", html)


def test_names_from_the_study_are_escaped(shown):
    assert "Heart &lt;disease&gt;" in shown[1]
    assert "<disease>" not in shown[1]


def test_it_is_well_formed_and_every_picture_is_said_in_words(shown):
    class Checker(HTMLParser):
        open_tags: list[str] = []
        pictures = 0

        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "rect", "line", "circle", "polyline"):
                self.open_tags.append(tag)
            if tag == "svg":
                said = dict(attrs)
                assert said["role"] == "img"
                assert "observed" in said["aria-label"]
                self.pictures += 1

        def handle_endtag(self, tag):
            assert self.open_tags.pop() == tag

        def handle_startendtag(self, tag, attrs):
            pass

    checker = Checker()
    checker.feed(shown[1])
    assert checker.open_tags == []
    assert checker.pictures == 3


def test_it_shows_the_numbers_of_the_table(shown):
    rows, html = shown
    for row in rows:
        if row["subgroup"] is None and row["metric"] in ("uno_c", "brier") and row["value"] is not None and row["low"]:
            text = number(row["value"], 4 if row["metric"] == "brier" else 3)
            assert text in html, row
    assert "prevalent: 12" in html
    assert "n fewer than 10, events fewer than 10" in html
    assert "In short" in html


def test_a_horizon_without_metrics_has_no_picture_and_a_reason(made_up):
    far = replace(made_up(300), targets=(("heart", 1.0), ("heart", 40.0), ("low", 0.0)))
    html = page(far, metrics(far, resamples=5))
    assert html.count("<svg") == 2
    assert "followed to the horizon" in html


def test_the_page_is_written_whole_or_not_at_all(tmp_path):
    write_page("<p>one</p>", tmp_path / "e.html")
    write_page("<p>two</p>", tmp_path / "e.html")
    assert [path.name for path in tmp_path.iterdir()] == ["e.html"]
    assert (tmp_path / "e.html").read_text() == "<p>two</p>"
    with pytest.raises(OutputError, match="cannot be written"):
        write_page("x", tmp_path / "nowhere" / "e.html")
