"""Says what a warehouse holds, what is wrong with it, and what a study's model would miss, as a plain dict."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import numpy as np

from riskpred.config.features import FeaturesConfig
from riskpred.config.findings import is_finding
from riskpred.config.outcomes import OutcomesConfig
from riskpred.config.study import ModelConfig, code_matches
from riskpred.progress import Progress, Silent
from riskpred.records.chunk import STATIC
from riskpred.records.cohort import cohort
from riskpred.records.image_path import image_file
from riskpred.records.image_table import COMPLETE_IMAGE
from riskpred.records.warehouse import Warehouse

MEANINGS = {
    "non_finite_values": "values that are no finite number; read as null",
    "images_incomplete": "rows of images without image_id, subject_id, image_type or path; left out",
    "duplicate_image_ids": "rows of images whose image_id stands before",
    "subjects_without_split": "subjects that subject_splits does not name",
    "unknown_splits": "rows of subject_splits that are not train, tuning or held_out",
    "duplicate_events": "rows of events that stand before, equal in every field; all are read",
    "events_unsorted": "events do not lie in subject order: every pass sorts first",
    "digests_stale": "the file was changed after the ingest: its digests are read anew, slowly",
    "mixed_units": "codes with values in more than one unit: no model takes them",
    "future_times": "events and images later than today",
    "images_missing": "images whose file is not under the image root",
    "images_refused": "images whose path leads out of the image root, or to no regular file",
}
"""What each problem is called in words."""


def inspect(warehouse: Warehouse, progress: Progress | None = None) -> dict[str, Any]:
    """What is there and what is wrong.

    Returns: subjects, events, images, image_types (what their files say: body parts, views, frames, spacing, marked
        lesions), splits, codes (count, units, subjects, share, first and last time), problems (name -> how many) and
        the rejects that the ingest kept, by source and reason. Times are ISO 8601, UTC.
    """
    subjects = warehouse.subject_count
    codes = [
        {
            "code": code,
            "events": count,
            "units": [unit for unit in warehouse.code_units[code] if unit is not None],
            "subjects": people,
            "share": people / subjects,
            "first": _iso(first),
            "last": _iso(last),
        }
        for code, count, people, first, last in warehouse.query(
            "SELECT code, count(*), count(DISTINCT subject_id), epoch_us(min(time)), epoch_us(max(time))"
            " FROM events GROUP BY code ORDER BY code"
        )
    ]
    types = f"SELECT image_type, count(*) FROM images WHERE {COMPLETE_IMAGE} GROUP BY 1 ORDER BY 1"
    return {
        "warehouse": str(warehouse.path),
        "study": warehouse.study,
        "site": warehouse.site,
        "as_of": _iso(warehouse.as_of),
        "data_until": _iso(warehouse.data_until),
        "image_root": str(warehouse.image_root),
        "subjects": subjects,
        "events": warehouse.event_count,
        "images": dict(warehouse.query(types)),
        "image_types": _image_types(warehouse),
        "splits": dict(sorted(Counter(warehouse.splits().values()).items())),
        "codes": codes,
        "problems": _problems(warehouse, progress or Silent()),
        "rejects": _rejects(warehouse),
    }


def missed_by(config: ModelConfig, warehouse: Warehouse, progress: Progress | None = None) -> dict[str, Any]:
    """What a model of this study would miss here, and how many rows it would learn from.

    Returns: required, optional (feature codes that no event has), cohort (entry, leaving, label codes that no event
        has), images (types without an image), rows (prediction rows), eligible, and events per outcome.
    """
    there = warehouse.codes
    required, optional = _feature_codes(config.features)
    labels = [code for outcome in config.outcomes.outcomes.values() for code in outcome.rule.codes]
    cohort_codes = [*config.outcomes.entry_codes, *config.outcomes.leaving_codes, *labels]
    types = {kind for kind, _ in warehouse.query(f"SELECT DISTINCT image_type, 1 FROM images WHERE {COMPLETE_IMAGE}")}
    wanted_types = [
        kind for spec in config.features.modalities.values() if spec.kind == "image" for kind in spec.image_types
    ]

    def absent(codes: list[str]) -> list[str]:
        return [code for code in dict.fromkeys(codes) if not any(code_matches(name, (code,)) for name in there)]

    return {
        "study": config.name,
        "required": absent(required),
        "optional": absent(optional),
        "cohort": absent(cohort_codes),
        "images": [] if types & set(wanted_types) else wanted_types,
        **_eligible(config.outcomes, warehouse, progress or Silent()),
    }


def _feature_codes(features: FeaturesConfig) -> tuple[list[str], list[str]]:
    required: list[str] = []
    optional: list[str] = []
    for spec in features.modalities.values():
        if spec.kind == "series":
            (required if spec.required else optional).extend(spec.codes)
        elif spec.kind == "tabular":
            for block in spec.features:
                codes = ["MEDS_BIRTH"] if block.builtin == "age_years" else list(block.codes)
                (required if block.required else optional).extend(codes)
    # What is found in images stands in no event: whether there are such images is told by type.
    return required, [code for code in optional if code not in required and not is_finding(code)]


def _eligible(outcomes: OutcomesConfig, warehouse: Warehouse, progress: Progress) -> dict[str, Any]:
    names = list(outcomes.outcomes)
    found = {name: {"eligible": 0, "events": 0} for name in names}
    rows, done = 0, 0
    for chunk in warehouse.chunks(8192):
        part = cohort(chunk, outcomes, warehouse.data_until)
        rows, done = rows + len(part.prediction_time), done + len(chunk)
        for group in outcomes.groups:
            for name in group.outcomes:
                came = group.happened(part.cause[group.name], name)
                found[name]["eligible"] += int(part.eligible[name].sum())
                found[name]["events"] += int(np.sum(part.eligible[name] & came))
        progress.step("who is eligible", done, warehouse.subject_count)
    return {"rows": rows, "outcomes": found}


def _problems(warehouse: Warehouse, progress: Progress) -> dict[str, int]:
    now = int(datetime.now(UTC).timestamp() * 1_000_000)
    late = sum(
        warehouse.query(f"SELECT count(*) FROM {table} WHERE epoch_us(time) > {now}")[0][0]
        for table in ("events", "images")
    )
    lost: Counter[str] = Counter()
    paths = warehouse.query(f"SELECT path FROM images WHERE {COMPLETE_IMAGE}")
    for number, (path,) in enumerate(paths, start=1):
        found = image_file(warehouse.image_root, path, folders=True)
        if isinstance(found, str):
            lost[found] += 1
        if number % 1000 == 0 or number == len(paths):
            progress.step("images there", number, len(paths))
    counts = {
        **warehouse.problems,
        "mixed_units": sum(len(units) > 1 for units in warehouse.code_units.values()),
        "future_times": late,
        "images_missing": lost["file_missing"],
        "images_refused": lost["path_refused"],
    }
    return {name: count for name, count in counts.items() if count}


def _image_types(warehouse: Warehouse) -> list[dict[str, Any]]:
    """What the files of each image type say of themselves, as far as the warehouse has those columns."""
    there = set(warehouse.columns("images"))

    def column(name: str, sql: str) -> str:
        return sql if name in there else "NULL"

    def counts(name: str) -> str:
        return column(name, f"histogram(coalesce({name}, 'not said'))")

    marked = "NULL"
    if "image_id" in warehouse.columns("annotations"):
        marked = "count(DISTINCT image_id) FILTER (image_id IN (SELECT image_id FROM annotations))"
    rows = warehouse.query(
        f"SELECT image_type, count(*), count(DISTINCT subject_id), epoch_us(min(time)), epoch_us(max(time)),"
        f" {counts('body_part')}, {counts('view')}, {counts('laterality')},"
        f" {column('frames', 'min(frames)')}, {column('frames', 'max(frames)')},"
        f" {column('row_spacing_mm', 'count(row_spacing_mm)')}, {column('row_spacing_mm', 'min(row_spacing_mm)')},"
        f" {column('row_spacing_mm', 'max(row_spacing_mm)')}, {column('slice_spacing_mm', 'min(slice_spacing_mm)')},"
        f" {column('slice_spacing_mm', 'max(slice_spacing_mm)')}, {marked}"
        f" FROM images WHERE {COMPLETE_IMAGE} GROUP BY 1 ORDER BY 1"
    )
    return [
        {
            "image_type": kind,
            "images": images,
            "subjects": people,
            "first": _iso(first),
            "last": _iso(last),
            "body_parts": _ordered(parts),
            "views": _ordered(views),
            "lateralities": _ordered(sides),
            "frames": [fewest, most],
            "with_spacing": spaced,
            "spacing_mm": [finest, coarsest],
            "slice_spacing_mm": [thinnest, thickest],
            "annotated": annotated,
        }
        for (
            kind,
            images,
            people,
            first,
            last,
            parts,
            views,
            sides,
            fewest,
            most,
            spaced,
            finest,
            coarsest,
            thinnest,
            thickest,
            annotated,
        ) in rows
    ]


def _ordered(counted: dict[str, int] | None) -> dict[str, int]:
    """The most frequent first."""
    return dict(sorted((counted or {}).items(), key=lambda item: (-item[1], item[0])))


def _rejects(warehouse: Warehouse) -> list[dict[str, Any]]:
    keys = ("source", "field", "reason", "wanted")
    if not set(keys) <= set(warehouse.columns("rejects")):
        return []  # the table is optional, and another tool's may be another one
    rows = warehouse.query(f"SELECT {', '.join(keys)}, count(*) FROM rejects GROUP BY ALL ORDER BY 5 DESC, 1, 2, 3, 4")
    return [dict(zip((*keys, "facts"), row, strict=True)) for row in rows]


def _iso(microseconds: int | None) -> str | None:
    if microseconds is None or microseconds == STATIC:
        return None
    return str(np.datetime64(microseconds, "us").astype("datetime64[s]"))
