"""One subject's rows -> the plain dict that the page shows and `--json` prints: facts and counts, no words, no layout.

Numbers are those of the tables; nothing is rescaled or rounded here. Moments are ISO 8601 UTC texts.
"""

import base64
import json
import math
import struct
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from riskpred.report.names import feature_code
from riskpred.report.read import Row, SubjectRows, utc
from riskpred.report.words import nearest

SHOWN_REASONS = 5
"""Reasons for and reasons against shown one by one, per outcome; the rest is summed in a row of its own."""
SHOWN_SERIES = 6
SHOWN_MISSING = 12
CLOSED_WITHIN_POINTS = 0.001
"""Promise 3 of the design: contributions sum within this many risk points; a larger gap is shown."""
_PRESENCE = "(presence)"
_PNG = b"\x89PNG\r\n\x1a\n"


def summarise(run: Row, rows: SubjectRows) -> dict[str, Any]:
    """Everything one page shows.

    Args:
        run: the row of `runs` that all rows belong to.
        rows: the subject's rows, sorted as `Scores.rows` sorts them.
    """
    denominator = _denominator(rows.risks)
    displays = outcome_displays(run)
    outcomes = [
        _outcome(outcome, list(group), rows.explanations, denominator) | {"display": displays.get(outcome)}
        for outcome, group in groupby(rows.risks, key=lambda row: str(row["outcome"]))
    ]
    times = [row["prediction_time"] for row in rows.risks] or [row["prediction_time"] for row in rows.eligibility]
    series = _series(rows)
    return {
        "pseudonym": rows.pseudonym,
        "prediction_time": utc(max(times, default=run["as_of"])),
        "scored_at": utc(max((row["scored_at"] for row in rows.risks), default=run["finished_at"])),
        "carried": any(row["carried"] for row in rows.risks),
        "run": run_facts(run),
        "denominator": denominator,
        "flags": sorted({flag for row in rows.risks for flag in row["scope_flags"]}),
        "outcomes": outcomes,
        "series": series[:SHOWN_SERIES],
        "series_not_shown": len(series[SHOWN_SERIES:]),
        "images": [_image(row) for row in rows.evidence if row["kind"] == "image"],
        "guideline": [
            {"name": row["name"], "value": _finite(row["value"]), "unit": row["unit"], "time": utc(row["time"])}
            for row in rows.evidence
            if row["kind"] == "guideline"
        ],
        "inputs": [_receipt(row) for row in rows.receipts],
        "refused": [{key: row[key] for key in ("source", "reason", "field", "wanted")} for row in rows.rejects],
        "not_assessed": [
            {key: row[key] for key in ("outcome", "status", "reason")} | {"display": displays.get(row["outcome"])}
            for row in rows.eligibility
            if row["status"] not in ("scored", "carried")
        ],
        "model": _model(run),
    }


def run_facts(run: Row) -> dict[str, Any]:
    """The ledger row as the pages show it."""
    counts = (
        "subjects",
        "considered_pairs",
        "eligible_pairs",
        "scored_pairs",
        "carried_pairs",
        "rejected_pairs",
        "out_of_scope_pairs",
        "risk_rows",
    )
    texts = (
        "run_id",
        "numeric_path",
        "bundle_name",
        "bundle_version",
        "bundle_sha256",
        "code_version",
        "content_digest",
    )
    moments = {name: utc(run[name]) for name in ("as_of", "started_at", "finished_at")}
    return {name: run[name] for name in texts} | moments | {name: run[name] for name in counts}


def _denominator(risks: Sequence[Row]) -> int:
    """One denominator for the whole page: 100 people, or 1000 where every longest-horizon risk is under 1 %."""
    return 100 if not risks or max(row["risk"] for row in risks) >= 0.01 else 1000


def _outcome(outcome: str, risks: list[Row], explanations: list[Row], denominator: int) -> dict[str, Any]:
    longest = risks[-1]
    horizons = [
        {name: row[name] for name in ("horizon_years", "risk", "risk_low", "risk_high", "reference_risk", "percentile")}
        | {
            "with_event": nearest(row["risk"], denominator),
            "without_event": denominator - nearest(row["risk"], denominator),
        }
        for row in risks
    ]
    return {
        "outcome": outcome,
        "reference_group": longest["reference_group"],
        "prediction_time": utc(longest["prediction_time"]),
        "scored_at": utc(longest["scored_at"]),
        "carried": longest["carried"],
        "horizons": horizons,
        "reasons": _reasons(risks, [row for row in explanations if row["outcome"] == outcome]),
    }


def _reasons(risks: list[Row], explanations: list[Row]) -> dict[str, Any] | None:
    """Reasons at the longest horizon that has feature rows, else modality rows; None where there are no rows at all."""
    by_level = {level: [row for row in explanations if row["level"] == level] for level in ("feature", "modality")}
    horizons = [row["horizon_years"] for row in by_level["feature"] or by_level["modality"]]
    if not horizons:
        return None
    horizon = max(horizons)
    risk = next((row for row in risks if row["horizon_years"] == horizon), None)
    if risk is None:
        return None
    modality_rows = [row for row in by_level["modality"] if row["horizon_years"] == horizon]
    feature_rows = [row for row in by_level["feature"] if row["horizon_years"] == horizon]
    total = 100 * (risk["risk"] - risk["reference_risk"])
    steps, running = [], risk["reference_risk"]
    for row in modality_rows:
        after = running + row["contribution"] / 100
        steps.append({"modality": row["modality"], "contribution": row["contribution"], "from": running, "to": after})
        running = after
    gap = 100 * (risk["risk"] - running)
    if abs(gap) > CLOSED_WITHIN_POINTS:
        steps.append({"modality": "(gap)", "contribution": gap, "from": running, "to": risk["risk"]})
    return {
        "horizon_years": horizon,
        "reference_risk": risk["reference_risk"],
        "risk": risk["risk"],
        "total": total,
        "modalities": steps,
        **_split(modality_rows, feature_rows),
    }


def _split(modality_rows: list[Row], feature_rows: list[Row]) -> dict[str, Any]:
    """Feature rows as raises, lowers and remainders; with what no row names, they sum to the modalities' total."""
    named = [
        {
            "modality": row["modality"],
            "feature": row["feature"],
            "value": _finite(row["value"]),
            "text_value": row["text_value"],
            "unit": row["unit"],
            "time": utc(row["time"]),
            "contribution": row["contribution"],
        }
        for row in feature_rows
        if not row["remainder"] and row["feature"] != _PRESENCE
    ]
    named.sort(key=lambda row: (-abs(row["contribution"]), row["modality"], row["feature"]))
    raises = [row for row in named if row["contribution"] > 0]
    lowers = [row for row in named if row["contribution"] < 0]
    unnamed = [
        {"modality": row["modality"], "feature": row["feature"], "contribution": row["contribution"]}
        for row in feature_rows
        if row["remainder"] or row["feature"] == _PRESENCE
    ]
    for row in modality_rows if feature_rows else []:
        inside = [other["contribution"] for other in feature_rows if other["modality"] == row["modality"]]
        left = row["contribution"] - sum(inside)
        if abs(left) > CLOSED_WITHIN_POINTS:
            name = "(gap)" if inside else "(whole)"
            unnamed.append({"modality": row["modality"], "feature": name, "contribution": left})
    hidden = raises[SHOWN_REASONS:] + lowers[SHOWN_REASONS:]
    return {
        "raises": raises[:SHOWN_REASONS],
        "lowers": lowers[:SHOWN_REASONS],
        "raises_not_shown": _together(raises[SHOWN_REASONS:]),
        "lowers_not_shown": _together(lowers[SHOWN_REASONS:]),
        "raises_total": sum(row["contribution"] for row in raises),
        "lowers_total": sum(row["contribution"] for row in lowers),
        "no_effect": sum(row["contribution"] == 0 for row in named),
        "unnamed": unnamed,
        "unnamed_total": sum(row["contribution"] for row in unnamed),
        "largest": max((abs(row["contribution"]) for row in named), default=0.0),
        "features_total": sum(row["contribution"] for row in [*named, *unnamed]),
        "features": len(named),
        "not_shown": len(hidden),
    }


def _together(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"count": len(rows), "contribution": sum(row["contribution"] for row in rows)}


def _series(rows: SubjectRows) -> list[dict[str, Any]]:
    """Series of `evidence`, the one whose code weighs most in any outcome's reasons first."""
    weight: dict[str, float] = {}
    for row in rows.explanations:
        if row["level"] == "feature":
            code = feature_code(row["feature"])
            weight[code] = max(weight.get(code, 0.0), abs(row["contribution"]))
    found = []
    drawn = [row for row in rows.evidence if row["kind"] == "series"]
    for (code, unit), group in groupby(drawn, key=lambda row: (row["name"], row["unit"])):
        points = [
            {"time": utc(row["time"]), "value": row["value"]}
            for row in group
            if row["time"] is not None and _finite(row["value"]) is not None
        ]
        if points:
            found.append({"code": code, "unit": unit, "weight": weight.get(code, 0.0), "points": points})
    return sorted(found, key=lambda one: (-one["weight"], one["code"]))


def _image(row: Row) -> dict[str, Any]:
    """A picture with its size and outline; `problem` says why one of them is not shown."""
    shown: dict[str, Any] = {
        "image_id": row["name"],
        "time": utc(row["time"]),
        "png_base64": None,
        "width": 0,
        "height": 0,
        "outline": None,
        "problem": None,
    }
    picture = row["picture"]
    if not picture or len(picture) > 65536 or not picture.startswith(_PNG) or len(picture) < 24:
        return shown | {"problem": "no picture of at most 64 KiB was stored" if not picture else "not a PNG picture"}
    width, height = struct.unpack(">II", picture[16:24])
    if not (0 < width <= 8192 and 0 < height <= 8192):
        return shown | {"problem": "not a PNG picture"}
    outline, problem = _outline(row["outline"])
    return shown | {
        "png_base64": base64.b64encode(picture).decode("ascii"),
        "width": width,
        "height": height,
        "outline": outline,
        "problem": problem,
    }


def _outline(text: str | None) -> tuple[list[list[float]] | None, str | None]:
    if text is None:
        return None, None
    try:
        corners = [[float(row), float(col)] for row, col in json.loads(text)]
    except (ValueError, TypeError):
        return None, "the outline could not be read"
    if len(corners) < 3 or not all(math.isfinite(number) for corner in corners for number in corner):
        return None, "the outline could not be read"
    return corners, None


def _receipt(row: Row) -> dict[str, Any]:
    missing = list(row["missing_features"])
    return {
        "modality": row["modality"],
        "status": row["status"],
        "n": row["n"],
        "latest_time": utc(row["latest_time"]),
        "age_days": _finite(row["age_days"]),
        "missing_features": missing[:SHOWN_MISSING],
        "missing_not_shown": len(missing[SHOWN_MISSING:]),
    }


def outcome_displays(run: Row) -> dict[str, str]:
    """Outcome -> its name in words, where the model card has one."""
    named = _model(run).get("outcomes")
    found = named.items() if isinstance(named, dict) else ()
    return {outcome: words for outcome, words in found if isinstance(words, str) and words.strip()}


def _model(run: Row) -> dict[str, Any]:
    """The model card as stored; an unreadable one is empty, and the page says so."""
    try:
        card = json.loads(run["model_card"], parse_constant=lambda _: None)
    except ValueError:
        return {}
    return card if isinstance(card, dict) else {}


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None
