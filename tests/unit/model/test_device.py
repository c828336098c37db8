"""With a CUDA device, and with the processor in its place, encoders say what they say without one, and say where."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from riskpred.config.network import SeriesEncoder as Settings
from riskpred.features.batch import FeatureBatch
from riskpred.model import image_fast, paths
from riskpred.model.device import cuda, exact
from riskpred.model.image import ImageEncoder
from riskpred.model.image_fast import agreement, fast_images, image_path
from riskpred.model.paths import BF16, FP32, evaluator
from riskpred.model.risk import RiskModel
from riskpred.model.series import SeriesEncoder
from riskpred.model.stacked_tabular import StackedTabular
from riskpred.model.tensors import SeriesTensors

Batch = Callable[..., FeatureBatch]


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """hidden(): from now on there is no CUDA device."""

    def hide() -> None:
        for module in (paths, image_fast):
            monkeypatch.setattr(module, "cuda", lambda: None)

    return hide


@pytest.fixture(params=["stand-in", "cuda"])
def card(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Its name. The stand-in is the processor, which takes every way that a card takes but the card's arithmetic."""
    if request.param == "cuda":
        found = cuda()
        if found is None:
            pytest.skip("no CUDA device here")
        return torch.cuda.get_device_name(found)
    for module in (paths, image_fast):
        monkeypatch.setattr(module, "cuda", lambda: torch.device("cpu"))
        monkeypatch.setattr(module, "cuda_name", lambda _: "stand-in")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    return "stand-in"


def test_exact_is_float32_by_cudnn_and_leaves_everything_as_it_was() -> None:
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul

    def state() -> tuple[bool, ...]:
        return cudnn.enabled, cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, products.allow_tf32

    before = state()
    assert cudnn.enabled
    with exact():
        assert state() == (True, True, False, False, False)
    with exact(recurrent=True):
        assert state() == (False, True, False, False, False)
    assert state() == before
    products.allow_tf32 = True
    try:
        with exact():
            assert not products.allow_tf32
        assert products.allow_tf32
    finally:
        products.allow_tf32 = before[-1]


def test_the_card_moves_no_risk_and_is_named(
    model: RiskModel, make_batch: Batch, card: str, hidden: Callable[[], None]
) -> None:
    batch = make_batch(700, seed=5)
    with_card = evaluator(model)
    for said, modality in zip(with_card.why, model.modalities, strict=True):
        assert said.startswith(f"{modality}: ")
        assert f"CUDA ({card})" in said
    inputs = model.tensors(batch)
    sent = with_card.encode(inputs)
    got = model.predict(batch, batch_size=256).risk
    hidden()
    assert not any("CUDA" in said for said in evaluator(model).why)
    assert np.abs(got - model.predict(batch).risk).max() < 1e-6
    for name, one in evaluator(model).encode(inputs).items():
        assert sent[name].coefficients.device == sent[name].embedding.device == torch.device("cpu")
        assert torch.allclose(sent[name].coefficients, one.coefficients, rtol=1e-5, atol=1e-5), name
        assert torch.allclose(sent[name].embedding, one.embedding, rtol=1e-5, atol=1e-5), name


@pytest.mark.parametrize("path", [FP32, BF16])
def test_images_of_a_night_are_encoded_on_the_card(
    model: RiskModel, make_batch: Batch, card: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_fast, "_WIDE", 1)
    batch = make_batch(150)
    fast = fast_images(model, "image", path)  # type: ignore[arg-type]
    assert fast.note == f"Images are encoded by torch on CUDA ({card}), channels last, {path}."
    assert image_path(model, "image", path) == (path, ""), "what is said before it is made"
    if card == "stand-in":
        with monkeypatch.context() as old:
            old.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
            here = FP32, " (the card has no bf16)" if path == BF16 else ""
            assert image_path(model, "image", path) == here
            assert fast_images(model, "image", path).numeric_path == FP32  # type: ignore[arg-type]
    assert card in fast.signature, "what one card said is not taken for what another says"
    found = agreement(model, batch, {"image": fast})
    assert found.risk < (1e-6 if path == FP32 else 1e-3)
    assert (found.sent > 1e-5) == (path == BF16)
    pixels = batch.inputs["image"].pixels  # type: ignore[union-attr]
    one_by_one = np.concatenate([fast.encode(pixels[i : i + 1]) for i in range(20)])
    np.testing.assert_allclose(fast.encode(pixels)[:20], one_by_one, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("modality", "cudnn"), [("series", False), ("image", True)])
def test_convolutions_have_cudnn_and_recurrent_layers_have_not(
    model: RiskModel, make_batch: Batch, card: str, modality: str, cudnn: bool
) -> None:
    """cuDNN's LSTM is not exact to 1e-6; its convolutions are, and without it they are slow."""
    seen = []

    def note(*_: object) -> None:
        seen.append((torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32))

    each = [model.member(r).encoders[modality] for r in range(model.members)]
    called = [one.backbone if isinstance(one, ImageEncoder) else one for one in each]
    hooks = [one.register_forward_pre_hook(note) for one in called]  # go along where it is copied to a card
    try:
        inputs = model.tensors(make_batch(50))
        evaluator(model).encode({modality: inputs[modality]})
    finally:
        for hook in hooks:
            hook.remove()
    assert set(seen) == {(cudnn, False)}


def test_a_series_is_as_exact_on_the_card_as_on_the_processor(card: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against float64, with weights as large as fitted ones, which the weights of an untrained encoder are not."""
    torch.manual_seed(3)
    encoder = SeriesEncoder(3, Settings(width=32), coefficients=15, embedding=16).eval().requires_grad_(False)
    for parameter in encoder.parameters():
        parameter.copy_(torch.randn(parameter.shape) * 0.3)
    days = torch.rand(400, 24) * 300
    length = torch.randint(1, 25, (400,))
    given = SeriesTensors(
        torch.randn(400, 24, 3), torch.rand(400, 24, 3) > 0.3, days, days, length, torch.ones(400, dtype=torch.bool)
    )
    device = paths.cuda()
    assert device is not None
    got = paths._on_device([encoder], device, 256)(given)
    double = replace(given, values=given.values.double(), gap_days=days.double(), to_prediction_days=days.double())
    # The encoder's own arithmetic throughout, but for `observed`, which it makes float32 and is exact in it.
    with monkeypatch.context() as patched:
        patched.setattr(torch.Tensor, "float", torch.Tensor.double)
        wanted = deepcopy(encoder).double()(double)
    for one, other in zip(got, wanted, strict=True):
        assert float((one[0] - other).abs().max()) < 4e-6


def test_all_weights_of_tabm_go_to_the_card(model: RiskModel) -> None:
    each = [model.member(r).encoders["tabular"] for r in range(model.members)]
    moved = StackedTabular.of(each, device=torch.device("meta"))  # type: ignore[arg-type]
    weights = [moved.location, moved.scale, moved.low, moved.high, moved.frequency, moved.numeric, moved.hot]
    weights += [moved.numeric_feature, *(moved.embed or ()), *moved.first, *moved.outer]
    weights += [part for layer in moved.deeper for part in layer]
    assert {part.device.type for part in weights} == {"meta"}
    assert all(part.device.type == "cpu" for encoder in moved.encoders for part in encoder.parameters())
