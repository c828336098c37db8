"""Reads, before the mapping, what is looked up per subject: anchors, anchor rows, columns that decide the split.

These tables hold one row per subject in memory (a few dozen bytes each); everything else of a source is streamed.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import polars as pl

from riskpred.config.ingest import AnchorRow, IngestConfig, SourceTable
from riskpred.errors import ConfigError, InputError
from riskpred.records.ingest.identifiers import SUBJECT, with_subject
from riskpred.records.ingest.sources import source_files
from riskpred.records.ingest.times import ANCHOR, ANCHOR_ROW, parsed, terms, to_local
from riskpred.records.ingest.values import number_of, text_of

Read = Callable[[pl.DataFrame], pl.DataFrame]


def table_named(config: IngestConfig, name: str, where: str) -> SourceTable:
    """Raises: ConfigError, when ingest.yaml has no such table."""
    for table in config.tables:
        if table.name == name:
            return table
    raise ConfigError(
        f"ingest.yaml, {where}: no table {name}.",
        wanted=f"one of {', '.join(table.name for table in config.tables)}",
        do="correct the name",
    )


def anchors(source: Path, config: IngestConfig) -> pl.DataFrame | None:
    """SUBJECT and ANCHOR (local time), one row per subject; None where the anchor is a date or in the row itself.

    Raises: InputError, when a subject has several.
    """
    if config.anchor is None or config.anchor.column is None or config.anchor.table is None:
        return None
    table = table_named(config, config.anchor.table, "anchor.table")
    column = config.anchor.column

    def read(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.select(SUBJECT, row_anchor(column, frame.schema[column], config.timezone)).drop_nulls()

    return _one_per_subject(_scan(source, table, [column], read), f"{config.anchor.table}.{column}", "anchor_row")


def row_anchor(column: str, dtype: pl.DataType, zone: str) -> pl.Expr:
    """ANCHOR as a row's own column gives it, local time."""
    return to_local(parsed(column, dtype, None, zone, late=False), zone).alias(ANCHOR)


def anchor_rows(source: Path, config: IngestConfig) -> pl.DataFrame | None:
    """SUBJECT and anchor_row.COLUMN (float64) for every column that an offset names; None where nothing needs it.

    Raises: ConfigError, when an offset names anchor_row but ingest.yaml declares none.
    """
    columns = sorted({name.removeprefix(ANCHOR_ROW) for name in _anchor_row_terms(config)})
    if not columns:
        return None
    if config.anchor_row is None:
        raise ConfigError(
            "ingest.yaml: an offset names anchor_row, but there is no `anchor_row`.",
            wanted="anchor_row: {table: ..., max: COLUMN}",
            do="declare it",
        )
    best, key, down = _order(config.anchor_row)
    table = table_named(config, config.anchor_row.table, "anchor_row.table")

    def read(frame: pl.DataFrame) -> pl.DataFrame:
        ranked = frame.select(
            SUBJECT,
            number_of(best, frame.schema[best]).alias(key),
            *(number_of(name, frame.schema[name]).alias(ANCHOR_ROW + name) for name in columns),
        ).filter(pl.col(key).is_not_null())
        return ranked

    def first(rows: pl.DataFrame) -> pl.DataFrame:
        ordered = rows.sort(key, descending=down, maintain_order=True)
        return ordered.unique(SUBJECT, keep="first", maintain_order=True)

    kept: pl.DataFrame | None = None
    for part in _scan(source, table, sorted({best, *columns}), read):
        kept = first(part if kept is None else pl.concat([kept, part]))
    return None if kept is None else kept.drop(key)


def split_columns(source: Path, config: IngestConfig) -> pl.DataFrame | None:
    """SUBJECT, "value", "group" (text, null = none) of splits.table; None where splits need no table.

    Raises: ConfigError, when there is no such table; InputError, when a subject has several values.
    """
    splits = config.splits
    if splits.table is None:
        return None
    table = table_named(config, splits.table, "splits.table")
    columns = {"value": splits.column, "group": splits.group}

    def read(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.select(
            SUBJECT,
            *(
                (pl.lit(None, dtype=pl.String) if column is None else text_of(column, frame.schema[column])).alias(name)
                for name, column in columns.items()
            ),
        ).drop_nulls(SUBJECT)

    named = [column for column in columns.values() if column is not None]
    return _one_per_subject(_scan(source, table, named, read), f"{table.name}.{', '.join(named)}", "another column")


def _anchor_row_terms(config: IngestConfig) -> set[str]:
    specs = [
        spec
        for table in config.tables
        for spec in (
            table.time,
            *(m.time for m in table.events),
            *(m.time for m in table.long),
            *(m.time for m in table.images),
        )
    ]
    return {name for spec in specs for _, name in terms(spec) if name.startswith(ANCHOR_ROW)}


def _order(row: AnchorRow) -> tuple[str, str, bool]:
    if (row.max is None) == (row.min is None):
        raise ConfigError("ingest.yaml, anchor_row: give exactly one of max, min.", do="correct it")
    return (row.max or row.min or "", "#best", row.max is not None)


def _scan(source: Path, table: SourceTable, columns: Sequence[str], read: Read) -> Iterator[pl.DataFrame]:
    assert table.subject is not None, "whose columns are looked up has people"
    needed = sorted({table.subject, *columns})
    for file in source_files(source, table, needed):
        for frame in file.batches(needed):
            yield read(with_subject(frame, table.subject)).unique(maintain_order=True)


def _one_per_subject(parts: Iterator[pl.DataFrame], what: str, instead: str) -> pl.DataFrame:
    rows = pl.concat(parts).unique(maintain_order=True)
    several = rows.height - rows[SUBJECT].n_unique()
    if several:
        raise InputError(
            f"{what}: differs between rows of one subject, {several:,} times.",
            wanted="one value per subject",
            do=f"correct the source, or use {instead} in ingest.yaml",
        )
    return rows
