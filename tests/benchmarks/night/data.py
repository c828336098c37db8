"""Makes what the night is measured on: a hospital of 20,000, a bundle fitted on it, from it a warehouse of any size.

The large warehouse is the hospital's own records many times over: fresh subject ids, each subject's times shifted by
whole days of its own, values jittered, measurements repeated until a subject has 50 events on average. Nothing in it is
later than AS_OF, and it lies clustered by subject and sorted, as `riskpred ingest` leaves it.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from riskpred.config.simulation import load_hospital
from riskpred.records.contents import write_contents
from riskpred.records.simulate.hospital import simulate
from tests.benchmarks.night import command

STUDY: Final = Path(__file__).parent / "study"
AS_OF: Final = "2015-01-01T00:00:00"
HOSPITAL: Final = 20_000
EVENTS_EACH: Final = 50
_MEASURED: Final = "(code LIKE 'LAB//%' OR code LIKE 'VITAL//%')"
_EVENT: Final = "time, code, numeric_value, text_value, unit"


@dataclass(frozen=True)
class Hospital:
    """The hospital's warehouse as ingested, and the bundle fitted on it."""

    warehouse: Path
    bundle: Path


def hospital(work: Path, subjects: int = HOSPITAL, study: Path = STUDY) -> Hospital:
    """Simulate, ingest and fit, each step only where its product is not there yet (the fit takes minutes)."""
    folder = work / f"hospital-{subjects}-{study.name}"
    folder.mkdir(parents=True, exist_ok=True)
    made = Hospital(folder / "warehouse.duckdb", folder / "bundle")
    source = source_files(folder, subjects)
    if not made.warehouse.is_file():
        command.run(["ingest", study, "--from", source, "--into", made.warehouse], folder).expect(0)
    if not made.bundle.is_dir():
        command.run(["fit", study, made.warehouse, "--into", made.bundle, "--seed", "1"], folder).expect(0)
    return made


def source_files(folder: Path, subjects: int, imaged: int = 0) -> Path:
    """The simulated hospital's files for N subjects, radiographs for those of the first `imaged` who have one."""
    source = folder / "source"
    if source.is_dir():
        return source
    config = load_hospital()
    # Hardly anyone is sent to the radiographer: pictures for everyone would be most of the work, and are not asked for.
    nobody = config.model_copy(update={"recorded": {**config.recorded, "image": {"intercept": -40.0}}})
    staging = folder / f".source-{os.getpid()}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    simulate(staging, nobody, subjects)
    if imaged:
        # Subject i is the same whatever N is, so these are the pictures of the first of them.
        few = folder / f".imaged-{os.getpid()}"
        few.mkdir()
        simulate(few, config, imaged)
        shutil.rmtree(staging / "images", ignore_errors=True)
        os.replace(few / "images", staging / "images")
        os.replace(few / "images.csv", staging / "images.csv")
        shutil.rmtree(few)
    os.replace(staging, source)
    return source


def multiplied(hospital: Path, into: Path, subjects: int, as_of: str = AS_OF, progress: bool = True) -> Path:
    """A warehouse of N subjects out of the hospital's; made once, streamed copy by copy, moved in when whole."""
    if into.is_file():
        return into
    into.parent.mkdir(parents=True, exist_ok=True)
    staging = into.with_name(f".{into.name}.{os.getpid()}.making")
    staging.unlink(missing_ok=True)
    with duckdb.connect(str(staging)) as connection:
        connection.execute("SET memory_limit = '1GB'")
        connection.execute(f"ATTACH '{hospital}' AS hospital (READ_ONLY)")
        people = _template(connection, as_of)
        # The types of a real ingest, whatever they are in this release.
        for table in ("events", "images", "subject_splits", "ingests"):
            connection.execute(f"CREATE TABLE {table} AS SELECT * FROM hospital.{table} LIMIT 0")
        for copy, first in enumerate(range(0, subjects, people)):
            wanted = min(people, subjects - first)
            _one_copy(connection, copy, first, wanted)
            if progress:
                print(f"  {into.name}: {first + wanted:,} of {subjects:,} subjects", flush=True)
        connection.execute(
            f"INSERT INTO subject_splits SELECT range + 1, 'held_out' FROM range({subjects}) ORDER BY range"
        )
        connection.execute(
            "INSERT INTO ingests SELECT 'multiplied', n, n, n, 0, 0, 0, 0, 0, study, site || '-multiplied', as_of,"
            " data_until, image_root, ingested_at, 0 FROM hospital.ingests, (SELECT count(*) AS n FROM events) LIMIT 1"
        )
        connection.execute("DROP TABLE template")
        connection.execute("DETACH hospital")
        write_contents(connection)
        connection.execute("CHECKPOINT")
    os.replace(staging, into)
    return into


def _template(connection: duckdb.DuckDBPyConnection, as_of: str) -> int:
    """Records up to `as_of` of all who entered by then, numbered from 0, EVENTS_EACH on average. Returns how many."""
    connection.execute(
        f"""
        CREATE TEMP TABLE seen AS
        WITH entered AS (
            SELECT subject_id, row_number() OVER (ORDER BY subject_id) - 1 AS place FROM
            (SELECT DISTINCT subject_id FROM hospital.events WHERE code = 'ENTRY' AND time <= TIMESTAMP '{as_of}')
        )
        SELECT place, {_EVENT} FROM hospital.events JOIN entered USING (subject_id)
        WHERE time IS NULL OR time <= TIMESTAMP '{as_of}'
        """
    )
    counted = f"SELECT count(*), count(DISTINCT place), count(*) FILTER ({_MEASURED}) FROM seen"
    events, people, measured = connection.execute(counted).fetchall()[0]
    share = round(1e6 * max(0, EVENTS_EACH * people - events) / measured)
    # Of two events of a code at one moment one is left: so the order below is total, and a shift keeps it.
    connection.execute(
        f"""
        CREATE TEMP TABLE template AS
        SELECT place::INTEGER AS place, {_EVENT} FROM (
            SELECT place, {_EVENT} FROM seen UNION ALL
            SELECT place, time - to_days(1 + (hash(place, time) % 9)::INTEGER), code, numeric_value, text_value, unit
            FROM seen WHERE {_MEASURED} AND hash(code, place, time, 'again') % 1000000 < {share}
        )
        QUALIFY row_number() OVER (PARTITION BY place, time, code ORDER BY numeric_value, text_value) = 1
        ORDER BY place, time NULLS FIRST, code
        """
    )
    connection.execute("DROP TABLE seen")
    return int(people)


def _one_copy(connection: duckdb.DuckDBPyConnection, copy: int, first: int, wanted: int) -> None:
    connection.execute(
        f"""
        INSERT INTO events BY NAME
        SELECT (place + {first + 1})::BIGINT AS subject_id,
            time - to_days((hash(place, {copy}) % 28)::INTEGER) AS time,
            code,
            (numeric_value * (0.98 + 0.04 * (hash(place, time, code, {copy}) % 1000) / 1000))::FLOAT AS numeric_value,
            text_value, unit
        FROM template WHERE place < {wanted}
        """
    )


def describe(warehouse: Path) -> dict[str, int]:
    """Subjects, events and bytes of a warehouse."""
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        subjects, events = connection.execute(
            "SELECT (SELECT count(*) FROM subject_splits), (SELECT count(*) FROM events)"
        ).fetchall()[0]
    return {"subjects": subjects, "events": events, "bytes": warehouse.stat().st_size}
