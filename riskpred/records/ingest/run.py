"""Runs an ingest: reads every source of a study once, maps it, and publishes the whole warehouse or nothing."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import duckdb
import polars as pl

from riskpred.config.ingest import IngestConfig
from riskpred.config.study import load_ingest
from riskpred.errors import ConfigError, InputError, OutputError
from riskpred.progress import Progress, Silent
from riskpred.records.connection import connect_readonly
from riskpred.records.contents import write_contents
from riskpred.records.ingest.account import SourceCount, check_limits
from riskpred.records.ingest.folders import take_folder
from riskpred.records.ingest.identifiers import SUBJECT, hashed_identifier
from riskpred.records.ingest.images import Files
from riskpred.records.ingest.intake import Books, Intake, Lookups
from riskpred.records.ingest.look import Look
from riskpred.records.ingest.lookups import split_columns
from riskpred.records.ingest.near_copies import joined_groups, refuse_parted
from riskpred.records.ingest.sources import SourceFile, source_files
from riskpred.records.ingest.staging import CONTRADICTED, Staging
from riskpred.records.ingest.times import microseconds
from riskpred.records.publish import staged
from riskpred.records.publish_folder import staged_folder
from riskpred.records.readable import REQUIRED
from riskpred.records.shards import MANIFEST, write_shards
from riskpred.records.splits import assigned

_COUNTS = ("rows", "facts", "events", "images", "rejects", "missing", "repeats", "ignored", "annotations")


@dataclass(frozen=True)
class IngestSummary:
    """What an ingest did. `sources` are the rows of `ingests`; `splits` counts subjects by split.

    merged_subjects, merged_rows: identifiers given up for another (ingest.yaml, merges), and the source rows that had
    them; identifiers that occur nowhere are not counted.
    """

    study: str
    site: str
    warehouse: Path
    subjects: int
    events: int
    images: int
    splits: dict[str, int]
    sources: tuple[SourceCount, ...]
    merged_subjects: int = 0
    merged_rows: int = 0

    def to_json(self) -> dict[str, object]:
        """Plain types, for `--json`."""
        return {
            **{item.name: getattr(self, item.name) for item in fields(self)},
            "warehouse": str(self.warehouse),
            "sources": [
                {"source": source.source, **{name: getattr(source, name) for name in _COUNTS}}
                | {"reasons": dict(source.reasons.most_common())}
                for source in self.sources
            ],
        }


def run_ingest(
    study: str,
    source: Path,
    into: Path,
    progress: Progress | None = None,
    memory_mb: int | None = None,
    *,
    look: Look | None = None,
    folder: bool = False,
    shards: int | None = None,
) -> IngestSummary:
    """Read SOURCE by the study's ingest.yaml and publish the warehouse `into`, whole, in place of an older one.

    Args:
        study: name of a packaged study, or a folder with ingest.yaml.
        source: folder of the source files (it is also the image root), or a DuckDB file.
        memory_mb: of DuckDB; default: half the machine's memory, at most 4,000. The rest goes to disk beside `into`.
        look: who opens image files (imaging.inspect.FileLook); None = what a file says of itself stays unknown, and a
            study that asks for what is in files is refused.
        folder: write a folder of MEDS Parquet shards (see records.shards) in place of a DuckDB file; also where `into`
            is a folder already, or `shards` is given.
        shards: how many; default: one per 5 million events.

    Raises:
        ConfigError: ingest.yaml contradicts itself, or asks for what is in image files, and `look` is None.
        InputError: a file, table or column missing or empty; a mapping rejects more than ingest.yaml allows.
        OutputError: `into` is locked, cannot be written, is a source, or is there and is no warehouse.
        After any of them `into` is as it was.
    """
    progress = progress or Silent()
    config = load_ingest(study)
    _check_zone(config)
    _refuse_unlooked(config, look)
    memory_mb = memory_mb or _default_memory_mb()
    _refuse_source(into, [source])
    if not (folder or shards is not None or into.is_dir()):
        with staged(into, f"{memory_mb}MB") as connection:
            _refuse_unless_warehouse(into)  # under the lock: what is there now is what would be replaced
            summary = _ingest(connection, config, source, into, progress, memory_mb, look)
            write_contents(connection)  # last: it holds for the file as it is now
        return summary
    _refuse_source_folder(into, source)
    with staged_folder(into, MANIFEST) as files:
        build = files / "build.duckdb"
        with staged(build, f"{memory_mb}MB") as connection:
            summary = _ingest(connection, config, source, into, progress, memory_mb, look)
            write_shards(connection, files, shards)
        build.unlink()
    return summary


def _ingest(
    connection: duckdb.DuckDBPyConnection,
    config: IngestConfig,
    source: Path,
    into: Path,
    progress: Progress,
    memory_mb: int,
    look: Look | None,
) -> IngestSummary:
    """Make the tables of the warehouse in an empty database."""
    # Each thread of a sort needs memory of its own.
    threads = max(1, min(os.cpu_count() or 1, memory_mb // 100))
    connection.execute(f"SET threads = {threads}")
    books = Books(Staging(connection))
    intakes = [Intake(table, config, books) for table in config.tables]
    # Everything is looked for before anything is read: a missing column must not cost an hour.
    files = [source_files(source, intake.table, intake.columns) for intake in intakes]
    _refuse_source(into, [file.path for found in files for file in found])
    lookups, splits = Lookups.read(source, config), split_columns(source, config)
    root = (source if source.is_dir() else source.parent).resolve()
    opened = Files(root, look, progress, thumbnails=config.splits.near_copies is not None)
    for intake, found in zip(intakes, files, strict=True):
        for file in found:
            intake.take(file, lookups, opened, progress)
        _refuse_empty(found, books, intake)
    for folder in config.folders:
        take_folder(folder, config, books, lookups, opened)
    books.staging.add("identifier", lookups.merges.identifiers())
    books.staging.write("subject_merges", lookups.merges.table())
    summary = _finish(config, into, root, books, splits, progress)
    moved = lookups.merges.rows
    return replace(summary, merged_subjects=len(moved), merged_rows=sum(moved.values()))


def _finish(
    config: IngestConfig, into: Path, root: Path, books: Books, columns: pl.DataFrame | None, progress: Progress
) -> IngestSummary:
    staging, counts = books.staging, tuple(books.counts.values())
    progress.step("sort and write", 0, 1)
    staging.refuse_collisions()
    for number, mapping, times in staging.ambiguous_images():
        count, tally = counts[number], books.tallies[books.images[mapping]]
        count.rejects += times
        count.reasons["ambiguous_image_id"] += times
        tally.refused["ambiguous_image_id"] += times
        tally.wanted["ambiguous_image_id"] = "one image per image_id"
    check_limits(list(books.tallies.values()))
    together = _near_copies(config, books, counts)
    for number, kept, repeats in staging.write_events():
        counts[number].events = kept
        counts[number].repeats += repeats
    for number, kept, repeats in staging.write_images():
        counts[number].images = kept
        counts[number].repeats += repeats
    for number, times in staging.marks_without_need():
        counts[number].ignored += times
    for number, mapping, reason, times in staging.refused_annotations():
        count, tally = counts[number], books.tallies[books.annotations[mapping]]
        count.rejects += times
        count.reasons[reason] += times
        tally.refused[reason] += times
        tally.wanted[reason] = CONTRADICTED[reason]
    check_limits(list(books.tallies.values()))
    for number, kept, repeats in staging.write_annotations():
        counts[number].annotations = kept
        counts[number].repeats += repeats
    for count in counts:
        count.check()
    staging.write_subject_map()
    staging.write_rejects([count.source for count in counts])
    subjects = staging.subjects()
    if not subjects:
        raise InputError(
            "no fact of any source became an event or an image.",
            wanted="at least one",
            got="; ".join(_fates(count) for count in counts),
            do="check what ingest.yaml names and wants against the source",
        )
    groups = joined_groups(_by_subject(columns, "group"), together) if together else _by_subject(columns, "group")
    splits = assigned(config.splits, subjects, _by_subject(columns, "value"), groups)
    refuse_parted(together, dict(zip(subjects, splits, strict=True)))
    schema = {"subject_id": pl.Int64, "split": pl.String}
    staging.write("subject_splits", pl.DataFrame({"subject_id": subjects, "split": splits}, schema=schema))
    grouped = {subject: hashed_identifier(group) for subject in subjects if (group := groups.get(subject)) is not None}
    schema = {"subject_id": pl.Int64, "group_id": pl.Int64}
    written = {"subject_id": list(grouped), "group_id": list(grouped.values())}
    staging.write("subject_groups", pl.DataFrame(written, schema=schema))
    staging.write("ingests", _ingests(config, counts, root))
    progress.step("sort and write", 1, 1)
    return IngestSummary(
        study=config.study,
        site=config.site or config.study,
        warehouse=into,
        subjects=len(subjects),
        events=staging.count("events"),
        images=staging.count("images"),
        splits=dict(sorted(Counter(splits).items())),
        sources=counts,
    )


def _fates(count: SourceCount) -> str:
    refused = "".join(f", {times:,} refused as {reason}" for reason, times in count.reasons.most_common())
    return f"{count.source}: {count.missing:,} missing, {count.ignored:,} ignored{refused}"


def _near_copies(config: IngestConfig, books: Books, counts: tuple[SourceCount, ...]) -> list[list[int]]:
    """Refuse rows of near-copies that contradict each other; the subjects of each set of near-copies that is left."""
    limit = config.splits.near_copies
    if limit is None:
        return []
    owner = books.staging.image_subjects()
    copies = books.thumbnails.copies(limit, set(owner))
    doubtful = books.thumbnails.contradictory(copies)
    for number, times in books.staging.refuse_rows_of(doubtful) if doubtful else ():
        counts[number].rejects += times
        counts[number].reasons["contradictory_copy"] += times
    left = set(owner) - set(doubtful)
    sets = [{owner[name] for place in one if (name := books.thumbnails.image_id[place]) in left} for one in copies]
    return [sorted(one) for one in sets if len(one) > 1]


def _by_subject(columns: pl.DataFrame | None, name: str) -> dict[int, str | None]:
    """Text of one of the columns that decide splits, by subject."""
    return {} if columns is None else dict(columns.select(SUBJECT, name).iter_rows())


def _ingests(config: IngestConfig, counts: tuple[SourceCount, ...], root: Path) -> pl.DataFrame:
    moments = {"as_of": config.as_of, "data_until": config.data_until, "ingested_at": datetime.now(UTC)}
    return pl.DataFrame(
        {
            "source": [count.source for count in counts],
            **{name: [getattr(count, name) for count in counts] for name in _COUNTS},
        },
        schema={"source": pl.String, **dict.fromkeys(_COUNTS, pl.Int64)},
    ).with_columns(
        study=pl.lit(config.study),
        site=pl.lit(config.site or config.study),
        image_root=pl.lit(str(root)),
        **{
            name: pl.lit(microseconds(moment), dtype=pl.Int64).cast(pl.Datetime("us"))
            for name, moment in moments.items()
        },
    )


def _refuse_source(into: Path, sources: Sequence[Path]) -> None:
    """Raises: OutputError, when `into` is one of the files that are read."""
    if into.is_file() and any(path.is_file() and path.samefile(into) for path in sources):
        raise OutputError(
            f"{into}: is the source itself; nothing was changed.",
            wanted="another file for the warehouse",
            do="give another --into",
        )


def _refuse_source_folder(into: Path, source: Path) -> None:
    """Raises: OutputError, when the source lies in the folder that would be replaced."""
    if into.exists() and source.resolve().is_relative_to(into.resolve()):
        raise OutputError(
            f"{into}: is the source itself, or holds it; nothing was changed.",
            wanted="another folder for the warehouse",
            do="give another --into",
        )


def _refuse_unless_warehouse(into: Path) -> None:
    """Raises: OutputError, when `into` is there and has not the tables of a warehouse: it is somebody's other data."""
    if not into.exists():
        return
    try:
        with connect_readonly(into, "a warehouse to replace") as connection:
            there = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    except InputError as error:
        raise OutputError(error.what, wanted=error.wanted, got=error.got, do="give another --into") from None
    absent = [name for name in REQUIRED if name not in there]
    if absent:
        raise OutputError(
            f"{into}: is there already and is a DuckDB file, but no warehouse; nothing was changed.",
            wanted=f"a new name, or a file with the tables {', '.join(REQUIRED)} to replace",
            got=f"no table {', '.join(absent)}",
            do="give another --into, or remove that file yourself",
        )


def _refuse_empty(files: list[SourceFile], books: Books, intake: Intake) -> None:
    if not any(books.counts[file.name].rows for file in files):
        raise InputError(
            f"{', '.join(file.name for file in files)}: no rows.",
            wanted=f"at least one row for tables.{intake.table.name} (ingest.yaml)",
            do="check that the export is complete",
        )


def _refuse_unlooked(config: IngestConfig, look: Look | None) -> None:
    """Raises: ConfigError, when the study asks for what is in image files, and nobody opens them."""
    if look is not None:
        return
    asking = [f"folders.{folder.name}" for folder in config.folders]
    asking += [f"tables.{table.name}.images (pixels)" for table in config.tables if any(i.pixels for i in table.images)]
    asking += ["splits.near_copies"] if config.splits.near_copies is not None else []
    if asking:
        raise ConfigError(
            f"ingest.yaml, {', '.join(asking)}: asks for what is in image files, and nobody was given who opens them.",
            wanted="run_ingest(..., look=look), where look is a riskpred.imaging.inspect.FileLook",
            do="write `with FileLook() as look:` around the call, or use `riskpred ingest`, which does",
        )


def _check_zone(config: IngestConfig) -> None:
    try:
        ZoneInfo(config.timezone)
    except (ZoneInfoNotFoundError, ValueError):
        raise ConfigError(
            f"ingest.yaml: timezone {config.timezone} is unknown.",
            wanted="a name of the IANA list, such as Europe/Berlin or UTC",
            do="correct it",
        ) from None


def _default_memory_mb() -> int:
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(4_000, physical // 2_000_000)
