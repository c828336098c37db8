"""The verb `evaluate`: what a bundle is worth on people it never saw, beside its peer and any other model."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from riskpred.evaluate.metrics import Metric

NO_INPUTS: Final = (
    "whether the reasons are true was not asked: a bundle keeps no inputs of its own predictions, only a split of the "
    "warehouse has them"
)


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
    against: Annotated[
        list[Path] | None,
        typer.Option(
            help="Another bundle, or a table of predictions (Parquet or CSV: subject_id, outcome, horizon_years, risk "
            "or predicted_boolean_probability; prediction_time, model) to compare on the same rows; repeatable.",
            metavar="OTHER",
        ),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help="Also write every risk with what followed, for meds-evaluation.", metavar="FILE.parquet"),
    ] = None,
    external: Annotated[
        bool,
        typer.Option(
            "--external",
            help="How these people differ from those in training, and what recalibration would change (always done "
            "on a warehouse of another site).",
        ),
    ] = False,
    truth: Annotated[
        Path | None,
        typer.Option(help="truth.parquet of a simulated hospital, to compare with.", metavar="FILE"),
    ] = None,
    modalities: Annotated[
        bool, typer.Option("--modalities", help="Also each modality alone (always done with --truth).")
    ] = False,
    faithfulness: Annotated[
        int | None,
        typer.Option(
            help="Rows on whose reasons it is asked whether they are true of the model; 0 = none. [default: 200]",
            min=0,
            metavar="N",
        ),
    ] = None,
    image_root: Annotated[Path | None, typer.Option(help="Folder of the image files.", metavar="DIR")] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap and of the simulated floor.", metavar="N")] = 1,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help='Print {"metrics": [...]}, unrounded, on stdout; also "reasons": {...} (rejected or not, rows, '
            'seconds), "site": {...} on another site, and "notes" and "left_out" (by outcome and reason) beside '
            "another model.",
        ),
    ] = False,
) -> None:
    """Discrimination, accuracy and calibration with 90 % intervals, by outcome, horizon and what was there; and whether
    the reasons are true.

    Refuses a split that holds people the bundle, or a bundle it is compared with, was trained on (exit 12). Keeps its
    figures in BUNDLE/evaluation.json, by which `riskpred score` judges whether the bundle may publish risks.

    Example: riskpred evaluate bundle/ warehouse.duckdb --against last-year/ --into evaluation.html
    """
    from riskpred.cli.progress import Shown
    from riskpred.evaluate.against import measured, refuse_unreadable, with_others
    from riskpred.evaluate.findings import findings_text, findings_view
    from riskpred.evaluate.gather import gather
    from riskpred.evaluate.in_place import refuse_place
    from riskpred.evaluate.marked import split_findings
    from riskpred.evaluate.page import page, write_page
    from riskpred.evaluate.predictions import refuse_other_table, write_predictions
    from riskpred.evaluate.reasons import SAMPLED, check_reasons, reason_metrics, sampled
    from riskpred.evaluate.reasons import text_of as reasons_text
    from riskpred.evaluate.reasons import view as reasons_view
    from riskpred.evaluate.record import record
    from riskpred.evaluate.summary import summarise, text_table
    from riskpred.evaluate.transport import compare_site, is_external, text_of, view
    from riskpred.evaluate.true_reasons import true_reasons
    from riskpred.evaluate.truth import with_truth
    from riskpred.fit.recalibrate_site import trial
    from riskpred.model.bundle import load_bundle
    from riskpred.records.warehouse import Warehouse

    for file, option, suffix in ((into, "--into", ".html"), (predictions, "--predictions", ".parquet")):
        if file is not None:
            refuse_place(file, option, suffix)
    if predictions is not None:
        refuse_other_table(predictions)
    refuse_unreadable(against or ())
    model = load_bundle(bundle)
    site: dict[str, Any] | None = None
    with Shown() as progress:
        with Warehouse.open(warehouse, image_root) as opened:
            alone = modalities or truth is not None
            gathered, here = gather(model, opened, split, progress, single_modalities=alone), opened.site
            evaluated = with_others(model, gathered, opened, against or (), progress)
            kept = evaluated.prediction_time is None  # the bundle's own people: of no other site
            if external or (is_external(model, opened) and not kept):
                site = compare_site(model, evaluated, opened, seed, progress)
                site["recalibration"] = trial(model, evaluated, opened, seed, progress)
            asked = SAMPLED if faithfulness is None else faithfulness
            shown = split_findings(model, opened, gathered, progress)
            batch = sampled(model, opened, gathered, asked, seed) if asked else None
        if truth is not None:
            evaluated = with_truth(evaluated, truth)
        judged, rows = measured(evaluated, seed=seed, progress=progress)
        reasons: dict[str, Any] | None = None
        told: list[Metric] = []
        if batch is not None:
            checked, own = check_reasons(model, batch, seed, progress)
            truths, lacking = true_reasons(model, batch, own, truth.parent) if truth is not None else ([], [])
            told = reason_metrics(gathered, checked, truths, seed)
            reasons = reasons_view(checked, told, gathered, lacking)
        elif asked:
            evaluated = replace(evaluated, notes=(*evaluated.notes, NO_INPUTS))
            judged = replace(judged, notes=(*judged.notes, NO_INPUTS))
    typer.echo(record(model, gathered, rows, here, seed), err=True)
    if predictions is not None:
        write_predictions(evaluated, predictions)
    titled = "Findings against what people marked"
    extra: dict[str, Any] = {"findings": findings_view(shown, titled)} if shown else {}
    extra |= ({"site": view(site)} if site else {}) | ({"reasons": reasons} if reasons else {})
    if into is not None:
        write_page(page(judged, rows, extra=extra), into)
    if as_json:
        done: dict[str, Any] = {"metrics": [*rows, *told]} | ({"site": site} if site else {})
        if reasons:
            done["reasons"] = {key: reasons[key] for key in ("rows", "seconds", "rejected", "lacking")}
        done |= {"findings": shown} if shown else {}
        done |= {"notes": evaluated.notes, "left_out": evaluated.left_out} if against else {}
        typer.echo(json.dumps(done, ensure_ascii=False, allow_nan=False))
        return
    above, below = text_of(extra["site"]) if site else ("", "")
    said = findings_text(shown, titled) if shown else ""
    parts = (above, text_table(summarise(judged, rows)), said, reasons_text(reasons) if reasons else "", below)
    typer.echo("\n\n".join(part for part in parts if part))
