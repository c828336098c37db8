"""The verbs `studies`, `ingest`, `check`: what can be read, reading it, and looking at what was read."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from riskpred.records.ingest import IngestSummary


def studies(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the packaged studies, what each needs, where its owner gives the data, and the command that takes it in.

    Example: riskpred studies
    """
    from riskpred.config.study import load_about, packaged_studies

    found = {name: load_about(name) for name in packaged_studies()}
    if as_json:
        typer.echo(json.dumps({"studies": {name: about.model_dump(mode="json") for name, about in found.items()}}))
        return
    for name, about in found.items():
        typer.echo(f"{name}\n  {about.title}")
        typer.echo(f"  needs    {about.needs}\n  source   {about.source}\n  licence  {about.licence}")
        for caution in about.cautions:
            typer.echo(f"  caution  {caution}")
        typer.echo(f"  run      riskpred ingest {name} --from SOURCE --into {name}.duckdb")
        typer.echo("")


def ingest(
    study: Annotated[str, typer.Argument(help="Packaged study, or a folder with ingest.yaml.", metavar="STUDY")],
    source: Annotated[
        Path, typer.Option("--from", help="Folder of the source files, or a DuckDB file.", metavar="SOURCE")
    ],
    into: Annotated[
        str,
        typer.Option(
            help="DuckDB file to make, or to replace whole; a folder of MEDS Parquet shards where the name ends in /,"
            " is a folder already, or --shards is given.",
            metavar="WAREHOUSE",
        ),
    ],
    shards: Annotated[
        int | None, typer.Option(help="How many shards; default: one per 5 million events.", metavar="N")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Read the study's source files into a warehouse; bad rows become rejects, and every fact is accounted for.

    The warehouse is replaced whole or not at all. A code of which more rows are refused than ingest.yaml allows
    (default 5 %) stops everything with exit code 11.

    A folder of shards is what `riskpred score --engine ray` reads: data/*.parquet and metadata/ as MEDS has them, each
    person in one file.

    Example: riskpred ingest nafld --from data/nafld --into nafld.duckdb
    """
    from riskpred.cli.progress import Shown
    from riskpred.errors import UsageError
    from riskpred.imaging.inspect import FileLook
    from riskpred.records.ingest import run_ingest

    if shards is not None and shards < 1:
        raise UsageError(f"--shards {shards}: no such number of shards.", wanted="1 or more", do="correct it")
    with Shown() as progress, FileLook() as look:
        folder = into.endswith("/")
        summary = run_ingest(study, source, Path(into), progress, look=look, folder=folder, shards=shards)
    typer.echo(json.dumps(summary.to_json()) if as_json else _ingest_table(summary))


def check(
    warehouse: Annotated[
        Path, typer.Argument(help="DuckDB file with MEDS tables, or folder of MEDS shards.", metavar="WAREHOUSE")
    ],
    study: Annotated[
        str | None, typer.Option(help="Also say what a model of this study would miss.", metavar="STUDY")
    ] = None,
    image_root: Annotated[
        Path | None, typer.Option(help="Folder that image paths are relative to.", metavar="DIR")
    ] = None,
    images: Annotated[
        bool, typer.Option("--images", help="Write a page of images before and after every preparation step.")
    ] = False,
    into: Annotated[
        Path, typer.Option(help="With --images: the page to write, or a folder for it.", metavar="FILE.html")
    ] = Path("images.html"),
    sample: Annotated[int, typer.Option(help="With --images: so many of each type, always the same ones.")] = 6,
    names: Annotated[
        bool, typer.Option("--names", help="With --images: subject_id and file name stand under each image.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what is in a warehouse, what is wrong with it, and what a study's model would miss.

    With --images: a page of what the study's preparation (else that of each image type) makes of some images instead.

    Exit code 0 whatever it finds, as long as the file can be read.

    Example: riskpred check nafld.duckdb --study nafld
    """
    if images:
        _check_images(warehouse, study, image_root, into, sample, names, as_json)
        return
    from riskpred.cli.progress import Shown
    from riskpred.config.study import load_model_config
    from riskpred.config.words import without_words
    from riskpred.records.inspection import inspect, missed_by
    from riskpred.records.warehouse import Warehouse

    config = None if study is None else load_model_config(study)
    with Shown() as progress, Warehouse.open(warehouse, image_root) as opened:
        found = inspect(opened, progress)
        missed = None if config is None else missed_by(config, opened, progress)
    if config is not None and missed is not None:
        missed["without_words"] = list(without_words(config.features, config.words))
    if as_json:
        typer.echo(json.dumps({**found, "missed": missed}))
        return
    typer.echo(_check_text(found))
    if missed is not None:
        typer.echo(_missed_text(missed))


def _check_images(
    warehouse: Path, study: str | None, image_root: Path | None, into: Path, sample: int, names: bool, as_json: bool
) -> None:
    from riskpred.cli.progress import Shown
    from riskpred.config.study import load_model_config
    from riskpred.errors import UsageError
    from riskpred.evaluate.in_place import in_its_place, refuse_place
    from riskpred.imaging.contact_sheet import contact_sheet, page, readings
    from riskpred.records.warehouse import Warehouse

    if sample < 1:
        raise UsageError(f"--sample {sample}: no such number of images.", wanted="1 or more", do="correct it")
    into = into / "images.html" if into.is_dir() else into
    refuse_place(into, "--into", ".html")
    config = None if study is None else load_model_config(study)
    with Shown() as progress, Warehouse.open(warehouse, image_root) as opened:
        sheet = contact_sheet(opened, readings(config, opened), sample, names, progress)
        with in_its_place(into, "--into") as beside:
            beside.write_text(page(sheet), encoding="utf-8")
    sections = sheet["sections"]
    counts = [
        {"reading": one["title"], "images": one["count"], "tried": one["tried"], "shown": len(one["images"])}
        | {"problems": {reason: times for reason, _, times in one["problems"]}}
        for one in sections
    ]
    if as_json:
        typer.echo(json.dumps({"page": str(into), "readings": counts}))
        return
    rows = [
        [one["reading"], one["images"], one["tried"], one["shown"], sum(one["problems"].values())] for one in counts
    ]
    typer.echo("\n".join(_aligned(("reading", "images", "tried", "shown", "not usable"), rows)))
    reasons = [[one["title"], reason, wanted, times] for one in sections for reason, wanted, times in one["problems"]]
    if reasons:
        typer.echo("\n".join(["", *_aligned(("reading", "reason", "wanted", "images"), reasons)]))
    typer.echo(f"\n{into}" if rows else f"{into}: no images that anything asks for")


def _ingest_table(summary: "IngestSummary") -> str:
    marked = ("annotations",) if any(count.annotations for count in summary.sources) else ()
    header = ("source", "rows", "facts", "events", "images", *marked, "rejects", "missing", "repeats", "ignored")
    rows = [[getattr(count, name) for name in header] for count in summary.sources]
    if len(rows) > 1:
        rows.append(["all", *(sum(column) for column in list(zip(*rows, strict=True))[1:])])
    splits = ", ".join(f"{name} {count:,}" for name, count in summary.splits.items())
    lines = [
        f"{summary.warehouse}: {summary.subjects:,} subjects ({splits}), {summary.events:,} events,"
        f" {summary.images:,} images",
        "",
        *_aligned(header, rows),
    ]
    if summary.merged_subjects:
        lines += [
            "",
            f"{summary.merged_subjects:,} identifiers merged into others, {summary.merged_rows:,} rows moved:"
            " SELECT * FROM subject_merges",
        ]
    reasons = [
        [count.source, reason, times] for count in summary.sources for reason, times in count.reasons.most_common(5)
    ]
    if reasons:
        lines += ["", *_aligned(("source", "reject reason", "facts"), reasons)]
        lines += ["", "Each with its row: SELECT source, row_key, field, reason, wanted FROM rejects"]
    return "\n".join(lines)


def _check_text(found: dict[str, Any]) -> str:
    from riskpred.records.inspection import MEANINGS

    splits = ", ".join(f"{name} {count:,}" for name, count in found["splits"].items()) or "no splits"
    images = ", ".join(f"{count:,} {kind}" for kind, count in found["images"].items()) or "none"
    lines = [
        f"{found['warehouse']}: site {found['site']}, study {found['study'] or 'not named'}",
        f"  subjects    {found['subjects']:,} ({splits})",
        f"  events      {found['events']:,}, until {found['data_until'] or 'no dated event'}",
        f"  images      {images}",
        f"  as of       {found['as_of'] or 'not set: score takes today'}",
        "",
    ]
    rows = [
        [
            item["code"],
            item["events"],
            item["subjects"],
            f"{100 * item['share']:.1f} %",
            ", ".join(item["units"]),
            (item["first"] or "static")[:10],
            (item["last"] or "static")[:10],
        ]
        for item in found["codes"]
    ]
    lines += _aligned(("code", "events", "subjects", "share", "unit", "first", "last"), rows)
    lines += _image_lines(found["image_types"])
    lines += ["", "What is wrong:"]
    lines += [f"  {count:,} {MEANINGS[name]}" for name, count in found["problems"].items()] or ["  nothing found"]
    if found["rejects"]:
        keys = ("source", "field", "reason", "wanted", "facts")
        lines += ["", "Refused by the ingest:"]
        lines += _aligned(keys, [[item[key] for key in keys] for item in found["rejects"][:20]])
    return "\n".join(lines)


def _image_lines(types: list[dict[str, Any]]) -> list[str]:
    """A table of what image files say of themselves; nothing where there are no images."""
    if not types:
        return []

    def counted(parts: dict[str, int]) -> str:
        said = [f"{name} {count:,}" for name, count in list(parts.items())[:4] if name != "not said"]
        return ", ".join(said) + (", ..." if len(parts) > 4 else "") or "not said"

    def between(ends: list[float | None]) -> str:
        low, high = ends
        if low is None or high is None:
            return "not said"
        return f"{low:g}" if low == high else f"{low:g} to {high:g}"

    rows = [
        [
            item["image_type"],
            item["images"],
            item["subjects"],
            counted(item["body_parts"]),
            counted(item["views"]),
            counted(item["lateralities"]),
            between(item["frames"]),
            between(item["spacing_mm"]),
            between(item["slice_spacing_mm"]),
            item["annotated"] if item["annotated"] is not None else "no table",
            (item["first"] or "static")[:10],
            (item["last"] or "static")[:10],
        ]
        for item in types
    ]
    header = (
        "images",
        "files",
        "subjects",
        "body part",
        "view",
        "side",
        "frames",
        "mm a pixel",
        "mm a slice",
        "annotated",
        "first",
        "last",
    )
    return ["", *_aligned(header, rows)]


def _missed_text(missed: dict[str, Any]) -> str:
    lines = ["", f"What a model of {missed['study']} would miss:"]
    labels = {
        "required": "required: `fit` and `score` refuse this warehouse",
        "optional": "optional: counted as missing for everyone",
        "cohort": "named in outcomes.yaml",
        "images": "image types, none of them there",
    }
    lines += [f"  {', '.join(missed[key])}  ({text})" for key, text in labels.items() if missed[key]] or ["  nothing"]
    if missed["without_words"]:
        named = ", ".join(missed["without_words"])
        lines += [f"  words for {named}  (words.yaml: reports make names from these codes)"]
    lines += ["", f"{missed['rows']:,} prediction rows; events over the whole follow-up:"]
    rows = [[name, counts["eligible"], counts["events"]] for name, counts in missed["outcomes"].items()]
    return "\n".join([*lines, *_aligned(("outcome", "eligible", "events"), rows)])


def _aligned(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Columns with a header; numbers to the right, with thousands separators."""
    texts = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    right = [bool(rows) and isinstance(rows[0][i], int) for i in range(len(header))]
    widths = [max(len(row[i]) for row in [list(header), *texts]) for i in range(len(header))]
    return [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in [list(header), *texts]
    ]
