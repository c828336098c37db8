"""Takes in images found in a folder, or named by a DICOMDIR: each single image or series becomes a row of `images`."""

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

import polars as pl

from riskpred.config.ingest import ROW, IngestConfig, SourceTable
from riskpred.config.ingest_images import ImageFolder, WantedImages
from riskpred.errors import ConfigError, InputError
from riskpred.records.ingest.account import Tally
from riskpred.records.ingest.identifiers import SOURCE_ID, SUBJECT, hashed_uid, with_subject
from riskpred.records.ingest.images import (
    ABOUT,
    IMAGE_TYPES,
    LABEL,
    THUMBNAIL,
    WANTED,
    WOULD_DO,
    Files,
    content_of,
    described,
)
from riskpred.records.ingest.intake import KEY, Books, Lookups, keep_images, refuse_images
from riskpred.records.ingest.look import Asked, Header, Seen
from riskpred.records.ingest.mapping import STATUS
from riskpred.records.ingest.merges import OWN
from riskpred.records.ingest.sources import source_files
from riskpred.records.ingest.times import parsed
from riskpred.records.ingest.values import text_of

_NOT_WANTED: Final = ("unwanted_image_type", "unwanted_body_part", "unwanted_view", "unwanted_laterality")
"""Reasons that a choice of ingest.yaml makes, not a defect of the export: the limit does not count them."""

_LOST: Final = Header("image", ("unreadable", "a DICOM file, as the DICOMDIR says"))

Problem = tuple[str, str] | None


@dataclass(frozen=True)
class _Item:
    """One image to be: `path` is a file, or the folder of a series.   identifier: of its person, in the source.

    members: the series' files, where the folder holds others too.
    """

    path: str
    header: Header
    image_id: str
    identifier: str | None
    time: str | None
    problem: Problem
    members: tuple[str, ...] | None = None

    @property
    def series(self) -> str | None:
        """Which series of the folder."""
        return None if self.members is None else self.header.series_uid


def take_folder(folder: ImageFolder, config: IngestConfig, books: Books, lookups: Lookups, files: Files) -> None:
    """Look at all its files and stage what belongs. Raises: InputError: nothing there, a map or table not readable."""
    assert files.look is not None, "folders are opened by somebody"
    for kind in {*folder.wanted, *([folder.image_type] if folder.image_type else [])} - set(IMAGE_TYPES):
        raise ConfigError(
            f"ingest.yaml, folders.{folder.name}: image type {kind} is unknown.",
            wanted=", ".join(IMAGE_TYPES),
            do="correct it",
        )
    where = f"ingest.yaml, folders.{folder.name}"
    people, times = _map(folder, files.root), _times(folder, files.root)
    paths, named = _paths(folder, files)
    headers = list(files.look.headers(files.root, paths, f"look at {folder.path}", files.progress))
    headers = [_LOST if path in named and one.form == "none" else one for path, one in zip(paths, headers, strict=True)]
    items, no_images = _items(folder, files.root, paths, headers, people, times)
    book = books.source(folder.path)
    book.count.rows += len(paths)
    book.count.facts += len(items) + no_images
    book.count.ignored += no_images
    facts = _facts(folder, config, lookups, files, items)
    again = facts.filter(pl.col(STATUS) == "repeat").height
    book.count.repeats += again
    facts = facts.filter(pl.col(STATUS).is_null() | (pl.col(STATUS) != "repeat"))
    identified = facts.filter(pl.col(OWN).is_not_null() & pl.col(STATUS).is_null())
    book.staging.add("identifier", identified.select(subject_id=OWN, source_id=SOURCE_ID).unique())
    books.images.append(where)
    keep_images(facts, len(books.images) - 1, book, books)
    chosen = pl.col(STATUS).is_in(_NOT_WANTED).fill_null(False)
    for rows, place, allowed in ((facts.filter(~chosen), where, folder.allow_rejects), (facts.filter(chosen), "", 1.0)):
        tally = books.tallies.setdefault(place or f"{where}.wanted", Tally(folder.path, "image", where, allowed))
        if rows.height:
            refuse_images(rows, tally, "image", book)


def _paths(folder: ImageFolder, files: Files) -> tuple[list[str], set[str]]:
    """Files to look at, sorted, and which of them a DICOMDIR names."""
    assert files.look is not None
    found: set[str] = set()
    named: set[str] = set()
    for place in sorted(files.root.glob(folder.path)):
        if place.is_dir():
            found |= {one.relative_to(files.root).as_posix() for one in place.glob(folder.files) if one.is_file()}
        else:
            named |= set(files.look.directory(files.root, place.relative_to(files.root).as_posix()))
    if not found and not named:
        raise InputError(
            f"{folder.path}: no folder or DICOMDIR with files.",
            wanted=f"the images of folders.{folder.name} (ingest.yaml)",
            do="put them there, or correct --from",
        )
    return sorted(found | named), named


def _table(where: str, file: str, table: str | None, columns: Sequence[str], root: Path) -> pl.DataFrame:
    """The columns as text."""
    source = SourceTable(name=where, file=file, table=table)
    parts = [frame for one in source_files(root, source, columns) for frame in one.batches(columns)]
    if not parts:
        return pl.DataFrame(schema=dict.fromkeys(columns, pl.String))
    rows = pl.concat(parts)
    return rows.select(text_of(column, rows.schema[column]).alias(column) for column in columns)


def _map(folder: ImageFolder, root: Path) -> dict[str, str] | None:
    if (given := folder.subject_map) is None:
        return None
    rows = _table(folder.name, given.file, given.table, [given.identifier, given.subject], root).drop_nulls().unique()
    if rows[given.identifier].n_unique() < rows.height:
        raise InputError(
            f"{given.file}: an identifier of files stands for several people.",
            wanted=f"one {given.subject} per {given.identifier} (ingest.yaml, folders.{folder.name}.subject_map)",
            do="correct the map",
        )
    return dict(rows.select(given.identifier, given.subject).iter_rows())


def _times(folder: ImageFolder, root: Path) -> dict[str, str]:
    if (given := folder.time.table) is None:
        return {}
    rows = _table(folder.name, given.file, given.table, [given.image, given.column], root).drop_nulls().unique()
    if rows[given.image].n_unique() < rows.height:
        raise InputError(
            f"{given.file}: an image has several times.",
            wanted=f"one {given.column} per {given.image}",
            do="correct it",
        )
    return dict(rows.select(given.image, given.column).iter_rows())


def _items(
    folder: ImageFolder,
    root: Path,
    paths: Sequence[str],
    headers: Sequence[Header],
    people: dict[str, str] | None,
    times: dict[str, str],
) -> tuple[list[_Item], int]:
    """Images to be, in order of their paths, and how many files are no images."""
    series: dict[tuple[str, str], list[tuple[str, Header]]] = defaultdict(list)
    single: list[tuple[str, Header, Problem, tuple[str, ...] | None]] = []
    no_images = 0
    for path, header in zip(paths, headers, strict=True):
        parent = PurePosixPath(path).parent.as_posix()
        if header.form == "none":
            no_images += 1
            continue
        if header.slice_of_volume and header.series_uid is not None and header.problem is None:
            series[parent, header.series_uid].append((path, header))
        else:
            single.append((path, header, header.problem, None))
    for (parent, _), members in series.items():
        if len(members) == 1:
            single.append((*members[0], None, None))
            continue
        # What was known when the last slice was made; who differs within a series is nobody.
        late = {kind: max(h.times[kind] for _, h in members if kind in h.times) for kind in members[0][1].times}
        same = len({h.patient_id for _, h in members}) == 1
        first = members[0][1]
        whole = replace(first, times=late, frames=len(members), patient_id=first.patient_id if same else None)
        own = tuple(path for path, _ in members)
        alone = {PurePosixPath(path).name for path in own} == set(os.listdir(root / parent))
        nameless = ("series_in_root", "a series in a folder below SOURCE") if parent == "." else None
        single.append((parent, whole, nameless, None if alone else own))
    made = [
        _item(folder, *one, people, times) for one in sorted(single, key=lambda one: (one[0], one[1].series_uid or ""))
    ]
    return made, no_images


def _item(
    folder: ImageFolder,
    path: str,
    header: Header,
    problem: Problem,
    members: tuple[str, ...] | None,
    people: dict[str, str] | None,
    times: dict[str, str],
) -> _Item:
    named = {}
    if folder.pattern is not None and (match := re.search(folder.pattern, path)) is not None:
        named = {name: text for name, text in match.groupdict().items() if text}
    said: dict[str, Any] = {name: named[name].upper() for name in ("body_part", "view", "laterality") if name in named}
    header = replace(header, **said, image_type=header.image_type or named.get("image_type") or folder.image_type)
    identifier = header.patient_id if folder.subject == "PatientID" else named.get("subject")
    if people is not None:
        identifier = people.get(identifier or "")
    time = named.get("time")
    if folder.time.tags is not None:
        time = next((header.times[kind] for kind in folder.time.tags if kind in header.times), None)
    elif (table := folder.time.table) is not None:
        name = PurePosixPath(path).name
        key = {"path": path, "name": name, "stem": name.split(".")[0]}[table.match]
        time = times.get(key)
    uid = header.series_uid if header.slice_of_volume and (header.frames or 1) > 1 else header.image_uid
    image_id = named.get("image_id") or uid or hashed_uid(path)
    return _Item(path, header, image_id, identifier, time, problem or _unwanted(folder, header), members)


def _unwanted(folder: ImageFolder, header: Header) -> Problem:
    kinds = tuple(folder.wanted) or IMAGE_TYPES
    if header.image_type not in kinds:
        return "unwanted_image_type", ", ".join(kinds)
    wanted = folder.wanted.get(header.image_type, WantedImages())
    for name, value, choice in (
        ("body_part", header.body_part, wanted.body_parts),
        ("view", header.view, wanted.views),
        ("laterality", header.laterality, wanted.lateralities),
    ):
        if choice and value not in choice and not (value is None and wanted.unsaid == "accept"):
            return f"unwanted_{name}", ", ".join(choice)
    if folder.burned_in == "refuse" and header.burned_in in ("yes", "likely"):
        return "burned_in_annotation", "pixels without text in them, and a file that says so; or burned_in: allow"
    return None


def _facts(
    folder: ImageFolder, config: IngestConfig, lookups: Lookups, files: Files, items: Sequence[_Item]
) -> pl.DataFrame:
    """As images.apply_images, with KEY."""
    assert files.look is not None
    rows = pl.DataFrame(
        {
            ROW: range(1, len(items) + 1),
            KEY: [item.path for item in items],
            "identifier": [item.identifier for item in items],
            "when": [item.time for item in items],
        },
        schema={ROW: pl.Int64, KEY: pl.String, "identifier": pl.String, "when": pl.String},
    )
    rows = lookups.merges.applied(with_subject(rows, "identifier"))
    format = folder.time.pattern or (folder.time.table.format if folder.time.table is not None else None)
    rows = rows.with_columns(parsed("when", pl.String(), format, config.timezone, late=False).alias("time"))
    problems: list[Problem] = []
    for item, subject, time in zip(items, rows[SUBJECT], rows["time"], strict=True):
        problem = item.problem
        if problem is None and subject is None:
            problem = "no_subject", "a person whom the subject map or the pattern names"
        elif problem is None and folder.time.static is None and time is None:
            problem = ("no_time" if item.time is None else "not_a_time"), WANTED["no_time"]
        problems.append(problem)
    asked = [
        Asked(item.path, item.header.image_type, item.header.body_part, item.header.view, folder.checks, item.series)
        for item, problem in zip(items, problems, strict=True)
        if problem is None
    ]
    looked = iter(files.look.pixels(files.root, asked, f"pixels of {folder.path}", files.progress))
    seen: list[Seen | None] = [next(looked) if problem is None else None for problem in problems]
    kept: set[tuple[str, str | None]] = set()
    status, would_do = list[str | None](), list[str | None]()
    for item, problem, pixels in zip(items, problems, seen, strict=True):
        problem = problem or (pixels.problem if pixels is not None else None)
        if problem is None and pixels is not None:
            # The same image under another name is told once.
            if (item.image_id, pixels.digest) in kept:
                problem = "repeat", ""
            kept.add((item.image_id, pixels.digest))
        status.append(problem[0] if problem else None)
        would_do.append(problem[1] if problem else None)
    about = [
        {**described(item.header, pixels), THUMBNAIL: pixels and pixels.thumbnail}
        for item, pixels in zip(items, seen, strict=True)
    ]
    content = [_content(item, files.root) if s is None else None for item, s in zip(items, status, strict=True)]
    return rows.drop("identifier", "when").with_columns(
        pl.Series(STATUS, status, dtype=pl.String),
        pl.Series(WOULD_DO, would_do, dtype=pl.String),
        pl.Series("image_id", [item.image_id for item in items], dtype=pl.String),
        pl.Series("image_type", [item.header.image_type for item in items], dtype=pl.String),
        pl.Series("path", [item.path for item in items], dtype=pl.String),
        pl.Series("series", [item.series for item in items], dtype=pl.String),
        pl.Series("sha256", content, dtype=pl.String),
        pl.lit(None, dtype=pl.String).alias(LABEL),
        *pl.DataFrame(about, schema={**ABOUT, THUMBNAIL: pl.Binary}).get_columns(),
    )


def _content(item: _Item, root: Path) -> str | None:
    return content_of(root / item.path, None if item.members is None else [root / one for one in item.members])
