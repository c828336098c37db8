"""Pictures are changed by the seed alone, each by itself, within what the image type allows."""

import pytest
import torch

from riskpred.config.network import Augmentation, ImageEncoder
from riskpred.fit.augment import changed, defaults


def _generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(3, 2, 24, 32), (2, 1, 6, 16, 16)])
def test_one_seed_gives_one_change_and_pixels_stay_in_range(shape: tuple[int, ...]) -> None:
    pictures, how = torch.rand(shape), defaults(["US"])
    once = changed(pictures, how, _generator())
    assert torch.equal(once, changed(pictures, how, _generator()))
    assert not torch.equal(once, changed(pictures, how, _generator(2)))
    assert once.shape == pictures.shape
    assert 0 <= float(once.min()) <= float(once.max()) <= 1


def test_no_change_changes_nothing() -> None:
    pictures = torch.rand(2, 1, 16, 16)
    assert torch.equal(changed(pictures, Augmentation(), _generator()), pictures)


def test_a_chest_keeps_its_heart_on_the_left() -> None:
    """Bright left half: after any default of CR it is still the left half that is brighter, of a hundred pictures."""
    pictures = torch.zeros(100, 1, 32, 32)
    pictures[..., 4:28, 4:16] = 1
    for image_type, kept in (("CR", True), ("DX", True), ("CT", True), ("MR", True), ("US", False), ("OP", False)):
        seen = changed(pictures, defaults([image_type]), _generator())
        left = seen[..., :16].mean((1, 2, 3)) > seen[..., 16:].mean((1, 2, 3))
        assert bool(left.all()) == kept, image_type


def test_mirrored_without_interpolation() -> None:
    pictures = torch.rand(50, 1, 8, 8)
    seen = changed(pictures, Augmentation(flip_left_right=True), _generator())
    same = (seen == pictures).flatten(1).all(1)
    assert torch.equal(seen[~same], pictures[~same].flip(-1))
    assert 10 < int(same.sum()) < 40


def test_a_turn_is_rigid_in_pixels_also_of_a_frame_that_is_no_square() -> None:
    """A disc stays a disc: its width and height differ by less than two pixels at any angle."""
    row, col = torch.meshgrid(torch.arange(32), torch.arange(64), indexing="ij")
    disc = ((row - 15.5) ** 2 + (col - 31.5) ** 2 < 100).float()[None, None].repeat(20, 1, 1, 1)
    seen = changed(disc, Augmentation(rotate_degrees=180), _generator()) > 0.5
    height, width = seen.any(3).sum((1, 2)), seen.any(2).sum((1, 2))
    assert int((height - width).abs().max()) < 2


def test_of_several_types_the_most_careful_goes() -> None:
    both = defaults(["US", "CR"])
    assert not both.flip_left_right
    assert both.rotate_degrees == 7
    assert both.speckle == 0


def test_settings_that_contradict_are_refused() -> None:
    with pytest.raises(ValueError, match="freeze keeps loaded weights"):
        ImageEncoder(network="resnet18", freeze=2)
    with pytest.raises(ValueError, match="there are none"):
        ImageEncoder(network="resnet18", norm="frozen")
