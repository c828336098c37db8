"""run_ingest: from files to a published warehouse, with every fact accounted for."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import polars as pl
import pytest

from riskpred.errors import ConfigError, InputError, OutputError
from riskpred.records.ingest import run, run_ingest
from riskpred.records.publish import staged
from riskpred.records.warehouse import Warehouse

EVENTS = "SELECT subject_id, strftime(time, '%Y-%m-%d'), code, numeric_value, text_value, unit FROM events ORDER BY ALL"
LONG = """
tables:
  - name: labs
    file: labs.csv
    subject: id
    time: {column: at}
    long:
      - code_column: test
        value_column: value
        unit_column: unit
        codes:
          chol: {code: LAB//CHOL, unit: mmol/L, units: {mg/dL: 0.02586}, allow_rejects: 1}
          old: ignore
"""
HEADER = "id,at,test,value,unit\n"


def test_every_fate_of_a_fact(ingest, rows) -> None:
    lines = [
        "1,2020-01-01,chol,5,mmol/L",  # event
        "1,2020-01-01,chol,5.0,mmol/L",  # repeat
        "1,2020-01-02,chol,200,mg/dL",  # event, converted
        "1,2020-01-03,chol,,mmol/L",  # missing
        "1,2020-01-03,old,7,x",  # ignored
        "1,2020-01-03,new,7,x",  # reject: unknown_code
        ",2020-01-03,chol,5,mmol/L",  # reject: no_subject
        "1,,chol,5,mmol/L",  # reject: no_time
        "1,soon,chol,5,mmol/L",  # reject: not_a_time
        "1,2020-01-03,chol,much,mmol/L",  # reject: not_a_number
        "1,2020-01-03,chol,5,g/L",  # reject: unknown_unit
        *["2,2020-01-01,old,1,x"] * 20,
    ]
    summary, path = ingest({"labs.csv": HEADER + "\n".join(lines) + "\n"}, LONG)
    [count] = summary.sources
    assert (count.rows, count.facts) == (31, 31)
    assert (count.events, count.missing, count.repeats, count.ignored, count.rejects) == (2, 1, 1, 21, 6)
    assert rows(path, EVENTS) == [
        (1, "2020-01-01", "LAB//CHOL", 5.0, None, "mmol/L"),
        (1, "2020-01-02", "LAB//CHOL", pytest.approx(5.172), None, "mmol/L"),
    ]
    assert rows(path, "SELECT row_key, subject_id, reason, field, wanted FROM rejects") == [
        ("6", 1, "unknown_code", "test", "a code listed in ingest.yaml"),
        ("7", None, "no_subject", "id", "an identifier of the person"),
        ("8", 1, "no_time", "at", "a time for every value"),
        ("9", 1, "not_a_time", "at", "a time in ISO 8601"),
        ("10", 1, "not_a_number", "LAB//CHOL", "a finite number"),
        ("11", 1, "unknown_unit", "LAB//CHOL", "mmol/L or mg/dL"),
    ]
    assert rows(path, "SELECT source, rows, facts, events, rejects, study, site FROM ingests") == [
        ("labs.csv", 31, 31, 2, 6, "made", "made")
    ]


WIDE = """
site: north
as_of: 2021-01-01T00:00:00
anchor: {column: day0}
tables:
  - name: people
    file: people.csv
    subject: id
    time: {offset: [days]}
    missing: [-9]
    events:
      - {code: ENTRY, time: {offset: [0]}}
      - {code: GENDER, column: sex, store: code, values: {1: M, 2: F}, time: {static: true}}
      - {code: BMI, column: bmi, unit: kg/m2}
      - {code: SMOKING, column: smoking, store: text}
      - {code: MEDS_DEATH, kind: death, when: {dead: [1]}}
"""


def test_wide_columns(ingest, rows) -> None:
    people = "id,day0,days,sex,bmi,smoking,dead\n1,2020-01-01,10,1,25,never,1\n2,2020-02-01,20,2,-9,,0\n"
    summary, path = ingest({"people.csv": people}, WIDE)
    assert rows(
        path, "SELECT subject_id, strftime(time, '%m-%d %H:%M'), code, numeric_value, text_value FROM events"
    ) == [
        (1, None, "GENDER//M", None, None),
        (1, "01-01 00:00", "ENTRY", None, None),
        (1, "01-11 00:00", "BMI", 25.0, None),
        (1, "01-11 00:00", "SMOKING", None, "never"),
        (1, "01-11 23:59", "MEDS_DEATH", None, None),
        (2, None, "GENDER//F", None, None),
        (2, "02-01 00:00", "ENTRY", None, None),
    ]
    [count] = summary.sources
    assert (count.facts, count.events, count.missing, count.ignored) == (10, 7, 2, 1)
    with Warehouse.open(path) as warehouse:
        assert warehouse.site == "north"
        assert warehouse.as_of == 1_609_459_200_000_000
        assert warehouse.problems == {}
        assert set(warehouse.splits()) == {1, 2}


def test_an_event_whose_time_is_all_it_has_is_missing_without_one(ingest) -> None:
    config = """
tables:
  - {name: stays, file: stays.csv, subject: id, events: [{code: ICU, time: {column: icu}, missing: [never]}]}
"""
    summary, _ = ingest({"stays.csv": "id,icu\n1,2020-01-01\n2,\n3,never\n"}, config)
    assert (summary.sources[0].events, summary.sources[0].missing) == (1, 2)


ANCHOR_ROW = """
anchor: {date: 2020-01-01T00:00:00}
anchor_row: {table: exams, max: since}
tables:
  - name: exams
    file: exams.csv
    subject: id
    time: {offset: [anchor_row.since, -since]}
    events:
      - {code: CRP, column: crp, time: {offset: [anchor_row.since, -since, crp_day]}}
"""


def test_days_count_from_the_row_with_the_greatest_column(ingest, rows) -> None:
    exams = "id,since,crp,crp_day\n1,-5,50,1\n1,-2,20,-1\n1,,10,0\n"
    config = ANCHOR_ROW.replace("column: crp,", "column: crp, allow_rejects: 1,")
    _, path = ingest({"exams.csv": exams}, config)
    assert rows(path, "SELECT strftime(time, '%Y-%m-%d'), numeric_value FROM events") == [
        ("2019-12-31", 20.0),  # the first exam is day 0
        ("2020-01-05", 50.0),  # three days later, and a day on
    ]
    assert rows(path, "SELECT reason FROM rejects") == [("no_time",)]


def test_an_anchor_in_another_table(ingest, rows) -> None:
    config = """
anchor: {table: people, column: entry}
tables:
  - {name: people, file: people.csv, subject: id, events: [{code: ENTRY, time: {column: entry}}]}
  - name: labs
    file: labs.csv
    subject: person
    time: {offset: [hours], unit: hours}
    events: [{code: LAB, column: value, allow_rejects: 1}]
"""
    people = "id,entry\n1,2020-01-01 06:00\n2,2020-02-01\n2,2020-02-01\n"
    labs = "person,hours,value\n1,2,5\n2,1,6\n3,1,7\n"
    _, path = ingest({"people.csv": people, "labs.csv": labs}, config)
    times = "SELECT subject_id, strftime(time, '%Y-%m-%d %H:%M') FROM events WHERE code = 'LAB'"
    assert rows(path, times) == [(1, "2020-01-01 08:00"), (2, "2020-02-01 01:00")]
    assert rows(path, "SELECT subject_id, reason FROM rejects") == [(3, "no_anchor")]
    with pytest.raises(InputError, match=r"people.entry: differs between rows of one subject, 1 times"):
        ingest({"people.csv": people + "1,2020-03-01\n", "labs.csv": labs}, config)


IMAGES = """
tables:
  - name: exams
    file: exams.csv
    subject: id
    time: {column: day}
    images:
      - {image_id: image, path: "images/{file}.png", image_type_column: kind, allow_rejects: 1}
"""


def test_images(ingest, rows) -> None:
    exams = [
        "1,2020-01-01,i1,a,CR",
        "1,2020-01-01,i1,a,CR",  # repeat
        "1,2020-01-02,i2,b,CR",  # no such file
        "2,2020-01-02,i3,../../secret,CR",
        "2,2020-01-02,i4,a,XX",
        "2,2020-01-02,,a,CR",
        "3,2020-01-03,i5,a,DX",  # one id for two images
        "3,2020-01-04,i5,a,DX",
    ]
    files = {"exams.csv": "id,day,image,file,kind\n" + "\n".join(exams) + "\n", "images/a.png": b"pixels"}
    summary, path = ingest(files, IMAGES)
    [count] = summary.sources
    assert (count.facts, count.images, count.repeats, count.missing, count.rejects) == (8, 1, 1, 1, 5)
    assert rows(path, "SELECT row_key, reason FROM rejects") == [
        ("3", "file_missing"),
        ("4", "path_refused"),
        ("5", "unknown_image_type"),
        ("7", "ambiguous_image_id"),
        ("8", "ambiguous_image_id"),
    ]
    [(image_id, subject, kind, where, digest)] = rows(
        path, "SELECT image_id, subject_id, image_type, path, sha256 FROM images"
    )
    assert (image_id, subject, kind, where) == ("i1", 1, "CR", "images/a.png")
    assert digest == hashlib.sha256(b"pixels").hexdigest()


def test_lines_that_are_no_rows_are_refused_by_their_number(ingest, rows) -> None:
    good = [f"{i},2020-01-01,chol,5,mmol/L" for i in range(1, 61)]
    lines = [*good[:2], "3,2020-01-01", *good[2:], "99,2020-01-01,chol,much,mmol/L"]
    summary, path = ingest({"labs.csv": HEADER + "\n".join(lines) + "\n"}, LONG)
    [count] = summary.sources
    assert (count.rows, count.facts, count.events, count.rejects) == (62, 62, 60, 2)
    assert rows(path, "SELECT row_key, reason FROM rejects ORDER BY row_key::INT") == [
        ("3", "unreadable_row"),
        ("62", "not_a_number"),
    ]


def test_sources_of_every_kind_give_the_same_warehouse(ingest, tmp_path: Path) -> None:
    text = HEADER + "".join(f"{i},2020-01-{i % 28 + 1:02},chol,{i / 8},mmol/L\n" for i in range(50))
    _, path = ingest({"labs.csv": text}, LONG)
    with Warehouse.open(path) as warehouse:
        expected = warehouse.digest()
    frame = pl.read_csv(text.encode(), try_parse_dates=True)
    frame.write_parquet(tmp_path / "source" / "labs.parquet")
    with duckdb.connect(str(tmp_path / "source" / "hospital.duckdb")) as connection:
        connection.register("incoming", frame.to_arrow())
        connection.execute("CREATE TABLE labs AS SELECT * FROM incoming")
    (tmp_path / "source" / "semicolon.csv").write_text("\ufeff" + text.replace(",", ";"))
    for number, file in enumerate(("labs.parquet", "hospital.duckdb", "semicolon.csv", "lab*.csv")):
        _, path = ingest({}, LONG.replace("labs.csv", file), name=f"{number}.duckdb")
        with Warehouse.open(path) as warehouse:
            assert warehouse.digest() == expected, file


def test_a_duckdb_file_as_source(ingest, tmp_path: Path, rows) -> None:
    ingest({"labs.csv": HEADER + "1,2020-01-01,chol,5,mmol/L\n"}, LONG)
    with duckdb.connect(str(tmp_path / "hospital.duckdb")) as connection:
        connection.execute(
            "CREATE TABLE labs AS SELECT 1 AS id, DATE '2020-01-01' AS at, 'chol' AS test, 5 AS value, 'mmol/L' AS unit"
        )
    (tmp_path / "study" / "ingest.yaml").write_text("study: made" + LONG.replace("    file: labs.csv\n", ""))
    run_ingest(str(tmp_path / "study"), tmp_path / "hospital.duckdb", tmp_path / "b.duckdb")
    assert rows(tmp_path / "b.duckdb", EVENTS) == [(1, "2020-01-01", "LAB//CHOL", 5.0, None, "mmol/L")]


def test_identifiers_that_are_no_numbers_are_kept_in_the_subject_map(ingest, rows) -> None:
    _, path = ingest({"labs.csv": HEADER + "a7,2020-01-01,chol,5,mmol/L\n12,2020-01-01,chol,5,mmol/L\n"}, LONG)
    assert rows(path, "SELECT * FROM subject_map") == [(2_022_866_661_631_995_805, "a7")]
    assert rows(path, "SELECT DISTINCT subject_id FROM events ORDER BY 1") == [(12,), (2_022_866_661_631_995_805,)]


def test_two_people_with_one_subject_id_stop_the_ingest(ingest, tmp_path: Path) -> None:
    text = HEADER + "a7,2020-01-01,chol,5,mmol/L\n2022866661631995805,2020-01-01,chol,5,mmol/L\n"
    with pytest.raises(InputError, match="1 subject ids stand for two identifiers"):
        ingest({"labs.csv": text}, LONG)
    assert not (tmp_path / "w.duckdb").exists()


def test_a_repeat_in_another_file_belongs_to_the_later_one(ingest) -> None:
    config = LONG + LONG.replace("\ntables:\n", "").replace("name: labs", "name: more").replace("labs.csv", "more.csv")
    line = HEADER + "1,2020-01-01,chol,5,mmol/L\n"
    summary, _ = ingest({"labs.csv": line, "more.csv": line + "1,2020-01-02,chol,5,mmol/L\n"}, config)
    assert [(count.source, count.events, count.repeats) for count in summary.sources] == [
        ("labs.csv", 1, 0),
        ("more.csv", 1, 1),
    ]


def test_splits_by_group_and_by_column(ingest, rows) -> None:
    text = "id,at,test,value,unit,pair,cycle\n" + "".join(
        f"{i},2020-01-01,chol,5,mmol/L,{i // 2},{7 + i % 3}\n" for i in range(300)
    )
    _, path = ingest({"labs.csv": text}, LONG + "splits: {table: labs, group: pair}\n")
    pairs = rows(path, "SELECT count(DISTINCT split) FROM subject_splits GROUP BY subject_id // 2")
    assert set(pairs) == {(1,)}
    groups = rows(path, "SELECT count(DISTINCT group_id), count(*) FROM subject_groups GROUP BY subject_id // 2")
    assert set(groups) == {(1, 2)}
    assert rows(path, "SELECT count(DISTINCT group_id) FROM subject_groups") == [(150,)]
    config = LONG + "splits: {table: labs, column: cycle, values: {7: train_or_tuning, 8: train, 9: held_out}}\n"
    _, path = ingest({"labs.csv": text}, config)
    assert rows(path, "SELECT DISTINCT subject_id % 3, split FROM subject_splits ORDER BY ALL") == [
        (0, "train"),
        (0, "tuning"),
        (1, "train"),
        (2, "held_out"),
    ]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (LONG.replace("    time: {column: at}\n", ""), "no time"),
        (LONG.replace("{column: at}", "{offset: [at]}"), "an offset needs a day 0, but there is no `anchor`"),
        ("timezone: Mars/Olympus\n" + LONG, "timezone Mars/Olympus is unknown"),
        (LONG + "splits: {column: cycle}\n", "give column and values together"),
        (LONG + "splits: {table: nowhere, group: id}\n", "no table nowhere"),
        (
            LONG.replace("column: at", "offset: [anchor_row.x]") + "anchor: {date: 2020-01-01T00:00:00}\n",
            "no `anchor_row`",
        ),
        (LONG.replace("units:", "source_unit: g/L, units:"), "source_unit g/L has no factor to mmol/L"),
    ],
)
def test_configurations_that_contradict_themselves(ingest, tmp_path: Path, config: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ingest({"labs.csv": HEADER + "1,2020-01-01,chol,5,mmol/L\n"}, config)
    assert said in caught.value.message
    assert not (tmp_path / "w.duckdb").exists()


@contextmanager
def _without_disk(target: Path, memory_limit: str) -> Iterator[duckdb.DuckDBPyConnection]:
    with staged(target, memory_limit) as connection:
        connection.execute("SET temp_directory = ''")
        yield connection


def test_a_source_larger_than_the_memory_allowed(ingest, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    duckdb.execute(
        "COPY (SELECT hash(i) % 20000 AS id, TIMESTAMP '2020-01-01' + INTERVAL (i) MINUTE AS at, 'chol' AS test,"
        f" i % 1000 AS value, 'mmol/L' AS unit FROM range(300000) t(i)) TO '{source / 'labs.parquet'}'"
    )
    config = LONG.replace("labs.csv", "labs.parquet")
    summary, path = ingest({}, config, memory_mb=40)
    assert summary.sources[0].events == 300_000
    # Without the disk it does not fit: else this test would show nothing.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "staged", _without_disk)
        with pytest.raises(duckdb.OutOfMemoryException):
            ingest({}, config, memory_mb=40, name="none.duckdb")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source", "study", "w.duckdb"]
    with Warehouse.open(path) as warehouse:
        assert warehouse.problems == {}


def test_a_database_that_is_no_warehouse_is_never_replaced(ingest, tmp_path: Path) -> None:
    into = tmp_path / "w.duckdb"
    with duckdb.connect(str(into)) as connection:
        connection.execute("CREATE TABLE events (x INTEGER); CREATE TABLE risk_scores (x INTEGER)")
    before = into.read_bytes()
    with pytest.raises(OutputError, match="no table images, subject_splits") as caught:
        ingest({"labs.csv": HEADER + "1,2020-01-01,chol,5,mmol/L\n"}, LONG)
    assert caught.value.exit_code == 15
    assert into.read_bytes() == before
    into.unlink()
    for _ in range(2):  # a warehouse is replaced
        assert ingest({"labs.csv": HEADER + "1,2020-01-01,chol,5,mmol/L\n"}, LONG)[0].events == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "study", "w.duckdb"]


@pytest.mark.parametrize("folder", [False, True])
def test_a_source_is_never_replaced(tmp_path: Path, folder: bool) -> None:
    source, study = tmp_path / "source", tmp_path / "study"
    source.mkdir()
    study.mkdir()
    into = source / "in.duckdb"
    with duckdb.connect(str(into)) as connection:
        # It could be taken for a warehouse.
        connection.execute("CREATE TABLE labs AS SELECT 1 AS id, '2020-01-01' AS at, 'chol' AS test, 5 AS value")
        connection.execute("ALTER TABLE labs ADD COLUMN unit VARCHAR DEFAULT 'mmol/L'")
        for table in ("events", "images", "subject_splits"):
            connection.execute(f"CREATE TABLE {table} (x INTEGER)")
    before = into.read_bytes()
    file = "    file: in.duckdb\n" if folder else ""
    (study / "ingest.yaml").write_text(
        "study: made\n" + LONG.replace("    file: labs.csv\n", file + "    table: labs\n")
    )
    (tmp_path / "link.duckdb").symlink_to(into)
    for target in (into, tmp_path / "link.duckdb"):
        with pytest.raises(OutputError, match="is the source itself"):
            run_ingest(str(study), source if folder else into, target)
    assert into.read_bytes() == before
    assert run_ingest(str(study), source if folder else into, tmp_path / "w.duckdb").events == 1


NUMBERED = """
tables:
  - name: people
    file: people*.csv
    subject: "#row"
    time: {static: true}
    events: [{code: AGE, column: age, unit: years}]
splits: {table: people, column: part, values: {a: train, b: held_out}}
"""


def test_people_without_identifiers_are_numbered_by_their_rows(ingest, rows) -> None:
    people = "age,part\n50,a\n60,b\n50,a\n"
    summary, path = ingest({"people.csv": people}, NUMBERED)
    assert (summary.subjects, summary.sources[0].events, summary.sources[0].repeats) == (3, 3, 0)
    assert rows(path, "SELECT subject_id, numeric_value FROM events") == [(1, 50), (2, 60), (3, 50)]
    assert rows(path, "SELECT split FROM subject_splits ORDER BY subject_id") == [("train",), ("held_out",), ("train",)]
    assert rows(path, "SELECT count(*) FROM subject_map") == [(0,)]


def test_numbered_people_come_from_one_file(ingest) -> None:
    people = "age,part\n50,a\n"
    with pytest.raises(InputError, match=r"2 files match people.*numbered"):
        ingest({"people1.csv": people, "people2.csv": people}, NUMBERED)


def test_a_numbered_row_is_nobody_in_another_table(ingest) -> None:
    other = '\n  - {name: other, file: o.csv, subject: "#row", time: {static: true}, events: [{code: X, column: x}]}\n'
    with pytest.raises(ConfigError, match="only in the one table of a study"):
        ingest({"people.csv": "age,part\n1,a\n", "o.csv": "x\n1\n"}, NUMBERED.replace("\nsplits", other + "splits"))


def test_a_numbered_table_may_need_no_column_at_all(ingest, rows) -> None:
    config = """
tables:
  - {name: people, file: p.csv, subject: "#row", time: {static: true}, events: [{code: HERE}]}
"""
    _, path = ingest({"p.csv": "x\n7\n8\n"}, config)
    assert rows(path, "SELECT subject_id, code FROM events") == [(1, "HERE"), (2, "HERE")]
