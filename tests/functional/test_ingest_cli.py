"""`riskpred studies`, `ingest` and `check` as a person runs them: what they say, their exit codes, what they leave."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from riskpred.cli import main
from riskpred.config.study import study_folder

STUDY = """
study: small
tables:
  - name: labs
    file: labs.csv
    subject: person
    time: {column: drawn}
    long:
      - code_column: test
        value_column: value
        unit_column: unit
        codes:
          chol: {code: LAB//CHOL, unit: mmol/L, units: {mg/dL: 0.02586}, range: [1, 15]}
"""
HEADER = "person,drawn,test,value,unit\n"
GOOD = [f"{i},2020-01-{i % 28 + 1:02},chol,{2 + i / 20},mmol/L" for i in range(1, 101)]
SECRET = "Annelise"  # stands where a value should be: no message may show it


class Place:
    """A folder with a study, a source, and the command that ingests one by the other."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.source, self.study = folder, folder / "source", folder / "study"
        self.source.mkdir()
        self.study.mkdir()
        self.into = folder / "w.duckdb"
        self.configure(STUDY)
        self.write(GOOD)

    def configure(self, text: str) -> None:
        (self.study / "ingest.yaml").write_text(text)

    def write(self, lines: list[str], header: str = HEADER) -> None:
        (self.source / "labs.csv").write_text(header + "\n".join(lines) + "\n")

    def ingest(self, *more: str) -> int:
        return main(["ingest", str(self.study), "--from", str(self.source), "--into", str(self.into), *more])

    @property
    def left(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def refused(place: Place, capsys: pytest.CaptureFixture[str], code: int) -> str:
    """The message of an ingest that must fail and leave nothing, on stderr alone."""
    assert place.ingest() == code
    said = capsys.readouterr()
    assert said.out == ""
    assert SECRET not in said.err
    assert "Traceback" not in said.err
    assert place.left == ["source", "study"]
    return said.err


def test_ingest_prints_the_account(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.write([*GOOD, "7,2020-01-01,chol,99,mmol/L", GOOD[0]])
    assert place.ingest() == 0
    out = capsys.readouterr().out
    assert "100 subjects" in out
    lines = [line.split() for line in out.splitlines()]
    assert ["labs.csv", "102", "102", "100", "0", "1", "0", "1", "0"] in lines
    assert ["labs.csv", "out_of_range", "1"] in lines
    assert place.left == ["source", "study", "w.duckdb"]


def test_ingest_json_is_one_object(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.ingest("--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["subjects"] == found["events"] == 100
    assert found["sources"][0]["facts"] == 100
    assert found["sources"][0]["reasons"] == {}


def test_a_missing_column(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.write([line.rsplit(",", 1)[0] for line in GOOD], "person,drawn,test,value\n")
    said = refused(place, capsys, 11)
    assert "riskpred ingest: labs.csv: no column unit." in said
    assert "wanted  the columns that ingest.yaml names: drawn, person, test, unit, value" in said
    assert "got     person, drawn, test, value" in said


def test_a_file_without_a_header_shows_no_values(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.write([f"{SECRET},{line}" for line in GOOD], f"{SECRET},1,2020-01-01,chol,5.5,mmol/L\n")
    assert "the first line does not look like a header" in refused(place, capsys, 11)


def test_a_wrong_unit(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.write([*GOOD, *[line.replace("mmol/L", "g/L") for line in GOOD[:14]]])
    said = refused(place, capsys, 11)
    assert said.splitlines()[-4:] == [
        "riskpred ingest: labs.csv: unit of LAB//CHOL not accepted in 14 of 114 rows (12.3 %, allowed 5 %).",
        "  wanted  mmol/L or mg/dL (ingest.yaml, tables.labs.long.0.codes.chol.units)",
        "  got     g/L",
        "  do      convert at the source, or add the unit with its factor to `units` of this code",
    ]


def test_a_unit_column_that_holds_names_shows_none(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.write([line.replace("mmol/L", f"{SECRET} born 1950") for line in GOOD])
    assert "got     (not shown)" in refused(place, capsys, 11)


def test_a_text_where_a_number_belongs(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.write([*GOOD, *[f"{i},2020-01-01,chol,{SECRET},mmol/L" for i in range(10)]])
    said = refused(place, capsys, 11)
    assert "labs.csv: value of LAB//CHOL is no number in 10 of 110 rows (9.1 %, allowed 5 %)." in said
    assert "wanted  a finite number (ingest.yaml, tables.labs.long.0.codes.chol.missing)" in said


def test_a_few_such_texts_are_rejects(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.write([*GOOD, f"7,2020-01-01,chol,{SECRET},mmol/L"])
    assert place.ingest() == 0
    assert SECRET not in capsys.readouterr().out
    with duckdb.connect(str(place.into), read_only=True) as connection:
        rows = connection.execute("SELECT * FROM rejects").fetchall()
    assert rows == [("labs.csv", "101", 7, "not_a_number", "LAB//CHOL", "a finite number")]


def test_an_unknown_yaml_key(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.configure(STUDY.replace("unit: mmol/L", "unti: mmol/L"))
    said = refused(place, capsys, 10)
    assert "ingest.yaml: " in said
    assert "tables.0.long.0.codes.chol" in said
    assert "unti" in said


@pytest.mark.parametrize("lines", [[], None])
def test_an_empty_table(place: Place, capsys: pytest.CaptureFixture[str], lines: list[str] | None) -> None:
    (place.source / "labs.csv").write_text("" if lines is None else HEADER)
    said = refused(place, capsys, 11)
    assert ("labs.csv: no rows." in said) if lines is not None else ("labs.csv: no column" in said)


def test_a_missing_file_lists_what_is_there(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    (place.source / "labs.csv").rename(place.source / "lab.csv")
    said = refused(place, capsys, 11)
    assert "no file labs.csv." in said
    assert "got     lab.csv" in said


def test_a_damaged_file(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.configure(STUDY.replace("labs.csv", "labs.parquet"))
    (place.source / "labs.parquet").write_bytes(b"PAR1 but not really PAR1")
    assert "labs.parquet: not readable" in refused(place, capsys, 11)


def test_no_such_source_and_no_such_study(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.source.rename(place.folder / "elsewhere")
    assert place.ingest() == 11
    assert "no such folder or DuckDB file" in capsys.readouterr().err
    assert main(["ingest", "nonsense", "--from", str(place.folder), "--into", str(place.into)]) == 10
    assert "neither a folder nor a packaged study" in capsys.readouterr().err


def test_a_locked_warehouse(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.ingest() == 0
    before = place.into.read_bytes()
    code = "import sys, duckdb; c = duckdb.connect(sys.argv[1]); print('ready', flush=True); sys.stdin.readline()"
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(place.into)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        capsys.readouterr()
        assert place.ingest() == 15
        said = capsys.readouterr().err
        assert "w.duckdb: locked; nothing was changed." in said
        assert "do      wait for that program or close it" in said
        assert main(["check", str(place.into)]) == 11
        assert "locked: another program has it open for writing" in capsys.readouterr().err
    finally:
        child.communicate("go\n")
    assert place.into.read_bytes() == before
    assert place.left == ["source", "study", "w.duckdb"]


def test_a_failed_ingest_leaves_the_old_warehouse(place: Place) -> None:
    assert place.ingest() == 0
    before = place.into.read_bytes()
    place.write([line.replace("mmol/L", "g/L") for line in GOOD])
    assert place.ingest() == 11
    assert place.into.read_bytes() == before
    assert place.left == ["source", "study", "w.duckdb"]


def test_check_says_what_is_there_and_what_is_wrong(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.ingest() == 0
    capsys.readouterr()
    assert main(["check", str(place.into)]) == 0
    out = capsys.readouterr().out
    assert "subjects    100" in out
    assert ["LAB//CHOL", "100", "100", "100.0", "%", "mmol/L", "2020-01-01", "2020-01-28"] in [
        line.split() for line in out.splitlines()
    ]
    assert "nothing found" in out
    with duckdb.connect(str(place.into)) as connection:
        connection.execute("ALTER TABLE events ALTER unit TYPE VARCHAR")
        connection.execute("INSERT INTO events VALUES (1, '2999-01-01', 'LAB//CHOL', 'inf', NULL, 'g/L')")
        connection.execute(
            "INSERT INTO images (image_id, subject_id, time, image_type, path, sha256)"
            " VALUES ('i', 999, NULL, 'CR', 'none.png', NULL)"
        )
        connection.execute(
            "INSERT INTO images (image_id, subject_id, time, image_type, path, sha256)"
            " VALUES ('i', 999, NULL, 'CR', '../x.png', NULL)"
        )
    assert main(["check", str(place.into), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == {
        "non_finite_values": 1,
        "duplicate_image_ids": 1,
        "subjects_without_split": 1,
        "events_unsorted": 1,
        "digests_stale": 1,
        "mixed_units": 1,
        "future_times": 1,
        "images_missing": 1,
        "images_refused": 1,
    }


def test_check_says_what_a_model_would_miss(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.ingest() == 0
    capsys.readouterr()
    assert main(["check", str(place.into), "--study", "nafld", "--json"]) == 0
    missed = json.loads(capsys.readouterr().out)["missed"]
    assert missed["required"] == ["LAB//HDL", "VITAL//SBP"]
    assert "MEDS_BIRTH" in missed["optional"]
    assert "STUDY_ENTRY" in missed["cohort"]
    assert missed["rows"] == 0
    assert main(["check", str(place.into), "--study", "nafld"]) == 0
    assert "LAB//HDL, VITAL//SBP  (required: `fit` and `score` refuse this warehouse)" in capsys.readouterr().out
    assert missed["without_words"] == []


def test_check_lists_codes_without_words(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.ingest() == 0
    study = tmp_path / "mine"
    shutil.copytree(study_folder("nafld"), study)
    features = study / "features.yaml"
    features.write_text(features.read_text().replace("[VITAL//WEIGHT,", "[MINE//X, VITAL//WEIGHT,"))
    assert main(["check", str(place.into), "--study", str(study)]) == 0
    assert "words for MINE//X  (words.yaml: reports make names from these codes)" in capsys.readouterr().out


def test_studies_lists_every_packaged_study(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["studies"]) == 0
    out = capsys.readouterr().out
    for name in ("nafld", "nhanes_mortality", "nhanes_phq9", "hannover_cxr"):
        assert f"{name}\n" in out
        assert f"riskpred ingest {name} --from SOURCE --into {name}.duckdb" in out
    assert main(["studies", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["studies"]
    assert all(about["source"] and about["licence"] and about["needs"] for about in found.values())


MERGES = """
merges: {file: merges.csv, old: before, new: now}
"""


def test_merged_identifiers_give_one_person(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.configure(STUDY + MERGES)
    place.write(GOOD)
    # 3 -> 2 -> 1, and to and from identifiers that occur nowhere; the new one of the last is a text.
    (place.source / "merges.csv").write_text("before,now\n3,2\n2,1\n777,5\n9,nine\n")
    assert place.ingest() == 0
    out = capsys.readouterr().out
    assert "97 subjects" not in out
    assert "98 subjects" in out
    assert "3 identifiers merged into others, 3 rows moved: SELECT * FROM subject_merges" in out
    with duckdb.connect(str(place.into), read_only=True) as connection:
        counts = dict(connection.execute("SELECT subject_id, count(*) FROM events GROUP BY 1").fetchall())
        merges = connection.execute("FROM subject_merges ORDER BY 1").fetchall()
        ((nine,),) = connection.execute("SELECT subject_id FROM subject_map WHERE source_id = 'nine'").fetchall()
        splits = {subject for (subject,) in connection.execute("SELECT subject_id FROM subject_splits").fetchall()}
    assert merges == [(2, "2", 1, 1), (3, "3", 1, 1), (9, "9", nine, 1), (777, "777", 5, 0)]
    assert counts[1] == 3
    assert counts[nine] == 1
    assert counts.keys() == splits
    assert not {2, 3, 9} & counts.keys()
    assert sum(counts.values()) == 100


@pytest.mark.parametrize(
    ("merges", "said"),
    [
        ("1,2\n2,3\n3,1\n", "3 identifiers are merged in a circle"),
        ("5,1\n1,2\n2,1\n", "2 identifiers are merged in a circle"),
        ("7,7\n", "1 identifiers are merged in a circle"),
        ("1,2\n1,3\n", "1 identifiers are merged into two others"),
    ],
)
def test_merges_that_lead_nowhere_are_refused(
    place: Place, capsys: pytest.CaptureFixture[str], merges: str, said: str
) -> None:
    place.configure(STUDY + MERGES)
    place.write(GOOD)
    (place.source / "merges.csv").write_text("before,now\n" + merges)
    assert place.ingest() == 11
    assert said in capsys.readouterr().err
    assert not place.into.exists()


def test_a_folder_of_shards(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.write(GOOD)
    target = place.folder / "shards"
    args = ["ingest", str(place.study), "--from", str(place.source), "--into"]
    assert main([*args, f"{target}/"]) == 0
    assert [path.name for path in (target / "data").iterdir()] == ["000.parquet"]
    assert main([*args, str(target), "--shards", "3", "--json"]) == 0
    assert sorted(path.name for path in (target / "data").iterdir()) == ["000.parquet", "001.parquet", "002.parquet"]
    capsys.readouterr()
    assert main(["check", str(target), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["subjects"] == 100
    assert main([*args, str(target), "--shards", "0"]) == 2
    assert "wanted  1 or more" in capsys.readouterr().err
    (place.folder / "file").write_text("mine")
    assert main([*args, str(place.folder / "file"), "--shards", "2"]) == 15
    assert "was not written by this command" in capsys.readouterr().err
    assert place.left == ["file", "shards", "source", "study"]
