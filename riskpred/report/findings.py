"""What was found in someone's images, as plain numbers: pictures, lesions, growth since the image before."""

import json
import math
import struct
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from riskpred.report.entries import number_in, table_in
from riskpred.report.language import text
from riskpred.report.read import Row, finite, utc

KIND = "finding"
"""Kind of the rows of evidence that this draws."""

SHOWN_LESIONS = 10
"""Lesions of one image in the table; all are counted, and stand in the scores file."""
SHOWN_WITHOUT_PICTURE = 6
_LARGEST_PICTURE = 65536
_PNG = b"\x89PNG\r\n\x1a\n"
_NO_PICTURE = text("no picture of at most 64 KiB was stored")
_UNREADABLE = text("the outline could not be read")
_SIZES = ("total_volume_mm3", "largest_diameter_mm", "total_area_mm2", "total_area_px")
"""Measures by which growth is told, the first that both images have."""
_NUMBERS = (
    "confidence", "area_px", "area_mm2", "volume_mm3", "longest_diameter_mm", "row", "col", "slice", "x_mm", "y_mm",
    "z_mm",
)  # fmt: skip


def findings(rows: Sequence[Row], evidence: Sequence[Row]) -> dict[str, Any]:
    """images: newest first, those with a picture before the others; not_shown: how many images are left out.

    Args: rows: of `findings`, of one subject.   evidence: all of the subject's.
    """
    by_image: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["lesion"]):
        by_image.setdefault(row["image_id"], []).append(row)
    told = [_told(row) for row in evidence if row["kind"] == KIND]
    told.sort(key=lambda one: (one["time"] is not None, one["time"] or ""))
    for place, one in enumerate(told):
        labels = set(one["measures"])
        mine = [row for row in by_image.get(one["image_id"], []) if row["label"] in labels]
        one |= _lesions(mine) | {"before": _before(one, told[:place])}
        for lesion in one["lesions"]:
            # The only slice of a picture is not worth a word.
            flat = one["slice"] is None and lesion["volume_mm3"] is None
            lesion["slice"] = None if flat and lesion["slice"] == 0 else lesion["slice"]
    known = {one["image_id"] for one in told}
    # Nobody drew the others: they were found in someone whose risks were not explained.
    told += [_blank(image_id) | _lesions(mine) for image_id, mine in sorted(by_image.items()) if image_id not in known]
    told.sort(key=lambda one: one["png_base64"] is None)  # stable
    drawn = [one for one in reversed(told) if one["png_base64"] is not None]
    others = [one for one in reversed(told) if one["png_base64"] is None]
    return {
        "images": [*drawn, *others[:SHOWN_WITHOUT_PICTURE]],
        "not_shown": len(others[SHOWN_WITHOUT_PICTURE:]),
    }


def _blank(image_id: str) -> dict[str, Any]:
    shown: dict[str, Any] = {"image_id": image_id, "time": None, "stage": None, "measures": {}, "slice": None}
    return shown | {"png_base64": None, "width": 0, "height": 0, "outlines": [], "before": None, "problem": None}


def _lesions(rows: Sequence[Row]) -> dict[str, Any]:
    lesions = [
        {"lesion": row["lesion"], "label": row["label"]} | {name: finite(row[name]) for name in _NUMBERS}
        for row in rows
    ]
    return {"lesions": lesions[:SHOWN_LESIONS], "lesions_not_shown": len(lesions[SHOWN_LESIONS:])}


def _told(row: Row) -> dict[str, Any]:
    """One image as its evidence has it; `problem` says why its picture is not shown."""
    note = table_in(row["note"])
    measures = note.get("measures")
    shown = _blank(row["name"]) | {
        "time": utc(row["time"]),
        "stage": note.get("stage") if isinstance(note.get("stage"), str) else None,
        "measures": _measures(measures) if isinstance(measures, dict) else {},
        "slice": number_in(note.get("slice")),
    }
    picture = row["picture"]
    if not picture:
        return shown
    if len(picture) > _LARGEST_PICTURE or not picture.startswith(_PNG) or len(picture) < 24:
        return shown | {"problem": _NO_PICTURE}
    width, height = struct.unpack(">II", picture[16:24])
    if not (0 < width <= 8192 and 0 < height <= 8192):
        return shown | {"problem": _NO_PICTURE}
    outlines, problem = _outlines(row["outline"])
    encoded = b64encode(picture).decode("ascii")
    return shown | {
        "png_base64": encoded, "width": width, "height": height, "outlines": outlines, "problem": problem
    }  # fmt: skip


def _measures(given: dict[str, Any]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for label, one in given.items():
        numbers = {name: number_in(value) for name, value in one.items()} if isinstance(one, dict) else {}
        found[label] = {name: value for name, value in numbers.items() if value is not None}
    return found


def _before(one: dict[str, Any], earlier: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Change of each label against the latest image of an earlier day that the same stage looked at; images of one day
    are parts of one examination."""
    if one["time"] is None:
        return None
    candidates = [
        other
        for other in earlier
        if other["stage"] == one["stage"] and other["time"] is not None and other["time"][:10] < one["time"][:10]
    ]
    if not candidates:
        return None
    last = candidates[-1]
    changes = {}
    for label, now in one["measures"].items():
        then = last["measures"].get(label, {})
        measure = next((name for name in _SIZES if name in now and name in then), None)
        count = now["count"] - then["count"] if "count" in now and "count" in then else None
        changes[label] = {
            "count": count,
            "measure": measure,
            "change": None if measure is None else now[measure] - then[measure],
        }
    return {"time": last["time"], "changes": changes}


def _outlines(outline: str | None) -> tuple[list[dict[str, Any]], str | None]:
    if outline is None:
        return [], None
    found = []
    try:
        for one in json.loads(outline):
            corners = [[float(row), float(col)] for row, col in one["polygon"]]
            if not all(math.isfinite(place) for corner in corners for place in corner):
                return [], _UNREADABLE
            if len(corners) >= 3:
                found.append({"lesion": int(one["lesion"]), "polygon": corners})
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return [], _UNREADABLE
    return found, None
