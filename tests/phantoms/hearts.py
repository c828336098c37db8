"""Gated CT of hearts with calcifications of known place and size, in the layout of COCA."""

import plistlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.phantoms.ct import CtPhantom, write_dicom_series
from tests.phantoms.drawing import clouds

SHAPE = (20, 72, 72)
SPACING_MM = (3.0, 1.8, 1.8)
ARTERIES = (
    "Left Anterior Descending Artery",
    "Right Coronary Artery",
    "Left Circumflex Artery",
    "Left Coronary Artery",
)


@dataclass(frozen=True)
class Speck:
    """One calcification. index: slice, row, column of its centre.   radius_mm   hu: at its middle."""

    artery: str
    index: tuple[float, float, float]
    radius_mm: float
    hu: float


@dataclass(frozen=True)
class Heart:
    """scan: HU in its place in the patient.   specks: none in a heart without calcium."""

    scan: CtPhantom
    specks: tuple[Speck, ...]


def heart(specks: int, rng: np.random.Generator) -> Heart:
    """A chest at the height of the heart: muscle around a lung field, the heart, the spine, fat, calcium on its rim."""
    z, y, x = np.meshgrid(*(np.arange(n, dtype=np.float64) for n in SHAPE), indexing="ij")
    hu = np.full(SHAPE, -1000.0)
    body = ((y - 36) / 33) ** 2 + ((x - 36) / 35) ** 2
    hu[body < 1] = 40.0
    hu[((y - 34) / 25) ** 2 + ((x - 36) / 29) ** 2 < 1] = -850.0
    middle = (32 + rng.normal(0, 1), 38 + rng.normal(0, 1))
    reach = np.hypot((y - middle[0]) / 13, (x - middle[1]) / 14) + 0.01 * np.abs(z - 10)
    hu[reach < 1.12] = -90.0  # fat around the heart, in which its vessels run
    hu[reach < 0.95] = 45.0
    hu[np.hypot(y - 60, x - 36) < 6] = 350.0  # the spine: dense, and no calcium of a vessel
    hu += 12 * clouds(rng, SHAPE, 1.5)
    found = []
    for _ in range(specks):
        angle, at = rng.uniform(0, 2 * np.pi), float(rng.integers(3, SHAPE[0] - 3))
        row, col = middle[0] + 13.4 * np.sin(angle), middle[1] + 14.4 * np.cos(angle)
        radius, dense = float(rng.uniform(2.2, 4.5)), float(rng.uniform(350, 900))
        away = np.sqrt(((z - at) * SPACING_MM[0]) ** 2 + (((y - row) ** 2 + (x - col) ** 2) * SPACING_MM[1] ** 2))
        hu = np.maximum(hu, dense * np.clip((radius - away) / 1.0 + 0.5, 0, 1))
        found.append(Speck(str(rng.choice(ARTERIES)), (at, row, col), radius, dense))
    hu += rng.normal(0, 15, SHAPE)
    origin = (-60.0, -70.0, round(float(rng.uniform(-250, -150)), 1))
    scan = CtPhantom(np.clip(hu, -1024, 3071).round().astype(np.int16), SPACING_MM, origin, ())
    return Heart(scan, tuple(found))


def write_coca(folder: Path, people: int, seed: int) -> dict[str, Heart]:
    """Gated_release_final/; who has no calcium has no file of outlines. The hearts by number."""
    rng, hearts = np.random.default_rng(seed), {}
    release = folder / "Gated_release_final"
    (release / "calcium_xml").mkdir(parents=True)
    for number in range(people):
        made = heart((0, 1, 3, 6)[number % 4], rng)
        hearts[str(number)] = made
        write_dicom_series(
            made.scan, release / "patient" / str(number) / "Pro_Gated_CS_3.0_I30f_3_70%", f"coca {number}"
        )
        if made.specks:
            (release / "calcium_xml" / f"{number}.xml").write_bytes(plistlib.dumps({"Images": _images(made)}))
    return hearts


def _images(made: Heart) -> list[dict[str, Any]]:
    """Outlines slice by slice, as the owner's tool wrote them: points as text, areas in square centimetres."""
    depth = len(made.scan.array)
    by_slice: dict[int, list[dict[str, Any]]] = {}
    for speck in made.specks:
        slice_, row, col = speck.index
        for z in range(depth):
            beside = (z - slice_) * SPACING_MM[0]
            if abs(beside) >= speck.radius_mm:
                continue
            radius = float(np.sqrt(speck.radius_mm**2 - beside**2))
            angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
            pixels = [(col + radius / 1.8 * np.cos(a), row + radius / 1.8 * np.sin(a)) for a in angles]
            origin = made.scan.origin_mm
            places = [(origin[0] + x * 1.8, origin[1] + y * 1.8, origin[2] + z * SPACING_MM[0]) for x, y in pixels]
            rois = by_slice.setdefault(z, [])
            rois.append(
                {
                    "Area": float(np.pi * radius**2 / 100.0),
                    "Center": f"({places[0][0]:.6f}, {places[0][1]:.6f}, {places[0][2]:.6f})",
                    "Dev": 40.0,
                    "IndexInImage": len(rois),
                    "Max": speck.hu,
                    "Mean": speck.hu * 0.7,
                    "Min": 130.0,
                    "Name": speck.artery,
                    "NumberOfPoints": len(pixels),
                    "Point_mm": [f"({x:.6f}, {y:.6f}, {z_mm:.6f})" for x, y, z_mm in places],
                    "Point_px": [f"({x:.6f}, {y:.6f})" for x, y in pixels],
                    "Total": 1000.0,
                    "Type": 15,
                }
            )
    # The tool counts images from the head down.
    return [{"ImageIndex": depth - 1 - z, "NumberOfROIs": len(r), "ROIs": r} for z, r in sorted(by_slice.items())]
