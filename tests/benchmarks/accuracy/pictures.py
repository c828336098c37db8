"""The page's pictures, drawn by matplotlib as inline SVG: differences with intervals, calibration, missing inputs."""

import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import matplotlib

matplotlib.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.benchmarks.accuracy.methods import OURS
from tests.benchmarks.accuracy.tables import CHOSEN

_INK: Final = "#222222"
_OURS: Final = "#0b6e4f"
_PEER: Final = "#b5651d"
_GOOD: Final = "#0b6e4f"
_BAD: Final = "#a4161a"


def differences(summary: Mapping[str, Any], metric: str, title: str) -> str:
    """One line per set and outcome: riskpred less the chosen peer, with its interval; better lies to the right."""
    sign = 1.0 if metric == "rank" else -1.0
    lines = []
    for name, one in summary.items():
        for outcome_name, outcome in one["outcomes"].items():
            found = outcome["differences"].get(CHOSEN, {}).get(metric)
            if one["of"] or found is None or found["low"] is None:
                continue
            ends = sorted((sign * found["low"], sign * found["high"]))
            label = name if len(one["outcomes"]) == 1 else f"{name}, {outcome_name}"
            lines.append((f"{label}\nagainst {outcome['chosen'][metric]}", sign * found["mean"], *ends))
    figure = Figure(figsize=(8, 0.9 + 0.5 * max(len(lines), 1)), layout="constrained")
    axes = figure.subplots()
    for y, (_, mean, low, high) in enumerate(reversed(lines)):
        colour = _GOOD if mean >= 0 else _BAD
        axes.plot([low, high], [y, y], color=colour, linewidth=2)
        axes.plot([mean], [y], "o", color=colour, markersize=6)
    axes.axvline(0, color=_INK, linewidth=0.8)
    axes.set_yticks(range(len(lines)), [label for label, *_ in reversed(lines)], fontsize=8)
    axes.set_xlabel(f"{title}: riskpred better to the right")
    _plain(axes)
    return svg(figure)


def ranks(summary: Mapping[str, Any]) -> str:
    """Every method of every set as a dot on the scale of C or AUC."""
    lines = [
        (f"{name}, {outcome_name}", outcome["methods"])
        for name, one in summary.items()
        if not one["of"]
        for outcome_name, outcome in one["outcomes"].items()
    ]
    figure = Figure(figsize=(8, 0.9 + 0.42 * max(len(lines), 1)), layout="constrained")
    axes = figure.subplots()
    for y, (_, methods) in enumerate(reversed(lines)):
        for method, scores in methods.items():
            if scores["rank"] is not None:
                mine = method == OURS
                axes.plot(
                    [scores["rank"]],
                    [y],
                    "D" if mine else "o",
                    color=_OURS if mine else _PEER,
                    alpha=1.0 if mine else 0.45,
                    zorder=3 if mine else 2,
                )
    axes.set_yticks(range(len(lines)), [label for label, _ in reversed(lines)], fontsize=8)
    axes.set_xlabel("Uno's C at the last horizon, or AUC; green diamond: riskpred, brown dots: peers")
    _plain(axes)
    return svg(figure)


def calibration(summary: Mapping[str, Any]) -> str:
    """One small panel per set and outcome: smoothed observed against predicted risk, out of fold."""
    panels = [
        (f"{name}\n{outcome_name}", outcome["calibration"])
        for name, one in summary.items()
        if not one["of"]
        for outcome_name, outcome in one["outcomes"].items()
        if outcome["calibration"]
    ]
    columns = 4
    rows = max(1, -(-len(panels) // columns))
    figure = Figure(figsize=(9, 2.4 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for at, axes in enumerate(grid.ravel()):
        if at >= len(panels):
            axes.axis("off")
            continue
        title, curves = panels[at]
        most = max(max(curve["risk"] + curve["observed"]) for curve in curves.values())
        axes.plot([0, most], [0, most], color=_INK, linewidth=0.7, linestyle=":")
        for method, curve in curves.items():
            axes.plot(curve["risk"], curve["observed"], color=_OURS if method == OURS else _PEER, linewidth=1.4)
        axes.set_title(title, fontsize=8)
        axes.tick_params(labelsize=7)
        _plain(axes)
    return svg(figure)


def missing(summary: Mapping[str, Any]) -> str:
    """ICI of each scenario with inputs taken away: treated and untreated."""
    lines: list[tuple[str, Sequence[tuple[str, float]]]] = []
    for name, one in summary.items():
        for outcome in one["outcomes"].values():
            by_scenario: dict[str, list[tuple[str, float]]] = {}
            for key, scores in outcome["scenarios"].items():
                method, scenario = key.split(", ", 1)
                if scores["ici"] is not None:
                    by_scenario.setdefault(scenario, []).append((method, scores["ici"]))
            lines += [(f"{name} {scenario}", found) for scenario, found in by_scenario.items()]
    figure = Figure(figsize=(8, 0.9 + 0.42 * max(len(lines), 1)), layout="constrained")
    axes = figure.subplots()
    for y, (_, found) in enumerate(reversed(lines)):
        for method, value in found:
            axes.plot([value], [y], "D" if method == OURS else "o", color=_OURS if method == OURS else _BAD)
    axes.axvline(0.015, color=_INK, linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(lines)), [label for label, _ in reversed(lines)], fontsize=8)
    axes.set_xlabel("ICI; green diamond: riskpred, red dot: without modality dropout; dotted: the limit .015")
    _plain(axes)
    return svg(figure)


def _plain(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(axis="x", color="#dddddd", linewidth=0.5)


def svg(figure: Figure) -> str:
    """The drawing as an <svg> element, without the XML head."""
    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "riskpred"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
