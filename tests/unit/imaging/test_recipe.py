"""A recipe through the decoder: quick way and whole way give the same pixels, in a worker as in this process."""

from importlib import util
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from riskpred.config.imaging import Recipe, default_steps
from riskpred.config.steps import steps_from_json
from riskpred.errors import ConfigError
from riskpred.imaging.decode import DecodePool, Wanted, decode_one
from riskpred.imaging.prepare import prepare
from riskpred.imaging.read import read_image, read_picture
from riskpred.imaging.recipe import prepare_picture


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    for i, shape in enumerate([(40, 30), (300, 200), (200, 333)]):
        array = ndimage.gaussian_filter(rng.normal(size=(*shape, 3)), np.array([*shape, 0]) / 12)
        array = (array - array.min()) / np.ptp(array) * 255
        Image.fromarray(array[..., 0].astype(np.uint8)).save(tmp_path / f"{i}.png")
        Image.fromarray(array.astype(np.uint8)).save(tmp_path / f"c{i}.png")
    pages = [Image.fromarray(np.full((20, 20), 10 * z, np.uint8) + np.eye(20, dtype=np.uint8)) for z in range(5)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    study = tmp_path / "study"
    study.mkdir()
    for i in range(2):
        Image.open(tmp_path / f"{i + 1}.png").resize((60, 50)).save(study / f"t{i + 1}.png")
    return tmp_path


@pytest.mark.parametrize("size", [(16, 16), (32, 48), (64, 64)])
@pytest.mark.parametrize("name", ["0.png", "1.png", "2.png", "c1.png"])
def test_both_ways_give_the_same_pixels_and_place(root, name, size):
    quick = decode_one(Wanted(root, name, Recipe(size=size))).result
    whole = prepare_picture(read_picture(root / name), Recipe(size=size))
    assert quick.box == whole.box
    (_, _), (top, bottom), (left, right) = quick.box
    for one, other in pairwise([quick, prepare(read_image(root / name), size), whole]):
        np.testing.assert_allclose(
            one.pixels, other.pixels, atol=0.07
        )  # Pillow's box takes a pixel whole or not at all
        for field in ("offset", "scale", "spacing_mm", "shape"):
            np.testing.assert_allclose(getattr(one.grid, field), getattr(other.grid, field), atol=1e-12)
    assert quick.pixels.shape == (1, 1, *size)
    # The corner of the picture is the corner of its file.
    rows, columns = quick.grid.shape[1:]
    first = quick.grid.file_index((0, top - 0.5, left - 0.5))
    last = quick.grid.file_index((0, bottom - 0.5, right - 0.5))
    np.testing.assert_allclose(first[1:], (-0.5, -0.5), atol=1e-9)
    np.testing.assert_allclose(last[1:], (rows - 0.5, columns - 0.5), atol=1e-9)


def test_workers_prepare_as_this_process_does_and_problems_stay_with_their_image(root):
    steps = steps_from_json([{"step": "denoise_nlm"}, {"step": "clahe"}, {"step": "crop_body"}])
    asked = [
        Wanted(root, "c1.png", Recipe.of("rgb", default_steps("OP"), 32)),
        Wanted(root, "1.png", Recipe.of("grey", steps, 32)),
        Wanted(root, "study", Recipe.of(("t1*", "t2*"), (), 32)),
        Wanted(root, "study", Recipe.of(("t1*", "t3*"), (), 32)),
        Wanted(root, "stack.tif", Recipe.of("grey", (), 16, "slices", 2)),
        Wanted(root, "stack.tif", Recipe.of("grey", (), 16, "whole")),
        Wanted(root, "0.png", Recipe.of("grey", steps_from_json([{"step": "resample", "spacing_mm": [1.0]}]), 16)),
    ]
    with DecodePool(1) as pool:
        found = [one.result for one in pool.decode(asked)]
    here = [decode_one(one).result for one in asked]
    shapes = [(1, 3, 32, 32), (1, 1, 32, 32), (1, 2, 32, 32), None, (2, 1, 16, 16), (1, 1, 16, 16, 16), None]
    for one, other, shape in zip(found, here, shapes, strict=True):
        if shape is None:
            assert one.reason == other.reason
        else:
            assert one.pixels.shape == shape
            np.testing.assert_array_equal(one.pixels, other.pixels)
    assert [found[3].reason, found[6].reason] == ["channel_missing", "no_spacing"]
    assert found[4].slices == (1.0, 3.0)


def test_a_folder_is_known_by_all_of_its_bytes(root):
    recipe = Recipe.of(("t1*", "t2*"), (), 32)
    first = decode_one(Wanted(root, "study", recipe)).content
    assert decode_one(Wanted(root, "study", recipe, (first,))).result is None
    Image.open(root / "0.png").resize((60, 50)).save(root / "study" / "t2.png")
    assert decode_one(Wanted(root, "study", recipe)).content != first
    (root / "outside").mkdir()
    (root / "outside" / "t2.png").symlink_to(root / "1.png")
    assert decode_one(Wanted(root, "outside", recipe)).result.reason == "path_refused"


def test_a_missing_library_is_said_once_before_the_work(root, monkeypatch):
    monkeypatch.setattr("riskpred.imaging.recipe.find_spec", lambda name: None)
    asked = [Wanted(root, "1.png", Recipe.of("grey", steps_from_json([{"step": "clahe"}]), 32))]
    with DecodePool(0) as pool, pytest.raises(ConfigError, match="clahe need"):
        list(pool.decode(asked))
    assert util.find_spec("skimage") is not None
