"""Every network says the same on OpenVINO as in torch, in two dimensions and three, with every norm and stem."""

import numpy as np
import pytest
import torch

from riskpred.config.network import ImageEncoder as Settings
from riskpred.config.network import ImageWeights
from riskpred.model.image import ImageEncoder
from riskpred.model.image_fast import _core, _openvino
from riskpred.model.image_graph import graph

pytest.importorskip("openvino")
_LOADED = ImageWeights(file="nowhere.pth", layout="torchvision")
_MEDICALNET = ImageWeights(file="nowhere.pth", layout="medicalnet")

CASES = {
    "small": (Settings(channels=(4, 8)), 2, 2),
    "small in 3D": (Settings(channels=(4, 8)), 1, 3),
    "resnet18, small stem": (Settings(network="resnet18", stem="small"), 3, 2),
    "resnet18, frozen norm": (Settings(network="resnet18", weights=_LOADED), 1, 2),
    "resnet18 in 3D, shortcuts without weights": (Settings(network="resnet18", weights=_MEDICALNET), 1, 3),
    "resnet50": (Settings(network="resnet50"), 1, 2),
    "densenet121": (Settings(network="densenet121"), 1, 2),
    "densenet121, small stem, frozen": (Settings(network="densenet121", stem="small", weights=_LOADED), 1, 2),
}


@pytest.mark.parametrize("case", CASES)
def test_openvino_says_what_torch_says(case: str) -> None:
    settings, channels, dims = CASES[case]
    if settings.network != "small":
        pytest.importorskip("monai")
    torch.manual_seed(1)
    encoder = ImageEncoder(settings, channels, dims, coefficients=2, embedding=3).eval()
    encoder.location.fill_(0.4)
    encoder.scale.fill_(0.3)
    for name, buffer in encoder.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)
        elif name.endswith("running_mean"):
            buffer.normal_(0.0, 0.3)
    pixels = torch.rand(2, channels, *(33,) * dims)
    with torch.no_grad():
        wanted = encoder.features(pixels).numpy()
    settings_of = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    compiled = _core().compile_model(graph(_openvino(), [encoder], 2, tuple(pixels.shape[1:])), "CPU", settings_of)
    got = compiled(pixels.numpy())[0][0]
    assert np.abs(got - wanted).max() <= 1e-4 * max(1.0, float(np.abs(wanted).max()))
