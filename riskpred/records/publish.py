"""Publishes a DuckDB file: written beside its place, made durable, then swapped in whole, or not at all."""

import errno
import fcntl
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb

from riskpred.errors import OutputError
from riskpred.records.connection import without_extensions


@dataclass(frozen=True)
class Held:
    """The lock of one target, held. `took_over`: what is said of an owner that died holding it, else None."""

    target: Path
    took_over: str | None


@contextmanager
def locked(target: Path, verb: str = "riskpred", say: Callable[[str], None] | None = None) -> Iterator[Held]:
    """Hold the right to write `target`: of two writers the second fails at once, told who holds it and since when.

    The system lets go of a dead owner's lock by itself, so it is taken over at once; `Held.took_over` says so.

    Args: verb: who takes it, for those who come second.   say: receives `Held.took_over`.
    Raises: OutputError: folder missing or not writable, `target` a folder, held by another writer.
    """
    folder = target.absolute().parent
    if target.is_dir():
        raise OutputError(f"{target}: is a folder.", wanted="the name of a DuckDB file", do="choose another name")
    if not folder.is_dir():
        raise OutputError(f"{folder}: no such folder.", wanted=f"a folder for {target.name}", do="make the folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: not writable.", wanted=f"a place for {target.name}", do="correct its permissions")
    lock, earlier = _locked(target, verb)
    try:
        held = Held(target, None if earlier is None else f"{target}: lock taken over from {earlier}, which died")
        if held.took_over and say is not None:
            say(held.took_over)
        yield held
    finally:
        _unlock(lock, target)


@contextmanager
def staged(
    target: Path, memory_limit: str | None = None, *, held: Held | None = None, from_published: bool = False
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to a new DuckDB file that becomes `target` when the block ends without an exception.

    At the end: CHECKPOINT, close, fsync, os.replace, fsync of the folder. After any exception, Ctrl-C included, the
    target is as it was and nothing lies beside it. What a killed process left behind is removed by the next writer.
    Readers that have the old file open keep their snapshot.

    Args:
        target: file to make or replace; its folder must be there.
        memory_limit: DuckDB's, e.g. "2GB"; what does not fit is spilled beside the target.
        held: the lock, where the caller holds it already; else it is held through the block.
        from_published: start from a byte copy of the target, where it is there, in place of an empty file.

    Raises: OutputError: as `locked`, and disk full, `target` not a DuckDB file, open for writing in another program.
    """
    with nullcontext() if held is not None else locked(target), said_when_full(target):
        folder = target.absolute().parent
        staging = folder / f".{target.name}.{os.getpid()}.staging"
        connection = None
        try:
            refuse_unless_replaceable(target)
            remove_leftovers(target)  # under the lock: whoever wrote them is gone
            if from_published and target.exists():
                shutil.copyfile(target, staging)
                if Path(f"{target}.wal").exists():  # of a program that crashed on it: what it committed counts
                    shutil.copyfile(f"{target}.wal", f"{staging}.wal")
            connection = duckdb.connect(str(staging))
            without_extensions(connection)
            if memory_limit:
                connection.execute("SET memory_limit = ?", [memory_limit])
            yield connection
            connection.execute("CHECKPOINT")
            connection.close()
            _publish(staging, target)
        finally:
            if connection is not None:
                connection.close()
            remove_leftovers(target)


@contextmanager
def said_when_full(target: Path) -> Iterator[None]:
    """Turn a full disk, met while something is written beside `target`, into an OutputError that says so."""
    try:
        yield
    except (duckdb.Error, OSError) as error:
        if _disk_full(error):
            raise OutputError(
                f"{target.absolute().parent}: no space left for {target.name}; nothing was changed.",
                got=type(error).__name__,
                do="free space, then run again",
            ) from None
        raise


def _lock_path(target: Path) -> Path:
    return target.absolute().parent / f".{target.name}.lock"


def _locked(target: Path, verb: str) -> tuple[int, str | None]:
    """The lock, and who left the file of it behind; None where nobody did."""
    path = _lock_path(target)
    while True:
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise OutputError(
                f"{path.parent}: not writable ({type(error).__name__}).", do="correct its permissions"
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _owner(lock)
            os.close(lock)
            raise _locked_error(target, f"another riskpred is writing it{f': {owner}' if owner else ''}") from None
        # The holder before us removes the file: only a lock on the file that is still there counts.
        with suppress(FileNotFoundError):
            if os.fstat(lock).st_ino == os.stat(path).st_ino:
                earlier = _owner(lock)
                text = {"verb": verb, "pid": os.getpid(), "host": platform.node(), "since": round(time.time())}
                os.ftruncate(lock, 0)
                os.pwrite(lock, json.dumps(text).encode(), 0)
                return lock, earlier
        os.close(lock)


def _owner(lock: int) -> str | None:
    """Who wrote the lock's file, and how long ago, in words; None where nobody did."""
    text = os.pread(lock, 4096, 0)
    if not text:
        return None
    try:
        owner = json.loads(text)
        minutes = max(0, round((time.time() - owner["since"]) / 60))
        return f"{owner['verb']}, process {owner['pid']} on {owner['host']}, since {minutes} minutes"
    except (ValueError, KeyError, TypeError):
        return "a process that did not say who it is"


def _unlock(lock: int, target: Path) -> None:
    with suppress(FileNotFoundError):
        os.unlink(_lock_path(target))
    os.close(lock)


def _locked_error(target: Path, got: str) -> OutputError:
    return OutputError(
        f"{target}: locked; nothing was changed.",
        wanted="a file that no other program has open for writing",
        got=got,
        do="wait for that program or close it, then run again; readers never lock a published file",
    )


def refuse_unless_replaceable(target: Path) -> None:
    """Raises: OutputError, when the target is there and is no DuckDB file, or open for writing in another program."""
    if not target.exists():
        return
    try:
        duckdb.connect(str(target), read_only=True).close()
    except duckdb.Error as error:
        # The text decides which of our sentences is said; it is never shown: it may hold data.
        if "lock" in str(error).lower() or isinstance(error, duckdb.ConnectionException):
            raise _locked_error(target, "another program has it open for writing") from None
        raise OutputError(
            f"{target}: is there already and is not readable as a DuckDB file ({type(error).__name__}).",
            wanted="a new name, or a DuckDB file to replace",
            do="choose another name, or remove that file yourself",
        ) from None


def _publish(staging: Path, target: Path) -> None:
    assert not Path(f"{staging}.wal").exists(), "a checkpointed, closed file leaves no write-ahead log"
    refuse_unless_replaceable(target)
    descriptor = os.open(staging, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    with suppress(FileNotFoundError):
        # Of a writer that crashed on the old file; it must not be replayed into the new one.
        os.unlink(f"{target.absolute()}.wal")
    os.replace(staging, target.absolute())
    descriptor = os.open(target.absolute().parent, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def remove_leftovers(target: Path) -> None:
    """Remove staging files of this target, with their logs and spill folders. Call only under the lock."""
    prefix = f".{target.name}."
    for path in target.absolute().parent.iterdir():
        rest = path.name.removeprefix(prefix)
        if rest == path.name or not rest.partition(".")[0].isdigit() or ".staging" not in rest:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _disk_full(error: Exception) -> bool:
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return (isinstance(error, OSError) and error.errno in full) or (
        isinstance(error, duckdb.Error)
        and any(sign in str(error) for sign in ("No space left", "not enough disk space", "File too large"))
    )
