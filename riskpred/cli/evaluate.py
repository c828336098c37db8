"""The verb `evaluate`: what a bundle is worth on people it never saw, beside its peer."""

import json
from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="Bundle written by `riskpred fit`.", metavar="BUNDLE")],
    warehouse: Annotated[Path, typer.Argument(help="DuckDB file with validated MEDS tables.", metavar="WAREHOUSE")],
    split: Annotated[
        str | None,
        typer.Option(
            help="A split of the warehouse, or everyone, out_of_fold, cross_validation. Default: held_out; where there "
            "is none, the cross-validation that the bundle keeps.",
            metavar="NAME",
        ),
    ] = None,
    into: Annotated[
        Path | None, typer.Option(help="Also write a self-contained HTML page.", metavar="FILE.html")
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(help="truth.parquet of a simulated hospital, to compare with.", metavar="FILE"),
    ] = None,
    modalities: Annotated[
        bool, typer.Option("--modalities", help="Also each modality alone (always done with --truth).")
    ] = False,
    image_root: Annotated[Path | None, typer.Option(help="Folder of the image files.", metavar="DIR")] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap and of the simulated floor.", metavar="N")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help='Print {"metrics": [...]}, unrounded, on stdout.')] = False,
) -> None:
    """Discrimination, accuracy and calibration with 90 % intervals, by outcome, horizon and what was there.

    Refuses a split that holds people the bundle was trained on (exit 12).

    Example: riskpred evaluate bundle/ warehouse.duckdb --into evaluation.html
    """
    from riskpred.cli.progress import Shown
    from riskpred.evaluate.gather import gather
    from riskpred.evaluate.metrics import metrics
    from riskpred.evaluate.page import page, write_page
    from riskpred.evaluate.summary import summarise, text_table
    from riskpred.evaluate.truth import with_truth
    from riskpred.model.bundle import load_bundle
    from riskpred.records.warehouse import Warehouse

    model = load_bundle(bundle)
    with Shown() as progress:
        with Warehouse.open(warehouse, image_root) as opened:
            alone = modalities or truth is not None
            evaluated = gather(model, opened, split, progress, single_modalities=alone)
        if truth is not None:
            evaluated = with_truth(evaluated, truth)
        rows = metrics(evaluated, seed=seed, progress=progress)
    if into is not None:
        write_page(page(evaluated, rows), into)
    if as_json:
        typer.echo(json.dumps({"metrics": rows}, ensure_ascii=False, allow_nan=False))
    else:
        typer.echo(text_table(summarise(evaluated, rows)))
