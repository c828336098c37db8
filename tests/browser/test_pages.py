"""Every kind of page of a report in a real browser: silent, alone, readable, printable, with the table's numbers."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from riskpred.cli import main

SIZES = {"phone": (360, 740), "laptop": (1280, 800), "print": (718, 1010)}
"""Window of each; print = A4 less the page's margins."""
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
AXE = "options => axe.run(document, options).then(done => done.violations.map(one => [one.id, one.nodes.length, one.nodes[0].html.slice(0, 200), one.nodes[0].failureSummary]))"  # noqa: E501
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
    reports: Callable[[str], Path], see: Callable[..., Any], layout: str, screens: Path, lang: str
) -> None:
    wrong: dict[str, list[str]] = {}
    for kind, file in kinds(reports(lang)).items():
        seen = see(file)
        for size, (width, height) in SIZES.items():
            seen.page.set_viewport_size({"width": width, "height": height})
            seen.page.emulate_media(media="print" if size == "print" else "screen")
            seen.page.screenshot(path=screens / f"{kind.replace(' ', '_')}-{size}-{lang}.png", full_page=True)
            problems = seen.page.evaluate(layout)
            if problems:
                wrong[f"{kind}, {size}, {lang}"] = problems
        assert seen.problems == [], kind
        assert seen.left == [], kind
        assert seen.page.locator("script, iframe, object, embed, link[rel=stylesheet]").count() == 0
    assert wrong == {}


@pytest.mark.parametrize("lang", LANGUAGES)
def test_axe_finds_nothing(reports: Callable[[str], Path], see: Callable[..., Any], axe: str, lang: str) -> None:
    wrong = {}
    for kind, file in kinds(reports(lang)).items():
        seen = see(file)
        seen.page.evaluate(axe)
        found = seen.page.evaluate(AXE, {"runOnly": {"type": "tag", "values": RULES}})
        if found:
            wrong[kind] = found
    assert wrong == {}


def test_axe_would_find_something(see: Callable[..., Any], axe: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.html"
    file.write_text("<title>x</title><p style='color:#bbb'>pale</p><img src='data:,'>")
    seen = see(file)
    seen.page.evaluate(axe)
    found = seen.page.evaluate(AXE, {"runOnly": {"type": "tag", "values": RULES}})
    assert {"color-contrast", "image-alt", "html-has-lang"} <= {one[0] for one in found}


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
    reports: Callable[[str], Path], see: Callable[..., Any], screens: Path, lang: str
) -> None:
    for file in (people(reports(lang))[0], people(reports(lang))[-1]):
        printed = see(file).page.pdf(path=screens / f"{file.stem}-{lang}.pdf", prefer_css_page_size=True, format="A4")
        pages = len(re.findall(rb"/Type\s*/Page\b", printed))
        assert 1 <= pages <= 2
        boxes = {tuple(map(float, box.split())) for box in re.findall(rb"/MediaBox\s*\[([^\]]+)\]", printed)}
        assert all(abs(box[2] - 595) < 2 and abs(box[3] - 842) < 2 for box in boxes), "A4, upright"


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_numbers_are_the_tables(
    night: Path, reports: Callable[[str], Path], see: Callable[..., Any], lang: str
) -> None:
    with duckdb.connect(str(night / "scores.duckdb"), read_only=True) as connection:
        rows = connection.execute(
            "SELECT pseudonym, outcome, horizon_years, risk, reference_risk FROM latest_risk_scores "
            "JOIN pseudonyms USING (run_id, subject_id)"
        ).fetchall()
    table = {(who, f"{outcome}|{years}"): (risk, start) for who, outcome, years, risk, start in rows}
    for file in people(reports(lang))[:3]:
        page = see(file).page
        shown = {
            hook: page.eval_on_selector_all(
                f"[data-test-{hook}]", f"all => all.map(one => [one.getAttribute('data-test-{hook}'), one.value])"
            )
            for hook in ("risk", "reference")
        }
        expected = {key: both for (who, key), both in table.items() if who == file.stem}
        assert {key: float(value) for key, value in shown["risk"]} == {key: both[0] for key, both in expected.items()}
        assert {key: float(value) for key, value in shown["reference"]} == {
            key: both[1] for key, both in expected.items()
        }
        digits = {
            key: float(re.sub(r"[^0-9.]", "", text))
            for key, text in page.eval_on_selector_all(
                "[data-test-risk]", "all => all.map(one => [one.getAttribute('data-test-risk'), one.innerText])"
            )
        }
        assert all(abs(digits[key] - 100 * both[0]) <= 0.0501 for key, both in expected.items())


def test_the_index_leads_to_every_order_and_person(
    night: Path, reports: Callable[[str], Path], see: Callable[..., Any]
) -> None:
    report = reports("en")
    page = see(report / "index.html").page
    first = page.locator("tbody a").first
    assert page.locator("[aria-sort]").count() == 1 or page.locator("thead a").count() > 0
    orders = page.locator("thead a").evaluate_all("all => all.map(one => one.getAttribute('href'))")
    assert set(orders) == {path.name for path in report.glob("index-*.html")}
    person = first.inner_text()
    first.click()
    assert person in page.url
    assert page.locator("h1").count() == 1
    page.go_back()
    page.get_by_role("link", name="Stroke").click()
    assert page.locator("[aria-sort=descending]").inner_text().startswith("Stroke")
    column = page.eval_on_selector_all(
        "tbody tr", "all => all.map(row => row.cells[page_column()].querySelector('data')?.value)".replace(
            "page_column()", "[...document.querySelectorAll('thead th')].findIndex(one => one.ariaSort)"
        )
    )  # fmt: skip
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
