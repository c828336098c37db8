"""Several pictures of a row: one alone is untouched, copies are one, and nothing but a row's own pictures counts."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from riskpred.features.batch import FeatureBatch, ImageInput
from riskpred.features.join import concat, starts, take
from riskpred.model.attention import age_terms, attention, pooled
from riskpred.model.image import ImageEncoder
from riskpred.model.image_fast import image_encoders
from riskpred.model.paths import FP32, evaluator
from riskpred.model.risk import RiskModel
from riskpred.model.tensors import ImageTensors, image_moments
from riskpred.records.chunk import STATIC

Batch = Callable[..., FeatureBatch]


@pytest.fixture
def loud(model: RiskModel) -> RiskModel:
    """Members that weigh pictures unlike, by what they show and by their age."""
    for r in range(model.members):
        encoder = model.member(r).encoders["image"]
        assert isinstance(encoder, ImageEncoder)
        generator = torch.Generator().manual_seed(r)
        encoder.to_attention.weight.normal_(0, 2.0, generator=generator)
        encoder.age_weight.normal_(0, 0.5, generator=generator)
    return model


def with_films(batch: FeatureBatch, **changes: object) -> FeatureBatch:
    given = batch.inputs["image"]
    assert isinstance(given, ImageInput)
    return replace(batch, inputs={**batch.inputs, "image": replace(given, **changes)})


def said_of(given: torch.Tensor, rows: list[int], age_days: list[float]) -> torch.Tensor:
    start, ages = torch.tensor(rows), torch.tensor(age_days, dtype=torch.float64)
    weight = torch.tensor([-0.5, -1.0, 2.0], dtype=torch.float64)
    return pooled(given, start, age_terms(start, ages), weight)


def test_ages_as_the_weights_see_them() -> None:
    found = age_terms(torch.tensor([0, 3, 3, 5]), torch.tensor([torch.nan, 99.0, 9.0, torch.nan, torch.nan]).double())
    expected = [[0, 0, 1], [np.log(100), np.log(91), 0], [np.log(10), 0, 0], [0, 0, 1], [0, 0, 1]]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_a_picture_alone_is_passed_on_untouched_and_a_row_without_one_says_nothing() -> None:
    said = torch.randn(3, 5, dtype=torch.float64)
    assert torch.equal(said_of(said, [0, 1, 2, 3], [0.0, torch.nan, 4000.0]), said[:, :-1])
    some = said_of(said, [0, 1, 1, 3], [0.0, 5.0, 5.0])
    assert torch.equal(some[0], said[0, :-1])
    assert torch.equal(some[1], torch.zeros(4, dtype=torch.float64))


def test_copies_of_one_picture_are_that_picture_and_equal_weights_are_the_mean() -> None:
    said = torch.randn(1, 5, dtype=torch.float64)
    torch.testing.assert_close(said_of(said.repeat(3, 1), [0, 3], [7.0, 7.0, 7.0]), said[:, :-1])
    three = torch.randn(3, 5, dtype=torch.float64)
    three[:, -1] = 0.0
    start, none = torch.tensor([0, 3]), torch.zeros(3, dtype=torch.float64)
    terms = age_terms(start, torch.tensor([900.0, 20.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(pooled(three, start, terms, none)[0], three[:, :-1].mean(dim=0))


def test_weights_of_a_row_sum_to_one_and_large_logits_do_not_overflow() -> None:
    logit = torch.tensor([[1e4, 1e4 - 1, -1e4, 3.0], [0.0, 2.0, 1.0, -5.0]], dtype=torch.float64)
    start, terms = torch.tensor([0, 3, 4]), torch.zeros(4, 3, dtype=torch.float64)
    found = attention(logit, start, terms, torch.zeros(2, 3, dtype=torch.float64))
    torch.testing.assert_close(found[0], torch.tensor([0.7310585786, 0.2689414214, 0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(found[1, :3].sum(), torch.ones((), dtype=torch.float64))


@pytest.mark.parametrize("fast", [False, True])
def test_batch_size_order_and_other_subjects_change_no_risk(loud: RiskModel, make_batch: Batch, fast: bool) -> None:
    batch = make_batch(30, many=3)

    def risk(given: FeatureBatch) -> np.ndarray:
        if not fast:
            return loud.predict(given, batch_size=7).risk
        encoders, inputs = evaluator(loud, FP32, image_encoders), loud.tensors(given)
        present = {name: part.present for name, part in inputs.items()}
        return loud.member_risks(encoders.encode(inputs), present).mean(dim=0).numpy()

    usable = np.flatnonzero(batch.usable)
    batch = take(batch, usable)
    whole = risk(batch)
    alone = np.concatenate([risk(take(batch, np.array([row]))) for row in range(len(batch))])
    np.testing.assert_allclose(alone, whole, rtol=0, atol=1e-6)
    backwards = np.arange(len(batch))[::-1].copy()
    np.testing.assert_allclose(risk(take(batch, backwards))[backwards], whole, rtol=0, atol=1e-6)
    there = np.flatnonzero(batch.present["image"])
    mine = take(batch, there[:1])
    others = take(make_batch(30, seed=4, many=3), np.arange(4, 12))
    np.testing.assert_allclose(risk(concat([others, mine]))[-1], whole[there[0]], rtol=0, atol=1e-6)
    # And pictures do count: with another oldest picture the risk is another.
    pixels = mine.inputs["image"].pixels.copy()  # type: ignore[union-attr]
    pixels[0] = 1 - pixels[0]
    assert np.abs(risk(with_films(mine, pixels=pixels)) - risk(mine)).max() > 1e-6


def test_two_images_that_are_the_same_are_one(loud: RiskModel, make_batch: Batch) -> None:
    one = make_batch(12)
    films = one.inputs["image"]
    assert isinstance(films, ImageInput)
    twice = np.repeat(np.arange(len(films.time)), 2)
    two = with_films(
        one,
        start=starts(2 * films.count),
        pixels=films.pixels[twice],
        image_id=tuple(films.image_id[at] for at in twice),
        time=films.time[twice],
        spacing_mm=films.spacing_mm[twice],
        slices=films.slices[twice],
    )
    usable = np.flatnonzero(one.usable)
    np.testing.assert_allclose(loud.predict(two).risk[usable], loud.predict(one).risk[usable], rtol=0, atol=1e-6)
    torch.testing.assert_close(loud.tensors(two)["image"].moments, loud.tensors(one)["image"].moments)


def test_age_and_a_missing_date_move_a_risk_only_where_there_is_another_picture(
    loud: RiskModel, make_batch: Batch
) -> None:
    for many, moves in ((1, False), (2, True)):
        batch = take(make_batch(30, many=many), np.arange(4, 30))
        films = batch.inputs["image"]
        assert isinstance(films, ImageInput)
        time = films.time.copy()
        time[films.start[:-1]] = STATIC
        moved = np.abs(loud.predict(with_films(batch, time=time)).risk - loud.predict(batch).risk)
        assert (moved.max() > 1e-5) == moves


def test_taking_rows_takes_their_pictures(loud: RiskModel, make_batch: Batch) -> None:
    whole = loud.tensors(make_batch(20, many=2))["image"]
    assert isinstance(whole, ImageTensors)
    index = torch.tensor([5, 1, 0, 5, 9])
    some = whole.take(index)
    assert some.count.tolist() == [2, 0, 2, 2, 2]
    assert some.present.tolist() == [True, False, True, True, True]
    for at, row in enumerate(index.tolist()):
        mine = slice(int(whole.start[row]), int(whole.start[row + 1]))
        here = slice(int(some.start[at]), int(some.start[at + 1]))
        assert torch.equal(some.values[here], whole.values[mine])
        assert torch.equal(some.age_days[here], whole.age_days[mine])
    # Rows that follow one another share their memory.
    assert (
        whole.take(torch.arange(4, 9)).values.untyped_storage().data_ptr() == whole.values.untyped_storage().data_ptr()
    )
    later = whole.left(torch.arange(len(whole.age_days)) % 2 == 1, 30.0)
    assert later.count.tolist() == (whole.count // 2).tolist()
    assert torch.equal(later.age_days, whole.age_days[1::2] + 30.0)


def test_what_encoders_said_of_pictures_stands_in_for_their_pixels(loud: RiskModel, make_batch: Batch) -> None:
    inputs = loud.tensors(make_batch(20, many=2))
    given = inputs["image"]
    assert isinstance(given, ImageTensors)
    encoders = evaluator(loud)
    said = encoders.said("image", given)
    assert not len(said.values)
    torch.testing.assert_close(said.moments, given.moments)
    assert given.moments.shape == (20, 2)
    torch.testing.assert_close(given.moments[0], image_moments(given.values[:2]).mean(dim=0))
    for one, other in ((encoders.encode({"image": said}), encoders.encode({"image": given})),):
        torch.testing.assert_close(one["image"].embedding, other["image"].embedding)
    torch.testing.assert_close(loud.encode({"image": said})["image"].coefficients, one["image"].coefficients)
    share = loud.shares("image", given)
    torch.testing.assert_close(share.reshape(-1, 2).sum(dim=1), torch.ones(len(share) // 2, dtype=torch.float64))
    torch.testing.assert_close(loud.shares("image", said), share, rtol=0, atol=1e-6)
    assert float((share - 0.5).abs().max()) > 0.05
