"""The verb `demo`: a simulated hospital through every verb, from source files to pages, and what came of it."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from riskpred.progress import Progress
    from riskpred.records.simulate.dirt import Planted

STUDY: Final = "hospital"
MARKER: Final = ".riskpred-demo"
"""File that says that a folder was made by us, so that running again may replace what is in it."""

PRODUCTS: Final = (
    "warehouse.duckdb",
    "bundle",
    "evaluation.html",
    "scores.duckdb",
    "report",
    "source",
    "truth.parquet",
    "true_contributions.parquet",
    "true_findings.parquet",
)
EXPLAINED: Final = 20
"""Subjects with feature reasons and a page of their own."""
ASKED: Final = 40
"""Held-out people of whose reasons the evaluation asks whether they are true: 200 would take a minute."""


def demo(
    folder: Annotated[Path, typer.Argument(help="Where to put it; made if absent.", metavar="DIR")] = Path(
        "riskpred-demo"
    ),
    subjects: Annotated[
        int | None, typer.Option(help="How many people the hospital has (default 3000).", min=200, metavar="N")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed is another hospital.", min=0, metavar="N")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    """Simulate a hospital and take it through ingest, check, fit, evaluate, score and report.

    Leaves DIR/source/ warehouse.duckdb bundle/ evaluation.html scores.duckdb report/ and, of what is true of these
    people, truth.parquet true_contributions.parquet true_findings.parquet. About two minutes on two cores. Nobody in it
    exists.

    Example: riskpred demo
    """
    from riskpred.cli.demo_summary import as_text
    from riskpred.cli.progress import Shown

    with Shown() as progress:
        summary = run_demo(folder, subjects, seed, progress)
    typer.echo(json.dumps(summary) if as_json else as_text(summary))


def run_demo(folder: Path, subjects: int | None, seed: int, progress: "Progress") -> dict[str, Any]:
    """Run every step; returns the summary as plain data.

    Each step publishes its product whole or not at all, so that an interruption leaves finished products only.

    Raises: OutputError, when `folder` holds something that is not a demo, or cannot be written.
    """
    from riskpred.cli.demo_summary import summarise
    from riskpred.config.night import NightConfig
    from riskpred.config.simulation import load_hospital
    from riskpred.config.study import load_model_config
    from riskpred.evaluate.gather import gather
    from riskpred.evaluate.metrics import metrics
    from riskpred.evaluate.page import page, write_page
    from riskpred.evaluate.reasons import check_reasons, reason_metrics, sampled
    from riskpred.evaluate.reasons import view as reasons_view
    from riskpred.evaluate.record import record
    from riskpred.evaluate.true_reasons import true_reasons
    from riskpred.evaluate.truth import with_truth
    from riskpred.fit.run import fit
    from riskpred.imaging.inspect import FileLook
    from riskpred.records.ingest import run_ingest
    from riskpred.records.inspection import inspect, missed_by
    from riskpred.records.warehouse import Warehouse
    from riskpred.report.write import write_report
    from riskpred.score.run import score

    config = load_hospital()
    number = subjects or config.subjects
    prepare(folder, number, seed)
    warehouse, bundle, scores = folder / "warehouse.duckdb", folder / "bundle", folder / "scores.duckdb"
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(step: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        seconds[step] = round(time.monotonic() - started, 1)

    with timed("simulate"):
        planted = _simulate(folder, number, seed, progress)
    with timed("ingest"), FileLook() as look:
        run_ingest(STUDY, folder / "source", warehouse, progress=progress, look=look)
    with timed("check"), Warehouse.open(warehouse) as opened:
        checked = {**inspect(opened, progress), "missed": missed_by(load_model_config(STUDY), opened, progress)}
    with timed("fit"):
        model = fit(STUDY, warehouse, bundle, seed=seed, progress=progress)
    with timed("evaluate"):
        with Warehouse.open(warehouse) as opened:
            gathered, site = gather(model, opened, None, progress, single_modalities=True), opened.site
            batch = sampled(model, opened, gathered, ASKED, seed)
        evaluated = with_truth(gathered, folder / "truth.parquet")
        rows = metrics(evaluated, seed=seed, progress=progress)
        record(model, gathered, rows, site, seed)
        extra = {}
        if batch is not None:  # a demo of very few people may hold nobody out who has an input
            checked_reasons, own = check_reasons(model, batch, seed, progress)
            truths, lacking = true_reasons(model, batch, own, folder)
            told = reason_metrics(gathered, checked_reasons, truths, seed)
            extra["reasons"] = reasons_view(checked_reasons, told, gathered, lacking)
        write_page(page(evaluated, rows, extra=extra), folder / "evaluation.html")
    with timed("score"):
        # Forced: a demo of few people shows its pages, too; the ledger says whether the evaluation was passed.
        score(warehouse, bundle, scores, settings=NightConfig(explain=EXPLAINED), force=True, progress=progress)
    with timed("report"):
        report = write_report(scores, folder / "report", progress=progress)
    return summarise(folder, number, seed, planted, checked, rows, report.index, seconds)


def prepare(folder: Path, subjects: int, seed: int) -> None:
    """Make the folder, or empty it of an earlier demo's products.

    Raises: OutputError: it is a file, holds something but no demo, or cannot be written.
    """
    from riskpred.errors import OutputError

    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file.", wanted="a folder for the demo", do="give another DIR")
    marker = folder / MARKER
    if folder.is_dir() and any(folder.iterdir()) and not marker.is_file():
        raise OutputError(
            f"{folder}: is not empty, and no demo made it.",
            wanted="a new or empty folder, or that of an earlier demo",
            do="give another DIR",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        marker.write_text(json.dumps({"subjects": subjects, "seed": seed}) + "\n", encoding="utf-8")
        for name in PRODUCTS:
            _remove(folder / name)
        for left in (*folder.glob(".simulating-*"), *folder.glob(".scores.duckdb.*")):
            _remove(left)  # of an interrupted demo; what encoders said of its images
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written.", got=type(error).__name__, do="correct its permissions, or give another DIR"
        ) from None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _simulate(folder: Path, subjects: int, seed: int, progress: "Progress") -> "tuple[Planted, ...]":
    """Source and truth, written beside their place and moved in when whole."""
    from riskpred.config.simulation import load_hospital
    from riskpred.records.simulate.hospital import simulate, write_truth
    from riskpred.records.simulate.true_tables import (
        TRUE_CONTRIBUTIONS,
        TRUE_FINDINGS,
        write_contributions,
        write_findings,
    )

    staging = folder / f".simulating-{os.getpid()}"
    try:
        (staging / "source").mkdir(parents=True)
        config = load_hospital()
        simulated = simulate(staging / "source", config, subjects, seed, progress)
        write_truth(staging / "truth.parquet", config, simulated.population)
        write_contributions(staging / TRUE_CONTRIBUTIONS, config, simulated.population)
        write_findings(staging / TRUE_FINDINGS, simulated)
        for name in ("source", "truth.parquet", TRUE_CONTRIBUTIONS, TRUE_FINDINGS):
            os.replace(staging / name, folder / name)
    finally:
        _remove(staging)
    return simulated.planted
