"""`riskpred forget` on a night of the tiny study: scores, report, the next night, and what it never says."""

import json
import shutil
from pathlib import Path

import duckdb
import pytest

from riskpred.cli import main
from riskpred.model.bundle import load_bundle
from riskpred.model.evaluation import Evaluation, Figure, OutcomeFigures, keep_evaluation
from riskpred.score.image_cache import cache_path

FIGURES = {
    "auc": Figure(value=0.8, low=0.7, high=0.9),
    "observed_over_expected": Figure(value=1.0, low=0.9, high=1.1),
    "ipa": Figure(value=0.1, low=0.0, high=0.2),
}


@pytest.fixture(scope="module")
def night(tiny, tmp_path_factory) -> Path:
    """A folder with bundle/ (judged good), scores.duckdb and report/."""
    folder = tmp_path_factory.mktemp("night")
    shutil.copytree(tiny.bundle, folder / "bundle")
    bundle = load_bundle(folder / "bundle")
    keep_evaluation(
        folder / "bundle",
        Evaluation(
            bundle_sha256=bundle.sha256,
            riskpred_version="1",
            evaluated_at="2026-11-27T00:00:00+00:00",
            site="tiny",
            split="held_out",
            rows=400,
            outcomes=tuple(
                OutcomeFigures(outcome=name, horizon_years=3.0, n=400, events=40, figures=FIGURES)
                for name in bundle.config.outcomes.outcomes
            ),
        ),
    )
    score(tiny, folder)
    assert main(["report", str(folder / "scores.duckdb"), "--into", str(folder / "report"), "--top", "5"]) == 0
    return folder


def score(tiny, folder: Path) -> None:
    verb = ["score", str(tiny.warehouse), "--model", str(folder / "bundle"), "--into", str(folder / "scores.duckdb")]
    assert main([*verb, "--explain", "5"]) in (0, 14)


def ask(folder: Path, sql: str, *values: object) -> list[tuple]:
    with duckdb.connect(str(folder / "scores.duckdb"), read_only=True) as connection:
        return connection.execute(sql, list(values)).fetchall()


def page_of(folder: Path, place: int = 0) -> tuple[int, str]:
    """(subject_id, pseudonym) of someone with a page; each test has its own."""
    pages = sorted(path.stem for path in (folder / "report").glob("????????????.html"))
    return ask(folder, "SELECT subject_id, pseudonym FROM pseudonyms WHERE pseudonym = ?", pages[place])[0]


def entries(folder: Path) -> set[int]:
    """Who has an image in the cache beside the scores; in the tiny study nobody has two."""
    with duckdb.connect(str(cache_path(folder / "scores.duckdb")), read_only=True) as connection:
        return {row[0] for row in connection.execute("SELECT subject_id FROM entries").fetchall()}


def test_a_person_is_gone_everywhere_and_scored_anew_only_while_the_warehouse_holds_them(tiny, night, capsys):
    cached = entries(night)
    person, pseudonym = next(found for at in range(5) if (found := page_of(night, at))[0] in cached)
    capsys.readouterr()
    arguments = ["forget", pseudonym, "--scores", str(night / "scores.duckdb"), "--report", str(night / "report")]
    assert main([*arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    done = json.loads(out)
    assert done["elsewhere"] == {f"report {night / 'report'}": 6, "image cache": 1}
    assert entries(night) == cached - {person}
    assert done["rows"]["risk_scores"] > 0
    assert pseudonym not in out + err
    assert "next night scores them anew" in " ".join(done["notes"])
    assert not (night / "report" / f"{pseudonym}.html").exists()
    assert not any(pseudonym in page.read_text() for page in (night / "report").iterdir())
    for table in ("risk_scores", "eligibility", "explanations", "pseudonyms", "input_receipts", "evidence"):
        assert ask(night, f"SELECT count(*) FROM {table} WHERE subject_id = ?", person) == [(0,)]
    assert ask(night, "SELECT forgotten, subjects = (SELECT count(*) FROM pseudonyms) FROM runs") == [(1, True)]
    score(tiny, night)
    assert ask(night, "SELECT DISTINCT carried FROM risk_scores WHERE subject_id = ?", person) == [(False,)]


def test_the_text_says_what_was_removed_where(night, capsys):
    person, _ = page_of(night, 1)
    capsys.readouterr()
    assert main(["forget", str(person), "--scores", str(night / "scores.duckdb")]) == 0
    out, err = capsys.readouterr()
    assert "one person removed from 1 kept runs; the file was written anew" in out
    assert "risk_scores" in out
    assert "ingest again" in out
    assert f" {person} " not in f" {out} {err} "


@pytest.mark.parametrize("subject", ["4242424242", "0123456789ab"])
def test_nobody_of_that_name_is_exit_11(night, subject, capsys):
    before = (night / "scores.duckdb").read_bytes()
    capsys.readouterr()
    assert main(["forget", subject, "--scores", str(night / "scores.duckdb")]) == 11
    message = capsys.readouterr().err
    assert "nobody of that subject_id or pseudonym" in message
    assert subject not in message
    assert (night / "scores.duckdb").read_bytes() == before


def test_a_folder_that_is_no_report_stops_it_before_anything_changes(night, tmp_path, capsys):
    _, pseudonym = page_of(night, -1)
    before = (night / "scores.duckdb").read_bytes()
    arguments = ["forget", pseudonym, "--scores", str(night / "scores.duckdb")]
    assert main([*arguments, "--report", str(night / "report"), "--report", str(tmp_path)]) == 11
    assert "not a report; nothing was changed" in capsys.readouterr().err
    assert (night / "scores.duckdb").read_bytes() == before
    assert (night / "report" / f"{pseudonym}.html").exists()
