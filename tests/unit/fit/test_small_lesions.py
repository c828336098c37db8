"""A small lesion weighs in a segmentation's loss what the stage says it does, and is found for it."""

from typing import Any

import numpy as np
import pytest
import torch

from riskpred.config.model import parse
from riskpred.config.segmentation import SegmentationStage
from riskpred.fit.segmentation import Example, segmentation_loss
from riskpred.fit.segmentation_batches import Batches
from tests.benchmarks.imaging.pixels import prepared_of

STILL = {"rotate_degrees": 0, "scale": 0, "brightness": 0, "contrast": 0, "noise": 0, "flips": []}
LARGE, SMALL = (slice(4, 14), slice(4, 14)), (slice(24, 26), slice(24, 26))


def stage_of(volume: str = "middle", **training: Any) -> SegmentationStage:
    settings = {"batch_size": 1, "with_lesion": 1.0, "augmentation": STILL, **training}
    said = {"image_types": ["US"], "volume": volume, "labels": {"1": "square"}, "network": {"widths": [4, 8]}}
    return parse(SegmentationStage, {**said, "training": settings}, "imaging.yaml")


def example(deep: bool = False) -> Example:
    """Squares of 100 and 4 pixels: 52 in the mean; of a volume cuboids 2 slices deep."""
    target = np.zeros((1, 32, 32), np.uint8)
    target[0][LARGE] = target[0][SMALL] = 1
    if not deep:
        return Example(prepared_of(target[:, None].astype(np.float32)), target)
    target = np.pad(target.repeat(2, axis=0), ((3, 3), (0, 0), (0, 0)))
    return Example(prepared_of(target[None, None].astype(np.float32)), target)


def values(weight: torch.Tensor) -> set[float]:
    return {round(value, 4) for value in weight.flatten().tolist()}


def weight_of(stage: SegmentationStage, given: Example, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the first batch: its target and weight, without batch and label."""
    _, target, weight = next(iter(Batches(stage, [given], np.random.default_rng(seed))))
    return target[0, 0], weight[0, 0]


@pytest.mark.parametrize("volume", ["middle", "whole"])
def test_a_small_lesion_and_what_lies_around_it_count_as_much_as_a_mean_one(volume: str) -> None:
    target, weight = weight_of(stage_of(volume, small_lesions=1.0), example(volume == "whole"))
    flat = weight if volume == "middle" else weight[3]
    assert values(flat[SMALL]) == {13.0}
    assert values(flat[22:28, 22:28]) == {13.0}, "two pixels around it"
    assert float(weight[target == 0].max()) == pytest.approx(13.0)
    assert values(flat[:20, :20]) == {1.0}, "a large lesion loses nothing"
    assert float((weight > 1).sum()) == 36 * (1 if volume == "middle" else 6)


def test_the_power_says_how_much_of_it() -> None:
    _, weight = weight_of(stage_of(small_lesions=0.5), example())
    assert float(weight.max()) == pytest.approx(13.0**0.5)
    _, weight = weight_of(stage_of(), example())
    assert values(weight) == {1.0}


def test_what_a_patch_cuts_off_is_not_taken_for_small() -> None:
    """A corner of the large square in a patch is no small lesion."""
    stage = stage_of(small_lesions=1.0, patch=[8, 8])
    drawn = [weight_of(stage, example(), seed) for seed in range(20)]
    cut = [weight for target, weight in drawn if target.sum() > 4]
    assert cut
    assert all(values(weight) == {1.0} for weight in cut)
    assert any(float(weight.max()) == pytest.approx(13.0) for target, weight in drawn if target.sum() == 4)


@pytest.mark.parametrize("kind", ["dice_cross_entropy", "dice_focal"])
def test_missing_the_small_one_costs_what_it_weighs(kind: str) -> None:
    """By pixels alone it costs a twentieth of the large one; weighed, more than a third."""
    target = torch.from_numpy(example().target[:, None]).float()
    shares = []
    for power in (0.0, 1.0):
        _, weight = weight_of(stage_of(small_lesions=power), example())
        found = [8.0 * (2 * target - 1) for _ in range(3)]
        found[1][0, 0][SMALL] = found[2][0, 0][LARGE] = -8.0
        best, small, large = (float(segmentation_loss(one, target, weight[None, None], kind)) for one in found)
        shares.append((small - best) / (large - best))
    assert shares[0] < 0.06
    assert shares[1] > 0.33
