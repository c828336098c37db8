"""Radiographs of long bones with or without a crack, and what may be taken for one.

A crack runs across the shaft anywhere, straight or oblique, ragged, faint or plain, with or without a step in the
cortex. Growth plates, nutrient canals, folds of soft tissue, a second bone, letters and noise are in both kinds of
picture. Frozen before any network was trained on them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tests.phantoms.drawing import Floats, clouds, stroke

SIDE = 192


@dataclass(frozen=True)
class Bone:
    """pixels: (side, side) uint8.   crack: (N, 2) points (row, col) along it, none without one."""

    pixels: NDArray[np.uint8]
    crack: Floats

    def box(self, margin: float = 4.0) -> tuple[float, float, float, float]:
        """Upper left corner (row, col), height and width around the crack."""
        low, high = self.crack.min(axis=0) - margin, self.crack.max(axis=0) + margin
        low, high = np.clip(low, 0, len(self.pixels) - 1), np.clip(high, 0, len(self.pixels) - 1)
        return float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])


def bone(cracked: bool, rng: np.random.Generator, side: int = SIDE) -> Bone:
    """One radiograph: one or two bones at any angle, in soft tissue."""
    unit = side / SIDE
    tilt = rng.uniform(0, np.pi)
    along, across = np.array([np.sin(tilt), np.cos(tilt)]), np.array([np.cos(tilt), -np.sin(tilt)])
    rows, cols = np.mgrid[:side, :side] - side / 2.0
    u, v = rows * along[0] + cols * along[1], rows * across[0] + cols * across[1]
    limb = rng.uniform(42, 60) * unit
    picture = 0.12 + 0.22 * np.clip((limb - np.abs(v + 4 * unit * np.sin(u / (40 * unit)))) / (12 * unit), 0, 1)
    picture += 0.02 * clouds(rng, (side, side), 14 * unit)
    pair = rng.random() < 0.45
    offsets = [rng.uniform(-6, 6) * unit] if not pair else [-17 * unit + rng.normal(0, 2), 17 * unit + rng.normal(0, 2)]
    chosen, crack = int(rng.integers(len(offsets))), np.zeros((0, 2))
    for number, offset in enumerate(offsets):
        half = rng.uniform(9, 12) * unit if pair else rng.uniform(12, 19) * unit
        bend = rng.normal(0, 6 * unit)
        w = v - offset - bend * (u / (side / 2)) ** 2
        if cracked and number == chosen:
            line, shift, crack = _crack(rng, u, w, half, unit, side)
            w = w + shift
            # From the bone's own axis to the limb's.
            crack[:, 1] += offset + bend * (crack[:, 0] / (side / 2)) ** 2
        else:
            line = np.zeros_like(u)
        picture += _shaft(rng, u, w, half, unit, side) * (1.0 - line)
    picture = _laid_over(rng, picture, u, v, limb, unit)
    picture = ndimage.gaussian_filter(picture, rng.uniform(0.5, 1.0) * unit)
    picture += rng.normal(0, rng.uniform(0.01, 0.025), picture.shape)
    low, high = np.percentile(picture, (0.5, 99.5))
    pixels = np.clip((picture - low) / (high - low) * rng.uniform(200, 250), 0, 255).astype(np.uint8)
    middle = side / 2.0
    points = np.array([middle + a * along + b * across for a, b in crack]) if len(crack) else crack
    return Bone(pixels, points)


def _shaft(rng: np.random.Generator, u: Floats, w: Floats, half: float, unit: float, side: int) -> Floats:
    """A tube seen from the side: bright cortex at its edges, a darker marrow, wider towards the ends."""
    flare = half * (1.0 + 0.5 * np.clip((np.abs(u) - 0.34 * side) / (0.2 * side), 0, 1) ** 2)
    reach = np.abs(w) / flare
    outside = np.clip((1.0 - reach) * flare / (1.5 * unit), 0, 1)
    wall = rng.uniform(0.18, 0.3)
    path = np.sqrt(np.clip(1 - reach**2, 0, 1)) - np.sqrt(np.clip((1 - wall) ** 2 - reach**2, 0, 1))
    grain = 1.0 + rng.uniform(0.03, 0.07) * clouds(rng, u.shape, 1.6 * unit)
    bone_ = (0.22 * np.sqrt(np.clip(1 - reach**2, 0, 1)) + 0.75 * path) * grain
    if rng.random() < 0.4:  # a growth plate: a smooth band at one end, all across
        at = rng.choice([-1, 1]) * rng.uniform(0.33, 0.42) * side
        wave = 2.0 * unit * np.sin(w / (5 * unit))
        bone_ = bone_ * (1.0 - 0.5 * np.exp(-(((u - at + wave) / (1.8 * unit)) ** 2)))
    if rng.random() < 0.6:  # a nutrient canal: a fine slanting line in one wall only
        at, wall_side = rng.uniform(-0.3, 0.3) * side, rng.choice([-1, 1])
        slant = (w - wall_side * half * 0.75) * wall_side * rng.uniform(1.5, 3.0)
        near = np.exp(-(((u - at - slant) / (1.1 * unit)) ** 2)) * (np.abs(w - wall_side * half * 0.8) < 0.28 * half)
        bone_ = bone_ * (1.0 - 0.45 * near)
    return np.asarray(bone_ * outside)


def _crack(
    rng: np.random.Generator, u: Floats, w: Floats, half: float, unit: float, side: int
) -> tuple[Floats, Floats, Floats]:
    """How much of the bone is missing, how far the part beyond it has moved, and the line as (u, w) points."""
    at, slope = rng.uniform(-0.3, 0.3) * side, rng.choice([-1, 1]) * rng.uniform(0.0, 1.1)
    whole = rng.random() < 0.75  # else it ends inside the bone
    knots = np.linspace(-half, half, 13)
    ragged = np.cumsum(rng.normal(0, 1.3 * unit, 13)) * 0.6
    ragged -= ragged.mean()
    course = at + slope * knots + ragged
    line_u = np.interp(np.clip(w, -half, half), knots, course)
    depth, width = rng.uniform(0.35, 0.8), rng.uniform(0.8, 1.8) * unit
    reach = 1.0 if whole else rng.uniform(0.5, 0.8)
    inside = np.abs(w) <= half * 1.05 if whole else w <= -half + 2 * half * reach
    line = depth * np.exp(-(((u - line_u) / width) ** 2)) * inside * (np.abs(w) <= half * 1.05)
    moved = rng.normal(0, 2.2 * unit) if whole and rng.random() < 0.5 else 0.0
    shift = moved / (1.0 + np.exp(-(u - line_u) / (0.8 * unit)))
    keep = np.ones(13, bool) if whole else knots <= -half + 2 * half * reach
    return line, np.asarray(shift), np.stack([course[keep], knots[keep]], axis=1)


def _laid_over(rng: np.random.Generator, picture: Floats, u: Floats, v: Floats, limb: float, unit: float) -> Floats:
    """Folds of soft tissue, a letter, a collimated edge."""
    for _ in range(int(rng.integers(0, 4))):  # a fold: a smooth, wide, faint line across the whole limb, bone or not
        at, slope = rng.uniform(-0.4, 0.4) * len(u), rng.uniform(-0.8, 0.8)
        fold = np.exp(-(((u - at - slope * v) / (rng.uniform(2.5, 5.0) * unit)) ** 2)) * (np.abs(v) < limb)
        picture = picture * (1.0 + rng.choice([-1, 1]) * rng.uniform(0.05, 0.15) * fold)
    if rng.random() < 0.5:
        mark, row, col = np.zeros_like(u), rng.uniform(8, 22) * unit, rng.uniform(8, 30) * unit
        for start, end in (((0, 0), (12, 0)), ((12, 0), (12, 7))):
            path = np.linspace(start, end, 24) * unit + [row, col]
            stroke(mark, path, 2.0 * unit)
        picture = np.maximum(picture, 0.95 * mark)
    if rng.random() < 0.3:
        edge = int(rng.uniform(3, 12) * unit)
        picture = picture.copy()
        picture[:edge], picture[-edge:] = 0.02, 0.02
    return np.asarray(picture)
