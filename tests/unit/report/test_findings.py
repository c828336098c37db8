"""Findings of one person as plain numbers and in words: growth, what has no picture, what cannot be read."""

import io
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

from PIL import Image

import riskpred.report as report
from riskpred.config.radiomics import RADIOMICS
from riskpred.report.draw import found
from riskpred.report.findings import SHOWN_WITHOUT_PICTURE, findings
from riskpred.report.language import language
from riskpred.report.names import Names
from riskpred.report.words import Words

EN, ZH = (Names(Words(language(code)), {}) for code in ("en", "zh"))


def picture() -> bytes:
    stream = io.BytesIO()
    Image.new("L", (40, 30)).save(stream, format="PNG")
    return stream.getvalue()


def told(
    image: str, day: datetime | None, drawn: bool = True, outline: str | None = None, **measures: float
) -> dict[str, Any]:
    note = {"stage": "chest", "measures": {"nodule": measures}, "slice": 12.0 if drawn else None}
    lines = outline or json.dumps([{"lesion": 1, "polygon": [[3, 4], [3, 9], [8, 9]]}])
    return {
        "kind": "finding", "name": image, "time": day, "picture": picture() if drawn else None,
        "outline": lines if drawn else None, "note": json.dumps(note),
    }  # fmt: skip


def lesion(image: str, number: int = 1, **known: float) -> dict[str, Any]:
    blank = dict.fromkeys(
        ("area_px", "area_mm2", "volume_mm3", "longest_diameter_mm", "row", "col", "slice", "x_mm", "y_mm", "z_mm")
    )
    return {"image_id": image, "lesion": number, "label": "nodule", "confidence": 0.9, **blank, **known}


FIRST, SAME_DAY, LAST = datetime(2025, 3, 1, 8), datetime(2026, 3, 1, 8), datetime(2026, 3, 1, 9)


def test_growth_is_against_the_image_of_an_earlier_day() -> None:
    shown = findings(
        [lesion("c", longest_diameter_mm=12.0)],
        [
            told("a", FIRST, count=1, largest_diameter_mm=9.5, total_area_px=40),
            told("b", SAME_DAY, count=0, largest_diameter_mm=0, total_area_px=0),
            told("c", LAST, count=2, largest_diameter_mm=12.0, total_area_px=60),
        ],
    )
    newest = shown["images"][0]
    assert (newest["image_id"], newest["before"]["time"]) == ("c", "2025-03-01T08:00:00Z")
    change = newest["before"]["changes"]["nodule"]
    assert change == {"count": 1, "measure": "largest_diameter_mm", "change": 2.5}
    assert EN.growth(change) == "largest diameter +2.5\u00a0mm, number +1"
    assert ZH.growth(change) == "最大径 +2.5\u00a0mm，数目 +1"
    assert shown["images"][-1]["before"] is None, "nothing came before the first"
    assert (
        EN.growth({"count": 0, "measure": "total_area_px", "change": -3.0}) == "area −3\u00a0pixels, as many as before"
    )
    assert EN.growth({"count": None, "measure": None, "change": None}) == "cannot be compared"


def test_size_and_place_in_words() -> None:
    one = lesion(
        "a",
        longest_diameter_mm=12.04,
        volume_mm3=904.2,
        slice=34.2,
        row=120.4,
        col=88.0,
        x_mm=12.52,
        y_mm=-30.0,
        z_mm=88.0,
    )
    assert EN.lesion_size(one) == "12\u00a0mm across, 904\u00a0mm³"
    assert EN.lesion_place(one) == "slice 34, row 120, column 88"
    assert EN.lesion_mm(one) == "x 12.5, y −30, z 88\u00a0mm"
    assert ZH.lesion_place(one) == "第 34 层，第 120 行、第 88 列"
    assert EN.lesion_size(lesion("a", area_px=177.0)) == "177\u00a0pixels"


def test_codes_of_findings_have_a_name_in_every_language() -> None:
    assert EN.feature("FINDING//enhancing_tumour//largest_diameter_mm:change") == (
        "Enhancing tumour: largest diameter, change since the one before"
    )
    assert ZH.code("FINDING//nodule//count") == "结节：影像中的数目"
    assert EN.code("FINDING//nodule//other") != EN.code("FINDING//nodule//count"), "another code is named as ever"


def test_images_without_a_picture_come_last_and_are_counted() -> None:
    many = [told(f"n{n}", FIRST, drawn=False, count=0) for n in range(SHOWN_WITHOUT_PICTURE + 3)]
    shown = findings([], [*many, told("drawn", LAST, count=1)])
    assert shown["images"][0]["image_id"] == "drawn"
    assert (len(shown["images"]), shown["not_shown"]) == (SHOWN_WITHOUT_PICTURE + 1, 3)


def test_findings_of_someone_not_explained_are_still_listed() -> None:
    shown = findings([lesion("a", 1, area_px=5.0), lesion("a", 2, area_px=7.0), lesion("b", 1)], [])
    assert {one["image_id"]: len(one["lesions"]) for one in shown["images"]} == {"a": 2, "b": 1}
    assert all(one["time"] is None and one["png_base64"] is None for one in shown["images"])


def test_an_outline_that_cannot_be_read_costs_itself() -> None:
    (shown,) = findings(
        [], [told("a", LAST, outline='[{"lesion": 1, "polygon": [[NaN, 1], [2, 2], [3, 3]]}]', count=1)]
    )["images"]
    assert shown["outlines"] == []
    assert shown["problem"] == "the outline could not be read"
    assert "polygon" not in str(found(EN.words, shown))


def test_the_drawing_numbers_each_lesion_once() -> None:
    lines = json.dumps(
        [{"lesion": 2, "polygon": [[1, 1], [1, 5], [5, 5]]}, {"lesion": 2, "polygon": [[9, 9], [9, 12], [12, 12]]}]
    )
    (shown,) = findings([], [told("a", LAST, outline=lines, count=1)])["images"]
    drawn = str(found(EN.words, shown))
    assert drawn.count('class="outline-light"') == 2
    assert drawn.count(">2</text>") == 2, "dark under light, once"


def test_every_radiomics_measure_has_a_name_of_its_own() -> None:
    measures = [f"{family}_{name}" for family, names in RADIOMICS.items() for name in names]
    for words in (EN, ZH):
        named = [words.code(f"IMAGE//breast//{one}") for one in measures]
        assert len(set(named)) == len(measures)
        assert not any("_" in one or "IMAGE" in one or "%" in one for one in named)
    assert EN.code("IMAGE//breast//mass_shadow") == "Breast image: darkest area: brightness behind against beside"
    assert ZH.code("IMAGE//breast//waves_sd_long_level") == "乳腺影像：宽水平条纹的不均匀程度"
    assert EN.code("IMAGE//left_hand//patterns_3_of_8_at_1").startswith("Left hand image: share of points with 3 of 8")


def test_the_rim_of_a_number_grows_with_the_number() -> None:
    """A picture of 48 pixels is drawn in units of its pixels: a rim of 3 of them would hide the lesion beside it."""
    css = (Path(report.__file__).parent / "templates" / "charts.css").read_text()
    (rule,) = re.findall(r"\.number-dark\{([^}]*)\}", css)
    (width,) = re.findall(r"stroke-width:([^;]*)", rule)
    assert width.endswith("em")
    assert float(width.removesuffix("em")) <= 0.2
    assert "stroke-linejoin:round" in rule
