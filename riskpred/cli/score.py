"""The verb `score`: one night, from the warehouse to a published scores file."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from riskpred.score.run import NightSummary


def score(
    warehouse: Annotated[Path, typer.Argument(help="DuckDB file with validated MEDS tables.", metavar="WAREHOUSE")],
    model: Annotated[Path, typer.Option(help="Bundle written by `riskpred fit`.", envvar="RISKPRED_MODEL")],
    into: Annotated[Path, typer.Option(help="Scores file; the nights it holds are kept.", metavar="SCORES")],
    as_of: Annotated[
        str | None,
        typer.Option(
            help="Prediction time, ISO 8601 UTC; nothing later is read; else the warehouse's own, else today 00:00.",
            metavar="TIME",
        ),
    ] = None,
    explain: Annotated[
        int, typer.Option(help="Feature reasons and evidence for the top N; 0 = none.", min=0, metavar="N")
    ] = 1000,
    image_root: Annotated[
        Path | None, typer.Option(help="Folder that image paths are relative to.", metavar="DIR")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the ledger row as one JSON object.")] = False,
) -> None:
    """Write calibrated risks, with intervals and reasons, for everyone at risk; publish them whole or not at all.

    Scoring the same night again replaces it. Exit code 14: published, but someone eligible got no risk.

    Example: riskpred score warehouse.duckdb --model bundle --into scores.duckdb --as-of 2026-11-22
    """
    from riskpred.cli.progress import Shown
    from riskpred.errors import NotAllScored
    from riskpred.score.plan import parse_time
    from riskpred.score.run import score as run_night

    moment = None if as_of is None else parse_time(as_of)
    with Shown() as progress:
        night = run_night(
            warehouse, model, into, as_of=moment, explain=explain, image_root=image_root, progress=progress
        )
    typer.echo(_summary(night, into), err=True)
    typer.echo(json.dumps(night.ledger) if as_json else _table(night))
    rejected = sum(by_status.get("rejected", 0) for by_status in night.pairs.values())
    if rejected:
        raise NotAllScored(
            f"{into}: published, but {rejected:,} of {night.ledger['eligible_pairs']:,} eligible pairs got no risk.",
            wanted="a risk for every eligible (subject, outcome)",
            do="see why: SELECT outcome, reason, count(*) FROM eligibility WHERE status = 'rejected' GROUP BY ALL",
        )


def _summary(night: "NightSummary", into: Path) -> str:
    stages = ", ".join(
        f"{name} {seconds:.1f}" for name, seconds in sorted(night.seconds.items(), key=lambda item: -item[1])
    )
    flagged = f" ({night.flagged:,} with too large a remainder)" if night.flagged else ""
    return (
        f"{into}: run {night.ledger['run_id']} as of {night.ledger['as_of']}: {night.ledger['subjects']:,} subjects, "
        f"{night.ledger['scored_pairs']:,} of {night.ledger['eligible_pairs']:,} eligible pairs scored, "
        f"{night.explained:,} subjects explained{flagged}, in {night.total_seconds:.1f} s ({stages})."
        f"{_scope(night)}"
    )


def _scope(night: "NightSummary") -> str:
    """A second line: how many scored pairs carry which scope flag."""
    if not night.scope_flags:
        return ""
    counts = ", ".join(f"{flag} {pairs:,}" for flag, pairs in night.scope_flags.items())
    return f"\n  scope_flags of {night.ledger['scored_pairs']:,} scored pairs: {counts}"


def _table(night: "NightSummary") -> str:
    statuses = ("scored", "rejected", "out_of_scope")
    width = max(len("outcome"), *(len(name) for name in night.pairs))
    lines = [f"{'outcome':<{width}}  {'scored':>12}  {'rejected':>12}  {'out of scope':>12}"]
    for outcome, by_status in night.pairs.items():
        counts = "  ".join(f"{by_status.get(status, 0):>12,}" for status in statuses)
        lines.append(f"{outcome:<{width}}  {counts}")
    return "\n".join(lines)
