"""A night over a folder of shards: parts end where shards do, and give what the one file gives, whoever makes them."""

import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from riskpred.errors import InputError
from riskpred.records.shards import Shard, write_shards
from riskpred.records.warehouse import Warehouse
from riskpred.score.compute import RISKS, Common, Task, shards_with, tasks_of
from riskpred.score.parts import Parts, PartWriter, is_finished
from riskpred.score.plan import Night as PlannedNight
from riskpred.score.worker import Place, Worker

Night = Callable[..., Any]
Rows = Callable[..., list[tuple[Any, ...]]]
LOW, HIGH = int(np.iinfo(np.int64).min), int(np.iinfo(np.int64).max)
TABLES = ("risk_scores", "eligibility", "input_receipts", "explanations", "evidence", "rejects")


@pytest.fixture
def folder(small_hospital: Any, tmp_path: Path) -> Path:
    """The small hospital in four shards; its images stay where they are."""
    file = shutil.copyfile(small_hospital.write("w.duckdb"), tmp_path / "copy.duckdb")
    made = small_hospital.folder / f"shards-{tmp_path.name}"
    made.mkdir()
    with duckdb.connect(str(file)) as connection:
        write_shards(connection, made, 4)
    return made


def test_no_part_reaches_from_one_shard_into_the_next() -> None:
    subjects = np.flatnonzero(np.random.default_rng(2).random(60_000) < 0.5).astype(np.int64)
    edges = [LOW, 100, 30_000, 30_001, 59_000, 70_000, HIGH]  # one shard of none, one of nobody wanted
    shards = [Shard(f"data/{k}.parquet", a, b - 1 if b < HIGH else b, 0, 0) for k, (a, b) in enumerate(pairwise(edges))]
    tasks = tasks_of(RISKS, subjects, 4_096, 7, shards)
    assert [task.number for task in tasks] == list(range(len(tasks)))
    assert np.array_equal(np.concatenate([task.subjects for task in tasks]), subjects), "everyone, once, in order"
    for task in tasks:
        (number,) = task.shards
        assert shards[number].first_subject <= task.subjects[0]
        assert task.subjects[-1] <= shards[number].last_subject
        assert 0 < len(task.subjects) <= 4_096
        assert shards_with(task.subjects, shards) == task.shards
    assert shards_with(subjects[[0, -1]], shards) == (0, 4)
    whole = tasks_of(RISKS, subjects, 4_096, 7)
    assert len(tasks) <= len(whole) + len(shards)
    assert {task.shards for task in whole} == {()}
    assert shards_with(subjects, ()) == ()
    assert tasks_of(RISKS, subjects[:0], 4_096, 7, shards) == []


def test_file_and_folder_give_the_same_rows(
    tmp_path: Path, small_hospital: Any, folder: Path, night: Night, rows: Rows
) -> None:
    file, shards = tmp_path / "file.duckdb", tmp_path / "shards.duckdb"
    one = night(small_hospital.write("w.duckdb"), file)
    two = night(folder, shards)
    assert two.ledger["run_id"] == one.ledger["run_id"]
    assert two.pairs == one.pairs
    apart_from_numbers = "* EXCLUDE (risk, risk_low, risk_high, reference_risk, percentile, scored_at)"
    risks = f"SELECT {apart_from_numbers} FROM risk_scores ORDER BY ALL"
    assert rows(shards, risks) == rows(file, risks)
    numbers = (
        "SELECT risk, risk_low, risk_high, reference_risk FROM risk_scores ORDER BY subject_id, outcome, horizon_years"
    )
    apart = np.abs(np.array(rows(shards, numbers)) - np.array(rows(file, numbers)))
    assert apart.shape == (301, 4)
    assert apart.max() <= 1e-6
    for table in ("eligibility", "input_receipts", "rejects"):
        sql = f"SELECT * FROM {table} ORDER BY ALL"
        assert rows(shards, sql) == rows(file, sql), table


def test_a_folder_changed_since_ingest_is_still_scored_and_read_as_a_whole(
    tmp_path: Path, folder: Path, night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "data" / "001.parquet"
    table = pq.read_table(path)
    code = table.column("code").to_pylist()
    at = table.schema.get_field_index("code")
    code[code.index("SBP")] = "NEW//CODE"
    pq.write_table(table.set_column(at, table.schema.field(at), [code]), path)
    cut: list[Task] = []

    def watched(*given: Any) -> list[Task]:
        cut[:] = tasks_of(*given)
        return cut

    monkeypatch.setattr("riskpred.score.run.tasks_of", watched)
    summary = night(folder, tmp_path / "scores.duckdb")
    assert summary.ledger["scored_pairs"] > 0
    assert [task.shards for task in cut] == [()], "which codes there are is known from all shards together"


def place(warehouse: Path) -> tuple[Place, PlannedNight]:
    with Warehouse.open(warehouse) as source:
        state = source.state
    as_of = 1_767_225_600_000_000  # 2026-01-01
    night = PlannedNight("run", as_of, as_of, "digest", "bundle")
    return Place(warehouse, Path("bundle"), None, state), night


def test_a_worker_makes_of_a_shard_what_the_whole_folder_gives(
    tmp_path: Path, folder: Path, random_bundle: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("riskpred.score.worker.load_bundle", lambda _: random_bundle(1))
    where, night = place(folder)
    with Warehouse.open(folder) as source:
        tasks = tasks_of(RISKS, source.subject_ids, 16, night.as_of, source.shards)
    assert len({task.shards for task in tasks}) == 4 < len(tasks)
    opened: list[Any] = []
    real = Warehouse.open

    def watched(path: Path, root: Path | None = None, shard: Any = None) -> Warehouse:
        opened.append(shard)
        return real(path, root, shard)

    monkeypatch.setattr(Warehouse, "open", watched)
    made = {}
    for name, wide in (("shards", False), ("whole", True)):
        parts = Parts(tmp_path / name, {}, b"salt")
        worker = Worker(where, Common(night, parts.folder, b"salt", 5, 4096, 2048))
        for task in tasks:
            worker.make(Task(task.kind, task.number, task.subjects, task.moment, () if wide else task.shards))
        worker.close()
        finished = parts.finished(RISKS)
        assert sorted(finished) == list(range(len(tasks)))
        made[name] = [
            (finished[k]["content"], [table.to_pydict() for table in parts.rows(RISKS, [k], "input_receipts")])
            for k in sorted(finished)
        ]
    assert made["shards"] == made["whole"]
    assert opened == [(0,), (1,), (2,), (3,), None], "each shard once, then the whole once"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_worker_refuses_records_that_were_replaced_while_the_night_ran(
    kind: str, tmp_path: Path, small_hospital: Any, folder: Path, random_bundle: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("riskpred.score.worker.load_bundle", lambda _: random_bundle(1))
    warehouse = small_hospital.write("replaced.duckdb") if kind == "file" else folder
    where, night = place(warehouse)
    parts = Parts(tmp_path / "parts", {}, b"salt")
    worker = Worker(where, Common(night, parts.folder, b"salt", 5, 4096, 2048))
    task = Task(RISKS, 0, np.array([101, 102]), night.as_of, () if kind == "file" else (0,))
    worker.make(task)
    worker.close()
    if kind == "file":
        small_hospital.write("replaced.duckdb", events=small_hospital.events[:-1])
    else:
        with duckdb.connect(str(tmp_path / "copy.duckdb")) as connection:
            for table in ("contents", "code_dictionary", "subject_digests"):
                connection.execute(f"DROP TABLE {table}")
            connection.execute("DELETE FROM events WHERE subject_id = 160")
            shutil.rmtree(folder)
            folder.mkdir()
            write_shards(connection, folder, 4)
    with pytest.raises(InputError, match="changed or replaced while the night ran"):
        worker.make(Task(RISKS, 1, task.subjects, night.as_of, task.shards))
    assert not is_finished(parts.folder, RISKS, 1)


def test_of_two_who_make_the_same_part_one_counts_and_nothing_is_left(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "parts", {}, b"salt")
    with PartWriter(parts.folder, RISKS, 3) as slow:
        slow.about["by"] = "slow"
        assert not is_finished(parts.folder, RISKS, 3)
        with PartWriter(parts.folder, RISKS, 3) as fast:
            fast.about["by"] = "fast"
        assert is_finished(parts.folder, RISKS, 3)
    assert parts.finished(RISKS) == {3: {"by": "fast"}}
    assert sorted(path.name for path in parts.folder.iterdir()) == ["plan.json", "risks-00003", "salt"]


def test_parts_of_other_shards_are_of_no_use(
    tmp_path: Path, small_hospital: Any, folder: Path, night: Night, rows: Rows
) -> None:
    """The same people cut otherwise: part 2 then holds others."""

    class Stop:
        def step(self, stage: str, done: int, total: int | None = None) -> None:
            if stage == "score" and done > 32:
                raise KeyboardInterrupt

    into = tmp_path / "scores.duckdb"
    with pytest.raises(KeyboardInterrupt):
        night(folder, into, part_size=16, progress=Stop())
    summary = night(small_hospital.write("w.duckdb"), into, part_size=16)
    assert summary.resumed == 0
    assert any("parts of another, unfinished night were removed" in note for note in summary.notes)
    assert rows(into, "SELECT count(DISTINCT subject_id), count(*) FROM risk_scores") == [(61, 301)]
