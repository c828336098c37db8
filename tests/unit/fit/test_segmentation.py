"""Segmentation learns what is drawn, the same for the same seed, and never from the fold it will be asked about."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from riskpred.config.model import parse
from riskpred.config.segmentation import SegmentationStage, SegmentationTraining
from riskpred.errors import InputError
from riskpred.fit.segmentation import Example, deep_loss, fit_segmentation, segmentation_loss, train_network
from riskpred.fit.segmentation_batches import Batches, vary
from riskpred.imaging.prepare import Prepared
from riskpred.imaging.segment import Segmenter
from riskpred.progress import Silent
from tests.benchmarks.imaging.pixels import prepared_of

PLAIN = {"rotate_degrees": 0, "scale": 0, "brightness": 0, "contrast": 0, "noise": 0, "flips": []}


def stage_of(volume: str = "middle", **training: Any) -> SegmentationStage:
    settings = {"steps": 80, "batch_size": 8, "learning_rate": 2e-2, "average": 0.9, **training}
    said = {"image_types": ["US"], "volume": volume, "labels": {"1": "disc", "3": "square"}, "folds": 2}
    return parse(SegmentationStage, {**said, "network": {"widths": [8, 16]}, "training": settings}, "imaging.yaml")


def picture(number: int, side: int = 32) -> tuple[Prepared, NDArray[np.uint8]]:
    """A bright disc (1) and a brighter square (3) on noise; every fourth shows neither."""
    draw = np.random.default_rng(number)
    target = np.zeros((1, side, side), np.uint8)
    if number % 4:
        y, x = np.mgrid[:side, :side]
        row, col = draw.uniform(7, side - 7, 2)
        target[0][(y - row) ** 2 + (x - col) ** 2 <= draw.uniform(3, 6) ** 2] = 1
        top, left = draw.integers(2, side - 8, 2)
        target[0, top : top + 5, left : left + 5] = 3
    pixels = 0.2 + 0.2 * target + draw.normal(0, 0.05, target.shape)
    return prepared_of(pixels[:, None].astype(np.float32)), target


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return [Example(*picture(number)) for number in range(24)]


def dice(segmenter: Segmenter, numbers: range) -> NDArray[np.float64]:
    """Of both labels over pictures that trained nothing."""
    both = [(segmenter.probabilities(one) > 0.5, target) for one, target in map(picture, numbers)]
    return np.array(
        [
            2 * sum((p[i] & (t == v)).sum() for p, t in both) / sum(p[i].sum() + (t == v).sum() for p, t in both)
            for i, v in enumerate((1, 3))
        ]
    )


def test_both_labels_are_found_in_pictures_never_seen(examples: list[Example]) -> None:
    net = train_network(stage_of(), examples, 0, lambda step: None)
    assert not net.training
    assert (dice(Segmenter(stage_of(), (net,)), range(100, 112)) > 0.8).all()


def test_a_coarse_stem_leaves_things_where_they_are(examples: list[Example]) -> None:
    """Answers of half the size grow back around the same middle."""
    stage = stage_of()
    stage = stage.model_copy(update={"network": stage.network.model_copy(update={"stem": 2})})
    segmenter = Segmenter(stage, (train_network(stage, examples, 0, lambda step: None),))
    away = []
    for prepared, target in map(picture, (101, 102, 103, 105, 106, 107)):
        found = segmenter.probabilities(prepared)[1, 0] > 0.5
        away.append(np.argwhere(found).mean(axis=0) - np.argwhere(target[0] == 3).mean(axis=0))
    assert np.abs(np.mean(away, axis=0)).max() < 0.5


def test_whole_volumes_train_on_patches_around_their_lesions() -> None:
    flat = [picture(number) for number in (1, 2, 3, 5)]
    deep = [
        Example(prepared_of(np.repeat(one.pixels[None], 8, axis=2)), np.repeat(target, 8, axis=0))
        for one, target in flat
    ]
    stage = stage_of("whole", patch=[4, 16, 16], steps=40, with_lesion=0.75)
    segmenter = Segmenter(stage, (train_network(stage, deep, 0, lambda step: None),))
    found = segmenter.probabilities(deep[0].prepared)
    assert found.shape == (2, 8, 32, 32)
    disc = deep[0].target == 1
    assert found[0][disc].mean() > found[0][~disc].mean() + 0.5


def test_the_same_seed_gives_the_same_weights_and_leaves_the_generator_alone(examples: list[Example]) -> None:
    stage = stage_of(steps=3)
    before = torch.random.get_rng_state()
    one, again, other = (train_network(stage, examples, seed, lambda step: None) for seed in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), again.state_dict().values(), strict=True))
    assert not torch.equal(one.down[0].first.weight, other.down[0].first.weight)


def test_a_fold_model_never_saw_its_fold(examples: list[Example]) -> None:
    """Other targets in a fold change every network but that fold's."""
    folds, stage = np.arange(24) % 2, stage_of(steps=3)
    lied = [
        Example(e.prepared, 1 - np.minimum(e.target, 1)) if k == 0 else e for e, k in zip(examples, folds, strict=True)
    ]
    true, false = (fit_segmentation(stage, given, folds, 0, Silent()) for given in (examples, lied))

    def same(fold: int) -> bool:
        pairs = zip(*(f.fold_models[fold].networks[0].state_dict().values() for f in (true, false)), strict=True)
        return all(torch.equal(a, b) for a, b in pairs)

    assert same(0)
    assert not same(1)
    pixels = picture(100)[0]
    mean = np.mean([model.probabilities(pixels) for model in true.fold_models], axis=0)
    np.testing.assert_allclose(true.segmenter.probabilities(pixels), mean, atol=1e-6)


def test_progress_is_told_each_step_and_what_it_raises_ends_the_training(examples: list[Example]) -> None:
    class Stop(Exception): ...

    class Watch:
        told: list[tuple[str, int, int | None]] = []

        def step(self, stage: str, done: int, total: int | None = None) -> None:
            self.told.append((stage, done, total))
            if done == 4:
                raise Stop

    with pytest.raises(Stop):
        fit_segmentation(stage_of(steps=3), examples, np.arange(24) % 2, 0, Watch())
    assert Watch.told == [("segmentation", done, 6) for done in (1, 2, 3, 4)]


def test_without_a_lesion_there_is_nothing_to_learn_from() -> None:
    with pytest.raises(InputError, match="no lesion to learn from in 2 annotated images"):
        train_network(stage_of(), [Example(*picture(0)), Example(*picture(4))], 0, lambda step: None)


def test_a_batch_holds_as_many_lesions_as_asked(examples: list[Example]) -> None:
    """18 of 24 pictures show one; 3 of 8 in a batch do."""
    batches = iter(Batches(stage_of(with_lesion=0.375, augmentation=PLAIN), examples, np.random.default_rng(0)))
    for _ in range(3):
        _, target, _ = next(batches)
        assert int(target.flatten(1).any(dim=1).sum()) == 3
    first = [next(batches)[0] for _ in range(2)]
    assert first[0].shape == (8, 1, 32, 32)
    assert not torch.equal(*first)


def test_pixels_and_targets_move_together() -> None:
    """What is drawn at 1 where the target is stays there, however turned, scaled, bent or mirrored."""
    torch.manual_seed(0)
    shape = torch.zeros(6, 1, 40, 40)
    shape[:, :, 8:20, 14:34] = 1
    how = {**PLAIN, "rotate_degrees": 40, "scale": 0.3, "elastic": 0.02, "flips": ["rows", "columns"]}
    pixels, target = vary(shape.clone(), shape.clone(), stage_of(augmentation=how))
    assert float((pixels - target).abs().mean()) < 0.03
    assert all(float((target[i] - shape[i]).abs().mean()) > 0.02 for i in range(6))
    assert float(target.sum() / shape.sum()) == pytest.approx(1.0, abs=0.35)


def test_a_turn_is_a_turn_whatever_the_sides_of_the_picture() -> None:
    """A square stays as large in a picture that is twice as wide as high."""
    torch.manual_seed(0)
    shape = torch.zeros(8, 1, 40, 80)
    shape[:, :, 14:26, 34:46] = 1
    _, target = vary(shape.clone(), shape.clone(), stage_of(augmentation={**PLAIN, "rotate_degrees": 45}))
    assert target.sum((1, 2, 3)).tolist() == pytest.approx([144.0] * 8, rel=0.1)


@pytest.mark.parametrize("kind", ["dice_cross_entropy", "dice_focal"])
def test_the_loss_falls_towards_the_truth(kind: Any) -> None:
    target = torch.zeros(2, 1, 8, 8)
    target[0, 0, 2:5, 2:5] = 1
    losses = [
        float(segmentation_loss(scale * (2 * target - 1), target, torch.ones(2, 1, 8, 8), kind))
        for scale in (-4.0, 0.0, 4.0, 12.0)
    ]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.01


def test_dice_counts_the_whole_batch_so_that_an_empty_picture_takes_nothing_away() -> None:
    target = torch.zeros(2, 1, 4, 4)
    target[0, 0, :2, :2] = 1
    probability = torch.full_like(target, 0.25)
    logits = torch.log(probability / (1 - probability))
    dice = 1 - (2 * 0.25 * 4 + 1) / (0.25 * 32 + 4 + 1)
    entropy = -(4 * np.log(0.25) + 28 * np.log(0.75)) / 32
    loss = segmentation_loss(logits, target, torch.ones_like(target), "dice_cross_entropy")
    assert float(loss) == pytest.approx(dice + entropy, rel=1e-5)


def test_coarser_levels_count_half_of_the_finer() -> None:
    target = torch.zeros(1, 1, 8, 8)
    target[..., :4, :4] = 1
    fine, coarse, weight = torch.randn(1, 1, 8, 8), torch.randn(1, 1, 4, 4), torch.ones(1, 1, 8, 8)
    weight[..., 1, 1] = 5.0
    largest = torch.ones(1, 1, 4, 4)
    largest[..., 0, 0] = 5.0
    settings = SegmentationTraining()
    small = torch.zeros(1, 1, 4, 4)
    small[..., :2, :2] = 1
    wanted = (
        segmentation_loss(fine, target, weight, settings.loss)
        + segmentation_loss(coarse, small, largest, settings.loss) / 2
    ) / 1.5
    assert float(deep_loss([fine, coarse], target, weight, settings)) == pytest.approx(float(wanted), rel=1e-5)
