"""Lesions of known shape are measured right: place, area, volume, diameter, in file pixels and patient millimetres."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from riskpred.config.segmentation import LesionRules, SegmentationStage
from riskpred.imaging.lesions import lesions, with_intensity
from riskpred.imaging.picture import Grid, Picture

STAGE = SegmentationStage(image_types=("CT",), volume="whole", labels={1: "nodule"})
LPS = np.eye(3)[:, ::-1]
"""Slices run along z, rows along y, columns along x."""


def grid_of(shape: tuple[int, ...], spacing: tuple[float, float, float], direction: NDArray[np.float64] = LPS) -> Grid:
    return Grid(
        np.zeros(3), np.ones(3), np.array(spacing), np.array([-100.0, 20.0, 7.0]), direction, np.array(shape, np.int64)
    )


def ellipsoid(
    shape: tuple[int, int, int],
    centre: NDArray[np.float64],
    axes: tuple[float, float, float],
    spacing: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Share of each voxel inside, by 5 x 5 x 5 points in it. centre in voxels; axes in mm along slice, row, column."""
    share = np.zeros(shape)
    points = (np.arange(5) - 2) / 5
    for step in np.stack(np.meshgrid(points, points, points), -1).reshape(-1, 3):
        at = [(np.arange(n) + s - c) * d / a for n, s, c, d, a in zip(shape, step, centre, spacing, axes, strict=True)]
        z, y, x = np.meshgrid(*at, indexing="ij", sparse=True)
        share += z**2 + y**2 + x**2 <= 1
    return (share / 125).astype(np.float32)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 0.8, 0.8)])
@pytest.mark.parametrize("diameter", [6.0, 12.0, 20.0])
def test_a_sphere_has_its_diameter_volume_and_place(diameter: float, spacing: tuple[float, float, float]) -> None:
    step, draw = np.array(spacing), np.random.default_rng(int(diameter))
    shape = tuple(int(n) for n in np.ceil((diameter + 8) / step))
    centre = (np.array(shape) - 1) / 2 + draw.uniform(-0.5, 0.5, 3)
    share = ellipsoid((shape[0], shape[1], shape[2]), centre, (diameter / 2,) * 3, step)
    (one,) = lesions(share[None], grid_of(shape, spacing), STAGE)
    assert one.longest_diameter_mm == pytest.approx(diameter, abs=0.25 * step.max())
    assert one.volume_mm3 == pytest.approx(np.pi / 6 * diameter**3, rel=0.15)
    assert [one.slice, one.row, one.col] == pytest.approx(centre, abs=0.15)
    z, y, x = centre * step
    assert [one.x_mm, one.y_mm, one.z_mm] == pytest.approx([x - 100, y + 20, z + 7], abs=0.3)
    assert one.area_mm2 == pytest.approx(np.pi / 4 * diameter**2, rel=0.12)
    assert one.area_px == pytest.approx(one.area_mm2 / (step[1] * step[2]))


def test_the_longest_line_of_an_oblique_ellipse_is_its_great_axis() -> None:
    """2D: axes of 30 and 12 pixels, turned by 30 degrees."""
    y, x = np.mgrid[:48, :48] - 23.3
    turn = np.deg2rad(30)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    distance = 1 - np.sqrt((along / 15) ** 2 + (across / 6) ** 2)
    probability = np.clip(0.5 + distance * 6, 0, 1).astype(np.float32)
    stage = SegmentationStage(image_types=("MR",), labels={1: "tumour"})
    (one,) = lesions(probability[None, None], grid_of((1, 48, 48), (5.0, 0.5, 0.5)), stage)
    assert one.longest_diameter_mm == pytest.approx(15.0, abs=0.4)
    assert one.area_px == pytest.approx(np.pi * 15 * 6, rel=0.02)
    assert np.isnan(one.volume_mm3)
    (line,) = one.outlines[0]
    assert np.ptp(line[:, 1]) == pytest.approx(2 * np.hypot(15 * np.cos(turn), 6 * np.sin(turn)), abs=1.0)
    assert line.mean(axis=0) == pytest.approx([23.3, 23.3], abs=0.5)


def test_a_single_pixel_is_as_long_as_it_is_wide() -> None:
    probability = np.zeros((1, 1, 5, 5), np.float32)
    probability[0, 0, 2, 2] = 1
    (one,) = lesions(probability, grid_of((1, 5, 5), (np.nan, 2.0, 2.0)), STAGE)
    assert (one.area_px, one.area_mm2, one.longest_diameter_mm) == (1.0, 4.0, 2.0)


def test_a_lesion_at_the_rim_ends_with_the_picture() -> None:
    probability = np.zeros((1, 1, 6, 6), np.float32)
    probability[0, 0, :, :2] = 1
    (one,) = lesions(probability, grid_of((1, 6, 6), (1.0, 1.0, 1.0)), STAGE)
    assert one.longest_diameter_mm == pytest.approx(np.hypot(6, 1), abs=0.02)  # corners are cut by half a pixel
    assert (one.row, one.col) == (2.5, 0.5)


def test_place_follows_an_oblique_and_coarser_grid() -> None:
    """Prepared pixels of twice the file's spacing that start at file index 10, of a file that is turned in space."""
    turn = np.deg2rad(20)
    direction = np.array([[0.0, -np.sin(turn), np.cos(turn)], [0.0, np.cos(turn), np.sin(turn)], [1.0, 0.0, 0.0]])
    spacing = np.array([3.0, 0.5, 0.5])
    grid = replace(
        grid_of((20, 60, 60), (3.0, 1.0, 1.0), direction),
        offset=np.array([4.0, 10.5, 10.5]),
        scale=np.array([1.0, 2.0, 2.0]),
    )
    probability = np.zeros((1, 9, 20, 20), np.float32)
    probability[0, 3:6, 6:9, 11:14] = 1
    (one,) = lesions(probability, grid, STAGE)
    index = np.array([4 + 4, 10.5 + 2 * 7, 10.5 + 2 * 12])
    assert [one.slice, one.row, one.col] == pytest.approx(index)
    assert [one.x_mm, one.y_mm, one.z_mm] == pytest.approx(grid.origin_mm + direction @ (index * spacing))
    assert (one.area_px, one.area_mm2, one.volume_mm3) == (36.0, 9.0, 81.0)


def test_without_spacing_millimetres_are_unknown_and_pixels_are_not() -> None:
    probability = np.zeros((1, 1, 6, 6), np.float32)
    probability[0, 0, 2:4, 2:4] = 1
    nothing = np.full(3, np.nan)
    grid = Grid(np.zeros(3), np.ones(3), nothing, nothing, np.full((3, 3), np.nan), np.array([1, 6, 6]))
    (one,) = lesions(probability, grid, STAGE)
    assert (one.row, one.col, one.area_px) == (2.5, 2.5, 4.0)
    assert np.isnan([one.x_mm, one.y_mm, one.z_mm, one.area_mm2, one.volume_mm3, one.longest_diameter_mm]).all()


def test_corners_join_lesions_and_a_gap_parts_them_the_most_certain_first() -> None:
    probability = np.zeros((1, 3, 8, 8), np.float32)
    probability[0, 0, 1, 1] = probability[0, 1, 2, 2] = 0.7
    probability[0, 2, 6, 6] = 0.9
    found = lesions(probability, grid_of((3, 8, 8), (1.0, 1.0, 1.0)), STAGE)
    assert [(one.lesion, int(one.mask.sum()), round(one.confidence, 2)) for one in found] == [(1, 1, 0.9), (2, 2, 0.7)]


def test_labels_are_kept_apart_and_rules_leave_out_what_is_too_small_or_doubtful() -> None:
    probability = np.zeros((2, 1, 12, 12), np.float32)
    probability[0, 0, 1:3, 1:3] = 0.8
    probability[0, 0, 6, 6] = 1.0
    probability[1, 0, 8:11, 8:11] = 0.6
    stage = STAGE.model_copy(update={"labels": {1: "a", 2: "b"}, "lesions": LesionRules(least_px=2)})
    grid = grid_of((1, 12, 12), (1.0, 1.0, 1.0))
    assert [(one.label, one.area_px) for one in lesions(probability, grid, stage)] == [("a", 4.0), ("b", 9.0)]
    sure = stage.model_copy(update={"lesions": LesionRules(least_confidence=0.7, least_diameter_mm=1.5)})
    assert [(one.label, one.area_px) for one in lesions(probability, grid, sure)] == [("a", 4.0)]


def test_mean_intensity_is_the_files_and_not_the_prepared_pixels() -> None:
    array = np.full((1, 4, 12, 12), -900.0, np.float32)
    array[0, 1:3, 4:8, 4:8] = 55.0
    picture = Picture(array, np.ones(3), np.zeros(3), LPS, "CT")
    probability = np.zeros((1, 4, 6, 6), np.float32)
    probability[0, 1:3, 2:4, 2:4] = 1
    grid = replace(picture.grid, offset=np.array([0.0, 0.5, 0.5]), scale=np.array([1.0, 2.0, 2.0]))
    (one,) = with_intensity(lesions(probability, grid, STAGE), picture, grid)
    assert one.mean_intensity == pytest.approx(55.0)
