"""A PDF beside each page: two pages of A4, tagged, with the page's text and pictures, and no boxes for Chinese."""

import importlib.util
import io
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from ctypes.util import find_library
from pathlib import Path
from typing import Any

import pytest

from riskpred.errors import UsageError
from riskpred.report import pdf
from riskpred.report.forget import forget_pages
from riskpred.report.write import is_ours, write_report

pytestmark = pytest.mark.skipif(
    find_library("pangoft2-1.0") is None or importlib.util.find_spec("weasyprint") is None,
    reason="no PDF maker: WeasyPrint or Pango is not installed",
)


def _read(content: bytes) -> Any:
    from pypdf import PdfReader

    return PdfReader(io.BytesIO(content))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, write_scores: Callable[..., Path]) -> Path:
    """Two people, both explained."""
    return write_scores(tmp_path_factory.mktemp("two") / "scores.duckdb", subjects=2, explained=2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, two: Path) -> Path:
    into = tmp_path_factory.mktemp("pdf") / "r"
    write_report(two, into, pdf=True)
    return into


def test_a_pdf_beside_each_page_prints_on_two_pages_of_a4(made: Path) -> None:
    pages = [path for path in made.glob("*.html") if not path.stem.startswith(("index", "model"))]
    assert {path.stem for path in made.glob("*.pdf")} == {path.stem for path in pages}
    for path in made.glob("*.pdf"):
        read = _read(path.read_bytes())
        assert len(read.pages) <= 2
        assert [round(float(side)) for side in read.pages[0].mediabox[2:]] == [595, 842]
        text = " ".join(" ".join(page.extract_text() for page in read.pages).split())
        assert path.stem in text
        assert "people like this one will have this" in text
        assert "What would have to change for a risk below" in text
        assert read.trailer["/Root"]["/MarkInfo"]["/Marked"], "tagged, for screen readers"
        assert not [link for page in read.pages for link in page.get("/Annots") or []], "no link out of a PDF"


def test_the_charts_have_their_colours(made: Path) -> None:
    content = _read(next(made.glob("*.pdf")).read_bytes()).pages[0].get_contents().get_data()
    brown = re.compile(rb"0\.478\d* 0\.16\d* 0\.03\d* RG")
    assert brown.search(content), "people with the event; without the style within each chart they would be black"


def test_forget_removes_it_and_another_report_too(made: Path, tmp_path: Path, two: Path) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "r"))
    one, other = sorted(folder.glob("*.pdf"))
    assert forget_pages(folder, {one.stem}) >= 3
    assert not one.exists()
    assert other.exists()
    foreign = folder / "0123456789ab.pdf"
    foreign.write_bytes(b"%PDF-1.7\nnot ours")
    write_report(two, folder, top=1)
    assert sorted(folder.glob("*.pdf")) == [foreign], "a PDF of an earlier night would not agree with the page"
    assert not is_ours(foreign)


def test_chinese_is_printed_in_letters_not_in_boxes(tmp_path: Path, two: Path) -> None:
    if not pdf.has_font(b":lang=zh-cn"):
        pytest.skip("no PDF maker: no font that can write Chinese is installed")
    write_report(two, tmp_path / "r", top=1, lang="zh", pdf=True)
    [path] = (tmp_path / "r").glob("*.pdf")
    read = _read(path.read_bytes())
    assert len(read.pages) <= 2
    assert "风险报告" in "".join(page.extract_text() for page in read.pages)


def test_a_machine_without_a_chinese_font_is_told_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, two: Path
) -> None:
    assert pdf.has_font(b":lang=en")
    assert not pdf.has_font(b":lang=zh-cn:family=no such family")
    monkeypatch.setitem(pdf._CHINESE, "zh", b":lang=zh-cn:family=no such family")
    with pytest.raises(UsageError, match="no font on this machine can write Chinese"):
        write_report(two, tmp_path / "r", top=1, lang="zh", pdf=True)
    assert not (tmp_path / "r").exists()


def test_a_machine_without_weasyprint_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, two: Path
) -> None:
    monkeypatch.setattr(pdf.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"riskpred\[pdf\]") as caught:
        write_report(two, tmp_path / "r", pdf=True)
    assert caught.value.exit_code == 2
    assert not (tmp_path / "r").exists()


def test_weasyprint_is_not_loaded_for_pages_alone() -> None:
    code = "import sys, riskpred.report.write as _; sys.exit('weasyprint' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_page_that_says_more_is_set_smaller_before_it_takes_a_third_sheet() -> None:
    make = pdf.printer("en", "mark")
    style = "<style>@page{size:A4;margin:9mm}@media print{body{font-size:1rem;line-height:1.2}}</style>"
    pages = {}
    for lines in (150, 182, 300):
        body = "".join(f"<div>{number}</div>" for number in range(lines))
        pages[lines] = len(_read(make(f"<html><head>{style}</head><body>{body}</body></html>")).pages)
    assert pages == {150: 2, 182: 2, 300: 4}, "and what does not fit at the smallest size is not cut"


def test_nothing_of_a_page_is_said_or_fetched(capfd: pytest.CaptureFixture[str], caplog: Any) -> None:
    make: Callable[[str], bytes] = pdf.printer("en", "mark")
    html = (
        '<html><head><title>x</title></head><body><p style="no-such: SECRET-1">a</p><img src="http://127.0.0.1/SECRET">'
    )
    content = make(html + "<a href='file:///SECRET'>b</a></body></html>")
    assert content.endswith(b"% mark\n")
    assert len(_read(content).pages) == 1
    said = capfd.readouterr()
    assert "SECRET" not in said.out + said.err + caplog.text
