"""The page a clinician reads: the tables' numbers, safe against any text, readable by machines too."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from riskpred.report import render
from riskpred.report.about import card_rows
from riskpred.report.read import Scores
from riskpred.report.summarise import summarise

RUN = "run-of-21-november"
HOSTILE = (
    "</title></style><script>alert('x')</script><img src=x onerror=alert(1)>\"'`&amp;{{ 7*7 }}{% raw %}$E=mc^2$"
    "\u202eDEKCAH\u202c\u200f\x01 <!-- ]]> --> javascript:alert(2) "
)
TEXTS = {
    "risk_scores": ("outcome", "reference_group"),
    "explanations": ("outcome", "modality", "text_value", "unit"),
    "evidence": ("name", "unit"),
    "missing_impact": ("outcome", "modality", "unit"),
    "changes": ("outcome", "text_value", "to_text_value", "unit"),
    "eligibility": ("outcome", "reason", "subject_digest"),
    "input_receipts": ("modality", "status"),
    "runs": ("bundle_name", "bundle_version", "bundle_sha256", "code_version", "numeric_path"),
    "rejects": ("source", "row_key", "reason", "field", "wanted"),
}


def _pages(path: Path) -> dict[str, str]:
    with Scores.open(path) as opened:
        found = {}
        for rows in opened.rows(opened.scored()).values():
            summary = summarise(opened.run, rows)
            found[summary["pseudonym"]] = render.page(summary)
        return found


@pytest.fixture(scope="module")
def pages(scores: Path) -> dict[str, str]:
    return _pages(scores)


def test_every_risk_on_the_page_is_the_tables(
    pages: dict[str, str], read_page: Callable[[str], Any], ask: Callable[..., Any]
) -> None:
    rows = ask("SELECT * FROM risk_scores JOIN pseudonyms USING (run_id, subject_id) WHERE run_id = ?", RUN)
    read = {name: read_page(html) for name, html in pages.items()}
    for row in rows:
        page, key = read[row["pseudonym"]], f"{row['outcome']}|{row['horizon_years']}"
        for hook, name in (("data-test-risk", "risk"), ("data-test-reference", "reference_risk")):
            assert float(page.values[hook, key]) == row[name]
            percent = 100 * row[name]
            assert page.texts[hook, key] == (f"{percent:.1f}\u00a0%" if percent >= 0.995 else f"{percent:.2f}\u00a0%")
        low, high = page.texts["data-test-interval", key].removesuffix("\u00a0%").split(" to ")
        assert abs(float(low) - 100 * row["risk_low"]) <= 0.0501
        assert abs(float(high) - 100 * row["risk_high"]) <= 0.0501
    assert sum(len([key for key in page.values if key[0] == "data-test-risk"]) for page in read.values()) == len(rows)


def test_every_contribution_of_a_modality_is_the_tables(
    pages: dict[str, str], read_page: Callable[[str], Any], ask: Callable[..., Any]
) -> None:
    rows = ask(
        "SELECT * FROM explanations JOIN pseudonyms USING (run_id, subject_id) "
        "WHERE run_id = ? AND level = 'modality' AND horizon_years = 10",
        RUN,
    )
    read = {name: read_page(html) for name, html in pages.items()}
    for row in rows:
        hook = "data-test-modality", f"{row['outcome']}|{row['modality']}"
        assert float(read[row["pseudonym"]].values[hook]) == row["contribution"]
    assert len(rows) > 150


def test_remainders_and_what_is_missing_are_shown(pages: dict[str, str], read_page: Callable[[str], Any]) -> None:
    explained = [page for page in map(read_page, pages.values()) if "Facts that raise the risk" in page.text]
    assert len(explained) == 12
    for page in explained:
        shown = {key.rsplit("|", 1)[1] for hook, key in page.values if hook == "data-test-unnamed"}
        assert {"(presence)", "(other)", "(unexplained)"} <= shown
        assert "Smoking, latest" in page.text
    assert any("not there" in read_page(html).texts["data-test-input", "image"] for html in pages.values())


def test_the_words_a_page_must_have(
    pages: dict[str, str], read_page: Callable[[str], Any], ask: Callable[..., Any]
) -> None:
    prevalent = ask(
        "SELECT pseudonym FROM eligibility JOIN pseudonyms USING (run_id, subject_id) WHERE reason = 'prevalent'"
    )
    read = {name: read_page(html) for name, html in pages.items()}
    for page in read.values():
        assert re.search(
            r"\d+ of 100 people like this one will have this within 10\u00a0years; \d+ will not\.", page.text
        )
        assert "does not replace" in page.text
        assert re.search(r"with the average data of (women|men) aged \d0 to \d9\.", page.text)
    for row in prevalent:
        assert "a first occurrence cannot be predicted" in read[row["pseudonym"]].text
    flagged = [page for page in read.values() if "Read with care." in page.text]
    assert flagged
    assert all("records that include this person" in page.texts["data-test-flag", ""] for page in flagged)


def test_a_page_is_self_contained_and_well_formed(pages: dict[str, str], read_page: Callable[[str], Any]) -> None:
    for name, html in pages.items():
        page = read_page(html)
        assert page.headings[0] == 1
        assert page.headings.count(1) == 1
        assert all(after - before <= 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
        attributes = [(tag, key, value) for tag, found in page.tags for key, value in found.items()]
        assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "embed", "form", "base"})
        assert not [key for _, key, _ in attributes if key.startswith("on")]
        references = [value for _, key, value in attributes if key in ("href", "src", "action", "xlink:href")]
        pictures_within = [value for value in references if value != "model.html"]
        assert all(value.startswith("data:image/png;base64,") for value in pictures_within)
        assert "url(" not in html
        assert "@import" not in html
        policy = next(
            found["content"] for tag, found in page.tags if found.get("http-equiv") == "Content-Security-Policy"
        )
        assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")
        assert page.tags[0] == ("html", {"lang": "en"})
        assert name in html.split("<title>", 1)[1].split("</title>", 1)[0]
        pictures = [found for tag, found in page.tags if tag == "svg"]
        assert all(("aria-label" in found) != ("aria-hidden" in found) for found in pictures)
        assert len(html.encode()) < (400_000 if pictures_within else 150_000)


def _with_texts(path: Path, prefix: str) -> Path:
    """Put `prefix` before every text of the file that a page may show (keys stay distinct, sorting stays)."""
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "INSERT INTO rejects SELECT run_id, 'images', 'IMG7', subject_id, 'truncated', 'pixels', 'a whole file' "
            "FROM pseudonyms"
        )
        for table, columns in TEXTS.items():
            changes = ", ".join(f"{column} = $text || {column}" for column in columns)
            connection.execute(f"UPDATE {table} SET {changes}", {"text": prefix})
        connection.execute(
            "UPDATE explanations SET feature = $text || feature WHERE feature NOT LIKE '(%'", {"text": prefix}
        )
        connection.execute("UPDATE evidence SET outline = $text || outline", {"text": prefix})
        connection.execute("UPDATE risk_scores SET scope_flags = [$text, $text || 'more']", {"text": prefix})
        connection.execute(
            "UPDATE input_receipts SET missing_features = list_transform(missing_features, lambda x: $text || x)",
            {"text": prefix},
        )
        connection.execute(
            "UPDATE runs SET model_card = json_object('description', $text, 'intended_use', $text, "
            "'outcomes', json_object($text || 'cancer', $text), "
            "'trained_on', json_object('site', $text, 'subjects', 5))",
            {"text": prefix},
        )
        for table in ("runs", *(name for name in TEXTS if name != "runs"), "pseudonyms"):
            connection.execute(f"UPDATE {table} SET run_id = $text || run_id", {"text": prefix})
    return path


@pytest.mark.parametrize(
    "hostile", [HOSTILE, "A" * 10_000, "ش\u202e" * 300, "$$ \\frac{1}{0} $ " * 40, "\n\r\t\v" * 9 + "x"]
)
def test_hostile_text_changes_nothing_but_itself(
    tmp_path: Path, write_scores: Callable[..., Path], read_page: Callable[[str], Any], hostile: str
) -> None:
    plain = _with_texts(write_scores(tmp_path / "plain.duckdb", subjects=3, explained=2), "plain ")
    wild = _with_texts(write_scores(tmp_path / "wild.duckdb", subjects=3, explained=2), hostile)
    expected, found = _pages(plain), _pages(wild)
    assert list(found) == list(expected)
    for name, html in found.items():
        page, like = read_page(html), read_page(expected[name])
        assert page.skeleton == like.skeleton
        assert list(page.values.values()) == list(like.values.values())
        assert not re.search(r"<script|<img|\{\{ ?49|>49<", html)
        assert page.headings == like.headings
    assert hostile.split()[0][:20] in read_page(next(iter(found.values()))).text


def test_no_undefined_name_renders_as_nothing() -> None:
    with pytest.raises(Exception, match="undefined"):
        render.environment("en").from_string("{{ nothing_of_the_kind }}").render()


@pytest.mark.parametrize(
    ("card", "rows"),
    [
        ({}, []),
        ({"description": "A model.", "secret": "x"}, [("What it is", "A model.")]),
        (
            {"trained_on": {"site": "A", "subjects": 14000, "outcomes": {"stroke": {"events": 1200}, "odd": 3}}},
            [("Made from", "14,000 people at A; Stroke in 1,200 of them")],
        ),
        ({"created_at": "2026-11-01T09:30:00+00:00"}, [("Made on", "1\u00a0Nov\u00a02026")]),
        ({"created_at": "2026-02-31T00:00:00", "description": True, "limits": [], "trained_on": {"subjects": "x"}}, []),
        ({"limits": ["One.", "Two."]}, [("Limits", "One. Two.")]),
    ],
)
def test_a_model_card_shows_what_it_knows(card: dict[str, Any], rows: list[tuple[str, str]]) -> None:
    assert card_rows(card, render.named("en", card)) == rows
