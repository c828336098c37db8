"""publish.staged: the target is the whole new file or the whole old one, and nothing lies beside it."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import duckdb
import pytest

from riskpred.errors import OutputError
from riskpred.records.publish import staged


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def publish(target: Path, value: int) -> None:
    with staged(target) as connection:
        connection.execute("CREATE TABLE t AS SELECT ?::BIGINT AS value", [value])


def value_of(target: Path) -> int:
    with duckdb.connect(str(target), read_only=True) as connection:
        return int(connection.execute("SELECT value FROM t").fetchall()[0][0])


def in_another_process(code: str, *arguments: object) -> "subprocess.Popen[str]":
    """Starts Python code and waits until it prints its first line."""
    # A shell that starts the tests in the background has its children ignore Ctrl-C.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    child = subprocess.Popen(
        [sys.executable, "-c", heard + textwrap.dedent(code), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def finish(child: "subprocess.Popen[str]") -> None:
    child.communicate("go\n")


def test_makes_and_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    target = tmp_path / "w.duckdb"
    publish(target, 1)
    publish(target, 2)
    assert value_of(target) == 2
    assert names(tmp_path) == ["w.duckdb"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_any_exception_leaves_the_old_file_as_it_was(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "w.duckdb"
    publish(target, 1)
    before = target.read_bytes()

    def interrupted() -> None:
        with staged(target) as connection:
            connection.execute("CREATE TABLE t AS SELECT 2 AS value")
            raise error

    with pytest.raises(error):
        interrupted()
    assert target.read_bytes() == before
    assert names(tmp_path) == ["w.duckdb"]


def test_a_reader_keeps_its_snapshot_and_does_not_block(tmp_path: Path) -> None:
    target = tmp_path / "w.duckdb"
    publish(target, 1)
    child = in_another_process(
        """
        import sys, duckdb
        c = duckdb.connect(sys.argv[1], read_only=True)
        print("ready", flush=True)
        sys.stdin.readline()
        sys.exit(c.execute("SELECT value FROM t").fetchall()[0][0])
        """,
        target,
    )
    publish(target, 2)
    finish(child)
    assert child.returncode == 1
    assert value_of(target) == 2


def test_a_writer_of_another_program_is_an_output_error_with_the_repair(tmp_path: Path) -> None:
    target = tmp_path / "w.duckdb"
    publish(target, 1)
    child = in_another_process(
        "import sys, duckdb; c = duckdb.connect(sys.argv[1]); print('ready', flush=True); sys.stdin.readline()", target
    )
    try:
        with pytest.raises(OutputError) as caught:
            publish(target, 2)
    finally:
        finish(child)
    assert caught.value.exit_code == 15
    assert "locked; nothing was changed" in caught.value.message
    assert "wait for that program or close it" in caught.value.message
    assert value_of(target) == 1
    assert names(tmp_path) == ["w.duckdb"]


def test_of_two_riskpreds_the_second_fails_at_once(tmp_path: Path) -> None:
    target = tmp_path / "w.duckdb"
    with staged(target) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS value")
        with pytest.raises(OutputError, match="another riskpred is writing it"), staged(target):
            pytest.fail("the second writer got in")
    assert value_of(target) == 1
    assert names(tmp_path) == ["w.duckdb"]


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    target = tmp_path / "w.duckdb"
    publish(target, 1)
    child = in_another_process(
        """
        import sys
        from pathlib import Path
        from riskpred.records.publish import staged
        with staged(Path(sys.argv[1])) as c:
            c.execute("CREATE TABLE t AS SELECT 2 AS value")
            print("ready", flush=True)
            sys.stdin.readline()
        """,
        target,
    )
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    assert len(names(tmp_path)) > 1, "the killed writer should have left its staging file"
    assert value_of(target) == 1
    publish(target, 3)
    assert value_of(target) == 3
    assert names(tmp_path) == ["w.duckdb"]


def test_ctrl_c_in_another_process_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "w.duckdb"
    child = in_another_process(
        """
        import sys
        from pathlib import Path
        from riskpred.records.publish import staged
        try:
            with staged(Path(sys.argv[1])) as c:
                c.execute("CREATE TABLE t AS SELECT 2 AS value")
                print("ready", flush=True)
                sys.stdin.readline()
        except KeyboardInterrupt:
            sys.exit(130)
        """,
        target,
    )
    os.kill(child.pid, signal.SIGINT)
    child.communicate()
    assert child.returncode == 130
    assert names(tmp_path) == []


def test_an_old_write_ahead_log_is_not_replayed_into_the_new_file(tmp_path: Path) -> None:
    target = tmp_path / "w.duckdb"
    publish(target, 1)
    child = in_another_process(
        """
        import sys, duckdb
        c = duckdb.connect(sys.argv[1])
        c.execute("SET checkpoint_threshold = '1GB'")
        c.execute("UPDATE t SET value = 99")
        print("ready", flush=True)
        sys.stdin.readline()
        """,
        target,
    )
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    assert (tmp_path / "w.duckdb.wal").exists(), "the killed writer should have left its log"
    publish(target, 2)
    assert value_of(target) == 2
    assert names(tmp_path) == ["w.duckdb"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder / "missing" / "w.duckdb", "no such folder"),
        (lambda folder: folder, "is a folder"),
        (lambda folder: _text(folder / "notes.csv"), "is not readable as a DuckDB file"),
    ],
)
def test_places_that_cannot_be_written(tmp_path: Path, make: object, said: str) -> None:
    target = make(tmp_path)  # type: ignore[operator]
    before = names(tmp_path)
    with pytest.raises(OutputError, match=said):
        publish(target, 1)
    assert names(tmp_path) == before


def _text(path: Path) -> Path:
    path.write_text("a,b\n1,2\n")
    return path


def test_a_full_disk_is_an_output_error_and_leaves_nothing(tmp_path: Path) -> None:
    code = """
        import resource, signal, sys
        from pathlib import Path
        from riskpred.errors import OutputError
        from riskpred.records.publish import staged
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
        print("ready", flush=True)
        try:
            with staged(Path(sys.argv[1])) as c:
                c.execute("CREATE TABLE t AS SELECT hash(i) AS a, hash(i + 1) AS b FROM range(2000000) r(i)")
        except OutputError as error:
            sys.exit(15 if "no space left" in error.message else 1)
        """
    child = in_another_process(code, tmp_path / "w.duckdb")
    child.communicate()
    assert child.returncode == 15
    assert names(tmp_path) == []
