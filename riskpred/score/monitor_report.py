"""What `monitor` says: one plain dict, as JSON, as a text table and as a page."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from riskpred.evaluate.page import environment
from riskpred.evaluate.picture import SIZE
from riskpred.evaluate.subgroups import SMALL_CELL
from riskpred.evaluate.summary import count, number
from riskpred.progress import Progress
from riskpred.records.warehouse import Warehouse
from riskpred.score.drift import LAST_RUNS, RUNS, TRAINING
from riskpred.score.monitor import Followed, follow, open_scores
from riskpred.score.monitor_drift import read_drift
from riskpred.score.monitor_measure import draw, judge
from riskpred.score.plan import iso

TEMPLATE: Final = "monitor.html.j2"

HEADS: Final = (
    *("outcome", "horizon", "n", "events", "predicted", "observed (90 %)", "observed / predicted (90 %)"),
    *("citl", "slope (90 %)", "AUC (90 %)"),
)
DRIFT_HEADS: Final = ("flag", "what", "statistic", "against", "there", "tonight", "n", f"last {RUNS} nights")

DEFINITIONS: Final = (
    ("n", "published risks whose horizon today's data reach, each person once per prediction_time"),
    ("observed", "Aalen-Johansen incidence by the horizon, death and the other outcomes of a set competing"),
    ("observed / predicted", "1 is perfect; above 1 more fell ill than predicted"),
    ("citl", "calibration in the large: 0 is perfect; below 0 risks are too high, above 0 too low"),
    ("slope", "1 is perfect; below 1 the risks are too extreme, above 1 too timid"),
    ("AUC", "how often one with the outcome by the horizon had a higher risk than one without"),
    ("psi", "population stability index; from .1 on watched, from .25 on an alarm, when beyond chance"),
    ("..._rate", "share of people; flagged by Cohen's h, from .2 on watched, from .5 on an alarm, when beyond chance"),
    (LAST_RUNS, f"the mean of the last {RUNS} published nights of the same bundle, or as many as there are"),
    (TRAINING, "the rows that the bundle was fitted on; risks: its out-of-fold predictions"),
)


def monitor(
    scores: Path,
    warehouse: Path,
    model: Path | None = None,
    *,
    pictures: bool = False,
    seed: int = 1,
    resamples: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """All of it as plain data, unrounded: what is mature, what is not yet, who is left out, and drift.

    Args:
        model: bundle of nights whose ledger does not say what their outcomes are.
        pictures: with the geometry of calibration pictures (`picture`, else absent).

    Raises: InputError (scores, warehouse), BundleError (see `monitor.follow`).
    """
    connection = open_scores(scores)
    try:
        with Warehouse.open(warehouse) as source:
            followed = follow(connection, scores, source, model, progress)
            site, until = source.site, iso(source.data_until)
        drift = read_drift(connection)
    finally:
        connection.close()
    models = [_model(one, pictures, seed, resamples, progress) for one in followed]
    return {
        "site": site,
        "data_until": until,
        "runs": sum(one.runs for one in followed),
        "models": models,
        "drift": asdict(drift),
    }


def _model(
    followed: Followed, pictures: bool, seed: int, resamples: int | None, progress: Progress | None
) -> dict[str, Any]:
    matured: list[dict[str, Any]] = [
        dict(row) for row in judge(followed, seed=seed, resamples=resamples, progress=progress)
    ]
    if pictures:
        for row in matured:
            shown = row["reason"] is None
            row["picture"] = draw(followed, row["outcome"], row["horizon_years"], seed) if shown else None
    return {
        "name": followed.bundle_name,
        "version": followed.bundle_version,
        "sha256": followed.bundle_sha256,
        "runs": followed.runs,
        "predictions": len(followed.subject_id),
        "seen_in_training": int(followed.seen.sum()),
        "matured": matured,
        "immature": [
            {
                "outcome": one.outcome,
                "horizon_years": one.horizon_years,
                "rows": one.rows,
                "first_until": iso(one.first_until),
                "last_until": iso(one.last_until),
            }
            for one in followed.immature
        ],
        # A count of few people could point at one; without a total it cannot be worked out either.
        "left_out": {
            outcome: {reason: n if n >= SMALL_CELL else None for reason, n in reasons.items()}
            for outcome, reasons in followed.left_out.items()
        },
    }


def text(found: Mapping[str, Any]) -> str:
    """The table for a terminal."""
    view = _view(found)
    blocks = [f"followed up to {view['data_until']} (site {view['site']}), {view['nights']}"]
    for model in view["models"]:
        lines = [f"{model['name']} {model['version']}"]
        lines += _aligned([HEADS, *(line["cells"] for line in model["lines"])]) if model["lines"] else []
        lines += [] if model["lines"] else ["no horizon is mature yet"]
        blocks.append("\n".join(lines + [f"  {note}" for note in model["notes"]]))
    lines = _aligned([DRIFT_HEADS, *view["drift_lines"]]) if view["drift_lines"] else []
    return "\n\n".join([*blocks, "\n".join([view["drift_said"], *lines])])


def page(found: Mapping[str, Any]) -> str:
    """The same as one self-contained HTML page, with a calibration picture where there are events enough."""
    return environment().get_template(TEMPLATE).render(**_view(found), size=SIZE)


def _view(found: Mapping[str, Any]) -> dict[str, Any]:
    """Cells as they are printed, for text and page alike."""
    return {
        "site": found["site"],
        "data_until": found["data_until"][:10],
        "runs": found["runs"],
        "nights": _nights(found["runs"]),
        "models": [_model_view(model) for model in found["models"]],
        "heads": HEADS,
        "drift_heads": DRIFT_HEADS,
        "drift_said": _drift_said(found["drift"]),
        "drift_lines": [_drift_cells(flag) for flag in found["drift"]["flags"]],
        "definitions": DEFINITIONS,
    }


def _model_view(model: Mapping[str, Any]) -> dict[str, Any]:
    lines, notes = [], []
    for row in model["matured"]:
        measures = row["measures"]
        lines.append(
            {
                "outcome": row["outcome"],
                "horizon_years": row["horizon_years"],
                "cells": [
                    row["display"],
                    horizon(row["horizon_years"]),
                    f"{row['n']:,}",
                    count(row["events"]),
                    _percent(row["predicted"]),
                    _ranged(measures["observed"], _percent),
                    _ranged(measures["ratio"], lambda value: number(value, 2)),
                    number(measures["citl"]["value"], 2),
                    _ranged(measures["slope"], lambda value: number(value, 2)),
                    _ranged(measures["auc"], number),
                ],
            }
        )
        why = row["reason"] or "; ".join(sorted({one["reason"] for one in measures.values() if one["reason"]}))
        if why:
            notes.append(f"{row['outcome']}, {horizon(row['horizon_years'])}: {why}")
    if model["seen_in_training"]:
        notes.append(
            f"{model['seen_in_training']:,} of {model['predictions']:,} predictions are of people that trained the "
            "bundle: it is flattered by whatever it was told of their follow-up"
        )
    for one in model["immature"]:
        first, last = one["first_until"][:10], one["last_until"][:10]
        when = f"on {first}" if first == last else f"from {first} to {last}"
        notes.append(f"{one['outcome']}, {horizon(one['horizon_years'])}: {one['rows']:,} not mature yet, but {when}")
    for outcome, reasons in model["left_out"].items():
        for reason, n in reasons.items():
            shown = f"fewer than {SMALL_CELL}" if n is None else f"{n:,}"
            notes.append(f"{outcome}: {shown} left out: {reason.replace('_', ' ')}")
    drawn = [
        {"what": f"{row['display']}, {horizon(row['horizon_years'])}", "picture": row["picture"]}
        for row in model["matured"]
        if row.get("picture")
    ]
    return {"name": model["name"], "version": model["version"], "lines": lines, "notes": notes, "pictures": drawn}


def horizon(years: float) -> str:
    """`now`, `1 year`, `5 years`."""
    return "now" if years == 0 else f"{years:g} year{'' if years == 1 else 's'}"


def _drift_said(drift: Mapping[str, Any]) -> str:
    night = f"newest night {drift['run_id']} as of {drift['as_of'][:10]}"
    if not drift["rows"]:
        return f"drift of the {night}: not measured"
    flags = len(drift["flags"])
    return f"drift of the {night}: {flags or 'none'} of {drift['rows']:,} differences flagged"


def _drift_cells(flag: Mapping[str, Any]) -> list[str]:
    trend = " ".join(number(value, 2) for value in flag["trend"])
    n = "-" if flag["n_tonight"] is None else f"{flag['n_tonight']:,}"
    values = [number(flag[key], 3) for key in ("reference", "tonight")]
    return [flag["flag"], flag["name"], flag["statistic"], flag["against"], *values, n, trend]


def _nights(runs: int) -> str:
    return f"{runs:,} published night{'' if runs == 1 else 's'} with risks"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _ranged(one: Mapping[str, Any], shown: Any) -> str:
    if one["value"] is None or one["low"] is None:
        return str(shown(one["value"]))
    return f"{shown(one['value'])} ({shown(one['low'])} to {shown(one['high'])})"


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    wide = [max(len(line[c]) for line in lines) for c in range(len(lines[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, wide, strict=True)).rstrip() for line in lines]
