"""The verb `forget`: erases one person from a scores file, from what lies beside it, and from reports."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from riskpred.score.forget import Eraser, Forgotten

WHAT_STAYS = (
    "The warehouse is not touched: if it still holds the person, the next night scores them anew. Remove them at the "
    "source, then ingest again.",
    "Not reached from here: backups, copies, reports not named with --report, files that a reader still has open, and "
    "the bundle, whose weights were fitted on many people (it keeps a salted hash of each it was trained on).",
    "drift and the ledger's other figures name nobody and stay.",
)


def forget(
    subject: Annotated[
        str,
        typer.Argument(help="subject_id, or the pseudonym that names the person's page.", metavar="SUBJECT"),
    ],
    scores: Annotated[Path, typer.Option(help="Scores file published by `riskpred score`.", metavar="SCORES")],
    report: Annotated[
        list[Path] | None, typer.Option(help="Folder of a report to erase them from; repeatable.", metavar="DIR")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was removed as one JSON object.")] = False,
) -> None:
    """Erase one person from every kept run, the unfinished night, caches and reports, whole or not at all.

    The scores file is written anew, so that the person's bytes are gone from it. The warehouse stays as it is: remove
    the person at the source and ingest again, else the next night scores them. Exit code 11: nobody of that name.

    Example: riskpred forget 236d09f8456e --scores scores.duckdb --report report
    """
    from riskpred.cli.progress import Shown
    from riskpred.report.forget import refuse_unlike_report
    from riskpred.score.forget import forget as erase
    from riskpred.score.image_cache import forget as forget_images

    elsewhere: dict[str, Eraser] = {"image cache": lambda person, _: forget_images(scores, [person])}
    for folder in dict.fromkeys(report or ()):
        refuse_unlike_report(folder)
        elsewhere[f"report {folder}"] = partial(_forget_pages, folder)
    with Shown() as progress:
        removed = erase(scores, subject, elsewhere, progress, progress.say)
    typer.echo(json.dumps(_plain(removed, scores)) if as_json else _text(removed, scores))


def _forget_pages(folder: Path, _: int, pseudonyms: frozenset[str]) -> int:
    from riskpred.report.forget import forget_pages

    return forget_pages(folder, pseudonyms)


def _plain(removed: "Forgotten", scores: Path) -> dict[str, object]:
    return {
        "scores": str(scores),
        "runs": list(removed.runs),
        "rows": removed.rows,
        "elsewhere": removed.elsewhere,
        "unfinished_night_removed": removed.parts,
        "notes": list(WHAT_STAYS),
    }


def _text(removed: "Forgotten", scores: Path) -> str:
    width = max(len(name) for name in (*removed.rows, *removed.elsewhere, "table or place"))
    lines = [
        f"{scores}: one person removed from {len(removed.runs):,} kept runs; the file was written anew.",
        f"  {'table or place':<{width}}  removed",
    ]
    lines += [f"  {name:<{width}}  {count:>7,}" for name, count in (removed.rows | removed.elsewhere).items()]
    if removed.parts:
        lines.append("The parts of an unfinished night beside it were removed; the next night computes them again.")
    return "\n".join([*lines, *WHAT_STAYS])
