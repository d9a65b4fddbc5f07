"""One small program in pywebnn's style for each builder method, with the values that numpy gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import pynn.compat.webnn as webnn

Array = np.ndarray[Any, Any]
F32 = np.float32

_rng = np.random.default_rng(7)
A = _rng.uniform(-2, 2, (2, 3)).astype(F32)
B = _rng.uniform(0.5, 2, (2, 3)).astype(F32)
M = _rng.uniform(-1, 1, (3, 4)).astype(F32)
IMAGE = _rng.uniform(-1, 1, (1, 2, 4, 4)).astype(F32)
KERNEL = _rng.uniform(-1, 1, (3, 2, 3, 3)).astype(F32)
BACK_KERNEL = _rng.uniform(-1, 1, (2, 3, 2, 2)).astype(F32)
BIAS = np.array([0.5, -1, 2], F32)
ODD = np.array([[0, np.nan, np.inf], [-np.inf, 1, -0.0]], F32)
INDICES = np.array([[2, 0], [1, 1]], np.int64)


@dataclass(frozen=True)
class Sample:
    """``program`` gets the builder and the operands of ``arrays``; ``expected`` has the arrays of its results."""

    name: str
    arrays: tuple[Array, ...]
    program: Callable[..., Any]
    expected: tuple[Array, ...]

    def build(self, context: webnn.MLContext) -> tuple[webnn.MLGraph, dict[str, Array]]:
        builder = context.create_graph_builder()
        feeds = {f"in{i}": array for i, array in enumerate(self.arrays)}
        operands = [builder.input(name, list(a.shape), a.dtype.name) for name, a in feeds.items()]
        results = self.program(builder, *operands)
        results = results if isinstance(results, list) else [results]
        return builder.build({f"out{i}": result for i, result in enumerate(results)}), feeds

    def check(self, results: dict[str, Array]) -> None:
        assert list(results) == [f"out{i}" for i in range(len(self.expected))]
        for actual, wanted in zip(results.values(), self.expected, strict=True):
            assert (actual.dtype, actual.shape) == (wanted.dtype, wanted.shape)
            np.testing.assert_allclose(actual, wanted, rtol=2e-5, atol=1e-6)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def windows(x: Array, size: int, stride: int = 1) -> Array:
    view = np.lib.stride_tricks.sliding_window_view(x, (size, size), (2, 3))
    return view[:, :, ::stride, ::stride]


def convolution(x: Array, kernel: Array, bias: Array) -> Array:
    padded = np.pad(x, ((0, 0), (0, 0), (0, 1), (1, 0)))
    return np.einsum("nchwkl,ockl->nohw", windows(padded, 3), kernel) + bias[:, None, None]


def back_convolution(x: Array, kernel: Array) -> Array:
    out = np.zeros((1, 3, 8, 8), F32)
    for i in range(4):
        for j in range(4):
            out[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] += np.einsum("nc,cokl->nokl", x[:, :, i, j], kernel)
    return out


def normal(x: Array, axes: tuple[int, ...], epsilon: float = 1e-5) -> Array:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


# -- recurrent networks, as the spec's steps say, gate by gate

STEPS, BATCH, SIZE, HIDDEN = 2, 2, 3, 4
SEQUENCE = _rng.uniform(-1, 1, (STEPS, BATCH, SIZE)).astype(F32)
STATE = _rng.uniform(-1, 1, (BATCH, HIDDEN)).astype(F32)
CELL = _rng.uniform(-1, 1, (BATCH, HIDDEN)).astype(F32)
W3, R3 = (_rng.uniform(-1, 1, (1, 3 * HIDDEN, n)).astype(F32) for n in (SIZE, HIDDEN))
W4, R4 = (_rng.uniform(-1, 1, (1, 4 * HIDDEN, n)).astype(F32) for n in (SIZE, HIDDEN))


def gru_step(x: Array, h: Array, w: Array, r: Array) -> Array:
    wz, wr, wn = np.split(w, 3)
    rz, rr, rn = np.split(r, 3)
    update, reset = sigmoid(x @ wz.T + h @ rz.T), sigmoid(x @ wr.T + h @ rr.T)
    new = np.tanh(x @ wn.T + (reset * h) @ rn.T)
    return (1 - update) * new + update * h


def lstm_step(x: Array, h: Array, c: Array, w: Array, r: Array) -> tuple[Array, Array]:
    i, o, f, g = (x @ wk.T + h @ rk.T for wk, rk in zip(np.split(w, 4), np.split(r, 4), strict=True))
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def run_gru() -> tuple[Array, Array]:
    h, every = np.zeros((BATCH, HIDDEN), F32), []
    for x in SEQUENCE:
        h = gru_step(x, h, W3[0], R3[0])
        every.append(h)
    return h[None], np.array(every)[:, None]


def run_lstm() -> tuple[Array, Array, Array]:
    h, c, every = np.zeros((BATCH, HIDDEN), F32), np.zeros((BATCH, HIDDEN), F32), []
    for x in SEQUENCE:
        h, c = lstm_step(x, h, c, W4[0], R4[0])
        every.append(h)
    return h[None], c[None], np.array(every)[:, None]


def _of(name: str, arrays: Any, program: Callable[..., Any], *expected: Array) -> Sample:
    return Sample(name, arrays if isinstance(arrays, tuple) else (arrays,), program, expected)


def _binary(name: str, function: Callable[..., Array]) -> Sample:
    return _of(name, (B, B[:1]), lambda b, x, y: getattr(b, name)(x, y), function(B, B[:1]))


def _compare(name: str, function: Callable[..., Array]) -> Sample:
    other = np.where(A > 0, A, -A)
    return _of(name, (A, other), lambda b, x, y: getattr(b, name)(x, y), function(A, other).astype(np.uint8))


def _logical(name: str, function: Callable[..., Array]) -> Sample:
    x, y = ODD, np.array([[0, 0, 3], [1, 0, 0]], F32)
    return _of(name, (x, y), lambda b, x, y: getattr(b, name)(x, y), function(x != 0, y != 0).astype(np.uint8))


def _unary(name: str, function: Callable[..., Array], x: Array = A) -> Sample:
    return _of(name, x, lambda b, x: getattr(b, name)(x), function(x).astype(x.dtype))


def _reduction(name: str, function: Callable[..., Array]) -> Sample:
    method = f"reduce_{name}"
    return _of(method, B, lambda b, x: getattr(b, method)(x, [1], True), function(B, axis=1, keepdims=True))


_erf = np.vectorize(math.erf)
SAMPLES = [
    *(_binary(n, f) for n, f in {
        "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "pow": np.power, "max": np.maximum,
        "min": np.minimum,
    }.items()),
    *(_compare(n, f) for n, f in {
        "equal": np.equal, "not_equal": np.not_equal, "greater": np.greater, "greater_or_equal": np.greater_equal,
        "lesser": np.less, "lesser_or_equal": np.less_equal,
    }.items()),
    *(_logical(n, f) for n, f in {
        "logical_and": np.logical_and, "logical_or": np.logical_or, "logical_xor": np.logical_xor,
    }.items()),
    *(_unary(n, f) for n, f in {
        "abs": np.abs, "ceil": np.ceil, "floor": np.floor, "round_even": np.rint, "neg": np.negative, "sign": np.sign,
        "exp": np.exp, "reciprocal": np.reciprocal, "sin": np.sin, "cos": np.cos, "tan": np.tan, "erf": _erf,
        "identity": np.copy, "tanh": np.tanh, "relu": lambda x: np.maximum(x, 0), "sigmoid": sigmoid,
        "gelu": lambda x: x * (1 + _erf(x / math.sqrt(2))) / 2, "softplus": lambda x: np.log1p(np.exp(x)),
        "softsign": lambda x: x / (1 + abs(x)), "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
        "leaky_relu": lambda x: np.where(x > 0, x, F32(0.01) * x),
        "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
        "hard_swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1), "linear": np.copy, "reverse": lambda x: x[::-1, ::-1],
        "softmax": lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True), "clamp": np.copy,
        "transpose": np.transpose, "squeeze": np.copy,
    }.items()),
    _unary("log", np.log, B),
    _unary("sqrt", np.sqrt, B),
    _of("logical_not", ODD, lambda b, x: b.logical_not(x), (ODD == 0).astype(np.uint8)),
    _of("is_nan", ODD, lambda b, x: b.is_nan(x), np.isnan(ODD).astype(np.uint8)),
    _of("is_infinite", ODD, lambda b, x: b.is_infinite(x), np.isinf(ODD).astype(np.uint8)),
    *(_reduction(n, f) for n, f in {
        "sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min, "product": np.prod,
        "l1": lambda x, **k: np.sum(abs(x), **k), "l2": lambda x, **k: np.sqrt(np.sum(x * x, **k)),
        "log_sum": lambda x, **k: np.log(np.sum(x, **k)), "sum_square": lambda x, **k: np.sum(x * x, **k),
        "log_sum_exp": lambda x, **k: np.log(np.sum(np.exp(x), **k)),
    }.items()),
    _of("softmax", A, lambda b, x: b.softmax(x, axis=0), np.exp(A) / np.exp(A).sum(0, keepdims=True)),
    _of("clamp", A, lambda b, x: b.clamp(x, 0.0, 6.0), np.clip(A, 0, 6)),
    _of("hard_swish", A, lambda b, x: b.hard_swish(x, 0.2, 0.25), A * np.clip(F32(0.2) * A + F32(0.25), 0, 1)),
    _of("elu", A, lambda b, x: b.elu(x, alpha=0.5), np.where(A > 0, A, np.expm1(A) / 2)),
    _of("linear", A, lambda b, x: b.linear(x, 2.0, 1.0), 2 * A + 1),
    _of("prelu", (A, B[:1]), lambda b, x, s: b.prelu(x, s), np.where(A > 0, A, A * B[:1])),
    _of("cast", A, lambda b, x: b.cast(x, "int32"), A.astype(np.int32)),
    _of("matmul", (A, M), lambda b, x, y: b.matmul(x, y), A @ M),
    _of(
        "gemm",
        (M, A, B[:, :1].T.copy()),
        lambda b, x, y, c: b.gemm(x, y, c, alpha=2.0, beta=0.5, a_transpose=True, b_transpose=True),
        2 * (M.T @ A.T) + B[:, :1].T / 2,
    ),
    _of(
        "conv2d",
        IMAGE,
        lambda b, x: b.conv2d(x, b.constant(KERNEL), pads=[0, 1, 1, 0], groups=1, bias=b.constant(BIAS)),
        convolution(IMAGE, KERNEL, BIAS),
    ),
    _of(
        "conv2d",
        IMAGE.transpose(0, 2, 3, 1).copy(),
        lambda b, x: b.conv2d(
            x,
            b.constant(KERNEL.transpose(2, 3, 1, 0).copy()),
            pads=[0, 1, 1, 0],
            input_layout="nhwc",
            filter_layout="hwio",
            bias=b.constant(BIAS),
        ),
        convolution(IMAGE, KERNEL, BIAS).transpose(0, 2, 3, 1),
    ),
    _of(
        "conv_transpose2d",
        IMAGE,
        lambda b, x: b.conv_transpose2d(x, b.constant(BACK_KERNEL), strides=[2, 2]),
        back_convolution(IMAGE, BACK_KERNEL),
    ),
    _of("average_pool2d", IMAGE, lambda b, x: b.average_pool2d(x, [2, 2], [2, 2]), windows(IMAGE, 2, 2).mean((4, 5))),
    _of("max_pool2d", IMAGE, lambda b, x: b.max_pool2d(x, [2, 2]), windows(IMAGE, 2).max((4, 5))),
    _of("max_pool2d", IMAGE, lambda b, x: b.max_pool2d(x), IMAGE),
    _of(
        "l2_pool2d",
        IMAGE,
        lambda b, x: b.l2_pool2d(x, window_dimensions=[2, 2]),
        np.sqrt((windows(IMAGE, 2) ** 2).sum((4, 5))),
    ),
    _of("global_average_pool", IMAGE, lambda b, x: b.global_average_pool(x), IMAGE.mean((2, 3), keepdims=True)),
    _of("global_max_pool", IMAGE, lambda b, x: b.global_max_pool(x, "nhwc"), IMAGE.max((1, 2), keepdims=True)),
    _of(
        "batch_normalization",
        (A, BIAS, B[0], B[1]),
        lambda b, x, m, v, s: b.batch_normalization(x, m, v, scale=s, epsilon=1e-3),
        (A - BIAS) / np.sqrt(B[0] + F32(1e-3)) * B[1],
    ),
    _of("instance_normalization", IMAGE, lambda b, x: b.instance_normalization(x), normal(IMAGE, (2, 3))),
    _of("layer_normalization", A, lambda b, x: b.layer_normalization(x), normal(A, (1,))),
    _of(
        "layer_normalization",
        (IMAGE, IMAGE[0, 0]),
        lambda b, x, s: b.layer_normalization(x, s, axes=None),
        normal(IMAGE, (2, 3)) * IMAGE[0, 0],
    ),
    _of(
        "quantize_linear",
        A,
        lambda b, x: b.quantize_linear(x, b.constant(np.array([0.5], F32)), b.constant(np.array([3], np.int8))),
        (np.rint(A / F32(0.5)) + 3).astype(np.int8),
    ),
    _of(
        "dequantize_linear",
        np.array([[1, -2], [100, 0]], np.int8),
        lambda b, x: b.dequantize_linear(x, b.constant(F32(0.5)), b.constant(np.int8(3))),
        np.array([[-1, -2.5], [48.5, -1.5]], F32),
    ),
    _of("reshape", A, lambda b, x: b.reshape(x, [3, 2]), A.reshape(3, 2)),
    _of("squeeze", A[:, None], lambda b, x: b.squeeze(x, [1]), A),
    _of("squeeze", A[:, None, :, None], lambda b, x: b.squeeze(x), A),
    _of("unsqueeze", A, lambda b, x: b.unsqueeze(x, [0, 3]), A[None, ..., None]),
    _of("shape", IMAGE, lambda b, x: b.shape(x), np.array(IMAGE.shape, np.int64)),
    _of("transpose", IMAGE, lambda b, x: b.transpose(x, [0, 2, 3, 1]), IMAGE.transpose(0, 2, 3, 1)),
    _of("expand", A[:, :1], lambda b, x: b.expand(x, [2, 3]), np.broadcast_to(A[:, :1], (2, 3))),
    _of("concat", (A, B), lambda b, x, y: b.concat([x, y], axis=1), np.concatenate([A, B], 1)),
    _of("slice", IMAGE, lambda b, x: b.slice(x, [0, 0, 1, 0], [1, 2, 3, 4], [1, 1, 2, 1]), IMAGE[:, :, 1:4:2]),
    _of("split", M, lambda b, x: b.split(x, 2, axis=1), M[:, :2], M[:, 2:]),
    _of("split", M, lambda b, x: b.split(x, [1, 2]), M[:1], M[1:]),
    _of("tile", A, lambda b, x: b.tile(x, [1, 2]), np.tile(A, (1, 2))),
    _of("reverse", A, lambda b, x: b.reverse(x, [1]), A[:, ::-1]),
    _of("pad", A, lambda b, x: b.pad(x, [0, 1, 1, 0], value=2.5), np.pad(A, ((0, 1), (1, 0)), constant_values=2.5)),
    _of("pad", A, lambda b, x: b.pad(x, [1, 0, 0, 2], "symmetric"), np.pad(A, ((1, 0), (0, 2)), "symmetric")),
    _of("triangular", M, lambda b, x: b.triangular(x, False, 1), np.tril(M, 1)),
    _of("resample2d", IMAGE, lambda b, x: b.resample2d(x, sizes=[8, 8]), IMAGE.repeat(2, 2).repeat(2, 3)),
    _of("resample2d", IMAGE, lambda b, x: b.resample2d(x, scales=[2.0, 1.0]), IMAGE.repeat(2, 2)),
    _of("where_", (ODD, A, B), lambda b, c, x, y: b.where_(c, x, y), np.where(ODD != 0, A, B)),
    _of("where_", ((A > 0).astype(np.uint8), A, B), lambda b, c, x, y: b.where_(c, x, y), np.where(A > 0, A, B)),
    _of("gather", (A, INDICES), lambda b, x, i: b.gather(x, i, axis=1), np.take(A, INDICES, 1)),
    _of("gather_elements", (A, INDICES), lambda b, x, i: b.gather_elements(x, i, 1), np.take_along_axis(A, INDICES, 1)),
    _of("gather_nd", (M, INDICES), lambda b, x, i: b.gather_nd(x, i), M[INDICES[:, 0], INDICES[:, 1]]),
    _of(
        "scatter_elements",
        (A, np.array([[2], [0]], np.int32), B[:, :1]),
        lambda b, x, i, u: b.scatter_elements(x, i, u, axis=1),
        np.array([[A[0, 0], A[0, 1], B[0, 0]], [B[1, 0], A[1, 1], A[1, 2]]], F32),
    ),
    _of(
        "scatter_nd",
        (A, np.array([[1]], np.int32), B[:1]),
        lambda b, x, i, u: b.scatter_nd(x, i, u),
        np.stack([A[0], B[0]]),
    ),
    _of("arg_max", A, lambda b, x: b.arg_max(x, 1), A.argmax(1)),
    _of("arg_min", A, lambda b, x: b.arg_min(x, axis=0, keep_dimensions=True, output_data_type="int32"),
        A.argmin(0, keepdims=True).astype(np.int32)),
    _of("cumulative_sum", A, lambda b, x: b.cumulative_sum(x, 1), A.cumsum(1)),
    _of("cumulative_sum", A, lambda b, x: b.cumulative_sum(x, 1, reversed=True), A[:, ::-1].cumsum(1)[:, ::-1]),
    _of(
        "gru",
        SEQUENCE,
        lambda b, x: b.gru(x, b.constant(W3), b.constant(R3), STEPS, HIDDEN, return_sequence=True),
        *run_gru(),
    ),
    _of("gru", SEQUENCE, lambda b, x: b.gru(x, b.constant(W3[0]), b.constant(R3[0]), STEPS, HIDDEN), run_gru()[0]),
    _of(
        "gru_cell",
        (SEQUENCE[0], STATE),
        lambda b, x, h: b.gru_cell(x, b.constant(W3[0]), b.constant(R3[0]), h, HIDDEN),
        gru_step(SEQUENCE[0], STATE, W3[0], R3[0]),
    ),
    _of(
        "lstm",
        SEQUENCE,
        lambda b, x: b.lstm(x, b.constant(W4), b.constant(R4), STEPS, HIDDEN, return_sequence=True),
        *run_lstm(),
    ),
    _of(
        "lstm_cell",
        (SEQUENCE[0], STATE, CELL),
        lambda b, x, h, c: b.lstm_cell(x, b.constant(W4[0]), b.constant(R4[0]), h, c, HIDDEN),
        *lstm_step(SEQUENCE[0], STATE, CELL, W4[0], R4[0]),
    ),
]  # fmt: skip
