"""The image encoders of all members at once, on the fastest there is: a CUDA device, else OpenVINO, else torch.

One read of the pixels serves every member. Images go through in blocks of one size, the last one filled up, and what
follows the convolutions is float64: neither order nor batch size changes a number.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from json import dumps
from math import prod
from types import ModuleType
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from riskpred.features.batch import FeatureBatch
from riskpred.features.plan import ImagePlan
from riskpred.model.device import cuda, cuda_name, exact
from riskpred.model.image import ImageEncoder
from riskpred.model.paths import BF16, FP32, PictureEncoders, evaluator
from riskpred.model.risk import RiskModel
from riskpred.model.tensors import ImageTensors

BLOCK: Final = 16
"""Images in the network at a time on a processor; more is no faster."""

_CUDA_BLOCK: Final = 64
_CUDA_PIXELS: Final = 64 * 512 * 512
"""The same on CUDA, and fewer where they are large: maps of all of them are held."""

_WIDE: Final = 64
"""Channels from which bf16 is worth its rounding: with fewer, OpenVINO gains under a tenth by it and torch loses."""

NumericPath: TypeAlias = Literal["fp32", "bf16"]
_Pooled: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]
_Layer: TypeAlias = tuple[nn.Conv2d, nn.GroupNorm]


@dataclass(frozen=True)
class FastImages:
    """Encodes pixels for R members.

    note: one sentence on what it runs on, for the night's log.   signature: what, beside weights and pixels, decides
    its numbers: engine, its version, precision, processor.
    """

    numeric_path: NumericPath
    note: str
    signature: str
    pixel_shape: tuple[int, ...]
    _pooled: _Pooled
    _weight: NDArray[np.float64]
    _bias: NDArray[np.float64]
    _block: int = BLOCK

    @property
    def shape(self) -> tuple[int, int]:
        """(R, V): members, and all that each says of a picture."""
        return self._weight.shape[0], self._weight.shape[2]

    def encode(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """What each member says of each picture, attention logit last. Shape: (T, C, H, W) -> (T, R, V)."""
        count = len(pixels)
        found = np.empty((count, *self.shape), dtype=np.float32)
        for start in range(0, count, self._block):
            block = pixels[start : start + self._block]
            here = len(block)
            if here < self._block:
                block = np.concatenate([block, np.zeros((self._block - here, *block.shape[1:]), np.float32)])
            # (R, B, 2C) x (R, 2C, V): float64, so that no order of summation is seen after rounding.
            spoken = np.matmul(self._pooled(np.ascontiguousarray(block)).astype(np.float64), self._weight) + self._bias
            found[start : start + here] = spoken.transpose(1, 0, 2)[:here]
        return found

    def said(self, pixels: torch.Tensor) -> torch.Tensor:
        """The same as `paths.PictureEncoders` give it. Shape: (T, C, H, W) -> (R, T, V) float64."""
        return torch.from_numpy(self.encode(pixels.numpy())).double().transpose(0, 1)


def fast_images(
    model: RiskModel, modality: str, path: NumericPath = "bf16", engine: str | None = None, threads: int = 1
) -> FastImages:
    """The encoders of one image modality, ready to run.

    Args:
        path: fp32 differs from the model itself by rounding only; bf16 is faster for wide networks where the processor
            or the card has it (else fp32 is taken, and the note says so).
        engine: "cuda", "openvino" or "torch" (on the processor); None = CUDA where there is such a device, else
            OpenVINO where it is installed, else torch.
        threads: of the processor, for OpenVINO; torch keeps the caller's.
    """
    encoders = [model.member(r).encoders[modality] for r in range(model.members)]
    assert all(isinstance(one, ImageEncoder) for one in encoders), modality
    images = [one for one in encoders if isinstance(one, ImageEncoder)]
    heads = [one.heads() for one in images]
    weight = np.stack([_array(weight).T for weight, _ in heads]).astype(np.float64)
    bias = np.stack([_array(bias)[None] for _, bias in heads]).astype(np.float64)
    plan = model.plan.modalities[modality]
    assert isinstance(plan, ImagePlan), modality
    rest = plan.pixel_shape, weight, bias
    card = cuda()
    if engine == "cuda" or (engine is None and card is not None):
        assert card is not None, "engine cuda is asked for where there is such a device"
        return _on_cuda(images, path, card, *rest)
    if engine == "openvino" or (engine is None and importlib.util.find_spec("openvino") is not None):
        return _on_openvino(images, path, threads, *rest)
    why = "" if engine == "torch" else "OpenVINO is not installed (extra `speed`): "
    return _on_torch(images, path, why, *rest)


def image_path(model: RiskModel, modality: str, path: str, engine: str | None = None) -> tuple[str, str]:
    """In what `fast_images` would run, as `paths.chosen_path` wants it; nothing is compiled."""
    one = model.member(0).encoders[modality]
    assert isinstance(one, ImageEncoder), modality
    wanted: NumericPath = "bf16" if path == BF16 else "fp32"
    if engine == "cuda" or (engine is None and cuda() is not None):
        return _precision(one, wanted, _card_has_bf16(), "card")
    on_openvino = engine == "openvino" or (engine is None and importlib.util.find_spec("openvino") is not None)
    able = _openvino_has_bf16() if on_openvino else torch.cpu._is_avx512_bf16_supported()
    return _precision(one, wanted, able)


def image_encoders(model: RiskModel, modality: str, path: str) -> tuple[PictureEncoders, str, str]:
    """`fast_images` as `paths.evaluator` wants them."""
    fast = fast_images(model, modality, "bf16" if path == BF16 else "fp32")
    return fast.said, fast.numeric_path, fast.note.rstrip(".")


@dataclass(frozen=True)
class Agreement:
    """How far the fast path lies from the model itself, over all rows, members, values and targets.

    sent: largest difference of a coefficient or embedding.   risk: of a risk, 0 to 1.   rows: with an image.
    """

    sent: float
    risk: float
    rows: int


def agreement(model: RiskModel, batch: FeatureBatch, fast: dict[str, FastImages], batch_size: int = 512) -> Agreement:
    """Compare fast image encoders with the model in fp32, all other modalities alike.

    Args:
        batch: rows with pixels, those of the tuning split say.
        fast: by image modality.
    """
    inputs = model.tensors(batch)
    by_fast = evaluator(model, FP32, lambda _, name, path: (fast[name].said, path, ""))
    far_sent = far_risk = 0.0
    seen = np.zeros(len(batch), dtype=bool)
    for rows in torch.split(torch.arange(len(batch)), batch_size):
        some = {name: given.take(rows) for name, given in inputs.items()}
        present = {name: given.present for name, given in some.items()}
        with torch.no_grad():
            sent = model.encode(some)
            other = dict(sent)
            for name in fast:
                given, here = some[name], present[name]
                assert isinstance(given, ImageTensors), name
                assert given.sent is None, "agreement is judged on pixels"
                known, said = sent[name], by_fast.encode({name: given})[name]
                other[name] = said
                seen[rows.numpy()] |= here.numpy()
                if here.any():
                    gaps = (known.coefficients - said.coefficients, known.embedding - said.embedding)
                    far_sent = max(far_sent, *(float(gap[:, here].abs().max()) for gap in gaps))
            gap = model.member_risks(sent, present).mean(dim=0) - model.member_risks(other, present).mean(dim=0)
        # A row without any modality has no risk to compare.
        usable = torch.stack(list(present.values())).any(dim=0)
        if usable.any():
            far_risk = max(far_risk, float(gap[usable].abs().max()))
    return Agreement(far_sent, far_risk, int(seen.sum()))


def encoder_hash(model: RiskModel, modality: str, fast: FastImages, decoder: str) -> str:
    """Hash of all that turns a file's bytes into what is sent: weights of all members, preparation, path, decoder.

    Args:
        decoder: versions of what decodes files (`imaging.versions.decoder_version`).
    """
    plan = model.plan.modalities[modality]
    assert isinstance(plan, ImagePlan), modality
    recipes = dumps(plan.preparation(), sort_keys=True)
    digest = sha256(f"{fast.signature}\0{recipes}\0{decoder}\0".encode())
    for r in range(model.members):
        for name, tensor in sorted(model.member(r).encoders[modality].state_dict().items()):
            array = np.ascontiguousarray(tensor.numpy())
            digest.update(f"{r} {name} {array.dtype} {array.shape}\0".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


def _on_torch(
    images: list[ImageEncoder],
    path: NumericPath,
    why: str,
    pixel_shape: tuple[int, ...],
    weight: NDArray[np.float64],
    bias: NDArray[np.float64],
) -> FastImages:
    took, instead = _precision(images[0], path, torch.cpu._is_avx512_bf16_supported())
    copies = [_channels_last(one) for one in images]

    def pooled(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        given = torch.from_numpy(pixels)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=took == "bf16"):
            return np.stack([one.features(given).float().numpy() for one in copies])

    return FastImages(
        took,
        f"{why}{'images' if why else 'Images'} are encoded by torch, channels last, {took}{instead}.",
        f"torch {torch.__version__} {took} {torch.backends.cpu.get_cpu_capability()}",
        pixel_shape,
        pooled,
        weight,
        bias,
    )


def _on_cuda(
    images: list[ImageEncoder],
    path: NumericPath,
    card: torch.device,
    pixel_shape: tuple[int, ...],
    weight: NDArray[np.float64],
    bias: NDArray[np.float64],
) -> FastImages:
    took, instead = _precision(images[0], path, _card_has_bf16(), "card")
    copies = [_channels_last(one).to(card) for one in images]

    def pooled(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        given = torch.from_numpy(pixels).to(card)
        with torch.no_grad(), exact(), torch.autocast(card.type, torch.bfloat16, enabled=took == "bf16"):
            said = torch.stack([one.features(given).float() for one in copies])
        return np.asarray(said.cpu().numpy())

    return FastImages(
        took,
        f"Images are encoded by torch on CUDA ({cuda_name(card)}), channels last, {took}{instead}.",
        f"torch {torch.__version__} {took} cuda {torch.version.cuda} {cuda_name(card)}",
        pixel_shape,
        pooled,
        weight,
        bias,
        min(_CUDA_BLOCK, max(1, _CUDA_PIXELS // prod(pixel_shape))),
    )


def _on_openvino(
    images: list[ImageEncoder],
    path: NumericPath,
    threads: int,
    pixel_shape: tuple[int, ...],
    weight: NDArray[np.float64],
    bias: NDArray[np.float64],
) -> FastImages:
    openvino, core = _openvino(), _core()
    took, instead = _precision(images[0], path, _openvino_has_bf16())
    request = core.compile_model(
        _graph(images, pixel_shape),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": "bf16" if took == "bf16" else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        },
    ).create_infer_request()

    def pooled(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        request.infer({0: pixels}, share_inputs=True)
        return np.array(request.get_output_tensor(0).data)

    return FastImages(
        took,
        f"Images are encoded by OpenVINO, {took}{instead}.",
        f"openvino {openvino.__version__} {took} {core.get_property('CPU', 'FULL_DEVICE_NAME')}",
        pixel_shape,
        pooled,
        weight,
        bias,
    )


def _precision(one: ImageEncoder, path: NumericPath, able: bool, who: str = "processor") -> tuple[NumericPath, str]:
    """The path to take, and why it is not the one asked for."""
    if path == "fp32":
        return "fp32", ""
    if not able:
        return "fp32", f" (the {who} has no bf16)"
    if max(conv.out_channels for conv, _ in _layers(one)) < _WIDE:
        return "fp32", " (so narrow a network gains nothing by bf16)"
    return "bf16", ""


def _card_has_bf16() -> bool:
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def _openvino_has_bf16() -> bool:
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@cache
def _core() -> Any:
    """OpenVINO's core, one for the life of the process.

    It gives the thread that made it a stack of its own for signals, where the processor has AMX, and takes the memory
    back when it goes: in another thread (garbage is collected in any) the next Ctrl-C would find no stack and crash.
    """
    return _openvino().Core()


def _openvino() -> ModuleType:
    """The package, loaded without what reports its use to its maker, over the network and unasked."""
    reporter = "openvino_telemetry"
    if "openvino" in sys.modules:  # whoever loaded it decided
        return importlib.import_module("openvino")
    before = sys.modules.get(reporter)
    sys.modules[reporter] = None  # type: ignore[assignment]  # cannot be imported: a stub takes its place
    try:
        return importlib.import_module("openvino")
    finally:
        if before is None:
            del sys.modules[reporter]
        else:
            sys.modules[reporter] = before


def _graph(images: list[ImageEncoder], pixel_shape: tuple[int, ...]) -> Any:
    """An OpenVINO model: pixels (BLOCK, C, H, W) -> what each member pools, (R, BLOCK, 2C).

    Built operation by operation: nothing has to be traced or converted.
    """
    openvino = _openvino()
    op = openvino.opset13
    pixels = op.parameter([BLOCK, *pixel_shape], np.float32)
    pools = []
    for one in images:
        maps = pixels
        for at, (conv, norm) in enumerate(_layers(one)):
            kernel, offset = _array(conv.weight), _array(_bias(conv))[None, :, None, None]
            if not at:
                kernel, offset = _standardised(one, conv, pixel_shape)
            stride, pad = list(conv.stride), [int(p) for p in conv.padding]
            maps = op.add(op.convolution(maps, kernel, stride, pad, pad, [1, 1]), offset)
            maps = op.swish(
                op.group_normalization(maps, _array(norm.weight), _array(norm.bias), norm.num_groups, norm.eps)
            )
        flat = op.reshape(maps, np.array([BLOCK, maps.shape[1], -1]), False)
        last = np.array([2])
        top = op.reduce_max(flat, last, True)
        total = op.log(op.reduce_sum(op.exp(op.subtract(flat, top)), last, False))
        pooled = op.concat([op.reduce_mean(flat, last, False), op.add(total, op.squeeze(top, last))], 1)
        pools.append(op.unsqueeze(pooled, np.int64(0)))
    return openvino.Model([op.result(op.concat(pools, 0))], [pixels], "images")


def _standardised(
    one: ImageEncoder, conv: nn.Conv2d, pixel_shape: tuple[int, ...]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """First kernel and offset that read raw pixels: (x - location) / scale is part of them.

    The offset is a map, because around the picture there is 0 after standardising, not before. What is subtracted is so
    kept out of reduced precision.
    """
    kernel = conv.weight.double() / one.scale.double()
    shift = torch.full((1, *pixel_shape), -float(one.location), dtype=torch.float64)
    padding = (int(conv.padding[0]), int(conv.padding[1]))
    offset = nn.functional.conv2d(shift, kernel, _bias(conv).double(), conv.stride, padding)
    return kernel.float().numpy(), offset.float().numpy()


def _layers(one: ImageEncoder) -> list[_Layer]:
    parts = list(one.backbone.layers)
    found = [(conv, norm) for conv, norm in zip(parts[0::3], parts[1::3], strict=True)]
    assert all(isinstance(conv, nn.Conv2d) and isinstance(norm, nn.GroupNorm) for conv, norm in found)
    return found  # type: ignore[return-value]


def _channels_last(one: ImageEncoder) -> ImageEncoder:
    copy: ImageEncoder = deepcopy(one).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return copy


def _bias(conv: nn.Conv2d) -> torch.Tensor:
    assert conv.bias is not None
    return conv.bias


def _array(tensor: torch.Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.detach().float().numpy())
