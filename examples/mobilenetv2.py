"""MobileNetV2 1.0/224, built operator by operator with the WebNN builder.

    python examples/mobilenetv2.py [--image PHOTO] [--weights FILE]

FILE (.npz or .safetensors) names its tensors as torchvision does. Without it weights are made up (He initialisation,
seeded): classes mean nothing then, but numbers are the same on every machine. ``--check`` compares with ONNX Runtime's
CPU in float32.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import numpy as np

import pynn

Array = np.ndarray[Any, Any]
CLASSES = 1000
SIZE = 224
STAGES = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
"""(expansion, channels, blocks, stride of the first block)."""


@dataclass(frozen=True)
class Conv:
    """One convolution and the normalisation behind it."""

    conv: str
    norm: str
    before: int
    after: int
    kernel: int
    stride: int = 1
    groups: int = 1
    clamped: bool = True

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (self.after, self.before // self.groups, self.kernel, self.kernel)


def blocks() -> Iterator[list[Conv]]:
    """The network's blocks in order. A block whose first input has its last output's shape adds the two."""
    yield [Conv("features.0.0", "features.0.1", 3, 32, 3, stride=2)]
    before, index = 32, 1
    for expansion, after, repeats, first_stride in STAGES:
        for repeat in range(repeats):
            at, wide = f"features.{index}.conv", before * expansion
            stride = first_stride if repeat == 0 else 1
            block = []
            if expansion != 1:
                block.append(Conv(f"{at}.0.0", f"{at}.0.1", before, wide, 1))
            part = len(block)
            block.append(Conv(f"{at}.{part}.0", f"{at}.{part}.1", wide, wide, 3, stride, groups=wide))
            block.append(Conv(f"{at}.{part + 1}", f"{at}.{part + 2}", wide, after, 1, clamped=False))
            yield block
            before, index = after, index + 1
    yield [Conv(f"features.{index}.0", f"features.{index}.1", before, 1280, 1)]


def seeded_weights(seed: int = 0) -> dict[str, Array]:
    """Made-up float32 weights, normalisation folded in: ``NAME.weight`` and ``NAME.bias`` of each convolution."""
    random = np.random.default_rng(seed)
    weights = {}
    for conv in (conv for block in blocks() for conv in block):
        gain = 2 if conv.clamped else 1
        scale = np.sqrt(gain / np.prod(conv.shape[1:]))
        weights[f"{conv.conv}.weight"] = (random.standard_normal(conv.shape) * scale).astype(np.float32)
        weights[f"{conv.conv}.bias"] = (random.standard_normal(conv.after) * 0.1).astype(np.float32)
    weights["classifier.1.weight"] = (random.standard_normal((CLASSES, 1280)) / np.sqrt(1280)).astype(np.float32)
    weights["classifier.1.bias"] = np.zeros(CLASSES, np.float32)
    return weights


def load_weights(path: Path) -> dict[str, Array]:
    """Read torchvision's tensors and fold each normalisation into the convolution before it."""
    if path.suffix == ".npz":
        with np.load(path) as archive:
            raw = dict(archive)
    else:
        from safetensors.numpy import load_file

        raw = load_file(path)
    weights = {name: raw[name].astype(np.float32) for name in ("classifier.1.weight", "classifier.1.bias")}
    for conv in (conv for block in blocks() for conv in block):
        weight = raw[f"{conv.conv}.weight"].astype(np.float64)
        if f"{conv.norm}.running_var" in raw:
            scale = raw[f"{conv.norm}.weight"] / np.sqrt(raw[f"{conv.norm}.running_var"].astype(np.float64) + 1e-5)
            weight = weight * scale[:, None, None, None]
            bias = raw[f"{conv.norm}.bias"] - raw[f"{conv.norm}.running_mean"] * scale
        else:
            bias = raw[f"{conv.conv}.bias"]
        weights[f"{conv.conv}.weight"] = weight.astype(np.float32)
        weights[f"{conv.conv}.bias"] = bias.astype(np.float32)
    return weights


def build(
    b: pynn.GraphBuilder, weights: Mapping[str, Array], batch: int = 1, dtype: str = "float32"
) -> dict[str, pynn.Operand]:
    """Add the network to ``b``: input ``image`` (``dtype`` ``[batch, 3, 224, 224]``), output ``scores`` (``dtype``
    ``[batch, 1000]``, before any softmax)."""

    def weight(name: str) -> pynn.Operand:
        return b.constant(weights[name].astype(dtype))

    def convolve(x: pynn.Operand, conv: Conv) -> pynn.Operand:
        edge = conv.kernel // 2
        x = b.conv2d(
            x,
            weight(f"{conv.conv}.weight"),
            bias=weight(f"{conv.conv}.bias"),
            padding=[edge, edge, edge, edge],
            strides=[conv.stride, conv.stride],
            groups=conv.groups,
            label=conv.conv,
        )
        return b.clamp(x, min_value=0, max_value=6, label=f"{conv.conv}.relu6") if conv.clamped else x

    x = b.input("image", [batch, 3, SIZE, SIZE], dtype)
    for block in blocks():
        y = x
        for conv in block:
            y = convolve(y, conv)
        x = b.add(x, y, label=f"{block[-1].conv}.residual") if x.shape == y.shape else y
    x = b.reshape(b.average_pool2d(x, label="pool"), [batch, 1280])
    classifier, bias = weight("classifier.1.weight"), weight("classifier.1.bias")
    return {"scores": b.gemm(x, classifier, c=bias, b_transpose=True, label="classifier")}


def load_image(path: Path) -> Array:
    """A photo as float32 ``[1, 3, 224, 224]``, cropped and scaled as ImageNet's networks expect; .npy taken as is."""
    if path.suffix == ".npy":
        return np.load(path).astype(np.float32).reshape(1, 3, SIZE, SIZE)
    from PIL import Image, ImageOps

    with Image.open(path) as picture:
        small = ImageOps.fit(picture.convert("RGB"), (SIZE, SIZE), Image.Resampling.BILINEAR)
    pixels = np.asarray(small, np.float32) / 255
    pixels = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32)


def seeded_image(seed: int = 1) -> Array:
    """Noise with the spread of a normalised photo."""
    return np.random.default_rng(seed).standard_normal((1, 3, SIZE, SIZE), np.float32)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Classify one image with MobileNetV2.")
    parser.add_argument("--image", type=Path, help="a picture, or .npy of float32 [1, 3, 224, 224] (default: noise)")
    parser.add_argument("--weights", type=Path, help=".npz or .safetensors with torchvision's names (default: made up)")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    common.add_options(parser)
    options = parser.parse_args(arguments)
    weights = load_weights(options.weights) if options.weights else seeded_weights()
    image = load_image(options.image) if options.image else seeded_image()

    builder = pynn.GraphBuilder()
    graph = builder.finish(build(builder, weights, dtype=options.dtype))
    with common.compile_model(graph, options.backend) as model:
        scores = model.run({"image": image.astype(options.dtype)})["scores"]
        for index in np.argsort(-scores[0])[:5]:
            print(f"class {index:3}: {scores[0, index]:.4f}")
        common.print_backend(model)
    if not options.check:
        return 0
    builder = pynn.GraphBuilder()
    exact = builder.finish(build(builder, weights))
    return common.check(scores, common.onnx_runtime(exact, {"image": image})["scores"], options.dtype)


if __name__ == "__main__":
    raise SystemExit(main())
