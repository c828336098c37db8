"""The verb `card`: the model card of a bundle, as text, page or JSON."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def card(
    bundle: Annotated[Path, typer.Argument(help="Bundle written by `riskpred fit`.", metavar="BUNDLE")],
    into: Annotated[Path | None, typer.Option(help="Write a self-contained HTML page.", metavar="FILE.html")] = None,
    lang: Annotated[str, typer.Option(help="Language: en or zh.", metavar="en|zh")] = "en",
    as_json: Annotated[bool, typer.Option("--json", help="Print the card as one JSON object.")] = False,
) -> None:
    """What a model is, by TRIPOD+AI and the HTI-1 source attributes, filled from what was measured.

    What only people know (funding, ethics, ...) a study's card.yaml says, by the names printed here; else it reads
    "not provided". The figures are those that `riskpred evaluate` left in the bundle.

    Example: riskpred card bundle/ --into model.html
    """
    from riskpred.evaluate.in_place import in_its_place, refuse_place
    from riskpred.model.bundle import load_bundle
    from riskpred.model.card import EVALUATION_KEY, card_of_night
    from riskpred.model.evaluation import read_evaluations
    from riskpred.report.language import LANGUAGES, language
    from riskpred.report.model_card import card_page, describe

    if lang not in LANGUAGES:
        raise typer.BadParameter(f"--lang is one of {', '.join(LANGUAGES)}")
    if into is not None:
        refuse_place(into, "--into", ".html")
    model = load_bundle(bundle)
    kept = [one for one in read_evaluations(bundle) if one.bundle_sha256 == model.sha256]
    entries = [card_of_night(model.card, one)[EVALUATION_KEY] for one in kept]
    whole = card_of_night(model.card, kept[-1] if kept else None)
    about = {"version": model.version, "sha256": model.sha256, "promotion": None}
    shown = describe(whole, entries, about, lang)
    if into is not None:
        with in_its_place(into, "--into") as beside:
            beside.write_text(card_page(shown, whole, lang, index=False), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(shown, ensure_ascii=False, allow_nan=False))
    elif into is None:
        typer.echo(_text(shown, language(lang).say("not provided")))
    else:
        typer.echo(f"{into}: written.")


def _text(shown: dict[str, Any], absent: str) -> str:
    lines = [shown["display"] or shown["name"] or ""]
    for which, title in (("tripod_ai", "TRIPOD+AI"), ("hti_1", "HTI-1")):
        counts = shown["provided"][which]
        lines += ["", f"{title} ({which}): {counts['with_text']} of {counts['of']} with a text"]
        for key, one in shown[which].items():
            said = " / ".join(text for text in (one["text"], one["given"]) if text) or absent
            lines.append(f"  {one['number']:<8} {key}: {said}")
    return "\n".join(lines)
