"""Erases one person from a scores file and from what lies beside it: rewritten without them, swapped in whole."""

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from duckdb import DuckDBPyConnection

from riskpred.errors import InputError
from riskpred.progress import Progress, Silent
from riskpred.records.publish import locked, staged
from riskpred.score.content import stored_content
from riskpred.score.layout import SCHEMA, Rows, is_laid_out
from riskpred.score.pseudonyms import SALT, pseudonyms
from riskpred.score.verify import pair_counts
from riskpred.score.views import create_views

EARLIER: Final = "earlier"
"""Name under which the published file is attached, read-only, to the staging file."""

MEMORY_LIMIT: Final = "1GB"

_PSEUDONYM: Final = re.compile(r"[0-9a-f]{12}")
_NUMBER: Final = re.compile(r"-?[0-9]{1,19}")

_PSEUDONYMS: Final = f"{SCHEMA}.pseudonyms"
_SECRETS: Final = "main.secrets"

_THEIRS: Final = "TRY_CAST(subject_id AS BIGINT) = $person"
"""Whose row it is; in a table of another tool it may be a text."""

Eraser = Callable[[int, frozenset[str]], int]
"""Erases a subject (subject_id, every pseudonym of theirs) from another place; returns how many things it removed."""


@dataclass(frozen=True)
class Forgotten:
    """What was removed. It names nobody.

    runs: nights that held the person, whose counts and digest are now those of the others.   rows: table -> rows.
    elsewhere: place -> things removed there.   parts: whether an unfinished night was thrown away.
    """

    runs: tuple[str, ...]
    rows: dict[str, int]
    elsewhere: dict[str, int]
    parts: bool


def forget(
    scores: Path,
    subject: str,
    elsewhere: Mapping[str, Eraser] | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> Forgotten:
    """Remove one person from every run of a scores file, its staging files, its unfinished night and other places.

    The file is written anew without them, row by row, because a row that DuckDB deletes stays in the file's bytes.
    Readers that have the old file open keep it until they close it. In `runs` each night that held the person gets the
    counts and the digest of those that are left, and `forgotten` counts one more; `drift` names nobody and stays.

    Args:
        subject: subject_id, or the pseudonym by which reports name them.
        elsewhere: name of a place -> what erases the person there. Called when the new file is whole, before it is
            swapped in: what fails there leaves the scores file as it was, and the verb can be run again.
        say: receives what an operator should know, in sentences.

    Raises: InputError: no such file, not a scores file, nobody of that name in it. OutputError: locked, or no space.
    """
    progress = progress or Silent()
    if not scores.is_file():
        raise InputError(f"{scores}: no such file.", wanted="a scores file", do="check the path")
    with (
        locked(scores, "riskpred forget", say) as held,
        staged(scores, MEMORY_LIMIT, held=held) as connection,
    ):
        tables = _attach(connection, scores)
        parts = scores.absolute().parent / f".{scores.name}.parts"
        person = _resolve(connection, tables, subject, scores, parts)
        named = _pseudonyms(connection, person)
        runs = _runs_of(connection, tables, person)
        rows: dict[str, int] = {}
        progress.step("forget", 0, len(tables))
        for done, table in enumerate(tables, start=1):
            removed = _copy_without(connection, table, tables[table], person)
            if removed:
                rows[_said(table)] = removed
            progress.step("forget", done, len(tables))
        create_views(connection)
        for run_id in runs:
            _correct(connection, run_id)
        erased = {place: erase(person, named) for place, erase in (elsewhere or {}).items()}
        unfinished = parts.is_dir()
        if unfinished:  # whoever it holds: its rows are made again, and the lock of the scores file is ours
            shutil.rmtree(parts)
        connection.execute(f"DETACH {EARLIER}")
    return Forgotten(tuple(runs), rows, erased, unfinished)


def _attach(connection: DuckDBPyConnection, scores: Path) -> dict[str, list[str]]:
    """Attach the published file and make all that it holds, empty; table, with its schema -> columns."""
    connection.execute(f"ATTACH '{str(scores).replace(chr(39), chr(39) * 2)}' AS {EARLIER} (READ_ONLY)")
    found: dict[str, list[str]] = {
        _place(schema, table): []
        for schema, table in connection.execute(
            "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = ? ORDER BY ALL", [EARLIER]
        ).fetchall()
    }
    for schema, table, column in connection.execute(
        "SELECT schema_name, table_name, column_name FROM duckdb_columns() WHERE database_name = ? AND NOT internal "
        "ORDER BY schema_name, table_name, column_index",
        [EARLIER],
    ).fetchall():
        if _place(schema, table) in found:  # views have columns, too
            found[_place(schema, table)].append(column)
    if not is_laid_out(connection, EARLIER) or "forgotten" not in found.get(_place("main", "runs"), ()):
        raise InputError(
            f"{scores}: not a scores file of this version of riskpred.",
            wanted="the file that `riskpred score` publishes",
            do="check the path, or use the version of riskpred that wrote it",
        )
    # Tables and views of other tools, and what they are made with: a person is to be removed, nothing else to change.
    (here,) = connection.execute("SELECT current_database()").fetchall()[0]
    connection.execute(f"COPY FROM DATABASE {EARLIER} TO {_quoted(here)} (SCHEMA)")
    return found


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _place(schema: str, table: str) -> str:
    return f"{_quoted(schema)}.{_quoted(table)}"


def _said(place: str) -> str:
    """What a reader knows a table as."""
    return place.replace('"', "").removeprefix("main.").removeprefix(f"{SCHEMA}.")


def _of_subjects(tables: Mapping[str, list[str]]) -> list[str]:
    return [table for table, columns in tables.items() if "subject_id" in columns]


def _resolve(
    connection: DuckDBPyConnection, tables: Mapping[str, list[str]], subject: str, scores: Path, parts: Path
) -> int:
    """The subject_id meant. Raises: InputError, when it is nobody's, or could be two people's."""
    found: set[int] = set()
    if _PSEUDONYM.fullmatch(subject):
        rows = connection.execute(
            f"SELECT DISTINCT subject_id FROM {EARLIER}.{_PSEUDONYMS} WHERE pseudonym = ?", [subject]
        ).fetchall()
        found |= {int(row[0]) for row in rows}
    if _NUMBER.fullmatch(subject) and -(2**63) <= int(subject) < 2**63:
        person = int(subject)
        if any(_count(connection, table, person) for table in _of_subjects(tables)) or _in_parts(parts, person):
            found.add(person)
    if len(found) > 1:
        raise InputError(
            f"{scores}: this is the subject_id of one person and the pseudonym of another; nothing was changed.",
            wanted="one person",
            do="give the other name of the person: look it up in the table pseudonyms",
        )
    if not found:
        raise InputError(
            f"{scores}: nobody of that subject_id or pseudonym; nothing was changed.",
            wanted="a subject_id of its tables, or a pseudonym (12 hex characters) of its table pseudonyms",
            do="check the number; in a report it is the name of the person's page",
        )
    return found.pop()


def _count(connection: DuckDBPyConnection, table: str, person: int) -> int:
    (count,) = connection.execute(
        f"SELECT count(*) FROM {EARLIER}.{table} WHERE {_THEIRS}", {"person": person}
    ).fetchall()[0]
    return int(count)


def _in_parts(parts: Path, person: int) -> bool:
    """Whether a finished part of an unfinished night holds the person."""
    for path in sorted(parts.rglob("*.arrow")):
        if path.parent.suffix == ".tmp":
            continue  # cut off in the middle: unreadable, and thrown away with the others
        with pa.memory_map(str(path)) as source:
            rows = pa.ipc.open_file(source).read_all()
            if "subject_id" in rows.column_names and pc.any(pc.equal(rows["subject_id"], person)).as_py():
                return True
    return False


def _pseudonyms(connection: DuckDBPyConnection, person: int) -> frozenset[str]:
    """Every name a report may have given the person: those on record, and that of the salt."""
    found = {
        str(row[0])
        for row in connection.execute(
            f"SELECT DISTINCT pseudonym FROM {EARLIER}.{_PSEUDONYMS} WHERE subject_id = ?", [person]
        ).fetchall()
    }
    salts = connection.execute(f"SELECT secret FROM {EARLIER}.{_SECRETS} WHERE name = ?", [SALT]).fetchall()
    for (salt,) in salts:
        found |= set(pseudonyms(bytes(salt), np.array([person], dtype=np.int64)))
    return frozenset(found)


def _runs_of(connection: DuckDBPyConnection, tables: Mapping[str, list[str]], person: int) -> list[str]:
    """Nights of which any row is the person's."""
    found: set[str] = set()
    for table in _of_subjects(tables):
        if "run_id" in tables[table]:
            rows = connection.execute(
                f"SELECT DISTINCT run_id FROM {EARLIER}.{table} WHERE {_THEIRS}", {"person": person}
            ).fetchall()
            found |= {str(row[0]) for row in rows}
    return sorted(found)


_THEIR_IMAGES: Final = f"""
    SELECT name FROM {EARLIER}.{SCHEMA}.evidence WHERE subject_id = $person AND kind IN ('image', 'finding')
    UNION SELECT image_id FROM {EARLIER}.{SCHEMA}.findings WHERE subject_id = $person
    UNION SELECT row_key FROM {EARLIER}.main.rejects WHERE subject_id = $person AND source = 'images'
"""


def _copy_without(connection: DuckDBPyConnection, table: str, columns: list[str], person: int) -> int:
    """Copy the other people's rows of one table; returns how many were left behind."""
    if "subject_id" not in columns:
        theirs, values = "false", dict[str, object]()
    elif table == _place("main", "rejects"):
        # A row that belongs to nobody may still name one of their images.
        theirs = f"subject_id = $person OR (subject_id IS NULL AND source = 'images' AND row_key IN ({_THEIR_IMAGES}))"
        values = {"person": person}
    else:
        theirs, values = _THEIRS, {"person": person}
    kept = ", ".join(
        _quoted(column)
        for schema, name, column in connection.execute(
            "SELECT schema_name, table_name, column_name FROM duckdb_columns() "
            "WHERE database_name = ? AND NOT is_generated ORDER BY column_index",
            [EARLIER],
        ).fetchall()
        if _place(schema, name) == table
    )
    connection.execute(
        f"INSERT INTO {table} ({kept}) SELECT {kept} FROM {EARLIER}.{table} WHERE ({theirs}) IS NOT TRUE", values
    )
    (before,) = connection.execute(f"SELECT count(*) FROM {EARLIER}.{table}").fetchall()[0]
    (after,) = connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0]
    return int(before) - int(after)


def _correct(connection: DuckDBPyConnection, run_id: str) -> None:
    """Make the ledger row of a night say what is stored of it now."""
    counts = pair_counts(connection, run_id)
    named = ", ".join(f'"{name}" = ${name}' for name in counts)
    connection.execute(
        f"UPDATE runs SET {named}, content_digest = $digest, forgotten = forgotten + 1 WHERE run_id = $run",
        {**counts, "digest": stored_content(connection, Rows(run_id).of("risk_scores")).digest, "run": run_id},
    )
