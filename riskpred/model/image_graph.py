"""Backbones as one OpenVINO graph, built operation by operation: nothing has to be traced or converted."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from riskpred.model.backbones import (
    Backbone,
    DenseNetBackbone,
    FrozenNorm,
    PaddedShortcut,
    ResNetBackbone,
    SmallBackbone,
    convolutions,
)
from riskpred.model.image import ImageEncoder


def graph(openvino: Any, images: Sequence[ImageEncoder], block: int, pixel_shape: tuple[int, ...]) -> Any:
    """An OpenVINO model: pixels (block, C, [Z,] H, W) -> what each member's backbone sees, (R, block, width)."""
    op = openvino.opset13
    pixels = op.parameter([block, *pixel_shape], np.float32)
    pools = []
    for one in images:
        maps = _Operations(openvino, one, pixel_shape).maps(pixels)
        flat = op.reshape(maps, np.array([block, maps.shape[1], -1]), False)
        last = np.array([2])
        top = op.reduce_max(flat, last, True)
        total = op.log(op.reduce_sum(op.exp(op.subtract(flat, top)), last, False))
        pooled = op.concat([op.reduce_mean(flat, last, False), op.add(total, op.squeeze(top, last))], 1)
        pools.append(op.unsqueeze(pooled, np.int64(0)))
    return openvino.Model([op.result(op.concat(pools, 0))], [pixels], "images")


def widest(network: Backbone) -> int:
    """Most channels that a convolution gives."""
    return max(int(conv.out_channels) for conv in convolutions(network))  # type: ignore[arg-type]


class _Operations:
    """The operations of one encoder's backbone."""

    def __init__(self, openvino: Any, encoder: ImageEncoder, pixel_shape: tuple[int, ...]) -> None:
        self.op, self.old = openvino.opset13, openvino.opset1  # the newer pooling gives indices nobody asks for
        self.encoder, self.pixel_shape = encoder, pixel_shape
        self.network = encoder.backbone
        self.first = next(convolutions(self.network))

    def maps(self, pixels: Any) -> Any:
        network = self.network
        if isinstance(network, SmallBackbone):
            return self.through(pixels, network.layers)
        if isinstance(network, ResNetBackbone):
            body = network.body
            stem = [body.conv1, body.bn1, body.act, *([] if body.no_max_pool else [body.maxpool])]
            found = self.through(pixels, stem)
            for stage in (body.layer1, body.layer2, body.layer3, body.layer4):
                for block in stage:
                    found = self.residual(found, block)
            return found
        assert isinstance(network, DenseNetBackbone), type(network)
        found = pixels
        for name, part in network.features.named_children():
            if name.startswith("denseblock"):
                for layer in part.children():
                    found = self.op.concat([found, self.through(found, layer.layers)], 1)
            elif name.startswith("transition"):
                found = self.through(found, part)
            else:
                found = self.one(found, part)
        return self.op.relu(found)

    def residual(self, values: Any, block: Any) -> Any:
        parts = [block.conv1, block.bn1, block.act, block.conv2, block.bn2]
        if hasattr(block, "conv3"):
            parts += [block.act, block.conv3, block.bn3]
        shortcut = values
        if isinstance(block.downsample, PaddedShortcut):
            shortcut = self.padded(values, block.downsample)
        elif block.downsample is not None:
            shortcut = self.through(values, block.downsample)
        return self.op.relu(self.op.add(self.through(values, parts), shortcut))

    def through(self, values: Any, parts: Any) -> Any:
        for part in parts:
            values = self.one(values, part)
        return values

    def one(self, values: Any, part: nn.Module) -> Any:
        op = self.op
        match part:
            case nn.Conv2d() | nn.Conv3d():
                return self.convolved(values, part)
            case nn.GroupNorm() if isinstance(self.network, ResNetBackbone):
                return self.group_normalised(values, part)
            case nn.GroupNorm():
                return op.group_normalization(values, _array(part.weight), _array(part.bias), part.num_groups, part.eps)
            case FrozenNorm():
                factor = part.weight.double() / (part.running_var.double() + part.eps).sqrt()
                offset = part.bias.double() - part.running_mean.double() * factor
                return op.add(op.multiply(values, self.each(factor)), self.each(offset))
            case nn.SiLU():
                return op.swish(values)
            case nn.ReLU():
                return op.relu(values)
            case nn.Identity():
                return values
            case nn.MaxPool2d() | nn.MaxPool3d():
                kernel, stride, pad = (self.sides(x) for x in (part.kernel_size, part.stride, part.padding))
                return self.old.max_pool(values, stride, pad, pad, kernel)
            case nn.AvgPool2d() | nn.AvgPool3d():
                kernel, stride, pad = (self.sides(x) for x in (part.kernel_size, part.stride, part.padding))
                return self.old.avg_pool(values, stride, pad, pad, kernel, exclude_pad=False)
        raise AssertionError(f"no operation for {type(part).__name__}")

    def group_normalised(self, values: Any, norm: nn.GroupNorm) -> Any:
        """GroupNorm in parts: OpenVINO 2026.4 ends with a fault where its own operation meets a residual sum."""
        op, shape = self.op, np.array([int(side) for side in values.shape])
        grouped = op.reshape(values, np.array([shape[0], norm.num_groups, -1]), False)
        even = op.reshape(op.mvn(grouped, np.array([2]), True, norm.eps, "inside_sqrt"), shape, False)
        return op.add(op.multiply(even, self.each(norm.weight)), self.each(norm.bias))

    def convolved(self, values: Any, conv: nn.Conv2d | nn.Conv3d) -> Any:
        kernel, offset = _array(conv.weight), None if conv.bias is None else self.each(conv.bias.double())
        if conv is self.first:
            kernel, offset = self.standardised(conv)
        stride, pad = list(conv.stride), [int(p) for p in conv.padding]
        found = self.op.convolution(values, kernel, stride, pad, pad, [1] * self.network.dims)
        return found if offset is None else self.op.add(found, offset)

    def standardised(self, conv: nn.Conv2d | nn.Conv3d) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """First kernel and offset that read raw pixels: (x - location) / scale is part of them.

        The offset is a map, because around the picture there is 0 after standardising, not before. What is subtracted
        is so kept out of reduced precision.
        """
        one = self.encoder
        kernel = conv.weight.detach().double() / one.scale.double()
        bias = None if conv.bias is None else conv.bias.detach().double()
        shift = torch.full((1, *self.pixel_shape), -float(one.location), dtype=torch.float64)
        padding = tuple(int(p) for p in conv.padding)
        apply = nn.functional.conv2d if self.network.dims == 2 else nn.functional.conv3d
        offset = apply(shift, kernel, bias, conv.stride, padding)
        return kernel.float().numpy(), offset.float().numpy()

    def padded(self, values: Any, shortcut: PaddedShortcut) -> Any:
        dims = self.network.dims
        none, step = [0] * dims, [shortcut.stride] * dims
        inside = self.old.avg_pool(values, step, none, none, [1] * dims, exclude_pad=False)
        count, channels, *sides = (int(side) for side in inside.shape)
        zeros = np.zeros((count, shortcut.width - channels, *sides), np.float32)
        return self.op.concat([inside, self.op.constant(zeros)], 1)

    def each(self, values: torch.Tensor) -> NDArray[np.float32]:
        """A number per channel, to be added to maps or multiplied with them."""
        return _array(values).reshape(1, -1, *(1,) * self.network.dims)

    def sides(self, given: int | tuple[int, ...]) -> list[int]:
        return [given] * self.network.dims if isinstance(given, int) else [int(one) for one in given]


def _array(tensor: torch.Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.detach().float().numpy())
