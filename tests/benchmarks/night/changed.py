"""Copies a warehouse with news in it: some subjects got one more event, everything else is as it was."""

import os
from pathlib import Path
from typing import Final

import duckdb

from riskpred.records.contents import KEPT, write_contents

_ORDER: Final = "subject_id, time NULLS FIRST, code, numeric_value, text_value, unit"
_RANGE = 20_000


def changed(warehouse: Path, into: Path, at: str, share: float = 0.01, seed: int = 1) -> list[int]:
    """Write a copy in which `share` of the subjects have one more laboratory value, known at the moment `at`.

    Ranges of subjects are sorted one after the other, so the copy lies clustered and sorted as the original does, and
    memory does not grow with it. What ingest keeps of the events (digests, codes) is made anew, as an ingest does.

    Returns: the subjects with news, ascending.
    """
    staging = into.with_name(f".{into.name}.{os.getpid()}.making")
    staging.unlink(missing_ok=True)
    with duckdb.connect(str(staging)) as connection:
        connection.execute("SET memory_limit = '1GB'")
        connection.execute(f"ATTACH '{warehouse}' AS before (READ_ONLY)")
        tables = "SELECT table_name FROM duckdb_tables() WHERE database_name = 'before' AND table_name <> 'events'"
        for (table,) in connection.execute(tables).fetchall():
            if table in KEPT:
                continue
            connection.execute(f'CREATE TABLE "{table}" AS SELECT * FROM before."{table}"')
        connection.execute("CREATE TABLE events AS SELECT * FROM before.events LIMIT 0")
        connection.execute(
            f"""
            CREATE TEMP TABLE news AS
            SELECT subject_id, TIMESTAMP '{at}' AS time, 'LAB//LDL' AS code,
                (2 + 4 * (hash(subject_id, {seed}, 'value') % 1000) / 1000)::FLOAT AS numeric_value,
                NULL::VARCHAR AS text_value, 'mmol/L' AS unit
            FROM (SELECT DISTINCT subject_id FROM before.events)
            WHERE hash(subject_id, {seed}) % 1000000 < {round(share * 1e6)}
            """
        )
        bounds = "SELECT min(subject_id), max(subject_id), count(DISTINCT subject_id) FROM before.events"
        low, high, people = connection.execute(bounds).fetchall()[0]
        # Hashed ids lie anywhere among 63 bits: ranges of ids, not of numbers of ids, would be empty or huge.
        steps = max(1, people // _RANGE)
        for step in range(steps):
            first, last = (low + (high - low + 1) * place // steps for place in (step, step + 1))
            inside = f"WHERE subject_id BETWEEN {first} AND {last - 1}"
            connection.execute(
                f"INSERT INTO events SELECT * FROM (SELECT * FROM before.events {inside} UNION ALL BY NAME"
                f" SELECT * FROM news {inside}) ORDER BY {_ORDER}"
            )
        subjects = connection.execute("SELECT subject_id FROM news ORDER BY 1").fetchall()
        connection.execute("DETACH before")
        write_contents(connection)
        connection.execute("CHECKPOINT")
    os.replace(staging, into)
    return [int(subject) for (subject,) in subjects]
