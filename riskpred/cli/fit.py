"""`riskpred fit`: a study's YAML and a warehouse to a bundle, or a bundle and another site's warehouse to a bundle."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from riskpred.errors import UsageError

if TYPE_CHECKING:
    from riskpred.model.bundle import Bundle


def fit(
    study: Annotated[
        str,
        typer.Argument(
            help="A packaged study's name, or a folder of YAML. Not with --recalibrate: WAREHOUSE comes first then.",
            metavar="[STUDY]",
        ),
    ],
    into: Annotated[Path, typer.Option(help="Folder of the bundle; a bundle that is there is replaced.")],
    warehouse: Annotated[
        Path | None, typer.Argument(help="DuckDB file written by `riskpred ingest`.", metavar="WAREHOUSE")
    ] = None,
    recalibrate: Annotated[
        Path | None,
        typer.Option(
            help="Fit no network: refit intercept and slope of each cause of this bundle to the warehouse's train and "
            "tuning subjects, whom it never saw.",
            metavar="BUNDLE",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="The same seed and data give the same model. Recalibration draws nothing.")
    ] = 1,
    pretrain: Annotated[
        bool,
        typer.Option(
            "--pretrain",
            help="First let the image networks learn from all pictures of the train and tuning splits, labelled or "
            "not; kept only if a fit with it does better on inner folds. Settings: `pretrain:` of network.yaml.",
        ),
    ] = False,
    pretrain_weights: Annotated[
        Path | None,
        typer.Option(
            help="Save what was pre-trained as .safetensors; another study starts from it with "
            "`weights: {file: FILE, layout: riskpred}` in network.yaml.",
            metavar="FILE",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Fit a study's model on the train and tuning splits of a warehouse, or recalibrate a bundle to another site.

    Example: riskpred fit nafld nafld.duckdb --into nafld-bundle

    With unlabelled pictures: riskpred fit busi busi.duckdb --into busi-bundle --pretrain --pretrain-weights
    busi.safetensors

    Another site: riskpred fit --recalibrate nafld-bundle other.duckdb --into other-bundle
    """
    if recalibrate is not None:
        if warehouse is not None:
            raise UsageError(
                "fit --recalibrate takes one argument.",
                wanted="riskpred fit --recalibrate BUNDLE WAREHOUSE --into NEW",
                got="two arguments: a study and a warehouse",
                do="leave out the study: the bundle holds it",
            )
        if pretrain or pretrain_weights is not None:
            raise UsageError(
                "fit --recalibrate trains no network.",
                wanted="riskpred fit --recalibrate BUNDLE WAREHOUSE --into NEW",
                got="--pretrain" if pretrain else "--pretrain-weights",
                do="leave it out",
            )
        _recalibrate(recalibrate, Path(study), into, as_json)
        return
    if warehouse is None:
        raise UsageError(
            "the warehouse is missing.",
            wanted="riskpred fit STUDY WAREHOUSE --into BUNDLE",
            got="one argument",
            do="name the DuckDB file written by `riskpred ingest`",
        )
    from riskpred.cli.progress import Shown
    from riskpred.fit.run import fit as fit_study

    with Shown() as progress:
        bundle = fit_study(study, warehouse, into, seed, progress, pretrain, pretrain_weights)
    done = _done(bundle)
    typer.echo(json.dumps(done) if as_json else _text(done))


def _recalibrate(old: Path, warehouse: Path, into: Path, as_json: bool) -> None:
    from riskpred.cli.progress import Shown
    from riskpred.fit.recalibrate_site import recalibrate
    from riskpred.model.ageing import ageing_said

    with Shown() as progress:
        bundle, changes = recalibrate(old, warehouse, into, progress)
    for change in changes:
        if change.reason:
            typer.echo(f"riskpred fit: {change.sentence}", err=True)
    done = {**_done(bundle), "recalibrated": bundle.card["recalibrated"][-1]}
    if as_json:
        typer.echo(json.dumps(done))
        return
    entry = done["recalibrated"]
    lines = [
        f"{done['bundle']}: {done['name']} {done['version']}, sha256 {done['sha256'][:12]}, "
        f"from {entry['from_version']}, sha256 {entry['from_sha256'][:12]}",
        f"recalibrated on {entry['subjects']:,} subjects ({entry['rows']:,} rows) of {entry['site']}; the network is "
        "as it was",
        *(f"  {change.sentence}" for change in changes),
        ageing_said(done),
        f"next: riskpred evaluate {done['bundle']} {warehouse}",
    ]
    typer.echo("\n".join(lines))


PRETRAINING = "pretraining"
"""Entry of the card; `riskpred.fit.pretrain_choice` says what it holds."""

SEGMENTATION = "segmentation"
"""The same; see `riskpred.fit.findings.fit_stages`."""


def _done(bundle: "Bundle") -> dict[str, Any]:
    from riskpred.model.ageing import CARD_KEY

    return {
        "bundle": str(bundle.path),
        "name": bundle.name,
        "version": bundle.version,
        "sha256": bundle.sha256,
        "seed": bundle.seed,
        "modalities": list(bundle.model.modalities),
        "targets": [list(target) for target in bundle.model.targets],
        "counts": bundle.counts,
        CARD_KEY: bundle.card[CARD_KEY],
        **{name: bundle.card[name] for name in (PRETRAINING, SEGMENTATION) if name in bundle.card},
    }


def _segmented(stage: str, entry: dict[str, Any]) -> str:
    """One line on what a stage learned from, what of it was no use, and how good it is on people it never saw."""
    left_out = ", ".join(f"{reason} {count:,}" for reason, count in sorted(entry["left_out"].items()))
    dice = [
        f"{row['label']} {row['value']:.2f}"
        for row in entry["quality"]
        if row["metric"] == "dice_mean" and row["value"] is not None
    ]
    return (
        f"  segmentation {stage}: {entry['images']:,} marked images of {entry['subjects']:,} subjects"
        + (f"; left out: {left_out}" if left_out else "")
        + (f"; Dice out of fold: {', '.join(dice)}" if dice else "")
    )


def _text(done: dict[str, Any]) -> str:
    from riskpred.model.ageing import ageing_said

    lines = [
        f"{done['bundle']}: {done['name']} {done['version']}, sha256 {done['sha256'][:12]}, seed {done['seed']}",
        f"trained on {done['counts']['subjects']:,} subjects ({done['counts']['rows']:,} rows), "
        f"reading {', '.join(done['modalities'])}",
    ]
    for name, counts in done["counts"]["outcomes"].items():
        years = [horizon for outcome, horizon in done["targets"] if outcome == name]
        when = "now" if years == [0.0] else f"within {', '.join(f'{year:g}' for year in years)} years"
        lines.append(f"  {name}: {counts['events']:,} events in {counts['subjects']:,} subjects; risk {when}")
    lines += [_segmented(name, entry) for name, entry in done.get(SEGMENTATION, {}).items()]
    lines += [done[PRETRAINING]["said"]] if PRETRAINING in done else []
    lines.append(ageing_said(done))
    lines.append(f"next: riskpred evaluate {done['bundle']} WAREHOUSE")
    return "\n".join(lines)
