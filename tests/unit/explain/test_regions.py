"""Regions of a picture: found on a map, outlined, measured, and summed for every target by a model that reads them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from riskpred.explain.attribution import integrated_gradients, within_modality
from riskpred.explain.evidence import image_rows
from riskpred.explain.picture import MAP_STEPS, Picture, attribution_map
from riskpred.explain.regions import LEAST_POINTS, REGIONS, measured, outline, regions_of
from riskpred.features.batch import ImageInput
from riskpred.features.plan import ImagePlan
from riskpred.model.tensors import ImageTensors


def _filled(corners: Any, side: int) -> Any:
    """Pixels whose centre lies inside a polygon of pixel corners."""
    drawn = Image.new("1", (side * 4, side * 4))
    ImageDraw.Draw(drawn).polygon([(4 * c - 0.5, 4 * r - 0.5) for r, c in corners], fill=1)
    return np.asarray(drawn)[2::4, 2::4]


def test_regions_are_disjoint_signed_and_the_largest_first() -> None:
    attribution = np.random.default_rng(1).normal(scale=1e-4, size=(64, 64))
    attribution[40:50, 10:22] += 0.01
    attribution[5:15, 40:60] -= 0.05
    attribution[30:34, 50:54] += 0.02
    attribution[56:60, 56:60] += 0.001  # too little to be worth a line
    found = regions_of(attribution)
    assert len(found) == REGIONS
    assert not (np.sum(found, axis=0) > 1).any()
    sums = [attribution[region].sum() for region in found]
    assert np.abs(sums).tolist() == sorted(np.abs(sums), reverse=True)
    assert [total > 0 for total in sums] == [False, True, True]
    assert found[0][7:13, 43:57].all()
    assert not found[0][20:].any()
    assert found[1][42:48, 12:20].all()
    assert regions_of(attribution * LEAST_POINTS / 10) == []
    assert regions_of(np.zeros((16, 16))) == []


def test_two_summits_of_one_hill_are_one_region_and_a_slope_is_none() -> None:
    row, column = np.mgrid[:64, :64]
    hill = np.exp(-((row - 30) ** 2 + (column - 28) ** 2) / 60) + 0.95 * np.exp(
        -((row - 30) ** 2 + (column - 44) ** 2) / 60
    )
    assert hill[30, 36] < 0.95 * hill[30, 28], "two summits"
    (found,) = regions_of(hill)
    assert found[30, 28]
    assert found[30, 44]


def test_a_wide_region_comes_before_a_higher_one_that_adds_less() -> None:
    attribution = np.zeros((64, 64))
    attribution[4:10, 4:10] = 0.05
    attribution[30:60, 20:60] = 0.02
    wide, high = regions_of(attribution)
    assert wide[45, 40]
    assert high[7, 7]


@pytest.mark.parametrize("seed", range(6))
def test_an_outline_follows_the_pixels_of_its_region(seed: int) -> None:
    from scipy import ndimage

    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(40, 40)), 2.0)
    parts, count = ndimage.label(noise > 0.05)
    assert count > 1
    region = ndimage.binary_fill_holes(parts == np.bincount(parts.ravel())[1:].argmax() + 1)
    corners = outline(region)
    assert np.array_equal(_filled(corners, 40), region)
    steps = np.diff(np.vstack([corners, corners[:1]]), axis=0)
    assert ((steps == 0).sum(axis=1) == 1).all(), "along the edges of pixels"


def test_a_border_that_meets_itself_at_a_corner_goes_around_everything() -> None:
    region = np.array([[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 0]], dtype=bool)
    assert _filled(outline(region), 4)[0].all()
    ring = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=bool)
    assert np.array_equal(_filled(outline(ring), 3), ring), "a hole that touches the outside is outside"


def test_position_and_size_are_in_mm_where_the_spacing_is_known() -> None:
    region = np.zeros((32, 32), dtype=bool)
    region[8:12, 20:26] = True
    said = measured("region 1", region, 0.5, (2.0, 4.0))
    assert said == {
        "region": "region 1",
        "row": 5.0,
        "col": 11.5,
        "area_px": 6.0,
        "longest_diameter_px": round(float(np.hypot(2, 3)), 2),
        "x_mm": 46.0,
        "y_mm": 10.0,
        "area_mm2": 48.0,
        "longest_diameter_mm": round(float(np.hypot(4, 12)), 2),
    }
    unknown = measured("region 1", region, 0.5, None)
    assert [unknown[key] for key in ("x_mm", "y_mm", "area_mm2", "longest_diameter_mm")] == [None] * 4


def _reader(side: int) -> tuple[ImageTensors, torch.Tensor, Any]:
    """Pictures with a planted blob, and a worth that reads it non-linearly, with other signs for other targets."""
    draw = torch.Generator().manual_seed(0)
    values = torch.rand((5, 1, side, side), generator=draw) * 0.3
    for row in range(5):
        values[row, 0, 4 + 5 * row : 10 + 5 * row, 20:27] += 0.6
    given = ImageTensors.alone(values)
    kernel = torch.ones(1, 1, 5, 5) / 25

    def worth(inputs: ImageTensors, subject: torch.Tensor) -> torch.Tensor:
        blurred = torch.nn.functional.conv2d(inputs.values, kernel, padding=2)[:, 0]
        bright = torch.sigmoid(20 * (blurred - 0.5)).flatten(1).sum(dim=1).double()
        return torch.stack([0.2 * bright, -0.1 * bright, bright.square() / 100], dim=1)

    return given, torch.full_like(values, 0.15), worth


def test_a_planted_blob_lies_in_region_1_and_is_summed_for_every_target() -> None:
    given, start, worth = _reader(48)
    within = within_modality(worth, given, start[0], None, np.array([0, 1, 2, 0, 1]))
    gain, picture = within.feature[..., 0], within.picture
    assert picture is not None
    for row in range(5):
        blob = np.zeros((48, 48), dtype=bool)
        blob[4 + 5 * row : 10 + 5 * row, 20:27] = True
        first = picture.mask[row, 0]
        assert (first & blob).sum() / blob.sum() > 0.5
        assert (first & blob).sum() / first.sum() > 0.6
        assert picture.region[row, 0, 0] > 0.5 * gain[row, 0] > 1
        assert picture.region[row, 1, 0] == pytest.approx(-picture.region[row, 0, 0] / 2)
    assert (np.abs(picture.region.sum(axis=-1) - gain) <= np.maximum(0.005 * np.abs(gain), 0.01)).all()
    assert within.within_tolerance.all()
    lost = replace(within, picture=replace(picture, region=picture.region * 0.9))
    assert not lost.within_tolerance.any(), "a remainder of regions is flagged, too"


def test_captum_integrates_the_same_path_a_target_per_row() -> None:
    given, start, worth = _reader(32)
    everyone = torch.arange(5)
    ours = integrated_gradients(worth, given, start, everyone, MAP_STEPS, lambda a: a)
    mixed = torch.tensor([2, 0, 1, 1, 0])
    theirs = attribution_map(worth, given, start, mixed, everyone)
    assert torch.allclose(theirs.double(), ours[everyone, mixed], atol=1e-6)
    assert float(theirs.abs().max()) > 1e-3


def _shown(mask: Any) -> Picture:
    """One picture a subject."""
    rows, none = np.arange(len(mask)), np.zeros(len(mask), dtype=np.int64)
    flat = np.zeros((len(mask), *mask.shape[2:]))
    return Picture(rows, rows, none, none, none, flat, mask, np.zeros((len(mask), 1, REGIONS + 1)))


def test_evidence_says_where_a_region_lies_and_how_large_it_is(tmp_path: Path) -> None:
    noise = np.random.default_rng(2).random((2, 512, 512)).astype(np.float32)
    spacing = np.array([[np.nan, 0.5, 0.25], [np.nan, np.nan, np.nan]])
    mask = np.zeros((2, 3, 512, 512), dtype=bool)
    mask[:, 0, 100:120, 200:240], mask[0, 1, 300:310, 10:20] = True, True
    films = ImageInput(np.arange(3), noise[:, None], ("a", "b"), np.array([5, 6]), spacing, np.zeros((2, 2)))
    spec, subjects = ImagePlan(("DX",), None, None, 512), np.array([11, 12])
    known, unknown = image_rows(films, spec, "image", subjects, _shown(mask), np.ones(2)).to_pylist()
    note = json.loads(known["note"])
    assert (note["height_px"], note["width_px"], note["spacing_mm"]) == (256, 256, [1.0, 0.5]), "made smaller to fit"
    assert [one["region"] for one in note["regions"]] == ["region 1", "region 2"]
    first = note["regions"][0]
    assert (first["row"], first["col"], first["area_px"]) == (55.0, 110.0, 200.0)
    assert (first["x_mm"], first["y_mm"], first["area_mm2"]) == (55.0, 55.0, 100.0)
    drawn = json.loads(known["outline"])
    assert [one["region"] for one in drawn] == ["region 1", "region 2"]
    assert drawn[0]["polygon"] == [[50.0, 100.0], [50.0, 120.0], [60.0, 120.0], [60.0, 100.0]]
    note = json.loads(unknown["note"])
    assert note["spacing_mm"] is None
    assert note["regions"][0]["x_mm"] is None
    mask[:] = False
    assert image_rows(films, spec, "image", subjects, _shown(mask), np.ones(2)).to_pylist()[0]["outline"] is None
