"""A page's cost against drawing its figures with matplotlib: `python tests/benchmarks/reasons/report_cost.py SCORES`.

Both sides get the same dicts, page by page in turn, in one process. Ours is the whole page: summary, charts, template,
all words. Matplotlib's is its figures alone, as SVG with texts kept as texts (its quicker way), none of the page around
them: people in a hundred, risk by horizon, past runs, one figure of bars per table of reasons, each series with usual
range and moments, the image with its outlines. Target: ours costs at most a tenth.
"""

import base64
import io
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import Polygon

from riskpred.report.draw import risk_scale
from riskpred.report.draw.svg import seconds
from riskpred.report.read import Scores
from riskpred.report.render import page
from riskpred.report.summarise import summarise

TARGET = 0.1
PAGES = 30


def measure(scores: Path, pages: int = PAGES) -> dict[str, Any]:
    """Milliseconds a page, each side's median over the pages, and their ratio."""
    mpl.rcParams["svg.fonttype"] = "none"
    ours: list[float] = []
    theirs: list[float] = []
    figures: list[int] = []
    sizes: list[int] = []
    with Scores.open(scores) as opened:
        subjects = (opened.explained() or opened.scored())[:pages]
        rows = list(opened.rows(subjects).values())
        warm = summarise(opened.run, rows[0])
        page(warm)
        _draw_all(warm)
        for one in rows:
            summary = summarise(opened.run, one)
            ours.append(_timed(lambda one=one: sizes.append(len(page(summarise(opened.run, one)).encode()))))
            theirs.append(_timed(lambda summary=summary: figures.append(_draw_all(summary))))
    return {
        "pages": len(rows),
        "figures_a_page": statistics.median(figures),
        "page_bytes_largest": max(sizes),
        "page_ms": 1000 * statistics.median(ours),
        "matplotlib_ms": 1000 * statistics.median(theirs),
        "ratio": statistics.median(ours) / statistics.median(theirs),
        "target": TARGET,
    }


def _timed(do: Callable[[], object]) -> float:
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


def _draw_all(summary: dict[str, Any]) -> int:
    """Draw a page's figures; returns how many."""
    drawn = 0
    scale = risk_scale(summary["outcomes"])
    for one in summary["outcomes"]:
        drawn += _people(one["horizons"][-1]["with_event"], summary["denominator"])
        drawn += _curve(one["horizons"], scale)
        past = one["past"]["risks"]
        drawn += _history([*past, one["horizons"][-1] | {"prediction_time": one["prediction_time"]}]) if past[1:] else 0
        why = one["reasons"]
        if why:
            for rows in (why["modalities"], why["raises"], why["lowers"]):
                drawn += _bars([row["contribution"] for row in rows]) if rows else 0
    for one in summary["series"]:
        drawn += _series(one)
    for image in summary["images"]:
        drawn += _image(image) if image["png_base64"] else 0
    return drawn


def _saved(figure: Figure) -> int:
    figure.savefig(io.BytesIO(), format="svg")
    return 1


def _people(with_event: int, denominator: int) -> int:
    figure = Figure(figsize=(3.3, 0.9))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    places = [(index % 25, -(index // 25)) for index in range(denominator)]
    for part, colour in ((places[:with_event], "#7a2a08"), (places[with_event:], "#ffffff")):
        if part:
            axes.scatter(*zip(*part, strict=True), s=20, c=colour, edgecolors="#7b8792")
    return _saved(figure)


def _curve(horizons: Sequence[dict[str, Any]], scale: float) -> int:
    figure = Figure(figsize=(3.2, 1.3))
    axes = figure.subplots()
    years = [0, *(row["horizon_years"] for row in horizons)]
    low, high, risk, start = (
        [0, *(row[name] for row in horizons)] for name in ("risk_low", "risk_high", "risk", "reference_risk")
    )
    axes.fill_between(years, low, high, color="#bcd3e6")
    axes.plot(years, risk, marker="o")
    axes.plot(years, start, linestyle="--")
    axes.set_ylim(0, scale)
    return _saved(figure)


def _history(rows: Sequence[dict[str, Any]]) -> int:
    figure = Figure(figsize=(3.2, 0.7))
    axes = figure.subplots()
    axes.plot([seconds(row["prediction_time"]) for row in rows], [row["risk"] for row in rows], marker="o")
    return _saved(figure)


def _bars(sizes: Sequence[float]) -> int:
    figure = Figure(figsize=(1, 1.5))
    axes = figure.subplots()
    axes.barh(range(len(sizes)), sizes)
    return _saved(figure)


def _series(one: dict[str, Any]) -> int:
    figure = Figure(figsize=(2.6, 0.9))
    axes = figure.subplots()
    axes.plot([seconds(point["time"]) for point in one["points"]], [point["value"] for point in one["points"]], "o-")
    usual = one["usual"]
    if usual and usual["low"] is not None and usual["high"] is not None:
        axes.axhspan(usual["low"], usual["high"], color="#e3efe2")
    for mark in one["moments"]["marks"][:3] if one["moments"] else []:
        axes.plot([seconds(mark["time"])], [mark["value"]], "^" if mark["contribution"] > 0 else "v")
    return _saved(figure)


def _image(image: dict[str, Any]) -> int:
    figure = Figure(figsize=(2.8, 2.8))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.imshow(imread(io.BytesIO(base64.b64decode(image["png_base64"]))), cmap="gray")
    for region in image["regions"]:
        axes.add_patch(Polygon([(col, row) for row, col in region["polygon"]], fill=False))
    return _saved(figure)


if __name__ == "__main__":
    found = measure(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else PAGES)
    print(json.dumps(found, indent=2))
    sys.exit(0 if found["ratio"] <= TARGET else 1)
