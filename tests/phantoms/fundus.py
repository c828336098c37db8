"""Fundus-like pictures by grade of diabetic retinopathy: what a grader looks for, and what may mislead one.

Grades as the international clinical scale has them: 0 nothing; 1 microaneurysms only; 2 more: some haemorrhages and
hard exudates; 3 haemorrhages in all four quadrants, in great number; 4 new vessels or a bleeding before the retina.
Pictures differ in camera field, light, colour, blur, noise, side, vessels and position; dust, reflexes and drusen-like
spots lie in any grade. Frozen before any network was trained on them.

Source: Wilkinson et al. 2003, Ophthalmology 110:1677-1682 (the scale).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tests.phantoms.drawing import Floats, blot, clouds, disc, stroke, walk

SIDE = 192
GRADES = 5


@dataclass(frozen=True)
class Eye:
    """Where things lie: the field's centre and radius, optic disc and macula as (row, col), in pixels."""

    centre: tuple[float, float]
    radius: float
    nerve: tuple[float, float]
    macula: tuple[float, float]


def fundus(grade: int, rng: np.random.Generator, side: int = SIDE) -> NDArray[np.uint8]:
    """One picture of a grade, 0 to 4. Shape: (side, side, 3) uint8."""
    shape, unit = (side, side), side / SIDE
    eye = _eye(rng, side)
    tint = np.array([0.72, 0.36, 0.16]) * rng.uniform(0.8, 1.2, 3)
    light = 1.0 + 0.08 * clouds(rng, shape, side / 6) + 0.03 * clouds(rng, shape, side / 40)
    rows, cols = np.mgrid[:side, :side] / side - 0.5
    light += rng.normal(0, 0.15) * rows + rng.normal(0, 0.15) * cols
    picture = tint * light[..., None]
    picture = _mixed(picture, disc(shape, *eye.macula, 22 * unit, 26 * unit), tint * 0.6, 0.7)
    picture = _mixed(picture, disc(shape, *eye.nerve, rng.uniform(12, 15) * unit, 3), np.array([1.0, 0.85, 0.5]), 0.9)
    picture = _mixed(picture, _vessels(rng, eye, shape, unit), tint * np.array([0.62, 0.42, 0.5]), 0.85)
    for mask, colour, strength in _lesions(rng, grade, eye, shape, unit, tint):
        picture = _mixed(picture, mask, colour, strength)
    for mask, colour, strength in _distractors(rng, eye, shape, unit, tint):
        picture = _mixed(picture, mask, colour, strength)
    picture = ndimage.gaussian_filter(picture, (rng.uniform(0.3, 0.8) * unit,) * 2 + (0,))
    away = np.hypot(np.mgrid[:side, :side][0] - eye.centre[0], np.mgrid[:side, :side][1] - eye.centre[1]) / eye.radius
    picture *= (1.0 - rng.uniform(0.1, 0.35) * away**3)[..., None] * rng.uniform(0.75, 1.1)
    picture *= np.clip((1.0 - away) * eye.radius / 2 + 0.5, 0.0, 1.0)[..., None]
    picture += rng.normal(0, rng.uniform(0.008, 0.025), picture.shape)
    return np.asarray(np.clip(picture * 255, 0, 255), dtype=np.uint8)


def _eye(rng: np.random.Generator, side: int) -> Eye:
    centre = (side / 2 + rng.normal(0, 0.01 * side), side / 2 + rng.normal(0, 0.01 * side))
    radius, mirrored = side * rng.uniform(0.44, 0.49), 1 if rng.random() < 0.5 else -1
    macula = (centre[0] + rng.normal(0, 0.03) * side, centre[1] + rng.normal(0, 0.04) * side)
    nerve = (macula[0] + rng.normal(-0.01, 0.02) * side, macula[1] + mirrored * rng.uniform(0.24, 0.29) * side)
    return Eye(centre, radius, nerve, macula)


def _mixed(picture: Floats, mask: Floats, colour: Floats, strength: float) -> Floats:
    weight = (mask * strength)[..., None]
    return np.asarray(picture * (1.0 - weight) + weight * colour)


def _vessels(rng: np.random.Generator, eye: Eye, shape: tuple[int, int], unit: float) -> Floats:
    """Arcades from the disc around the macula, with branches."""
    canvas = np.zeros(shape)
    toward = np.arctan2(eye.macula[0] - eye.nerve[0], eye.macula[1] - eye.nerve[1])
    for sign in (-1, 1):
        for wide in (rng.uniform(2.6, 3.6), rng.uniform(2.0, 2.8)):
            steps = int(rng.uniform(105, 140) * unit)
            start = np.array(eye.nerve) + rng.normal(0, 2.5 * unit, 2)
            heading = toward + sign * rng.uniform(0.9, 1.4)
            path = walk(rng, start, heading, steps, 0.06, -sign * rng.uniform(0.008, 0.014) / unit)
            stroke(canvas, path, np.linspace(wide, 1.2, steps) * unit)
            for _ in range(rng.integers(2, 5)):
                at = int(rng.integers(steps // 6, steps - 5))
                own = np.arctan2(*(path[min(at + 3, steps - 1)] - path[at]))
                branch = walk(rng, path[at], own + rng.choice([-1, 1]) * rng.uniform(0.4, 0.9), int(45 * unit), 0.09)
                stroke(canvas, branch, np.linspace(1.5, 0.8, len(branch)) * unit)
        stub = walk(rng, np.array(eye.nerve), toward + np.pi + sign * rng.uniform(0.3, 0.9), int(35 * unit), 0.08)
        stroke(canvas, stub, np.linspace(2.2, 1.0, len(stub)) * unit)
    return canvas


def _place(rng: np.random.Generator, eye: Eye, quadrant: int | None = None) -> tuple[float, float]:
    """Somewhere inside the field, off the optic disc, in a quadrant around the macula or in any."""
    while True:
        angle, reach = rng.uniform(0, 2 * np.pi), eye.radius * 0.85 * np.sqrt(rng.random())
        row, col = eye.centre[0] + reach * np.sin(angle), eye.centre[1] + reach * np.cos(angle)
        own = 2 * int(row > eye.macula[0]) + int(col > eye.macula[1])
        clear = np.hypot(row - eye.nerve[0], col - eye.nerve[1]) > 0.1 * 2 * eye.radius
        if clear and (quadrant is None or own == quadrant):
            return row, col


_Part = tuple[Floats, Floats, float]


def _lesions(
    rng: np.random.Generator, grade: int, eye: Eye, shape: tuple[int, int], unit: float, tint: Floats
) -> list[_Part]:
    dark, yellow = tint * np.array([0.5, 0.25, 0.3]), np.array([1.0, 0.9, 0.45]) * rng.uniform(0.85, 1.05)
    found: list[_Part] = []

    def spots(count: int, low: float, high: float, quadrant: int | None = None) -> None:
        mask = np.zeros(shape)
        for _ in range(count):
            np.maximum(mask, blot(rng, shape, *_place(rng, eye, quadrant), rng.uniform(low, high) * unit), out=mask)
        found.append((mask, dark, rng.uniform(0.7, 0.95)))

    if grade >= 1:
        spots(int(rng.integers(2, 7)) if grade == 1 else int(rng.integers(4, 14)), 1.2, 1.9)
    if grade == 2:
        spots(int(rng.integers(2, 8)), 2.6, 4.5)
    if grade >= 3:
        for quadrant in range(4):
            spots(int(rng.integers(5, 10)) if grade == 3 else int(rng.integers(1, 7)), 2.6, 5.0, quadrant)
    if grade >= 2 and rng.random() < (0.7 if grade == 2 else 0.8):
        mask, middle = np.zeros(shape), _place(rng, eye)
        for _ in range(int(rng.integers(4, 14))):
            at = np.array(middle) + rng.normal(0, 9 * unit, 2)
            np.maximum(mask, blot(rng, shape, at[0], at[1], rng.uniform(1.0, 2.4) * unit), out=mask)
        found.append((mask, yellow, rng.uniform(0.7, 0.95)))
    if grade == 4:
        kinds = rng.random()
        if kinds < 0.75:
            found.append((_new_vessels(rng, eye, shape, unit), dark, 0.9))
        if kinds > 0.5:
            row, col = _place(rng, eye)
            pool = disc(shape, row, col, rng.uniform(14, 24) * unit, 2.0)
            pool[: max(0, int(row - 2 * unit))] = 0.0  # it settles: a level above, a bowl below
            found.append((pool, dark, 0.95))
    return found


def _new_vessels(rng: np.random.Generator, eye: Eye, shape: tuple[int, int], unit: float) -> Floats:
    """A tangle of fine vessels on the optic disc or elsewhere."""
    canvas = np.zeros(shape)
    start = np.array(eye.nerve if rng.random() < 0.5 else _place(rng, eye))
    for _ in range(int(rng.integers(9, 16))):
        path = walk(rng, start + rng.normal(0, 3 * unit, 2), rng.uniform(0, 2 * np.pi), int(26 * unit), 0.45)
        stroke(canvas, path, 1.1 * unit)
    return canvas


def _distractors(rng: np.random.Generator, eye: Eye, shape: tuple[int, int], unit: float, tint: Floats) -> list[_Part]:
    found: list[_Part] = []
    if rng.random() < 0.5:  # drusen-like spots: pale, soft
        mask = np.zeros(shape)
        for _ in range(int(rng.integers(2, 9))):
            at = np.array(eye.macula) + rng.normal(0, 14 * unit, 2)
            np.maximum(mask, disc(shape, at[0], at[1], rng.uniform(1.5, 3.0) * unit, 4.0 * unit), out=mask)
        found.append((mask, tint * np.array([1.3, 1.5, 1.4]), 0.5))
    if rng.random() < 0.5:  # dust on the lens: grey, out of focus
        mask = np.zeros(shape)
        for _ in range(int(rng.integers(1, 5))):
            np.maximum(mask, disc(shape, *_place(rng, eye), rng.uniform(3, 6) * unit, 7.0 * unit), out=mask)
        found.append((mask, tint * 0.75, 0.5))
    if rng.random() < 0.3:  # a reflex along the edge of the field
        row, col = _place(rng, eye)
        found.append((disc(shape, row, col, rng.uniform(8, 18) * unit, 16.0 * unit), np.array([0.9, 0.8, 0.7]), 0.35))
    return found
