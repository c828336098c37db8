"""All members' image encoders at once: the same numbers as the model, whatever the order, batch size and path."""

import importlib.util
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from riskpred.config.steps import steps_from_json
from riskpred.features.batch import EncodedImages
from riskpred.features.join import take
from riskpred.features.receipts import input_hashes, pixels_hash
from riskpred.model.image_fast import BLOCK, agreement, encoder_hash, fast_images
from riskpred.model.tensors import image_moments

PATHS = [("torch", "fp32"), ("openvino", "fp32"), ("openvino", "bf16")]
SIZE = 16


@pytest.fixture
def batch(make_batch):
    return make_batch(3 * BLOCK + 5)


def need_openvino():
    # importorskip would load it, and what it reports to its maker with it.
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("OpenVINO (extra `speed`) is not installed")


def built(model, engine, path):
    if engine == "openvino":
        need_openvino()
    return fast_images(model, "image", path, engine)


def encoded(batch, fast):
    """The batch as a night holds it: what encoders said, and no pixels."""
    given = batch.inputs["image"]
    moments = image_moments(torch.from_numpy(given.pixels)).numpy()
    here = EncodedImages(fast.encode(given.pixels), moments, tuple(pixels_hash(one) for one in given.pixels))
    none = np.zeros((0, 1, SIZE, SIZE), np.float32)
    return replace(batch, inputs={**batch.inputs, "image": replace(given, pixels=none, encoded=here)})


@pytest.mark.parametrize(("engine", "path"), [("torch", "fp32"), ("openvino", "fp32")])
def test_fp32_is_the_model_itself(model, batch, engine, path):
    fast = built(model, engine, path)
    assert fast.numeric_path == "fp32"
    found = agreement(model, batch, {"image": fast})
    assert found.rows == batch.present["image"].sum()
    assert found.sent < 1e-5
    assert found.risk < 1e-6


def test_bf16_moves_a_risk_by_less_than_a_thousandth(model, batch, monkeypatch):
    monkeypatch.setattr("riskpred.model.image_fast._WIDE", 1)
    fast = built(model, "openvino", "bf16")
    found = agreement(model, batch, {"image": fast})
    assert found.risk <= 1e-3
    # The comparison sees what is there: on a processor with bf16 it is not exact.
    assert (found.sent > 1e-5) == (fast.numeric_path == "bf16")


def test_a_narrow_network_stays_in_fp32_and_says_so(model):
    fast = built(model, "openvino", "bf16")
    assert fast.numeric_path == "fp32"
    assert fast.note.startswith("Images are encoded by OpenVINO, fp32 (")


def test_agreement_sees_a_wrong_encoder(model, batch):
    fast = built(model, "torch", "fp32")
    wrong = replace(fast, _bias=fast._bias + 0.5)
    found = agreement(model, batch, {"image": wrong})
    assert found.sent == pytest.approx(0.5, abs=1e-4)
    assert found.risk > 1e-3


@pytest.mark.parametrize(("engine", "path"), PATHS)
def test_neither_order_nor_batch_size_changes_a_number(model, batch, monkeypatch, engine, path):
    monkeypatch.setattr("riskpred.model.image_fast._WIDE", 1)
    fast = built(model, engine, path)
    pixels = batch.inputs["image"].pixels
    whole = fast.encode(pixels)
    assert whole.shape == (len(pixels), *fast.shape)
    backwards = fast.encode(pixels[::-1].copy())[::-1]
    one_by_one = np.concatenate([fast.encode(pixels[i : i + 1]) for i in range(len(pixels))])
    for other in (backwards, one_by_one, fast.encode(pixels)):
        np.testing.assert_allclose(whole, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("engine", "path"), PATHS)
def test_a_batch_without_pixels_has_the_same_risks_receipts_and_scope(model, batch, monkeypatch, engine, path):
    monkeypatch.setattr("riskpred.model.image_fast._WIDE", 1)
    fast = built(model, engine, path)
    night = encoded(batch, fast)
    close = 1e-6 if path == "fp32" else 1e-3
    np.testing.assert_allclose(model.predict(night).risk, model.predict(batch).risk, rtol=0, atol=close)
    here, there = input_hashes(night), input_hashes(batch)
    assert here.keys() == there.keys()
    for name in there:
        np.testing.assert_array_equal(here[name], there[name])
    for here, there in zip(model.tensors(night).values(), model.tensors(batch).values(), strict=True):
        if hasattr(here, "moments"):
            torch.testing.assert_close(here.moments, there.moments)
    some = np.array([7, 0, 4, 1])
    np.testing.assert_allclose(model.predict(take(night, some)).risk, model.predict(night).risk[some], atol=1e-9)


def test_without_openvino_torch_is_used_and_says_so(model, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("riskpred.model.image_fast.cuda", lambda: None)
    fast = fast_images(model, "image")
    assert fast.note.startswith("OpenVINO is not installed (extra `speed`): images are encoded by torch")
    assert "fp32" in fast.note  # so narrow a network is slower in bf16
    assert fast.numeric_path == "fp32"


def test_the_hash_knows_weights_path_size_and_decoder(model):
    fast = built(model, "torch", "fp32")
    first = encoder_hash(model, "image", fast, "decoder 1")
    assert first == encoder_hash(model, "image", fast, "decoder 1")
    others = [encoder_hash(model, "image", fast, "decoder 2")]
    plan, clahe = model.plan, (("CR", steps_from_json([{"step": "clahe"}])),)
    for change in ({"size": 32}, {"steps": clahe}):
        model.plan = replace(plan, modalities={"image": replace(plan.modalities["image"], **change)})
        others.append(encoder_hash(model, "image", fast, "decoder 1"))
    model.plan = plan
    others.append(encoder_hash(model, "image", replace(fast, signature="other"), "decoder 1"))
    model.member(2).encoders["image"].location.add_(1e-3)
    others.append(encoder_hash(model, "image", fast, "decoder 1"))
    assert len({first, *others}) == 6


def test_nothing_is_reported_to_anyone(tmp_path):
    """Loading OpenVINO reports that to its maker, and keeps an identity of the machine in the home folder."""
    need_openvino()
    code = (
        "import sys; from riskpred.model.image_fast import _openvino; _openvino().Core();"
        "print('openvino_telemetry' in sys.modules)"
    )
    surroundings = {name: value for name, value in os.environ.items() if name != "CI"} | {"HOME": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=surroundings)
    assert run.stdout.strip() == "False"
    assert not list(tmp_path.iterdir())


def test_a_signal_is_heard_whichever_thread_let_go_of_the_encoders():
    """On a processor with AMX a process died of the next signal, Ctrl-C say, when another thread had freed OpenVINO."""
    need_openvino()
    code = """
import os, signal, threading
from riskpred.config.network import ImageEncoder, NetworkConfig
from riskpred.features.plan import FeaturePlan, ImagePlan
from riskpred.model.image_fast import fast_images
from riskpred.model.layout import GroupGrid, Layout
from riskpred.model.risk import RiskModel

plan = FeaturePlan({"image": ImagePlan(("DX",), None, None, 16)})
grid = GroupGrid("one", ("heart",), ("heart", "death"), False, (1.0, 3.0), (0.0, 1.0, 3.0))
config = NetworkConfig(encoders={"image": ImageEncoder(channels=(4, 8))}, embedding=4, members=2)
model = RiskModel(config, plan, Layout((grid,), ("heart",))).requires_grad_(False)
held = [fast_images(model, "image", "fp32", "openvino")]
other = threading.Thread(target=held.clear)
other.start()
other.join()
signal.signal(signal.SIGTERM, lambda *_: print("heard"))
os.kill(os.getpid(), signal.SIGTERM)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "heard\n"), run.stderr[-800:]
