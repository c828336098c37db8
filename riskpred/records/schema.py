"""Loads schemas/: the one source of every table's DDL, Arrow schema, validation and documentation."""

import hashlib
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Literal

import pyarrow as pa
from pydantic import Field

from riskpred.config.files import shipped
from riskpred.config.model import Strict, load
from riskpred.errors import InputError

Where = Literal["warehouse", "scores", "."]
"""Folder of schemas/: the input file's tables, the output file's tables, and tables of their own ("." = truth)."""

_ARROW: dict[str, pa.DataType] = {
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "string": pa.string(),
    "json": pa.string(),
    "bool": pa.bool_(),
    "binary": pa.binary(),
    "timestamp_us": pa.timestamp("us"),
    "list_string": pa.list_(pa.string()),
    "list_float64": pa.list_(pa.float64()),
}
_SQL = {
    "int64": "BIGINT",
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "string": "VARCHAR",
    "json": "VARCHAR",
    "bool": "BOOLEAN",
    "binary": "BLOB",
    "timestamp_us": "TIMESTAMP",
    "list_string": "VARCHAR[]",
    "list_float64": "DOUBLE[]",
}


class Column(Strict):
    """One column: name, type, whether null is allowed, unit and meaning."""

    name: str
    type: Literal[
        "int64",
        "float32",
        "float64",
        "string",
        "json",
        "bool",
        "binary",
        "timestamp_us",
        "list_string",
        "list_float64",
    ]
    nullable: bool
    unit: str | None = None
    meaning: str


class TableSchema(Strict):
    """One table: its columns, key (unique together) and order."""

    table: str
    meaning: str
    key: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    extra_columns: bool = False
    columns: Annotated[tuple[Column, ...], Field(min_length=1)]

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    def arrow(self) -> pa.Schema:
        """Arrow schema, columns in order."""
        return pa.schema([pa.field(c.name, _ARROW[c.type], nullable=c.nullable) for c in self.columns])

    def ddl(self, name: str | None = None, types: Mapping[str, str] | None = None, within: str | None = None) -> str:
        """CREATE TABLE statement for DuckDB. The key is verified by query, not at insert: that is 1.6 x faster.

        Args:
            types: column -> DuckDB type in place of the schema's: an ENUM made for a column of text.
            within: DuckDB schema that the table is made in, when not the file's own.
        """
        types = types or {}
        columns = ", ".join(
            f'"{c.name}" {types.get(c.name, _SQL[c.type])}{"" if c.nullable else " NOT NULL"}' for c in self.columns
        )
        place = f'"{within}".' if within else ""
        return f'CREATE TABLE {place}"{name or self.table}" ({columns})'


@cache
def table_schema(where: Where, table: str) -> TableSchema:
    """Schema of one table. `where`: "warehouse", "scores" or "."."""
    return load(TableSchema, shipped("schemas") / where / f"{table}.yaml")


@cache
def tables(where: Where) -> tuple[str, ...]:
    """Names of the tables of a file, sorted."""
    return tuple(sorted(path.stem for path in (shipped("schemas") / where).glob("*.yaml")))


@cache
def schema_version() -> str:
    """First 12 hex characters of the SHA-256 over schemas/, by path."""
    digest = hashlib.sha256()
    root = shipped("schemas")
    for path in sorted(root.rglob("*.yaml")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def check_columns(schema: TableSchema, found: dict[str, str], where: str) -> None:
    """Refuse a DuckDB table whose columns are not those of the schema.

    Args:
        found: column name -> DuckDB type, as DESCRIBE gives them.
        where: names the file and table in the error.

    Raises: InputError, listing missing columns, wrong types and (unless allowed) columns too many.
    """
    accepted = {
        "float32": {"FLOAT", "DOUBLE"},
        "float64": {"DOUBLE", "FLOAT"},
        "int64": {"BIGINT", "INTEGER", "SMALLINT"},
    }
    missing = [c.name for c in schema.columns if c.name not in found and not (c.nullable and schema.extra_columns)]
    wrong = [
        f"{c.name} is {found[c.name]}, not {_SQL[c.type]}"
        for c in schema.columns
        if c.name in found
        and found[c.name].split("(")[0] not in accepted.get(c.type, {_SQL[c.type]})
        and not (c.type in ("string", "json") and found[c.name].startswith("ENUM"))
    ]
    extra = [] if schema.extra_columns else sorted(set(found) - set(schema.names))
    if missing or wrong or extra:
        got = "; ".join(
            [f"no column {name}" for name in missing] + wrong + [f"unknown column {name}" for name in extra]
        )
        raise InputError(
            f"{where}: the table {schema.table} does not match its schema.",
            wanted=f"columns {', '.join(schema.names)}",
            got=got,
            do="ingest again, or correct the tool that wrote the table",
        )


def markdown(schema: TableSchema) -> str:
    """The table's documentation as Markdown; README holds it, and a test compares."""
    lines = [
        f"**{schema.table}**: {schema.meaning}",
        "",
        "| column | type | null | unit | meaning |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {c.name} | {_SQL[c.type]} | {'yes' if c.nullable else ''} | {c.unit or ''} | {c.meaning} |"
        for c in schema.columns
    ]
    return "\n".join(lines)
