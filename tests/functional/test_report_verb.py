"""`riskpred report` from the command line: exit codes, what stands on stdout, what an operator reads."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from riskpred.cli import main

SYNTHETIC = Path(__file__).resolve().parents[1] / "unit" / "report" / "synthetic_scores.py"


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = importlib.util.spec_from_file_location("report_synthetic_scores", SYNTHETIC)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    write: Callable[..., Path] = module.write_scores
    return write(tmp_path_factory.mktemp("scores") / "scores.duckdb", subjects=8, explained=4)


def test_report_says_what_it_made(scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(scores), "--into", str(tmp_path / "report")]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{tmp_path / 'report' / 'index.html'}: 4 pages.")
    assert "pages: 4 of 4" in err


def test_a_bundle_is_no_place_for_pages(scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    assert main(["report", str(scores), "--into", str(tmp_path)]) == 15
    assert "is a bundle" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_json_holds_the_tables_numbers(scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(scores), "--into", str(tmp_path / "r"), "--top", "3", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["pages"] == len(printed["subjects"]) == 3
    assert printed["run"]["run_id"] == "run-of-21-november"
    assert printed["model"]["words"]["VITAL//SBP"]["range"] == {"low": 90, "high": 140}
    with duckdb.connect(str(scores), read_only=True) as connection:
        rows = connection.execute(
            "SELECT pseudonym, outcome, horizon_years, risk "
            "FROM risk_scores JOIN pseudonyms USING (run_id, subject_id) WHERE run_id = 'run-of-21-november'"
        ).fetchall()
    table = {tuple(row[:3]): row[3] for row in rows}
    for subject in printed["subjects"]:
        for one in subject["outcomes"]:
            for row in one["horizons"]:
                assert row["risk"] == table[subject["pseudonym"], one["outcome"], row["horizon_years"]]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["none.duckdb", "--into", "r"], 11, "no such file"),
        (["{here}", "--into", "r"], 11, "no such file"),
        (["{scores}", "--into", "r", "--subject", "3"], 11, "did not consider this subject"),
        (["{scores}", "--into", "{scores}"], 15, "is a file"),
        (["{scores}", "--into", "{scores}/r"], 15, "cannot be written"),
        (["{scores}", "--into", "r", "--subject", "3", "--top", "3"], 2, "not both"),
        (["{scores}", "--into", "r", "--top", "0"], 2, "--top"),
        (["{scores}", "--into", "r", "--lang", "fr"], 2, "--lang is one of en, zh"),
        (["{scores}"], 2, "--into"),
    ],
)
def test_exit_codes(
    scores: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [word.format(scores=scores, here=tmp_path) for word in arguments]
    assert main(["report", *given]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--help"]) == 0
    assert "riskpred report scores.duckdb --into report" in capsys.readouterr().out


def test_pages_in_chinese_say_so(scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(scores), "--into", str(tmp_path / "r"), "--lang", "zh", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    for subject in printed["subjects"]:
        page = (tmp_path / "r" / f"{subject['pseudonym']}.html").read_text(encoding="utf-8")
        assert '<html lang="zh-Hans">' in page
        assert "2026年11月21日" in page


def test_json_has_the_parts_of_a_page_unrounded(
    scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(scores), "--into", str(tmp_path / "r"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    with duckdb.connect(str(scores), read_only=True) as connection:
        rows = connection.execute(
            "SELECT pseudonym, outcome, risk_low, risk_high "
            "FROM missing_impact JOIN pseudonyms USING (run_id, subject_id)"
        ).fetchall()
    subjects = {subject["pseudonym"]: subject for subject in printed["subjects"]}
    assert len(rows) >= 9
    for pseudonym, outcome, low, high in rows:
        one = next(one for one in subjects[pseudonym]["outcomes"] if one["outcome"] == outcome)
        assert [(row["risk_low"], row["risk_high"]) for row in one["missing"]] == [(low, high)]
        assert one["changes"]["scenarios"]
        assert one["past"]["risks"]
    assert all({"series", "images", "evaluation", "guideline"} <= set(subject) for subject in printed["subjects"])
