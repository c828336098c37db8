"""merges: the warehouse is the one that a source with the new identifiers would give, and says who was merged."""

from collections.abc import Callable
from typing import Any

import pytest

from riskpred.config.ingest import IngestConfig
from riskpred.config.model import parse
from riskpred.errors import ConfigError
from riskpred.records.warehouse import Warehouse

STUDY = """
anchor: {column: day0, table: people}
splits: {table: people, column: part, group: house, values: {a: train, b: tuning, c: held_out}}
tables:
  - name: people
    file: people.csv
    subject: id
    time: {static: true}
    events:
      - {code: SEX, column: sex, store: code}
  - name: labs
    file: labs.csv
    subject: id
    time: {offset: [days]}
    events:
      - {code: LAB//A, column: a, unit: mg/dL}
"""
MERGES = "merges: {file: merges.csv, old: old, new: new}\n"
PEOPLE = "id,day0,part,house,sex\nx1,2020-01-01,a,h1,F\nx2,2021-01-01,b,h2,F\nx3,2022-01-01,c,h3,M\n"


def test_all_facts_of_the_old_are_the_new_ones_and_its_split_and_group_stand(ingest: Callable[..., Any], rows) -> None:
    labs = "id,days,a\nx1,0,5\nx2,1,6\nx3,2,7\nx2,366,8\n"
    files = {"people.csv": PEOPLE, "labs.csv": labs, "merges.csv": "old,new\nx2,x1\nelsewhere,x3\n"}
    study = STUDY.replace("group: house, ", "")
    summary, path = ingest(files, study + MERGES)
    assert (summary.subjects, summary.merged_subjects, summary.merged_rows) == (2, 1, 3)
    # Day 0 is that of the identifier which the row carries: 2021-01-01 for x2.
    found = "SELECT source_id, time::DATE::VARCHAR, numeric_value FROM events JOIN subject_map USING (subject_id)"
    assert rows(path, f"{found} WHERE code = 'LAB//A' ORDER BY 1, 2") == [
        ("x1", "2020-01-01", 5.0),
        ("x1", "2021-01-02", 6.0),
        ("x1", "2022-01-02", 8.0),
        ("x3", "2022-01-03", 7.0),
    ]
    split = "SELECT source_id, split FROM subject_splits JOIN subject_map USING (subject_id) ORDER BY 1"
    assert rows(path, split) == [("x1", "train"), ("x3", "held_out")]
    merges = "SELECT old_source_id, source_id, rows FROM subject_merges JOIN subject_map USING (subject_id) ORDER BY 1"
    assert rows(path, merges) == [("elsewhere", "x3", 0), ("x2", "x1", 3)]
    # F was said of both: one fact, and a repeat that is no error.
    assert [(count.events, count.repeats) for count in summary.sources] == [(2, 1), (4, 0)]


def test_the_warehouse_is_that_of_a_source_with_the_new_identifiers(ingest: Callable[..., Any]) -> None:
    study = (
        "tables:\n  - {name: labs, file: labs.csv, subject: id, time: {column: day}, events: [{code: A, column: a}]}\n"
    )
    labs = "id,day,a\n" + "".join(f"{n},2020-01-{n:02d},{n}\n" for n in range(1, 10))
    _, merged = ingest({"labs.csv": labs, "merges.csv": "old,new\n9,1\n8,9\n4,5\n"}, study + MERGES, name="m.duckdb")
    renamed = labs.replace("\n8,", "\n1,").replace("\n9,", "\n1,").replace("\n4,", "\n5,")
    _, plain = ingest({"labs.csv": renamed}, study, name="p.duckdb")
    with Warehouse.open(merged) as one, Warehouse.open(plain) as two:
        assert one.digest() == two.digest()
        assert one.splits() == two.splits()


def test_numbered_rows_cannot_be_merged() -> None:
    table = {"name": "t", "file": "t.csv", "subject": "#row", "events": [{"code": "A", "time": {"static": True}}]}
    study = {"study": "s", "tables": [table], "merges": {"file": "m.csv", "old": "a", "new": "b"}}
    with pytest.raises(ConfigError, match="a row's number is nobody's identifier"):
        parse(IngestConfig, study, "ingest.yaml")
