"""Marks of people become labels of prepared pixels: masks, spheres, boxes and polygons of known pixels."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from riskpred.config.model import parse
from riskpred.config.segmentation import SegmentationStage
from riskpred.imaging.paths import ImageProblem
from riskpred.imaging.picture import Grid
from riskpred.imaging.prepare import Prepared
from riskpred.imaging.targets import is_marked, target_of
from riskpred.records.annotations import Annotation

STAGE = parse(
    SegmentationStage,
    {"image_types": ["CT"], "labels": {1: "nodule", 4: "mass"}, "size": [4, 10, 12], "volume": "whole"},
    "stage",
)


def volume(scale: float = 1.0, shape: tuple[int, int, int] = (4, 10, 12)) -> Prepared:
    """Prepared voxels `scale` file voxels apart within slices; file voxels 2 x 1 x 1 mm, first one at (-5, 7, 100)."""
    step = np.array([1.0, scale, scale])
    grid = Grid(
        (step - 1) / 2, step, np.array([2.0, 1.0, 1.0]) * step, np.array([-5.0, 7.0, 100.0]),
        np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]),
        np.array([shape[0], round(shape[1] * scale), round(shape[2] * scale)]),
    )  # fmt: skip
    return Prepared(np.zeros((1, 1, *shape), np.float32), grid, (), ((0, shape[0]), (0, shape[1]), (0, shape[2])))


def flat() -> Prepared:
    grid = Grid(
        np.zeros(3), np.ones(3), np.full(3, np.nan), np.full(3, np.nan), np.full((3, 3), np.nan), np.array([1, 10, 12])
    )
    return Prepared(np.zeros((1, 1, 10, 12), np.float32), grid, (0.0,), ((0, 1), (0, 10), (0, 12)))


def mark(kind: str, label: str = "nodule", **more: object) -> Annotation:
    return Annotation("x", 1, 1, label, kind, **more)  # type: ignore[arg-type]


def test_a_sphere_holds_the_voxels_whose_centres_lie_in_it() -> None:
    target = target_of(STAGE, [mark("sphere", x_mm=-1.0, y_mm=11.0, z_mm=104.0, diameter_mm=4.0)], volume(), Path())
    slices, rows, cols = np.nonzero(target)
    # Voxel (slice 2, row 4, column 4) is its centre.
    wanted = [
        (s, r, c) for s in range(4) for r in range(10) for c in range(12)
        if (2 * (s - 2)) ** 2 + (r - 4) ** 2 + (c - 4) ** 2 <= 4
    ]  # fmt: skip
    assert list(zip(slices.tolist(), rows.tolist(), cols.tolist(), strict=True)) == wanted


def test_a_box_on_a_slice_and_its_label() -> None:
    marks = [mark("box", "mass", row=2, col=3, height_px=4, width_px=5, slice=1)]
    target = target_of(STAGE, marks, volume(), Path())
    assert target[1, 2:6, 3:8].tolist() == [[4] * 5] * 4
    assert (target > 0).sum() == 20
    # The same box on a grid half as fine.
    coarse = target_of(STAGE, marks, volume(2.0, (4, 5, 6)), Path())
    assert np.argwhere(coarse).tolist() == [[1, row, col] for row in (1, 2) for col in (1, 2, 3)]


def test_a_polygon_and_a_mask_by_value(tmp_path: Path) -> None:
    corners = ((2.0, 2.0), (2.0, 6.0), (6.0, 6.0), (6.0, 2.0))
    stage = STAGE.model_copy(update={"volume": "middle", "size": (10, 12)})
    target = target_of(stage, [mark("polygon", points=corners)], flat(), tmp_path)
    assert (target[0, 2:7, 2:7] == 1).all()
    assert (target > 0).sum() == 25
    values = np.zeros((10, 12), np.uint8)
    values[1:3, 1:4], values[5:8, 5:8] = 7, 9
    Image.fromarray(values).save(tmp_path / "mask.png")
    only = target_of(stage, [mark("mask", path="mask.png", mask_value=9)], flat(), tmp_path)
    assert np.array_equal(only[0] > 0, values == 9)
    assert ((target_of(stage, [mark("mask", path="mask.png")], flat(), tmp_path)[0] > 0) == (values > 0)).all()


SMALL = {
    # In the corner of four prepared pixels 4 file pixels wide, whose centres lie at 1.5, 5.5, 9.5 ...
    "sphere": mark("sphere", x_mm=3.0, y_mm=11.0, z_mm=104.0, diameter_mm=1.0),
    "box": mark("box", row=4, col=8, height_px=1, width_px=1, slice=2),
    "polygon": mark("polygon", points=((3.8, 7.8), (3.8, 8.2), (4.2, 8.0)), slice=2),
    "mask": mark("mask", path="mask.nii"),
}


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_a_mark_between_the_centres_of_pixels_is_the_pixel_it_lies_in(kind: str, tmp_path: Path) -> None:
    """Else an image with a lesion would train as one without."""
    coarse = volume(4.0, (4, 5, 6))
    voxels = np.zeros((4, 20, 24), np.uint8)
    voxels[2, 4, 8] = 1
    nibabel.Nifti1Image(voxels.transpose(2, 1, 0), np.eye(4)).to_filename(tmp_path / "mask.nii")
    assert np.argwhere(target_of(STAGE, [SMALL[kind]], coarse, tmp_path)).tolist() == [[2, 1, 2]]


def test_what_preparation_cut_away_is_no_target() -> None:
    away = mark("sphere", x_mm=40.0, y_mm=11.0, z_mm=104.0, diameter_mm=1.0)
    assert not target_of(STAGE, [away], volume(4.0, (4, 5, 6)), Path()).any()
    beside = mark("box", row=4, col=30, height_px=1, width_px=1, slice=2)
    assert not target_of(STAGE, [beside], volume(4.0, (4, 5, 6)), Path()).any()


def test_a_polygon_lies_on_the_slice_that_its_height_in_the_patient_says() -> None:
    corners = ((2.0, 2.0), (2.0, 6.0), (6.0, 6.0), (6.0, 2.0))
    # Slices are 2 mm apart and the first lies at z = 100: 104 is that of slice 2.
    target = target_of(STAGE, [mark("polygon", points=corners, z_mm=104.0)], volume(), Path())
    assert (target[2, 2:7, 2:7] == 1).all()
    assert (target > 0).sum() == 25
    with pytest.raises(ImageProblem) as raised:
        target_of(STAGE, [mark("polygon", points=corners, z_mm=104.0)], flat(), Path())
    assert raised.value.reason == "mark_incomplete"


def test_none_is_looked_at_and_holds_nothing() -> None:
    nothing = mark("none", "none")
    assert is_marked(STAGE, [nothing])
    assert not is_marked(STAGE, [mark("box", "cyst", row=1, col=1, height_px=2, width_px=2)])
    assert not target_of(STAGE, [nothing], volume(), Path()).any()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (mark("box", row=1, col=1, height_px=2), "mark_incomplete"),
        (mark("box", row=1, col=1, height_px=2, width_px=2), "mark_incomplete"),  # which slice of four?
        (mark("polygon", points=((1.0, 1.0), (2.0, 2.0))), "mark_incomplete"),
        (mark("mask", path="absent.png"), "file_missing"),
        (mark("circle"), "mark_incomplete"),
    ],
)
def test_a_mark_that_says_too_little_costs_its_image(given: Annotation, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ImageProblem) as raised:
        target_of(STAGE, [given], volume(), tmp_path)
    assert raised.value.reason == reason


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((3, 3), np.uint8)).save(tmp_path / "small.png")
    with pytest.raises(ImageProblem) as raised:
        target_of(STAGE, [mark("mask", path="small.png")], flat(), tmp_path)
    assert raised.value.reason == "mask_size"


def test_a_sphere_needs_a_place_in_the_patient() -> None:
    with pytest.raises(ImageProblem) as raised:
        target_of(STAGE, [mark("sphere", x_mm=1.0, y_mm=1.0, z_mm=1.0, diameter_mm=3.0)], flat(), Path())
    assert raised.value.reason == "mark_incomplete"
