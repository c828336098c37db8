"""Reports of three real studies in a real browser, from the source on (slow: minutes each)."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from riskpred.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.real_data, pytest.mark.timeout(1800)]


def _run(*words: str | Path) -> None:
    assert main([str(word) for word in words]) == 0


@pytest.mark.parametrize("study", ["framingham", "nafld", "nhanes_phq9"])
def test_reports_of_a_study(
    study: str,
    real_data: Callable[[str], Path],
    tmp_path: Path,
    see: Callable[..., Any],
    badly_laid_out: Callable[..., Any],
    inaccessible: Callable[..., Any],
    printed: Callable[..., int],
    wrong_numbers: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    warehouse, bundle, scores = tmp_path / "w.duckdb", tmp_path / "bundle", tmp_path / "s.duckdb"
    _run("ingest", study, "--from", real_data(study), "--into", warehouse, "--json")
    _run("fit", study, warehouse, "--into", bundle, "--json")
    _run("evaluate", bundle, warehouse, "--json")
    _run("score", warehouse, "--model", bundle, "--into", scores, "--explain", "20", "--force", "--json")
    for lang in ("en", "zh"):
        report = tmp_path / lang
        capsys.readouterr()
        _run("report", scores, "--into", report, "--top", "8", "--lang", lang, "--json")
        assert len(json.loads(capsys.readouterr().out)["subjects"]) == 8
        wrong: dict[str, Any] = {}
        people = sorted(report.glob("????????????.html"), key=lambda path: -path.stat().st_size)
        for number, file in enumerate([*people, report / "index.html", report / "model.html"]):
            seen, name = see(file), f"{study} {number if file in people else file.stem} {lang}"
            wrong |= badly_laid_out(seen, name)
            found = [*inaccessible(seen), *seen.problems, *seen.left]
            if file in people:
                found += wrong_numbers(seen, scores)
                if (pages := printed(seen, name.replace(" ", "_"))) > 2:
                    found.append(f"{pages} pages of A4")
            wrong |= {name: found} if found else {}
        assert wrong == {}
