"""The verb `score`: one night, from the warehouse to a published scores file."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from riskpred.score.forecast import Forecast
    from riskpred.score.run import NightSummary


def score(
    warehouse: Annotated[
        Path,
        typer.Argument(help="DuckDB file with validated MEDS tables, or folder of MEDS shards.", metavar="WAREHOUSE"),
    ],
    model: Annotated[Path, typer.Option(help="Bundle written by `riskpred fit`.", envvar="RISKPRED_MODEL")],
    into: Annotated[Path, typer.Option(help="Scores file; the newest nights it holds are kept.", metavar="SCORES")],
    as_of: Annotated[
        str | None,
        typer.Option(
            help="Prediction time, ISO 8601 UTC; nothing later is read; else the warehouse's own, else today 00:00.",
            metavar="TIME",
        ),
    ] = None,
    explain: Annotated[
        int | None,
        typer.Option(help="Feature reasons and evidence for the top N; 0 = none. [default: 1000]", min=0, metavar="N"),
    ] = None,
    image_root: Annotated[
        Path | None, typer.Option(help="Folder that image paths are relative to.", metavar="DIR")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="Settings of the night; options given here override it.", metavar="night.yaml"),
    ] = None,
    rescore: Annotated[
        str | None, typer.Option(help="`all`: compute everyone anew, carry nobody.", metavar="all")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes that compute. [default: one a core of the engine, for long work]", min=1, metavar="N"
        ),
    ] = None,
    keep_runs: Annotated[
        int | None, typer.Option(help="Newest nights that SCORES keeps. [default: 7]", min=1, metavar="N")
    ] = None,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(
            help="`local`: processes of this machine. `ray` (extra `cluster`): every machine of a ray cluster; "
            "WAREHOUSE is then a folder of shards, and it, BUNDLE, the images and the folder of SCORES, where finished "
            "parts lie, are on a file system that all machines share.",
        ),
    ] = "local",
    ray_address: Annotated[
        str | None,
        typer.Option(
            help="A running cluster, as seen from a machine of it; `auto` = the one on this machine. On a private "
            "network only. [default: a cluster is started on this machine, for this night alone]",
            metavar="HOST:PORT",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done and how long it would take; write nothing.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Use a bundle that no evaluation has passed; the ledger says so.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the row of `runs`, and the summary, as one JSON object.")
    ] = False,
) -> None:
    """Write calibrated risks, with intervals and reasons, for everyone at risk; publish them whole or not at all.

    Only subjects whose data changed, or whose score grew too old, are computed; the others' rows are carried over. An
    interrupted night goes on where it stopped; scoring the same night again replaces it. Exit code 14: published, but
    someone eligible got no risk; 13: the quality gate refused to publish, yesterday's tables stand.

    Example: riskpred score warehouse.duckdb --model bundle --into scores.duckdb --config night.yaml
    """
    from riskpred.cli.progress import Shown
    from riskpred.config.night import load_night
    from riskpred.errors import NotAllScored, UsageError
    from riskpred.score.forecast import forecast
    from riskpred.score.plan import parse_time
    from riskpred.score.prepare import Request
    from riskpred.score.run import score as run_night

    if ray_address is not None and engine == "local":
        raise UsageError("--ray-address: the local engine has no cluster.", wanted="--engine ray", do="add it")
    if rescore not in (None, "all"):
        raise UsageError(f"--rescore {rescore}: not known.", wanted="all", do="correct it or leave it out")
    moment = None if as_of is None else parse_time(as_of)
    settings = load_night(config).overridden(explain=explain, workers=workers, keep_runs=keep_runs)
    if dry_run:
        planned = forecast(
            Request(warehouse, model, into, moment, settings, image_root, rescore == "all", force, engine, ray_address)
        )
        typer.echo(json.dumps(asdict(planned)) if as_json else _planned(planned, into))
        return
    with Shown() as progress:
        night = run_night(
            warehouse,
            model,
            into,
            moment,
            settings,
            image_root=image_root,
            rescore=rescore == "all",
            force=force,
            engine=engine,
            ray_address=ray_address,
            progress=progress,
            say=progress.say,
        )
    typer.echo(_summary(night, into), err=True)
    typer.echo(json.dumps(night.ledger | {"summary": _told(night)}) if as_json else _table(night))
    if rejected := night.rejected_pairs:
        raise NotAllScored(
            f"{into}: published, but {rejected:,} of {night.ledger['eligible_pairs']:,} eligible pairs got no risk.",
            wanted="a risk for every eligible (subject, outcome)",
            do="see why: SELECT outcome, reason, count(*) FROM eligibility WHERE status = 'rejected' GROUP BY ALL",
        )


def _planned(planned: "Forecast", into: Path) -> str:
    """What --dry-run says."""
    rate = "" if planned.subjects_per_second is None else f" at {planned.subjects_per_second:,.0f} subjects/s a process"
    carried = f" from run {planned.carried_from}" if planned.carried_from else ""
    return "\n".join(
        (
            f"{into}: run {planned.run_id} as of {planned.as_of}, {planned.subjects:,} subjects; nothing was written.",
            f"  compute   {planned.to_compute:>12,} subjects, about {planned.model_seconds:,.0f} s"
            f"{rate}, {planned.workers} process{'es' if planned.workers > 1 else ''}",
            f"  carry     {planned.to_carry:>12,} subjects{carried}",
            f"  copy, verify, publish: about {planned.copy_seconds:,.0f} s",
            f"  bundle    {planned.promotion}",
            f"  ageing    {planned.ageing}",
            *(f"  note      {note}" for note in planned.notes),
        )
    )


def _summary(night: "NightSummary", into: Path) -> str:
    """What, how many, how long, where the time went."""
    stages = ", ".join(
        f"{name} {seconds:.1f}" for name, seconds in sorted(night.seconds.items(), key=lambda item: -item[1])
    )
    doubts = [f"{night.flagged:,} with too large a remainder"] if night.flagged else []
    if failed := night.reason_checks.get("failed", 0):
        doubts.append(
            f"{failed:,} of {sum(night.reason_checks.values()):,} checks of a sample failed: see reason_checks"
        )
    flagged = f" ({'; '.join(doubts)})" if doubts else ""
    lines = [
        f"{into}: run {night.ledger['run_id']} as of {night.ledger['as_of']}: {night.ledger['subjects']:,} subjects "
        f"({night.computed:,} computed, {night.carried:,} carried), {night.ledger['scored_pairs']:,} scored and "
        f"{night.ledger['carried_pairs']:,} carried of {night.ledger['eligible_pairs']:,} eligible pairs, "
        f"{night.explained:,} subjects explained{flagged}, in {night.total_seconds:.1f} s ({stages})."
    ]
    if night.scope_flags:
        counts = ", ".join(f"{flag} {pairs:,}" for flag, pairs in night.scope_flags.items())
        with_risk = f"{int(str(night.ledger['scored_pairs'])) + int(str(night.ledger['carried_pairs'])):,}"
        lines.append(f"  scope_flags of {with_risk} pairs with a risk: {counts}")
    if night.rejects:
        lines.append("  rejects: " + ", ".join(f"{reason} {rows:,}" for reason, rows in night.rejects.items()))
    lines.append(f"  {night.drift}")
    lines.append(
        f"  bundle {night.ledger['bundle_name']} {night.ledger['bundle_version']}: {night.ledger['promotion']}"
    )
    return "\n".join(lines)


def _told(night: "NightSummary") -> dict[str, object]:
    """What `_summary` says, for programs: all but the ledger row beside it."""
    told = asdict(night)
    del told["ledger"]
    return told


def _table(night: "NightSummary") -> str:
    statuses = ("scored", "carried", "rejected", "out_of_scope")
    width = max(len("outcome"), *(len(name) for name in night.pairs), 7)
    heads = "  ".join(f"{status.replace('_', ' '):>12}" for status in statuses)
    lines = [f"{'outcome':<{width}}  {heads}"]
    for outcome, by_status in night.pairs.items():
        counts = "  ".join(f"{by_status.get(status, 0):>12,}" for status in statuses)
        lines.append(f"{outcome:<{width}}  {counts}")
    return "\n".join(lines)
