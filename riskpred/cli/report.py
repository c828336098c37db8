"""The verb `report`: one HTML page per person and an index, made from the scores file alone."""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer


def report(
    scores: Annotated[Path, typer.Argument(help="Scores file published by `riskpred score`.", metavar="SCORES")],
    into: Annotated[Path, typer.Option(help="Folder for the pages; made if absent.", metavar="DIR")],
    subject: Annotated[int | None, typer.Option(help="One subject_id only.", metavar="N")] = None,
    top: Annotated[int | None, typer.Option(help="The N subjects of highest percentile.", min=1, metavar="N")] = None,
    lang: Annotated[str, typer.Option(help="Language of the pages: en or zh.", metavar="en|zh")] = "en",
    pdf: Annotated[bool, typer.Option("--pdf", help="Also a PDF beside each page (extra `pdf`).")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what the pages show, as one JSON object, on stdout.")
    ] = False,
) -> None:
    """Make a self-contained HTML page per person, and an index, from a scores file.

    Without --subject and --top: everyone with feature reasons, or all if nobody has any. Files are named by pseudonym.

    Example: riskpred report scores.duckdb --into report --top 50 --lang zh --pdf
    """
    from riskpred.cli.progress import Shown
    from riskpred.report.language import LANGUAGES
    from riskpred.report.write import write_report

    if lang not in LANGUAGES:
        raise typer.BadParameter(f"--lang is one of {', '.join(LANGUAGES)}")
    if subject is not None and top is not None:
        raise typer.BadParameter("give --subject or --top, not both")
    with tempfile.TemporaryFile("w+", encoding="utf-8") as held:

        def each(summary: dict[str, Any]) -> None:
            own = {name: entry for name, entry in summary.items() if name != "model"}  # the same for everyone
            held.write(("," if held.tell() else "") + json.dumps(own, ensure_ascii=False, allow_nan=False))

        with Shown() as progress:
            written = write_report(scores, into, subject, top, progress, each if as_json else None, lang, pdf)
        if as_json:
            head = {"index": str(written.index), "pages": written.pages, "run": written.run, "model": written.model}
            typer.echo(json.dumps(head, ensure_ascii=False)[:-1] + ', "subjects": [', nl=False)
            held.seek(0)
            shutil.copyfileobj(held, sys.stdout)
            typer.echo("]}")
        else:
            typer.echo(f"{written.index}: {written.pages:,} pages. {written.chosen}")
