"""The networks of the suite as WebNN graphs with seeded weights, and inputs for them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import pynn

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))

import mobilenetv2

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
RESNET_STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
"""(width, blocks, stride of the first block); a block's output has four times its width."""
MLP_SIZE = 4096


@dataclass(frozen=True)
class Net:
    """``build`` adds the network to any builder and returns its outputs; ``inputs`` are arrays for it."""

    build: Callable[[Any], dict[str, pynn.Operand]]
    inputs: Arrays

    def graph(self) -> pynn.Graph:
        builder = pynn.GraphBuilder()
        return builder.finish(self.build(builder))


def tiny_net() -> Net:
    """4x64 @ 64x32, ReLU."""
    random = np.random.default_rng(0)
    weights = random.standard_normal((64, 32), np.float32)

    def build(b: Any) -> dict[str, pynn.Operand]:
        return {"y": b.relu(b.matmul(b.input("x", [4, 64], "float32"), b.constant(weights)))}

    return Net(build, {"x": random.standard_normal((4, 64), np.float32)})


def mobilenet(dtype: str = "float16") -> Net:
    """MobileNetV2 1.0/224, batch 1: the example's."""
    weights = mobilenetv2.seeded_weights()
    return Net(
        lambda b: mobilenetv2.build(b, weights, dtype=dtype), {"image": mobilenetv2.seeded_image().astype(dtype)}
    )


def resnet50(dtype: str = "float16", batch: int = 1) -> Net:
    """ResNet-50 v1.5 (https://arxiv.org/abs/1512.03385; the stride in the 3x3 convolution), normalisation folded in."""
    weights = _Weights(dtype)
    image = np.random.default_rng(1).standard_normal((batch, 3, 224, 224), np.float32).astype(dtype)
    return Net(lambda b: {"scores": _resnet(b, weights.again(), dtype, batch)}, {"image": image})


class _Weights:
    """Seeded weights, made once and handed out in the order of the first use."""

    def __init__(self, dtype: str) -> None:
        self._dtype = dtype
        self._random = np.random.default_rng(0)
        self._made: list[Array] = []
        self._next = 0

    def again(self) -> _Weights:
        self._next = 0
        return self

    def __call__(self, shape: tuple[int, ...], gain: float) -> Array:
        if self._next == len(self._made):
            scale = np.float32(gain / np.sqrt(np.prod(shape[1:])))
            self._made.append((self._random.standard_normal(shape, np.float32) * scale).astype(self._dtype))
        self._next += 1
        return self._made[self._next - 1]


def _resnet(b: Any, weights: _Weights, dtype: str, batch: int) -> pynn.Operand:
    def conv(x: pynn.Operand, after: int, kernel: int, stride: int = 1, gain: float = 1.4) -> pynn.Operand:
        edge = kernel // 2
        weight = b.constant(weights((after, x.shape[1], kernel, kernel), gain))
        bias = b.constant(np.zeros(after, dtype))
        return b.conv2d(x, weight, bias=bias, padding=[edge] * 4, strides=[stride, stride])

    x = b.relu(conv(b.input("image", [batch, 3, 224, 224], dtype), 64, 7, 2))
    x = b.max_pool2d(x, window_dimensions=[3, 3], strides=[2, 2], padding=[1, 1, 1, 1])
    for width, first, stride in _blocks():
        y = b.relu(conv(x, width, 1))
        y = conv(b.relu(conv(y, width, 3, stride)), 4 * width, 1, gain=0.5)
        x = b.relu(b.add(y, conv(x, 4 * width, 1, stride, gain=1.0) if first else x))
    x = b.reshape(b.average_pool2d(x), [batch, 2048])
    return b.gemm(x, b.constant(weights((1000, 2048), 1.0)), c=b.constant(np.zeros(1000, dtype)), b_transpose=True)


def _blocks() -> Iterator[tuple[int, bool, int]]:
    for width, blocks, stride in RESNET_STAGES:
        for block in range(blocks):
            yield width, block == 0, stride if block == 0 else 1


def mlp(rows: int, dtype: str = "float32", size: int = MLP_SIZE) -> Net:
    """The feed-forward part of a transformer: two products [rows, size] @ [size, size] with GELU between."""
    random = np.random.default_rng(0)
    first, second = (random.standard_normal((size, size), np.float32) / np.float32(np.sqrt(size)) for _ in range(2))
    x = random.standard_normal((rows, size), np.float32)

    def build(b: Any) -> dict[str, pynn.Operand]:
        hidden = b.gelu(b.matmul(b.input("x", [rows, size], dtype), b.constant(first.astype(dtype))))
        return {"y": b.matmul(hidden, b.constant(second.astype(dtype)))}

    return Net(build, {"x": x.astype(dtype)})
