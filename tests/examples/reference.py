"""The example networks written out in numpy, from their published descriptions and not from the examples' code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
_erf = np.vectorize(math.erf, otypes=[np.float64])


def bert_embedding(w: Mapping[str, Array], ids: Array, mask: Array, heads: int, epsilon: float) -> Array:
    """One mean-pooled embedding of length 1 a sentence, in float64; each sentence alone, without its padding."""
    return np.stack([_bert_one(w, row[keep == 1], heads, epsilon) for row, keep in zip(ids, mask, strict=True)])


def _bert_one(w: Mapping[str, Array], ids: Array, heads: int, epsilon: float) -> Array:
    w = {name: value.astype(np.float64) for name, value in w.items() if "word_embeddings" not in name} | {
        "words": w["embeddings.word_embeddings.weight"][ids].astype(np.float64)
    }

    def linear(x: Array, name: str) -> Array:
        return x @ w[name + ".weight"].T + w[name + ".bias"]

    def norm(x: Array, name: str) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
        return scaled * w[name + ".weight"] + w[name + ".bias"]

    n = len(ids)
    x = w["words"] + w["embeddings.position_embeddings.weight"][:n] + w["embeddings.token_type_embeddings.weight"][:1]
    x = norm(x, "embeddings.LayerNorm")
    layers = 1 + max(int(name.split(".")[2]) for name in w if name.startswith("encoder.layer."))
    for layer in range(layers):
        p = f"encoder.layer.{layer}."
        q, k, v = (linear(x, f"{p}attention.self.{part}") for part in ("query", "key", "value"))
        mixed = np.empty_like(x)
        size = x.shape[1] // heads
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores = np.exp(q[:, part] @ k[:, part].T / math.sqrt(size))
            mixed[:, part] = scores / scores.sum(1, keepdims=True) @ v[:, part]
        x = norm(x + linear(mixed, p + "attention.output.dense"), p + "attention.output.LayerNorm")
        wide = linear(x, p + "intermediate.dense")
        wide = wide * 0.5 * (1 + _erf(wide / math.sqrt(2)))
        x = norm(x + linear(wide, p + "output.dense"), p + "output.LayerNorm")
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


def convolve(x: Array, weight: Array, stride: int, groups: int) -> Array:
    """``x`` (channels, height, width) padded so that stride 1 keeps its size; ``groups`` is 1 or one a channel."""
    kernel = weight.shape[2]
    edge = kernel // 2
    padded = np.pad(x, ((0, 0), (edge, edge), (edge, edge)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(1, 2))[:, ::stride, ::stride]
    if groups == 1:
        return np.tensordot(weight, windows, axes=((1, 2, 3), (0, 3, 4)))
    return np.einsum("chwij,cij->chw", windows, weight[:, 0])


def mobilenetv2(w: Mapping[str, Array], image: Array) -> Array:
    """Scores of one float32 image (3, 224, 224), batch normalisation taken as a step of its own where ``w`` has it."""

    def layer(x: Array, conv: str, norm: str, stride: int = 1, groups: int = 1, clamp: bool = True) -> Array:
        x = convolve(x, w[conv + ".weight"], stride, groups)
        if conv + ".bias" in w:
            x = x + w[conv + ".bias"][:, None, None]
        if norm + ".running_mean" in w:
            mean, var, scale, bias = (
                w[f"{norm}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
            )
            x = (x - mean) / np.sqrt(var + 1e-5) * scale + bias
        return np.minimum(np.maximum(x, 0), 6) if clamp else x

    x = layer(image, "features.0.0", "features.0.1", stride=2)
    index = 1
    for t, c, n, s in [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ]:
        for i in range(n):
            p, y, at = f"features.{index}.conv.", x, 0
            if t > 1:
                y, at = layer(y, f"{p}0.0", f"{p}0.1"), 1
            y = layer(y, f"{p}{at}.0", f"{p}{at}.1", stride=s if i == 0 else 1, groups=len(y))
            y = layer(y, f"{p}{at + 1}", f"{p}{at + 2}", clamp=False)
            assert y.shape[0] == c
            x = x + y if i > 0 else y
            index += 1
    x = layer(x, "features.18.0", "features.18.1")
    return w["classifier.1.weight"] @ x.mean((1, 2)) + w["classifier.1.bias"]
