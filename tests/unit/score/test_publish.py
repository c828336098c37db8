"""A night is there whole or not at all: faults at every stage of writing, locked and foreign files, broken rows."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from riskpred.errors import OutputError

Night = Callable[..., Any]


class Faulty:
    """Progress that raises at the n-th step, and remembers what stage that was."""

    def __init__(self, at: int, error: type[BaseException]) -> None:
        self.at, self.error, self.steps = at, error, [""]

    def step(self, stage: str, done: int, total: int | None = None) -> None:
        self.steps.append(stage)
        if len(self.steps) - 1 == self.at:
            raise self.error


PARTS = ".scores.duckdb.parts"


def _files(folder: Path) -> dict[str, str]:
    """Every file but the finished parts of an unfinished night."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.name != PARTS}


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_fault_at_any_stage_leaves_the_old_file_and_the_next_run_goes_on(
    tmp_path: Path, small_hospital: Any, night: Night, as_of_us: int, error: type[BaseException]
) -> None:
    warehouse, into = small_hospital.write("w.duckdb"), tmp_path / "scores.duckdb"
    options: dict[str, Any] = {"explain": 1, "part_size": 16, "as_of": as_of_us + 1, "rescore": True}
    night(warehouse, into, explain=1)
    before, calm = _files(tmp_path), Faulty(0, error)
    (tmp_path / "other").mkdir()
    whole = night(warehouse, tmp_path / "other" / "scores.duckdb", progress=calm, **options).ledger
    (tmp_path / "other" / "scores.duckdb").unlink()
    (tmp_path / "other").rmdir()
    stages = len(calm.steps) - 1
    assert {"score", "explain", "verify", "publish"} <= set(calm.steps)
    resumed = []
    # The very last step comes when the file is already in place.
    for at in range(1, stages) if error is KeyboardInterrupt else (3, stages - 1):
        faulty = Faulty(at, error)
        with pytest.raises(error):
            night(warehouse, into, progress=faulty, **options)
        assert _files(tmp_path) == before, f"changed by a fault at step {at} ({faulty.steps[-1]})"
        copy = tmp_path / "copy.duckdb"
        copy.write_bytes(into.read_bytes())
        again = night(warehouse, into, **options)
        assert again.ledger["content_digest"] == whole["content_digest"], at
        assert not (tmp_path / PARTS).exists()
        resumed.append(again.resumed)
        copy.replace(into)
    assert sorted(set(resumed)) == [0, 16, 32, 48, 64] if error is KeyboardInterrupt else max(resumed) == 64


def test_a_stop_after_the_swap_ends_a_published_night(
    tmp_path: Path, small_hospital: Any, night: Night, as_of_us: int
) -> None:
    warehouse, into, calm = small_hospital.write("w.duckdb"), tmp_path / "scores.duckdb", Faulty(0, KeyboardInterrupt)
    night(warehouse, into, explain=0, progress=calm)
    late = Faulty(len(calm.steps) - 1, KeyboardInterrupt)
    again = night(warehouse, into, explain=0, progress=late, as_of=as_of_us + 1, rescore=True)
    assert late.steps[-1] == "publish"
    assert "asked to stop when the night was published already" in again.notes
    assert [path.name for path in tmp_path.iterdir()] == ["scores.duckdb"]
    with duckdb.connect(str(into), read_only=True) as connection:
        assert (
            connection.execute("SELECT run_id FROM runs ORDER BY as_of DESC").fetchall()[0][0] == again.ledger["run_id"]
        )


@pytest.mark.parametrize("table", ["eligibility", "risk_scores", "evidence"])
def test_a_fault_while_writing_a_table_publishes_nothing(
    tmp_path: Path, small_hospital: Any, night: Night, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    from riskpred.score.store import Store

    insert = Store._insert

    def failing(self: Store, place: str, rows: Any, name: str, *more: Any) -> None:
        insert(self, place, rows, name, *more)
        if name == table:
            raise MemoryError

    monkeypatch.setattr(Store, "_insert", failing)
    with pytest.raises(OutputError, match="no memory left"):
        night(small_hospital.write("w.duckdb"), tmp_path / "scores.duckdb")
    assert [path.name for path in tmp_path.iterdir()] == [PARTS]


def test_a_file_held_by_another_process_is_exit_15(tmp_path: Path, small_hospital: Any, night: Night) -> None:
    warehouse, into = small_hospital.write("w.duckdb"), tmp_path / "scores.duckdb"
    night(warehouse, into)
    before = _files(tmp_path)
    holding = f"import duckdb; c = duckdb.connect({str(into)!r}); print('held', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", holding], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(OutputError) as refused:
            night(warehouse, into)
        holder.communicate("\n")
    assert refused.value.exit_code == 15
    assert "another program" in refused.value.message
    assert _files(tmp_path) == before


def test_a_reader_keeps_its_snapshot_while_the_next_night_is_published(
    tmp_path: Path, small_hospital: Any, night: Night, as_of_us: int
) -> None:
    warehouse, into = small_hospital.write("w.duckdb"), tmp_path / "scores.duckdb"
    night(warehouse, into)
    reading = f"import duckdb; c = duckdb.connect({str(into)!r}, read_only=True); print('open', flush=True); input(); "
    reading += "print(c.execute('SELECT count(*) FROM runs').fetchall()[0][0], flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", reading], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "open\n"
        night(warehouse, into, as_of=as_of_us + 1)
        seen, _ = reader.communicate("\n")
    assert seen == "1\n"
    with duckdb.connect(str(into), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchall() == [(2,)]


def test_what_is_not_ours_is_not_overwritten(tmp_path: Path, small_hospital: Any, night: Night) -> None:
    warehouse = small_hospital.write("w.duckdb")
    foreign = tmp_path / "foreign.duckdb"
    with duckdb.connect(str(foreign)) as connection:
        connection.execute("CREATE TABLE theirs AS SELECT 1 AS x")
    text = tmp_path / "notes.txt"
    text.write_text("not a database")
    older = tmp_path / "older.duckdb"
    night(warehouse, older)
    with duckdb.connect(str(older)) as connection:
        connection.execute(
            "CREATE OR REPLACE VIEW risk_scores AS SELECT * EXCLUDE reference_group FROM latest_risk_scores"
        )
    before = _files(tmp_path)
    for into, said in ((foreign, "no table"), (text, "DuckDB file"), (older, "reference_group"), (warehouse, "itself")):
        with pytest.raises(OutputError, match=said):
            night(warehouse, into)
    assert _files(tmp_path) == before


OTHER = "UPDATE stored.risk_scores SET contributions = list_concat("
ONE_PAIR = "DELETE FROM stored.eligibility WHERE subject_id = 120 AND outcome ="
TWICE = "INSERT INTO stored.risk_scores SELECT * FROM stored.risk_scores"

HARMS = {
    "UPDATE stored.risk_scores SET risk_high = risk - 0.001 WHERE subject_id = 120": "low <= risk <= high",
    "UPDATE stored.risk_scores SET risk = 'nan' WHERE subject_id = 120": "NaN",
    "UPDATE stored.risk_scores SET percentile = 1.5 WHERE subject_id = 120": "percentile outside",
    "UPDATE stored.risk_scores SET risk_low = 0, risk = 0 WHERE subject_id = 120 AND horizon_years = 5": "falls",
    f"{TWICE} WHERE subject_id = 120": "key twice in risk_scores",
    "DELETE FROM stored.risk_scores WHERE subject_id = 120": "without its risks",
    f"{OTHER} [contributions[1] + 1], contributions[2:]) WHERE subject_id = 120": "do not sum",
    f"{OTHER} ['inf'::DOUBLE], contributions[2:]) WHERE subject_id = 120": "contribution that is NaN or infinite",
    f"{OTHER} contributions, [0]) WHERE subject_id = 120": "without a contribution of each modality",
    "DELETE FROM stored.computations": "without a contribution of each modality",
    "DELETE FROM stored.pseudonyms WHERE subject_id = 120": "a subject without one",
    f"{ONE_PAIR} (SELECT min(outcome) FROM stored.eligibility)": "a subject without its pair",
    "INSERT INTO stored.standing SELECT * FROM stored.standing WHERE subject_id = 120": "stands twice",
    "INSERT INTO stored.input_receipts FROM stored.input_receipts WHERE subject_id = 120": "key twice in input",
}


def test_each_broken_promise_is_seen(tmp_path: Path, small_hospital: Any, night: Night) -> None:
    from riskpred.score.content import Content, stored_content
    from riskpred.score.layout import Rows
    from riskpred.score.verify import verify_night, verify_rows

    def night_of(connection: Any, run_id: str) -> None:
        """As the night that computed everyone verifies itself, whatever its digest."""
        verify_night(connection, run_id, 1, stored_content(connection, Rows(run_id).of("risk_scores")), Content())

    into = tmp_path / "scores.duckdb"
    run_id = night(small_hospital.write("w.duckdb"), into, explain=0).ledger["run_id"]
    with duckdb.connect(str(into)) as connection:
        verify_rows(connection, run_id)
        for harm, said in HARMS.items():
            connection.execute("BEGIN")
            connection.execute(harm)
            for verify in (verify_rows, night_of):
                with pytest.raises(AssertionError, match=said):
                    verify(connection, run_id)
            connection.execute("ROLLBACK")
        verify_rows(connection, run_id)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("SET contribution = contribution + 1e-5 WHERE level = 'moment' AND rank = 2", "moments that do not sum"),
        ("SET contribution = contribution + 1e-5 WHERE level = 'region' AND rank = 2", "regions that do not sum"),
        ("SET contribution = 'inf' WHERE level = 'moment' AND rank = 1", "of level moment that is NaN or infinite"),
        ("SET level = 'gone' WHERE level = 'feature' AND feature = 'image'", "regions that do not sum"),
        ("SET level = 'gone' WHERE level = 'moment' AND horizon_years = 5", "moments that do not sum"),
        ("SET level = 'gone' WHERE level = 'region' AND horizon_years = 5", "regions that do not sum"),
        ("SET contribution = contribution + 0.1 WHERE feature = '(presence)'", "feature contributions that do not"),
    ],
)
def test_reasons_of_every_level_must_add_up(
    tmp_path: Path, small_hospital: Any, night: Night, harm: str, said: str
) -> None:
    from riskpred.score.verify import verify_rows

    into = tmp_path / "scores.duckdb"
    run_id = night(small_hospital.write("w.duckdb"), into, explain=20).ledger["run_id"]
    with duckdb.connect(str(into)) as connection:
        verify_rows(connection, run_id)
        connection.execute(f"UPDATE stored.explanations {harm}")
        with pytest.raises(AssertionError, match=said):
            verify_rows(connection, run_id)


def test_a_row_that_breaks_a_promise_stops_the_night(
    tmp_path: Path, small_hospital: Any, night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    from riskpred.score import assemble, verify

    def harmed(connection: Any, *night: Any) -> Any:
        connection.execute("UPDATE stored.risk_scores SET risk_high = 2")
        return verify.verify_night(connection, *night)

    monkeypatch.setattr(assemble, "verify_night", harmed)
    with pytest.raises(AssertionError, match="not published"):
        night(small_hospital.write("w.duckdb"), tmp_path / "scores.duckdb", explain=0)
    assert list(tmp_path.iterdir()) == [], "parts that broke a promise are not used again"


@pytest.mark.parametrize("carried", [False, True])
def test_a_row_lost_after_the_commit_is_noticed(
    tmp_path: Path, small_hospital: Any, night: Night, monkeypatch: pytest.MonkeyPatch, carried: bool
) -> None:
    from riskpred.score.store import Store

    warehouse, into = small_hospital.write("w.duckdb"), tmp_path / "scores.duckdb"
    night(warehouse, into, explain=0)
    before, commit = _files(tmp_path), Store.commit

    def losing(self: Store) -> None:
        commit(self)
        self.connection.execute("UPDATE stored.risk_scores SET risk = risk_low WHERE subject_id = 120")

    monkeypatch.setattr(Store, "commit", losing)
    with pytest.raises(AssertionError, match="content_digest"):
        night(warehouse, into, explain=0, rescore=not carried)
    assert _files(tmp_path) == before
