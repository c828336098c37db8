"""The verb `explain`: feature reasons and evidence for more subjects of a published night."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer


def explain(
    scores: Annotated[Path, typer.Argument(help="Scores file published by `riskpred score`.", metavar="SCORES")],
    warehouse: Annotated[Path, typer.Argument(help="The warehouse it was scored from.", metavar="WAREHOUSE")],
    model: Annotated[Path, typer.Option(help="The bundle that scored it.", envvar="RISKPRED_MODEL")],
    subject: Annotated[int | None, typer.Option(help="One subject_id.", metavar="N")] = None,
    top: Annotated[int | None, typer.Option(help="The N subjects of highest percentile.", min=1, metavar="N")] = None,
    image_root: Annotated[
        Path | None, typer.Option(help="Folder that image paths are relative to.", metavar="DIR")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was added as one JSON object.")] = False,
) -> None:
    """Add feature reasons and evidence to the latest night, by the same atomic swap.

    Refuses a subject whose events or images changed since the night was scored, and a bundle that did not score it.

    Example: riskpred explain scores.duckdb warehouse.duckdb --model bundle --subject 1042
    """
    from riskpred.cli.progress import Shown
    from riskpred.score.explain_run import explain as add_reasons

    if (subject is None) == (top is None):
        raise typer.BadParameter("give exactly one of --subject, --top")
    with Shown() as progress:
        added = add_reasons(scores, warehouse, model, subject, top, image_root, progress, progress.say)
    flagged = f" ({added.flagged:,} with too large a remainder)" if added.flagged else ""
    typer.echo(
        f"{scores}: {added.subjects:,} subjects of run {added.run_id} explained{flagged} "
        f"in {added.total_seconds:.1f} s.",
        err=True,
    )
    before = f", in place of earlier ones for {added.replaced:,}" if added.replaced else ""
    if as_json:
        typer.echo(json.dumps(asdict(added)))
    else:
        typer.echo(f"{added.rows:,} reasons written for {added.subjects:,} subjects{before}")
