"""Lists of files, and files of lesions that readers marked, as rows: COCO JSON, LIDC-IDRI's XML, COCA's property lists.

A reader gets one file and gives a frame; ValueError or KeyError where the file is not what it should be. Points are
JSON, [[row, col], ...] in pixels of the image.
"""

import json
import plistlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import pi, sqrt
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import polars as pl

_COCO: Final = {
    "file_name": pl.String,
    "category": pl.String,
    "annotation": pl.Int64,
    "part": pl.Int64,
    "points": pl.String,
    "row": pl.Float64,
    "col": pl.Float64,
    "height_px": pl.Float64,
    "width_px": pl.Float64,
}
_LIDC: Final = {
    "patient": pl.String,
    "series_uid": pl.String,
    "sop_uid": pl.String,
    "z_mm": pl.Float64,
    "nodule": pl.Int64,
    "readers": pl.Int64,
    "malignancy": pl.Float64,
    "points": pl.String,
}
_COCA: Final = {
    "patient": pl.String,
    "artery": pl.String,
    "image_index": pl.Int64,
    "area_mm2": pl.Float64,
    "mean_hu": pl.Float64,
    "highest_hu": pl.Float64,
    "x_mm": pl.Float64,
    "y_mm": pl.Float64,
    "z_mm": pl.Float64,
    "diameter_mm": pl.Float64,
    "points": pl.String,
}
_COCA_SCORE: Final = {
    "patient": pl.String,
    "agatston": pl.Float64,
    "area_mm2": pl.Float64,
    "calcifications": pl.Int64,
}
_RADIOGRAPH: Final = "IdriReadMessage"
_FOLDERS: Final = 4
_FILES: Final = {
    "path": pl.String,
    "name": pl.String,
    "stem": pl.String,
    "folder": pl.String,
    **{f"folder_{up}": pl.String for up in range(2, _FOLDERS + 1)},
    "folder_number": pl.String,
}
_WEIGHTS: Final = ((400.0, 4), (300.0, 3), (200.0, 2), (130.0, 1))
"""Agatston's weight of a calcification by its highest density in HU. Source: Agatston 1990, JACC 15:827-832."""
_LEAST_MM2: Final = 1.0
"""A smaller calcification counts nothing (Agatston 1990)."""


def list_files(root: Path, paths: Sequence[Path]) -> pl.DataFrame:
    """One row per file that is there, whatever is in it.

    Columns: path (below `root`), name, stem (the name without its last ending, .nii.gz as one), folder, folder_2 and so
    on (the folder, and those it lies in; null above `root`), folder_number (the digits that the folder's name ends in).
    """
    rows = []
    for path in paths:
        below = path.relative_to(root)
        folders = [*reversed(below.parts[:-1]), *[None] * _FOLDERS][:_FOLDERS]
        number = re.search(r"[0-9]+$", folders[0] or "")
        rows.append(
            {
                "path": below.as_posix(),
                "name": path.name,
                "stem": re.sub(r"(?i)(\.nii\.gz|\.[^.]+)$", "", path.name),
                "folder": folders[0],
                **{f"folder_{up}": folders[up - 1] for up in range(2, _FOLDERS + 1)},
                "folder_number": number[0] if number else None,
            }
        )
    return pl.DataFrame(rows, schema=_FILES)


def read_coco(path: Path) -> pl.DataFrame:
    """One row per polygon of each annotation; one that has none (a run-length mask) is one row with its box alone.

    Columns: file_name, category, annotation (its id), part (from 1), points, and the annotation's box as row, col
    (upper left corner), height_px, width_px.
    """
    data = json.loads(path.read_text(encoding="utf-8"))
    images = {image["id"]: str(image["file_name"]) for image in data["images"]}
    categories = {one["id"]: str(one["name"]) for one in data["categories"]}
    rows = []
    for one in data["annotations"]:
        col, row, width, height = (float(number) for number in one["bbox"])
        shapes = one.get("segmentation") or []
        polygons = [shape for shape in shapes if len(shape) >= 6] if isinstance(shapes, list) else []
        for part, flat in enumerate(polygons or [None], start=1):
            rows.append(
                {
                    "file_name": images[one["image_id"]],
                    "category": categories[one["category_id"]],
                    "annotation": int(one["id"]),
                    "part": part,
                    "points": None if flat is None else _points(list(zip(flat[1::2], flat[::2], strict=True))),
                    "row": row,
                    "col": col,
                    "height_px": height,
                    "width_px": width,
                }
            )
    return pl.DataFrame(rows, schema=_COCO)


def _points(pairs: Sequence[tuple[float, float]]) -> str:
    return json.dumps([[round(float(row), 3), round(float(col), 3)] for row, col in pairs])


@dataclass(frozen=True)
class _Contour:
    sop_uid: str
    z_mm: float
    rows: tuple[float, ...]
    cols: tuple[float, ...]

    def meets(self, other: "_Contour") -> bool:
        """Whether the boxes of two contours of one slice overlap."""
        if self.sop_uid != other.sop_uid:
            return False
        return all(
            min(mine) <= max(theirs) and min(theirs) <= max(mine)
            for mine, theirs in ((self.rows, other.rows), (self.cols, other.cols))
        )


@dataclass(frozen=True)
class _Nodule:
    """What one reader drew of one nodule."""

    reader: int
    malignancy: float
    contours: tuple[_Contour, ...]

    def meets(self, other: "_Nodule") -> bool:
        return any(one.meets(another) for one in self.contours for another in other.contours)


def read_lidc(path: Path) -> pl.DataFrame:
    """One row per slice of each nodule of 3 mm or more, as the reader with the middle number of slices drew it.

    What several readers drew is one nodule where their contours overlap (LIDC numbers nodules by reader). Marks of
    other things and of nodules below 3 mm are left out. A scan on which nobody drew one is one row without a nodule;
    the reading of a radiograph, which the archive has too, gives none.

    Columns: patient (folder of the study's folder, as the archive lays files out), series_uid, sop_uid, z_mm, nodule
    (from 1), readers (how many drew it, 1 to 4; 0 where nobody drew one), malignancy (their median, 1 to 5), points.
    Source: Armato 2011, Med Phys 38:915-931 (the reading process).
    """
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(f"not XML ({type(error).__name__})") from None
    if root.tag.rsplit("}", 1)[-1] == _RADIOGRAPH:
        return pl.DataFrame([], schema=_LIDC)
    series = next((_text(one) for one in _all(root, "SeriesInstanceUid")), None)
    if series is None:
        raise ValueError("no SeriesInstanceUid: not a reading of a CT scan")
    drawn = [
        nodule
        for reader, session in enumerate(_all(root, "readingSession"))
        for nodule in _nodules(session, reader)
        if nodule.contours
    ]
    patient = path.parts[-4] if len(path.parts) >= 4 else ""
    empty = dict.fromkeys(_LIDC) | {"patient": patient, "series_uid": series, "readers": 0}
    rows: list[dict[str, Any]] = []
    for number, same in enumerate(_together(drawn), start=1):
        chosen = sorted(same, key=lambda one: (len(one.contours), one.reader))[(len(same) - 1) // 2]
        grades = sorted(one.malignancy for one in same)
        known = {
            "nodule": number,
            "readers": len({one.reader for one in same}),
            "malignancy": (grades[(len(grades) - 1) // 2] + grades[len(grades) // 2]) / 2,
        }
        rows += [
            empty
            | known
            | {
                "sop_uid": contour.sop_uid,
                "z_mm": contour.z_mm,
                "points": _points(list(zip(contour.rows, contour.cols, strict=True))),
            }
            for contour in chosen.contours
        ]
    return pl.DataFrame(rows or [empty], schema=_LIDC)


def _all(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    """Descendants of that name, whatever the namespace and the case of its letters."""
    return (one for one in element.iter() if one.tag.rsplit("}", 1)[-1].lower() == name.lower())


def _text(element: ElementTree.Element) -> str:
    return (element.text or "").strip()


def _first(element: ElementTree.Element, name: str) -> str:
    return next((_text(one) for one in _all(element, name)), "")


def _nodules(session: ElementTree.Element, reader: int) -> Iterator[_Nodule]:
    for found in _all(session, "unblindedReadNodule"):
        grade = _first(found, "malignancy")
        if not grade:  # below 3 mm: one point and no characteristics
            continue
        contours = []
        for roi in _all(found, "roi"):
            edges = list(_all(roi, "edgeMap"))
            if len(edges) >= 3 and _first(roi, "inclusion").upper() != "FALSE":
                rows = tuple(float(_first(edge, "yCoord")) for edge in edges)
                cols = tuple(float(_first(edge, "xCoord")) for edge in edges)
                contours.append(_Contour(_first(roi, "imageSOP_UID"), float(_first(roi, "imageZposition")), rows, cols))
        yield _Nodule(reader, float(grade), tuple(contours))


def _together(drawn: Sequence[_Nodule]) -> list[list[_Nodule]]:
    """Nodules that overlap, directly or through others, in the order of the first of each."""
    groups: list[list[_Nodule]] = []
    for nodule in drawn:
        touched = [group for group in groups if any(nodule.meets(other) for other in group)]
        rest = [group for group in groups if not any(group is one for one in touched)]
        merged = [one for group in touched for one in group] + [nodule]
        at = next((i for i, group in enumerate(groups) if any(group is one for one in touched)), len(rest))
        groups = [*rest[:at], merged, *rest[at:]]
    return groups


def read_coca(path: Path) -> pl.DataFrame:
    """One row per calcification that was outlined in a gated CT scan of COCA.

    Columns: patient (the file's name), artery, image_index, area_mm2, mean_hu, highest_hu, its centre in patient
    coordinates (x_mm, y_mm, z_mm), diameter_mm of a disc of that area, points.
    """
    return pl.DataFrame([row for row in _calcifications(path) if row["points"] is not None], schema=_COCA)


def read_coca_scores(path: Path) -> pl.DataFrame:
    """One row per scan: Agatston-like score, area and number of its calcifications; all 0 where none was outlined.

    Each outline counts its area times a weight by its highest density, from 130 HU and 1 mm2 on.

    Source: Agatston 1990, J Am Coll Cardiol 15:827-832.
    """
    found = list(_calcifications(path))
    return pl.DataFrame(
        [
            {
                "patient": path.stem,
                "agatston": float(sum(_agatston(row["area_mm2"], row["highest_hu"]) for row in found)),
                "area_mm2": float(sum(row["area_mm2"] for row in found)),
                "calcifications": len(found),
            }
        ],
        schema=_COCA_SCORE,
    )


def _agatston(area_mm2: float, highest_hu: float) -> float:
    if area_mm2 < _LEAST_MM2:
        return 0.0
    return area_mm2 * next((weight for least, weight in _WEIGHTS if highest_hu >= least), 0)


def _calcifications(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        try:
            data = plistlib.load(file)
        except (plistlib.InvalidFileException, ValueError, AttributeError, IndexError) as error:
            raise ValueError(f"not a property list ({type(error).__name__})") from None
    for image in data["Images"]:
        for roi in image["ROIs"]:
            area = 100.0 * float(roi["Area"])  # the file has cm2
            if area <= 0:
                continue
            pixels, places = ([_numbers(text) for text in roi.get(key, ())] for key in ("Point_px", "Point_mm"))
            centre = [sum(values) / len(places) for values in zip(*places, strict=True)] if places else [None] * 3
            yield {
                "patient": path.stem,
                "artery": str(roi["Name"]),
                "image_index": int(image["ImageIndex"]),
                "area_mm2": area,
                "mean_hu": float(roi["Mean"]),
                "highest_hu": float(roi["Max"]),
                **dict(zip(("x_mm", "y_mm", "z_mm"), centre, strict=True)),
                "diameter_mm": 2.0 * sqrt(area / pi),
                "points": _points([(xy[1], xy[0]) for xy in pixels]) if len(pixels) >= 3 else None,
            }


def _numbers(text: str) -> list[float]:
    """ "(12.5, 3)" -> [12.5, 3.0]"""
    return [float(number) for number in re.findall(r"[-+]?[\d.]+(?:[eE][-+]?\d+)?", text)]


def _each(read: Callable[[Path], pl.DataFrame]) -> Callable[[Path, Sequence[Path]], pl.DataFrame]:
    """The rows of all files, one after the other. A file that cannot be read is named below `root`, its text never."""

    def together(root: Path, paths: Sequence[Path]) -> pl.DataFrame:
        found = []
        for path in paths:
            try:
                found.append(read(path))
            except (ValueError, KeyError, TypeError, OSError) as error:
                raise ValueError(f"{path.relative_to(root)} ({type(error).__name__})") from None
        return pl.concat(found)

    return together


SETS: Final[dict[str, Callable[[Path, Sequence[Path]], pl.DataFrame]]] = {
    "files": list_files,
    "coco": _each(read_coco),
    "lidc": _each(read_lidc),
    "coca": _each(read_coca),
    "coca_scores": _each(read_coca_scores),
}
"""Readers of all files that match, as one table, by the name that `format` of a table in ingest.yaml gives them."""
