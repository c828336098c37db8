"""A segmenter gives each image the same probabilities whatever stands beside it, by windows as in one piece."""

from pathlib import Path

import numpy as np
import pytest
import torch

from riskpred.config.segmentation import (
    Augmentation,
    SegmentationStage,
    SegmentationTraining,
    SlidingWindow,
    UNetSettings,
)
from riskpred.imaging.segment import Segmenter, new_network, with_context
from riskpred.imaging.unet import UNet

FLAT = SegmentationStage(
    image_types=("MR",),
    channels="rgb",
    volume="slices",
    slices=9,
    labels={1: "core", 2: "rim"},
    network=UNetSettings(widths=(4, 6, 8), context=1),
)
WHOLE = SegmentationStage(
    image_types=("CT",), volume="whole", labels={1: "nodule"}, network=UNetSettings(widths=(4, 6, 8))
)


def untrained(stage: SegmentationStage, networks: int = 2) -> Segmenter:
    """Networks of drawn weights whose batch statistics are not the ones they start with."""
    torch.manual_seed(5)
    made = []
    for _ in range(networks):
        net = new_network(stage).train()
        shape = (2, net.down[0].first.in_channels, *(16,) * stage.dims)
        with torch.no_grad():
            net(torch.rand(shape))
        made.append(net.eval().requires_grad_(False))
    return Segmenter(stage, tuple(made))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("stem", [1, 2])
def test_a_network_answers_at_every_pixel_of_any_size(dims: int, stem: int) -> None:
    net = UNet(UNetSettings(widths=(4, 4, 8), stem=1 if stem == 1 else 2), channels=2, labels=3, dims=dims)
    pixels = torch.rand(2, 2, *(13, 18, 11)[:dims])
    assert net.eval()(pixels).shape == (2, 3, *pixels.shape[2:])
    assert [tuple(level.shape[2:]) for level in net.train()(torch.rand(2, 2, *(16,) * dims))] == [
        (16 // (stem * 2**level),) * dims for level in range(3)
    ]


def test_probabilities_are_one_per_label_and_pixel() -> None:
    pixels = np.random.default_rng(0).random((5, 3, 20, 22), dtype=np.float32)
    found = untrained(FLAT).of_pixels(pixels)
    assert found.shape == (2, 5, 20, 22)
    assert ((found > 0) & (found < 1)).all()


def test_more_pictures_in_one_file_change_no_other_beyond_their_neighbours() -> None:
    pixels = np.random.default_rng(0).random((6, 3, 16, 16), dtype=np.float32)
    segmenter = untrained(FLAT)
    whole, first = segmenter.of_pixels(pixels), segmenter.of_pixels(pixels[:4])
    np.testing.assert_array_equal(whole[:, :3], first[:, :3])
    assert np.abs(whole[:, 3] - first[:, 3]).max() > 1e-4  # its neighbour is another one


def test_neighbours_stand_behind_a_picture_and_the_last_stands_for_those_beyond() -> None:
    pixels = torch.arange(4.0)[:, None, None, None].expand(4, 1, 2, 2)
    stage = FLAT.model_copy(update={"channels": "grey"})
    assert with_context(pixels, stage)[:, :, 0, 0].tolist() == [[0, 0, 1], [1, 0, 2], [2, 1, 3], [3, 2, 3]]
    assert with_context(pixels, stage, only=3)[:, :, 0, 0].tolist() == [[3, 2, 3]]


def test_a_flip_gives_the_flipped_answer() -> None:
    pixels = np.random.default_rng(0).random((1, 1, 8, 16, 12), dtype=np.float32)
    stage = WHOLE.model_copy(update={"training": SegmentationTraining(augmentation=Augmentation(flips=("slices",)))})
    segmenter = untrained(stage)
    there, back = segmenter.of_pixels(pixels), segmenter.of_pixels(pixels[:, :, ::-1].copy())
    np.testing.assert_allclose(there, back[:, ::-1], atol=1e-6)
    once = untrained(stage.model_copy(update={"flip_averaging": False}))
    assert np.abs(once.of_pixels(pixels) - once.of_pixels(pixels[:, :, ::-1].copy())[:, ::-1]).max() > 1e-4


def test_windows_agree_with_the_whole_where_a_network_sees_only_near() -> None:
    """Inside a window's middle, further from its rim than the network sees, both give the same."""
    near = UNetSettings(widths=(4, 4))
    stage = WHOLE.model_copy(update={"network": near, "flip_averaging": False})
    pixels = np.random.default_rng(1).random((1, 1, 12, 40, 44), dtype=np.float32)
    torch.manual_seed(0)
    net = new_network(stage).eval().requires_grad_(False)
    in_one = Segmenter(stage, (net,)).of_pixels(pixels)
    window = stage.model_copy(update={"window": SlidingWindow(size=(12, 32, 32), overlap=0.75)})
    by_windows = Segmenter(window, (net,)).of_pixels(pixels)
    assert by_windows.shape == in_one.shape
    # The rim of a window is guessed from half of what lies around it: its weight is small, its error not nought.
    assert np.abs(by_windows - in_one).max() < 0.05
    assert np.abs(by_windows - in_one)[:, :, 18:22, 20:24].max() < 0.003


def test_what_is_saved_answers_the_same_when_loaded(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).random((2, 3, 16, 16), dtype=np.float32)
    segmenter = untrained(FLAT)
    segmenter.save(tmp_path / "stage")
    loaded = Segmenter.load(tmp_path / "stage")
    assert loaded.stage == FLAT
    np.testing.assert_array_equal(loaded.of_pixels(pixels), segmenter.of_pixels(pixels))
