"""What ingest keeps of the events: used only while the file is as ingest left it, and then the same as made anew."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pytest

from riskpred.errors import InputError
from riskpred.records import contents
from riskpred.records.digest import subject_digests
from riskpred.records.file_state import HeldFile, next_state
from riskpred.records.warehouse import Warehouse

LABS = "id,day,test,value,unit\n" + "".join(
    f"{person},2020-01-{day:02d},{test},{person + day / 8},{unit}\n"
    for person in range(1, 41)
    for day, test, unit in ((1, "A", "mg/dL"), (2, "B", "g/L"), (2, "A", "mg/dL"), (9, "C", ""))
)
STUDY = """
tables:
  - name: labs
    file: labs.csv
    subject: id
    time: {column: day}
    long:
      - code_column: test
        value_column: value
        unit_column: unit
        codes:
          A: {code: LAB//A, unit: mg/dL}
          B: {code: LAB//B, unit: g/L}
          C: {code: LAB//C, store: text}
"""


@pytest.fixture
def made(ingest: Callable[..., object]) -> Path:
    _, path = ingest({"labs.csv": LABS}, STUDY)  # type: ignore[misc]
    assert isinstance(path, Path)
    return path


def change(path: Path, *statements: str) -> None:
    with duckdb.connect(str(path)) as connection:
        for statement in statements:
            connection.execute(statement)


def by_chunks(warehouse: Warehouse) -> dict[int, str]:
    return {
        subject: digest
        for chunk in warehouse.chunks(7)
        for subject, digest in zip(chunk.subject_id.tolist(), subject_digests(chunk), strict=True)
    }


def read(warehouse: Warehouse) -> dict[int, str]:
    subjects, digests = warehouse.subject_digests()
    assert (np.diff(subjects) > 0).all()
    return dict(zip(subjects.tolist(), digests.to_pylist(), strict=True))


def test_what_ingest_kept_is_what_the_events_give(made: Path) -> None:
    with Warehouse.open(made) as warehouse:
        assert warehouse.contents == "kept"
        assert "digests_stale" not in warehouse.problems
        kept = (warehouse.codes, warehouse.code_counts, warehouse.code_units, warehouse.clustered, warehouse.data_until)
        digests, whole = read(warehouse), warehouse.digest()
        assert digests == by_chunks(warehouse)
        assert len(set(digests.values())) == 40
    change(made, "DROP TABLE contents")
    with Warehouse.open(made) as warehouse:
        assert warehouse.contents == "absent"
        anew = (warehouse.codes, warehouse.code_counts, warehouse.code_units, warehouse.clustered, warehouse.data_until)
        assert anew == kept
        assert read(warehouse) == digests
        assert warehouse.digest() == whole


def test_opening_reads_no_event_where_all_is_kept(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("an event was read")

    for name in ("code_rows", "latest_time", "is_clustered", "all_rows", "rows"):
        monkeypatch.setattr(f"riskpred.records.event_table.EventTable.{name}", refuse)
    with Warehouse.open(made) as warehouse:
        assert warehouse.codes == ("LAB//A", "LAB//B", "LAB//C")
        assert warehouse.code_units["LAB//B"] == ("g/L",)
        assert warehouse.subject_count == 40
        assert warehouse.clustered
        assert warehouse.data_until > 0
        assert len(warehouse.digest()) == 32
        assert not warehouse.problems.get("digests_stale")
        with pytest.raises(AssertionError, match="an event was read"):
            next(warehouse.chunks())


@pytest.mark.parametrize(
    "statements",
    [
        ("INSERT INTO events SELECT * FROM events LIMIT 1",),
        ("DELETE FROM events WHERE subject_id = 7",),
        ("UPDATE events SET numeric_value = 3 WHERE subject_id = 7 AND code = 'LAB//A'",),
        # The second change may put its blocks where the first ones lay; the same statistics, counts and places.
        (
            "UPDATE events SET numeric_value = numeric_value + 1 WHERE subject_id = 7",
            "CHECKPOINT",
            "UPDATE events SET numeric_value = numeric_value - 2 WHERE subject_id = 7",
        ),
        ("CREATE OR REPLACE TABLE events AS SELECT * REPLACE (numeric_value + 1 AS numeric_value) FROM events",),
        ("UPDATE images SET path = 'x'", "CREATE VIEW analysts AS SELECT 1"),
    ],
    ids=["insert", "delete", "update", "two updates", "replaced", "another table"],
)
def test_any_change_makes_it_stale_and_the_digests_are_those_of_the_events(
    made: Path, statements: tuple[str, ...]
) -> None:
    change(made, *statements)
    with Warehouse.open(made) as warehouse:
        assert warehouse.contents == "stale"
        assert warehouse.digests_stale
        assert warehouse.problems["digests_stale"] == 1
        assert read(warehouse) == by_chunks(warehouse)


def test_an_update_changes_that_subject_alone(made: Path) -> None:
    with Warehouse.open(made) as warehouse:
        before = read(warehouse)
    change(made, "UPDATE events SET numeric_value = numeric_value + 1 WHERE subject_id = 7 AND code = 'LAB//A'")
    with Warehouse.open(made) as warehouse:
        after = read(warehouse)
    assert {subject for subject in before if before[subject] != after[subject]} == {7}


def test_a_log_that_is_not_checkpointed_makes_it_stale(made: Path) -> None:
    code = (
        "import os, sys, duckdb; c = duckdb.connect(sys.argv[1]);"
        " c.execute('DELETE FROM events WHERE subject_id = 7'); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(made)], check=True)
    assert Path(f"{made}.wal").stat().st_size
    with Warehouse.open(made) as warehouse:
        assert warehouse.contents == "stale"
        assert 7 not in read(warehouse)


def test_a_file_copied_whole_keeps_it_and_tables_copied_into_another_file_do_not(made: Path, tmp_path: Path) -> None:
    shutil.copy(made, tmp_path / "copy.duckdb")
    with Warehouse.open(tmp_path / "copy.duckdb") as warehouse:
        assert warehouse.contents == "kept"
    with duckdb.connect(str(tmp_path / "tables.duckdb")) as connection:
        connection.execute(f"ATTACH '{made}' AS old (READ_ONLY)")
        connection.execute("COPY FROM DATABASE old TO tables")
        connection.execute("UPDATE tables.events SET numeric_value = 0")
        connection.execute("CHECKPOINT tables")
        # The same count of checkpoints as in the file it came from: the random bytes alone tell them apart.
        mine = next_state(tmp_path / "tables.duckdb")
        connection.execute("UPDATE tables.contents SET file_state = split_part(file_state, '-', 1) || '-0'")
        connection.execute(
            "UPDATE tables.contents SET file_state = split_part(file_state, '-', 1) || ?", ["-" + mine.split("-")[1]]
        )
    held = HeldFile(tmp_path / "tables.duckdb")
    assert held.state() == mine
    held.close()
    with Warehouse.open(tmp_path / "tables.duckdb") as warehouse:
        assert warehouse.contents == "stale"


def test_digests_of_an_older_rule_are_not_used(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "DIGEST_VERSION", contents.DIGEST_VERSION + 1)
    with Warehouse.open(made) as warehouse:
        assert warehouse.contents == "stale"


def test_tables_of_these_names_that_are_something_else_are_left_alone(made: Path) -> None:
    change(made, "ALTER TABLE subject_digests RENAME events_digest TO mine")
    with Warehouse.open(made) as warehouse:
        assert warehouse.contents == "absent"
        assert read(warehouse) == by_chunks(warehouse)


def test_rows_in_no_order_give_the_same_digests(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Warehouse.open(made) as warehouse:
        before = read(warehouse)
    shuffled = "SELECT * REPLACE (code::VARCHAR AS code) FROM events ORDER BY hash(code, time), subject_id"
    change(made, f"CREATE OR REPLACE TABLE events AS {shuffled}")
    monkeypatch.setattr(contents, "_PENDING", 20)
    monkeypatch.setattr("riskpred.records.event_table._BATCH", 2048)
    with Warehouse.open(made) as warehouse:
        assert not warehouse.clustered
        assert read(warehouse) == before == by_chunks(warehouse)


def test_two_readers_in_one_process_keep_a_writer_out_until_both_are_closed(made: Path) -> None:
    code = "import sys, duckdb; duckdb.connect(sys.argv[1])"

    def writer_gets_in() -> bool:
        return not subprocess.run([sys.executable, "-c", code, str(made)], capture_output=True).returncode

    first, second = Warehouse.open(made), Warehouse.open(made)
    first.close()
    assert not writer_gets_in()
    second.close()
    assert writer_gets_in()


def test_a_file_put_in_its_place_meanwhile_has_no_state(made: Path, tmp_path: Path) -> None:
    held = HeldFile(made)
    try:
        assert held.state()
        shutil.copy(made, tmp_path / "new")
        (tmp_path / "new").replace(made)
        assert held.state() is None
    finally:
        held.close()


def test_a_file_that_is_no_database_is_refused_as_before(tmp_path: Path) -> None:
    (tmp_path / "short.duckdb").write_bytes(b"DUCK")
    with pytest.raises(InputError, match="not readable as a DuckDB file"):
        Warehouse.open(tmp_path / "short.duckdb")
