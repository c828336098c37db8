"""Takes in one table of ingest.yaml: its files batch by batch through every mapping, into staging and the account."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from riskpred.config.ingest import ROW, ImageMapping, IngestConfig, SourceTable, TimeSpec
from riskpred.config.ingest_images import AnnotationMapping
from riskpred.errors import ConfigError
from riskpred.progress import Progress
from riskpred.records.ingest import annotations as marks
from riskpred.records.ingest.account import SourceCount, Tally
from riskpred.records.ingest.identifiers import SOURCE_ID, SUBJECT, with_subject
from riskpred.records.ingest.images import (
    ABOUT,
    LABEL,
    THUMBNAIL,
    WANTED,
    WOULD_DO,
    Files,
    apply_images,
    checked_image,
    path_columns,
)
from riskpred.records.ingest.lookups import anchor_rows, anchors, row_anchor
from riskpred.records.ingest.mapping import (
    STATUS,
    TABLE_ALLOWED,
    UNIT_SEEN,
    Mapping,
    apply,
    apply_long,
    event_mappings,
    long_mappings,
    refused_field,
    wanted,
)
from riskpred.records.ingest.merges import OWN, Merges
from riskpred.records.ingest.near_copies import Thumbnails
from riskpred.records.ingest.sources import SourceFile
from riskpred.records.ingest.staging import Staging
from riskpred.records.ingest.times import ANCHOR, ANCHOR_ROW, local_microseconds, terms

KEY = "#key"
"""Column of facts that no row number names: what stands in rejects in its place."""


@dataclass(frozen=True)
class Lookups:
    """Per-subject tables read beforehand; see lookups.py and merges.py."""

    anchors: pl.DataFrame | None
    anchor_rows: pl.DataFrame | None
    merges: Merges

    @classmethod
    def read(cls, source: Path, config: IngestConfig) -> "Lookups":
        return cls(anchors(source, config), anchor_rows(source, config), Merges.read(source, config))


@dataclass
class Books:
    """The account of a whole ingest: sources in order of first use, tallies by place in ingest.yaml, staged facts."""

    staging: Staging
    counts: dict[str, SourceCount] = field(default_factory=dict)
    tallies: dict[str, Tally] = field(default_factory=dict)
    images: list[str] = field(default_factory=list)
    annotations: list[str] = field(default_factory=list)
    thumbnails: Thumbnails = field(default_factory=Thumbnails)

    def source(self, name: str) -> "OneSource":
        """The account of one source, new at its first use."""
        count = self.counts.setdefault(name, SourceCount(name))
        return OneSource(list(self.counts).index(name), count, self.staging)

    def tally(self, table: SourceTable, label: str, where: str, allowed: float) -> Tally:
        """The mapping's tally, new at its first fact."""
        return self.tallies.setdefault(where, Tally(table.file or table.table or table.name, label, where, allowed))


@dataclass(frozen=True)
class OneSource:
    """The account of the file or folder that is being read."""

    number: int
    count: SourceCount
    staging: Staging

    def refuse(self, facts: pl.DataFrame, tally: Tally, explain: Callable[[str], tuple[str, str]]) -> None:
        """Count facts by their STATUS, and stage the refused ones. `explain`: reason -> (field, wanted)."""
        fates = dict(facts[STATUS].value_counts().iter_rows())
        self.count.missing += fates.pop("missing", 0)
        self.count.ignored += fates.pop("ignored", 0)
        tally.judged += fates.pop(None, 0) + sum(fates.values())
        for reason, times in sorted(fates.items()):
            named, would_do = explain(reason)
            tally.refused[reason] += times
            tally.wanted[reason] = would_do
            self.count.rejects += times
            self.count.reasons[reason] += times
            rows = facts.filter(pl.col(STATUS) == reason)
            self.staging.add(
                "reject",
                rows.select(
                    row=ROW,
                    key=KEY if KEY in rows.columns else pl.lit(None, dtype=pl.String),
                    subject_id=SUBJECT,
                    source=pl.lit(self.number),
                    reason=pl.lit(reason),
                    field=pl.lit(named),
                    wanted=pl.lit(would_do),
                ),
            )


class Intake:
    """One table's mappings, ready to be applied. Raises: ConfigError, when they contradict each other."""

    def __init__(self, table: SourceTable, config: IngestConfig, books: Books) -> None:
        self.table, self._config, self._books = table, config, books
        self._events, self._longs = event_mappings(table), long_mappings(table)
        self._images: list[tuple[int, ImageMapping, TimeSpec, str]] = []
        for number, item in enumerate(table.images):
            where = f"ingest.yaml, tables.{table.name}.images.{number}"
            self._images.append((len(books.images), item, checked_image(item, item.time or table.time, where), where))
            books.images.append(where)
        self._marks: list[tuple[int, AnnotationMapping, str]] = []
        for number, mark in enumerate(table.annotations):
            where = f"ingest.yaml, tables.{table.name}.annotations.{number}"
            marks.check_annotation(mark, where)
            self._marks.append((len(books.annotations), mark, where))
            books.annotations.append(where)
        self._rows_are_kept = any(item.label is not None for item in table.images)
        self._offsets = any(spec.offset is not None for spec in self._times())
        if self._offsets and config.anchor is None:
            raise ConfigError(
                f"ingest.yaml, tables.{table.name}: an offset needs a day 0, but there is no `anchor`.",
                wanted="anchor: {date: 2000-01-01T00:00:00} or {column: ...}",
                do="declare it",
            )
        self.columns = sorted(self._needed())

    @property
    def facts_per_row(self) -> int:
        return len(self._events) + len(self._longs) + len(self._images) + len(self._marks)

    def take(self, file: SourceFile, lookups: Lookups, files: Files, progress: Progress) -> None:
        """Read one file to its end. Raises: InputError, when it breaks off."""
        book = self._books.source(file.name)
        count = book.count
        total, done = file.row_count(), 0
        broken: list[int] = []
        for frame in file.batches(self.columns, broken):
            self._take_rows(self._prepared(frame, lookups), book, files)
            done += frame.height
            progress.step(f"ingest {file.name}", done, total)
        if broken:
            self._refuse_broken(broken, done, book)
        count.rows = max(count.rows, done + len(broken))
        count.facts += (done + len(broken)) * self.facts_per_row
        progress.step(f"ingest {file.name}", count.rows, count.rows)

    def _take_rows(self, rows: pl.DataFrame, book: OneSource, files: Files) -> None:
        people = rows.filter(pl.col(OWN).is_not_null()).select(subject_id=OWN, source_id=SOURCE_ID)
        book.staging.add("identifier", people.unique())
        zone = self._config.timezone
        for mapping in self._events:
            self._keep(mapping, apply(mapping, rows, zone), book)
        for long in self._longs:
            unlisted = self._books.tally(self.table, long.code_column, long.where, TABLE_ALLOWED)
            unlisted.judged += rows.height
            for listed, facts in apply_long(long, rows, zone):
                if listed is not None:
                    self._keep(listed, facts, book)
                else:
                    listing = (long.code_column, "a code listed in ingest.yaml")
                    book.refuse(facts, unlisted, {"unknown_code": listing}.__getitem__)
                    unlisted.judged -= int((facts[STATUS] == "unknown_code").sum())  # counted above, with all rows
        for number, item, time, where in self._images:
            facts = apply_images(item, time, rows, zone, files)
            keep_images(facts, number, book, self._books)
            tally = self._books.tally(self.table, "images", where, item.allow_rejects)
            refuse_images(facts, tally, item.image_id, book)
        for number, mark, where in self._marks:
            facts = marks.apply_annotations(mark, rows, files.root)
            kept = facts.filter(pl.col(STATUS).is_null()).drop(STATUS, SUBJECT).rename({ROW: "row"})
            book.staging.add("annotation_fact", kept.with_columns(source=pl.lit(book.number), mapping=pl.lit(number)))
            unusable = facts.filter(pl.col(STATUS).is_not_null() & ~pl.col(STATUS).is_in(["ignored", "missing"]))
            book.staging.add("refused_mark", unusable.select("image_id", "image_path"))
            tally = self._books.tally(self.table, "annotations", where, mark.allow_rejects)
            book.refuse(facts, tally, lambda reason: ("annotations", marks.WANTED[reason]))

    def _keep(self, mapping: Mapping, facts: pl.DataFrame, book: OneSource) -> None:
        kept = facts.filter(pl.col(STATUS).is_null()).rename({SUBJECT: "subject_id"})
        names = ("subject_id", "time", "code", "numeric_value", "text_value", "unit")
        row = pl.col(ROW) if self._rows_are_kept else pl.lit(None, dtype=pl.Int64)
        book.staging.add("fact", kept.select(*names, source=pl.lit(book.number), row=row))
        tally = self._books.tally(self.table, mapping.code, mapping.where, mapping.spec.allow_rejects)
        subject = self.table.subject or ""
        book.refuse(facts, tally, lambda reason: (refused_field(mapping, reason, subject), wanted(mapping, reason)))
        odd = facts.filter(pl.col(STATUS) == "unknown_unit")[UNIT_SEEN].drop_nulls()
        tally.units.update(dict(odd.value_counts().iter_rows()))

    def _refuse_broken(self, broken: list[int], readable: int, book: OneSource) -> None:
        """Lines that are no rows: every mapping's fact of such a line is refused."""
        where = f"ingest.yaml, tables.{self.table.name}"
        tally = self._books.tally(self.table, self.table.name, where, TABLE_ALLOWED)
        tally.judged += readable * self.facts_per_row
        book.staging.renumber(book.number, broken)
        lines = pl.DataFrame({ROW: broken}, schema={ROW: pl.Int64}).with_columns(
            pl.lit(None, dtype=pl.Int64).alias(SUBJECT), pl.lit("unreadable_row").alias(STATUS)
        )
        would_do = "one delimiter, closed quotes, as many fields as the header"
        for _ in range(self.facts_per_row):
            book.refuse(lines, tally, lambda _: ("(whole line)", would_do))

    def _prepared(self, frame: pl.DataFrame, lookups: Lookups) -> pl.DataFrame:
        """Add the subject, and what offsets need."""
        if self.table.subject is None:
            nobody = (pl.lit(None, dtype=pl.Int64).alias(name) for name in (SUBJECT, OWN))
            return frame.with_columns(*nobody, pl.lit(None, dtype=pl.String).alias(SOURCE_ID))
        rows, anchor = with_subject(frame, self.table.subject), self._config.anchor
        if self._offsets and anchor is not None:
            if anchor.date is not None:
                day0 = pl.lit(local_microseconds(anchor.date, self._config.timezone), dtype=pl.Int64)
                rows = rows.with_columns(day0.cast(pl.Datetime("us")).alias(ANCHOR))
            elif lookups.anchors is not None:
                rows = rows.join(lookups.anchors, on=SUBJECT, how="left", maintain_order="left")
            else:
                assert anchor.column is not None
                dtype = rows.schema[anchor.column]
                rows = rows.with_columns(row_anchor(anchor.column, dtype, self._config.timezone))
        if lookups.anchor_rows is not None:
            rows = rows.join(lookups.anchor_rows, on=SUBJECT, how="left", maintain_order="left")
        # Last: day 0 of a row is that of its own identifier, whoever takes its facts.
        return lookups.merges.applied(rows)

    def _times(self) -> list[TimeSpec]:
        mappings = [*self._events, *(m for long in self._longs for m in long.codes.values() if m is not None)]
        return [*(mapping.time for mapping in mappings), *(time for _, _, time, _ in self._images)]

    def _needed(self) -> set[str]:
        columns = {self.table.subject} if self.table.subject is not None else set()
        for _, mark, _ in self._marks:
            columns |= marks.annotation_columns(mark)
        for mapping in self._events:
            columns |= mapping.columns
        for long in self._longs:
            columns |= {long.code_column}.union(*(m.columns for m in long.codes.values() if m is not None))
        for _, item, _, _ in self._images:
            columns |= {item.image_id, *path_columns(item.path)}
            columns |= {item.label} if item.label is not None else set()
            columns |= {item.image_type_column} if item.image_type_column is not None else set()
        for spec in self._times():
            columns |= {name for _, name in terms(spec) if not name.startswith(ANCHOR_ROW)}
            columns |= {spec.column} if spec.column is not None else set()
        anchor = self._config.anchor
        if self._offsets and anchor is not None and anchor.column is not None and anchor.table is None:
            columns.add(anchor.column)
        return columns


def keep_images(facts: pl.DataFrame, mapping: int, book: OneSource, books: Books) -> None:
    """Stage the accepted images, and keep their thumbnails for near-copies."""
    kept = facts.filter(pl.col(STATUS).is_null())
    books.thumbnails.add(kept.select("image_id", LABEL, "pixel_digest", THUMBNAIL).iter_rows())
    names = ("image_id", "time", "image_type", "path", "series", "sha256", *ABOUT)
    staged = kept.select(*names, row=ROW, subject_id=SUBJECT, source=pl.lit(book.number), mapping=pl.lit(mapping))
    book.staging.add("image_fact", staged)


def refuse_images(facts: pl.DataFrame, tally: Tally, named: str, book: OneSource) -> None:
    """Count all and stage the refused ones, each with what its own file should have been."""
    for (would_do,), part in facts.partition_by(WOULD_DO, as_dict=True, maintain_order=True).items():

        def explain(reason: str, said: object = would_do) -> tuple[str, str]:
            return named, str(said or WANTED[reason])

        book.refuse(part, tally, explain)
