"""The Typer application: one verb per line, each in its own file; nothing heavy is imported here."""

from typing import Annotated

import typer

from riskpred import __version__
from riskpred.cli.card import card
from riskpred.cli.data import check, ingest, studies
from riskpred.cli.demo import demo
from riskpred.cli.evaluate import evaluate
from riskpred.cli.explain import explain
from riskpred.cli.fit import fit
from riskpred.cli.forget import forget
from riskpred.cli.monitor import monitor
from riskpred.cli.report import report
from riskpred.cli.score import score

app = typer.Typer(
    name="riskpred",
    help="Calibrated, explained, multi-horizon disease risk from records, time series and images. "
    "It informs; it does not diagnose.\n\nStart with: riskpred demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # locals may hold patient data
    rich_markup_mode="markdown",
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"riskpred {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


app.command()(demo)
app.command()(studies)
app.command()(ingest)
app.command()(check)
app.command()(fit)
app.command()(evaluate)
app.command()(card)
app.command()(score)
app.command()(explain)
app.command()(report)
app.command()(forget)
app.command()(monitor)
