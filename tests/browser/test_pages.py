"""Every kind of page of a report in a real browser: silent, alone, readable, printable, with the table's numbers."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from riskpred.cli import main

LANGUAGES = ["en", "zh"]


@pytest.fixture(scope="session")
def night(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two nights of the tiny study, its bundle evaluated: real reasons, series, images; scores.duckdb in the folder."""
    folder = tmp_path_factory.mktemp("night")
    bundle, scores = folder / "bundle", folder / "scores.duckdb"
    shutil.copytree(tiny.bundle, bundle)
    with pytest.MonkeyPatch.context() as few_draws:
        few_draws.setattr("riskpred.evaluate.intervals.RESAMPLES", 20)
        few_draws.setattr("riskpred.evaluate.intervals._FEWEST", 20)
        assert main(["evaluate", str(bundle), str(tiny.warehouse), "--json"]) == 0
    for day in ("2018-06-15", "2018-07-20"):
        verb = ["score", str(tiny.warehouse), "--model", str(bundle), "--into", str(scores), "--as-of", day]
        assert main([*verb, "--explain", "12", "--force"]) == 0
    return folder


@pytest.fixture(scope="session")
def reports(night: Path) -> Callable[[str], Path]:
    """reports(lang): the night's report in that language."""
    made: dict[str, Path] = {}

    def report(lang: str) -> Path:
        if lang not in made:
            made[lang] = night / f"report_{lang}"
            words = ["report", str(night / "scores.duckdb"), "--into", str(made[lang]), "--lang", lang]
            assert main(words) == 0
        return made[lang]

    return report


def people(report: Path) -> list[Path]:
    """The pages of people, the one with most on it first: it is the hardest to lay out."""
    return sorted(report.glob("????????????.html"), key=lambda path: (-path.stat().st_size, path.name))


def kinds(report: Path) -> dict[str, Path]:
    """One page of each kind."""
    fullest, *_, emptiest = people(report)
    return {
        "person": fullest,
        "sparse person": emptiest,
        "index": report / "index.html",
        "order": report / "index-flagged.html",
        "model": report / "model.html",
    }


@pytest.mark.parametrize("lang", LANGUAGES)
def test_pages_are_silent_alone_and_laid_out_at_every_width(
    reports: Callable[[str], Path], see: Callable[..., Any], badly_laid_out: Callable[..., Any], lang: str
) -> None:
    wrong: dict[str, list[str]] = {}
    for kind, file in kinds(reports(lang)).items():
        seen = see(file)
        wrong |= badly_laid_out(seen, f"{kind} {lang}")
        assert (seen.problems, seen.left) == ([], []), kind
        assert seen.page.locator("script, iframe, object, embed, link[rel=stylesheet]").count() == 0
    assert wrong == {}


@pytest.mark.parametrize("lang", LANGUAGES)
def test_axe_finds_nothing(
    reports: Callable[[str], Path], see: Callable[..., Any], inaccessible: Callable[..., Any], lang: str
) -> None:
    found = {kind: inaccessible(see(file)) for kind, file in kinds(reports(lang)).items()}
    assert {kind: wrong for kind, wrong in found.items() if wrong} == {}


def test_axe_would_find_something(see: Callable[..., Any], inaccessible: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "bad.html"
    file.write_text("<title>x</title><p style='color:#bbb'>pale</p><img src='data:,'>")
    assert {"color-contrast", "image-alt", "html-has-lang"} <= {one[0] for one in inaccessible(see(file))}


def test_a_request_and_a_script_error_would_be_seen(see: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "bad.html"
    file.write_text("<title>x</title><img src='https://example.org/x.png'><script>alert(1); nothing()</script>")
    seen = see(file)
    assert seen.left == ["https://example.org/x.png"]
    assert any("dialog" in said for said in seen.problems)
    assert any("nothing is not defined" in said for said in seen.problems)


def test_the_layout_check_would_find_something(see: Callable[..., Any], layout: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.html"
    file.write_text(
        "<p style='position:absolute;top:10px;margin:0'>one text</p><p style='position:absolute;top:12px;margin:0'>"
        "another</p><div style='width:900px'>wide</div><div style='width:30px;overflow:hidden;white-space:nowrap'>"
        "a text that is cut off</div>"
    )
    found = " ".join(see(file, 400, 300).page.evaluate(layout))
    assert "lies over" in found
    assert "px wide" in found
    assert "cuts its content off" in found


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_person_prints_on_two_pages_of_a4(
    reports: Callable[[str], Path], see: Callable[..., Any], printed: Callable[..., int], lang: str
) -> None:
    fullest, *_, emptiest = people(reports(lang))
    assert [1 <= printed(see(file), f"{file.stem}-{lang}") <= 2 for file in (fullest, emptiest)] == [True, True]


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_numbers_are_the_tables(
    night: Path, reports: Callable[[str], Path], see: Callable[..., Any], wrong_numbers: Callable[..., Any], lang: str
) -> None:
    for file in people(reports(lang))[:3]:
        assert wrong_numbers(see(file), night / "scores.duckdb") == []


def test_a_changed_number_would_be_seen(
    night: Path,
    reports: Callable[[str], Path],
    see: Callable[..., Any],
    wrong_numbers: Callable[..., Any],
    tmp_path: Path,
) -> None:
    file = people(reports("en"))[0]
    copy = tmp_path / file.name
    value = re.search(r'<data value="([\d.]+)" data-test-risk', file.read_text())
    assert value
    copy.write_text(file.read_text().replace(f'"{value[1]}" data-test-risk', '"0.5" data-test-risk', 1))
    assert len(wrong_numbers(see(copy), night / "scores.duckdb")) == 2


def test_the_index_leads_to_every_order_and_person(reports: Callable[[str], Path], see: Callable[..., Any]) -> None:
    report = reports("en")
    page = see(report / "index.html").page
    first = page.locator("tbody a").first
    orders = page.locator("thead a").evaluate_all("all => all.map(one => one.getAttribute('href'))")
    assert set(orders) == {path.name for path in report.glob("index-*.html")}
    person = first.inner_text()
    first.click()
    assert person in page.url
    assert page.locator("h1").count() == 1
    page.go_back()
    page.get_by_role("link", name="Stroke").click()
    assert page.locator("[aria-sort=descending]").inner_text().startswith("Stroke")
    column = page.evaluate(
        """() => {
            const at = [...document.querySelectorAll("thead th")].findIndex(one => one.ariaSort);
            return [...document.querySelectorAll("tbody tr")].map(row => row.cells[at].querySelector("data")?.value);
        }"""
    )
    risks = [float(value) for value in column if value is not None]
    assert len(risks) > 5
    assert risks == sorted(risks, reverse=True)


def test_the_page_of_a_person_leads_back_to_the_model(reports: Callable[[str], Path], see: Callable[..., Any]) -> None:
    report = reports("en")
    page = see(people(report)[0]).page
    page.locator("a[href='model.html']").first.click()
    assert page.locator("[data-test-item]").count() == 52 + 31
    page.locator("a[href='index.html']").first.click()
    assert page.url.endswith("index.html")
