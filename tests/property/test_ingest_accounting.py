"""Whatever the rows: every fact is accounted for, and neither row order nor a second ingest changes the warehouse."""

import random
import tempfile
from pathlib import Path

import duckdb
from hypothesis import given, settings
from hypothesis import strategies as st

from riskpred.records.ingest import IngestSummary, run_ingest
from riskpred.records.warehouse import Warehouse

CONFIG = """
study: property
anchor: {date: 2020-01-01T00:00:00}
tables:
  - name: rows
    file: rows.csv
    subject: id
    time: {column: at}
    missing: ["-9"]
    events:
      - {code: ENTRY, allow_rejects: 1}
      - {code: NUMBER, column: value, unit: kg, unit_column: unit, units: {g: 0.001}, range: [0, 100], allow_rejects: 1}
      - {code: TEXT, column: value, store: text, allow_rejects: 1}
      - {code: MAP, column: value, store: code, values: {1: one, 2: two}, time: {offset: [day]}, allow_rejects: 1}
      - {code: ONLY, when: {unit: [kg]}, kind: diagnosis, time: {offset: [day]}, allow_rejects: 1}
    long:
      - code_column: test
        value_column: value
        unknown: ignore
        codes:
          a: {code: LONG//A, allow_rejects: 1}
          b: {code: LONG//B, store: text, allow_rejects: 1}
          c: ignore
    images:
      - {image_id: image, path: "{image}.png", image_type: CR, allow_rejects: 1}
splits: {seed: 3}
"""
MAPPINGS = 7
COLUMNS = {
    "id": ["1", "2", "02", "x y", "", "-4"],
    "at": ["2020-01-01", "2020-01-02T03:04", "2020-01-01", "", "no"],
    "day": ["0", "1", "-3.5", "", "far", "1e9"],
    "test": ["a", "b", "c", "d", ""],
    "value": ["1", "2.0", "50000", "-9", "", "high", "inf", "NaN", "1e39"],
    "unit": ["kg", "g", "lb", ""],
    "image": ["i1", "i2", "..", "", "none"],
}

Rows = list[dict[str, str]]
table = st.lists(
    st.fixed_dictionaries({name: st.sampled_from(values) for name, values in COLUMNS.items()}), max_size=40
)
# One sound row, so that the warehouse is never empty.
SOUND = {"id": "1", "at": "2020-01-01", "day": "0", "test": "a", "value": "1", "unit": "kg", "image": "i1"}


def ingested(folder: Path, rows: Rows, name: str) -> IngestSummary:
    lines = [",".join(COLUMNS), *(",".join(row[column] for column in COLUMNS) for row in rows)]
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    return run_ingest(str(folder), folder, folder / name)


def content(path: Path) -> tuple[object, ...]:
    with Warehouse.open(path) as warehouse:
        assert warehouse.problems == {}
        map_ = warehouse.query("SELECT * FROM subject_map")
        return warehouse.digest(), warehouse.splits(), warehouse.code_units, map_


@settings(max_examples=8, deadline=None)
@given(rows=table, seed=st.integers(0, 1000))
def test_every_fact_is_accounted_for_and_order_changes_nothing(rows: Rows, seed: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "ingest.yaml").write_text(CONFIG)
        for image in ("i1", "i2"):
            (folder / f"{image}.png").write_bytes(image.encode())
        rows = [*rows, SOUND]
        summary = ingested(folder, rows, "a.duckdb")
        [count] = summary.sources
        assert count.rows == len(rows)
        assert count.facts == MAPPINGS * len(rows)
        assert count.facts == (
            count.events + count.images + count.rejects + count.missing + count.repeats + count.ignored
        )
        with duckdb.connect(str(folder / "a.duckdb"), read_only=True) as connection:
            held = {
                table: connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]
                for table in ("events", "images", "rejects")
            }
            doubles = connection.execute(
                "SELECT count(*) - (SELECT count(*) FROM (SELECT DISTINCT * FROM events)) FROM events"
            )
            assert doubles.fetchall() == [(0,)]
        assert held == {"events": count.events, "images": count.images, "rejects": count.rejects}
        first = content(folder / "a.duckdb")
        random.Random(seed).shuffle(rows)
        again = ingested(folder, rows, "a.duckdb")  # over the first
        assert content(folder / "a.duckdb") == first
        assert again.to_json()["sources"] == summary.to_json()["sources"]
