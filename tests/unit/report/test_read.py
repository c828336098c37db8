"""What the report reads, refuses, and cannot be talked into."""

import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from riskpred.errors import InputError
from riskpred.report.read import Scores


def test_the_latest_published_run_is_read_and_a_refused_one_is_not(
    tmp_path: Path, write_scores: Callable[..., Path]
) -> None:
    path = write_scores(tmp_path / "s.duckdb", subjects=3, explained=1)
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "INSERT INTO runs SELECT * REPLACE ('tonight' AS run_id, ? AS as_of, 'refused' AS status) "
            "FROM runs LIMIT 1",
            [datetime(2026, 11, 22)],
        )
    with Scores.open(path) as scores:
        assert scores.run["run_id"] == "run-of-21-november"


def test_top_is_by_highest_percentile_at_the_longest_horizon(scores: Path, ask: Callable[..., Any]) -> None:
    expected = ask(
        "SELECT subject_id FROM risk_scores WHERE run_id = 'run-of-21-november' AND horizon_years = 10 "
        "GROUP BY subject_id ORDER BY max(percentile) DESC, subject_id LIMIT 5"
    )
    with Scores.open(scores) as opened:
        assert opened.top(5) == [row["subject_id"] for row in expected]
        assert opened.top(10_000)[:5] == opened.top(5)


def test_ties_go_to_the_smaller_subject_id(tmp_path: Path, write_scores: Callable[..., Path]) -> None:
    path = write_scores(tmp_path / "s.duckdb", subjects=6, explained=0)
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE risk_scores SET percentile = 0.5")
    with Scores.open(path) as opened:
        assert opened.top(3) == [910000, 910001, 910002]


def test_subjects_of_a_report(scores: Path) -> None:
    with Scores.open(scores) as opened:
        assert opened.explained() == list(range(910000, 910012))
        assert len(opened.scored()) == 24
        assert opened.considered(910000)
        assert not opened.considered(5)


def test_a_moment_that_no_page_can_show_is_none_and_costs_nobody_their_report(
    tmp_path: Path, write_scores: Callable[..., Path]
) -> None:
    """DuckDB hands years before 1 and after 9999 over as text."""
    from riskpred.report.summarise import summarise

    path = write_scores(tmp_path / "s.duckdb", subjects=3, explained=2)
    with duckdb.connect(str(path)) as connection:
        for table, column in (("explanations", "time"), ("evidence", "time"), ("input_receipts", "latest_time")):
            connection.execute(f"UPDATE {table} SET {column} = '0044-03-15 (BC)' WHERE subject_id = 910000")
            connection.execute(f"UPDATE {table} SET {column} = '10000-01-01' WHERE subject_id = 910001")
    with Scores.open(path) as opened:
        for rows in opened.rows([910000, 910001]).values():
            assert rows.explanations
            assert {row["time"] for row in [*rows.explanations, *rows.evidence]} == {None}
            assert {row["latest_time"] for row in rows.receipts} == {None}
            summarise(opened.run, rows)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('/etc/hostname')",
        "COPY runs TO 'stolen.csv'",
        "ATTACH 'other.duckdb'",
        "SET enable_external_access = true",
        "UPDATE risk_scores SET risk = 0",
        "INSTALL httpfs",
    ],
)
def test_the_connection_reaches_nothing_else(scores: Path, sql: str) -> None:
    with Scores.open(scores) as opened, pytest.raises(duckdb.Error):
        opened._connection.execute(sql).fetchall()


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        Scores.open(tmp_path / "none.duckdb")


def test_a_file_that_is_not_duckdb(tmp_path: Path) -> None:
    (tmp_path / "s.duckdb").write_text("subject_id,risk\n17,0.5\n" * 500)
    with pytest.raises(InputError, match="not a scores file") as caught:
        Scores.open(tmp_path / "s.duckdb")
    assert "0.5" not in str(caught.value)


def test_a_duckdb_file_of_someone_else(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "s.duckdb")) as connection:
        connection.execute("CREATE TABLE runs (x INTEGER)")
    with pytest.raises(InputError, match="no table risk_scores, eligibility"):
        Scores.open(tmp_path / "s.duckdb")


def test_a_table_with_another_column(tmp_path: Path, write_scores: Callable[..., Path]) -> None:
    path = write_scores(tmp_path / "s.duckdb", subjects=2, explained=0)
    with duckdb.connect(str(path)) as connection:
        connection.execute("ALTER TABLE evidence RENAME COLUMN outline TO contour")
    with pytest.raises(InputError, match="no column outline"):
        Scores.open(path)


def test_a_file_without_a_published_run(tmp_path: Path, write_scores: Callable[..., Path]) -> None:
    path = write_scores(tmp_path / "s.duckdb", subjects=2, explained=0)
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE runs SET status = 'refused'")
    with pytest.raises(InputError, match="no published run"):
        Scores.open(path)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE risk_scores SET risk = 'nan' WHERE subject_id = 910001",
        "UPDATE risk_scores SET risk_high = 1.2 WHERE subject_id = 910001",
        "UPDATE explanations SET contribution = 'inf' WHERE subject_id = 910001",
        "UPDATE pseudonyms SET pseudonym = '../../../etc' WHERE subject_id = 910001",
        "DELETE FROM pseudonyms WHERE subject_id = 910001",
    ],
)
def test_numbers_and_pseudonyms_no_night_would_write(
    tmp_path: Path, write_scores: Callable[..., Path], damage: str
) -> None:
    path = write_scores(tmp_path / "s.duckdb", subjects=3, explained=0)
    with duckdb.connect(str(path)) as connection:
        connection.execute(damage)
    with pytest.raises(InputError, match="not a scores file of riskpred"), Scores.open(path) as opened:
        opened.rows(opened.scored())


def test_a_file_that_another_process_writes_to(tmp_path: Path, write_scores: Callable[..., Path]) -> None:
    path = write_scores(tmp_path / "s.duckdb", subjects=2, explained=0)
    hold = f"import duckdb; c = duckdb.connect({str(path)!r}); print('held', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            with pytest.raises(InputError, match="another process is writing"):
                Scores.open(path)
        finally:
            holder.communicate(b"\n")
