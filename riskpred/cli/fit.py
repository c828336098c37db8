"""`riskpred fit`: a study's YAML and a warehouse to a bundle."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def fit(
    study: Annotated[str, typer.Argument(help="A packaged study's name, or a folder of YAML.")],
    warehouse: Annotated[Path, typer.Argument(help="DuckDB file written by `riskpred ingest`.")],
    into: Annotated[Path, typer.Option(help="Folder of the bundle; a bundle that is there is replaced.")],
    seed: Annotated[int, typer.Option(help="The same seed and data give the same model.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Fit a study's model on the train and tuning splits of a warehouse.

    Example: riskpred fit nafld nafld.duckdb --into nafld-bundle
    """
    from riskpred.cli.progress import Shown
    from riskpred.fit.run import fit as fit_study

    with Shown() as progress:
        bundle = fit_study(study, warehouse, into, seed=seed, progress=progress)
    done: dict[str, Any] = {
        "bundle": str(bundle.path),
        "name": bundle.name,
        "version": bundle.version,
        "sha256": bundle.sha256,
        "seed": bundle.seed,
        "modalities": list(bundle.model.modalities),
        "targets": [list(target) for target in bundle.model.targets],
        "counts": bundle.counts,
    }
    typer.echo(json.dumps(done) if as_json else _text(done))


def _text(done: dict[str, Any]) -> str:
    lines = [
        f"{done['bundle']}: {done['name']} {done['version']}, sha256 {done['sha256'][:12]}, seed {done['seed']}",
        f"trained on {done['counts']['subjects']:,} subjects ({done['counts']['rows']:,} rows), "
        f"reading {', '.join(done['modalities'])}",
    ]
    for name, counts in done["counts"]["outcomes"].items():
        years = [horizon for outcome, horizon in done["targets"] if outcome == name]
        when = "now" if years == [0.0] else f"within {', '.join(f'{year:g}' for year in years)} years"
        lines.append(f"  {name}: {counts['events']:,} events in {counts['subjects']:,} subjects; risk {when}")
    lines.append(f"next: riskpred evaluate {done['bundle']} WAREHOUSE")
    return "\n".join(lines)
