"""The verb `monitor`: what came true of published risks, and what drifts."""

import json
from pathlib import Path
from typing import Annotated

import typer


def monitor(
    scores: Annotated[Path, typer.Argument(help="Scores file published by `riskpred score`.", metavar="SCORES")],
    warehouse: Annotated[
        Path, typer.Argument(help="The hospital's warehouse as it is today: what followed.", metavar="WAREHOUSE")
    ],
    into: Annotated[
        Path | None, typer.Option(help="Also write a self-contained HTML page.", metavar="FILE.html")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="The bundle of the nights, where the ledger does not say what their outcomes are (scored by an older "
            "release).",
            metavar="BUNDLE",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.", metavar="N")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print all numbers, unrounded, as one JSON object.")] = False,
) -> None:
    """Set published risks beside what followed, by outcome and horizon, once the data reach the horizon; list drift.

    Each risk counts once per person and prediction time, however many nights carried it. Horizons that the data do not
    reach yet are named with the day they will. Drift is that of the newest night, with its course over the last 7.

    Example: riskpred monitor scores.duckdb warehouse.duckdb --into monitor.html
    """
    from riskpred.cli.progress import Shown
    from riskpred.evaluate.in_place import refuse_place
    from riskpred.evaluate.page import write_page
    from riskpred.score.monitor_report import monitor as look
    from riskpred.score.monitor_report import page, text

    if into is not None:
        refuse_place(into, "--into", ".html")
    with Shown() as progress:
        found = look(scores, warehouse, model, pictures=into is not None, seed=seed, progress=progress)
    if into is not None:
        write_page(page(found), into)
        typer.echo(f"{into}: written.", err=True)
    for row in (row for one in found["models"] for row in one["matured"]):
        row.pop("picture", None)
    typer.echo(json.dumps(found) if as_json else text(found))
