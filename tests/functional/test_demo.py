"""`riskpred demo` from the command line: what it leaves, what it tells, what it refuses."""

import json
from pathlib import Path

import duckdb
import pytest

from riskpred.cli import main
from riskpred.cli.demo import MARKER, PRODUCTS, prepare
from riskpred.errors import OutputError
from riskpred.records.simulate import hospital

LEFT = {"source", "warehouse.duckdb", "bundle", "scores.duckdb", "report", "truth.parquet", "evaluation.html"} | {
    "true_contributions.parquet",
    "true_findings.parquet",
    MARKER,
    ".scores.duckdb.images",
}


@pytest.mark.slow  # about a minute: a whole fit
def test_demo_leaves_every_product_and_tells_the_truth_about_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "demo"
    assert main(["demo", str(folder), "--subjects", "400", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert {path.name for path in folder.iterdir()} == LEFT
    assert summary["facts"]["accounted"]
    assert all(dirt["found"] == dirt["planted"] == 2 for dirt in summary["dirt"])
    assert len(summary["dirt"]) == 8
    night = summary["night"]
    assert night["eligible_pairs"] == night["scored_pairs"] + night["carried_pairs"] + night["rejected_pairs"]
    assert night["subjects"] == 400
    assert [bool(query["rows"]) for query in summary["queries"]] == [True] * 3
    assert Path(summary["page"]).is_file()
    with duckdb.connect(str(folder / "scores.duckdb"), read_only=True) as scores:
        query = "SELECT count(*), min(risk), max(risk) FROM latest_risk_scores"
        ((rows, lowest, highest),) = scores.execute(query).fetchall()
        keys = "(subject_id, outcome, horizon_years, prediction_time)"
        query = f"SELECT count(*) FROM latest_risk_scores s FULL JOIN read_parquet(?) t USING {keys}"
        ((joined,),) = scores.execute(query, [str(folder / "truth.parquet")]).fetchall()
    assert rows == night["scored_pairs"] * 4
    assert 0 < lowest < highest < 1
    assert joined == rows  # the pairs with a true risk are exactly the pairs that the cohort calls eligible

    # Again over itself, another seed: replaced, not mixed.
    assert main(["demo", str(folder), "--subjects", "400", "--seed", "2"]) == 0
    told = capsys.readouterr().out
    assert {path.name for path in folder.iterdir()} == LEFT
    assert "all accounted for" in told
    with duckdb.connect(str(folder / "scores.duckdb"), read_only=True) as scores:
        assert scores.execute("SELECT count(*) FROM runs").fetchall() == [(1,)]


def test_demo_refuses_a_folder_that_is_not_a_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main(["demo", str(tmp_path)]) == 15
    told = capsys.readouterr().err
    assert "is not empty, and no demo made it" in told
    assert "give another DIR" in told
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_demo_refuses_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert main(["demo", str(tmp_path / "file")]) == 15


def test_demo_refuses_too_few_people(tmp_path: Path) -> None:
    assert main(["demo", str(tmp_path / "demo"), "--subjects", "3"]) == 2
    assert not (tmp_path / "demo").exists()


def test_an_interrupted_simulation_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(hospital, "write_truth", interrupted)
    assert main(["demo", str(tmp_path / "demo"), "--subjects", "200"]) == 130
    assert [path.name for path in (tmp_path / "demo").iterdir()] == [MARKER]


def test_an_earlier_demo_is_cleared_but_foreign_files_stay(tmp_path: Path) -> None:
    prepare(tmp_path, 400, 1)
    for name in PRODUCTS:
        (tmp_path / name).write_text("old")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".simulating-1").mkdir()
    (tmp_path / ".scores.duckdb.images").write_text("what encoders said of other images")
    (tmp_path / ".scores.duckdb.parts").mkdir()
    prepare(tmp_path, 400, 1)
    assert {path.name for path in tmp_path.iterdir()} == {MARKER, "notes.txt"}


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        prepare(tmp_path / "file" / "demo", 400, 1)
