"""Chest radiographs of the simulated hospital: lungs, heart, ribs, noise, and a nodule of known place and size."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from riskpred.records.simulate.draws import Draws

FIELD_MM: Final = 336.0
"""Side of the square that every radiograph shows."""

NODULE_RADIUS_MM: Final = {0: (0.0, 0.0), 1: (10.0, 12.5), 2: (19.0, 23.0)}
"""Smallest and largest radius by state of the image latent. The gap lets the image determine the latent."""

Length = float | NDArray[np.float64]

_CONTRAST: Final = 0.34
_NOISE: Final = 0.025


@dataclass(frozen=True)
class Anatomy:
    """What each of n radiographs shows; lengths in mm, origin at the centre of the field, y downwards.

    Shape: nodule (n, 3): y, x, radius (0 = none). All else (n,) or (n, 2) = left and right of the picture.
    """

    lung_x: NDArray[np.float64]
    lung_width: NDArray[np.float64]
    lung_height: NDArray[np.float64]
    heart: NDArray[np.float64]
    rib_gap: NDArray[np.float64]
    rib_phase: NDArray[np.float64]
    brightness: NDArray[np.float64]
    nodule: NDArray[np.float64]

    def take(self, index: NDArray[np.int64]) -> "Anatomy":
        """The rows of `index`."""
        return Anatomy(**{name: value[index] for name, value in vars(self).items()})


def anatomy(nodule: NDArray[np.int64], draws: Draws) -> Anatomy:
    """Draw the anatomy of N subjects, each with the nodule that its latent demands, well inside a lung."""
    subjects = len(nodule)
    u = draws.uniform("anatomy", subjects, 12)
    lung_x = np.stack([-72 - 6 * u[:, 0], 72 + 6 * u[:, 1]], axis=1)
    lung_width, lung_height = 50 + 8 * u[:, 2], 100 + 14 * u[:, 3]
    side = (u[:, 4] < 0.5).astype(np.int64)
    # Polar, inside .6 of the lung and above the heart and the diaphragm.
    angle, reach = 2 * np.pi * u[:, 5], 0.6 * np.sqrt(u[:, 6])
    low, high = (np.array([NODULE_RADIUS_MM[state][end] for state in (0, 1, 2)])[nodule] for end in (0, 1))
    x = lung_x[np.arange(subjects), side] + reach * np.cos(angle) * lung_width * 0.8
    y = -25 + reach * np.sin(angle) * lung_height * 0.7
    return Anatomy(
        lung_x=lung_x,
        lung_width=lung_width,
        lung_height=lung_height,
        heart=42 + 10 * u[:, 7],
        rib_gap=24 + 4 * u[:, 8],
        rib_phase=2 * np.pi * u[:, 9],
        brightness=0.06 * (u[:, 10] - 0.5),
        nodule=np.stack([y, x, low + (high - low) * u[:, 11]], axis=1),
    )


def render(shown: Anatomy, size: int, noise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Brightness 0 (air) to 1 (bone). noise: standard normal. Shape: noise and result (n, size, size)."""
    centre = (np.arange(size) + 0.5) * FIELD_MM / size - FIELD_MM / 2
    y, x = centre[None, :, None], centre[None, None, :]

    def of(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values[:, None, None]

    def disc(cy: Length, cx: Length, ry: Length, rx: Length, softness: float) -> NDArray[np.float64]:
        """About 1 inside the ellipse, 0 outside."""
        away = np.sqrt(((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2)
        return np.asarray(1 / (1 + np.exp(((away - 1) / softness).clip(-30, 30))))

    trunk = ((y - 40) / 190) ** 4 + (x / 150) ** 4
    body = 1 / (1 + np.exp(((trunk - 1) / 0.08).clip(-30, 30)))
    lungs = np.zeros((len(shown.heart), size, size))
    for side in (0, 1):
        lungs += disc(-8.0, of(shown.lung_x[:, side]), of(shown.lung_height), of(shown.lung_width), 0.06)
    diaphragm = 1 / (1 + np.exp(((62 + (x / 75) ** 2 * 14 - y) / 5).clip(-30, 30)))
    heart = disc(42.0, 16.0, 52.0, of(shown.heart), 0.10)
    air = (lungs * (1 - diaphragm) * (1 - 0.9 * heart)).clip(0, 1)
    # Ribs run downwards away from the spine; a raised cosine to a power makes bands narrower than the gaps.
    along = (y - np.abs(x) * 0.35 + (x / 60) ** 2) / of(shown.rib_gap)
    ribs = (0.5 + 0.5 * np.cos(2 * np.pi * along + of(shown.rib_phase))) ** 4
    spine = np.exp(-((x / 16) ** 2))
    clavicles = np.exp(-(((y + 104 - np.abs(x) * 0.22) / 5) ** 2)) * (np.abs(x) < 110)
    picture = 0.05 + body * (0.55 - 0.33 * air + 0.06 * ribs + 0.16 * spine + 0.08 * clavicles + of(shown.brightness))
    radius = of(np.maximum(shown.nodule[:, 2], 1e-3))
    there = of((shown.nodule[:, 2] > 0).astype(float))
    away = np.sqrt((y - of(shown.nodule[:, 0])) ** 2 + (x - of(shown.nodule[:, 1])) ** 2)
    nodule = there / (1 + np.exp(((away - radius) / 1.6).clip(-30, 30)))
    # Quantum noise is finer than the anatomy; neighbours share a little of it.
    grain = _NOISE * (0.8 * noise + 0.6 * np.roll(noise, 1, axis=2))
    return np.asarray((picture + _CONTRAST * nodule + grain).clip(0, 1))


def nodule_pixels(shown: Anatomy, size: int) -> NDArray[np.float64]:
    """Row, column and radius of each nodule in pixels (radius 0 = none). Shape: (n, 3)."""
    scale = size / FIELD_MM
    return np.stack(
        [
            (shown.nodule[:, 0] + FIELD_MM / 2) * scale - 0.5,
            (shown.nodule[:, 1] + FIELD_MM / 2) * scale - 0.5,
            shown.nodule[:, 2] * scale,
        ],
        axis=1,
    )
