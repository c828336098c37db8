"""ingest.yaml: how a source's files and columns become MEDS events, images and splits."""

from datetime import datetime
from typing import Literal

from pydantic import Field, model_validator

from riskpred.config.ingest_images import AnnotationMapping, ImageFolder, PathTemplate
from riskpred.config.model import Strict

Kind = Literal["measurement", "diagnosis", "death", "leaving"]
"""What a fact is. A diagnosis, death or leaving known only to the day is stored at that day's last microsecond."""

OffsetUnit = Literal["minutes", "hours", "days", "months", "years"]
"""months = 30.4375 days, years = 365.25 days; days, months and years are rounded to the day ("known to the day")."""

Scalar = str | int | float | bool

ROW = "#row"
"""Column that every table gets: the number of the row in its file, 1 below the header. A table without identifiers, one
person a row, may name it as its `subject` (lines that are no rows are then not counted); it is the study's only table,
and one file. Another order of rows gives other ids."""


class TimeSpec(Strict):
    """When a fact was known: exactly one of static, column, offset.

    static: true          -> time is null, visible always (MEDS static).
    column: drawn_at      -> a timestamp or date column; `format` (strptime) where it is text other than ISO 8601.
    offset: [a, -b, 3.5]  -> anchor + the sum of the terms, in `unit`. A term is a number, a column (a minus sign
                             before it subtracts), or `anchor_row.column` (the value in the subject's anchor row).
                             `before: true`: so far before the anchor, whatever the sign of the sum.
    """

    static: Literal[True] | None = None
    column: str | None = None
    format: str | None = None
    offset: tuple[str | float, ...] | None = None
    unit: OffsetUnit = "days"
    before: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> "TimeSpec":
        if sum(way is not None for way in (self.static, self.column, self.offset)) != 1:
            raise ValueError("give exactly one of static, column, offset")
        for key in ("unit", "before"):
            if key in self.model_fields_set and self.offset is None:
                raise ValueError(f"{key}: only for offset")
        if self.format is not None and self.column is None:
            raise ValueError("format: only for column")
        return self


class ValueSpec(Strict):
    """How one value becomes a numeric_value, a text_value or the end of a code."""

    kind: Kind = "measurement"
    unit: str | None = Field(None, description="unit stored in events.unit, after conversion")
    source_unit: str | None = Field(None, description="unit of the source where no column says; default = unit")
    units: dict[str, float] = Field(default={}, description="accepted source unit -> factor to `unit`")
    range: tuple[float | None, float | None] | None = Field(None, description="inclusive, after conversion")
    values: dict[str, Scalar] | None = Field(None, description="value map; a value outside it is rejected")
    store: Literal["number", "text", "code"] = Field(
        "number", description="where the value goes: numeric_value, text_value, or appended to the code after //"
    )
    missing: tuple[Scalar, ...] = Field((), description="sentinels that mean missing, beside empty and null")
    allow_rejects: float = Field(0.05, ge=0, le=1, description="share of a code's rows that may be rejected")


class LongCode(ValueSpec):
    """What one value of a long table's code column means. Without value_column it is an event without a value."""

    code: str


class EventMapping(ValueSpec):
    """A wide mapping: one fact per source row. Without `column` it is an event without a value (an entry, say)."""

    code: str
    column: str | None = None
    unit_column: str | None = None
    time: TimeSpec | None = Field(None, description="default: the table's time")
    when: dict[str, tuple[Scalar, ...]] = Field(
        default={}, description="column -> values for which the mapping applies; other rows are `ignored`"
    )


class LongMapping(Strict):
    """A long mapping: code column and (optionally) value column; one fact per source row."""

    code_column: str
    value_column: str | None = None
    unit_column: str | None = None
    time: TimeSpec | None = None
    codes: dict[str, LongCode | Literal["ignore"]]
    unknown: Literal["reject", "ignore"] = Field("reject", description="what to do with a code not listed")


class ImageMapping(Strict):
    """One image per source row. `path` may hold {column} placeholders; it is relative to the image root."""

    image_id: str = Field(description="column with the image's identifier")
    path: PathTemplate = Field(
        description="template, e.g. images/{image_id}.png; with a `*` in the name, e.g. slices/{patient}_*.png: "
        "these files are the slices of one volume, in the order of the numbers in their names"
    )
    image_type: str | None = Field(None, description="DICOM code for all rows: CR DX CT MR US MG OP")
    image_type_column: str | None = None
    time: TimeSpec | None = None
    pixels: bool = Field(
        False, description="read the pixels too: a digest of them, and blank or unreadable images are rejects"
    )
    label: str | None = Field(
        None, description="column: rows of near-copies (splits.near_copies) that differ in it are refused"
    )
    labels: dict[str, str] = Field(default={}, description="value of `label` -> what counts; default as it is")
    burned_in: Literal["refuse", "allow"] = Field("refuse", description="DICOM files that say BurnedInAnnotation YES")
    allow_rejects: float = Field(0.05, ge=0, le=1)

    @model_validator(mode="after")
    def _one_type(self) -> "ImageMapping":
        if (self.image_type is None) == (self.image_type_column is None):
            raise ValueError("give exactly one of image_type, image_type_column")
        if self.labels and self.label is None:
            raise ValueError("labels: only with label")
        return self


class SourceTable(Strict):
    """One source file (or DuckDB table) and the mappings applied to each of its rows."""

    name: str
    file: str | None = Field(None, description="CSV or Parquet under SOURCE, or a DuckDB file; globs allowed")
    table: str | None = Field(None, description="table name, where SOURCE or `file` is a DuckDB file")
    format: str | None = Field(None, description="how the file is written, where its name does not say")
    subject: str | None = Field(
        None,
        description=f"column with the subject's identifier; {ROW} = the row's number; of annotations alone: none,"
        " they belong to whom their image belongs to",
    )
    time: TimeSpec | None = Field(None, description="default for the mappings below")
    missing: tuple[Scalar, ...] = Field((), description="sentinels for every mapping of this table")
    events: tuple[EventMapping, ...] = ()
    long: tuple[LongMapping, ...] = ()
    images: tuple[ImageMapping, ...] = ()
    annotations: tuple[AnnotationMapping, ...] = ()

    @model_validator(mode="after")
    def _somebody(self) -> "SourceTable":
        if self.subject is None and (self.events or self.long or self.images):
            raise ValueError("subject: needed for events, long and images")
        return self


class Anchor(Strict):
    """Day 0 of offset times: a date for everyone, or a column of `table`."""

    date: datetime | None = None
    column: str | None = None
    table: str | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "Anchor":
        if (self.date is None) == (self.column is None):
            raise ValueError("give exactly one of date, column")
        return self


class AnchorRow(Strict):
    """The row of each subject whose columns offsets may name as anchor_row.column; ties: first in file order."""

    table: str
    max: str | None = None
    min: str | None = None


class Splits(Strict):
    """Train, tuning, held_out: by hash(seed, subject) 70/15/15, unless a column says otherwise."""

    seed: int = 1
    shares: tuple[float, float, float] = (0.70, 0.15, 0.15)
    table: str | None = None
    column: str | None = Field(None, description="column whose value names the split through `values`")
    values: dict[str, Literal["train", "tuning", "held_out", "train_or_tuning"]] | None = None
    group: str | None = Field(None, description="column hashed instead of the subject: matched set, household")
    near_copies: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="images whose 32 x 32 thumbnails correlate above this are copies: their people stay in one group",
    )
    everyone: Literal["train"] | None = Field(None, description="no held-out split: too few people (cross-validate)")

    @model_validator(mode="after")
    def _nothing_ignored(self) -> "Splits":
        given = {key for key in self.model_fields_set if getattr(self, key) is not None}
        if self.everyone is not None and not given <= {"everyone", "near_copies"}:
            of_no_use = sorted(given - {"everyone", "near_copies"})
            raise ValueError(f"{', '.join(of_no_use)}: of no use beside everyone")
        if (self.column is None) != (self.values is None):
            raise ValueError("give column and values together")
        if (self.table is None) != (self.column is None and self.group is None):
            raise ValueError("give a table together with column or group")
        drawn = {"group", "shares"} & given
        if drawn and self.values is not None and "train_or_tuning" not in self.values.values():
            raise ValueError(f"{', '.join(sorted(drawn))}: of no use where values leave nothing to draw")
        return self


class Merges(Strict):
    """People known by another identifier now: all facts of `old` become facts of `new`, whose split and group stand.

    A chain (a into b, b into c) is followed to its end; a circle, or one `old` with two `new`, is an error. An id
    that occurs nowhere does no harm. subject_merges in the warehouse says who was merged.
    """

    file: str | None = Field(None, description="CSV or Parquet under SOURCE, or a DuckDB file; globs allowed")
    table: str | None = Field(None, description="table name, where SOURCE or `file` is a DuckDB file; default merges")
    old: str = Field(description="column with the identifier that is given up, as the tables' `subject` has it")
    new: str = Field(description="column with the identifier that takes its facts")


class IngestConfig(Strict):
    """The whole of ingest.yaml."""

    study: str
    site: str | None = None
    timezone: str = "UTC"
    as_of: datetime | None = Field(None, description="prediction_time of score for research data")
    data_until: datetime | None = Field(None, description="end of follow-up; default the latest event")
    anchor: Anchor | None = None
    anchor_row: AnchorRow | None = None
    tables: tuple[SourceTable, ...] = ()
    folders: tuple[ImageFolder, ...] = Field((), description="images found in folders, or named by a DICOMDIR")
    splits: Splits = Splits()
    merges: Merges | None = Field(None, description="old identifier -> new identifier of people who were merged")

    @model_validator(mode="after")
    def _something(self) -> "IngestConfig":
        if not self.tables and not self.folders:
            raise ValueError("give tables, folders or both")
        names = [folder.name for folder in self.folders]
        if len(set(names)) != len(names):
            raise ValueError("names of folders have to differ")
        images = [item for table in self.tables for item in table.images]
        if any(item.label for item in images) and self.splits.near_copies is None:
            raise ValueError("label of images: of use only with splits.near_copies")
        return self

    @model_validator(mode="after")
    def _numbered_alone(self) -> "IngestConfig":
        numbered = [table.name for table in self.tables if table.subject == ROW]
        if numbered and len(self.tables) + len(self.folders) > 1:
            raise ValueError(
                f"tables.{numbered[0]}: subject {ROW} only in the one table of a study: "
                "a row's number says nothing of who a row of another table is"
            )
        if numbered and self.merges is not None:
            raise ValueError(f"merges: of no use where subject is {ROW}: a row's number is nobody's identifier")
        return self
