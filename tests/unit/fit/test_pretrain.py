"""Pre-training on pictures alone: it helps where labels are few, repeats, and what does not help is not taken."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from riskpred.config.network import Augmentation, ImageEncoder, NetworkConfig, Pretraining
from riskpred.config.outcomes import OutcomesConfig
from riskpred.errors import ConfigError, InputError, ShapeMismatch
from riskpred.features.batch import ImageInput
from riskpred.features.plan import FeaturePlan, ImagePlan
from riskpred.fit import pretrain_choice
from riskpred.fit.data import Rows
from riskpred.fit.grid import learn_layout
from riskpred.fit.pictures import Pictures
from riskpred.fit.pretrain import Pretrained, pretrain, views_differ
from riskpred.fit.pretrain_choice import asked_for, choose_start
from riskpred.model.backbones import backbone
from riskpred.progress import Silent

SIDE = 24
PLAN = ImagePlan(("OT",), None, None, SIDE)
SMALL = ImageEncoder(channels=(8, 16, 16))


def drawn(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Discs (1) and rings (0) anywhere, of any size, in noise and uneven light."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    full = rng.integers(0, 2, count)
    pixels = np.zeros((count, 1, SIDE, SIDE), np.float32)
    for one, disc in zip(pixels, full, strict=True):
        away = np.hypot(y - rng.uniform(8, SIDE - 8), x - rng.uniform(8, SIDE - 8))
        radius = rng.uniform(4, 6.5)
        shape = away < 0.75 * radius if disc else np.abs(away - radius) < 1.2
        light = rng.uniform(-0.2, 0.2) * (x / SIDE - 0.5)
        one[0] = np.clip(0.25 + rng.uniform(0.15, 0.35) * shape + light + rng.normal(0, 0.08, y.shape), 0, 1)
    return pixels, full


def kept(pixels: NDArray[np.float32]) -> Pictures:
    return Pictures(pixels.astype(np.float16), np.arange(len(pixels)), np.arange(len(pixels)), {})


def features(state: dict[str, torch.Tensor] | None, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = backbone(SMALL, 1, 2).eval()
    if state is not None:
        network.load_state_dict(state)
    with torch.no_grad():
        found: NDArray[np.float32] = network((torch.from_numpy(pixels) - 0.3) / 0.13).numpy()
    return found


def told(state: dict[str, torch.Tensor] | None, labelled: int = 40) -> float:
    """Accuracy on new pictures of a logistic regression on what a network sees in a few labelled ones."""
    pixels, full = drawn(labelled, 5)
    judged, truth = drawn(500, 6)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(features(state, pixels), full)
    return float(model.score(features(state, judged), truth))


def test_where_labels_are_few_pictures_without_labels_help() -> None:
    found = pretrain(SMALL, PLAN, kept(drawn(400, 0)[0]), Pretraining(epochs=20, learning_rate=3e-3), seed=1)
    assert found.loss[-1] < found.loss[0] - 2
    assert told(found.state) > told(None) + 0.15


def test_the_same_seed_gives_the_same_weights_and_leaves_the_random_state_alone() -> None:
    pictures, how = kept(drawn(30, 0)[0]), Pretraining(epochs=2, batch_size=8)
    before = torch.get_rng_state()
    one, again, other = (pretrain(SMALL, PLAN, pictures, how, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert one.loss == again.loss
    assert all(torch.equal(one.state[name], again.state[name]) for name in one.state)
    assert any(not torch.equal(one.state[name], other.state[name]) for name in one.state)


def test_it_can_be_interrupted_after_any_epoch() -> None:
    epochs = itertools.count(1)

    def stop() -> None:
        if next(epochs) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(SMALL, PLAN, kept(drawn(8, 0)[0]), Pretraining(epochs=50), 1, stop)
    assert next(epochs) == 3


def test_volumes_too() -> None:
    pixels = np.random.default_rng(0).random((6, 1, 8, 12, 12), dtype=np.float32)
    plan = ImagePlan(("CT",), None, None, (8, 12, 12), volume="whole")
    found = pretrain(ImageEncoder(channels=(4, 4)), plan, kept(pixels), Pretraining(epochs=1), 1)
    assert found.state["layers.0.weight"].shape == (4, 1, 3, 3, 3)


def test_divergence_is_said_and_costs_no_silent_nonsense() -> None:
    pictures = kept(np.full((4, 1, SIDE, SIDE), np.nan, np.float32))
    with pytest.raises(ConfigError, match="Pre-training diverged") as error:
        pretrain(SMALL, PLAN, pictures, Pretraining(epochs=3, augment=Augmentation()), 1)
    assert "lower `pretrain: learning_rate`" in str(error.value)


def test_the_loss_is_vicregs() -> None:
    """Against the formulas of the paper, written out in NumPy."""
    rng = np.random.default_rng(3)
    one, other = rng.normal(size=(2, 7, 5)) * 0.5

    def narrow(z: NDArray[np.float64]) -> float:
        return float(np.maximum(0, 1 - np.sqrt(z.var(axis=0, ddof=1) + 1e-4)).mean())

    def correlated(z: NDArray[np.float64]) -> float:
        c = np.cov(z, rowvar=False)
        return float(((c - np.diag(np.diag(c))) ** 2).sum() / z.shape[1])

    expected = 25 * ((one - other) ** 2).mean() + 25 * (narrow(one) + narrow(other)) / 2
    expected += correlated(one) + correlated(other)
    assert float(views_differ(torch.from_numpy(one), torch.from_numpy(other))) == pytest.approx(expected)
    with pytest.raises(ShapeMismatch, match="N at least 2"):
        views_differ(torch.zeros(1, 5), torch.zeros(1, 5))


def test_what_others_show_is_left_out_for_those_who_judge() -> None:
    pictures = replace(kept(drawn(6, 0)[0]), together=np.array([1, 1, 2, 3, 3, 3]))
    some = pictures.without(np.array([1, 3]))
    assert len(some) == 1
    assert torch.equal(some.take(torch.tensor([0])), pictures.take(torch.tensor([2])))
    mean, spread = pictures.moments()
    assert mean == pytest.approx(float(pictures.pixels.astype(np.float64).mean()))
    assert spread == pytest.approx(float(pictures.pixels.astype(np.float64).std()))


@pytest.fixture
def with_shapes(make_rows: Callable[..., Rows]) -> Rows:
    """Rows whose picture tells the outcome that is known at once, and where nothing else does."""
    rows = make_rows(240, seed=2, effect=0.0)
    image = rows.batch.inputs["image"]
    assert isinstance(image, ImageInput)
    pixels, full = drawn(len(image.pixels), 11)
    now = np.zeros(len(rows), np.int8)
    now[rows.batch.present["image"]] = full
    changed = replace(image, pixels=pixels[:, :, 4:20, 4:20])
    batch = replace(rows.batch, inputs={**rows.batch.inputs, "image": changed})
    return replace(rows, batch=batch, cause={**rows.cause, "now": now})


def _asked(quick: NetworkConfig, **more: object) -> NetworkConfig:
    image = ImageEncoder(channels=(8, 8))
    training = quick.training.model_copy(update={"epochs": 6, "patience": 6, "batch_size": 32, "learning_rate": 3e-3})
    how = Pretraining.model_validate({"epochs": 1, "folds": 2, **more})
    return quick.model_copy(
        update={"encoders": {**quick.encoders, "image": image}, "training": training, "pretrain": how}
    )


@pytest.fixture
def choose(
    plan: FeaturePlan,
    outcomes: OutcomesConfig,
    quick: NetworkConfig,
    with_shapes: Rows,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., pretrain_choice.Start]:
    """choose(state, make): the choice where pre-training gives this state, whatever the pictures."""
    config = _asked(quick)
    layout = learn_layout(outcomes, with_shapes, config.intervals)
    image = with_shapes.batch.inputs["image"]
    assert isinstance(image, ImageInput)
    pictures = {"image": kept(image.pixels)}

    def run(state: dict[str, torch.Tensor] | None, make: bool = False) -> pretrain_choice.Start:
        if state is not None:
            monkeypatch.setattr(pretrain_choice, "pretrain", lambda *_: Pretrained(state, (1.0,)))
        return choose_start(config, plan, layout, with_shapes, pictures, 1, Silent(), make)

    return run


def test_the_better_of_the_two_is_taken_and_the_card_says_so(choose: Callable[..., pretrain_choice.Start]) -> None:
    """A network that sees nothing at all must lose, and is not what members start from."""
    torch.manual_seed(3)
    blind = {
        name: torch.zeros_like(one) for name, one in backbone(ImageEncoder(channels=(8, 8)), 1, 2).state_dict().items()
    }
    found = choose(blind)
    assert found.card["with"] > found.card["without"]
    assert (found.card["taken"], dict(found.states), dict(found.made)) == (False, {}, {})
    assert found.card["said"].endswith("not taken.")
    assert f"log-loss {found.card['with']:.4f} with it, {found.card['without']:.4f} without" in found.card["said"]
    asked = choose(blind, make=True)
    assert (dict(asked.states), set(asked.made)) == ({}, {"image"})


def test_a_better_start_is_taken(choose: Callable[..., pretrain_choice.Start]) -> None:
    shapes = drawn(600, 12)[0][:, :, 4:20, 4:20]
    plan, how = ImagePlan(("OT",), None, None, 16), Pretraining(epochs=25, learning_rate=3e-3)
    good = pretrain(ImageEncoder(channels=(8, 8)), plan, kept(shapes), how, 1).state
    found = choose(good)
    assert found.card["with"] < found.card["without"]
    assert found.card["taken"]
    assert all(torch.equal(found.states["image"][name], good[name]) for name in good)


def test_nobody_judges_what_their_own_picture_taught(
    plan: FeaturePlan,
    outcomes: OutcomesConfig,
    quick: NetworkConfig,
    with_shapes: Rows,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In each inner fold pictures of the people judged are left out; in the end everyone's are used."""
    config = _asked(quick)
    seen: list[set[int]] = []
    judged: list[set[int]] = []
    state = backbone(ImageEncoder(channels=(8, 8)), 1, 2).state_dict()

    def spy(settings: ImageEncoder, part: ImagePlan, pictures: Pictures, *rest: object) -> Pretrained:
        seen.append(set(pictures.together[pictures.index].tolist()))
        return Pretrained(state, (1.0,))

    original = pretrain_choice._out_of_fold

    def watched(
        config_: NetworkConfig, plan_: FeaturePlan, layout_: object, data: object, fold: object, *rest: object
    ) -> object:
        judged.append(set(data.together[fold].tolist()))  # type: ignore[attr-defined,index]
        return original(config_, plan_, layout_, data, fold, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(pretrain_choice, "pretrain", spy)
    monkeypatch.setattr(pretrain_choice, "_out_of_fold", watched)
    image = with_shapes.batch.inputs["image"]
    assert isinstance(image, ImageInput)
    owners = with_shapes.together[image.row]
    pictures = {"image": replace(kept(image.pixels), together=owners)}
    layout = learn_layout(outcomes, with_shapes, config.intervals)
    choose_start(config, plan, layout, with_shapes, pictures, 1, Silent(), make=True)
    first, second, last = seen
    assert judged[0] == judged[1] != judged[2] == judged[3]
    assert not first & judged[0]
    assert not second & judged[2]
    assert first | second == last == set(owners.tolist())


def test_what_cannot_be_pre_trained_is_said(
    plan: FeaturePlan, outcomes: OutcomesConfig, quick: NetworkConfig, with_shapes: Rows
) -> None:
    config, layout = _asked(quick), learn_layout(outcomes, with_shapes, quick.intervals)
    with pytest.raises(ConfigError, match="the study has none"):
        choose_start(config, plan, layout, with_shapes, {}, 1, Silent())
    none = Pictures(np.zeros((0, 1, 16, 16), np.float16), np.zeros(0, np.int64), np.arange(0), {"file_missing": 1234})
    with pytest.raises(InputError, match="Nothing to pre-train image on") as error:
        choose_start(config, plan, layout, with_shapes, {"image": none}, 1, Silent())
    assert "file_missing: 1,234" in str(error.value)
    assert asked_for(quick, asked=False).pretrain is None
    assert asked_for(quick, asked=True).pretrain == Pretraining()
    assert asked_for(config, asked=True).pretrain == config.pretrain
