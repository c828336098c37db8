"""schemas/ is the single source: shared columns agree, DDL and Arrow follow it, a wrong table is refused in words."""

from collections import defaultdict

import duckdb
import pyarrow as pa
import pytest
from meds import DataSchema, SubjectSplitSchema

from riskpred.errors import InputError
from riskpred.records.schema import TableSchema, check_columns, schema_version, table_schema, tables

ALL = [(where, name) for where in ("warehouse", "scores", ".") for name in tables(where)]


def test_every_table_of_the_contract_is_there() -> None:
    assert set(tables("warehouse")) == {
        "events", "images", "subject_splits", "subject_groups", "subject_map", "ingests", "rejects",
        "subject_digests", "code_dictionary", "contents", "subject_merges", "annotations",
    }  # fmt: skip
    assert set(tables("scores")) == {
        "runs", "risk_scores", "eligibility", "input_receipts", "explanations", "evidence", "findings", "rejects",
        "drift", "feature_bins", "pseudonyms", "secrets", "missing_impact", "changes", "reason_checks",
    }  # fmt: skip


def test_shared_columns_have_one_type() -> None:
    types: dict[str, set[str]] = defaultdict(set)
    for where, name in ALL:
        for column in table_schema(where, name).columns:
            types[column.name].add(column.type)

    assert {name: kinds for name, kinds in types.items() if len(kinds) > 1} == {}


@pytest.mark.parametrize(("where", "name"), ALL)
def test_ddl_makes_the_arrow_schema(where: str, name: str) -> None:
    schema = table_schema(where, name)  # type: ignore[arg-type]
    connection = duckdb.connect()
    connection.execute(schema.ddl())
    made = connection.sql(f'SELECT * FROM "{name}"').to_arrow_table().schema
    assert [(f.name, f.type) for f in made] == [(f.name, f.type) for f in schema.arrow()]
    assert set(schema.key) <= set(schema.names)
    assert set(schema.order) <= set(schema.names)


@pytest.mark.parametrize("name", [n for n in tables("scores") if n != "secrets"])
def test_every_output_table_carries_run_id(name: str) -> None:
    assert table_schema("scores", name).columns[0].name == "run_id"


def test_events_are_meds_data() -> None:
    ours = table_schema("warehouse", "events").arrow()
    for field in DataSchema.schema():
        assert ours.field(field.name).type in (field.type, pa.string() if field.type == pa.large_string() else None)
    assert {f.name for f in SubjectSplitSchema.schema()} <= set(table_schema("warehouse", "subject_splits").names)


def test_a_wrong_table_is_refused_in_words() -> None:
    schema = table_schema("warehouse", "images")
    good = {"image_id": "VARCHAR", "subject_id": "BIGINT", "time": "TIMESTAMP", "image_type": "VARCHAR"}
    with pytest.raises(InputError) as caught:
        check_columns(schema, {**good, "subject_id": "VARCHAR"}, "w.duckdb")
    assert caught.value.exit_code == 11
    assert "no column path" in caught.value.message
    assert "subject_id is VARCHAR, not BIGINT" in caught.value.message
    check_columns(schema, {**good, "path": "VARCHAR", "room": "VARCHAR"}, "w.duckdb")  # extra columns are allowed


def test_extra_columns_are_refused_where_not_allowed() -> None:
    schema = table_schema("warehouse", "subject_map")
    with pytest.raises(InputError, match="unknown column name"):
        check_columns(schema, {"subject_id": "BIGINT", "source_id": "VARCHAR", "name": "VARCHAR"}, "w.duckdb")


def test_schema_version_is_a_digest() -> None:
    assert len(schema_version()) == 12
    assert isinstance(table_schema("scores", "runs"), TableSchema)
