"""The HTML page is self-contained, shows the table's numbers and says its pictures in words."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from riskpred.errors import OutputError
from riskpred.evaluate.metrics import metrics
from riskpred.evaluate.page import page, write_page
from riskpred.evaluate.summary import number, summarise


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
        said: list[str] = []

        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "br", "rect", "line", "circle", "polyline", "polygon"):
                self.open_tags.append(tag)
            if tag == "svg":
                assert dict(attrs)["role"] == "img"
                self.said.append(dict(attrs)["aria-label"])

        def handle_endtag(self, tag):
            assert self.open_tags.pop() == tag

        def handle_startendtag(self, tag, attrs):
            pass

    checker = Checker()
    checker.feed(shown[1])
    assert checker.open_tags == []
    assert sum("observed" in text for text in checker.said) == 3
    assert sum("decision curve. Net benefit per 1,000 people at thresholds" in text for text in checker.said) == 3
    assert sum("everyone: Uno's C ." in text or "everyone: AUC ." in text for text in checker.said) == 3
    assert all(checker.said)


def test_it_shows_the_numbers_of_the_table(shown):
    rows, html = shown
    digits = {"uno_c": 3, "harrell_c": 3, "auc": 3, "ipa": 3, "citl": 2, "slope": 2, "coverage": 3}
    seen = set()
    for row in rows:
        own_window = row["blanking_days"] == 0
        aside = row["subgroup"] is not None or not own_window
        if aside and (row["metric"] not in ("uno_c", "ici") or row["model"] != "riskpred"):
            continue
        if row["value"] is None or row["model"] == "treat none":
            continue
        places = digits.get(row["metric"], 4)
        assert f">{number(row['value'], places)}<" in html, row
        if row["low"] is not None and row["metric"] == "uno_c":
            assert f"{number(row['low'], places)} to {number(row['high'], places)}" in html, row
        seen.add((row["metric"], row["subgroup"] is None, own_window))
    assert {metric for metric, *_ in seen} >= {"net_benefit", "ici_floor", "ibs", *digits}
    assert {("uno_c", True, False), ("uno_c", False, True), ("ici", True, False)} <= seen
    assert "prevalent: 12" in html
    assert "In short" in html


def test_hidden_numbers_are_nowhere(shown):
    rows, html = shown
    hidden = [row for row in rows if row["subgroup"] == "with nothing"]
    assert hidden
    assert (
        '<tr data-test-subgroup="with nothing"><th scope="row">with nothing</th><td class="number">hidden</td>' in html
    )


def test_the_summary_says_what_the_numbers_come_to(shown):
    _, html = shown
    short = html[html.index("In short") : html.index("<h2>Heart")]
    assert re.search(r"Uno(&#39;|')s C \.\d+ \(\.\d+ to \.\d+\); better than spline_cox by \.\d+", short)
    assert "Acting on the risk does more good than treating everyone or no one at thresholds of" in short
    assert re.search(r"ICI \.\d+ \(.*\), \d\.\d times that of exact risks", short)


def test_a_horizon_without_metrics_has_no_picture_and_a_reason(made_up):
    far = replace(made_up(300), targets=(("heart", 1.0), ("heart", 40.0), ("low", 0.0)))
    html = page(far, metrics(far, resamples=5))
    assert html.count(": predicted risk and observed incidence.") == 2
    assert "followed to the horizon" in html


def test_what_is_extra_reaches_the_template(made_up):
    evaluated = made_up(300)
    rows = metrics(evaluated, resamples=5)
    assert summarise(evaluated, rows)["site"] is None
    assert summarise(evaluated, rows, {"site": {"a": 1}})["site"] == {"a": 1}


def test_it_prints(shown):
    assert "@media print" in shown[1]
    assert "<details" not in shown[1]  # closed on paper


def test_the_page_is_written_whole_or_not_at_all(tmp_path):
    write_page("<p>one</p>", tmp_path / "e.html")
    write_page("<p>two</p>", tmp_path / "e.html")
    assert [path.name for path in tmp_path.iterdir()] == ["e.html"]
    assert (tmp_path / "e.html").read_text() == "<p>two</p>"
    with pytest.raises(OutputError, match="cannot be written"):
        write_page("x", tmp_path / "nowhere" / "e.html")
