"""Writes what a run found: tables.md, tables.json, predictions.parquet and page.html, all from the parts alone."""

import html
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import polars as pl

from tests.benchmarks.accuracy import markdown, pictures
from tests.benchmarks.accuracy.goals import goals
from tests.benchmarks.accuracy.store import parts_of
from tests.benchmarks.accuracy.tables import score_sets, summarise

_MARK: Final = "<!-- tables: {} -->"

_STYLE: Final = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-size: 13px; margin: 1rem 0; }
td, th { border-bottom: 1px solid #ddd; padding: 3px 8px; text-align: left; vertical-align: top; }
td { font-variant-numeric: tabular-nums; }
svg { max-width: 100%; height: auto; }
.note { color: #555; }
"""


def write_report(folder: Path, names: Sequence[str], readme: Path | None = None) -> str:
    """Score the parts and write everything; returns the markdown.

    Args:
        readme: a file in which what stands between `<!-- tables: NAME -->` and `<!-- end -->` is replaced by that
            table (targets, accuracy, seconds).
    """
    sets = score_sets(folder, names)
    summary, targets = summarise(sets), goals(sets)
    text = markdown.markdown(summary, targets)
    made = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    page = _page(
        text,
        [
            ("Uno's C or AUC of every method", pictures.ranks(summary)),
            ("C or AUC: riskpred less the peer that inner folds chose", pictures.differences(summary, "rank", "C")),
            ("IBS or Brier score, sign turned", pictures.differences(summary, "error", "Brier")),
            ("Calibration out of fold: riskpred green, chosen peer brown", pictures.calibration(summary)),
            ("Inputs taken away at scoring", pictures.missing(summary)),
        ],
        made,
    )
    data = {"made": made, "sets": summary, "targets": [asdict(goal) for goal in targets]}
    _write(folder / "tables.md", text)
    _write(folder / "tables.json", json.dumps(data, indent=1) + "\n")
    _write(folder / "page.html", page)
    _together(folder, names)
    if readme is not None:
        parts = {
            "targets": markdown.goals_table(targets),
            "accuracy": markdown.accuracy_table(summary),
            "seconds": markdown.seconds_table(summary),
        }
        _write(readme, with_tables(readme.read_text(encoding="utf-8"), parts))
    return text


def with_tables(text: str, parts: dict[str, str]) -> str:
    """The text with each marked table replaced; a name without a mark is left out."""
    for name, table in parts.items():
        start, end = _MARK.format(name), "<!-- end -->"
        if start in text:
            before, rest = text.split(start, 1)
            _, after = rest.split(end, 1)
            text = f"{before}{start}\n{table}\n{end}{after}"
    return text


def _together(folder: Path, names: Sequence[str]) -> None:
    """All parts as one file per set, for whoever wants another metric."""
    for name in names:
        paths = [path for _, path in parts_of(folder, name)]
        if paths:
            (folder / "predictions").mkdir(exist_ok=True)
            staging = folder / "predictions" / f".{name}.{os.getpid()}"
            tables = [pl.read_parquet(path).with_columns(pl.col(pl.Categorical).cast(pl.String)) for path in paths]
            pl.concat(tables).write_parquet(staging)
            os.replace(staging, folder / "predictions" / f"{name}.parquet")


def _page(text: str, drawn: Sequence[tuple[str, str]], made: str) -> str:
    blocks = [f"<h2>{html.escape(title)}</h2>\n{picture}" for title, picture in drawn]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>riskpred: accuracy</title>'
        f"<style>{_STYLE}</style></head><body><h1>riskpred beside its peers</h1>"
        f'<p class="note">{made}. Everything here is computed from out-of-fold predictions in the same folder.</p>\n'
        + "\n".join(blocks)
        + _html(text)
        + "</body></html>\n"
    )


def _html(text: str) -> str:
    """The few forms of markdown that `markdown.py` writes: headings, tables, bold, lines."""
    found: list[str] = []
    for block in text.split("\n\n"):
        lines = block.splitlines()
        if block.startswith("## "):
            found.append(f"<h2>{html.escape(block[3:])}</h2>")
        elif block.startswith("|"):
            rows = [_cells(line) for line in lines if not line.startswith("|---")]
            head = "".join(f"<th>{cell}</th>" for cell in rows[0])
            body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows[1:])
            found.append(f"<table><tr>{head}</tr>{body}</table>")
        else:
            found.append(f"<p>{'<br>'.join(html.escape(line) for line in lines)}</p>")
    return "\n".join(found)


def _cells(line: str) -> list[str]:
    cells = line.replace("\\|", "\0").strip("|").split("|")
    plain = [html.escape(cell.strip().replace("\0", "|")) for cell in cells]
    return [f"<b>{cell[2:-2]}</b>" if cell.startswith("**") and cell.endswith("**") else cell for cell in plain]


def _write(path: Path, text: str) -> None:
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    staging.write_text(text, encoding="utf-8")
    os.replace(staging, path)
