"""The record behind the reasons, as plain numbers: series and their moments, pictures and their regions, equations."""

import base64
import json
import math
import struct
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from riskpred.report.entries import number_in, table_in
from riskpred.report.language import text
from riskpred.report.names import feature_code
from riskpred.report.read import Row, finite, utc
from riskpred.report.wordbook import WordBook

LEAST_POINTS = 0.005
"""A moment that moved the risk by less reads 0.00 on the page, and is not marked."""
SHOWN_MOMENTS = 3
"""Moments marked in one series; all that are stored are in the dict."""
LARGEST_PICTURE = 65536
_PNG = b"\x89PNG\r\n\x1a\n"
_UNREADABLE = text("the outline could not be read")
_NO_PICTURE = text("no picture of at most 64 KiB was stored")
_NOT_PNG = text("not a PNG picture")
_MEASURES = ("row", "col", "area_px", "longest_diameter_px", "x_mm", "y_mm", "area_mm2", "longest_diameter_mm")


def series(
    evidence: Sequence[Row], explanations: Sequence[Row], book: WordBook, sex: str | None
) -> list[dict[str, Any]]:
    """Series of `evidence`, the one whose code weighs most in any outcome's reasons first."""
    weight: dict[str, float] = {}
    for row in explanations:
        if row["level"] == "feature":
            code = feature_code(row["feature"])
            weight[code] = max(weight.get(code, 0.0), abs(row["contribution"]))
    found = []
    drawn = [row for row in evidence if row["kind"] == "series"]
    for (code, unit), group in groupby(drawn, key=lambda row: (row["name"], row["unit"])):
        points = [
            {"time": utc(row["time"]), "value": row["value"]}
            for row in group
            if row["time"] is not None and finite(row["value"]) is not None
        ]
        if points:
            points.sort(key=lambda point: point["time"])
            one = {"code": code, "unit": unit, "weight": weight.get(code, 0.0), "points": points}
            usual = book.usual(code, sex, unit)
            found.append(one | {"usual": usual, "moments": _moments(code, unit, explanations)})
    return sorted(found, key=lambda one: (-one["weight"], one["code"]))


def _moments(code: str, unit: str | None, explanations: Sequence[Row]) -> dict[str, Any] | None:
    """Moments of one series that moved a risk most: of the outcome they moved most, at its longest horizon with any."""
    rows = [
        row
        for row in explanations
        if row["level"] == "moment"
        and row["feature"] == code
        and row["unit"] == unit
        and not row["remainder"]
        and row["time"] is not None
        and finite(row["value"]) is not None
    ]
    best: list[Row] = []
    for _, group in groupby(sorted(rows, key=_target), key=lambda row: str(row["outcome"])):
        of_outcome = list(group)
        here = [row for row in of_outcome if row["horizon_years"] == of_outcome[-1]["horizon_years"]]
        best = max(best, here, key=lambda some: max((abs(row["contribution"]) for row in some), default=-1.0))
    best = [row for row in best if abs(row["contribution"]) >= LEAST_POINTS]
    if not best:
        return None
    best.sort(key=lambda row: (-abs(row["contribution"]), row["time"]))
    marks = [{"time": utc(row["time"]), "value": row["value"], "contribution": row["contribution"]} for row in best]
    return {"outcome": best[0]["outcome"], "horizon_years": best[0]["horizon_years"], "marks": marks}


def _target(row: Row) -> tuple[str, float]:
    return row["outcome"], row["horizon_years"]


def images(evidence: Sequence[Row], explanations: Sequence[Row]) -> list[dict[str, Any]]:
    """Pictures with their regions; `problem` says why one of these is not shown."""
    rows = [row for row in evidence if row["kind"] == "image"]
    named = [table_in(row["note"]).get("modality") for row in rows]
    return [
        _image(row, _of_picture(row, len(rows), explanations), named.count(name) if isinstance(name, str) else 1)
        for row, name in zip(rows, named, strict=True)
    ]


def _of_picture(row: Row, pictures: int, explanations: Sequence[Row]) -> list[Row]:
    """Region rows of this picture's modality, at each outcome's longest horizon with any. The note names the modality;
    where it does not, and there are several pictures, it is told by the time of the modality's feature rows; where that
    does not single one out, none are given."""
    regions = [one for one in explanations if one["level"] == "region"]
    modalities, named = {one["modality"] for one in regions}, table_in(row["note"]).get("modality")
    if isinstance(named, str):
        modalities &= {named}
    elif pictures > 1:
        dated = {
            m: {o["time"] for o in explanations if o["level"] == "feature" and o["modality"] == m} for m in modalities
        }
        modalities = {modality for modality in modalities if row["time"] in dated[modality]}
    if len(modalities) != 1:
        return []
    regions = sorted((one for one in regions if one["modality"] in modalities), key=_target)
    longest = {one["outcome"]: one["horizon_years"] for one in regions}
    return [one for one in regions if one["horizon_years"] == longest[one["outcome"]]]


def _image(row: Row, region_rows: Sequence[Row], together: int) -> dict[str, Any]:
    """together: images that the encoder averaged, this one among them; its weight is told where there are several."""
    shown: dict[str, Any] = {"image_id": row["name"], "time": utc(row["time"]), "png_base64": None, "width": 0}
    shown |= {"height": 0, "spacing_mm": None, "regions": [], "outcomes": [], "problem": None}
    shown |= {"together": together, "weight": None, "slice": None}
    picture = row["picture"]
    if not picture:
        return shown | {"problem": _NO_PICTURE}
    if len(picture) > LARGEST_PICTURE or not picture.startswith(_PNG) or len(picture) < 24:
        return shown | {"problem": _NOT_PNG}
    width, height = struct.unpack(">II", picture[16:24])
    if not (0 < width <= 8192 and 0 < height <= 8192):
        return shown | {"problem": _NOT_PNG}
    note = table_in(row["note"])
    regions, problem = _regions(row["outline"], note)
    for region in regions:
        region["contributions"] = {
            one["outcome"]: one["contribution"] for one in region_rows if one["feature"] == region["region"]
        }
    horizons = {one["outcome"]: one["horizon_years"] for one in region_rows}
    rest = {
        outcome: sum(one["contribution"] for one in region_rows if one["outcome"] == outcome and one["remainder"])
        for outcome in horizons
    }
    largest = {
        outcome: max((abs(region["contributions"].get(outcome, 0.0)) for region in regions), default=0.0)
        for outcome in horizons
    }
    order = sorted(horizons, key=lambda outcome: (-largest[outcome], outcome))
    return shown | {
        "png_base64": base64.b64encode(picture).decode("ascii"),
        "width": width,
        "height": height,
        "spacing_mm": _spacing(note),
        "regions": regions,
        "outcomes": [{"outcome": name, "horizon_years": horizons[name], "rest": rest[name]} for name in order],
        "weight": _share(note.get("weight")) if together > 1 else None,
        "slice": number_in(note.get("slice")),
        "problem": problem,
    }


def _share(entry: object) -> float | None:
    found = number_in(entry)
    return found if found is not None and 0 <= found <= 1 else None


def _regions(outline: str | None, note: dict[str, Any]) -> tuple[list[dict[str, Any]], str | None]:
    """Outlined regions with what is known of their place and size."""
    if outline is None:
        return [], None
    measured = {}
    for one in note.get("regions") or [] if isinstance(note.get("regions") or [], list) else []:
        if isinstance(one, dict) and isinstance(one.get("region"), str):
            measured[one["region"]] = {name: number_in(one.get(name)) for name in _MEASURES}
    found = []
    try:
        for number, one in enumerate(json.loads(outline), start=1):
            corners = [[float(row), float(col)] for row, col in one["polygon"]]
            if len(corners) < 3 or not all(math.isfinite(place) for corner in corners for place in corner):
                return [], _UNREADABLE
            name = str(one["region"])
            blank: dict[str, float | None] = dict.fromkeys(_MEASURES)
            found.append({"region": name, "number": number, "polygon": corners} | measured.get(name, blank))
    except (ValueError, TypeError, KeyError, RecursionError):
        return [], _UNREADABLE
    return found, None


def _spacing(note: dict[str, Any]) -> list[float] | None:
    spacing = note.get("spacing_mm")
    numbers = [number_in(one) for one in spacing] if isinstance(spacing, list) else []
    kept = [number for number in numbers if number is not None and number > 0]
    return kept if len(numbers) == len(kept) == 2 else None


def guidelines(evidence: Iterable[Row]) -> list[dict[str, Any]]:
    """Published equations beside the model: their risk, or what stood in the way."""
    return [_guideline(row) for row in evidence if row["kind"] == "guideline"]


def _guideline(row: Row) -> dict[str, Any]:
    note = table_in(row["note"])
    inputs = note.get("inputs")
    value = finite(row["value"])
    return {
        "equation": row["name"],
        "outcome": note.get("outcome") if isinstance(note.get("outcome"), str) else None,
        "horizon_years": number_in(note.get("horizon_years")),
        "risk": value if value is not None and 0 <= value <= 1 else None,
        "time": utc(row["time"]),
        "applies": note.get("applies") is not False,
        "source": note.get("source") if isinstance(note.get("source"), str) else None,
        "risk_of": _both(note.get("risk_of")),
        "problems": _problems(note),
        "inputs": [_input(name, one) for name, one in inputs.items()] if isinstance(inputs, dict) else [],
    }


def _problems(note: dict[str, Any]) -> list[dict[str, str]]:
    """What stood in the way, in both languages where the note has both."""
    english, chinese = (
        [one for one in note.get(key) or [] if isinstance(one, str)] if isinstance(note.get(key) or [], list) else []
        for key in ("problems", "problems_zh")
    )
    both = english if len(chinese) != len(english) else chinese
    return [{"en": en, "zh": zh} for en, zh in zip(english, both, strict=True)]


def _both(entry: object) -> dict[str, str] | None:
    """A text in both languages; None where it is not."""
    texts = entry if isinstance(entry, dict) else {}
    found = {lang: texts[lang] for lang in ("en", "zh") if isinstance(texts.get(lang), str)}
    return found if "en" in found else None


def _input(name: str, entry: object) -> dict[str, Any]:
    entry = entry if isinstance(entry, dict) else {"value": entry}
    value, unit, time = entry.get("value"), entry.get("unit"), entry.get("time")
    number = number_in(value)
    return {
        "name": name,
        "label": _both(entry.get("label")),
        "value": number,
        "text_value": value if isinstance(value, str) else None if number is not None else _truth(value),
        "unit": unit if isinstance(unit, str) else None,
        "time": time if isinstance(time, str) else None,
    }


def _truth(value: object) -> str | None:
    return ("yes" if value else "no") if isinstance(value, bool) else None
