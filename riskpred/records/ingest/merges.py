"""Reads which identifiers of the source stand for people who are known by another one now, and moves their rows."""

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from riskpred.config.ingest import IngestConfig, SourceTable
from riskpred.errors import InputError
from riskpred.records.ingest.identifiers import SOURCE_ID, SUBJECT, with_subject
from riskpred.records.ingest.sources import source_files

OWN = "#own_subject"
"""Column with the subject_id that a row's own identifier gives; SUBJECT is who the row is of."""


@dataclass
class Merges:
    """Old subject_id -> the subject_id that takes all its facts, chains followed to their end.

    source_id: text of every identifier that the table names.   rows: source rows moved so far, by old subject_id.
    """

    into: dict[int, int] = field(default_factory=dict)
    source_id: dict[int, str] = field(default_factory=dict)
    rows: dict[int, int] = field(default_factory=dict)

    @classmethod
    def read(cls, source: Path, config: IngestConfig) -> "Merges":
        """Raises: InputError, when an identifier is merged into two others, or into itself by whatever way."""
        if config.merges is None:
            return cls()
        table = SourceTable(
            name="merges", file=config.merges.file, table=config.merges.table, subject=config.merges.old
        )
        columns = [config.merges.old, config.merges.new]
        direct: dict[int, int] = {}
        texts: dict[int, str] = {}
        where, twice = "", 0
        for file in source_files(source, table, columns):
            where = file.name
            for frame in file.batches(columns):
                for old, old_text, new, new_text in _pairs(frame, *columns).iter_rows():
                    twice += direct.setdefault(old, new) != new
                    texts[old], texts[new] = old_text, new_text
        if twice:
            raise InputError(
                f"{where}: {twice:,} identifiers are merged into two others.",
                wanted=f"one {config.merges.new} for every {config.merges.old} (ingest.yaml, merges)",
                do="correct the source: one person cannot become two",
            )
        return cls(_followed(direct, where), texts)

    def applied(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Keep each row's own subject in OWN, and put who takes its facts in SUBJECT."""
        rows = rows.with_columns(pl.col(SUBJECT).alias(OWN))
        if not self.into:
            return rows
        rows = rows.with_columns(pl.col(SUBJECT).replace(self.into))
        moved = rows.filter(pl.col(OWN) != pl.col(SUBJECT))[OWN].value_counts()
        for old, count in moved.iter_rows():
            self.rows[old] = self.rows.get(old, 0) + count
        return rows

    def identifiers(self) -> pl.DataFrame:
        """subject_id and source_id of all that the table names."""
        named = {"subject_id": list(self.source_id), "source_id": list(self.source_id.values())}
        return pl.DataFrame(named, schema={"subject_id": pl.Int64, "source_id": pl.String})

    def table(self) -> pl.DataFrame:
        """Rows of subject_merges."""
        old = sorted(self.into)
        columns = {
            "old_subject_id": old,
            "old_source_id": [self.source_id[subject] for subject in old],
            "subject_id": [self.into[subject] for subject in old],
            "rows": [self.rows.get(subject, 0) for subject in old],
        }
        schema = {"old_subject_id": pl.Int64, "old_source_id": pl.String, "subject_id": pl.Int64, "rows": pl.Int64}
        return pl.DataFrame(columns, schema=schema)


def _pairs(frame: pl.DataFrame, old: str, new: str) -> pl.DataFrame:
    """Old and new subject with their texts, of the rows that name both."""
    both = pl.concat(
        [
            with_subject(frame, name).select(
                pl.col(SUBJECT).alias(f"{side} id"), pl.col(SOURCE_ID).alias(f"{side} text")
            )
            for side, name in (("old", old), ("new", new))
        ],
        how="horizontal",
    )
    return both.drop_nulls()


def _followed(direct: dict[int, int], where: str) -> dict[int, int]:
    ends: dict[int, int] = {}
    for first in direct:
        way: dict[int, None] = {}
        at = first
        while at in direct and at not in ends and at not in way:
            way[at] = None
            at = direct[at]
        if at in way:
            raise InputError(
                f"{where}: {len(way) - list(way).index(at):,} identifiers are merged in a circle.",
                wanted="an identifier at the end of every chain that is merged into no other (ingest.yaml, merges)",
                do="correct the source: leave out the row that leads back",
            )
        ends.update(dict.fromkeys(way, ends.get(at, at)))
    return ends
