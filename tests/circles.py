"""A tiny hospital whose pictures hold discs of known place and size, and the study that finds them.

40 subjects, two pictures each a year apart; 4 in 5 have a disc that grows, and whose growth decides who dies. Everyone
drawn is invented; the truth is returned, so that tests compare with it and not with another run.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from PIL import Image, ImageDraw

from riskpred.records.schema import table_schema

SIDE = 48
ENTRY, AS_OF = datetime(2024, 1, 10), datetime(2025, 1, 10)
SUBJECTS = tuple(range(1, 41))
HELD_OUT = tuple(range(33, 41))
"""Not annotated for training: the split held_out."""

OUTCOMES = """
entry_codes: [ENTRY]
death_codes: [MEDS_DEATH]
leaving_codes: [LEFT]
prediction_times: {days_after_entry: [366]}
horizons_years: [1, 2]
outcomes:
  died: {display: Death of any cause, rule: {codes: [MEDS_DEATH]}}
"""
FEATURES = """
modalities:
  tabular:
    kind: tabular
    features:
      - builtin: age_years
      - codes: [FINDING//disc//count, FINDING//disc//total_area_px]
        aggregates: [last, change]
"""
NETWORK = """
members: 2
intervals: 4
embedding: 4
encoders:
  tabular: {kind: tabular, members: 2, width: 8, depth: 1}
training: {epochs: 2, batch_size: 16}
"""
IMAGING = """
segmentation:
  discs:
    image_types: [DX]
    size: 48
    labels: {1: disc}
    network: {widths: [8, 16]}
    training: {steps: 80, batch_size: 8, learning_rate: 0.005, average: 0.9}
    folds: 2
    flip_averaging: false
    lesions: {least_px: 6}
"""


@dataclass(frozen=True)
class Disc:
    """What one picture shows. radius 0: nothing. row, col: of its centre; pixels: in its mask."""

    subject_id: int
    image_id: str
    time: datetime
    row: float
    col: float
    radius: float
    pixels: int


@dataclass(frozen=True)
class Hospital:
    warehouse: Path
    study: Path
    discs: tuple[Disc, ...]

    def of(self, image_id: str) -> Disc:
        return next(one for one in self.discs if one.image_id == image_id)


def circles(folder: Path, seed: int = 5) -> Hospital:
    """Write the warehouse, its pictures and masks, and the study below a folder."""
    draw = np.random.default_rng(seed)
    discs: list[Disc] = []
    events: list[tuple[Any, ...]] = []
    folder.mkdir(parents=True, exist_ok=True)
    for subject in SUBJECTS:
        has = subject % 5 > 0
        place = draw.uniform(14, 34, 2)
        first, growth = draw.uniform(4, 6), draw.uniform(0, 5)
        for visit, time in enumerate((ENTRY + timedelta(days=1), AS_OF - timedelta(days=1))):
            radius = (first + growth * visit) if has else 0.0
            discs.append(_picture(folder, subject, visit, time, place, radius, draw))
        died = has and growth > 2.5
        events.append((subject, None, "GENDER//F"))
        events.append((subject, datetime(1950 + subject % 30, 5, 1), "MEDS_BIRTH"))
        events.append((subject, ENTRY, "ENTRY"))
        if died:
            events.append((subject, AS_OF + timedelta(days=100 + 5 * subject), "MEDS_DEATH"))
        elif subject % 7 == 0:
            events.append((subject, AS_OF + timedelta(days=50), "MEDS_DEATH"))
    study = folder / "circles_study"
    study.mkdir()
    for name, text in (("outcomes", OUTCOMES), ("features", FEATURES), ("network", NETWORK), ("imaging", IMAGING)):
        (study / f"{name}.yaml").write_text(text)
    return Hospital(_warehouse(folder, events, discs), study, tuple(discs))


def _picture(
    folder: Path, subject: int, visit: int, time: datetime, place: Any, radius: float, draw: np.random.Generator
) -> Disc:
    mask = Image.new("L", (SIDE, SIDE))
    if radius:
        row, col = place
        ImageDraw.Draw(mask).ellipse([col - radius, row - radius, col + radius, row + radius], fill=255)
    inside = np.asarray(mask) > 0
    pixels = np.clip(draw.normal(70, 12, (SIDE, SIDE)) + 110 * inside, 0, 255).astype(np.uint8)
    name = f"s{subject}v{visit}"
    Image.fromarray(pixels).save(folder / f"{name}.png")
    mask.save(folder / f"{name}_mask.png")
    centre = np.argwhere(inside).mean(axis=0) if inside.any() else (np.nan, np.nan)
    return Disc(subject, name, time, float(centre[0]), float(centre[1]), radius, int(inside.sum()))


def _warehouse(folder: Path, events: list[tuple[Any, ...]], discs: list[Disc]) -> Path:
    path = folder / "warehouse.duckdb"
    with duckdb.connect(str(path)) as connection:
        for table in ("events", "images", "subject_splits", "annotations"):
            connection.execute(table_schema("warehouse", table).ddl())
        connection.executemany("INSERT INTO events (subject_id, time, code) VALUES (?, ?, ?)", sorted(
            events, key=lambda row: (row[0], row[1] or datetime.min, row[2])
        ))  # fmt: skip
        connection.executemany(
            "INSERT INTO images (image_id, subject_id, time, image_type, path) VALUES (?, ?, ?, 'DX', ?)",
            [(one.image_id, one.subject_id, one.time, f"{one.image_id}.png") for one in discs],
        )
        connection.executemany(
            "INSERT INTO subject_splits VALUES (?, ?)",
            [(subject, "held_out" if subject in HELD_OUT else "train") for subject in SUBJECTS],
        )
        for one in discs:
            row = [one.image_id, 1 if one.radius else 0, one.subject_id, "disc" if one.radius else "none"]
            kind = ["mask", f"{one.image_id}_mask.png"] if one.radius else ["none", None]
            connection.execute(
                "INSERT INTO annotations (image_id, lesion, subject_id, label, kind, path) VALUES (?, ?, ?, ?, ?, ?)",
                [*row, *kind],
            )
    return path


def notes(text: str) -> dict[str, Any]:
    """A note of evidence as a table."""
    found: dict[str, Any] = json.loads(text)
    return found
