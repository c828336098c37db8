"""Any picture becomes the same square of 0 to 1 for the same input."""

import numpy as np
import pytest

from riskpred.imaging.paths import ImageProblem
from riskpred.imaging.prepare import prepare
from riskpred.imaging.read import Pixels, read_image


def ramp(rows, columns):
    return np.add.outer(np.arange(rows), np.arange(columns)).astype(np.float32)


def test_area_averages_aspect_and_spacing():
    array = np.zeros((40, 20), dtype=np.float32)
    array[:20] = 10.0
    prepared = prepare(Pixels(array, (0.5, 0.25)), 16)
    assert prepared.box == ((0, 1), (0, 16), (4, 12))
    wanted = np.zeros((16, 16))
    wanted[:8, 4:12] = 1.0
    np.testing.assert_allclose(prepared.pixels[0, 0], wanted, atol=1e-6)
    # 40 rows of .5 mm over 16 rows; 20 columns of .25 mm over 8 columns: the picture keeps its size in mm.
    assert prepared.spacing_mm.tolist() == [1.25, 0.625]


def test_a_small_picture_grows():
    prepared = prepare(Pixels(ramp(8, 4)), 32)
    assert prepared.box == ((0, 1), (0, 32), (8, 24))
    assert np.isnan(prepared.spacing_mm).all()
    assert 0 <= prepared.pixels.min() < 0.01
    assert 0.99 < prepared.pixels.max() <= 1


def test_scale_and_offset_of_the_values_do_not_matter():
    array = np.random.default_rng(1).normal(size=(50, 70)).astype(np.float32)
    one, other = prepare(Pixels(array), 32), prepare(Pixels(array * 4 - 100), 32)
    np.testing.assert_allclose(one.pixels, other.pixels, atol=1e-4)
    assert one.pixels.min() >= 0
    assert one.pixels.max() <= 1
    np.testing.assert_array_equal(one.pixels, prepare(Pixels(array), 32).pixels)


def test_one_bright_letter_does_not_set_the_scale():
    array = ramp(64, 64)
    array[0, 0] = 1e6
    inner = prepare(Pixels(array), 64).pixels[0, 0, 10:54, 10:54]
    assert inner.max() - inner.min() > 0.6


def test_a_picture_without_contrast_is_refused_and_one_bright_spot_is_contrast():
    with pytest.raises(ImageProblem, match="no_contrast"):
        prepare(Pixels(np.full((20, 30), 7, dtype=np.float32)), 16)
    spot = np.zeros((64, 64), dtype=np.float32)
    spot[5, 5] = 1
    assert prepare(Pixels(spot), 64).pixels[0, 0, 5, 5] == 1


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1)])
def test_a_line_is_still_a_picture(shape):
    prepared = prepare(Pixels(ramp(*shape)), 16)
    assert prepared.pixels.shape == (1, 1, 16, 16)
    assert min(last - first for first, last in prepared.box[1:]) == 1


@pytest.mark.real_data
def test_real_chest_films_are_read(real_data):
    """Hannover: all 243 films give a square that uses its whole range."""
    files = sorted((real_data("hannover_cxr") / "images").glob("*.png"))
    assert len(files) == 243
    for file in files[::10]:
        prepared = prepare(read_image(file), 64)
        assert prepared.pixels.min() == 0
        assert prepared.pixels.max() == 1
        assert 0.05 < prepared.pixels.mean() < 0.95
