"""Runs a packaged study through riskpred's verbs, as a user would, and reads what `evaluate --json` says."""

import argparse
import contextlib
import io
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from riskpred.cli import main as riskpred


def measured(study: str, work: Path, seed: int = 1) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Metrics of the held-out people of `work`/source, and the seconds of each verb."""
    warehouse, bundle = str(work / "warehouse.duckdb"), str(work / "bundle")
    seconds: dict[str, float] = {}
    for verb, arguments in {
        "ingest": [study, "--from", str(work / "source"), "--into", warehouse],
        "fit": [study, warehouse, "--into", bundle, "--seed", str(seed)],
        "evaluate": [bundle, warehouse, "--json", "--faithfulness", "0", "--into", str(work / "evaluation.html")],
    }.items():
        start, output = time.perf_counter(), io.StringIO()
        with contextlib.redirect_stdout(output):
            code = riskpred([verb, *arguments])
        if code:
            raise SystemExit(f"{verb}: exit {code}")
        seconds[verb] = time.perf_counter() - start
    rows: list[dict[str, Any]] = json.loads(output.getvalue())["metrics"]
    return rows, seconds


def figures(rows: list[dict[str, Any]], seconds: dict[str, float], outcome: str, metric: str, target: float) -> str:
    """One metric of one outcome with its target, then everything else of everyone, as a Markdown table."""
    ours = [row for row in rows if row["model"] == "riskpred" and row["subgroup"] is None and row["value"] is not None]
    one = next(row for row in ours if (row["outcome"], row["metric"]) == (outcome, metric))
    said = "met" if one["value"] >= target else "missed"
    lines = [
        f"{outcome}: {metric} {one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f}), target {target:g}: {said}",
        ", ".join(f"{verb} {value:.0f} s" for verb, value in seconds.items()),
        "",
        "| outcome | metric | value | 90 % | n | events |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in ours:
        if row["metric"] in ("quadratic_kappa", "accuracy", "macro_auc", "auc", "brier", "slope", "ici", "ici_floor"):
            ranged = "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
            lines.append(
                f"| {row['outcome']} | {row['metric']} | {row['value']:.3f} | {ranged} | {row['n']} | {row['events']} |"
            )
    return "\n".join(lines)


def run(
    study: str, write: Callable[[Path, int, int], Any], images: int, outcome: str, metric: str, target: float
) -> None:
    """Draws phantoms in the study's layout, ingests, fits, evaluates the held-out part, prints one table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=images)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        if not (work / "source").exists():
            write(work / "source", given.images, given.seed)
        print(figures(*measured(study, work, given.seed), outcome, metric, target))
