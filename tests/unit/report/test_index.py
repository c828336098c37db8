"""The index: the table's numbers in every order, counts of what its lines say, pages of a fixed length."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from riskpred.report.write import write_report

RUN = "run-of-21-november"


@pytest.fixture(scope="module")
def report(scores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index") / "r"
    write_report(scores, folder, top=24)
    return folder


def _people(page: Any) -> list[str]:
    return [
        found["href"].removesuffix(".html") for tag, found in page.tags if found.get("class") == "code" and tag == "a"
    ]


def _risks(page: Any) -> list[float]:
    return [float(found["value"]) for tag, found in page.tags if tag == "data" and "class" not in found]


def test_the_first_order_shows_the_tables_numbers_highest_first(
    report: Path, ask: Callable[..., Any], read_page: Callable[[str], Any]
) -> None:
    page = read_page((report / "index.html").read_text())
    rows = ask(
        f"""
        SELECT s.subject_id, s.outcome, s.risk, 100 * (s.risk - b.risk) AS change, pseudonym
        FROM risk_scores s JOIN pseudonyms p ON (p.subject_id, p.run_id) = (s.subject_id, s.run_id)
        JOIN risk_scores b ON b.run_id = 'run-of-20-november' AND b.horizon_years = 10
            AND (b.subject_id, b.outcome) = (s.subject_id, s.outcome)
        WHERE s.run_id = '{RUN}' AND s.horizon_years = 10
        ORDER BY max(s.risk) OVER (PARTITION BY s.subject_id) DESC, s.subject_id, s.outcome
        """
    )
    expected: list[float] = []
    people = list(dict.fromkeys(row["pseudonym"] for row in rows))
    for person in people:
        own = [row for row in rows if row["pseudonym"] == person]
        expected += [row["risk"] for row in own]
        expected.append(max((row["change"] for row in own), key=abs))
    assert _people(page) == people
    assert _risks(page) == pytest.approx(expected, abs=1e-12)
    assert all((report / f"{person}.html").is_file() for person in people)
    assert "not assessed" in page.text
    assert "Seen in training" in page.text


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("index-outcome-1.html", "max(risk) FILTER (outcome = 'cancer') DESC NULLS LAST"),
        ("index-outcome-2.html", "max(risk) FILTER (outcome = 'cardiovascular') DESC NULLS LAST"),
        ("index-changed.html", "max(abs(change)) DESC NULLS LAST"),
        ("index-flagged.html", "max(len(scope_flags)) DESC"),
    ],
)
def test_each_order_lists_everyone_once(
    report: Path, ask: Callable[..., Any], read_page: Callable[[str], Any], name: str, order: str
) -> None:
    rows = ask(
        f"""
        WITH now AS (
            SELECT s.*, 100 * (s.risk - b.risk) AS change FROM risk_scores s
            JOIN risk_scores b ON b.run_id = 'run-of-20-november' AND b.horizon_years = 10
                AND (b.subject_id, b.outcome) = (s.subject_id, s.outcome)
            WHERE s.run_id = '{RUN}' AND s.horizon_years = 10
        )
        SELECT pseudonym FROM now JOIN pseudonyms USING (run_id, subject_id)
        GROUP BY subject_id, pseudonym ORDER BY {order}, max(risk) DESC, subject_id
        """
    )
    page = read_page((report / name).read_text())
    assert _people(page) == [row["pseudonym"] for row in rows]
    sorted_by = [found for tag, found in page.tags if "aria-sort" in found]
    assert len(sorted_by) == 1
    assert "largest first" in page.text
    links = {found["href"] for tag, found in page.tags if tag == "a"}
    others = {path.name for path in report.glob("index*.html")} - {name}
    assert others <= links, "every other order is a link away"
    assert all((report / link).is_file() for link in links)


def test_counts_are_of_the_lines(report: Path, ask: Callable[..., Any], read_page: Callable[[str], Any]) -> None:
    page = read_page((report / "index.html").read_text())
    counts = {found["data-count"]: int(found["value"]) for tag, found in page.tags if "data-count" in found}
    lines = [found["data-counts"].split() for tag, found in page.tags if "data-counts" in found]
    assert counts == {name: sum(name in line for line in lines) for name in counts}
    assert counts["people"] == 24
    for number, outcome in enumerate(("cancer", "cardiovascular", "mental_health"), start=1):
        (row,) = ask(
            "SELECT count(DISTINCT subject_id) AS n FROM risk_scores WHERE run_id = ? AND outcome = ?", RUN, outcome
        )
        assert counts[f"outcome-{number}"] == row["n"]
    (row,) = ask(
        f"SELECT count(DISTINCT subject_id) AS n FROM risk_scores WHERE run_id = '{RUN}' AND len(scope_flags) > 0"
    )
    assert counts["flagged"] == row["n"] > 0


def test_changes_are_counted_from_more_than_five_points(
    tmp_path: Path, write_scores: Callable[..., Path], read_page: Callable[[str], Any]
) -> None:
    import duckdb

    path = write_scores(tmp_path / "s.duckdb", subjects=6, explained=6)
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE risk_scores SET risk = risk + 0.2 WHERE run_id LIKE '%20%' AND subject_id = 910002")
    write_report(path, tmp_path / "r")
    page = read_page((tmp_path / "r" / "index-changed.html").read_text())
    counts = {found["data-count"]: int(found["value"]) for tag, found in page.tags if "data-count" in found}
    assert counts["changed"] == 1
    with duckdb.connect(str(path)) as connection:
        connection.execute("DELETE FROM risk_scores WHERE run_id LIKE '%20%'")
    write_report(path, tmp_path / "r")
    assert not (tmp_path / "r" / "index-changed.html").exists(), "without an earlier run nothing changed"
    assert "since" not in read_page((tmp_path / "r" / "index.html").read_text()).text.split("Person")[1][:200]


def test_long_lists_are_several_pages(
    report: Path, scores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_page: Callable[[str], Any]
) -> None:
    monkeypatch.setattr("riskpred.report.index.ROWS_A_PAGE", 10)
    write_report(scores, tmp_path / "r", top=24)
    for stem in ("index", "index-flagged", "index-outcome-3"):
        pages = [read_page((tmp_path / "r" / f"{stem}{end}.html").read_text()) for end in ("", "-page-2", "-page-3")]
        assert [len(_people(page)) for page in pages] == [10, 10, 4]
        whole = read_page((report / f"{stem}.html").read_text())
        assert [person for page in pages for person in _people(page)] == _people(whole)
        assert [sum(found.get("aria-current") == "page" for _, found in page.tags) for page in pages] == [1, 1, 1]
    write_report(scores, tmp_path / "r", top=5)
    assert not list((tmp_path / "r").glob("index*-page-2.html")), "pages of an earlier report are gone"
