"""What several phantoms draw with: soft discs, lines along a path, clouds of noise."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float64]


def clouds(rng: np.random.Generator, shape: tuple[int, ...], width: float) -> Floats:
    """Smooth noise with mean 0 and SD 1, its grain `width` pixels wide."""
    made = ndimage.gaussian_filter(rng.normal(size=shape), width, mode="wrap")
    return np.asarray((made - made.mean()) / max(float(made.std()), 1e-9))


def disc(shape: tuple[int, int], row: float, col: float, radius: float, edge: float = 1.0) -> Floats:
    """1 inside a disc, 0 outside, an `edge` of pixels in between. Shape: (H, W)."""
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    away = np.hypot(rows - row, cols - col)
    return np.asarray(np.clip((radius - away) / edge + 0.5, 0.0, 1.0))


def blot(rng: np.random.Generator, shape: tuple[int, int], row: float, col: float, radius: float) -> Floats:
    """An irregular spot: a disc whose edge bulges in and out. Shape: (H, W), 0 to 1."""
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    angle, away = np.arctan2(rows - row, cols - col), np.hypot(rows - row, cols - col)
    bulge = sum(rng.normal(0, 0.12) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 5))
    return np.asarray(np.clip((radius * (1.0 + bulge) - away) / 1.2 + 0.5, 0.0, 1.0))


def stroke(canvas: Floats, path: Floats, width: Floats | float) -> None:
    """Draw a line along (N, 2) points into `canvas`, its largest value kept; width in pixels, one or (N,)."""
    widths = np.broadcast_to(np.asarray(width, dtype=np.float64), (len(path),))
    for (row, col), own in zip(path, widths, strict=True):
        half = int(np.ceil(own / 2 + 1.5))
        top, left = max(0, int(row) - half), max(0, int(col) - half)
        bottom, right = min(canvas.shape[0], int(row) + half + 1), min(canvas.shape[1], int(col) + half + 1)
        if top >= bottom or left >= right:
            continue
        rows, cols = np.ogrid[top:bottom, left:right]
        here = np.clip(own / 2 + 0.5 - np.hypot(rows - row, cols - col), 0.0, 1.0)
        part = canvas[top:bottom, left:right]
        np.maximum(part, here, out=part)


def walk(rng: np.random.Generator, start: Floats, heading: float, steps: int, bend: float, pull: float = 0.0) -> Floats:
    """A path of unit steps whose heading wanders. pull: change of heading per step. Shape: (steps, 2)."""
    turns = heading + np.cumsum(rng.normal(pull, bend, steps))
    return np.asarray(start + np.cumsum(np.stack([np.sin(turns), np.cos(turns)], axis=1), axis=0))
